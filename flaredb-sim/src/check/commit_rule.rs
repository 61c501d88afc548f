//! I8, I9, I10: a leader commits an entry of its own term that a quorum has had durably, and with it all before; commit never
//! falls within a life; nobody commits or applies what no leader has. Here is kept what is committed, for all other rules.

use super::log_matching::Table;
use super::mirror::Mirror;
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{Body, EntryId, Message, PeerState, PeerStatus};
use std::collections::BTreeMap;

/// What is committed.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// The term of each committed entry, from index 1 on.
    terms: Vec<u64>,
    /// How far the leader of each term has committed.
    by_term: BTreeMap<u64, u64>,
}

impl Committed {
    pub(crate) fn last(&self) -> EntryId {
        let index = u64::try_from(self.terms.len()).unwrap_or(u64::MAX);
        EntryId { index, term: self.terms.last().copied().unwrap_or(0) }
    }

    /// The last entry that a leader of an earlier term has committed: whoever leads `term` must have it.
    pub(crate) fn last_before(&self, term: u64) -> EntryId {
        let index = self.by_term.range(..term).map(|(_, index)| *index).max().unwrap_or(0);
        self.id_at(index).unwrap_or_default()
    }

    pub(crate) fn id_at(&self, index: u64) -> Option<EntryId> {
        let place = usize::try_from(index.checked_sub(1)?).ok()?;
        self.terms.get(place).map(|term| EntryId { index, term: *term })
    }

    pub(crate) fn stepped(
        &mut self,
        mirror: &Mirror,
        table: &Table,
        id: u64,
        before: &PeerStatus,
        after: &PeerStatus,
    ) -> Result<(), Violation> {
        let PeerStatus { commit_index, last_applied, last_index, persisted_index, term, .. } = *after;
        if commit_index < before.commit_index {
            let what =
                format!("n{id}@{term} takes its commit index back from {} to {commit_index}", before.commit_index);
            return Err(violation("commit-rule", what));
        }
        if last_applied > commit_index || commit_index > last_index || persisted_index > last_index {
            return Err(violation("commit-rule", format!("n{id}: applied <= commit <= last does not hold: {after:?}")));
        }
        if commit_index == before.commit_index {
            return Ok(());
        }
        if after.state == PeerState::Leader {
            let id_of_entry = EntryId { index: commit_index, term };
            let held = table.get(id_of_entry).map_or(0, |known| known.durable_at.count_ones());
            if usize::try_from(held).unwrap_or(0) < mirror.quorum() {
                let what =
                    format!("n{id}@{term} commits {commit_index}, but {held} nodes have held {id_of_entry} durably");
                return Err(violation("commit-rule", what));
            }
            self.commit(table, id, id_of_entry)
        } else if commit_index > self.last().index {
            let what = format!("n{id}@{term} takes {commit_index} for committed, {} is", self.last());
            Err(violation("commit-rule", what))
        } else {
            Ok(())
        }
    }

    /// Everything up to this entry is committed: the way back to what was committed before is told by the table.
    fn commit(&mut self, table: &Table, node: u64, id: EntryId) -> Result<(), Violation> {
        let known = self.last().index;
        let mut terms = Vec::new();
        let mut at = id;
        while at.index > known {
            terms.push(at.term);
            let before = at.index - 1;
            let term = match table.get(at).and_then(|known| known.previous_term) {
                Some(term) => term,
                None if before == 0 => 0,
                None => {
                    return Err(violation("commit-rule", format!("n{node} commits {at}, which nobody has seen whole")));
                }
            };
            at = EntryId { index: before, term };
        }
        let agreed = self.id_at(at.index).unwrap_or_default();
        if agreed != at {
            let what = format!("n{node} commits {id} behind {at}, but {agreed} is committed there");
            return Err(violation("commit-rule", what));
        }
        self.terms.extend(terms.into_iter().rev());
        self.by_term.insert(id.term, id.index);
        Ok(())
    }

    pub(crate) fn sent(&self, message: &Message) -> Result<(), Violation> {
        if let Body::AppendEntries { commit_index, .. } = message.body
            && commit_index > self.last().index
        {
            let what =
                format!("n{}@{} says that {commit_index} is committed, {} is", message.from, message.term, self.last());
            return Err(violation("commit-rule", what));
        }
        Ok(())
    }

    pub(crate) fn started(&self, id: u64, commit_index: u64, applied: u64) -> Result<(), Violation> {
        if commit_index.max(applied) > self.last().index {
            let what =
                format!("n{id} starts with commit {commit_index} and applied {applied}, {} is committed", self.last());
            return Err(violation("commit-rule", what));
        }
        Ok(())
    }
}
