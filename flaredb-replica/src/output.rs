//! What the replica asks its host to do, and the answers for the clients.

use flaredb_kv::{KvError, Response};
use flaredb_raft::{EntryId, LeadershipChange, Message, SendSnapshot, SnapshotMeta, StartError, Write};

/// What the host must do, in this order; destructured without `..`.
#[derive(Debug, Default)]
pub struct Output {
    /// Hand this to the log, then report `WriteDone`.
    pub write: Option<Write>,
    /// To be sent at once, beside the write.
    pub send_now: Vec<Message>,
    /// To be sent only when `write` is durable.
    pub send_after_write: Vec<Message>,
    /// Answers to tickets, each ticket once.
    pub answers: Vec<(u64, Answer)>,
    /// Remove all log entries up to and including this one, which is in the durable log.
    pub truncate_log: Option<EntryId>,
    /// Replace the whole state by the staged snapshot, then report `SnapshotInstalled`.
    pub install: Option<SnapshotMeta>,
    /// Send a snapshot to each of these, then report `SnapshotSent`.
    pub send_snapshot: Vec<SendSnapshot>,
    /// For the log and for the host's own view; the replica has seen to its clients already.
    pub leadership: Option<LeadershipChange>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Committed and applied; the state machine's answer, which may be a definite refusal.
    Applied(Result<Response, KvError>),
    /// The read may be served now from `Replica::kv().reader()`.
    ReadReady,
    /// Never proposed, never takes effect: no leader was found in time.
    NoLeader,
    /// Never proposed, never takes effect: too much is under way.
    TooManyRequests,
    /// The outcome is unknown: the leader was lost while the write was under way.
    LeaderLost,
    /// The outcome is unknown (write), or there was no answer in time (read).
    Timeout,
}

/// Final for the process: the host stops.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// A setting of the peer cannot work.
    #[error("unusable setting: {0}")]
    Config(&'static str),
    /// The raft log could not be read.
    #[error("raft log: {0}")]
    Log(#[from] flaredb_raft::StorageError),
    /// The state machine's store failed.
    #[error("state machine: {0}")]
    Store(#[from] flaredb_kv::StoreError),
    /// Log and state machine contradict each other.
    #[error("this node's data does not fit together: {0}")]
    Inconsistent(String),
}

impl From<StartError> for ReplicaError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(text) => Self::Config(text),
            StartError::Storage(error) => Self::Log(error),
            StartError::Voters(_)
            | StartError::CommitPastEnd { .. }
            | StartError::LogHole { .. }
            | StartError::TermBehindLog { .. }
            | StartError::NobodyToRecoverFrom { .. } => Self::Inconsistent(error.to_string()),
        }
    }
}
