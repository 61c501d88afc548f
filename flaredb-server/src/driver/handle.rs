//! What the rest of the server holds of a node: propose, read, look. Cheap to clone, usable from any thread.

use super::shared::{NodeStatus, Shared};
use bytes::Bytes;
use flaredb_kv::{AppliedState, CommandKind, KvError, KvReader, Response};
use flaredb_raft::PeerStatus;
use flaredb_storage::DataReader;
use std::sync::Arc;
use tokio::{
    sync::{mpsc, oneshot},
    task::unconstrained,
};

/// Requests that may wait for the driver's next turn; what it has taken is bounded by the replica.
pub(super) const REQUESTS_MAX: usize = 8192;
/// Bytes of commands that may wait for the driver's next turn.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Committed, applied and refused by the state machine: no effect, now or later.
    #[error(transparent)]
    Refused(#[from] KvError),
    /// No leader was found in time. Never takes effect.
    #[error("no leader")]
    NoLeader,
    /// Too much is under way. Never takes effect.
    #[error("too many requests")]
    TooManyRequests,
    /// The leader was lost while the request was under way. A write may take effect or not.
    #[error("the leader was lost, the outcome is unknown")]
    LeaderLost,
    /// No answer in time. A write may take effect or not.
    #[error("timed out, the outcome is unknown")]
    Timeout,
    /// This node stops or has stopped. A write that was under way may take effect or not.
    #[error("this node has stopped")]
    Stopped,
    /// This node cannot go on.
    #[error("{0}")]
    Internal(String),
}

/// The outcome of a write.
pub(super) type WriteOutcome = Result<Response, RequestError>;
/// The outcome of a linearizable read: a reader that shows everything it must.
pub(super) type ReadOutcome = Result<KvReader<DataReader>, RequestError>;

/// What a handle asks of the driver.
pub(super) enum Request {
    Propose {
        ticket: u64,
        kind: CommandKind,
        command: Bytes,
        outcome: oneshot::Sender<WriteOutcome>,
    },
    Read {
        ticket: u64,
        outcome: oneshot::Sender<ReadOutcome>,
    },
    Cancel {
        ticket: u64,
    },
    /// Hand leadership to this member, or to the best one.
    Transfer {
        to: Option<u64>,
    },
}

/// A running node, for those who send it requests.
#[derive(Clone)]
pub struct NodeHandle {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

impl NodeHandle {
    pub(super) fn new(shared: Arc<Shared>, requests: mpsc::Sender<Request>) -> Self {
        Self { shared, requests }
    }

    /// Replicates a write; returns once it is committed and applied here. `command` is the client's request message,
    /// unchanged and already checked against the limits. A caller that stops waiting frees its place; the write may
    /// still take effect.
    ///
    /// # Errors
    /// [`RequestError`]; its variants say whether the write can still take effect.
    pub async fn propose(&self, kind: CommandKind, command: Bytes) -> Result<Response, RequestError> {
        let bytes = u64::try_from(command.len()).unwrap_or(u64::MAX);
        if !self.shared.reserve_request_bytes(bytes, REQUEST_BYTES_MAX) {
            return Err(self.over_limit());
        }
        let waiting = Waiting::new(self);
        let (outcome, receiver) = oneshot::channel();
        let sent = self.send(Request::Propose { ticket: waiting.ticket, kind, command, outcome });
        if let Err(error) = sent {
            self.shared.release_request_bytes(bytes);
            waiting.settle();
            return Err(error);
        }
        let outcome = answer(receiver).await;
        waiting.settle();
        outcome
    }

    /// A reader that shows every write that was acknowledged anywhere before this call.
    ///
    /// # Errors
    /// [`RequestError`]; asking again is always safe.
    pub async fn linearizable_reader(&self) -> Result<KvReader<DataReader>, RequestError> {
        let waiting = Waiting::new(self);
        let (outcome, receiver) = oneshot::channel();
        if let Err(error) = self.send(Request::Read { ticket: waiting.ticket, outcome }) {
            waiting.settle();
            return Err(error);
        }
        let outcome = answer(receiver).await;
        waiting.settle();
        outcome
    }

    /// A reader on what this node has applied by now; it may be behind the others. Never waits.
    ///
    /// # Errors
    /// `Stopped`: a handle may outlive its node, the data does not.
    pub fn serializable_reader(&self) -> Result<KvReader<DataReader>, RequestError> {
        self.shared.reader().ok_or(RequestError::Stopped)
    }

    /// Everything there is to see of this node. Copies texts; see `peer` and `applied` for the cheap parts.
    pub fn status(&self) -> NodeStatus {
        self.shared.status()
    }

    /// The peer, as the specification names it.
    pub fn peer(&self) -> PeerStatus {
        self.shared.peer()
    }

    /// How far the state machine has come.
    pub fn applied(&self) -> AppliedState {
        self.shared.applied()
    }

    /// True while this node's data is larger than its quota, or its disk nearly full: puts shall be refused instead of
    /// proposed. At most a second old, and cheap enough to ask for every request.
    pub fn has_no_space(&self) -> bool {
        self.shared.has_no_space()
    }

    /// Starts handing leadership to `to`, or to the member that is furthest along. Does nothing if this node does not lead;
    /// whether it worked shows in `peer`.
    ///
    /// # Errors
    /// `TooManyRequests` or `Stopped`.
    pub fn transfer_leadership(&self, to: Option<u64>) -> Result<(), RequestError> {
        self.send(Request::Transfer { to })
    }

    fn send(&self, request: Request) -> Result<(), RequestError> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => self.over_limit(),
            mpsc::error::TrySendError::Closed(_) => RequestError::Stopped,
        })
    }

    fn over_limit(&self) -> RequestError {
        self.shared.counters().requests_over_limit.add(1);
        RequestError::TooManyRequests
    }
}

/// Not counted against the task's share of a turn: all calls of a connection wait in one task, and are answered in batches.
async fn answer<T>(receiver: oneshot::Receiver<Result<T, RequestError>>) -> Result<T, RequestError> {
    unconstrained(receiver).await.unwrap_or(Err(RequestError::Stopped))
}

/// A ticket that is waited for. Dropped unsettled, it tells the driver that nobody waits any more.
struct Waiting<'a> {
    handle: &'a NodeHandle,
    ticket: u64,
    settled: bool,
}

impl<'a> Waiting<'a> {
    fn new(handle: &'a NodeHandle) -> Self {
        Self { handle, ticket: handle.shared.next_ticket(), settled: false }
    }

    fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.settled {
            // If the queue is full the ticket is freed when its answer or its timeout comes.
            let _ = self.handle.requests.try_send(Request::Cancel { ticket: self.ticket });
        }
    }
}
