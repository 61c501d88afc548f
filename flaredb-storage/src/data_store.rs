//! The state machine's rows on RocksDB: no WAL, no sync. The Raft log makes them durable.
//!
//! A batch is visible when `write` returns and durable after the next flush (RocksDB's own, or [`Flusher::flush`]). One
//! column family is flushed as one, so what a crash leaves is the state after some batch, rows and applied index together,
//! and the log is applied again from there. Dropping the store without a flush *is* the crash: nothing is written on close.

use crate::data_dir::DirLock;
use crate::layout::DATA_CF;
use crate::options::{BLOB_AGE_CUTOFF, data_cf_descriptor, data_db_options};
use crate::suspect::Suspect;
use crate::{DataDir, DataOptions, OpenError};
use bytes::Bytes;
use flaredb_kv::{Batch, Change, Cursor, OrderedStore, StoreError, StoreReader};
use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_LIVE_DATA_SIZE, ESTIMATE_NUM_KEYS, LIVE_SST_FILES_SIZE};
use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, DBRawIterator, ReadOptions, WriteBatch, WriteOptions,
};
use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Enough for the disk to read ahead of a scan over everything.
const SCAN_READAHEAD_BYTES: usize = 2 * 1024 * 1024;
/// The binding has no name for it: bytes of the files of large values that are in use.
const LIVE_BLOB_FILE_SIZE: &CStr = c"rocksdb.live-blob-file-size";

/// The store; its one writer.
pub struct DataStore {
    inner: Arc<Inner>,
    unlogged: WriteOptions,
}

/// A reader of the store, on its latest state. Cheap to clone; may be used on any thread. It may outlive the [`DataStore`],
/// but every read fails from then on, also one that is under way.
#[derive(Clone)]
pub struct DataReader {
    inner: Arc<Inner>,
}

/// Makes the store durable, on any thread.
#[derive(Clone)]
pub struct Flusher {
    inner: Arc<Inner>,
}

/// Bytes of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Live files and rows in memory.
    pub total: u64,
    /// RocksDB's estimate of `total` without overwritten and deleted rows.
    pub in_use: u64,
}

struct Inner {
    // Before the lock: fields are dropped in this order.
    db: DB,
    _lock: Arc<DirLock>,
    suspect: Suspect,
    /// The [`DataStore`] was dropped.
    closed: AtomicBool,
}

impl Inner {
    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError("the data store is closed".to_owned()));
        }
        Ok(())
    }

    fn broken(&self, error: rocksdb::Error) -> StoreError {
        self.suspect.note(&error);
        StoreError(format!("the data store failed: {error}"))
    }

    #[expect(clippy::expect_used, reason = "the database was opened with this column family")]
    fn cf(&self) -> &ColumnFamily {
        self.db.cf_handle(DATA_CF).expect("the data database has data")
    }
}

impl DataStore {
    /// Opens the store of `dir`'s member, empty if it was never there.
    ///
    /// # Errors
    /// [`OpenError`] from RocksDB. Whether the rows fit the log is for [`crate::check_recovery`].
    pub fn open(dir: &DataDir, options: &DataOptions) -> Result<Self, OpenError> {
        let path = dir.data_path()?;
        Self::try_open(dir, &path, options).map_err(|error| OpenError::rocksdb(path, &error))
    }

    /// The same, with RocksDB's own error.
    pub(crate) fn try_open(dir: &DataDir, path: &Path, options: &DataOptions) -> Result<Self, rocksdb::Error> {
        Self::open_at(path, dir.lock(), Suspect::data(dir.member_path()), options)
    }

    pub(crate) fn open_at(
        path: &Path,
        lock: Arc<DirLock>,
        suspect: Suspect,
        options: &DataOptions,
    ) -> Result<Self, rocksdb::Error> {
        // Made when there is nothing, even late. Where files are left a missing one is damage, and must not become a new store.
        let db_options = data_db_options(options, holds_nothing(path))?;
        let db = DB::open_cf_descriptors(&db_options, path, [data_cf_descriptor(options)])?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(Self { inner: Arc::new(Inner { db, _lock: lock, suspect, closed: AtomicBool::new(false) }), unlogged })
    }

