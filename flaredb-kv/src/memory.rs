//! The store in memory: for tests, simulation and scripts. Not durable, and not meant for much data.
//!
//! The rows are one shared map. A cursor holds the map as it was when the cursor was made; a write copies the map if, and only
//! if, a cursor (or a clone of the store) still holds it. Copies share the rows themselves.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;

use crate::{Batch, Change, Cursor, OrderedStore, StoreError, StoreReader, row_prefix};

type Rows = BTreeMap<Bytes, Bytes>;

/// An ordered store in memory. A clone is a copy: writes to one do not show in the other.
#[derive(Debug, Default)]
pub struct MemoryStore {
    rows: Arc<RwLock<Arc<Rows>>>,
}

/// Reads the store's latest content; each cursor one state of it.
#[derive(Clone, Debug)]
pub struct MemoryReader {
    rows: Arc<RwLock<Arc<Rows>>>,
}

/// A cursor over one state of a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryCursor {
    rows: Arc<Rows>,
    start: Bytes,
    end: Bytes,
    at: Option<(Bytes, Bytes)>,
    /// Shows only entries with the prefix of the last seek: as much as a store may leave out.
    same_prefix: bool,
    prefix: Bytes,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        current(&self.rows).len()
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self { rows: Arc::new(RwLock::new(current(&self.rows))) }
    }
}

impl OrderedStore for MemoryStore {
    type Reader = MemoryReader;

    fn reader(&self) -> MemoryReader {
        MemoryReader { rows: Arc::clone(&self.rows) }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        // A poisoned lock guards whole maps only: nothing in this crate panics halfway through a batch.
        let mut shared = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let rows = Arc::make_mut(&mut shared);
        for change in &batch.changes {
            match change {
                Change::Put(key, value) => {
                    rows.insert(key.clone(), value.clone());
                }
                Change::Delete(key) => {
                    rows.remove(key);
                }
            }
        }
        Ok(())
    }
}

impl StoreReader for MemoryReader {
    type Cursor<'a> = MemoryCursor;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn cursor(&self, start: &[u8], end: &[u8]) -> Result<MemoryCursor, StoreError> {
        let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        Ok(MemoryCursor { rows: current(&self.rows), start, end, at: None, same_prefix: false, prefix: Bytes::new() })
    }

    fn point_cursor(&self) -> Result<MemoryCursor, StoreError> {
        Ok(MemoryCursor { same_prefix: true, ..self.cursor(&[], &[])? })
    }
}

impl MemoryCursor {
    fn settle(&mut self, from: Bound<&[u8]>) {
        let end = &self.end;
        let found = self.rows.range::<[u8], _>((from, Bound::Unbounded)).next();
        let found = found.filter(|(key, _)| end.is_empty() || *key < end);
        let found = found.filter(|(key, _)| !self.same_prefix || row_prefix(key) == self.prefix);
        self.at = found.map(|(key, value)| (key.clone(), value.clone()));
    }
}

impl Cursor for MemoryCursor {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let start = self.start.clone();
        if self.same_prefix {
            self.prefix = Bytes::copy_from_slice(row_prefix(key));
        }
        self.settle(Bound::Included(key.max(start.as_ref())));
        Ok(())
    }

    fn next(&mut self) -> Result<(), StoreError> {
        if let Some((key, _)) = self.at.take() {
            self.settle(Bound::Excluded(key.as_ref()));
        }
        Ok(())
    }

    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.at.as_ref().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}

fn current(rows: &RwLock<Arc<Rows>>) -> Arc<Rows> {
    Arc::clone(&rows.read().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;

    #[test]
    fn memory_store_conforms() {
        crate::conformance::run(MemoryStore::new);
    }
}
