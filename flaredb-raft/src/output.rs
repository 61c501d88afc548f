//! What leaves the peer, and when: the gate between what is decided in memory and what may be said aloud.
//!
//! One write is in flight at a time. A message that says something about the term or vote, or acknowledges entries, leaves
//! with the write that makes it true (`send_after_write`), or at once if it is true already.

use crate::peer::{Peer, Writing};
use crate::role::{Ack, Follower, Role};
use crate::{AppendResult, Body, Effects, Message, RaftStorage, StorageError, Write};

impl<S: RaftStorage> Peer<S> {
    /// Sends a message of the current term: at once if the term is durable (I7), otherwise with the write that makes it so.
    pub(crate) fn send(&mut self, to: u64, body: Body) {
        let message = self.message(to, body);
        if self.durable.current_term == self.term {
            self.out.send_now.push(message);
        } else {
            self.gate(message);
        }
    }

    /// Sends a message that depends on the vote as well (I6).
    pub(crate) fn send_when_saved(&mut self, to: u64, body: Body) {
        let message = self.message(to, body);
        if self.is_hard_state_durable() || mutant!(VoteSaidBeforeDurable) || mutant!(OwnVoteCountedAtOnce) {
            self.out.send_now.push(message);
        } else {
            self.gate(message);
        }
    }

    fn message(&self, to: u64, body: Body) -> Message {
        Message { from: self.config.id, to, region_id: self.config.region_id, term: self.term, body }
    }

    /// Holds a message back. Repeated questions must not pile up behind a slow disk: each receiver gets one answer of a kind,
    /// and of answers to appends, and of pledges, the latest. (Besides the leader, an earlier term's leader may wait for one.)
    fn gate(&mut self, message: Message) {
        let is_outdated = |held: &Message| {
            let pair = (&held.body, &message.body);
            let is_kind = matches!(
                pair,
                (Body::AppendEntriesResponse { .. }, Body::AppendEntriesResponse { .. })
                    | (Body::Pledge { .. }, Body::Pledge { .. })
            );
            is_kind && held.to == message.to
        };
        self.gated.retain(|held| !is_outdated(held));
        if !self.gated.contains(&message) {
            self.gated.push(message);
        }
    }

    fn is_hard_state_durable(&self) -> bool {
        self.durable.current_term == self.term && self.durable.voted_for == self.voted_for
    }

    /// Something must be written before more can be said. Commit progress alone is nothing (R3).
    fn is_dirty(&self) -> bool {
        self.log.has_unwritten() || !self.is_hard_state_durable()
    }

    fn may_write(&self) -> bool {
        self.writing.is_none() && self.install.as_ref().is_none_or(|install| !install.handed_out)
    }

    /// For how many ticks the write in flight has been out; 0 if there is none.
    pub(crate) fn write_age(&self) -> u64 {
        self.writing.map_or(0, |writing| self.now - writing.since)
    }

    pub(crate) fn is_write_stalled(&self) -> bool {
        self.write_age() > u64::from(self.config.write_stall_ticks)
    }

    fn ack(&self) -> Option<Ack> {
        match &self.role {
            Role::Follower(follower) => follower.ack,
            _ => None,
        }
    }

    fn is_ack_durable(&self, ack: Ack) -> bool {
        self.durable.current_term == self.term && ack.matched <= self.log.persisted()
    }

    /// True if [`Peer::take_effects`] has something to return.
    pub fn has_effects(&self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let out = &self.out;
        !out.send_now.is_empty()
            || !out.reads_ready.is_empty()
            || !out.reads_failed.is_empty()
            || !out.refused.is_empty()
            || !out.send_snapshot.is_empty()
            || out.leadership.is_some()
            || self.flush_wanted
            || self.has_unsent_forwards()
            || (self.may_write() && (self.is_dirty() || !self.gated.is_empty()))
            || self.ack().is_some_and(|ack| self.is_ack_durable(ack))
            || self.may_install()
            || self.may_apply()
    }

    fn has_unsent_forwards(&self) -> bool {
        let Role::Follower(follower) = &self.role else { return false };
        let unsent = !follower.reads.unsent.is_empty() || !follower.proposals.unsent.is_empty();
        unsent && self.durable.current_term == self.term
    }

    /// Nothing is applied to a state that is being replaced.
    fn may_apply(&self) -> bool {
        let replaced = self.install.as_ref().is_some_and(|install| install.handed_out);
        !replaced && self.log.can_apply(self.config.apply_bytes_max)
    }