    /// For a look: nothing in the folder changes. `scratch`: for RocksDB's own log.
    pub(crate) fn open_read_only(
        path: &Path,
        lock: Arc<DirLock>,
        options: &DataOptions,
        scratch: &Path,
    ) -> Result<Self, rocksdb::Error> {
        let mut db_options = data_db_options(options, false)?;
        db_options.set_db_log_dir(scratch);
        let cf = [data_cf_descriptor(options)];
        let db = DB::open_cf_descriptors_read_only(&db_options, path, cf, false)?;
        let inner = Inner { db, _lock: lock, suspect: Suspect::nowhere(), closed: AtomicBool::new(false) };
        Ok(Self { inner: Arc::new(inner), unlogged: WriteOptions::default() })
    }

    /// RocksDB's estimate.
    pub(crate) fn rows_expected(&self) -> Option<u64> {
        self.inner.db.property_int_value_cf(self.inner.cf(), ESTIMATE_NUM_KEYS).ok().flatten()
    }

    /// Reads every row, and with it every block that is in use. Returns how many rows there are; `each` hears how many so
    /// far, now and then.
    ///
    /// # Errors
    /// [`StoreError`]: a file is damaged.
    pub(crate) fn verify(&self, each: &mut dyn FnMut(u64)) -> Result<u64, StoreError> {
        let reader = self.reader();
        let mut cursor = reader.scan();
        cursor.seek(&[])?;
        let mut rows = 0_u64;
        while cursor.entry().is_some() {
            rows = rows.saturating_add(1);
            if rows.is_multiple_of(4096) {
                each(rows);
            }
            cursor.next()?;
        }
        Ok(rows)
    }

    /// A handle that flushes, for another thread.
    pub fn flusher(&self) -> Flusher {
        Flusher { inner: Arc::clone(&self.inner) }
    }

    /// Whether a reader or flusher of this store lives.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }

    /// How large the store is. Two property reads, no scan.
    ///
    /// # Errors
    /// [`StoreError`] if RocksDB does not know its own sizes.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        self.inner.sizes()
    }
}

impl Inner {
    fn sizes(&self) -> Result<Sizes, StoreError> {
        let property = |name: &CStr| {
            let value = self.db.property_int_value_cf(self.cf(), name).map_err(|error| self.broken(error))?;
            value.ok_or_else(|| StoreError(format!("the data store has no property {}", name.to_string_lossy())))
        };
        let memory = property(CUR_SIZE_ALL_MEM_TABLES)?;
        let files = property(LIVE_SST_FILES_SIZE)?.saturating_add(property(LIVE_BLOB_FILE_SIZE)?);
        let total = files.saturating_add(memory);
        let in_use = property(ESTIMATE_LIVE_DATA_SIZE)?.saturating_add(memory).min(total);
        Ok(Sizes { total, in_use })
    }
}

impl Flusher {
    /// Returns when everything written before is durable. Blocks for as long as the disk takes; call it off the hot path.
    ///
    /// # Errors
    /// [`StoreError`] is final.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.inner.db.flush_cf(self.inner.cf()).map_err(|error| self.inner.broken(error))
    }

    /// As [`DataStore::sizes`].
    ///
    /// # Errors
    /// As [`DataStore::sizes`].
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        self.inner.sizes()
    }

    /// Rewrites the files so that deleted rows take no space any more. Blocks for seconds to minutes, reading and writing up
    /// to the whole store; reads, writes and flushes go on beside it. Ends early when the [`DataStore`] is dropped. RocksDB
    /// reports a failure to the next write or flush, not here.
    pub fn reclaim(&self) {
        let mut options = CompactOptions::default();
        // RocksDB's own compactions go on, so that writes are not held up.
        options.set_exclusive_manual_compaction(false);
        // Also where no tombstones are: rows there keep files of large values alive that are mostly deleted.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.collect_blobs_up_to_age(1.0);
        self.inner.db.compact_range_cf_opt(self.inner.cf(), None::<&[u8]>, None::<&[u8]>, &options);
        self.collect_blobs_up_to_age(BLOB_AGE_CUTOFF);
    }

    /// Of which part of the files of large values, oldest first, a merge takes over what is not deleted.
    fn collect_blobs_up_to_age(&self, cutoff: f64) {
        let option = [("blob_garbage_collection_age_cutoff", &*cutoff.to_string())];
        if let Err(error) = self.inner.db.set_options_cf(self.inner.cf(), &option) {
            tracing::warn!(%error, "what deleted large values take cannot all be given back");
        }
    }
}

impl Drop for DataStore {
    /// Long reads and work in the background (a [`Flusher::reclaim`]) end: they would hold up the end of the process, and the
    /// folder.
    fn drop(&mut self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        self.inner.db.cancel_all_background_work(false);
    }
}

impl OrderedStore for DataStore {
    type Reader = DataReader;

