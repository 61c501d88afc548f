//! Roles, time and votes (paper §5.2, §5.4.1; pre-vote thesis §9.6; check-quorum thesis §6.2).
//!
//! A peer that hears a live leader ignores votes (unless that leader asked for the election), so a peer that was cut off
//! cannot depose it. A vote counts, the own one included, only when it is durable: the requests leave after the write.

use crate::leader::Leader;
use crate::num::{POSITION_MAX, to_u64};
use crate::peer::Peer;
use crate::quorum::is_majority;
use crate::role::{Ballot, Follower, Role};
use crate::{Body, EntryId, Message, RaftStorage, StorageError};

impl<S: RaftStorage> Peer<S> {
    pub(crate) fn on_tick(&mut self) -> Result<(), StorageError> {
        self.now += 1;
        if matches!(self.role, Role::Leader(_)) {
            return self.on_leader_tick();
        }
        self.expire_forwarded_reads();
        self.expire_forwarded_proposals();
        if self.now - self.heard_at < self.timeout {
            return self.maybe_campaign_early();
        }
        if self.is_promotable() {
            if self.is_pledged() {
                // By the clock it is too early still; the next tick sees.
                return Ok(());
            }
            return self.become_pre_candidate("no leader was heard for an election timeout");
        }
        self.restart_timer();
        match self.role {
            Role::Follower(Follower { leader: Some(_), .. }) => {
                self.become_follower(self.term, None, "no leader was heard for an election timeout");
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {
                self.become_follower(self.term, None, "it may not campaign any more");
            }
            Role::Follower(_) | Role::Leader(_) => {}
        }
        Ok(())
    }

    /// The connection to the leader broke, and nothing came on another one for so long that heartbeats would have. Asking for
    /// pre-votes harms nobody: who still hears the leader ignores them, and who lost it as well need not wait either.
    fn maybe_campaign_early(&mut self) -> Result<(), StorageError> {
        let Role::Follower(follower) = &self.role else { return Ok(()) };
        let due = follower.campaign_at.is_some_and(|at| self.now >= at);
        if !due || !self.may_campaign() {
            return Ok(());
        }
        // If nobody listens, it is tried again when it would have been tried anyway.
        let timer = (self.heard_at, self.timeout);
        self.counters.early_campaigns += 1;
        self.become_pre_candidate("the connection to the leader broke")?;
        if matches!(self.role, Role::PreCandidate(_)) {
            (self.heard_at, self.timeout) = timer;
        }
        Ok(())
    }

    /// Ticks between the loss of the connection and the campaign: two for the first of the other voters, in the order of ids, two
    /// more for each next one, so that they do not take the votes from each other (with a heartbeat every tick).
    pub(crate) fn early_campaign_wait(&self, leader: u64) -> u64 {
        let before = self.conf_state.voters.iter().filter(|id| **id < self.config.id && **id != leader).count();
        (to_u64(before) + 1) * (u64::from(self.config.heartbeat_interval_ticks) + 1)
    }

    /// Only voters campaign (R8), only with a whole log (R13, R15) on a disk that answers, and only
    /// into a term that exists.
    pub(crate) fn is_promotable(&self) -> bool {
        let idle = matches!(self.role, Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_));
        idle && self.is_voter(self.config.id)
            && self.install.is_none()
            && !self.is_recovering()
            && !self.is_write_stalled()
            && self.term < POSITION_MAX
    }

    /// A transfer needs no more than [`Peer::is_promotable`].
    pub(crate) fn may_campaign(&self) -> bool {
        self.is_promotable() && !self.is_pledged()
    }

    pub(crate) fn restart_timer(&mut self) {
        let timeout = u64::from(self.config.election_timeout_ticks);
        self.heard_at = self.now;
        self.timeout = timeout + self.prng.below(timeout);
    }

