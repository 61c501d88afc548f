//! Makes the WAL files of this process before the first write needs them.
//!
//! Why: a synced append to a file whose size or blocks change commits the file system's journal, about twice the time of a
//! sync over blocks that exist. RocksDB recycles WAL files, but only those that it made itself since it was opened, so
//! without this the first file of every process, and each file's first use, is slow.
//!
//! How: a WAL file is filled with bytes that recovery ignores (`put_log_data`), both column families are flushed, and the
//! file goes to the recycle list; twice, because the second file must exist before the first can be taken again. From then on
//! writer and flusher alternate between the two. Should a flush take longer than filling a file, RocksDB makes a third one,
//! slow once, and keeps it.
//!
//! More than two cannot be had this way: a file is free again before the next is full.

use crate::layout::{INDEX_END, StateTag, log_key, state_key};
use crate::log::{log_cf, state_cf};
use rocksdb::{DB, FlushOptions, WriteBatch, WriteOptions};

const FILES: usize = 2;
const CHUNK_BYTES: usize = 256 * 1024;
/// What a file may outgrow `wal_bytes` by: the batch that passes the limit is the file's last.
const LARGEST_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Leaves the database with a prefilled current WAL file and another one in the recycle list.
pub(crate) fn prefill(db: &DB, region: u64, wal_bytes: usize) -> Result<(), rocksdb::Error> {
    for _ in 0..FILES {
        fill(db, region, wal_bytes)?;
        db.flush_cfs_opt(&[log_cf(db), state_cf(db)], &FlushOptions::default())?;
    }
    Ok(())
}

fn fill(db: &DB, region: u64, wal_bytes: usize) -> Result<(), rocksdb::Error> {
    let bytes = wal_bytes.saturating_add(LARGEST_BATCH_BYTES.min(wal_bytes / 4));
    let chunk = vec![0_u8; CHUNK_BYTES];
    for _ in 0..bytes / CHUNK_BYTES {
        let mut batch = WriteBatch::with_capacity_bytes(CHUNK_BYTES + 64);
        batch.put_log_data(&chunk);
        db.write(batch)?;
    }
    // A tombstone for each column family, because an empty memtable is not flushed; synced, so that the blocks are written.
    let mut batch = WriteBatch::default();
    batch.delete_cf(log_cf(db), log_key(region, INDEX_END));
    batch.delete_cf(state_cf(db), state_key(region, StateTag::Prefill));
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.write_opt(batch, &synced)
}
