//! What peers say to each other. Never a local event: see `Event` for those.

use crate::{EntryId, RaftLogEntry, SnapshotMeta};
use alloc::vec::Vec;
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: u64,
    pub to: u64,
    pub region_id: u64,
    /// The sender's term; in a PreVote the term it would campaign in (current + 1), in a granted PreVoteResponse that
    /// same term, in a refused one the voter's own term.
    pub term: u64,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    PreVote { last: EntryId },
    PreVoteResponse { granted: bool },
    /// `transfer`: the leader itself asked for this election (TimeoutNow), so voters do not wait out its lease.
    RequestVote { last: EntryId, transfer: bool },
    RequestVoteResponse { granted: bool },
    /// Replication and, when `entries` is empty, heartbeat. `round` is made by the leader, rises within its term, and is
    /// echoed: it confirms leadership for every read registered at or before it (R5).
    AppendEntries { prev: EntryId, commit_index: u64, round: u64, entries: Vec<RaftLogEntry> },
    AppendEntriesResponse { round: u64, result: AppendResult },
    /// Announces a snapshot whose payload the host has already received whole and made durable beside the live state.
    InstallSnapshot { snapshot: SnapshotMeta },
    /// Start an election at once (leadership transfer).
    TimeoutNow,
    /// A follower asks for a read index. `id` is unique over all attempts and incarnations of the asking peer.
    ReadIndex { id: u64 },
    /// `index` is None if the asked peer could not answer (not leader, lost leadership).
    ReadIndexResponse { id: u64, index: Option<u64> },
    /// A follower hands proposals to the leader of this term. `seq` rises per sender and leadership, so that a repeated
    /// or late copy is dropped instead of applied twice (B68).
    Propose { seq: u64, proposals: Vec<ForwardedProposal> },
    /// The leader refused the forwarded proposals with these tickets; they were never appended.
    ProposeRefused { tickets: Vec<u64>, reason: crate::RefuseReason },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedProposal {
    pub ticket: u64,
    pub command: Bytes,
    pub context: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResult {
    /// Everything up to `match_index` equals the leader's log and is durable here.
    Accepted { match_index: u64 },
    /// `prev` (index `prev_index`) did not match. `hint`: the follower's best guess of where the logs still agree
    /// (term and index, both sides skip whole terms).
    Rejected { prev_index: u64, hint: EntryId },
}
