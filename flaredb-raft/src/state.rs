//! What a peer remembers on disk (HardState, ConfState) and shows to the outside (PeerStatus).

use crate::EntryId;
use alloc::vec::Vec;

/// The durable part of a peer's state. Written in the same atomic batch as the log appends it goes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub current_term: u64,
    pub voted_for: Option<u64>,
    pub commit_index: u64,
}

/// The fixed set of voters. Quorum is computed from it and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Sorted, without repetition.
    pub voters: Vec<u64>,
}

/// Where a snapshot stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    pub last: EntryId,
    pub conf_state: ConfState,
}

/// A peer's role as the specification names it. A pre-candidate reports `Candidate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    Follower,
    Candidate,
    Leader,
}

/// The specification's Peer, readable at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub id: u64,
    pub region_id: u64,
    pub state: PeerState,
    pub term: u64,
    pub commit_index: u64,
    pub last_applied: u64,
    /// The leader of `term`, as far as this peer knows.
    pub leader: Option<u64>,
    pub last_index: u64,
    pub persisted_index: u64,
}
