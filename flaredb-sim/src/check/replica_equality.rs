//! I30: the content is the same at the same applied state: each replica's hash is compared with the shadow's every so many entries,
//! when a snapshot is installed, and at the end.

use super::ledger::Ledger;
use super::violation;
use crate::observed::Violation;
use flaredb_kv::{Kv, MemoryStore};
use std::collections::BTreeMap;

/// Entries between two comparisons of a node.
const EVERY: u64 = 1000;

/// When each node was compared last.
#[derive(Debug, Default)]
pub(crate) struct ReplicaEquality {
    compared: BTreeMap<u64, u64>,
}

impl ReplicaEquality {
    pub(crate) fn applied(&mut self, ledger: &Ledger, id: u64, kv: &Kv<MemoryStore>) -> Result<(), Violation> {
        let index = kv.applied().index;
        let compared = self.compared.entry(id).or_default();
        if index < compared.saturating_add(EVERY) && index >= *compared {
            return Ok(());
        }
        if compare(ledger, id, kv)? {
            *compared = index;
        }
        Ok(())
    }
}

/// False if they cannot be compared now: the shadow has been compacted further.
pub(crate) fn compare(ledger: &Ledger, id: u64, kv: &Kv<MemoryStore>) -> Result<bool, Violation> {
    let applied = kv.applied();
    let shadow = ledger.shadow();
    if shadow.applied().compact_revision != applied.compact_revision || applied.revision > shadow.applied().revision {
        return Ok(false);
    }
    let expected = shadow.reader().hash(applied.revision).ok();
    let found = kv.reader().hash(0).ok();
    if found == expected {
        return Ok(true);
    }
    Err(violation("replica-equality", format!("n{id} at {applied:?} has {found:?}, expected is {expected:?}")))
}
