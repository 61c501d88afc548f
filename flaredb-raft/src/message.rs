//! What peers say to each other. Never a local event: see `Event` for those.

use crate::{EntryId, RaftLogEntry, RefuseReason, SnapshotMeta};
use alloc::vec::Vec;
use bytes::Bytes;

/// One message from one peer to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender.
    pub from: u64,
    /// The receiver.
    pub to: u64,
    /// The region both take part in.
    pub region_id: u64,
    /// The sender's term; in a PreVote the term it would campaign in (current + 1), in a granted PreVoteResponse that
    /// same term, in a refused one the voter's own term.
    pub term: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says. Named after the paper's RPCs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me? Changes nothing at the receiver (R7).
    PreVote {
        /// The end of the sender's log.
        last: EntryId,
    },
    /// Answer to a PreVote.
    PreVoteResponse {
        /// In favour.
        granted: bool,
    },
    /// Vote for me in my term.
    RequestVote {
        /// The end of the sender's log.
        last: EntryId,
        /// The leader itself asked for this election (TimeoutNow), so voters do not wait until it is silent.
        transfer: bool,
    },
    /// Answer to a RequestVote; sent when it is durable.
    RequestVoteResponse {
        /// In favour.
        granted: bool,
    },
    /// Replication and, when `entries` is empty, heartbeat.
    AppendEntries {
        /// The position right before the entries; the receiver's log must have it.
        prev: EntryId,
        /// The sender's commit index; holds for the receiver only up to the last entry of this message.
        commit_index: u64,
        /// Made by the leader, rises within its term, and is echoed: it confirms leadership for every read registered at or
        /// before it (R5).
        round: u64,
        /// From `prev.index + 1` on, without holes.
        entries: Vec<RaftLogEntry>,
    },
    /// Answer to an AppendEntries. Whatever the result, it confirms the leader of its term for `round`.
    AppendEntriesResponse {
        /// That of the request; 0 if the answer confirms no round.
        round: u64,
        /// What became of it.
        result: AppendResult,
    },
    /// A follower will neither vote nor campaign for a while (lease reads): sent beside the answer to an append.
    Pledge {
        /// The latest round heard.
        round: u64,
        /// For so many µs of the sender's clock after it heard that round. Never 0.
        for_us: u64,
    },
    /// Announces a snapshot whose payload the host has already received whole and made durable beside the live state.
    InstallSnapshot {
        /// Where it stands.
        snapshot: SnapshotMeta,
    },
    /// Start an election at once (leadership transfer).
    TimeoutNow,
    /// A follower asks for a read index.
    ReadIndex {
        /// Unique over all attempts and incarnations of the asking peer.
        id: u64,
    },
    /// Answer to a ReadIndex.
    ReadIndexResponse {
        /// That of the request.
        id: u64,
        /// None if the asked peer could not answer (not leader, lost leadership).
        index: Option<u64>,
    },
    /// A follower hands proposals to the leader of this term.
    Propose {
        /// Rises per sender within a term, so that a repeated or late copy is dropped instead of applied twice (B68). The upper
        /// 24 bits tell the sender's incarnations apart.
        seq: u64,
        /// In the order they were proposed.
        proposals: Vec<ForwardedProposal>,
    },
    /// The leader refused the forwarded proposals with these tickets; they were never appended.
    ProposeRefused {
        /// `ForwardedProposal::ticket` of each.
        tickets: Vec<u64>,
        /// Why.
        reason: RefuseReason,
    },
}

/// One of the proposals of a `Propose`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForwardedProposal {
    /// The sender's number for it; never used again by that sender.
    pub ticket: u64,
    /// As in `Event::Propose`.
    pub command: Bytes,
    /// As in `Event::Propose`.
    pub context: Option<Bytes>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendResult {
    /// Everything up to `match_index` equals the leader's log and is durable here.
    Accepted {
        /// Never more than is durable.
        match_index: u64,
    },
    /// `prev` (index `prev_index`) did not match. `hint`: the follower's best guess of where the logs still agree
    /// (term and index, both sides skip whole terms).
    Rejected {
        /// That of the request.
        prev_index: u64,
        /// At or before `prev_index`.
        hint: EntryId,
    },
    /// As `Rejected`, from a follower that is recovering (R15): its disk lost the position, or is an old copy and has another
    /// entry there, though it may have acknowledged it once. Whatever it acknowledged beyond `last` does not hold any more.
    Lost {
        /// The follower's best guess of where the logs still agree: durable there, and before the position that was asked about.
        last: EntryId,
    },
}
