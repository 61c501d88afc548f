//! Leading: proposals, replication, commit, check-quorum, transfer.
//!
//! Nothing is sent while events come in. What there is to send is worked out once per [`Peer::take_effects`], so everything
//! that arrived together leaves together.

use crate::entry::entry_size;
use crate::forward::AcceptedBatches;
use crate::lease::Lease;
use crate::log::Log;
use crate::num::POSITION_MAX;
use crate::peer::Peer;
use crate::quorum::reached_by_majority;
use crate::read_index::LeaderReads;
use crate::replication::{Mode, Progress};
use crate::role::Role;
use crate::{
    AppendResult, Body, EntryId, Message, RaftLogEntry, RaftStorage, RefuseReason, SendSnapshot, StorageError,
};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) followers: BTreeMap<u64, Progress>,
    /// The no-op's index: everything from here on is of this term.
    pub(crate) term_start: u64,
    /// Bytes of this term's entries that are not committed.
    pub(crate) uncommitted_bytes: u64,
    /// The tick at which it was elected.
    pub(crate) since: u64,
    pub(crate) heartbeat_at: u64,
    pub(crate) reads: LeaderReads,
    pub(crate) lease: Lease,
    pub(crate) accepted: AcceptedBatches,
    pub(crate) transfer: Option<Transfer>,
    /// For the quorum computations, so that they allocate nothing.
    pub(crate) scratch: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) to: u64,
    pub(crate) since: u64,
    /// TimeoutNow is out.
    pub(crate) sent: bool,
}

impl Leader {
    pub(crate) fn new(followers: &[u64], term_start: u64, now: u64) -> Self {
        Self {
            followers: followers.iter().map(|id| (*id, Progress::new(term_start))).collect(),
            term_start,
            uncommitted_bytes: 0,
            since: now,
            heartbeat_at: now,
            reads: LeaderReads::default(),
            lease: Lease::default(),
            accepted: AcceptedBatches::default(),
            transfer: None,
            scratch: Vec::new(),
        }
    }

    /// The tick at which a majority (this peer included) was last in contact.
    fn majority_contact(&mut self, now: u64) -> u64 {
        self.scratch.clear();
        self.scratch.push(now);
        self.scratch.extend(self.followers.values().map(|progress| progress.contact.unwrap_or(self.since)));
        reached_by_majority(&mut self.scratch)
    }

    /// The last index that a majority holds durably; this peer counts with what its own disk holds.
    fn majority_match(&mut self, persisted: u64) -> u64 {
        self.scratch.clear();
        self.scratch.push(persisted);
        self.scratch.extend(self.followers.values().map(|progress| progress.state.match_index));
        if mutant!(CommittedByMinority) {
            self.scratch.sort_unstable_by(|a, b| b.cmp(a));
            self.scratch.pop();
            self.scratch.push(u64::MAX);
            return reached_by_majority(&mut self.scratch);
        }
        reached_by_majority(&mut self.scratch)
    }

    pub(crate) fn check_invariants(&self, last_index: u64) {
        assert!(self.term_start <= last_index, "a leader has appended its no-op");
        for progress in self.followers.values() {
            let state = progress.state;
            assert!(state.match_index < state.next_index, "match < next");
            assert!(state.next_index <= last_index + 1, "next <= last + 1");
            assert!(state.pending || !matches!(progress.mode, Mode::Snapshot { .. }), "a snapshot is pending");
            assert!(!state.pending || progress.mode != Mode::Replicate, "replication is not pending");
            assert!(progress.window.is_consistent(), "bytes in flight are counted");
            let heard = progress.acked_round.max(progress.pledged_round);
            assert!(heard <= self.reads.round, "only rounds that were sent are confirmed");
        }
        self.reads.check_invariants();
    }
}

impl<S: RaftStorage> Peer<S> {
    /// Appends a client's command, unless too much waits already.
    pub(crate) fn append_proposal(&mut self, command: Bytes, context: Option<Bytes>) -> Result<(), RefuseReason> {
        let last = self.log.last().index;
        let Role::Leader(leader) = &self.role else { return Err(RefuseReason::NoLeader) };
        if leader.transfer.is_some() {
            return Err(RefuseReason::Transferring);
        }
        let size = entry_size(&command, context.as_ref());
        let full = leader.uncommitted_bytes.saturating_add(size) > self.config.uncommitted_bytes_max;
        // One entry is always let in, however large: the limit is on what piles up.
        if (full && leader.uncommitted_bytes > 0) || last >= POSITION_MAX {
            return Err(RefuseReason::TooManyUncommitted);
        }
        self.append_own(command, context);
        Ok(())
    }

