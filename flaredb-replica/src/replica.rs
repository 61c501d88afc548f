//! The joining of a peer, its state machine and the clients that wait for it.
//!
//! `step` feeds the peer and the tables of waiting clients; `take_output` drains the peer, applies what is committed and
//! answers. Every decision is a function of the inputs: no clock, no randomness, no hash order.

use crate::context::{Context, Origin};
use crate::proposals::{Leadership, Proposal, Proposals};
use crate::reads::Reads;
use crate::truncation::Truncation;
use crate::{Answer, Counters, Input, Output, ReplicaConfig, ReplicaError};
use bytes::Bytes;
use flaredb_kv::{ApplyEntry, CommandKind, Kv, KvError, OrderedStore, Response};
use flaredb_raft::{
    Effects, EntryId, Event, Peer, PeerState, PeerStatus, RaftLogEntry, RaftStorage, ReadReady, RefuseReason, Refused,
};

/// A peer with its state machine and waiting clients.
pub struct Replica<L: RaftStorage, S: OrderedStore> {
    config: ReplicaConfig,
    peer: Peer<L>,
    kv: Kv<S>,
    /// Ticks since the start.
    now: u64,
    proposals: Proposals,
    reads: Reads,
    truncation: Truncation,
    /// The leader, if the connection to it broke and it was not heard since. What was forwarded to it now would be lost with an
    /// unknown outcome, so new proposals are held, as without a leader.
    unreachable_leader: Option<u64>,
    /// When there was last nothing left to drain, commit was too far ahead of applied: this node cannot keep up.
    lags: bool,
    /// Committed entries that the next output applies.
    to_apply: Vec<RaftLogEntry>,
    /// Who led when the peer was last looked at.
    seen: PeerStatus,
    /// What the next output will carry.
    answers: Vec<(u64, Answer)>,
    truncate_log: Option<EntryId>,
    counters: Counters,
}

/// The ticket under which this replica proposes announcements; attempts begin at 1.
const ANNOUNCEMENT: u64 = 0;

impl<L: RaftStorage, S: OrderedStore> Replica<L, S> {
    /// Joins a log and a state machine as they were found at start.
    ///
    /// # Errors
    /// `Inconsistent` if they cannot belong together, `Log` if the log cannot be read, `Config` for an unusable setting.
    pub fn new(config: ReplicaConfig, log: L, kv: Kv<S>) -> Result<Self, ReplicaError> {
        assert!(config.request_timeout_ticks > 0, "a request must be given time");
        assert!(config.read_retry_ticks > 0, "a read index must be given time");
        let applied = kv.applied();
        let peer = Peer::new(config.raft.clone(), log, applied.index)?;
        if applied.index > 0 {
            let term = peer.storage().term_of(applied.index)?;
            if term != applied.term {
                let (index, there) = (applied.index, applied.term);
                let text = format!("entry {index} has term {term} in the log, but was applied with term {there}");
                return Err(ReplicaError::Inconsistent(text));
            }
        }
        Ok(Self {
            seen: peer.status(),
            truncation: Truncation::new(&config, applied.index),
            config,
            peer,
            kv,
            now: 0,
            proposals: Proposals::default(),
            reads: Reads::default(),
            unreachable_leader: None,
            lags: false,
            to_apply: Vec::new(),
            answers: Vec::new(),
            truncate_log: None,
            counters: Counters::default(),
        })
    }

    /// Takes one input in. What follows from it is in the next output.
    ///
    /// # Errors
    /// Any error is final: the host stops.
    pub fn step(&mut self, input: Input) -> Result<(), ReplicaError> {
        match input {
            Input::Tick => self.on_tick(),
            Input::Clock { now } => self.on_clock(now),
            Input::Receive(message) => {
                if self.unreachable_leader == Some(message.from) {
                    self.unreachable_leader = None;
                }
                self.step_peer(Event::Receive(message))
            }
            Input::Propose { ticket, kind, command } => self.on_propose(ticket, kind, command),
            Input::Read { ticket } => {
                self.on_read(ticket);
                Ok(())
            }
            Input::Cancel { ticket } => {
                self.proposals.cancel(ticket);
                self.reads.cancel(ticket);
                Ok(())
            }
            Input::WriteDone { id } => self.step_peer(Event::WriteDone { id }),
            Input::Flushed { applied_index } => self.on_flushed(applied_index),
            Input::SnapshotInstalled { last } => self.on_snapshot_installed(last),
            Input::SnapshotSent { to, delivered } => self.step_peer(Event::SnapshotSent { to, delivered }),
            Input::Unreachable { peer } => {
                if self.seen.leader == Some(peer) {
                    self.unreachable_leader = Some(peer);
                }
                self.step_peer(Event::Unreachable { peer })
            }
            Input::TransferLeadership { to } => self.step_peer(Event::TransferLeadership { to }),
            Input::Campaign => self.step_peer(Event::Campaign),
            Input::Recover { until, term } => self.step_peer(Event::Recover { until, term }),
        }
    }

