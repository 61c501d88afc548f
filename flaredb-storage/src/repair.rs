//! Putting damaged databases aside, and a log that is sound in their place. Nothing that might tell what happened is removed.
//!
//! RocksDB changes a folder by opening it: what recovery skipped in a WAL file is gone afterwards. So hard links to the files
//! are made before ([`keep_before`]); if the log turns out to be damaged they become `raft.damaged-<n>`.
//!
//! A repaired log is always a new database, made whole and durable beside the old one, into which the intact records are
//! copied: a damaged file cannot be mended from within, and would fail the next compaction. Steps, and what a crash between
//! them leaves: `raft.repaired/` is made (it is made again), `raft/` is renamed to `raft.replaced/` (the new one is complete:
//! [`finish_interrupted`] goes on), `raft.repaired/` to `raft/`, and what was replaced goes, since its links stay.

use crate::data_dir::{DataDir, sync_dir};
use crate::examine::{Examined, region_bounds};
use crate::layout::{RAFT_DIR, log_key, state_key};
use crate::log::{log_cf, state_cf};
use crate::options::{log_cf_descriptors, log_db_options};
use crate::record::CHAIN_START;
use crate::state_rows::{StateRow, TruncatedState};
use crate::{LogOptions, OpenError};
use flaredb_raft::{ConfState, EntryId, HardState};
use rocksdb::{DB, FlushOptions, WriteBatch, WriteOptions};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const BEFORE: &str = "raft.before";
const REPAIRED: &str = "raft.repaired";
const REPLACED: &str = "raft.replaced";
/// Evidence that is kept of one kind. The first is the most telling, and it must not fill the disk.
const EVIDENCE_MAX: u32 = 8;
const COPY_BATCH_BYTES: usize = 1024 * 1024;

/// Completes or undoes a repair that a crash interrupted.
pub(crate) fn finish_interrupted(member: &Path) -> Result<(), OpenError> {
    let [raft, repaired, replaced] = [RAFT_DIR, REPAIRED, REPLACED].map(|name| member.join(name));
    if repaired.exists() {
        if raft.exists() {
            remove(&repaired)?;
        } else {
            rename(&repaired, &raft)?;
        }
    }
    if replaced.exists() {
        if raft.exists() {
            set_aside(member, REPLACED, RAFT_DIR)?;
        } else {
            rename(&replaced, &raft)?;
        }
    }
    sync_dir(member)
}

/// Hard links to the log's files, so that they outlive what opening does to them. Those of an open that did not end are older
/// and stay. A file system without hard links goes without.
pub(crate) fn keep_before(member: &Path) -> Result<(), OpenError> {
    let (raft, before) = (member.join(RAFT_DIR), member.join(BEFORE));
    if before.exists() || !raft.exists() {
        return Ok(());
    }
    let linked = (|| {
        fs::create_dir(&before)?;
        for entry in fs::read_dir(&raft)? {
            let entry = entry?;
            if entry.file_type()?.is_file() && entry.file_name() != "LOCK" {
                fs::hard_link(entry.path(), before.join(entry.file_name()))?;
            }
        }
        Ok(())
    })();
    linked.or_else(|error: std::io::Error| {
        tracing::debug!(%error, "the log's files cannot be linked; if it is damaged it is kept as RocksDB leaves it");
        remove(&before)
    })
}

/// The log was whole: what was kept is not needed.
pub(crate) fn forget_before(member: &Path) -> Result<(), OpenError> {
    remove(&member.join(BEFORE))
}

/// What was kept becomes evidence.
pub(crate) fn keep_as_evidence(member: &Path) -> Result<(), OpenError> {
    if member.join(BEFORE).exists() { set_aside(member, BEFORE, RAFT_DIR).map(|_| ()) } else { Ok(()) }
}

/// Renames `member/<name>` to the next free `member/<kind>.damaged-<n>` and returns it; removes it if there is enough evidence
/// of this kind.
pub(crate) fn set_aside(member: &Path, name: &str, kind: &str) -> Result<Option<PathBuf>, OpenError> {
    let from = member.join(name);
    let free = (1..=EVIDENCE_MAX).map(|n| member.join(format!("{kind}.damaged-{n}"))).find(|path| !path.exists());
    if let Some(to) = &free {
        rename(&from, to)?;
    } else {
        tracing::warn!(path = %from.display(), "there is enough evidence of earlier damage; this is not kept");
        remove(&from)?;
    }
    sync_dir(member)?;
    Ok(free)
}

/// A new log in the place of the one that is there.
#[derive(Debug)]
pub(crate) struct Rebuild<'a> {
    pub(crate) dir: &'a DataDir,
    pub(crate) options: &'a LogOptions,
    pub(crate) examined: &'a Examined,
    pub(crate) hard_state: HardState,
    pub(crate) restart_at: Option<EntryId>,
}

