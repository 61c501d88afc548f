//! The KV service. Writes are checked, then proposed; reads are answered here, from a view that is current enough.
//!
//! What it is not: the semantics of a request (flaredb-kv), or consensus (the driver).

use bytes::Bytes;
use flaredb_kv::{
    Command, CommandKind, Limits, RangeRequest, RequestOp, Response as Applied, ResponseBody, TxnRequest,
};
use flaredb_proto::etcdserverpb::CompactionResponse;
use tonic::Status;

use super::{convert, header::Headers, range_answer::RangeAnswer, reads::Reads, status, unary};
use crate::driver::NodeHandle;

/// The service's methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
}

impl Method {
    /// By the path of the call. None: another service's, or nobody's.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path.strip_prefix("/etcdserverpb.KV/")? {
            "Range" => Some(Self::Range),
            "Put" => Some(Self::Put),
            "DeleteRange" => Some(Self::DeleteRange),
            "Txn" => Some(Self::Txn),
            "Compact" => Some(Self::Compact),
            _ => None,
        }
    }
}

pub(super) struct KvService {
    handle: NodeHandle,
    headers: Headers,
    limits: Limits,
    reads: Reads,
}

impl KvService {
    pub(super) fn new(handle: NodeHandle, headers: Headers, limits: Limits, reads: Reads) -> Self {
        Self { handle, headers, limits, reads }
    }

    /// Answers a request message of `method` with a response, framed for gRPC.
    pub(super) async fn call(&self, method: Method, message: Bytes) -> Result<Bytes, Status> {
        let kind = match method {
            Method::Range => return self.range(&message).await,
            Method::Txn => return self.txn(message).await,
            Method::Put => CommandKind::Put,
            Method::DeleteRange => CommandKind::DeleteRange,
            Method::Compact => CommandKind::Compact,
        };
        let command = Command::decode(kind, &message).map_err(status::undecodable)?;
        let applied = self.propose(&command, message).await?;
        self.answer(kind, applied)
    }

    async fn range(&self, message: &Bytes) -> Result<Bytes, Status> {
        let request = RangeRequest::decode(message).map_err(status::undecodable)?;
        request.check().map_err(status::refused)?;
        let reader = if request.serializable {
            self.handle.serializable_reader().map_err(status::read_failed)?
        } else {
            self.handle.linearizable_reader().await.map_err(status::read_failed)?
        };
        let header = self.headers.at(reader.applied().revision);
        // An answer is written where it is read.
        let read = move |steps_max| {
            let mut answer = RangeAnswer::new(&header);
            let summary = reader.range_rows(&request, steps_max, |row| answer.row(&row))?;
            Ok(summary.map(|summary| summary.map(|summary| answer.finish(&summary))))
        };
        self.reads.run_either(read).await?
    }

    async fn txn(&self, message: Bytes) -> Result<Bytes, Status> {
        let txn = TxnRequest::decode(&message).map_err(status::undecodable)?;
        let applied = if txn.is_read_only() {
            self.read_only(txn).await?
        } else {
            self.propose(&Command::Txn(txn), message).await?
        };
        self.answer(CommandKind::Txn, applied)
    }

    /// The answer to a request of this kind.
    fn answer(&self, kind: CommandKind, applied: Applied) -> Result<Bytes, Status> {
        let header = self.headers.at(applied.revision);
        match (kind, applied.body) {
            (CommandKind::Put, ResponseBody::Put(put)) => unary::encode(&convert::put_response(header, put)),
            (CommandKind::DeleteRange, ResponseBody::DeleteRange(delete)) => {
                unary::encode(&convert::delete_response(header, delete))
            }
            (CommandKind::Txn, ResponseBody::Txn(txn)) => unary::encode(&convert::txn_response(header, txn)),
            (CommandKind::Compact, ResponseBody::Compact) => {
                unary::encode(&CompactionResponse { header: Some(header) })
            }
            (_, other) => Err(wrong_kind(&other)),
        }
    }

    /// The limits, then the space, then the log: what is refused here never takes effect. What frees space is let through.
    /// What is proposed are the client's own bytes, in memory of their own: a slice would keep everything alive that the
    /// connection received around them for as long as the log holds them.
    async fn propose(&self, command: &Command, message: Bytes) -> Result<Applied, Status> {
        command.check(&self.limits).map_err(status::refused)?;
        if self.handle.has_no_space() && has_put(command) {
            return Err(status::no_space());
        }
        self.handle.propose(command.kind(), Bytes::copy_from_slice(&message)).await.map_err(status::write_failed)
    }

    /// A transaction that only reads needs no log entry: it is answered from one view.
    async fn read_only(&self, txn: TxnRequest) -> Result<Applied, Status> {
        txn.check(&self.limits).map_err(status::refused)?;
        let reader = if txn.is_serializable() {
            self.handle.serializable_reader().map_err(status::read_failed)?
        } else {
            self.handle.linearizable_reader().await.map_err(status::read_failed)?
        };
        let long = txn.compare.iter().any(|compare| !compare.range_end.is_empty())
            || txn.success.iter().chain(&txn.failure).any(is_long);
        self.reads.run(long, move || reader.txn(&txn)).await
    }
}

/// Whether it may put, in whichever branch, however deep. The depth was checked.
fn has_put(command: &Command) -> bool {
    fn in_txn(txn: &TxnRequest) -> bool {
        txn.success.iter().chain(&txn.failure).any(|op| match op {
            RequestOp::Put(_) => true,
            RequestOp::Txn(txn) => in_txn(txn),
            RequestOp::Range(_) | RequestOp::DeleteRange(_) | RequestOp::Nothing => false,
        })
    }
    match command {
        Command::Put(_) => true,
        Command::Txn(txn) => in_txn(txn),
        Command::DeleteRange(_) | Command::Compact(_) => false,
    }
}

fn is_long(op: &RequestOp) -> bool {
    !matches!(op, RequestOp::Range(range) if range.range_end.is_empty())
}

/// An answer of another kind than the request: our bug, and not the client's concern which.
fn wrong_kind(body: &ResponseBody) -> Status {
    tracing::error!(?body, "an answer of another kind than its request");
    status::internal("an answer of another kind than its request")
}
