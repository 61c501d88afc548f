//! I25, I28: the whole history of a run, judged at its end from the outside, without a look at any log (`history.rs`).

use super::history::{FinalState, HistoryReport, check_history};
use super::violation;
use crate::history::{Op, Outcome, Record};
use crate::observed::Violation;
use bytes::Bytes;
use flaredb_kv::{Kv, MemoryStore, RangeRequest};
use std::collections::BTreeMap;

/// What clients did.
#[derive(Debug, Default)]
pub(crate) struct Linearizability {
    records: Vec<Record>,
    /// Not answered yet.
    waiting: BTreeMap<u64, Record>,
    report: Option<HistoryReport>,
}

impl Linearizability {
    pub(crate) fn invoked(&mut self, at: u64, id: u64, client: u64, node: u64, op: &Op) {
        let record = Record {
            id,
            client,
            node,
            invoked_at: at,
            answered_at: u64::MAX,
            op: op.clone(),
            outcome: Outcome::Unknown,
        };
        self.waiting.insert(id, record);
    }

    pub(crate) fn answered(&mut self, record: &Record) {
        self.waiting.remove(&record.id);
        self.records.push(record.clone());
    }

    pub(crate) fn ended(&mut self, kvs: &[(u64, &Kv<MemoryStore>)]) -> Result<(), Violation> {
        let Some((_, kv)) = kvs.iter().max_by_key(|(_, kv)| kv.applied().index) else { return Ok(()) };
        let all = Bytes::from_static(b"\0");
        let everything = RangeRequest { key: all.clone(), range_end: all, ..RangeRequest::default() };
        let reader = kv.reader();
        let Ok(Ok(range)) = reader.range(&everything) else {
            return Err(violation("world", "the last content cannot be read"));
        };
        let last = FinalState { revision: reader.applied().revision, kvs: range.kvs };
        self.records.extend(std::mem::take(&mut self.waiting).into_values());
        self.report = Some(check_history(&self.records, &last)?);
        Ok(())
    }

    /// None before the end.
    pub(crate) fn report(&self) -> Option<&HistoryReport> {
        self.report.as_ref()
    }
}
