//! The Peer: one participant of one region's Raft group, as a pure function of events.
//!
//! This file has what all roles share: the durable state, the door through which events and messages come in, and what can be
//! read from outside. What a peer does is in [`crate::election`] (roles and votes), [`crate::leader`], [`crate::follower`],
//! [`crate::read_index`], [`crate::lease`], [`crate::forward`]; what it asks of its host is put together in [`crate::output`].

use crate::counters::Counters;
use crate::lease::Pledge;
use crate::log::Log;
use crate::num::POSITION_MAX;
use crate::prng::{Prng, mix};
use crate::recovery::Recovery;
use crate::role::{Follower, Role};
use crate::start::{self, StartError};
use crate::{
    Body, ConfState, Config, Effects, EntryId, Event, HardState, LeadershipChange, Message, PeerState, PeerStatus,
    RaftStorage, ReplicationState, SnapshotMeta, StorageError,
};
use alloc::vec::Vec;

/// One region's Raft participant on this node. Feed it events with [`Peer::step`], do what [`Peer::take_effects`] asks.
#[derive(Clone, Debug)]
pub struct Peer<S: RaftStorage> {
    pub(crate) config: Config,
    pub(crate) conf_state: ConfState,
    /// In memory; what of it is durable stands in `durable`.
    pub(crate) term: u64,
    pub(crate) voted_for: Option<u64>,
    /// The hard state on disk, as far as writes are reported done.
    pub(crate) durable: HardState,
    pub(crate) role: Role,
    pub(crate) log: Log<S>,
    /// The write in flight.
    pub(crate) writing: Option<Writing>,
    pub(crate) last_write_id: u64,
    /// A snapshot that replaces this peer's state. It outlives roles and terms: it holds nothing but committed entries.
    pub(crate) install: Option<Install>,
    /// Set while the disk holds less than was promised.
    pub(crate) recovery: Option<Recovery>,
    /// For lease reads. It outlives roles and terms: what was pledged holds.
    pub(crate) pledge: Pledge,
    /// Effects that may leave at once.
    pub(crate) out: Effects,
    /// Messages that say something about this term or vote, which is not durable yet. Emptied when the term changes.
    pub(crate) gated: Vec<Message>,
    /// The role may have something to send that it has not put into `out`.
    pub(crate) flush_wanted: bool,
    /// Ticks since the start.
    pub(crate) now: u64,
    /// When a leader was last heard, a vote granted, or an election begun.
    pub(crate) heard_at: u64,
    /// Ticks after `heard_at` at which this peer campaigns.
    pub(crate) timeout: u64,
    pub(crate) prng: Prng,
    /// Leader and term of the last LeadershipChange.
    pub(crate) announced: (Option<u64>, u64),
    pub(crate) counters: Counters,
    /// Ids on the wire are this plus a counter: they never repeat over incarnations.
    pub(crate) wire_id_base: u64,
    pub(crate) reads_forwarded: u64,
    pub(crate) proposals_forwarded: u64,
    /// 24 bits that tell this incarnation's batches from another's.
    pub(crate) incarnation_mark: u64,
    /// In this term.
    pub(crate) batches_forwarded: u64,
    /// Storage is broken: final.
    pub(crate) failed: Option<StorageError>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Writing {
    pub(crate) id: u64,
    pub(crate) hard_state: HardState,
    /// The tick at which it left.
    pub(crate) since: u64,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Install {
    pub(crate) snapshot: SnapshotMeta,
    /// The host has been told; until it reports back there are no writes.
    pub(crate) handed_out: bool,
}

impl<S: RaftStorage> Peer<S> {
    /// A follower that has read its state from `storage`. `last_applied` is the last index whose effects the state machine
    /// holds durably.
    ///
    /// # Errors
    /// [`StartError`] if the settings are unusable or what the disk holds does not fit together. Nothing is guessed.
    pub fn new(config: Config, storage: S, last_applied: u64) -> Result<Self, StartError> {
        start::check_config(&config)?;
        let recovered = start::recover(&storage, last_applied)?;
        let is_alone = recovered.conf_state.voters == [config.id];
        let recovery = Recovery::at_start(&recovered, is_alone)?;
        let mut prng = Prng::new(mix(config.seed) ^ config.id);
        let timeout = u64::from(config.election_timeout_ticks);
        let timeout = timeout + prng.below(timeout);
        let mark = config.incarnation ^ (config.incarnation >> 24) ^ (config.incarnation >> 48);
        Ok(Self {
            log: Log::new(storage, recovered.last, recovered.commit, last_applied, config.cache_bytes_max),
            conf_state: recovered.conf_state,
            term: recovered.hard_state.current_term,
            voted_for: recovered.hard_state.voted_for,
            durable: recovered.hard_state,
            role: Role::Follower(Follower::default()),
            writing: None,
            last_write_id: 0,
            install: None,
            recovery,
            pledge: Pledge::at_start(&config),
            out: Effects::default(),
            gated: Vec::new(),
            flush_wanted: false,
            now: 0,
            heard_at: 0,
            timeout,
            prng,
            announced: (None, recovered.hard_state.current_term),
            counters: Counters::default(),
            wire_id_base: mix(mix(config.incarnation) ^ config.id),
            reads_forwarded: 0,
            proposals_forwarded: 0,
            incarnation_mark: mark & 0xFF_FFFF,
            batches_forwarded: 0,
            failed: None,
            config,
        })
    }

    /// Takes in one event.
    ///
    /// # Errors
    /// Only if the storage is broken. The peer is dead then and answers every further step with the same error.
    pub fn step(&mut self, event: Event) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.on_event(event);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn on_event(&mut self, event: Event) -> Result<(), StorageError> {
        match event {
            Event::Tick => self.on_tick(),
            Event::Clock { now } => {
                self.on_clock(now);
                Ok(())
            }
            Event::Receive(message) => self.on_message(message),
            Event::Propose { ticket, command, context } => {
                self.on_propose(ticket, command, context);
                Ok(())
            }
            Event::ReadIndex { id } => {
                self.on_read(id);
                Ok(())
            }
            Event::WriteDone { id } => self.on_write_done(id),
            Event::Applied { index } => {
                self.log.on_applied(index);
                Ok(())
            }
            Event::SnapshotInstalled { last } => {
                self.on_snapshot_installed(last);
                Ok(())
            }
            Event::SnapshotSent { to, delivered } => {
                self.on_snapshot_sent(to, delivered);
                Ok(())
            }
            Event::Unreachable { peer } => {
                self.on_unreachable(peer);
                Ok(())
            }
            Event::TransferLeadership { to } => {
                self.on_transfer(to);
                Ok(())
            }
            Event::Campaign => {
                if self.may_campaign() {
                    self.become_pre_candidate("asked to campaign")?;
                }
                Ok(())
            }
            Event::Recover { until, term } => {
                self.on_recover(until, term);
                Ok(())
            }
        }
    }

    /// A message came in. What is not for this peer, malformed or of another time is dropped here, before it can change
    /// anything; what carries a higher term makes this peer a follower in it, with four exceptions that are the elections'.
    fn on_message(&mut self, message: Message) -> Result<(), StorageError> {
        let Message { from, to, region_id, term, body } = message;
        if region_id != self.config.region_id {
            self.counters.wrong_region += 1;
            return Ok(());
        }
        if to != self.config.id {
            self.counters.wrong_receiver += 1;
            return Ok(());
        }
        if from == self.config.id || !self.is_voter(from) {
            self.counters.unknown_sender += 1;
            return Ok(());
        }
        if !is_well_formed(term, &body) {
            self.counters.malformed += 1;
            return Ok(());
        }
        if self.is_mute() {
            self.counters.mute += 1;
            return Ok(());
        }
        let taken_though_stale = (mutant!(StaleVotesCount) && matches!(body, Body::RequestVoteResponse { .. }))
            || (mutant!(StaleTermAppendTaken) && matches!(body, Body::AppendEntries { .. }));
        if term < self.term && !taken_though_stale {
            self.on_stale_message(from, &body);
            return Ok(());
        }
        if term > self.term {
            match &body {
                // Prospective terms raise nobody's term (R7).
                Body::PreVote { .. } if !mutant!(PreVoteRaisesTerm) => {}
                Body::PreVoteResponse { granted: true } => {}
                Body::RequestVote { transfer: false, .. } if self.ignores_votes() => return Ok(()),
                Body::AppendEntries { .. } | Body::InstallSnapshot { .. } => {
                    self.become_follower(term, Some(from), "a leader of a higher term was heard");
                }
                _ => self.become_follower(term, None, "a higher term was heard"),
            }
        }
        match body {
            Body::PreVote { last } => self.on_pre_vote(from, term, last),
            Body::PreVoteResponse { granted } => self.on_pre_vote_response(from, term, granted)?,
            Body::RequestVote { last, transfer } => self.on_request_vote(from, last, transfer),
            Body::RequestVoteResponse { granted } => self.on_request_vote_response(from, granted),
            Body::AppendEntries { prev, commit_index, round, entries } => {
                if self.follow(from) {
                    self.on_append_entries(from, prev, commit_index, round, entries)?;
                }
            }
            Body::AppendEntriesResponse { round, result } => self.on_append_response(from, round, result)?,
            Body::Pledge { round, for_us } => self.on_pledge(from, round, for_us),
            Body::InstallSnapshot { snapshot } => {
                if self.follow(from) {
                    self.on_install_snapshot(from, snapshot)?;
                }
            }
            Body::TimeoutNow => self.on_timeout_now(from),
            Body::ReadIndex { id } => self.on_read_index(from, id),
            Body::ReadIndexResponse { id, index } => self.on_read_index_response(from, id, index),
            Body::Propose { seq, proposals } => self.on_forwarded(from, seq, proposals),
            Body::ProposeRefused { tickets, reason } => self.on_propose_refused(from, tickets, reason),
        }
        Ok(())
    }

    /// A message of an earlier term. Requests are answered with the own term, or a peer that came back with a higher term
    /// would never be heard again (R7). The answer to an append is one that means nothing in any term.
    fn on_stale_message(&mut self, from: u64, body: &Body) {
        self.counters.stale_term += 1;
        match body {
            Body::PreVote { .. } => self.send(from, Body::PreVoteResponse { granted: false }),
            Body::RequestVote { .. } => self.send(from, Body::RequestVoteResponse { granted: false }),
            Body::AppendEntries { .. } | Body::InstallSnapshot { .. } => {
                // The sender may lead this term by now, and then takes the answer as one of this term: a rejection of a position
                // that no log has changes no progress. (Accepting nothing would end its probe at the start of the log.)
                let result = crate::AppendResult::Rejected { prev_index: POSITION_MAX, hint: EntryId::default() };
                self.send(from, Body::AppendEntriesResponse { round: 0, result });
            }
            _ => {}
        }
    }

    pub(crate) fn is_voter(&self, id: u64) -> bool {
        self.conf_state.voters.binary_search(&id).is_ok()
    }

    /// The peers that this peer exchanges messages with.
    pub(crate) fn others(&self) -> Vec<u64> {
        self.conf_state.voters.iter().copied().filter(|id| *id != self.config.id).collect()
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.config.id),
        }
    }