    fn reader(&self) -> DataReader {
        DataReader { inner: Arc::clone(&self.inner) }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let cf = self.inner.cf();
        let bytes = batch.changes.iter().map(record_bytes).sum();
        let mut changes = WriteBatch::with_capacity_bytes(bytes);
        // In the order of their keys: the memtable then begins its search where the last row went. Of changes to one key the
        // last one still comes last. The rows that are not of users come in order already, which the sort notices.
        let (mut users, mut others): (Vec<&Change>, Vec<&Change>) =
            batch.changes.iter().partition(|change| flaredb_kv::is_user_row(key_of(change)));
        for rows in [&mut users, &mut others] {
            rows.sort_by(|a, b| key_of(a).cmp(key_of(b)));
        }
        for change in users.into_iter().chain(others) {
            match change {
                Change::Put(key, value) => changes.put_cf(cf, key, value),
                Change::Delete(key) => changes.delete_cf(cf, key),
            }
        }
        self.inner.db.write_opt(changes, &self.unlogged).map_err(|error| self.inner.broken(error))
    }
}

/// What a change takes in RocksDB's batch, at most: a kind, the column family, two lengths.
fn record_bytes(change: &Change) -> usize {
    const OVERHEAD: usize = 16;
    match change {
        Change::Put(key, value) => OVERHEAD + key.len() + value.len(),
        Change::Delete(key) => OVERHEAD + key.len(),
    }
}

fn key_of(change: &Change) -> &[u8] {
    match change {
        Change::Put(key, _) | Change::Delete(key) => key,
    }
}

impl DataReader {
    /// As [`DataStore::sizes`].
    ///
    /// # Errors
    /// As [`DataStore::sizes`].
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        self.inner.sizes()
    }
}

impl DataReader {
    /// A cursor over all rows, for whoever copies them: what it reads does not push anything out of the block cache.
    pub fn scan(&self) -> DataCursor<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.fill_cache(false);
        options.set_readahead_size(SCAN_READAHEAD_BYTES);
        let rows = self.inner.db.raw_iterator_cf_opt(self.inner.cf(), options);
        DataCursor { inner: &self.inner, rows, start: Vec::new() }
    }
}

impl StoreReader for DataReader {
    type Cursor<'a> = DataCursor<'a>;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.check_open()?;
        let value = self.inner.db.get_pinned_cf(self.inner.cf(), key).map_err(|error| self.inner.broken(error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn cursor(&self, start: &[u8], end: &[u8]) -> Result<DataCursor<'_>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_iterate_lower_bound(start);
        if !end.is_empty() {
            options.set_iterate_upper_bound(end);
        }
        let rows = self.inner.db.raw_iterator_cf_opt(self.inner.cf(), options);
        Ok(DataCursor { inner: &self.inner, rows, start: start.to_vec() })
    }

    /// Asks the filters: files, and rows in memory, that hold no row of the key are passed over.
    fn point_cursor(&self) -> Result<DataCursor<'_>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let rows = self.inner.db.raw_iterator_cf_opt(self.inner.cf(), options);
        Ok(DataCursor { inner: &self.inner, rows, start: Vec::new() })
    }
}

/// A cursor on the state as it was when the cursor was made.
pub struct DataCursor<'a> {
    inner: &'a Inner,
    rows: DBRawIterator<'a>,
    start: Vec<u8>,
}

impl DataCursor<'_> {
    /// Whether the last step failed. On an entry it did not: RocksDB stands on none when something is wrong.
    fn check(&self) -> Result<(), StoreError> {
        if self.rows.valid() { Ok(()) } else { self.rows.status().map_err(|error| self.inner.broken(error)) }
    }
}

impl Cursor for DataCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.inner.check_open()?;
        // RocksDB wants a seek within the bounds.
        self.rows.seek(key.max(self.start.as_slice()));
        self.check()
    }

    fn next(&mut self) -> Result<(), StoreError> {
        self.inner.check_open()?;
        if self.rows.valid() {
            self.rows.next();
        }
        self.check()
    }

    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.rows.item()
    }

    fn key(&self) -> Option<&[u8]> {
        self.rows.key()
    }
}

impl fmt::Debug for DataStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataStore")
    }
}

impl fmt::Debug for DataReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataReader")
    }
}

impl fmt::Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flusher")
    }
}

impl fmt::Debug for DataCursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataCursor")
    }
}

/// True if RocksDB never made a database here.
pub(crate) fn holds_nothing(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else { return true };
    entries.filter_map(Result::ok).all(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name == "LOCK" || name.starts_with("LOG"))
    })
}
