//! The KV service. Writes are checked, then proposed; reads are answered here, from a view that is current enough.
//!
//! What it is not: the semantics of a request (flaredb-kv), or consensus (the driver).

use bytes::Bytes;
use flaredb_kv::{Command, CommandKind, Limits, RequestOp, Response as Applied, ResponseBody, TxnRequest};
use flaredb_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest as WireTxn, TxnResponse, kv_server::Kv,
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{convert, header::Headers, reads::Reads, status};
use crate::driver::NodeHandle;

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

    /// Checks a write and has it committed and applied.
    async fn write(&self, kind: CommandKind, request: &impl Message) -> Result<Applied, Status> {
        let bytes = convert::command(request);
        let command = Command::decode(kind, &bytes).map_err(status::refused)?;
        self.propose(&command, bytes).await
    }

    /// The limits, then the space, then the log: what is refused here never takes effect. What frees space is let through.
    async fn propose(&self, command: &Command, bytes: Bytes) -> Result<Applied, Status> {
        command.check(&self.limits).map_err(status::refused)?;
        if self.handle.has_no_space() && has_put(command) {
            return Err(status::no_space());
        }
        self.handle.propose(command.kind(), bytes).await.map_err(status::write_failed)
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

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = convert::range_request(request.get_ref()).map_err(status::refused)?;
        request.check().map_err(status::refused)?;
        let reader = if request.serializable {
            self.handle.serializable_reader().map_err(status::read_failed)?
        } else {
            self.handle.linearizable_reader().await.map_err(status::read_failed)?
        };
        let header = self.headers.at(reader.applied().revision);
        let long = !request.range_end.is_empty();
        let answer = self
            .reads
            .run(long, move || Ok(reader.range(&request)?.map(|range| convert::range_response(header, range))));
        Ok(Response::new(answer.await?))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let applied = self.write(CommandKind::Put, request.get_ref()).await?;
        match applied.body {
            ResponseBody::Put(put) => Ok(Response::new(convert::put_response(self.headers.at(applied.revision), put))),
            other => Err(wrong_kind(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let applied = self.write(CommandKind::DeleteRange, request.get_ref()).await?;
        match applied.body {
            ResponseBody::DeleteRange(delete) => {
                Ok(Response::new(convert::delete_response(self.headers.at(applied.revision), delete)))
            }
            other => Err(wrong_kind(&other)),
        }
    }

    async fn txn(&self, request: Request<WireTxn>) -> Result<Response<TxnResponse>, Status> {
        let bytes = convert::command(request.get_ref());
        let txn = TxnRequest::decode(&bytes).map_err(status::refused)?;
        let applied = if txn.is_read_only() {
            self.read_only(txn).await?
        } else {
            self.propose(&Command::Txn(txn), bytes).await?
        };
        match applied.body {
            ResponseBody::Txn(txn) => Ok(Response::new(convert::txn_response(self.headers.at(applied.revision), txn))),
            other => Err(wrong_kind(&other)),
        }
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        let applied = self.write(CommandKind::Compact, request.get_ref()).await?;
        match applied.body {
            ResponseBody::Compact => {
                Ok(Response::new(CompactionResponse { header: Some(self.headers.at(applied.revision)) }))
            }
            other => Err(wrong_kind(&other)),
        }
    }
}
