//! The store's rows with the rows of the batch being applied laid over them, as one sorted sequence.
//!
//! Rows are only ever added here: every revision's row has a key of its own, so that nothing in the overlay hides anything in
//! the store.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound,
};

use bytes::Bytes;

use crate::{Cursor, StoreError};

/// User rows written by the batch so far.
pub(crate) type Overlay = BTreeMap<Bytes, Bytes>;

/// One cursor over both.
pub(crate) struct OverlayCursor<'a, C> {
    overlay: &'a Overlay,
    rows: btree_map::Range<'a, Bytes, Bytes>,
    added: Option<(&'a Bytes, &'a Bytes)>,
    base: &'a mut C,
}

impl<'a, C: Cursor> OverlayCursor<'a, C> {
    pub(crate) fn new(overlay: &'a Overlay, base: &'a mut C) -> Self {
        Self { overlay, rows: btree_map::Range::default(), added: None, base }
    }

    /// True if the row here is the overlay's.
    fn on_added(&self) -> bool {
        match (self.added, self.base.entry()) {
            (Some((added, _)), Some((base, _))) => {
                debug_assert!(added.as_ref() != base, "a row is written once");
                added.as_ref() < base
            }
            (added, _) => added.is_some(),
        }
    }
}

impl<C: Cursor> Cursor for OverlayCursor<'_, C> {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.rows = self.overlay.range::<[u8], _>((Bound::Included(key), Bound::Unbounded));
        self.added = self.rows.next();
        self.base.seek(key)
    }

    fn next(&mut self) -> Result<(), StoreError> {
        if self.on_added() {
            self.added = self.rows.next();
            Ok(())
        } else {
            self.base.next()
        }
    }

    fn entry(&self) -> Option<(&[u8], &[u8])> {
        if self.on_added() { self.added.map(|(key, value)| (key.as_ref(), value.as_ref())) } else { self.base.entry() }
    }
}
