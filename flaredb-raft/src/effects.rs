//! What a peer asks its host to do. The host destructures this without `..`, so that a new effect does not compile until it
//! is handled.
//!
//! The host's duties, in order:
//! 1. hand `write` to the log (one atomic batch, one sync); at most one is out at a time, the peer sees to that;
//! 2. send `send_now` at once, beside the write;
//! 3. send `send_after_write` only when `write` of the *same* Effects is durable (if `write` is None this is empty);
//! 4. apply `apply` in order, answer `reads_ready` once applied reaches the index;
//! 5. report `WriteDone`, `Applied` and so on as events.

use crate::{HardState, Message, RaftLogEntry, SnapshotMeta};
use alloc::vec::Vec;

/// What the host has to do now; empty parts are nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Effects {
    /// Make this durable, then report `WriteDone`.
    pub write: Option<Write>,
    /// Send at once.
    pub send_now: Vec<Message>,
    /// Send when `write` is durable, not before.
    pub send_after_write: Vec<Message>,
    /// Newly committed entries in order, without holes; the no-op of a new term is among them (empty command).
    pub apply: Vec<RaftLogEntry>,
    /// Reads that have their index.
    pub reads_ready: Vec<ReadReady>,
    /// Reads that cannot be answered now (no leader, leadership lost). Safe to ask again with a new id.
    pub reads_failed: Vec<u64>,
    /// Proposals that never take effect.
    pub refused: Vec<Refused>,
    /// Replace the whole state (data, log, conf state) by the staged snapshot of this position, atomically, then report
    /// `SnapshotInstalled`. Of the hard state term and vote stay as they are on disk, commit_index becomes the snapshot's. No
    /// write is out and none is asked for until then. Several snapshots may be staged when this comes; keep them apart by
    /// position.
    pub install: Option<SnapshotMeta>,
    /// Make a snapshot of the applied state and transfer it, then report `SnapshotSent`.
    pub send_snapshot: Vec<SendSnapshot>,
    /// Set if the leader changed since the last Effects.
    pub leadership: Option<LeadershipChange>,
}

/// One atomic, durable batch: the hard state and the entries (replacing everything from the first entry's index on).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Rises by one with every write; comes back in `Event::WriteDone`.
    pub id: u64,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// May be empty.
    pub entries: Vec<RaftLogEntry>,
    /// False only if nothing but commit_index moved: then the batch need not be synced (R3).
    pub sync: bool,
}

/// The answer to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadReady {
    /// The id it was asked with.
    pub id: u64,
    /// The read may be served from any state that has applied at least this index.
    pub index: u64,
}

/// A proposal that was not appended anywhere and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// The ticket it was proposed with.
    pub ticket: u64,
    /// Why.
    pub reason: RefuseReason,
}

/// Why a proposal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefuseReason {
    /// No leader is known.
    NoLeader,
    /// The bytes of uncommitted entries have reached their limit.
    TooManyUncommitted,
    /// Leadership is being handed over.
    Transferring,
}

/// A follower needs entries that were compacted away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SendSnapshot {
    /// The follower.
    pub to: u64,
    /// The term in which the sender leads.
    pub term: u64,
}

/// The leader this peer follows (or that it is itself) changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeadershipChange {
    /// None while there is none known.
    pub leader: Option<u64>,
    /// This peer's term.
    pub term: u64,
    /// True if this peer led until now: what its clients wait for has an unknown outcome.
    pub lost_leadership: bool,
    /// One line for the log: why.
    pub reason: &'static str,
}
