//! Proposals that reach a follower travel to the leader, batched, and take effect at most once.
//!
//! A batch is accepted only by the leader of exactly the term it was sent in, and only once: `seq` rises per sender within a
//! term. Its upper bits mark the sender's incarnation, because a restarted sender counts from the start again while the
//! leadership goes on; the leader keeps one counter per mark. A batch that is lost, late or repeated is dropped without an
//! answer: its outcome is unknown to the client, as it would be after a crash. Only a leader that has *not* appended says so.

use crate::entry::entry_size;
use crate::num::to_u64;
use crate::peer::Peer;
use crate::role::Role;
use crate::{Body, ForwardedProposal, RaftStorage, RefuseReason, Refused};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bits of `seq` that count; the bits above are the incarnation's mark.
const COUNTER_BITS: u32 = 40;
/// Incarnations of one sender that one leadership remembers. None is forgotten before its end, as a late batch would then be
/// taken again; the batches of further ones are refused, which is true: nothing of them was ever appended.
const MARKS_MAX: usize = 1024;

/// A follower's side.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForwardedProposals {
    /// With the host's tickets.
    pub(crate) unsent: Vec<ForwardedProposal>,
    /// Of these.
    pub(crate) unsent_bytes: u64,
    /// Sent, by number: the host's ticket, and the tick at which it is forgotten.
    pub(crate) sent: BTreeMap<u64, (u64, u64)>,
}

/// The leader's side: the last counter accepted, per (sender, incarnation mark).
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct AcceptedBatches(BTreeMap<(u64, u64), u64>);

impl AcceptedBatches {
    /// `Taken` exactly once per batch, and never for one that an accepted batch has overtaken.
    fn accept(&mut self, from: u64, seq: u64) -> Acceptance {
        let mark = seq >> COUNTER_BITS;
        let counter = seq & ((1 << COUNTER_BITS) - 1);
        match self.0.get_mut(&(from, mark)) {
            Some(last) if counter > *last => *last = counter,
            Some(_) if mutant!(ForwardTakenTwice) => {}
            Some(_) => return Acceptance::Stale,
            None => {
                if self.0.range((from, 0)..=(from, u64::MAX)).count() >= MARKS_MAX {
                    return Acceptance::NoRoom;
                }
                self.0.insert((from, mark), counter);
            }
        }
        Acceptance::Taken
    }
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acceptance {
    Taken,
    /// Repeated or overtaken: nothing may be said, as an earlier copy may be in the log.
    Stale,
    /// Of an incarnation that there is no room to remember, so nothing of it was taken or will be.
    NoRoom,
}

impl<S: RaftStorage> Peer<S> {
    /// A client of this node proposes.
    pub(crate) fn on_propose(&mut self, ticket: u64, command: Bytes, context: Option<Bytes>) {
        let refusal = match &mut self.role {
            Role::Leader(_) => self.append_proposal(command, context).err(),
            Role::Follower(follower) if follower.leader.is_some() => {
                let size = entry_size(&command, context.as_ref());
                let full = follower.proposals.unsent_bytes.saturating_add(size) > self.config.uncommitted_bytes_max;
                // They leave with the next effects, unless the disk does not hold the term yet; it may take its time.
                let waits = self.durable.current_term < self.term;
                if waits && full && !follower.proposals.unsent.is_empty() {
                    Some(RefuseReason::TooManyUncommitted)
                } else {
                    follower.proposals.unsent_bytes += size;
                    follower.proposals.unsent.push(ForwardedProposal { ticket, command, context });
                    None
                }
            }
            _ => Some(RefuseReason::NoLeader),
        };
        self.out.refused.extend(refusal.map(|reason| Refused { ticket, reason }));
    }