    /// Tells the host if the leader is another one now, or another term's.
    pub(crate) fn announce(&mut self, lost_leadership: bool, reason: &'static str) {
        let leader = self.leader();
        let (known, known_term) = self.announced;
        if known == leader && (leader.is_none() || known_term == self.term) && !lost_leadership {
            return;
        }
        self.announced = (leader, self.term);
        // Of several changes between two effects the host sees the last, and that leadership was lost on the way.
        let lost_leadership = lost_leadership || self.out.leadership.is_some_and(|change| change.lost_leadership);
        self.out.leadership = Some(LeadershipChange { leader, term: self.term, lost_leadership, reason });
    }

    /// The specification's fields, and where the log ends.
    pub fn status(&self) -> PeerStatus {
        let state = match &self.role {
            Role::Follower(_) => PeerState::Follower,
            Role::PreCandidate(_) | Role::Candidate(_) => PeerState::Candidate,
            Role::Leader(_) => PeerState::Leader,
        };
        PeerStatus {
            id: self.config.id,
            region_id: self.config.region_id,
            state,
            term: self.term,
            commit_index: self.log.commit(),
            last_applied: self.log.applied(),
            leader: self.leader(),
            last_index: self.log.last().index,
            persisted_index: self.log.persisted(),
            recovering: self.recovery.is_some(),
        }
    }

