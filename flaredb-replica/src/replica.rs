//! The contract between a replica and its host (driver or simulator).

use bytes::Bytes;
use flaredb_kv::{CommandKind, KvError, OrderedStore, Response};
use flaredb_raft::{EntryId, LeadershipChange, Message, RaftStorage, SendSnapshot, SnapshotMeta, StorageError, Write};

/// Settings of a replica: the peer's, plus what concerns clients and the log.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub raft: flaredb_raft::Config,
    /// A proposal or read without an answer after this many ticks is answered `Unknown` / `Timeout`.
    pub request_timeout_ticks: u32,
    /// An unanswered read index is asked again, under a new id, after this many ticks.
    pub read_retry_ticks: u32,
    /// Entries applied since the last log truncation that make a new truncation worth asking for.
    pub snapshot_count: u64,
    /// Entries kept below the truncation point for slow followers.
    pub catch_up_entries: u64,
    /// Proposals are refused (`TooManyRequests`) when commit is ahead of applied by more than this.
    pub apply_lag_max: u64,
}

/// What the host tells the replica.
#[derive(Clone, Debug)]
pub enum Input {
    Tick,
    Receive(Message),
    /// A write, already checked against the limits. `command` is the client's request message, unchanged.
    Propose { ticket: u64, kind: CommandKind, command: Bytes },
    /// A linearizable read; answered `ReadReady` once the state machine has applied what the read must see.
    Read { ticket: u64 },
    /// The client has gone; forget the ticket.
    Cancel { ticket: u64 },
    WriteDone { id: u64 },
    /// The data store has flushed everything up to this applied index to disk: the log may be truncated up to there (R14).
    Flushed { applied_index: u64 },
    SnapshotInstalled { last: EntryId },
    SnapshotSent { to: u64, delivered: bool },
    Unreachable { peer: u64 },
    TransferLeadership { to: u64 },
}

/// What the host must do, in this order; destructured without `..`.
#[derive(Debug, Default)]
pub struct Output {
    pub write: Option<Write>,
    pub send_now: Vec<Message>,
    pub send_after_write: Vec<Message>,
    /// Answers to tickets, each ticket once.
    pub answers: Vec<(u64, Answer)>,
    /// Remove all log entries up to and including this one.
    pub truncate_log: Option<EntryId>,
    pub install: Option<SnapshotMeta>,
    pub send_snapshot: Vec<SendSnapshot>,
    pub leadership: Option<LeadershipChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Committed and applied; the state machine's answer, which may be a definite refusal.
    Applied(Result<Response, KvError>),
    /// The read may be served now from `Replica::kv().reader()`.
    ReadReady,
    /// Never proposed, never takes effect.
    NoLeader,
    TooManyRequests,
    /// The outcome is unknown: leadership was lost while the request was under way.
    LeaderLost,
    /// The outcome is unknown (write) or there was no answer in time (read).
    Timeout,
}

/// Final for the process: the host stops.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error("raft log: {0}")]
    Log(#[from] StorageError),
    #[error("state machine: {0}")]
    Store(#[from] flaredb_kv::StoreError),
    #[error("this node's data does not fit together: {0}")]
    Inconsistent(String),
}

/// A peer with its state machine and waiting clients.
pub struct Replica<L: RaftStorage, S: OrderedStore> {
    _todo: core::marker::PhantomData<(L, S)>,
}
