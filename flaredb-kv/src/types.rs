//! Requests and answers, in etcd's words (rpc.proto of etcdserverpb, field by field), as plain types.
//!
//! Revisions are i64 as on etcd's wire: negative values can arrive and mean what etcd makes of them.

use bytes::Bytes;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: Bytes,
    pub lease: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    pub limit: i64,
    pub revision: i64,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    pub prev_kv: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    pub compare: Vec<Compare>,
    pub success: Vec<RequestOp>,
    pub failure: Vec<RequestOp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOp {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub result: CompareResult,
    pub target: CompareTarget,
    pub key: Bytes,
    pub range_end: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    Equal,
    Greater,
    Less,
    NotEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(Bytes),
    Lease(i64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactRequest {
    pub revision: i64,
    pub physical: bool,
}

/// A write as it travels through the log. `kind` is stored in the entry's context, the bytes are the request message
/// exactly as the client sent it (etcd's protobuf encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    Put = 1,
    DeleteRange = 2,
    Txn = 3,
    Compact = 4,
}

/// Every answer carries the store's revision after the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub revision: i64,
    pub body: ResponseBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    pub kvs: Vec<KeyValue>,
    pub more: bool,
    pub count: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    pub prev_kv: Option<KeyValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    pub deleted: i64,
    pub prev_kvs: Vec<KeyValue>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    pub succeeded: bool,
    /// One per executed operation; inner revisions are the revision at that point of the transaction.
    pub responses: Vec<Response>,
}

/// An entry handed to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyEntry {
    pub index: u64,
    pub term: u64,
    /// None: nothing to do but to advance the applied index (no-op of a new term).
    pub command: Option<(CommandKind, Bytes)>,
}

/// How far the state machine has come; stored in the same batch as the effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppliedState {
    pub index: u64,
    pub term: u64,
    pub revision: i64,
    pub compact_revision: i64,
}

/// Content hash at a revision; equal on all members at equal (revision, compact_revision).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash {
    pub hash: u32,
    pub revision: i64,
    pub compact_revision: i64,
}

/// Limits a request is checked against before it is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub request_bytes_max: usize,
    pub txn_ops_max: usize,
    pub txn_depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_bytes_max: 1_572_864, txn_ops_max: 128, txn_depth_max: 8 }
    }
}
