//! The terms of a log by index: all that is needed of a node's log where contents are compared elsewhere (`log_matching.rs`).

use flaredb_raft::EntryId;

/// Positions without holes, from the one the log was compacted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TermLog {
    /// The position before the first of `terms`.
    base: EntryId,
    terms: Vec<u64>,
    /// What is compacted away; terms of it may still be known.
    compacted_to: EntryId,
}

impl TermLog {
    /// An empty log that was compacted to here.
    pub(crate) fn from(compacted_to: EntryId) -> Self {
        Self { base: compacted_to, terms: Vec::new(), compacted_to }
    }

    pub(crate) fn compacted_to(&self) -> EntryId {
        self.compacted_to
    }

    pub(crate) fn last(&self) -> EntryId {
        match self.terms.last() {
            Some(term) => EntryId { index: self.base.index + self.len(), term: *term },
            None => self.base,
        }
    }

    fn len(&self) -> u64 {
        u64::try_from(self.terms.len()).unwrap_or(u64::MAX)
    }

    /// None if it is not known here, or not there.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let place = usize::try_from(index.checked_sub(self.base.index + 1)?).ok()?;
        self.terms.get(place).copied()
    }

    /// True if it has this entry, or had it before it was compacted.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.term_at(id.index).map_or(id.index <= self.compacted_to.index, |term| term == id.term)
    }

    /// True if the other's last entry is here too: by Log Matching all of it is then; and nothing more.
    pub(crate) fn holds_all_of(&self, other: &Self) -> bool {
        self.holds(other.last()) && self.last().index <= other.last().index
    }

    pub(crate) fn push(&mut self, id: EntryId) -> Result<(), String> {
        let last = self.last();
        if id.index != last.index + 1 {
            return Err(format!("{id} does not follow {last}"));
        }
        if id.term < last.term {
            return Err(format!("the term falls from {last} to {id}"));
        }
        self.terms.push(id.term);
        Ok(())
    }

    /// Replaces everything from the first entry's index on.
    pub(crate) fn splice(&mut self, entries: impl Iterator<Item = EntryId>) -> Result<(), String> {
        for (number, id) in entries.enumerate() {
            if number == 0 {
                let kept = id.index.checked_sub(self.base.index + 1).and_then(|kept| usize::try_from(kept).ok());
                match kept.filter(|kept| *kept <= self.terms.len()) {
                    Some(kept) => self.terms.truncate(kept),
                    None => return Err(format!("{id} does not follow {} or replace a part of it", self.last())),
                }
            }
            self.push(id)?;
        }
        Ok(())
    }

    /// Forgets up to here, but for the terms.
    pub(crate) fn compact(&mut self, up_to: EntryId) {
        if up_to.index > self.compacted_to.index {
            self.compacted_to = up_to;
        }
    }
}
