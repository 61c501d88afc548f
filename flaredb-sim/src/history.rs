//! What clients did and what they were told: the history that outside checkers judge. The same type for simulated clients and
//! for real ones (flaredb-soak), so that one checker serves both.

use flaredb_kv::{Command, KvError, RangeRequest, RangeResponse, Response};

/// A client's request.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Put, delete, transaction or compaction.
    Write(Command),
    /// A range, linearizable or not (`serializable` says which), perhaps at an old revision.
    Read(RangeRequest),
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Committed and applied. A refusal of the state machine (compacted revision, …) is such an answer too.
    Written(Result<Response, KvError>),
    /// The answer to a read, with the header's revision.
    Read {
        /// The header's.
        revision: i64,
        /// The content, or the refusal.
        result: Result<RangeResponse, KvError>,
    },
    /// Certain never to take effect.
    Never,
    /// It may have taken effect, or may do so later, or never. Also every request without an answer at the end.
    Unknown,
}

/// One request with its answer. Times are of one clock (virtual µs in the simulator, monotonic µs in process tests).
#[derive(Clone, Debug)]
pub struct Record {
    /// Numbers the requests of a run.
    pub id: u64,
    /// A client has one request under way at a time.
    pub client: u64,
    /// Through which member.
    pub node: u64,
    /// When it was sent.
    pub invoked_at: u64,
    /// When the answer was there; of no meaning for `Unknown`.
    pub answered_at: u64,
    /// What was asked.
    pub op: Op,
    /// What was answered.
    pub outcome: Outcome,
}
