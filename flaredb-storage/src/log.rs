//! Opening the Raft log: RocksDB, recovery, the first batch of a new member, and the WAL's prefill, in this order.

use crate::data_dir::DirLock;
use crate::layout::{RAFT_LOG_CF, RAFT_STATE_CF};
use crate::log_reader::LogReader;
use crate::log_reset;
use crate::log_writer::LogWriter;
use crate::options::{log_cf_descriptors, log_db_options};
use crate::recovery::{Recovered, recover};
use crate::wal_prefill::prefill;
use crate::{DataDir, LogOptions, OpenError};
use flaredb_raft::EntryId;
use rocksdb::{ColumnFamily, DB};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// The log's database; opened into a reader and a writer.
#[derive(Debug)]
pub struct RaftLog;

impl RaftLog {
    /// Opens the log of `dir`'s member and verifies it from end to end: every record's checksum, place and chain, terms that
    /// do not fall, no hole, hard state and configuration that fit. Then prefills the WAL.
    ///
    /// # Errors
    /// [`OpenError::Inconsistent`] names the column family and the keys; the member must then not take part.
    pub fn open(dir: &DataDir, options: &LogOptions) -> Result<(LogReader, LogWriter), OpenError> {
        let path = dir.raft_path();
        let begun = Instant::now();
        let was_made = dir.log_was_made()?;
        let broken = |error: rocksdb::Error| OpenError::rocksdb(&path, &error);
        let db_options = log_db_options(options, !was_made).map_err(broken)?;
        let db = DB::open_cf_descriptors(&db_options, &path, log_cf_descriptors(options)).map_err(broken)?;
        let opened = begun.elapsed();

        log_reset::finish(&db, &path, dir.member_path(), dir.identity().region_id)?;
        let recovered = recover(&db, &path, dir.identity(), was_made)?;
        if !was_made {
            dir.set_log_made()?;
        }
        let verified = begun.elapsed();
        if options.prefill {
            prefill(&db, &path, dir.identity().region_id, options.wal_bytes)?;
        }
        tracing::info!(
            path = %path.display(),
            first = recovered.truncated.id.index.saturating_add(1),
            last = %recovered.last,
            rocksdb = ?opened,
            verify = ?verified.saturating_sub(opened),
            prefill = ?begun.elapsed().saturating_sub(verified),
            "raft log open"
        );
        let Recovered { truncated, last, last_chain } = recovered;
        let shared = Arc::new(Shared {
            db,
            region: dir.identity().region_id,
            bounds: RwLock::new(Bounds { truncated: truncated.id, last }),
            _lock: dir.lock(),
        });
        let writer = LogWriter::new(Arc::clone(&shared), options, truncated, last, last_chain);
        Ok((LogReader::new(shared), writer))
    }
}

/// What reader and writer share. The database is closed, and the folder unlocked, when the last of them is dropped.
pub(crate) struct Shared {
    // Before the lock: fields are dropped in this order.
    pub(crate) db: DB,
    pub(crate) region: u64,
    bounds: RwLock<Bounds>,
    _lock: Arc<DirLock>,
}

/// What is durable: moved by the writer when a write has returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) truncated: EntryId,
    pub(crate) last: EntryId,
}

impl Shared {
    pub(crate) fn bounds(&self) -> Bounds {
        *self.bounds.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        *self.bounds.write().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    pub(crate) fn log_cf(&self) -> &ColumnFamily {
        log_cf(&self.db)
    }

    pub(crate) fn state_cf(&self) -> &ColumnFamily {
        state_cf(&self.db)
    }
}

#[expect(clippy::expect_used, reason = "the database was opened with this column family")]
pub(crate) fn log_cf(db: &DB) -> &ColumnFamily {
    db.cf_handle(RAFT_LOG_CF).expect("the raft database has raft_log")
}

#[expect(clippy::expect_used, reason = "the database was opened with this column family")]
pub(crate) fn state_cf(db: &DB) -> &ColumnFamily {
    db.cf_handle(RAFT_STATE_CF).expect("the raft database has raft_state")
}