impl Rebuild<'_> {
    /// `old`: where the records come from; closed afterwards.
    pub(crate) fn run(&self, old: Option<DB>) -> Result<(), OpenError> {
        let member = self.dir.member_path();
        let [raft, repaired, replaced] = [RAFT_DIR, REPAIRED, REPLACED].map(|name| member.join(name));
        remove(&repaired)?;
        self.make(&repaired, old.as_ref())?;
        drop(old);
        sync_dir(&repaired)?;
        sync_dir(member)?;
        let evidence = member.join(BEFORE).exists();
        if raft.exists() {
            rename(&raft, &replaced)?;
        }
        rename(&repaired, &raft)?;
        sync_dir(member)?;
        if !replaced.exists() {
            return Ok(());
        }
        if evidence { remove(&replaced) } else { set_aside(member, REPLACED, RAFT_DIR).map(|_| ()) }
    }

    fn make(&self, path: &Path, old: Option<&DB>) -> Result<(), OpenError> {
        let broken = |error: rocksdb::Error| OpenError::rocksdb(path, &error);
        let options = log_db_options(self.options, true).map_err(broken)?;
        let db = DB::open_cf_descriptors(&options, path, log_cf_descriptors(self.options)).map_err(broken)?;
        let identity = self.dir.identity();
        let region = identity.region_id;
        let mut voters = identity.voters.clone();
        voters.sort_unstable();
        let truncated = match self.restart_at {
            Some(id) => TruncatedState { id, chain: CHAIN_START },
            None => self.examined.truncated,
        };
        if let (None, Some(old)) = (self.restart_at, old) {
            self.copy(old, &db, region, path)?;
        }
        let mut batch = WriteBatch::default();
        put(&db, &mut batch, region, &self.hard_state);
        put(&db, &mut batch, region, &ConfState { voters });
        put(&db, &mut batch, region, &truncated);
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        db.write_opt(batch, &synced).map_err(broken)?;
        db.flush_cfs_opt(&[log_cf(&db), state_cf(&db)], &FlushOptions::default()).map_err(broken)
    }

    /// The intact prefix, byte for byte: it was verified a moment ago.
    fn copy(&self, old: &DB, new: &DB, region: u64, path: &Path) -> Result<(), OpenError> {
        let broken = |error: rocksdb::Error| OpenError::rocksdb(path, &error);
        let first = self.examined.truncated.id.index.saturating_add(1);
        let mut rows = old.raw_iterator_cf_opt(log_cf(old), region_bounds(region));
        let mut batch = WriteBatch::default();
        // Not a step further than the last one: behind it may be the block that is damaged.
        for index in first..=self.examined.last.index {
            if index == first {
                rows.seek(log_key(region, first));
            } else {
                rows.next();
            }
            let Some((key, value)) = rows.item() else { break };
            batch.put_cf(log_cf(new), key, value);
            if batch.size_in_bytes() >= COPY_BATCH_BYTES {
                new.write(std::mem::take(&mut batch)).map_err(broken)?;
            }
        }
        rows.status().map_err(broken)?;
        new.write(batch).map_err(broken)
    }
}

/// Hard state and configuration as they should be, in the log as it is.
pub(crate) fn mend_rows(db: &DB, dir: &DataDir, hard_state: &HardState) -> Result<(), OpenError> {
    put_rows(db, dir, hard_state, None)
}

/// The first batch of a new member.
pub(crate) fn make_rows(db: &DB, dir: &DataDir) -> Result<(), OpenError> {
    put_rows(db, dir, &HardState::default(), Some(&TruncatedState::default()))
}

fn put_rows(
    db: &DB,
    dir: &DataDir,
    hard_state: &HardState,
    truncated: Option<&TruncatedState>,
) -> Result<(), OpenError> {
    let identity = dir.identity();
    let mut voters = identity.voters.clone();
    voters.sort_unstable();
    let mut batch = WriteBatch::default();
    put(db, &mut batch, identity.region_id, hard_state);
    put(db, &mut batch, identity.region_id, &ConfState { voters });
    if let Some(truncated) = truncated {
        put(db, &mut batch, identity.region_id, truncated);
    }
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.write_opt(batch, &synced).map_err(|error| OpenError::rocksdb(dir.raft_path(), &error))
}

/// True if RocksDB says that files are missing or not what they were; false if it could not look (space, permission, I/O).
pub(crate) fn is_damage(error: &rocksdb::Error) -> bool {
    use rocksdb::ErrorKind::{Corruption, InvalidArgument, NotFound};
    match error.kind() {
        Corruption | InvalidArgument | NotFound => true,
        _ => is_missing_file(error),
    }
}

/// RocksDB has no kind of its own for it.
pub(crate) fn is_missing_file(error: &rocksdb::Error) -> bool {
    error.kind() == rocksdb::ErrorKind::IOError && error.as_ref().contains("No such file")
}

fn put<R: StateRow>(db: &DB, batch: &mut WriteBatch, region: u64, row: &R) {
    batch.put_cf(state_cf(db), state_key(region, R::TAG), row.encode(region));
}

fn rename(from: &Path, to: &Path) -> Result<(), OpenError> {
    fs::rename(from, to).map_err(|error| OpenError::io(from, &error))
}

fn remove(path: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(OpenError::io(path, &error)),
        _ => Ok(()),
    }
}