    /// The storage this peer reads.
    pub fn storage(&self) -> &S {
        self.log.storage()
    }

    /// The settings it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The voters.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Term, vote and commit index as they are in memory; the next write carries them.
    pub fn hard_state(&self) -> HardState {
        HardState { current_term: self.term, voted_for: self.voted_for, commit_index: self.log.commit() }
    }

    /// The hard state that is certainly on disk.
    pub fn durable_hard_state(&self) -> HardState {
        self.durable
    }

    /// Position of the last entry, durable or not.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// Position of the last entry that is durable here.
    pub fn persisted(&self) -> EntryId {
        self.log.persisted_id()
    }

    /// What was dropped so far, and why.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The term of the entry at `index`; None if it was compacted away or is past the end of the log.
    ///
    /// # Errors
    /// If the storage is broken.
    pub fn term_of(&self, index: u64) -> Result<Option<u64>, StorageError> {
        self.log.term_of(index)
    }

    /// What this peer knows of its followers. Empty unless it leads.
    pub fn progress(&self) -> impl Iterator<Item = (u64, ReplicationState)> + '_ {
        let followers = match &self.role {
            Role::Leader(leader) => Some(leader.followers.iter().map(|(id, progress)| (*id, progress.state))),
            _ => None,
        };
        followers.into_iter().flatten()
    }

    /// Whom this leader is handing over to. None if it does not, or does not lead. Proposals are refused meanwhile.
    pub fn transferee(&self) -> Option<u64> {
        match &self.role {
            Role::Leader(leader) => leader.transfer.map(|transfer| transfer.to),
            _ => None,
        }
    }

    /// Asserts the rules that hold between two steps, for tests, simulation and cautious hosts. Takes constant time.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        assert!(self.term >= self.durable.current_term, "the term never falls");
        assert!(self.term >= self.log.last().term, "no entry is newer than the term");
        assert!(self.durable.commit_index <= self.log.commit(), "the commit index never falls");
        let may_install = self.install.as_ref().is_none_or(|install| !install.handed_out || self.writing.is_none());
        assert!(may_install, "no write is out during an install");
        let may_lead = self.recovery.is_none() || matches!(self.role, Role::Follower(_));
        assert!(may_lead || mutant!(PromiseForgotten), "a peer that is recovering follows");
        match &self.role {
            Role::Follower(follower) => {
                let ack = follower
                    .ack
                    .is_none_or(|ack| Some(ack.to) == follower.leader && ack.matched <= self.log.last().index);
                assert!(ack, "an acknowledgement is for the leader and within the log");
            }
            Role::PreCandidate(_) => assert!(self.is_voter(self.config.id), "only voters campaign"),
            Role::Candidate(_) => assert!(self.voted_for == Some(self.config.id), "a candidate has voted for itself"),
            Role::Leader(leader) => {
                assert!(self.durable.current_term == self.term, "a leader's term is durable");
                assert!(self.voted_for == Some(self.config.id), "a leader has voted for itself");
                assert!(self.install.is_none(), "a leader installs no snapshot");
                leader.check_invariants(self.log.last().index);
            }
        }
    }
}