    /// Drains what there is to do. What is committed is applied by a call of its own (one batch a call; `has_output` tells if
    /// more waits): the write and the messages of the call before are under way by then, so the disk does not wait for it.
    ///
    /// # Errors
    /// Any error is final: the host stops.
    pub fn take_output(&mut self) -> Result<Output, ReplicaError> {
        let output = self.collect_output()?;
        if !self.has_output() {
            self.lags = self.apply_lag() > self.config.apply_lag_max;
        }
        Ok(output)
    }

    fn apply_lag(&self) -> u64 {
        self.seen.commit_index.saturating_sub(self.seen.last_applied)
    }

    fn collect_output(&mut self) -> Result<Output, ReplicaError> {
        if !self.to_apply.is_empty() {
            let entries = std::mem::take(&mut self.to_apply);
            self.apply(entries)?;
            return Ok(self.answer());
        }
        self.maybe_ask_for_read_index()?;
        let Effects {
            write,
            send_now,
            send_after_write,
            apply,
            reads_ready,
            reads_failed,
            refused,
            install,
            send_snapshot,
            leadership,
        } = self.peer.take_effects();
        for refusal in refused {
            self.on_refused(refusal);
        }
        for ask in reads_failed {
            self.reads.on_failed(ask);
        }
        for ReadReady { id, index } in reads_ready {
            self.reads.on_index(id, index);
        }
        self.to_apply = apply;
        Ok(Output { write, send_now, send_after_write, install, send_snapshot, leadership, ..self.answer() })
    }

    /// What clients and the log are told, by what is applied now.
    fn answer(&mut self) -> Output {
        self.counters.reads_ready += self.reads.on_applied(self.kv.applied().index, &mut self.answers);
        Output {
            answers: std::mem::take(&mut self.answers),
            truncate_log: self.truncate_log.take(),
            ..Output::default()
        }
    }

    /// True if `take_output` would give something, or apply something.
    pub fn has_output(&self) -> bool {
        self.peer.has_effects()
            || !self.to_apply.is_empty()
            || !self.answers.is_empty()
            || self.truncate_log.is_some()
            || self.wants_read_index()
            || self.reads.any_ready(self.kv.applied().index)
    }