    /// Sends the proposals that came since the last time. Numbers on the wire replace the host's tickets: they never repeat
    /// over incarnations, so a late refusal cannot hit another proposal.
    pub(crate) fn forward_proposals(&mut self) {
        let bytes_max = self.config.append_bytes_max;
        let expires_at = self.now + 2 * u64::from(self.config.election_timeout_ticks);
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        let mut batches = Vec::new();
        follower.proposals.unsent_bytes = 0;
        for proposal in core::mem::take(&mut follower.proposals.unsent) {
            self.proposals_forwarded += 1;
            follower.proposals.sent.insert(self.proposals_forwarded, (proposal.ticket, expires_at));
            let size = to_u64(proposal.command.len() + proposal.context.as_ref().map_or(0, Bytes::len));
            if batch_bytes + size > bytes_max && !batch.is_empty() {
                batches.push(core::mem::take(&mut batch));
                batch_bytes = 0;
            }
            batch_bytes += size;
            let ticket = self.wire_id_base.wrapping_add(self.proposals_forwarded);
            batch.push(ForwardedProposal { ticket, ..proposal });
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        for proposals in batches {
            self.batches_forwarded += 1;
            assert!(self.batches_forwarded < 1 << COUNTER_BITS, "a term has less than 2^40 batches of one sender");
            let seq = (self.incarnation_mark << COUNTER_BITS) | self.batches_forwarded;
            self.send(leader, Body::Propose { seq, proposals });
        }
    }

    /// Another peer's proposals.
    pub(crate) fn on_forwarded(&mut self, from: u64, seq: u64, proposals: Vec<ForwardedProposal>) {
        let Role::Leader(leader) = &mut self.role else {
            // No refusal: before a restart this peer may have accepted another copy.
            self.counters.not_leader += 1;
            return;
        };
        match leader.accepted.accept(from, seq) {
            Acceptance::Taken => {}
            Acceptance::Stale => {
                self.counters.stale_proposal += 1;
                return;
            }
            Acceptance::NoRoom => {
                self.counters.stale_proposal += 1;
                let tickets = proposals.into_iter().map(|proposal| proposal.ticket).collect();
                return self.send(from, Body::ProposeRefused { tickets, reason: RefuseReason::TooManyUncommitted });
            }
        }
        let mut refused: BTreeMap<RefuseReason, Vec<u64>> = BTreeMap::new();
        for ForwardedProposal { ticket, command, context } in proposals {
            if let Err(reason) = self.append_proposal(command, context) {
                refused.entry(reason).or_default().push(ticket);
            }
        }
        for (reason, tickets) in refused {
            self.send(from, Body::ProposeRefused { tickets, reason });
        }
    }

    pub(crate) fn on_propose_refused(&mut self, from: u64, tickets: Vec<u64>, reason: RefuseReason) {
        let base = self.wire_id_base;
        for ticket in tickets {
            let sent = match &mut self.role {
                Role::Follower(follower) if follower.leader == Some(from) => {
                    follower.proposals.sent.remove(&ticket.wrapping_sub(base))
                }
                _ => None,
            };
            match sent {
                Some((ticket, _)) => self.out.refused.push(Refused { ticket, reason }),
                None => self.counters.stale_answer += 1,
            }
        }
    }

    /// Forgets proposals that were surely decided or lost by now. Numbers rise with time, so the oldest are in front.
    pub(crate) fn expire_forwarded_proposals(&mut self) {
        let Role::Follower(follower) = &mut self.role else { return };
        while let Some(oldest) = follower.proposals.sent.first_entry().filter(|oldest| oldest.get().1 <= self.now) {
            oldest.remove();
        }
    }

    /// The leader is lost: what was not sent to it certainly never takes effect; of the rest nothing is known.
    pub(crate) fn refuse_unsent_proposals(&mut self) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.proposals.unsent_bytes = 0;
        let unsent = core::mem::take(&mut follower.proposals.unsent);
        let refused =
            unsent.into_iter().map(|proposal| Refused { ticket: proposal.ticket, reason: RefuseReason::NoLeader });
        self.out.refused.extend(refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B68: a batch counts once, also when its sender has restarted within the same leadership.
    #[test]
    fn a_batch_is_accepted_once_per_incarnation() {
        let mut accepted = AcceptedBatches::default();
        let mut accept = |from, seq| accepted.accept(from, seq);
        assert_eq!([accept(2, 1), accept(2, 1)], [Acceptance::Taken, Acceptance::Stale]);
        assert_eq!([accept(2, 3), accept(2, 2)], [Acceptance::Taken, Acceptance::Stale], "what was overtaken is stale");
        let restarted = 7 << COUNTER_BITS;
        assert_eq!(accept(2, restarted | 1), Acceptance::Taken, "a restarted sender counts from the start again");
        assert_eq!([accept(2, 3), accept(2, restarted | 1)], [Acceptance::Stale; 2]);
        assert_eq!(accept(3, 1), Acceptance::Taken, "senders count on their own");
    }

    #[test]
    fn remembered_incarnations_are_bounded() {
        let mut accepted = AcceptedBatches::default();
        let mut accept = |from, mark: u64, counter| accepted.accept(from, (mark << COUNTER_BITS) | counter);
        assert!((0..to_u64(MARKS_MAX)).all(|mark| accept(2, mark, 1) == Acceptance::Taken));
        assert_eq!([accept(2, 9_999, 1), accept(2, 9_999, 1)], [Acceptance::NoRoom; 2]);
        assert_eq!([accept(2, 0, 2), accept(2, 0, 2)], [Acceptance::Taken, Acceptance::Stale], "known ones go on");
        assert_eq!(accept(3, 9_999, 1), Acceptance::Taken, "one that restarts all the time silences no other");
    }
}
