//! A follower's side of replication (paper §5.3) and of snapshots (§7).

use crate::num::to_u64;
use crate::peer::{Install, Peer};
use crate::role::{Ack, Follower, Role};
use crate::{AppendResult, Body, EntryId, RaftLogEntry, RaftStorage, SnapshotMeta, StorageError};
use alloc::vec::Vec;

impl<S: RaftStorage> Peer<S> {
    /// Entries from the leader, or, without entries, its heartbeat. The message is well formed.
    pub(crate) fn on_append_entries(
        &mut self,
        from: u64,
        prev: EntryId,
        commit_index: u64,
        round: u64,
        entries: Vec<RaftLogEntry>,
    ) -> Result<(), StorageError> {
        self.renew_pledge(from, round);
        if self.install.is_some() {
            // The log is about to be replaced: nothing is appended, but the leader is heard.
            self.acknowledge(Ack { to: from, round, matched: 0 });
            return Ok(());
        }
        let commit = self.log.commit();
        let term = self.log.term_of(prev.index)?;
        // What is committed here is the same everywhere, also where it was compacted away (B14).
        if prev.index <= commit && term.is_some_and(|term| term != prev.term) {
            self.counters.conflict_below_commit += 1;
            return Ok(());
        }
        let unknown = if mutant!(PrevTermNotCompared) { term.is_none() } else { term != Some(prev.term) };
        if prev.index > commit && unknown {
            let result = if self.is_recovering() {
                // Strictly before `prev`, so that each answer takes the leader further back.
                let agreed = self.log.last_with_term_at_most(prev.index - 1, prev.term)?;
                let durable = self.log.persisted_id();
                AppendResult::Lost { last: if agreed.index > durable.index { durable } else { agreed } }
            } else {
                let hint = self.log.last_with_term_at_most(prev.index, prev.term)?;
                AppendResult::Rejected { prev_index: prev.index, hint }
            };
            self.send(from, Body::AppendEntriesResponse { round, result });
            return Ok(());
        }
        let last_new = prev.index + to_u64(entries.len());
        let is_heartbeat = entries.is_empty();
        let spliced = self.log.splice(entries)?;
        self.drop_ack_of_removed();
        if spliced.is_err() {
            self.counters.conflict_below_commit += 1;
            return Ok(());
        }
        // Only what this message has verified is known to be the leader's (B07).
        let verified = if mutant!(CommitPastVerified) { self.log.last().index } else { last_new };
        if commit_index.min(verified) > commit {
            self.log.commit_to(commit_index.min(verified));
        }
        let durable_match =
            if mutant!(HeartbeatAcksWholeLog) { self.log.persisted() } else { last_new.min(self.log.persisted()) };
        self.acknowledge(Ack { to: from, round, matched: if is_heartbeat { durable_match } else { last_new } });
        Ok(())
    }

    /// A leader does not contradict itself within its term. If one does all the same, what it replaced is not acknowledged.
    fn drop_ack_of_removed(&mut self) {
        let last = self.log.last().index;
        if let Role::Follower(Follower { ack, .. }) = &mut self.role {
            *ack = ack.filter(|ack| ack.matched <= last);
        }
    }

    /// Answers now if everything it says is durable; otherwise the answer joins the one that waits for a write. A match below
    /// the commit index is raised to it: what is committed equals every leader's log.
    fn acknowledge(&mut self, ack: Ack) {
        let matched = ack.matched.max(self.log.commit().min(self.log.persisted()));
        let durable = matched <= self.log.persisted() || mutant!(AckBeforeDurable);
        if durable && self.durable.current_term == self.term {
            let result = AppendResult::Accepted { match_index: matched };
            return self.send(ack.to, Body::AppendEntriesResponse { round: ack.round, result });
        }
        let Role::Follower(Follower { ack: waiting, .. }) = &mut self.role else {
            unreachable!("only followers acknowledge");
        };
        let (round, matched) =
            waiting.map_or((ack.round, matched), |w| (w.round.max(ack.round), w.matched.max(matched)));
        *waiting = Some(Ack { to: ack.to, round, matched });
    }

    /// A snapshot has arrived whole at the host. R13: nothing is ever taken back for it.
    pub(crate) fn on_install_snapshot(&mut self, from: u64, snapshot: SnapshotMeta) -> Result<(), StorageError> {
        if snapshot.conf_state != self.conf_state {
            self.counters.foreign_voters += 1;
            return Ok(());
        }
        let known = self.install.as_ref().is_some_and(|install| {
            // Of two that wait, the newer one is installed (B46); one that is being installed stays.
            install.handed_out || install.snapshot.last.index >= snapshot.last.index
        });
        if known || (snapshot.last.index <= self.log.commit() && !mutant!(SnapshotBelowCommit)) {
            self.acknowledge(Ack { to: from, round: 0, matched: 0 });
        } else if self.log.term_of(snapshot.last.index)? == Some(snapshot.last.term) {
            // The log has it all; only the knowledge that it is committed was missing. An older snapshot that waits would take
            // that back.
            self.install = None;
            self.log.commit_to(snapshot.last.index);
            self.acknowledge(Ack { to: from, round: 0, matched: snapshot.last.index });
        } else {
            self.install = Some(Install { snapshot, handed_out: false });
        }
        Ok(())
    }

    /// The host has replaced everything by the snapshot. Term and vote stay as they were.
    pub(crate) fn on_snapshot_installed(&mut self, last: EntryId) {
        let installed = self.install.take().is_some_and(|install| install.handed_out && install.snapshot.last == last);
        assert!(installed, "only the snapshot that was asked for is installed");
        self.log.reset(last);
        self.maybe_end_recovery();
        self.durable.commit_index = last.index;
        if let Role::Follower(Follower { leader: Some(leader), ack, .. }) = &mut self.role {
            *ack = None;
            let to = *leader;
            self.acknowledge(Ack { to, round: 0, matched: last.index });
        }
    }
}