    /// A leader hears itself: without a majority it would not lead any more.
    pub(crate) fn hears_leader(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(follower) => {
                let recently = self.now - self.heard_at < u64::from(self.config.election_timeout_ticks);
                follower.leader.is_some() && follower.campaign_at.is_none() && recently
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Whether votes and pre-votes that no leader asked for are left unanswered.
    pub(crate) fn ignores_votes(&mut self) -> bool {
        if self.hears_leader() {
            self.counters.vote_ignored += 1;
            return true;
        }
        if self.is_pledged() {
            self.counters.vote_pledged += 1;
            return true;
        }
        false
    }

    /// What every change of role does: answers what can be answered no more, and takes the new term over.
    fn leave_role(&mut self, term: u64) {
        assert!(term >= self.term, "the term never falls");
        self.fail_all_reads(term == self.term);
        self.refuse_unsent_proposals();
        if term > self.term {
            self.term = term;
            self.voted_for = None;
            // They speak for a term that is over.
            self.gated.clear();
            self.batches_forwarded = 0;
        }
        self.flush_wanted = false;
    }

    pub(crate) fn become_follower(&mut self, term: u64, leader: Option<u64>, reason: &'static str) {
        let was_leader = matches!(self.role, Role::Leader(_));
        let was_follower = matches!(self.role, Role::Follower(_));
        self.leave_role(term);
        self.role = Role::Follower(Follower::of(leader));
        // A follower that only hears of a higher term goes on waiting as it did (paper §5.2): else a peer that cannot win
        // could keep those that can from trying.
        if leader.is_some() || !was_follower {
            self.restart_timer();
        }
        self.announce(was_leader, reason);
    }

    /// An append or snapshot of the current term: its sender leads. False if that cannot be.
    pub(crate) fn follow(&mut self, from: u64) -> bool {
        match &mut self.role {
            Role::Follower(follower) if follower.leader == Some(from) => {
                follower.campaign_at = None;
                self.heard_at = self.now;
            }
            Role::Follower(Follower { leader: Some(_), .. }) | Role::Leader(_) => {
                self.counters.second_leader += 1;
                return false;
            }
            _ => self.become_follower(self.term, Some(from), "a leader was heard"),
        }
        if mutant!(VoteForgottenWithLeader) {
            self.voted_for = None;
        }
        true
    }

    pub(crate) fn become_pre_candidate(&mut self, reason: &'static str) -> Result<(), StorageError> {
        assert!(self.may_campaign(), "only a voter with a whole log campaigns, and none that has pledged not to");
        if mutant!(NoPreVote) {
            self.become_candidate(false, reason);
            return Ok(());
        }
        self.leave_role(self.term);
        let mut ballot = Ballot::default();
        ballot.record(self.config.id, true);
        let won = is_majority(ballot.count(true), self.conf_state.voters.len());
        self.role = Role::PreCandidate(ballot);
        self.restart_timer();
        self.announce(false, reason);
        if won {
            self.become_candidate(false, reason);
            return Ok(());
        }
        let last = self.log.last();
        for to in self.others() {
            // The term is prospective, so this needs nothing durable.
            let (from, region_id) = (self.config.id, self.config.region_id);
            let body = Body::PreVote { last };
            self.out.send_now.push(Message { from, to, region_id, term: self.term + 1, body });
        }
        Ok(())
    }

    /// Raises the term and votes for itself. The requests leave when that is durable.
    fn become_candidate(&mut self, transfer: bool, reason: &'static str) {
        assert!(transfer || !self.is_pledged(), "a pledge is kept");
        self.leave_role(self.term + 1);
        self.voted_for = Some(self.config.id);
        self.role = Role::Candidate(Ballot::default());
        self.restart_timer();
        self.announce(false, reason);
        let last = self.log.last();
        for to in self.others() {
            self.send_when_saved(to, Body::RequestVote { last, transfer });
        }
    }

    fn become_leader(&mut self) {
        assert!(self.durable.current_term == self.term, "a leader's term is durable");
        assert!(self.durable.voted_for == Some(self.config.id), "a leader's vote for itself is durable");
        self.leave_role(self.term);
        let leader = Leader::new(&self.others(), self.log.last().index + 1, self.now);
        self.role = Role::Leader(alloc::boxed::Box::new(leader));
        self.announce(false, "won the election");
        // Commits what earlier terms left behind (R1); never refused, whatever waits already.
        self.append_own(bytes::Bytes::new(), None);
    }

    /// Answers whether an election could be won. Changes nothing here (R7).
    pub(crate) fn on_pre_vote(&mut self, from: u64, term: u64, last: EntryId) {
        if term > self.term && self.ignores_votes() {
            return;
        }
        if term > self.term && self.may_vote_for(last) {
            let (id, region_id) = (self.config.id, self.config.region_id);
            let body = Body::PreVoteResponse { granted: true };
            // The term is the asker's, and prospective.
            self.out.send_now.push(Message { from: id, to: from, region_id, term, body });
        } else {
            self.send(from, Body::PreVoteResponse { granted: false });
        }
    }

    pub(crate) fn on_pre_vote_response(&mut self, from: u64, term: u64, granted: bool) -> Result<(), StorageError> {
        let voters = self.conf_state.voters.len();
        if mutant!(PreVotesCountAsVotes) && granted && term == self.term && self.is_own_vote_durable() {
            self.record_vote(from, true);
            return Ok(());
        }
        let prospective = self.term + 1;
        match &mut self.role {
            // A refusal is of the own term: a higher one was taken over before this.
            Role::PreCandidate(ballot) if (granted && term == prospective) || (!granted && term == self.term) => {
                ballot.record(from, granted);
                if is_majority(ballot.count(true), voters) {
                    self.become_candidate(false, "a majority would vote for this peer");
                } else if is_majority(ballot.count(false), voters) {
                    self.become_follower(self.term, None, "a majority would not vote for this peer");
                }
            }
            _ => self.counters.stale_answer += 1,
        }
        Ok(())
    }

    /// A vote in the current term. At most one per term, durable before it is told, only for a log that holds everything
    /// committed, and none if the term's leader is known already.
    pub(crate) fn on_request_vote(&mut self, from: u64, last: EntryId, transfer: bool) {
        if !transfer && self.ignores_votes() {
            return;
        }
        let free = match self.voted_for {
            Some(candidate) => candidate == from || mutant!(SecondVoteInTerm),
            None => self.leader().is_none() || mutant!(VoteForgottenWithLeader),
        };
        let granted = free && self.may_vote_for(last);
        if granted {
            self.voted_for = Some(from);
            self.restart_timer();
        }
        self.send_when_saved(from, Body::RequestVoteResponse { granted });
    }

    /// Whether a log that ends with `last` holds everything that this one may have helped to commit (paper §5.4.1). A peer that
    /// does not hold all of that itself cannot tell (R15).
    fn may_vote_for(&self, last: EntryId) -> bool {
        if self.is_recovering() {
            return false;
        }
        let own = self.log.last();
        if mutant!(VoteForShorterLog) {
            return last.index >= own.index;
        }
        if mutant!(VoteForOlderTerm) {
            return last.term >= own.term;
        }
        last >= own
    }

    pub(crate) fn on_request_vote_response(&mut self, from: u64, granted: bool) {
        if !self.is_own_vote_durable() {
            // Nobody was asked yet.
            self.counters.stale_answer += 1;
            return;
        }
        match &mut self.role {
            Role::Candidate(_) => self.record_vote(from, granted),
            _ => self.counters.stale_answer += 1,
        }
    }

    fn is_own_vote_durable(&self) -> bool {
        let durable = self.durable.current_term == self.term && self.durable.voted_for == Some(self.config.id);
        durable || mutant!(OwnVoteCountedAtOnce)
    }

    /// A write is done: if it carried this candidate's vote, the vote counts now.
    pub(crate) fn count_own_vote(&mut self) {
        if matches!(self.role, Role::Candidate(_)) && self.is_own_vote_durable() {
            self.record_vote(self.config.id, true);
        }
    }

    fn record_vote(&mut self, voter: u64, granted: bool) {
        let voters = self.conf_state.voters.len();
        let Role::Candidate(ballot) = &mut self.role else { return };
        ballot.record(voter, granted);
        if is_majority(ballot.count(true), voters) {
            self.become_leader();
        } else if is_majority(ballot.count(false), voters) {
            self.become_follower(self.term, None, "a majority voted for another peer");
        }
    }

    /// The leader hands over: campaign at once, without asking whether one may.
    pub(crate) fn on_timeout_now(&mut self, from: u64) {
        if self.leader() == Some(from) && matches!(self.role, Role::Follower(_)) && self.is_promotable() {
            self.become_candidate(true, "the leader hands over");
        } else {
            self.counters.stale_answer += 1;
        }
    }
}
