//! The ordered store under the state machine: bytes to bytes, sorted. Memory and RocksDB implement it; one conformance suite
//! runs on both.

use bytes::Bytes;

/// The store failed. Final: the process stops, nothing is retried.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct StoreError(pub String);

/// A set of changes that becomes visible, and durable, as one.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Applied in order: of several changes to one key the last one counts.
    pub changes: Vec<Change>,
}

/// One change of a [`Batch`].
#[derive(Clone, Debug)]
pub enum Change {
    /// Key and value; replaces what the key had.
    Put(Bytes, Bytes),
    /// The key, which need not exist.
    Delete(Bytes),
}

/// The writer's side. One owner; readers are cheap clones that may live on other threads.
pub trait OrderedStore: Send + 'static {
    /// What its readers are.
    type Reader: StoreReader;
    /// A reader of the store's latest content.
    fn reader(&self) -> Self::Reader;
    /// Applies the batch atomically. Not synced: the Raft log is what makes it durable (blueprint §4).
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError>;
}

/// The reader's side: the latest content at each call. Whatever is to be one state must come from one cursor.
pub trait StoreReader: Clone + Send + Sync + 'static {
    /// What its cursors are.
    type Cursor<'a>: Cursor
    where
        Self: 'a;
    /// The value of a key, or None.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// A cursor over keys in `[start, end)`, on one consistent view, positioned nowhere: call `seek` first.
    /// An empty `end` means no upper bound.
    fn cursor(&self, start: &[u8], end: &[u8]) -> Result<Self::Cursor<'_>, StoreError>;
    /// A cursor for looking at one key's versions at a time: after a seek only entries whose key has the same
    /// [`crate::row_prefix`] as the key that was sought are sure to be shown, others may be left out. A store may so pass over
    /// files that hold none of them.
    fn point_cursor(&self) -> Result<Self::Cursor<'_>, StoreError>;
}

/// Walks over sorted keys.
pub trait Cursor {
    /// Moves to the first key at or after `key` (within the cursor's bounds).
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError>;
    /// Moves to the next key; past the end it stays there.
    fn next(&mut self) -> Result<(), StoreError>;
    /// The entry here, or None past the end.
    fn entry(&self) -> Option<(&[u8], &[u8])>;
    /// The key of the entry here, or None past the end.
    fn key(&self) -> Option<&[u8]> {
        self.entry().map(|(key, _)| key)
    }
}
