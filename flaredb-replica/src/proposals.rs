//! The writes that wait for their outcome.
//!
//! A write is *held* while no leader takes it: it has never been proposed and ends, at worst, in a definite `NoLeader`. Once
//! it is *handed on* (appended here as leader, or forwarded to one) its outcome is unknown until its own entry is applied or
//! the peer says that it was refused. Every attempt has a number of its own, so that a refusal that arrives twice cannot
//! hit a later attempt, and no two entries have the same context.
//!
//! It knows nothing of the peer: `Replica` carries the attempts there and the outcomes back.

use crate::Answer;
use bytes::Bytes;
use flaredb_kv::CommandKind;
use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
pub(crate) struct Proposals {
    last_attempt: u64,
    /// In order of arrival, save that one which comes back goes to the end.
    held: VecDeque<Proposal>,
    /// By attempt.
    handed_on: BTreeMap<u64, HandedOn>,
    /// Where each ticket waits: its attempt, or held.
    tickets: BTreeMap<u64, Option<u64>>,
    bytes: u64,
}

/// A client's write.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) ticket: u64,
    pub(crate) kind: CommandKind,
    pub(crate) command: Bytes,
    /// The tick at which it has waited long enough.
    pub(crate) deadline: u64,
}

struct HandedOn {
    proposal: Proposal,
    to: Leadership,
}

/// A leader and its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) leader: u64,
    pub(crate) term: u64,
}

impl Proposal {
    fn size(&self) -> u64 {
        u64::try_from(self.command.len()).unwrap_or(u64::MAX)
    }
}

impl Proposals {
    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Bytes of the commands that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn contains(&self, ticket: u64) -> bool {
        self.tickets.contains_key(&ticket)
    }

    pub(crate) fn any_held(&self) -> bool {
        !self.held.is_empty()
    }

    pub(crate) fn hold(&mut self, proposal: Proposal) {
        self.bytes += proposal.size();
        self.tickets.insert(proposal.ticket, None);
        self.held.push_back(proposal);
    }

    /// Takes everything that is held, to be handed on.
    pub(crate) fn take_held(&mut self) -> VecDeque<Proposal> {
        let held = std::mem::take(&mut self.held);
        for proposal in &held {
            self.forget(proposal);
        }
        held
    }

    /// Notes that `proposal` goes to this leader now. Returns the number of the attempt.
    pub(crate) fn hand_on(&mut self, proposal: Proposal, to: Leadership) -> u64 {
        self.last_attempt += 1;
        self.bytes += proposal.size();
        self.tickets.insert(proposal.ticket, Some(self.last_attempt));
        self.handed_on.insert(self.last_attempt, HandedOn { proposal, to });
        self.last_attempt
    }

    /// Takes the proposal whose attempt has an outcome; None if nobody waits for it any more.
    pub(crate) fn take(&mut self, attempt: u64) -> Option<Proposal> {
        let HandedOn { proposal, .. } = self.handed_on.remove(&attempt)?;
        self.forget(&proposal);
        Some(proposal)
    }

    pub(crate) fn cancel(&mut self, ticket: u64) {
        match self.tickets.get(&ticket) {
            Some(Some(attempt)) => drop(self.take(*attempt)),
            Some(None) => {
                let place = self.held.iter().position(|proposal| proposal.ticket == ticket);
                if let Some(proposal) = place.and_then(|place| self.held.remove(place)) {
                    self.forget(&proposal);
                }
            }
            None => {}
        }
    }

    /// Gives up what was handed to another leadership than the present one: it may or may not take effect. While no leader
    /// is known in the same term, the old one may yet be heard from again.
    pub(crate) fn on_leader_changed(
        &mut self,
        term: u64,
        leader: Option<u64>,
        lost_leadership: bool,
        answers: &mut Vec<(u64, Answer)>,
    ) -> u64 {
        let lost =
            |to: Leadership| lost_leadership || to.term != term || leader.is_some_and(|leader| leader != to.leader);
        let lost: Vec<u64> = self.handed_on.iter().filter(|(_, waits)| lost(waits.to)).map(|(id, _)| *id).collect();
        if mutant!(LostProposalRetried) {
            let lost: Vec<Proposal> = lost.into_iter().filter_map(|attempt| self.take(attempt)).collect();
            lost.into_iter().for_each(|proposal| self.hold(proposal));
            return 0;
        }
        if mutant!(ClientLeftWaiting) {
            lost.into_iter().for_each(|attempt| drop(self.take(attempt)));
            return 0;
        }
        let answer = if mutant!(LostProposalRefused) { Answer::NoLeader } else { Answer::LeaderLost };
        self.answer_all(&lost, &answer, answers)
    }

    /// Takes the writes that have waited too long.
    pub(crate) fn on_tick(&mut self, now: u64, answers: &mut Vec<(u64, Answer)>) -> u64 {
        let expired = |proposal: &Proposal| proposal.deadline <= now;
        let late: Vec<u64> =
            self.handed_on.iter().filter(|(_, waits)| expired(&waits.proposal)).map(|(attempt, _)| *attempt).collect();
        let mut count = self.answer_all(&late, &Answer::Timeout, answers);
        let (late, held) = std::mem::take(&mut self.held).into_iter().partition(expired);
        self.held = held;
        let late: VecDeque<Proposal> = late;
        for proposal in late {
            self.forget(&proposal);
            answers.push((proposal.ticket, Answer::NoLeader));
            count += 1;
        }
        count
    }

    fn answer_all(&mut self, attempts: &[u64], answer: &Answer, answers: &mut Vec<(u64, Answer)>) -> u64 {
        let mut count = 0;
        for proposal in attempts.iter().filter_map(|attempt| self.take(*attempt)) {
            answers.push((proposal.ticket, answer.clone()));
            count += 1;
        }
        count
    }

    fn forget(&mut self, proposal: &Proposal) {
        self.bytes -= proposal.size();
        self.tickets.remove(&proposal.ticket);
    }
}
