//! From arguments to the API's requests; the same for the command line and for the operations of a transaction.

use std::ffi::OsString;

use flaredb_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use flaredb_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::cli::{Consistency, DelArgs, GetArgs, Order, PutArgs, SortBy};
use crate::key_range::KeyRange;
use crate::values::bytes;

/// `put`; the value comes from the arguments or from stdin, so the caller brings it.
pub fn put(args: PutArgs, value: Vec<u8>) -> PutRequest {
    PutRequest {
        key: bytes(args.key).into(),
        value: value.into(),
        lease: args.lease,
        prev_kv: args.prev_kv,
        ignore_value: args.ignore_value,
        ignore_lease: args.ignore_lease,
    }
}

/// `get`.
pub fn range(args: GetArgs) -> RangeRequest {
    let range = key_range(args.key, args.range_end, args.prefix, args.from_key);
    let order = match args.order {
        None => SortOrder::None,
        Some(Order::Ascend) => SortOrder::Ascend,
        Some(Order::Descend) => SortOrder::Descend,
    };
    let target = match args.sort_by {
        None | Some(SortBy::Key) => SortTarget::Key,
        Some(SortBy::Create) => SortTarget::Create,
        Some(SortBy::Modify) => SortTarget::Mod,
        Some(SortBy::Value) => SortTarget::Value,
        Some(SortBy::Version) => SortTarget::Version,
    };
    RangeRequest {
        key: range.key.into(),
        range_end: range.range_end.into(),
        limit: args.limit,
        revision: args.rev,
        sort_order: order.into(),
        sort_target: target.into(),
        serializable: args.serializable || args.consistency == Consistency::Serializable,
        keys_only: args.keys_only,
        count_only: args.count_only,
        ..RangeRequest::default()
    }
}

/// `del`.
pub fn delete_range(args: DelArgs) -> DeleteRangeRequest {
    let range = key_range(args.key, args.range_end, args.prefix, args.from_key);
    DeleteRangeRequest { key: range.key.into(), range_end: range.range_end.into(), prev_kv: args.prev_kv }
}

/// The command line refuses to combine `prefix`, `from_key` and a range end.
fn key_range(key: OsString, range_end: Option<OsString>, prefix: bool, from_key: bool) -> KeyRange {
    let key = bytes(key);
    match range_end {
        _ if prefix => KeyRange::prefix(key),
        _ if from_key => KeyRange::from_key(key),
        Some(range_end) => KeyRange::until(key, bytes(range_end)),
        None => KeyRange::single(key),
    }
}
