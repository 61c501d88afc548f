//! I3, Log Matching: an index and a term name one entry, with one predecessor, in every log at all times. One table for the whole
//! cluster: content and the predecessor's term by (index, term). By induction two logs that have the same position agree in all
//! before it. Also: entries are made by the leader of their term, and by nobody else.

use super::violation;
use crate::observed::Violation;
use flaredb_raft::{EntryId, RaftLogEntry};
use std::collections::BTreeMap;

/// What is known of an entry.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) entry: RaftLogEntry,
    /// None if the maker's log begins here.
    pub(crate) previous_term: Option<u64>,
    /// Nodes that ever held it durably, one bit each.
    pub(crate) durable_at: u64,
}

/// Every entry that was ever seen.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// By index, then by term.
    by_index: BTreeMap<u64, Vec<Known>>,
}

impl Table {
    pub(crate) fn get(&self, id: EntryId) -> Option<&Known> {
        self.by_index.get(&id.index)?.iter().find(|known| known.entry.term == id.term)
    }

    /// An entry is seen in a log, behind an entry of `previous_term`. True if it was not known before.
    pub(crate) fn see(
        &mut self,
        node: u64,
        entry: &RaftLogEntry,
        previous_term: Option<u64>,
        leads_its_term: bool,
    ) -> Result<bool, Violation> {
        let slots = self.by_index.entry(entry.index).or_default();
        if let Some(known) = slots.iter_mut().find(|known| known.entry.term == entry.term) {
            if known.entry != *entry {
                let what = format!("n{node} has another entry at {} than was seen before", entry.id());
                return Err(violation("log-matching", what));
            }
            match (known.previous_term, previous_term) {
                (Some(known), Some(term)) if known != term => {
                    let what =
                        format!("n{node} has {} behind term {term}, another log has it behind {known}", entry.id());
                    return Err(violation("log-matching", what));
                }
                (None, _) => known.previous_term = previous_term,
                _ => {}
            }
            return Ok(false);
        }
        if !leads_its_term {
            let what = format!("n{node} has {}, which no leader of its term has made", entry.id());
            return Err(violation("log-matching", what));
        }
        slots.push(Known { entry: entry.clone(), previous_term, durable_at: 0 });
        Ok(true)
    }

    /// A node holds it durably.
    pub(crate) fn note_durable(&mut self, node: u64, id: EntryId) {
        let known =
            self.by_index.get_mut(&id.index).and_then(|slots| slots.iter_mut().find(|k| k.entry.term == id.term));
        if let Some(known) = known {
            known.durable_at |= 1_u64.checked_shl(u32::try_from(node).unwrap_or(64)).unwrap_or(0);
        }
    }
}