/// What any correct peer's message satisfies, whatever the state of this one.
fn is_well_formed(term: u64, body: &Body) -> bool {
    let position = |id: &EntryId| id.index <= POSITION_MAX && id.term <= term && (id.index == 0) == (id.term == 0);
    if term == 0 || term > POSITION_MAX {
        return false;
    }
    match body {
        Body::PreVote { last } | Body::RequestVote { last, .. } => position(last) && last.term <= term,
        Body::AppendEntries { prev, entries, .. } => {
            let mut before = *prev;
            position(prev)
                && entries.iter().all(|entry| {
                    let follows = entry.index == before.index + 1 && entry.term >= before.term && entry.term <= term;
                    before = entry.id();
                    follows && entry.term > 0 && entry.index <= POSITION_MAX
                })
        }
        Body::AppendEntriesResponse { result, .. } => match result {
            crate::AppendResult::Accepted { match_index } => *match_index <= POSITION_MAX,
            crate::AppendResult::Rejected { prev_index, hint } => {
                hint.index <= *prev_index && *prev_index <= POSITION_MAX
            }
            crate::AppendResult::Lost { last } => position(last),
        },
        Body::Pledge { round, for_us } => *round > 0 && *for_us > 0,
        Body::InstallSnapshot { snapshot } => snapshot.last.index > 0 && position(&snapshot.last),
        Body::ReadIndexResponse { index, .. } => index.is_none_or(|index| index <= POSITION_MAX),
        Body::PreVoteResponse { .. }
        | Body::RequestVoteResponse { .. }
        | Body::TimeoutNow
        | Body::ReadIndex { .. }
        | Body::Propose { .. }
        | Body::ProposeRefused { .. } => true,
    }
}
