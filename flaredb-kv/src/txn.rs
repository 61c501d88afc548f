//! What a transaction decides before it executes: which branches run, and whether all their operations can.
//!
//! All comparisons, nested ones included, see the state before the transaction. Execution is `apply.rs` for transactions that
//! may write and `reader.rs` for those that only read.

use std::{cmp::Ordering, ops::ControlFlow};

use crate::{
    Compare, CompareResult, CompareTarget, KvError, PutRequest, RangeRequest, RequestOp, Stop, StoreError, TxnRequest,
    layout::{RowHeader, RowRevision},
    scan::{LiveRow, Span, View, scan},
};

/// The outcome of the comparisons: which branch, and the same for each nested transaction of that branch, in order.
pub(crate) struct Decision {
    pub(crate) succeeded: bool,
    pub(crate) nested: Vec<Decision>,
}

impl Decision {
    /// Compares against the state of `view`, whose newest revision is `current`.
    pub(crate) fn of<V: View>(txn: &TxnRequest, view: &mut V, current: i64) -> Result<Self, StoreError> {
        let mut succeeded = true;
        for compare in &txn.compare {
            if !holds(compare, view, current)? {
                succeeded = false;
                break;
            }
        }
        let mut nested = Vec::new();
        for op in branch(txn, succeeded) {
            if let RequestOp::Txn(inner) = op {
                nested.push(Self::of(inner, view, current)?);
            }
        }
        Ok(Self { succeeded, nested })
    }

    /// The operations that run.
    pub(crate) fn branch<'t>(&self, txn: &'t TxnRequest) -> &'t [RequestOp] {
        branch(txn, self.succeeded)
    }

    /// Refuses the transaction if one of its operations cannot be executed in the state before it. The puts of all levels
    /// are looked at before the first range, as in etcd: that decides which refusal a transaction with two faults gets.
    pub(crate) fn check<V: View>(
        &self,
        txn: &TxnRequest,
        view: &mut V,
        current: i64,
        compact_revision: i64,
    ) -> Result<(), Stop> {
        self.try_each(txn, &mut |op| match op {
            RequestOp::Put(put) => check_put(put, view, current),
            _ => Ok(()),
        })?;
        self.try_each(txn, &mut |op| match op {
            RequestOp::Range(range) => Ok(check_range(range, current, compact_revision)?),
            _ => Ok(()),
        })
    }

    /// Visits every operation that runs, nested ones where they stand, until one fails.
    fn try_each(&self, txn: &TxnRequest, visit: &mut dyn FnMut(&RequestOp) -> Result<(), Stop>) -> Result<(), Stop> {
        let mut nested = self.nested.iter();
        for op in self.branch(txn) {
            if let RequestOp::Txn(inner) = op {
                let decision = nested.next();
                assert!(decision.is_some(), "every nested transaction of the branch has a decision");
                if let Some(decision) = decision {
                    decision.try_each(inner, visit)?;
                }
            } else {
                visit(op)?;
            }
        }
        Ok(())
    }
}

fn branch(txn: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// Stricter than a Range of its own: inside a transaction a negative revision is a compacted one, as in etcd.
fn check_range(range: &RangeRequest, current: i64, compact_revision: i64) -> Result<(), KvError> {
    if range.revision == 0 {
        Ok(())
    } else if range.revision > current {
        Err(KvError::FutureRevision)
    } else if range.revision < compact_revision {
        Err(KvError::Compacted)
    } else {
        Ok(())
    }
}

fn check_put<V: View>(put: &PutRequest, view: &mut V, current: i64) -> Result<(), Stop> {
    if put.ignore_value || put.ignore_lease {
        let span = Span::new(&put.key, b"");
        let exists = if let Some(known) = view.known(&span.start) {
            known.is_some()
        } else {
            let mut exists = false;
            scan(&mut view.cursor(&span)?, &span, current, |_| {
                exists = true;
                Ok(ControlFlow::Break(()))
            })?;
            exists
        };
        if !exists {
            return Err(KvError::KeyNotFound.into());
        }
    }
    check_lease(put.lease)?;
    Ok(())
}

/// Leases cannot be granted yet, so that none exists.
pub(crate) fn check_lease(lease: i64) -> Result<(), KvError> {
    if lease == 0 { Ok(()) } else { Err(KvError::LeaseNotFound) }
}

/// True if the comparison holds for every key of its range. A range without keys compares as one key of zeros; only a value
/// comparison fails there, even "not equal": a missing value is not an empty one.
fn holds<V: View>(compare: &Compare, view: &mut V, current: i64) -> Result<bool, StoreError> {
    let span = Span::new(&compare.key, &compare.range_end);
    let absent = LiveRow {
        prefix: &[],
        revision: RowRevision::default(),
        header: RowHeader { create_revision: 0, version: 0, lease: 0 },
        value: &[],
    };
    if span.is_point()
        && !matches!(compare.target, CompareTarget::Value(_))
        && let Some(known) = view.known(&span.start)
    {
        let row = known.map_or(absent, |(revision, header)| LiveRow { revision, header, prefix: &[], value: &[] });
        return Ok(holds_for(compare, &row));
    }
    let (mut found, mut holds) = (false, true);
    scan(&mut view.cursor(&span)?, &span, current, |row| {
        found = true;
        holds = holds_for(compare, &row);
        Ok(if holds { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    if found {
        return Ok(holds);
    }
    Ok(!matches!(compare.target, CompareTarget::Value(_)) && holds_for(compare, &absent))
}

fn holds_for(compare: &Compare, row: &LiveRow<'_>) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(version) => row.header.version.cmp(version),
        CompareTarget::Create(revision) => row.header.create_revision.cmp(revision),
        CompareTarget::Mod(revision) => row.revision.main.cmp(revision),
        CompareTarget::Value(value) => row.value.cmp(value),
        CompareTarget::Lease(lease) => row.header.lease.cmp(lease),
    };
    match compare.result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater if mutant!(GreaterHoldsForEqual) => ordering != Ordering::Less,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}
