//! Lease reads (thesis §6.4.1), an option: a leader answers reads without asking anybody, while nobody else can lead.
//!
//! A peer that hears a leader *pledges* to give no vote and not to campaign for `Config::lease_us`, and tells the leader for which
//! round. The leader counts from its clock's reading before that round began, and believes in nine elevenths of the pledge: a majority's
//! pledges outlast its lease as long as no member's clock runs more than a tenth too fast or too slow. A start may follow a forgotten
//! pledge, so it begins with one. A transfer is an election that does not wait for pledges: from `TimeoutNow` on there is no lease in
//! this term.
//!
//! Time enters as `Event::Clock`, a reading taken after everything that was stepped before it. That makes both ends safe however
//! late a reading is: reads that came before it are answered by it, a pledge counts from the first reading after it was made, and a
//! round from the last reading before it began.
//!
//! What it is not: needed for anything. Without a valid lease a read waits for its round (`read_index.rs`).

use crate::config::Config;
use crate::leader::Leader;
use crate::peer::Peer;
use crate::quorum::reached_by_majority;
use crate::role::{Follower, Role};
use crate::{Body, RaftStorage};
use alloc::collections::VecDeque;

/// Rounds whose beginning is remembered; with more under way the older ones stand for the newer.
const BEGUN_MAX: usize = 64;

/// The clock, and what this peer owes to a leader that it heard, whatever its role and term are by now.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Pledge {
    /// The last reading, µs.
    pub(crate) now: u64,
    /// No vote before the clock shows this.
    pub(crate) until: u64,
    /// Pledged since the last reading: counts from the next one. 0: nothing.
    pub(crate) renewed_us: u64,
}

impl Pledge {
    /// A start keeps what an earlier life may have pledged.
    pub(crate) fn at_start(config: &Config) -> Self {
        let renewed_us = config.lease_us.max(config.former_lease_us);
        Self { now: 0, until: 0, renewed_us: if mutant!(PledgeForgottenAtStart) { 0 } else { renewed_us } }
    }

    fn on_clock(&mut self, now: u64) {
        self.now = self.now.max(now);
        if self.renewed_us > 0 {
            self.until = self.until.max(self.now.saturating_add(self.renewed_us));
            self.renewed_us = 0;
        }
    }
}

/// A leader's side.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Lease {
    /// Rounds that no majority has pledged yet, rising, each with the clock before it began.
    pub(crate) begun: VecDeque<(u64, u64)>,
    /// The clock before the latest round began that a majority has pledged.
    pub(crate) from: Option<u64>,
    /// `TimeoutNow` has left: for the rest of the term somebody may be elected at any time.
    pub(crate) is_over: bool,
}

impl Lease {
    /// A round begins, at which followers renew their pledges.
    pub(crate) fn begin(&mut self, round: u64, now: u64) {
        if self.begun.len() < BEGUN_MAX {
            self.begun.push_back((round, now));
        }
    }

    fn on_pledged(&mut self, round: u64, now: u64) {
        while let Some((_, began)) = self.begun.pop_front_if(|(begun, _)| *begun <= round) {
            self.from = Some(if mutant!(LeaseFromAnswer) { now } else { began });
        }
    }

    fn holds(&self, now: u64, lease_us: u64) -> bool {
        // Two clocks that are a tenth off, one each way, show times as 9 to 11.
        let trusted = if mutant!(LeaseWithoutMargin) { lease_us } else { lease_us / 11 * 9 };
        let holds = self.from.is_some_and(|from| now < from.saturating_add(trusted));
        holds && (!self.is_over || mutant!(LeaseKeptInTransfer))
    }
}

impl<S: RaftStorage> Peer<S> {
    /// The host has read its clock, after everything that it stepped before.
    pub(crate) fn on_clock(&mut self, now: u64) {
        self.pledge.on_clock(now);
        self.answer_reads_by_lease();
    }

    /// True while a vote, or a campaign of its own, would break a pledge. Transfers are exempt: who sends `TimeoutNow` has given its
    /// lease up.
    pub fn is_pledged(&self) -> bool {
        let Pledge { now, until, renewed_us } = self.pledge;
        (renewed_us > 0 || now < until) && !mutant!(VoteDespitePledge)
    }

