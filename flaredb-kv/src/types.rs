//! Requests and answers, in etcd's words (rpc.proto of etcdserverpb, field by field), as plain types.
//!
//! Revisions are i64 as on etcd's wire: negative values can arrive and mean what etcd makes of them.

use bytes::Bytes;

/// A key as it is at some revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// Never empty.
    pub key: Bytes,
    /// Revision of the first put since the key was last absent.
    pub create_revision: i64,
    /// Revision of the last put.
    pub mod_revision: i64,
    /// Puts since the key was last absent, from 1.
    pub version: i64,
    /// May be empty.
    pub value: Bytes,
    /// The lease it is attached to; 0 for none.
    pub lease: i64,
}

/// As [`KeyValue`], borrowed from where it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "those of KeyValue")]
pub struct RangeRow<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

impl RangeRow<'_> {
    /// A copy that lives on its own.
    pub fn to_key_value(self) -> KeyValue {
        let Self { key, create_revision, mod_revision, version, value, lease } = self;
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        KeyValue { key, create_revision, mod_revision, version, value, lease }
    }
}

impl<'a> From<&'a KeyValue> for RangeRow<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        let KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
        let (create_revision, mod_revision, version, lease) = (*create_revision, *mod_revision, *version, *lease);
        RangeRow { key, create_revision, mod_revision, version, value, lease }
    }
}

/// Reads one key or a range of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// The key, or the first key of the range.
    pub key: Bytes,
    /// Empty: `key` alone. `\0`: every key from `key` on. Otherwise the end of the range, exclusive.
    pub range_end: Bytes,
    /// At most so many keys; 0 and below: all.
    pub limit: i64,
    /// Read as of this revision; 0 and below: the newest.
    pub revision: i64,
    /// Direction.
    pub sort_order: SortOrder,
    /// What to sort by.
    pub sort_target: SortTarget,
    /// Local data is good enough.
    pub serializable: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Answer with the count alone.
    pub count_only: bool,
    /// Only keys modified at or after this revision; 0: no bound.
    pub min_mod_revision: i64,
    /// Only keys modified at or before this revision; 0: no bound.
    pub max_mod_revision: i64,
    /// Only keys created at or after this revision; 0: no bound.
    pub min_create_revision: i64,
    /// Only keys created at or before this revision; 0: no bound.
    pub max_create_revision: i64,
}

/// Direction of a Range's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// By key, rising; by a target other than the key, rising too.
    #[default]
    None,
    /// Rising.
    Ascend,
    /// Falling.
    Descend,
}

/// What a Range's answer is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key's bytes.
    #[default]
    Key,
    /// Puts since the key was absent.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value's bytes.
    Value,
}

/// Stores a value under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    /// Must not be empty.
    pub key: Bytes,
    /// May be empty.
    pub value: Bytes,
    /// The lease to attach to; 0 detaches.
    pub lease: i64,
    /// Answer with the key as it was before.
    pub prev_kv: bool,
    /// Keep the present value; the key must exist.
    pub ignore_value: bool,
    /// Keep the present lease; the key must exist.
    pub ignore_lease: bool,
}

/// Deletes one key or a range of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    /// As in [`RangeRequest`].
    pub key: Bytes,
    /// As in [`RangeRequest`].
    pub range_end: Bytes,
    /// Answer with the keys as they were before.
    pub prev_kv: bool,
}

/// If all comparisons hold, do this, or else do that; as one change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnRequest {
    /// All must hold; none means yes.
    pub compare: Vec<Compare>,
    /// Done if they do.
    pub success: Vec<RequestOp>,
    /// Done if they do not.
    pub failure: Vec<RequestOp>,
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOp {
    /// Read.
    Range(RangeRequest),
    /// Store.
    Put(PutRequest),
    /// Delete.
    DeleteRange(DeleteRangeRequest),
    /// A transaction within; its comparisons see the state before the outermost one.
    Txn(TxnRequest),
    /// Not said, or nothing that this version knows. A transaction with it is refused.
    Nothing,
}

/// A comparison of one key, or of every key of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// How the key's property must stand to the given one.
    pub result: CompareResult,
    /// Which property, and what it is compared with.
    pub target: CompareTarget,
    /// As in [`RangeRequest`].
    pub key: Bytes,
    /// As in [`RangeRequest`].
    pub range_end: Bytes,
}

/// How the key's property stands to the given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// The same.
    Equal,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
    /// Different.
    NotEqual,
}

/// Which property of a key, with the value to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// Puts since the key was absent.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value. An absent key fails every value comparison.
    Value(Bytes),
    /// The lease; 0 for none.
    Lease(i64),
}

/// Forgets what was overwritten or deleted up to a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactRequest {
    /// Reads below it are refused afterwards.
    pub revision: i64,
    /// Answer only when the rows are gone.
    pub physical: bool,
}

/// A write as it travels through the log. `kind` is stored in the entry's context, the bytes are the request message
/// exactly as the client sent it (etcd's protobuf encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// [`PutRequest`].
    Put = 1,
    /// [`DeleteRangeRequest`].
    DeleteRange = 2,
    /// [`TxnRequest`].
    Txn = 3,
    /// [`CompactRequest`].
    Compact = 4,
}

/// Every answer carries the store's revision after the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The store's revision after the request, or at this point of a transaction; 0 for a nested transaction, as in etcd.
    pub revision: i64,
    /// What the request asked for.
    pub body: ResponseBody,
}

/// The part of an answer that depends on the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact,
}

/// The keys that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// In the order that was asked for.
    pub kvs: Vec<KeyValue>,
    /// The limit cut something off.
    pub more: bool,
    /// Keys in the range, whatever the limit and the filters.
    pub count: i64,
}

/// What is known of a range once all its rows were shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeSummary {
    /// As in [`RangeResponse`].
    pub more: bool,
    /// As in [`RangeResponse`].
    pub count: i64,
}

/// What a put answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResponse {
    /// The key before, if it was asked for and existed.
    pub prev_kv: Option<KeyValue>,
}

/// What a delete answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    /// Number of keys.
    pub deleted: i64,
    /// The keys before, in key order, if they were asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// What a transaction answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// All comparisons held.
    pub succeeded: bool,
    /// One per executed operation; inner revisions are the revision at that point of the transaction.
    pub responses: Vec<Response>,
}

/// An entry handed to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyEntry {
    /// Its place in the log.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// None: nothing to do but to advance the applied index (no-op of a new term).
    pub command: Option<(CommandKind, Bytes)>,
}

/// How far the state machine has come; stored in the same batch as the effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// Index of the last applied entry; 0: none.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The store's revision; 1 for an empty store.
    pub revision: i64,
    /// The last applied compaction's revision; -1 before the first, as in etcd.
    pub compact_revision: i64,
}

/// Content hash at a revision; equal on all members at equal (revision, compact_revision).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash {
    /// The hash.
    pub hash: u32,
    /// The revision it was taken at.
    pub revision: i64,
    /// The compact revision it was taken with.
    pub compact_revision: i64,
}

/// Limits a request is checked against before it is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of a request's message, in bytes.
    pub request_bytes_max: usize,
    /// Comparisons, or operations of a branch, whichever are most; nested transactions share what is left.
    pub txn_ops_max: usize,
    /// Transactions inside each other, the outermost included.
    pub txn_depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_bytes_max: 1_572_864, txn_ops_max: 128, txn_depth_max: 8 }
    }
}
