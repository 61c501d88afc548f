//! What was dropped, and why, and what a slow disk or a lost connection made this peer do.
//!
//! Every message that the peer ignores raises exactly one of these; none of them is an error of
//! this peer, but a number that rises says which neighbour or network to look at.

/// Counts since the start of the peer. Nothing in here influences a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages for another region.
    pub wrong_region: u64,
    /// Messages for another peer.
    pub wrong_receiver: u64,
    /// Messages from a peer that is no voter, or from this peer itself.
    pub unknown_sender: u64,
    /// Messages that no correct peer sends: holes between entries, falling terms, an entry newer than its message, an
    /// acknowledgement past the end of the log, a term or index beyond 2^63.
    pub malformed: u64,
    /// Messages of an earlier term, except requests: those are answered with the own term.
    pub stale_term: u64,
    /// Answers to a question that is no longer asked, repeated or late.
    pub stale_answer: u64,
    /// Votes and pre-votes not considered because a live leader is heard.
    pub vote_ignored: u64,
    /// AppendEntries or InstallSnapshot from a second leader of the same term.
    pub second_leader: u64,
    /// Appends and snapshots that contradict what is committed here.
    pub conflict_below_commit: u64,
    /// Forwarded proposals that were repeated, late, or meant for another leadership.
    pub stale_proposal: u64,
    /// Requests only a leader can serve, received by a peer that does not lead.
    pub not_leader: u64,
    /// Snapshots with another voter set than the fixed one.
    pub foreign_voters: u64,
    /// Messages that came while this peer did not know what it had promised.
    pub mute: u64,
    /// Leaderships that were offered to a follower because a write of this leader had stalled.
    pub stall_handovers: u64,
    /// Leaderships that were given up because a write had stalled and nobody took over.
    pub stall_step_downs: u64,
    /// Elections begun before the election timeout, because the connection to the leader broke.
    pub early_campaigns: u64,
    /// Votes and pre-votes not considered because of a pledge to a leader (lease reads).
    pub vote_pledged: u64,
    /// Pledges that this leader does not count on: lease reads are off here, or a follower's are shorter.
    pub pledge_too_short: u64,
    /// Read indexes given by lease. Not a drop.
    pub lease_reads: u64,
}
