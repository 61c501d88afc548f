//! Bytes to commands of the state machine, over few keys and small numbers, so that commands meet each other.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use flaredb_kv::{
    Command, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest, RangeRequest,
    RequestOp, SortOrder, SortTarget, TxnRequest,
};

/// A command of any kind.
pub(crate) fn command(u: &mut Unstructured<'_>) -> Result<Command> {
    Ok(match u.int_in_range(0..=7)? {
        0..=2 => Command::Put(put(u)?),
        3 => Command::DeleteRange(delete(u)?),
        4..=6 => Command::Txn(txn(u, 0)?),
        _ => Command::Compact(CompactRequest { revision: number(u)?, physical: u.arbitrary()? }),
    })
}

/// A transaction; `depth` says how many are around it.
pub(crate) fn txn(u: &mut Unstructured<'_>, depth: usize) -> Result<TxnRequest> {
    let mut request = TxnRequest::default();
    for _ in 0..u.int_in_range(0..=2)? {
        request.compare.push(compare(u)?);
    }
    for _ in 0..u.int_in_range(0..=4)? {
        request.success.push(op(u, depth)?);
    }
    for _ in 0..u.int_in_range(0..=3)? {
        request.failure.push(op(u, depth)?);
    }
    Ok(request)
}

fn op(u: &mut Unstructured<'_>, depth: usize) -> Result<RequestOp> {
    Ok(match u.int_in_range(0..=15)? {
        0..=5 => RequestOp::Put(put(u)?),
        6..=8 => RequestOp::DeleteRange(delete(u)?),
        9..=12 => RequestOp::Range(range(u)?),
        13 | 14 if depth < 4 => RequestOp::Txn(txn(u, depth + 1)?),
        _ if depth == 3 => RequestOp::Nothing,
        _ => RequestOp::Put(put(u)?),
    })
}

fn compare(u: &mut Unstructured<'_>) -> Result<Compare> {
    let target = match u.int_in_range(0..=4)? {
        0 => CompareTarget::Version(number(u)?),
        1 => CompareTarget::Create(number(u)?),
        2 => CompareTarget::Mod(number(u)?),
        3 => CompareTarget::Value(value(u)?),
        _ => CompareTarget::Lease(number(u)?),
    };
    let result =
        *u.choose(&[CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual])?;
    Ok(Compare { result, target, key: key(u)?, range_end: range_end(u)? })
}

fn put(u: &mut Unstructured<'_>) -> Result<PutRequest> {
    let lease = if u.ratio(1, 16)? { number(u)? } else { 0 };
    let flags: u8 = u.arbitrary()?;
    Ok(PutRequest {
        key: key(u)?,
        value: value(u)?,
        lease,
        prev_kv: flags & 1 != 0,
        ignore_value: flags & 14 == 14,
        ignore_lease: flags & 112 == 112,
    })
}

fn delete(u: &mut Unstructured<'_>) -> Result<DeleteRangeRequest> {
    Ok(DeleteRangeRequest { key: key(u)?, range_end: range_end(u)?, prev_kv: u.arbitrary()? })
}

/// A range of any shape.
pub(crate) fn range(u: &mut Unstructured<'_>) -> Result<RangeRequest> {
    let flags: u8 = u.arbitrary()?;
    let bound = |u: &mut Unstructured<'_>| if u.ratio(1, 4)? { number(u) } else { Ok(0) };
    Ok(RangeRequest {
        key: key(u)?,
        range_end: range_end(u)?,
        limit: bound(u)?,
        revision: bound(u)?,
        sort_order: *u.choose(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend])?,
        sort_target: *u.choose(&[
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ])?,
        serializable: flags & 1 != 0,
        keys_only: flags & 2 != 0,
        count_only: flags & 12 == 12,
        min_mod_revision: bound(u)?,
        max_mod_revision: bound(u)?,
        min_create_revision: bound(u)?,
        max_create_revision: bound(u)?,
    })
}

fn key(u: &mut Unstructured<'_>) -> Result<Bytes> {
    const KEYS: [&[u8]; 8] = [b"a", b"b", b"c", b"a\0", b"\xff", b"\0", b"abc", b""];
    Ok(match u.int_in_range(0..=15_u8)? {
        at @ 0..=6 => Bytes::from_static(KEYS.get(usize::from(at)).copied().unwrap_or(b"a")),
        7 if u.ratio(1, 8)? => Bytes::new(),
        15 => value(u)?,
        at => Bytes::copy_from_slice(&[b'a' + at % 4]),
    })
}

fn range_end(u: &mut Unstructured<'_>) -> Result<Bytes> {
    Ok(match u.int_in_range(0..=7_u8)? {
        0..=3 => Bytes::new(),
        4 => Bytes::from_static(b"\0"),
        _ => key(u)?,
    })
}

fn value(u: &mut Unstructured<'_>) -> Result<Bytes> {
    let length = u.int_in_range(0..=4)?;
    Ok(Bytes::copy_from_slice(u.bytes(length)?))
}

/// Small, as a rule.
fn number(u: &mut Unstructured<'_>) -> Result<i64> {
    Ok(match u.arbitrary::<u8>()? {
        255 => i64::MAX,
        254 => i64::MIN,
        253 => -1,
        252 => u.arbitrary()?,
        small => i64::from(small % 24),
    })
}
