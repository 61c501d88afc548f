//! ReadIndex (thesis §6.4): linearizable reads without a log entry.
//!
//! A read takes the leader's commit index when it is registered, and may be served once a majority has answered a message
//! that left after that. Messages carry the leader's `round`; the read belongs to the *next* round, which starts with the
//! next broadcast, so all reads that arrive before a broadcast share it. Rounds are made by the leader, never by the asker
//! (R5), and every answer to an append counts, also a rejection and also one that carries entries.
//!
//! Before the leader has committed an entry of its own term its commit index may be behind, so reads wait (R4), in a cluster
//! of one as well.

use crate::num::to_u64;
use crate::peer::Peer;
use crate::quorum::reached_by_majority;
use crate::role::Role;
use crate::{Body, RaftStorage, ReadReady};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Reads that may wait at a leader; more are failed at once, so that nobody can fill the memory with questions.
const WAITING_MAX: usize = 1 << 16;

/// Who asked.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Reader {
    Local { id: u64 },
    Peer { peer: u64, id: u64 },
}

#[derive(Clone, Copy, Debug, Hash)]
struct WaitingRead {
    round: u64,
    index: u64,
    reader: Reader,
}

/// A leader's reads.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct LeaderReads {
    /// The last round that was broadcast.
    pub(crate) round: u64,
    /// Came before the first commit of the term.
    early: Vec<Reader>,
    /// By rising round.
    waiting: VecDeque<WaitingRead>,
    /// Some waiting read belongs to the round after `round`.
    wants_round: bool,
}

impl LeaderReads {
    fn register(&mut self, index: u64, reader: Reader) {
        let round = if mutant!(ReadSharesEarlierRound) { self.round } else { self.round + 1 };
        self.waiting.push_back(WaitingRead { round, index, reader });
        self.wants_round = true;
    }

    /// The next broadcast starts a round although no read waits for it.
    pub(crate) fn want_round(&mut self) {
        self.wants_round = true;
    }

    /// Starts the next round if a read waits for it; everything sent from now on confirms those reads.
    pub(crate) fn start_round(&mut self) -> bool {
        if self.wants_round {
            self.round += 1;
        }
        core::mem::take(&mut self.wants_round)
    }

    pub(crate) fn check_invariants(&self) {
        let pairs = self.waiting.iter().zip(self.waiting.iter().skip(1));
        assert!(pairs.clone().all(|(a, b)| a.round <= b.round && a.index <= b.index), "reads wait in order");
        let newest = self.waiting.back().map_or(0, |read| read.round);
        assert!(newest <= self.round + u64::from(self.wants_round), "a read waits for a round that will be sent");
    }
}

/// A follower's reads on their way to the leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForwardedReads {
    /// Not sent yet; they will share one question.
    pub(crate) unsent: Vec<u64>,
    /// Sent, by question number.
    pub(crate) sent: BTreeMap<u64, SentReads>,
}

#[derive(Clone, Debug)]
pub(crate) struct SentReads {
    pub(crate) ids: Vec<u64>,
    pub(crate) expires_at: u64,
}

impl<S: RaftStorage> Peer<S> {
    /// A client of this node wants to read.
    pub(crate) fn on_read(&mut self, id: u64) {
        match &mut self.role {
            Role::Follower(_) if mutant!(FollowerReadsOwnCommit) => {
                self.out.reads_ready.push(ReadReady { id, index: self.log.commit() });
            }
            Role::Follower(follower) if follower.leader.is_some() => follower.reads.unsent.push(id),
            Role::Leader(_) => self.register_read(Reader::Local { id }),
            _ => self.out.reads_failed.push(id),
        }
    }

    /// A follower asks on behalf of its clients.
    pub(crate) fn on_read_index(&mut self, from: u64, id: u64) {
        if matches!(self.role, Role::Leader(_)) {
            self.register_read(Reader::Peer { peer: from, id });
        } else {
            self.counters.not_leader += 1;
            self.send(from, Body::ReadIndexResponse { id, index: None });
        }
    }

    fn register_read(&mut self, reader: Reader) {
        let commit = self.log.commit();
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.reads.early.len() + leader.reads.waiting.len() >= WAITING_MAX {
            return self.fail_read(reader);
        }
        if commit >= leader.term_start || mutant!(ReadBeforeFirstCommit) {
            leader.reads.register(commit, reader);
            self.flush_wanted = true;
        } else {
            leader.reads.early.push(reader);
        }
    }

    /// The first entry of the term is committed: what waited for it is registered now.
    pub(crate) fn register_early_reads(&mut self) {
        let commit = self.log.commit();
        let Role::Leader(leader) = &mut self.role else { return };
        for reader in core::mem::take(&mut leader.reads.early) {
            leader.reads.register(commit, reader);
            self.flush_wanted = true;
        }
    }

