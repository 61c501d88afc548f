//! A log by value: a copy of a peer has a disk of its own.

use flaredb_raft::{
    ConfState, EntryId, HardState, InitialState, RaftLogEntry, RaftStorage, SnapshotMeta, StorageError, Write,
};
use std::{cell::RefCell, ops::Range};

pub(super) const VOTERS: [u64; 3] = [1, 2, 3];

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) hard_state: HardState,
    /// From index 1 on; nothing is ever compacted away.
    pub(super) entries: Vec<RaftLogEntry>,
}

impl Content {
    pub(super) fn apply(&mut self, write: &Write) {
        self.hard_state = write.hard_state;
        if let Some(first) = write.entries.first() {
            assert!(first.index <= self.last().index + 1, "a write leaves no hole in the log");
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(write.entries.iter().cloned());
        }
    }

    pub(super) fn last(&self) -> EntryId {
        self.entries.last().map_or(EntryId::default(), RaftLogEntry::id)
    }

    fn get(&self, index: u64) -> Option<&RaftLogEntry> {
        self.entries.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }
}

/// What the peer reads through. Interior mutability only because a peer gives out its storage as a shared reference.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(pub(super) RefCell<Content>);

impl RaftStorage for Disk {
    #[allow(clippy::needless_update, reason = "fields that are of no concern here may be added")]
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let conf_state = ConfState { voters: VOTERS.to_vec() };
        Ok(InitialState { hard_state: self.0.borrow().hard_state, conf_state, ..InitialState::default() })
    }

    fn entries(&self, range: Range<u64>, _bytes_max: u64) -> Result<Vec<RaftLogEntry>, StorageError> {
        let content = self.0.borrow();
        let last = content.last();
        range.map(|index| content.get(index).cloned().ok_or(StorageError::Unavailable { index, last })).collect()
    }

    fn term_of(&self, index: u64) -> Result<u64, StorageError> {
        let content = self.0.borrow();
        let unavailable = StorageError::Unavailable { index, last: content.last() };
        if index == 0 { Ok(0) } else { content.get(index).map(|entry| entry.term).ok_or(unavailable) }
    }

    fn first_index(&self) -> Result<u64, StorageError> {
        Ok(1)
    }

    fn last_index(&self) -> Result<u64, StorageError> {
        Ok(self.0.borrow().last().index)
    }

    fn snapshot(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(SnapshotMeta { last: EntryId::default(), conf_state: ConfState { voters: VOTERS.to_vec() } })
    }
}
