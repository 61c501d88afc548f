//! What a peer remembers only while it plays a role. Leaving the role drops all of it.
//!
//! ```text
//!             election timeout            majority of pre-votes           majority of votes
//!  Follower ------------------> PreCandidate --------------> Candidate -----------------> Leader
//!     ^                              |                           |                           |
//!     +------ leader heard, higher term, election lost ----------+                           |
//!     +------ higher term, or no majority heard for one election timeout --------------------+
//! ```

use crate::forward::ForwardedProposals;
use crate::leader::Leader;
use crate::read_index::ForwardedReads;
use alloc::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(crate) enum Role {
    Follower(Follower),
    /// Asks whether an election could be won, without raising its term (thesis §9.6).
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(alloc::boxed::Box<Leader>),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    pub(crate) leader: Option<u64>,
    /// An acknowledgement that waits for a write.
    pub(crate) ack: Option<Ack>,
    /// The connection to the leader broke: the tick at which this peer campaigns if the leader is not heard before.
    pub(crate) campaign_at: Option<u64>,
    /// The latest round for which the leader was given a pledge (lease reads).
    pub(crate) pledged_round: u64,
    pub(crate) proposals: ForwardedProposals,
    pub(crate) reads: ForwardedReads,
}

impl Follower {
    pub(crate) fn of(leader: Option<u64>) -> Self {
        Self { leader, ..Self::default() }
    }
}

/// One cumulative answer to all appends of one leader.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Ack {
    pub(crate) to: u64,
    pub(crate) round: u64,
    /// Equal to the leader's log up to here; sent once it is durable up to here.
    pub(crate) matched: u64,
}

/// Votes received, by voter.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Ballot {
    votes: BTreeMap<u64, bool>,
}

impl Ballot {
    /// The first answer of a voter counts.
    pub(crate) fn record(&mut self, voter: u64, granted: bool) {
        self.votes.entry(voter).or_insert(granted);
    }

    pub(crate) fn count(&self, granted: bool) -> u64 {
        crate::num::to_u64(self.votes.values().filter(|vote| **vote == granted).count())
    }
}