    fn may_install(&self) -> bool {
        self.install.is_some() && self.may_write() && !self.is_dirty()
    }

    /// Everything the host has to do now. Empty after the storage has failed: the next step says so.
    pub fn take_effects(&mut self) -> Effects {
        if self.failed.is_some() {
            return Effects::default();
        }
        match self.collect_effects() {
            Ok(effects) => effects,
            Err(error) => {
                self.failed = Some(error);
                Effects::default()
            }
        }
    }

    fn collect_effects(&mut self) -> Result<Effects, StorageError> {
        if core::mem::take(&mut self.flush_wanted) {
            self.flush_leader()?;
            // Answering reads or appending does not ask for another flush.
            self.flush_wanted = false;
        }
        if self.has_unsent_forwards() {
            self.forward_reads();
            self.forward_proposals();
        }
        let mut effects = core::mem::take(&mut self.out);
        self.send_durable_ack(&mut effects);
        if self.may_write() {
            if self.is_dirty() {
                self.start_write(&mut effects);
            } else {
                effects.send_now.append(&mut self.gated);
            }
        }
        if self.may_install()
            && let Some(install) = &mut self.install
        {
            install.handed_out = true;
            effects.install = Some(install.snapshot.clone());
        }
        if self.may_apply() {
            effects.apply = self.log.next_to_apply(self.config.apply_bytes_max)?;
        }
        self.check_terms(&effects);
        Ok(effects)
    }

    fn send_durable_ack(&mut self, effects: &mut Effects) {
        if let Some(ack) = self.ack().filter(|ack| self.is_ack_durable(*ack)) {
            effects.send_now.push(self.take_ack(ack));
        }
    }

    fn take_ack(&mut self, ack: Ack) -> Message {
        if let Role::Follower(Follower { ack, .. }) = &mut self.role {
            *ack = None;
        }
        let result = AppendResult::Accepted { match_index: ack.matched };
        self.message(ack.to, Body::AppendEntriesResponse { round: ack.round, result })
    }

    /// One batch with everything that is not durable, and behind it everything that waits for that.
    fn start_write(&mut self, effects: &mut Effects) {
        let hard_state = self.hard_state();
        self.last_write_id += 1;
        let id = self.last_write_id;
        let entries = self.log.start_write();
        let sync = !entries.is_empty() || (!self.is_hard_state_durable() && !mutant!(VoteNotSynced));
        self.writing = Some(Writing { id, hard_state, since: self.now });
        effects.write = Some(Write { id, hard_state, entries, sync });
        if mutant!(SentBesideWrite) {
            effects.send_now.append(&mut self.gated);
        }
        effects.send_after_write.append(&mut self.gated);
        if let Some(ack) = self.ack() {
            assert!(ack.matched <= self.log.last().index, "what is acknowledged is in the log");
            effects.send_after_write.push(self.take_ack(ack));
        }
    }

    /// The write in flight is durable.
    pub(crate) fn on_write_done(&mut self, id: u64) -> Result<(), StorageError> {
        let written = self.writing.take();
        assert!(
            written.is_some_and(|written| written.id == id),
            "writes are reported done once, and only those that are out"
        );
        if let Some(Writing { hard_state, .. }) = written {
            self.durable = hard_state;
        }
        self.log.finish_write()?;
        self.maybe_end_recovery();
        self.count_own_vote();
        self.maybe_commit();
        Ok(())
    }

    /// I7: nothing is said in a term that a crash could take back. Pre-votes are of no term yet.
    fn check_terms(&self, effects: &Effects) {
        if mutant!(VoteSaidBeforeDurable) || mutant!(OwnVoteCountedAtOnce) || mutant!(SentBesideWrite) {
            return;
        }
        let is_prospective =
            |m: &Message| matches!(m.body, Body::PreVote { .. } | Body::PreVoteResponse { granted: true });
        let term = self.durable.current_term;
        let now = effects.send_now.iter().all(|m| m.term <= term || is_prospective(m));
        assert!(now, "no message leaves with a term above the durable one");
        let written = effects.write.as_ref().map_or(term, |write| write.hard_state.current_term);
        let after = effects.send_after_write.iter().all(|m| m.term <= written);
        assert!(after, "the write covers the messages that wait for it");
    }
}