    /// Answers the reads whose round a majority has confirmed.
    pub(crate) fn answer_confirmed_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(first) = leader.reads.waiting.front() else { return };
        leader.scratch.clear();
        leader.scratch.push(leader.reads.round);
        leader.scratch.extend(leader.followers.values().map(|progress| progress.acked_round));
        let confirmed = reached_by_majority(&mut leader.scratch);
        let confirmed = if mutant!(ReadNotConfirmed) { leader.reads.round } else { confirmed };
        if first.round <= confirmed {
            self.answer_reads_to(confirmed);
        }
    }

    /// Answers the reads that wait for `round` or an earlier one; returns how many.
    pub(crate) fn answer_reads_to(&mut self, round: u64) -> u64 {
        let mut answered = 0;
        let Role::Leader(leader) = &mut self.role else { return answered };
        while let Some(read) = leader.reads.waiting.pop_front_if(|read| read.round <= round) {
            answered += 1;
            match read.reader {
                Reader::Local { id } => self.out.reads_ready.push(ReadReady { id, index: read.index }),
                Reader::Peer { peer, id } => {
                    let body = Body::ReadIndexResponse { id, index: Some(read.index) };
                    self.out.send_now.push(crate::Message {
                        from: self.config.id,
                        to: peer,
                        region_id: self.config.region_id,
                        term: self.term,
                        body,
                    });
                }
            }
        }
        if leader.reads.waiting.is_empty() {
            leader.reads.wants_round = false;
        }
        answered
    }

    pub(crate) fn on_read_index_response(&mut self, from: u64, id: u64, index: Option<u64>) {
        let number = id.wrapping_sub(self.wire_id_base);
        let reads = match &mut self.role {
            Role::Follower(follower) if follower.leader == Some(from) => follower.reads.sent.remove(&number),
            _ => None,
        };
        let Some(SentReads { ids, .. }) = reads else {
            self.counters.stale_answer += 1;
            return;
        };
        match index {
            Some(index) => self.out.reads_ready.extend(ids.into_iter().map(|id| ReadReady { id, index })),
            None => self.out.reads_failed.extend(ids),
        }
    }

    /// Sends the reads that came since the last time as one question, under an id that no incarnation of this peer uses again.
    pub(crate) fn forward_reads(&mut self) {
        let expires_at = self.now + u64::from(self.config.election_timeout_ticks);
        let Role::Follower(follower) = &mut self.role else { return };
        let (Some(leader), false) = (follower.leader, follower.reads.unsent.is_empty()) else { return };
        self.reads_forwarded += 1;
        let ids = core::mem::take(&mut follower.reads.unsent);
        follower.reads.sent.insert(self.reads_forwarded, SentReads { ids, expires_at });
        let id = self.wire_id_base.wrapping_add(self.reads_forwarded);
        self.send(leader, Body::ReadIndex { id });
    }

    /// Fails the reads whose answer was lost. Numbers rise with time, so the oldest are in front.
    pub(crate) fn expire_forwarded_reads(&mut self) {
        let Role::Follower(follower) = &mut self.role else { return };
        while let Some(oldest) = follower.reads.sent.first_entry().filter(|oldest| oldest.get().expires_at <= self.now)
        {
            self.out.reads_failed.extend(oldest.remove().ids);
        }
    }

    /// The role ends: no read of it can be answered any more (R5). `same_term`: other peers' reads are told so; after a term
    /// change they find out by themselves.
    pub(crate) fn fail_all_reads(&mut self, same_term: bool) {
        match &mut self.role {
            Role::Follower(follower) => {
                self.out.reads_failed.append(&mut follower.reads.unsent);
                for (_, reads) in core::mem::take(&mut follower.reads.sent) {
                    self.out.reads_failed.extend(reads.ids);
                }
            }
            Role::Leader(leader) => {
                let reads = core::mem::take(&mut leader.reads);
                let readers = reads.early.into_iter().chain(reads.waiting.into_iter().map(|read| read.reader));
                for reader in readers.collect::<Vec<_>>() {
                    if same_term || matches!(reader, Reader::Local { .. }) {
                        self.fail_read(reader);
                    }
                }
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    fn fail_read(&mut self, reader: Reader) {
        match reader {
            Reader::Local { id } => self.out.reads_failed.push(id),
            Reader::Peer { peer, id } => self.send(peer, Body::ReadIndexResponse { id, index: None }),
        }
    }

    /// How many reads wait here, of any kind.
    pub fn waiting_reads(&self) -> u64 {
        to_u64(match &self.role {
            Role::Follower(follower) => {
                follower.reads.unsent.len() + follower.reads.sent.values().map(|reads| reads.ids.len()).sum::<usize>()
            }
            Role::Leader(leader) => leader.reads.early.len() + leader.reads.waiting.len(),
            Role::PreCandidate(_) | Role::Candidate(_) => 0,
        })
    }
}