    /// The leader `from` was heard, at the latest in `round`.
    pub(crate) fn renew_pledge(&mut self, from: u64, round: u64) {
        let for_us = self.config.lease_us;
        if for_us == 0 {
            return;
        }
        self.pledge.renewed_us = self.pledge.renewed_us.max(for_us);
        let Role::Follower(Follower { pledged_round, .. }) = &mut self.role else { return };
        // One a round is enough. The first round of a term is 1.
        if round > *pledged_round {
            *pledged_round = round;
            self.send(from, Body::Pledge { round, for_us });
        }
    }

    /// A follower has pledged. A pledge shorter than the own is none.
    pub(crate) fn on_pledge(&mut self, from: u64, round: u64, for_us: u64) {
        let lease_us = self.config.lease_us;
        let Role::Leader(leader) = &mut self.role else {
            self.counters.stale_answer += 1;
            return;
        };
        if round > leader.reads.round {
            self.counters.malformed += 1;
            return;
        }
        let Some(progress) = leader.followers.get_mut(&from) else { return };
        if lease_us == 0 || for_us < lease_us {
            self.counters.pledge_too_short += 1;
            return;
        }
        progress.pledged_round = progress.pledged_round.max(round);
        let pledged = leader.majority_pledge();
        leader.lease.on_pledged(pledged, self.pledge.now);
    }

    /// Every waiting read came before the clock was read: whoever led then leads now, so its commit index was the newest.
    fn answer_reads_by_lease(&mut self) {
        if self.holds_lease(self.pledge.now) {
            self.counters.lease_reads += self.answer_reads_to(u64::MAX);
        }
    }

    /// True if this peer leads and may serve reads without asking when its clock shows `now`.
    pub fn holds_lease(&self, now: u64) -> bool {
        match &self.role {
            Role::Leader(leader) => {
                self.log.commit() >= leader.term_start && leader.lease.holds(now, self.config.lease_us)
            }
            _ => false,
        }
    }
}

impl Leader {
    /// The latest round that a majority, this peer included, has pledged.
    fn majority_pledge(&mut self) -> u64 {
        self.scratch.clear();
        self.scratch.push(self.reads.round);
        self.scratch.extend(self.followers.values().map(|progress| progress.pledged_round));
        reached_by_majority(&mut self.scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_the_beginning_of_a_round_and_is_shorter_than_the_pledge() {
        let mut lease = Lease::default();
        assert!(!lease.holds(0, 1_100), "nobody has pledged");
        lease.begin(1, 1_000);
        lease.begin(2, 1_100);
        lease.on_pledged(1, 1_500);
        assert!(lease.holds(1_899, 1_100) && !lease.holds(1_900, 1_100), "nine elevenths from round 1's beginning");
        lease.on_pledged(1, 1_600);
        assert!(!lease.holds(1_900, 1_100), "the same pledge renews nothing");
        lease.on_pledged(2, 1_600);
        assert!(lease.holds(1_999, 1_100) && !lease.holds(2_000, 1_100));
        lease.is_over = true;
        assert!(!lease.holds(1_600, 1_100), "leadership was offered to another");
    }

    #[test]
    fn what_is_remembered_of_rounds_is_bounded_and_forgetting_only_shortens() {
        let mut lease = Lease::default();
        for round in 1..=200 {
            lease.begin(round, round * 10);
        }
        assert_eq!(lease.begun.len(), BEGUN_MAX);
        lease.on_pledged(200, 3_000);
        assert_eq!(lease.from, Some(640), "round 64 stands for the later ones");
        lease.begin(201, 2_010);
        lease.on_pledged(201, 3_000);
        assert_eq!(lease.from, Some(2_010));
    }

    #[test]
    fn a_pledge_counts_from_the_reading_after_it_and_clocks_do_not_run_back() {
        let mut config = Config::new(1, 1);
        (config.lease_us, config.former_lease_us) = (100, 300);
        let mut pledge = Pledge::at_start(&config);
        pledge.on_clock(1_000);
        assert_eq!((pledge.until, pledge.renewed_us), (1_300, 0), "the longer one of this life and the one before");
        pledge.renewed_us = 100;
        pledge.on_clock(900);
        assert_eq!((pledge.now, pledge.until), (1_000, 1_300));
        pledge.renewed_us = 100;
        pledge.on_clock(1_250);
        assert_eq!(pledge.until, 1_350);
        assert_eq!(Pledge::at_start(&Config::new(1, 1)).renewed_us, 0, "off by default");
    }
}
