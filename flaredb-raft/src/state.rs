//! What a peer remembers on disk (HardState, ConfState) and shows to the outside (PeerStatus).

use crate::EntryId;
use alloc::vec::Vec;

/// The durable part of a peer's state. Written in the same atomic batch as the log appends it goes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The highest term seen.
    pub current_term: u64,
    /// Whom this peer votes for in that term; never changed within it.
    pub voted_for: Option<u64>,
    /// Committed as far as known at the write; may be behind what is applied (R3).
    pub commit_index: u64,
}

/// The fixed set of voters. Quorum is computed from it and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfState {
    /// Sorted, without repetition.
    pub voters: Vec<u64>,
}

/// Where a snapshot stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry it contains.
    pub last: EntryId,
    /// The voters there.
    pub conf_state: ConfState,
}

/// A peer's role as the specification names it. A pre-candidate reports `Candidate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Takes what a leader sends.
    Follower,
    /// Wants to lead, or asks whether it could.
    Candidate,
    /// Decides what is appended.
    Leader,
}

/// The specification's Peer, readable at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// This peer.
    pub id: u64,
    /// Its region.
    pub region_id: u64,
    /// Its role.
    pub state: PeerState,
    /// Its current term, durable or not.
    pub term: u64,
    /// Everything up to here is committed.
    pub commit_index: u64,
    /// Everything up to here is applied, as the host has reported.
    pub last_applied: u64,
    /// The leader of `term`, as far as this peer knows.
    pub leader: Option<u64>,
    /// The last entry in memory or on disk.
    pub last_index: u64,
    /// Everything up to here is durable here.
    pub persisted_index: u64,
    /// Its disk holds less than it once acknowledged: it neither votes nor leads (R15).
    pub recovering: bool,
}
