//! A log in memory, for tests, simulation and examples. It has no durability to offer: what a simulated crash loses is up to
//! the harness, which applies a `Write` when it decides that the write became durable.

use crate::num::{to_u64, to_usize};
use crate::{
    ConfState, EntryId, HardState, InitialState, RaftLogEntry, RaftStorage, SnapshotMeta, StorageError, Write,
};
use alloc::{collections::VecDeque, rc::Rc, vec::Vec};
use core::{cell::RefCell, ops::Range};

/// Clones share one log, as several readers of one disk do; see [`MemoryStorage::deep_clone`] for a copy.
#[derive(Clone, Debug)]
pub struct MemoryStorage(Rc<RefCell<Disk>>);

#[derive(Clone, Debug, Default)]
struct Disk {
    hard_state: HardState,
    conf_state: ConfState,
    snapshot: SnapshotMeta,
    entries: VecDeque<RaftLogEntry>,
    recover_until: Option<EntryId>,
}

impl Disk {
    fn first(&self) -> u64 {
        self.snapshot.last.index + 1
    }

    fn last(&self) -> EntryId {
        self.entries.back().map_or(self.snapshot.last, RaftLogEntry::id)
    }

    fn offset(&self, index: u64) -> Result<usize, StorageError> {
        let first = self.first();
        index.checked_sub(first).map(to_usize).ok_or(StorageError::Compacted { index, first })
    }
}

impl MemoryStorage {
    /// A fresh log of a cluster of `voters` (sorted here).
    pub fn new(voters: &[u64]) -> Self {
        let mut voters = voters.to_vec();
        voters.sort_unstable();
        let conf_state = ConfState { voters };
        let snapshot = SnapshotMeta { last: EntryId::default(), conf_state: conf_state.clone() };
        Self(Rc::new(RefCell::new(Disk { conf_state, snapshot, ..Disk::default() })))
    }

    /// An independent copy: what a disk holds at this instant.
    pub fn deep_clone(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// Makes a write durable: the hard state, and the entries in place of everything from the first one's index on.
    pub fn apply_write(&self, write: &Write) {
        let disk = &mut *self.0.borrow_mut();
        disk.hard_state = write.hard_state;
        let Some(first) = write.entries.first() else { return };
        assert!(first.index > disk.snapshot.last.index, "a write never reaches below the snapshot");
        assert!(first.index <= disk.last().index + 1, "a write leaves no hole in the log");
        disk.entries.truncate(to_usize(first.index - disk.first()));
        disk.entries.extend(write.entries.iter().cloned());
    }

    /// Removes all entries up to and including `index`; their position stays known (R14). Does nothing if they are gone.
    pub fn compact(&self, index: u64) {
        let disk = &mut *self.0.borrow_mut();
        assert!(index <= disk.last().index, "only entries of the log are compacted");
        while let Some(entry) = disk.entries.pop_front_if(|entry| entry.index <= index) {
            disk.snapshot.last = entry.id();
        }
    }

    /// Replaces the log by a snapshot; term and vote stay (R13).
    pub fn install_snapshot(&self, snapshot: &SnapshotMeta) {
        let disk = &mut *self.0.borrow_mut();
        disk.entries.clear();
        disk.hard_state.commit_index = snapshot.last.index;
        disk.conf_state = snapshot.conf_state.clone();
        disk.snapshot = snapshot.clone();
    }

    /// Overwrites the hard state (for tests of recovery).
    pub fn put_hard_state(&self, hard_state: HardState) {
        self.0.borrow_mut().hard_state = hard_state;
    }

    /// Loses every entry after `index` (for tests of recovery).
    pub fn lose_after(&self, index: u64) {
        let disk = &mut *self.0.borrow_mut();
        disk.entries.truncate(to_usize((index + 1).saturating_sub(disk.first())));
    }

    /// Loses the whole log; it continues after `last` (for tests of recovery).
    pub fn restart_at(&self, last: EntryId) {
        let disk = &mut *self.0.borrow_mut();
        disk.entries.clear();
        disk.snapshot.last = last;
    }

    /// Sets what a peer that starts from here finds in `InitialState::recover_until`.
    pub fn set_recover_until(&self, until: Option<EntryId>) {
        self.0.borrow_mut().recover_until = until;
    }

    /// Position of the last entry.
    pub fn last(&self) -> EntryId {
        self.0.borrow().last()
    }

    /// What is durable beside the log.
    pub fn hard_state(&self) -> HardState {
        self.0.borrow().hard_state
    }

    /// All entries in the log.
    pub fn all_entries(&self) -> Vec<RaftLogEntry> {
        self.0.borrow().entries.iter().cloned().collect()
    }

    /// Bytes held by entries.
    pub fn size(&self) -> u64 {
        self.0.borrow().entries.iter().map(RaftLogEntry::size).sum()
    }

    /// Number of entries held.
    pub fn len(&self) -> u64 {
        to_u64(self.0.borrow().entries.len())
    }

    /// True if every entry was compacted away or none was ever written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RaftStorage for MemoryStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let disk = self.0.borrow();
        let (hard_state, conf_state) = (disk.hard_state, disk.conf_state.clone());
        Ok(InitialState { hard_state, conf_state, recover_until: disk.recover_until })
    }

    fn entries(&self, range: Range<u64>, bytes_max: u64) -> Result<Vec<RaftLogEntry>, StorageError> {
        let disk = self.0.borrow();
        let start = disk.offset(range.start)?;
        let end = to_usize(range.end.saturating_sub(disk.first()));
        if end > disk.entries.len() || start >= end {
            return Err(StorageError::Unavailable { index: range.end.saturating_sub(1), last: disk.last() });
        }
        let mut bytes = 0;
        let fits = |(place, entry): &(usize, &RaftLogEntry)| {
            bytes += entry.size();
            *place == 0 || bytes <= bytes_max
        };
        Ok(disk.entries.range(start..end).enumerate().take_while(fits).map(|(_, entry)| entry.clone()).collect())
    }

    fn term_of(&self, index: u64) -> Result<u64, StorageError> {
        let disk = self.0.borrow();
        if index == disk.snapshot.last.index {
            return Ok(disk.snapshot.last.term);
        }
        let entry = disk.entries.get(disk.offset(index)?);
        entry.map(|entry| entry.term).ok_or(StorageError::Unavailable { index, last: disk.last() })
    }

    fn first_index(&self) -> Result<u64, StorageError> {
        Ok(self.0.borrow().first())
    }

    fn last_index(&self) -> Result<u64, StorageError> {
        Ok(self.0.borrow().last().index)
    }

    fn snapshot(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(self.0.borrow().snapshot.clone())
    }
}
