//! Whether a request may be made: what can be said from the request alone, before anything is read or written.
//!
//! The checks run twice. Before proposing, with the operator's [`Limits`]. At apply, without them: limits are one member's
//! configuration, and apply must decide the same on every member. Which request is refused with which error, and in which
//! order the checks run, is etcd's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    Command, DeleteRangeRequest, KvError, Limits, PutRequest, RangeRequest, RequestOp, TxnRequest,
    command::TXN_DEPTH_MAX,
};

impl Command {
    /// Refuses what must not be proposed: broken rules and exceeded limits.
    pub fn check(&self, limits: &Limits) -> Result<(), KvError> {
        match self {
            Self::Txn(txn) => txn.check(limits)?,
            other => other.check_rules()?,
        }
        if self.encoded_len() > limits.request_bytes_max { Err(KvError::RequestTooLarge) } else { Ok(()) }
    }

    /// The rules without the limits: what apply holds against every command, identically on every member.
    pub(crate) fn check_rules(&self) -> Result<(), KvError> {
        match self {
            Self::Put(put) => check_put(put),
            Self::DeleteRange(delete) => check_delete(delete),
            Self::Txn(txn) => txn.check_rules(),
            Self::Compact(_) => Ok(()),
        }
    }
}

impl RangeRequest {
    /// Refuses an empty key; everything else about a range depends on the state.
    pub fn check(&self) -> Result<(), KvError> {
        if self.key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
    }
}

impl TxnRequest {
    /// Refuses empty keys, too many or too deeply nested operations, and keys that are changed twice.
    pub fn check(&self, limits: &Limits) -> Result<(), KvError> {
        self.check_within(limits.txn_ops_max, limits.txn_depth_max.min(TXN_DEPTH_MAX))
    }

    /// True if no operation of either branch can write. A nested transaction counts as a write, as in etcd.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, RequestOp::Range(_)))
    }

    /// True if every operation of both branches is a range that asks for no more than local data.
    pub fn is_serializable(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, RequestOp::Range(range) if range.serializable))
    }

    /// [`TxnRequest::check`] without the operator's limits.
    pub(crate) fn check_rules(&self) -> Result<(), KvError> {
        self.check_within(usize::MAX, TXN_DEPTH_MAX)
    }

    fn check_within(&self, ops_max: usize, depth_max: usize) -> Result<(), KvError> {
        check_ops(self, ops_max, depth_max)?;
        changed_keys(&self.success)?;
        changed_keys(&self.failure)?;
        Ok(())
    }
}

fn check_put(put: &PutRequest) -> Result<(), KvError> {
    if put.key.is_empty() {
        Err(KvError::EmptyKey)
    } else if put.ignore_value && !put.value.is_empty() {
        Err(KvError::ValueProvided)
    } else if put.ignore_lease && put.lease != 0 {
        Err(KvError::LeaseProvided)
    } else {
        Ok(())
    }
}

fn check_delete(delete: &DeleteRangeRequest) -> Result<(), KvError> {
    if delete.key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
}

/// etcd counts per level: the longest of the three lists may have `ops_max` members, and a nested transaction may have as
/// many as are then left.
fn check_ops(txn: &TxnRequest, ops_max: usize, depth_max: usize) -> Result<(), KvError> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if ops > ops_max || depth_max == 0 {
        return Err(KvError::TooManyOps);
    }
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(KvError::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            RequestOp::Range(range) => range.check()?,
            RequestOp::Put(put) => check_put(put)?,
            RequestOp::DeleteRange(delete) => check_delete(delete)?,
            RequestOp::Txn(nested) => check_ops(nested, ops_max - ops, depth_max - 1)?,
            // etcd's words for it.
            RequestOp::Nothing => return Err(KvError::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations changes; refuses a key that is put twice, or put and deleted.
///
/// The rule is etcd's with its corners: deletes may overlap each other; the two branches of a nested transaction exclude each
/// other and may put the same key; a nested put is held against deletes of this level and of nested transactions before it,
/// not after it; a delete "from key on" (`range_end` = `\0`) overlaps nothing.
fn changed_keys(ops: &[RequestOp]) -> Result<(BTreeSet<&[u8]>, Spans), KvError> {
    let mut puts = BTreeSet::new();
    let mut deletes = Spans::default();
    for op in ops {
        if let RequestOp::DeleteRange(delete) = op {
            deletes.insert_request(delete);
        }
    }
    for op in ops {
        let RequestOp::Txn(nested) = op else { continue };
        let (success_puts, success_deletes) = changed_keys(&nested.success)?;
        let (failure_puts, failure_deletes) = changed_keys(&nested.failure)?;
        for key in success_puts.union(&failure_puts) {
            if !puts.insert(*key) || deletes.contain(key) {
                return Err(KvError::DuplicateKey);
            }
        }
        deletes.extend(success_deletes);
        deletes.extend(failure_deletes);
    }
    for op in ops {
        let RequestOp::Put(put) = op else { continue };
        if !puts.insert(put.key.as_ref()) || deletes.contain(&put.key) {
            return Err(KvError::DuplicateKey);
        }
    }
    Ok((puts, deletes))
}

/// A set of keys as disjoint spans, start to end (exclusive), so that many overlapping deletes stay cheap to ask.
#[derive(Debug, Default)]
struct Spans(BTreeMap<Bytes, Bytes>);

impl Spans {
    fn insert_request(&mut self, delete: &DeleteRangeRequest) {
        let end = if delete.range_end.is_empty() {
            let mut end = BytesMut::with_capacity(delete.key.len() + 1);
            end.put_slice(&delete.key);
            end.put_u8(0);
            end.freeze()
        } else {
            delete.range_end.clone()
        };
        self.insert(delete.key.clone(), end);
    }

    fn insert(&mut self, start: Bytes, end: Bytes) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        // Every span that touches the new one begins at or before its end; walk them from the right.
        while let Some((other_start, other_end)) = self.0.range(..=end.clone()).next_back() {
            if *other_end < start {
                break;
            }
            let other_start = other_start.clone();
            end = end.max(other_end.clone());
            start = start.min(other_start.clone());
            self.0.remove(&other_start);
        }
        self.0.insert(start, end);
    }

    fn extend(&mut self, other: Spans) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }

    fn contain(&self, key: &[u8]) -> bool {
        self.0
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, end)| key < end.as_ref())
    }
}