    pub(crate) fn append_own(&mut self, command: Bytes, context: Option<Bytes>) {
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only leaders append");
        };
        let entry = RaftLogEntry { index: self.log.last().index + 1, term: self.term, command, context };
        leader.uncommitted_bytes += entry.size();
        self.log.push(entry);
        self.flush_wanted = true;
    }

    pub(crate) fn on_leader_tick(&mut self) -> Result<(), StorageError> {
        let election_timeout = u64::from(self.config.election_timeout_ticks);
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        if self.now - leader.majority_contact(self.now) >= election_timeout && !mutant!(LeaderNeverStepsDown) {
            self.become_follower(self.term, None, "no majority answered for an election timeout");
            return Ok(());
        }
        if leader.transfer.is_some_and(|transfer| self.now - transfer.since >= election_timeout) {
            leader.transfer = None;
        }
        if self.is_write_stalled() && self.yield_to_a_faster_disk() {
            return Ok(());
        }
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        for progress in leader.followers.values_mut() {
            if let Mode::Snapshot { retry_at: Some(at) } = progress.mode
                && self.now >= at
            {
                progress.become_probe(false);
                self.flush_wanted = true;
            }
        }
        if self.now - leader.heartbeat_at >= u64::from(self.config.heartbeat_interval_ticks) {
            leader.heartbeat_at = self.now;
            let renews = self.config.lease_us > 0;
            if renews {
                // Pledges are renewed once a round.
                leader.reads.want_round();
            }
            if leader.reads.start_round() && renews {
                leader.lease.begin(leader.reads.round, self.pledge.now);
            }
            self.replicate(true)?;
        }
        Ok(())
    }

    /// Sends what there is to send: entries, a commit index that moved, a round that reads wait for.
    pub(crate) fn flush_leader(&mut self) -> Result<(), StorageError> {
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        let wants_round = leader.reads.start_round();
        self.replicate(wants_round)?;
        self.answer_confirmed_reads();
        self.maybe_send_timeout_now();
        Ok(())
    }

    /// `to_all`: every follower is sent something, an empty append if there is nothing else.
    fn replicate(&mut self, to_all: bool) -> Result<(), StorageError> {
        let Self { role: Role::Leader(leader), log, out, config, now, term, .. } = self else { return Ok(()) };
        let term = *term;
        let commit_index = log.commit();
        let round = leader.reads.round;
        let last_index = log.last().index;
        for (&to, progress) in &mut leader.followers {
            let mut append = |progress: &mut Progress, prev: EntryId, entries: Vec<RaftLogEntry>| {
                let last_covered = prev.index + crate::num::to_u64(entries.len());
                progress.on_commit_told(commit_index, last_covered);
                let body = Body::AppendEntries { prev, commit_index, round, entries };
                out.send_now.push(Message { from: config.id, to, region_id: config.region_id, term, body });
            };
            let mut sent = false;
            while progress.may_send(last_index, config.inflight_max, config.inflight_bytes_max) {
                let next = progress.state.next_index;
                let batch = match position(log, next - 1)? {
                    Some(prev) => log.entries(next, last_index, config.append_bytes_max)?.map(|batch| (prev, batch)),
                    None => None,
                };
                let Some((prev, batch)) = batch else {
                    // Compacted away. A snapshot is made only for a peer that is there to receive it.
                    let timeout = u64::from(config.election_timeout_ticks);
                    if progress.contact.is_some_and(|contact| *now - contact < timeout) {
                        progress.become_snapshot();
                        out.send_snapshot.push(SendSnapshot { to, term });
                    } else {
                        progress.become_probe(true);
                    }
                    break;
                };
                progress.on_sent(prev.index + crate::num::to_u64(batch.entries.len()), batch.bytes);
                append(progress, prev, batch.entries);
                sent = true;
            }
            if !sent && (to_all || progress.owes_commit(commit_index)) {
                // Its position is the end of what was sent, so that a lost append is noticed. Where that is compacted away it is
                // the start of every log, which claims nothing and lets nothing be committed (B12); then nothing would be
                // noticed, so the answer has to tell where to go on.
                let prev = position(log, progress.state.next_index - 1)?;
                if prev.is_none() && progress.mode == Mode::Replicate {
                    progress.become_probe(true);
                }
                let prev = prev.unwrap_or_default();
                append(progress, prev, Vec::new());
            }
        }
        Ok(())
    }

    /// A follower answered an append of this term.
    pub(crate) fn on_append_response(
        &mut self,
        from: u64,
        round: u64,
        result: AppendResult,
    ) -> Result<(), StorageError> {
        let last_index = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else {
            self.counters.stale_answer += 1;
            return Ok(());
        };
        let Some(progress) = leader.followers.get_mut(&from) else { return Ok(()) };
        let matched = match result {
            AppendResult::Accepted { match_index } => match_index,
            AppendResult::Rejected { .. } => 0,
            AppendResult::Lost { last } => last.index,
        };
        if round > leader.reads.round || matched > last_index {
            self.counters.malformed += 1;
            return Ok(());
        }
        progress.contact = Some(self.now);
        progress.acked_round = progress.acked_round.max(round);
        match result {
            AppendResult::Accepted { match_index } => {
                let first_index = match progress.mode {
                    Mode::Snapshot { .. } => self.log.storage().first_index()?,
                    Mode::Probe | Mode::Replicate => 0,
                };
                progress.on_accepted(match_index, first_index);
            }
            AppendResult::Rejected { prev_index, hint } => {
                if mutant!(RejectionIgnored)
                    || !progress.is_rejection_fresh(prev_index)
                    || prev_index <= progress.state.match_index
                {
                    self.counters.stale_answer += 1;
                } else {
                    let agreed = self.log.last_with_term_at_most(hint.index, hint.term)?;
                    progress.on_rejected(agreed.index.min(prev_index - 1));
                }
            }
            AppendResult::Lost { last } => {
                let agreed = self.log.last_with_term_at_most(last.index, last.term)?;
                if !progress.on_lost(agreed.index) {
                    self.counters.stale_answer += 1;
                }
            }
        }
        self.flush_wanted = true;
        self.maybe_commit();
        self.answer_confirmed_reads();
        Ok(())
    }

    /// Commits what a majority holds durably, if it is of this term (R1: counting an older entry proves nothing, paper §5.4.2).
    pub(crate) fn maybe_commit(&mut self) {
        let persisted =
            if mutant!(LeaderCountsUndurableEntries) { self.log.last().index } else { self.log.persisted() };
        let commit = self.log.commit();
        let Role::Leader(leader) = &mut self.role else { return };
        let reached = leader.majority_match(persisted);
        if reached <= commit || (reached < leader.term_start && !mutant!(OldTermCommittedByCounting)) {
            return;
        }
        let counted_from = commit.max(leader.term_start - 1);
        leader.uncommitted_bytes -= self.log.tail_size(counted_from, reached);
        let is_first = commit < leader.term_start;
        self.log.commit_to(reached);
        self.flush_wanted = true;
        if is_first {
            self.register_early_reads();
        }
    }

    pub(crate) fn on_transfer(&mut self, to: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        let is_same = leader.transfer.is_some_and(|transfer| transfer.to == to);
        if leader.followers.contains_key(&to) && !is_same {
            leader.transfer = Some(Transfer { to, since: self.now, sent: false });
            self.flush_wanted = true;
        }
    }

    /// The target is told when it holds the whole log, which nothing is added to meanwhile.
    fn maybe_send_timeout_now(&mut self) {
        let last_index = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let caught_up = leader.followers.get(&transfer.to).is_some_and(|p| p.state.match_index == last_index);
        if caught_up && !transfer.sent {
            transfer.sent = true;
            leader.lease.is_over = true;
            let to = transfer.to;
            self.send(to, Body::TimeoutNow);
        }
    }

    /// The own disk does not answer. The leader can still commit with the others', but applies nothing, and if it stops for good
    /// a crash is all that would end its leadership. So the follower that holds most is asked to take over, and if that fails
    /// for an election timeout this peer just stops leading. True if it did. One that has no followers goes on.
    fn yield_to_a_faster_disk(&mut self) -> bool {
        let election_timeout = u64::from(self.config.election_timeout_ticks);
        let patience = u64::from(self.config.write_stall_ticks) + election_timeout;
        let gives_up = self.write_age() > patience;
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return false };
        if leader.followers.is_empty() {
            return false;
        }
        if gives_up {
            self.counters.stall_step_downs += 1;
            self.become_follower(self.term, None, "a write has stalled");
            return true;
        }
        let answers = |progress: &Progress| progress.contact.is_some_and(|at| now - at < election_timeout);
        let candidates = leader.followers.iter().filter(|(_, progress)| answers(progress));
        // Of equals the first: `max_by_key` takes the last, so from behind.
        let best = candidates.rev().max_by_key(|(_, progress)| progress.state.match_index).map(|(id, _)| *id);
        if let (Some(to), None) = (best, leader.transfer) {
            self.counters.stall_handovers += 1;
            self.on_transfer(to);
        }
        false
    }

    /// The transport lost its connection: what was in flight is lost. The next heartbeat's answer tells where to go on.
    pub(crate) fn on_unreachable(&mut self, peer: u64) {
        let wait = self.early_campaign_wait(peer);
        match &mut self.role {
            Role::Leader(leader) => {
                if let Some(progress) = leader.followers.get_mut(&peer)
                    && progress.mode == Mode::Replicate
                {
                    progress.become_probe(true);
                }
            }
            Role::Follower(follower) if follower.leader == Some(peer) => {
                // A second report does not put it off.
                follower.campaign_at = follower.campaign_at.or(Some(self.now + wait));
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    /// A delivered snapshot is awaited for an election timeout, an undelivered one is tried again after a heartbeat.
    pub(crate) fn on_snapshot_sent(&mut self, to: u64, delivered: bool) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.followers.get_mut(&to)
            && let Mode::Snapshot { retry_at } = &mut progress.mode
        {
            if mutant!(SnapshotStateStuck) && !delivered {
                return;
            }
            let ticks =
                if delivered { self.config.election_timeout_ticks } else { self.config.heartbeat_interval_ticks };
            *retry_at = Some(self.now + u64::from(ticks));
        }
    }
}

/// The position of an entry; None if it was compacted away.
fn position<S: RaftStorage>(log: &Log<S>, index: u64) -> Result<Option<EntryId>, StorageError> {
    Ok(log.term_of(index)?.map(|term| EntryId { index, term }))
}