    /// The peer, as the specification names it.
    pub fn status(&self) -> PeerStatus {
        self.peer.status()
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The state machine, for readers.
    pub fn kv(&self) -> &Kv<S> {
        &self.kv
    }

    /// The state machine, for the host's own duties: physical compaction, and to put that of an installed snapshot in its place
    /// before it reports `SnapshotInstalled`. Never to apply.
    pub fn kv_mut(&mut self) -> &mut Kv<S> {
        &mut self.kv
    }

    /// The peer, to be looked at.
    pub fn peer(&self) -> &Peer<L> {
        &self.peer
    }

    fn on_tick(&mut self) -> Result<(), ReplicaError> {
        self.now += 1;
        self.counters.requests_timed_out += self.proposals.on_tick(self.now, &mut self.answers);
        self.counters.requests_timed_out +=
            self.reads.on_tick(self.now, self.config.read_retry_ticks, &mut self.answers);
        self.step_peer(Event::Tick)?;
        self.hand_on_held()?;
        self.announce_what_all_have()
    }

    /// The reads that have arrived are asked for first: a lease at this reading then answers them.
    fn on_clock(&mut self, now: u64) -> Result<(), ReplicaError> {
        self.maybe_ask_for_read_index()?;
        self.step_peer(Event::Clock { now })
    }

    /// Every event reaches the peer through here, so that no change of leader goes unnoticed however rarely the host drains.
    fn step_peer(&mut self, event: Event) -> Result<(), ReplicaError> {
        self.peer.step(event)?;
        let before = self.seen;
        self.seen = self.peer.status();
        if (before.leader, before.term, before.state) == (self.seen.leader, self.seen.term, self.seen.state) {
            return Ok(());
        }
        let lost_leadership = before.state == PeerState::Leader
            && (self.seen.state != PeerState::Leader || self.seen.term != before.term);
        let PeerStatus { term, leader, .. } = self.seen;
        if leader != before.leader {
            self.unreachable_leader = None;
        }
        self.counters.proposals_lost +=
            self.proposals.on_leader_changed(term, leader, lost_leadership, &mut self.answers);
        self.reads.on_leader_changed();
        self.truncation.on_announcement_lost();
        self.hand_on_held()
    }

    fn on_propose(&mut self, ticket: u64, kind: CommandKind, command: Bytes) -> Result<(), ReplicaError> {
        self.assert_unused(ticket);
        let leader = self.seen.leader;
        let bytes = u64::try_from(command.len()).unwrap_or(u64::MAX);
        let full = self.proposals.len() >= self.config.proposals_max
            || self.proposals.bytes().saturating_add(bytes) > self.config.proposal_bytes_max;
        if full && leader.is_none() {
            self.refuse(ticket, Answer::NoLeader);
            return Ok(());
        }
        if full || (self.lags && self.apply_lag() > self.config.apply_lag_max) {
            self.refuse(ticket, Answer::TooManyRequests);
            return Ok(());
        }
        let proposal = Proposal { ticket, kind, command, deadline: self.deadline() };
        match leader {
            // What is held goes first: it is older.
            Some(leader) if !self.proposals.any_held() && self.unreachable_leader.is_none() => {
                self.hand_on(proposal, leader)
            }
            _ => {
                self.hold(proposal);
                Ok(())
            }
        }
    }

    fn on_read(&mut self, ticket: u64) {
        self.assert_unused(ticket);
        if self.reads.len() >= self.config.reads_max {
            self.answers.push((ticket, Answer::TooManyRequests));
        } else {
            self.reads.add(ticket, self.deadline());
        }
    }

    fn on_flushed(&mut self, applied_index: u64) -> Result<(), ReplicaError> {
        assert!(applied_index <= self.kv.applied().index, "what was not applied cannot have been flushed");
        self.truncation.on_flushed(&self.config, applied_index);
        self.maybe_truncate()
    }

    fn on_snapshot_installed(&mut self, last: EntryId) -> Result<(), ReplicaError> {
        let applied = self.kv.applied();
        if applied.index != last.index || applied.term != last.term {
            let text =
                format!("a snapshot at {last} was installed, but the data is at {}@{}", applied.index, applied.term);
            return Err(ReplicaError::Inconsistent(text));
        }
        // What was to be applied on the old state is part of the new one.
        self.to_apply.clear();
        // It names an entry of the log that is gone.
        self.truncate_log = None;
        self.truncation.on_flushed(&self.config, last.index);
        self.step_peer(Event::SnapshotInstalled { last })
    }

    fn on_refused(&mut self, Refused { ticket: attempt, reason }: Refused) {
        if attempt == ANNOUNCEMENT {
            self.truncation.on_announcement_lost();
            return;
        }
        let Some(proposal) = self.proposals.take(attempt) else { return };
        match reason {
            RefuseReason::TooManyUncommitted => self.refuse(proposal.ticket, Answer::TooManyRequests),
            // Tried again at the next tick or change of leader, not at once: neither passes at once.
            RefuseReason::NoLeader | RefuseReason::Transferring => self.hold(proposal),
        }
    }

    fn refuse(&mut self, ticket: u64, answer: Answer) {
        self.counters.proposals_refused += 1;
        self.answers.push((ticket, answer));
    }

    fn hold(&mut self, proposal: Proposal) {
        self.counters.proposals_held += 1;
        self.proposals.hold(proposal);
    }

    fn hand_on_held(&mut self) -> Result<(), ReplicaError> {
        let Some(leader) = self.seen.leader.filter(|_| self.unreachable_leader.is_none()) else { return Ok(()) };
        for proposal in self.proposals.take_held() {
            self.hand_on(proposal, leader)?;
        }
        Ok(())
    }

    fn hand_on(&mut self, proposal: Proposal, leader: u64) -> Result<(), ReplicaError> {
        let (kind, command) = (proposal.kind, proposal.command.clone());
        let attempt = self.proposals.hand_on(proposal, Leadership { leader, term: self.seen.term });
        let origin = Origin { node: self.config.raft.id, incarnation: self.config.raft.incarnation, attempt };
        let context = Some(Context::Request { kind, origin }.encode());
        self.counters.proposals_handed_on += 1;
        self.step_peer(Event::Propose { ticket: attempt, command, context })
    }

    /// Applies the entries and answers the clients whose own entries these are.
    fn apply(&mut self, entries: Vec<RaftLogEntry>) -> Result<(), ReplicaError> {
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        self.truncation.on_applied(&self.config, last, entries.iter().map(RaftLogEntry::size).sum());
        let contexts: Vec<EntryMeaning> = entries.iter().map(EntryMeaning::of).collect();
        let commands: Vec<ApplyEntry> = entries
            .into_iter()
            .zip(&contexts)
            .map(|(RaftLogEntry { index, term, command, context: _ }, meaning)| ApplyEntry {
                index,
                term,
                command: match meaning {
                    EntryMeaning::Request(kind, _) => Some((*kind, command)),
                    EntryMeaning::NoOp | EntryMeaning::AllHave(_) | EntryMeaning::Malformed => None,
                },
            })
            .collect();
        let mut outcomes = Vec::with_capacity(commands.len());
        self.kv.apply(&commands, &mut outcomes)?;
        assert_eq!(outcomes.len(), commands.len(), "every entry has an outcome");
        self.counters.apply_batches += 1;
        for (meaning, outcome) in contexts.into_iter().zip(outcomes) {
            self.on_outcome(meaning, outcome);
        }
        self.step_peer(Event::Applied { index: last })?;
        self.maybe_truncate()
    }

    fn on_outcome(&mut self, meaning: EntryMeaning, outcome: Result<Response, KvError>) {
        self.counters.entries_applied += 1;
        match meaning {
            EntryMeaning::NoOp => {}
            EntryMeaning::AllHave(index) => self.truncation.on_all_have(index),
            EntryMeaning::Malformed => self.counters.entries_malformed += 1,
            EntryMeaning::Request(_, Origin { node, incarnation, attempt }) => {
                let own = (node, incarnation) == (self.config.raft.id, self.config.raft.incarnation);
                if !own && !mutant!(OutcomeOfAnotherIncarnation) {
                    return;
                }
                match self.proposals.take(attempt) {
                    Some(proposal) => self.answers.push((proposal.ticket, Answer::Applied(outcome))),
                    None => self.counters.outcomes_unclaimed += 1,
                }
            }
        }
    }

    fn maybe_ask_for_read_index(&mut self) -> Result<(), ReplicaError> {
        if !self.wants_read_index() {
            return Ok(());
        }
        let id = self.reads.ask(self.now);
        self.counters.read_indexes_asked += 1;
        self.step_peer(Event::ReadIndex { id })
    }

    fn wants_read_index(&self) -> bool {
        self.seen.leader.is_some() && self.reads.want_index()
    }

    fn announce_what_all_have(&mut self) -> Result<(), ReplicaError> {
        if self.seen.state != PeerState::Leader {
            return Ok(());
        }
        let held_by_me = self.seen.persisted_index.min(self.seen.commit_index);
        let slowest = if mutant!(TruncatedPastSlowest) { u64::max } else { u64::min };
        let all_have = self.peer.progress().map(|(_, voter)| voter.match_index).fold(held_by_me, slowest);
        let Some(index) = self.truncation.announce(&self.config, all_have) else { return Ok(()) };
        let (node, incarnation) = (self.config.raft.id, self.config.raft.incarnation);
        let context = Some(Context::AllHave { node, incarnation, index }.encode());
        self.step_peer(Event::Propose { ticket: ANNOUNCEMENT, command: Bytes::new(), context })
    }

    fn maybe_truncate(&mut self) -> Result<(), ReplicaError> {
        let log = self.peer.storage();
        let Some(index) = self.truncation.truncate(&self.config, log.first_index()?, self.seen.persisted_index) else {
            return Ok(());
        };
        self.truncate_log = Some(EntryId { index, term: log.term_of(index)? });
        self.counters.log_truncations += 1;
        Ok(())
    }

    fn deadline(&self) -> u64 {
        self.now + u64::from(self.config.request_timeout_ticks)
    }

    fn assert_unused(&self, ticket: u64) {
        let used = self.proposals.contains(ticket) || self.reads.contains(ticket);
        assert!(!used, "ticket {ticket} is waiting already; a ticket has one answer");
    }
}

/// What an entry asks of this replica; the same on every node, as it follows from the entry alone.
enum EntryMeaning {
    /// The empty entry at the start of a term.
    NoOp,
    Request(CommandKind, Origin),
    AllHave(u64),
    /// Without effect: this version cannot read it.
    Malformed,
}

impl EntryMeaning {
    fn of(entry: &RaftLogEntry) -> Self {
        match &entry.context {
            None if entry.command.is_empty() => Self::NoOp,
            None => Self::Malformed,
            Some(context) => match Context::decode(context) {
                Some(Context::Request { kind, origin }) => Self::Request(kind, origin),
                // A leader can only speak of what precedes its entry.
                Some(Context::AllHave { index, .. }) if index < entry.index => Self::AllHave(index),
                Some(Context::AllHave { .. }) | None => Self::Malformed,
            },
        }
    }
}
