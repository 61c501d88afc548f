//! Between the checker's plain types and etcd's messages.

use flaredb_kv::{
    Command, DeleteRangeResponse, KeyValue, KvError, PutResponse, RangeRequest, RangeResponse, Response, ResponseBody,
    TxnResponse,
};
use flaredb_proto::{etcdserverpb as pb, mvccpb};
use prost::Message;

/// A write as the message to send.
#[derive(Debug)]
pub(super) enum Request {
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
}

/// Our encoder's bytes are a message: one of ours that is not is a bug, told as `None`.
pub(super) fn request(command: &Command) -> Option<Request> {
    let bytes = command.encode();
    Some(match command {
        Command::Put(_) => Request::Put(pb::PutRequest::decode(bytes).ok()?),
        Command::DeleteRange(_) => Request::DeleteRange(pb::DeleteRangeRequest::decode(bytes).ok()?),
        Command::Txn(_) => Request::Txn(pb::TxnRequest::decode(bytes).ok()?),
        Command::Compact(_) => Request::Compact(pb::CompactionRequest::decode(bytes).ok()?),
    })
}

pub(super) fn range_request(request: &RangeRequest) -> Option<pb::RangeRequest> {
    pb::RangeRequest::decode(request.encode()).ok()
}

fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// With the header's revision.
pub(super) fn range(answer: pb::RangeResponse) -> (i64, RangeResponse) {
    let revision = revision(answer.header.as_ref());
    let kvs = answer.kvs.into_iter().map(key_value).collect();
    (revision, RangeResponse { kvs, more: answer.more, count: answer.count })
}

pub(super) fn put(answer: pb::PutResponse) -> Response {
    let revision = revision(answer.header.as_ref());
    Response { revision, body: ResponseBody::Put(PutResponse { prev_kv: answer.prev_kv.map(key_value) }) }
}

pub(super) fn delete(answer: pb::DeleteRangeResponse) -> Response {
    let revision = revision(answer.header.as_ref());
    let prev_kvs = answer.prev_kvs.into_iter().map(key_value).collect();
    Response { revision, body: ResponseBody::DeleteRange(DeleteRangeResponse { deleted: answer.deleted, prev_kvs }) }
}

pub(super) fn compact(answer: &pb::CompactionResponse) -> Response {
    Response { revision: revision(answer.header.as_ref()), body: ResponseBody::Compact }
}

pub(super) fn txn(answer: pb::TxnResponse) -> Response {
    use pb::response_op::Response as Inner;
    let revision = revision(answer.header.as_ref());
    let responses = answer
        .responses
        .into_iter()
        .filter_map(|op| {
            Some(match op.response? {
                Inner::ResponseRange(inner) => {
                    let (revision, body) = range(inner);
                    Response { revision, body: ResponseBody::Range(body) }
                }
                Inner::ResponsePut(inner) => put(inner),
                Inner::ResponseDeleteRange(inner) => delete(inner),
                Inner::ResponseTxn(inner) => txn(inner),
            })
        })
        .collect();
    Response { revision, body: ResponseBody::Txn(TxnResponse { succeeded: answer.succeeded, responses }) }
}

/// A refusal by the rules of the store; None for every other error.
pub(super) fn refusal(status: &tonic::Status) -> Option<KvError> {
    [
        KvError::EmptyKey,
        KvError::KeyNotFound,
        KvError::ValueProvided,
        KvError::LeaseProvided,
        KvError::TooManyOps,
        KvError::DuplicateKey,
        KvError::InvalidSortOption,
        KvError::RequestTooLarge,
        KvError::Compacted,
        KvError::FutureRevision,
        KvError::LeaseNotFound,
        KvError::Malformed,
    ]
    .into_iter()
    .find(|error| error.to_string() == status.message())
}
