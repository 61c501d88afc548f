//! The log's one writer: an atomic batch and at most one sync per write. Owned by the log thread.
//!
//! It asserts what the core promises (consecutive indices, terms that do not fall, no hole, nothing below the truncated
//! prefix, commit within the log): a log that breaks a rule of Raft must not reach the disk.

use crate::layout::{INDEX_END, log_key, state_key};
use crate::log::{Bounds, Shared};
use crate::mark_file::MarkFile;
use crate::record::{CHAIN_START, HEADER_BYTES, encode};
use crate::state_rows::{StateRow, TruncatedState};
use crate::{LogError, LogOptions};
use flaredb_raft::{EntryId, HardState, SnapshotMeta, StorageError, Write};
use flaredb_record::mark::{CHAIN_UNKNOWN, Mark, UNKNOWN};
use rocksdb::{FlushOptions, WriteBatch, WriteOptions};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Write access to the log.
pub struct LogWriter {
    shared: Arc<Shared>,
    synced: WriteOptions,
    unsynced: WriteOptions,
    slow_write: Duration,
    wal_bytes: usize,
    /// Bytes written to the current WAL file, nearly: without the file's framing.
    wal_used: usize,
    marks: MarkFile,
    truncated: TruncatedState,
    last: EntryId,
    /// Chain value of `last`.
    last_chain: u64,
    /// The record being encoded; kept for its memory.
    record: Vec<u8>,
    failed: Option<LogError>,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").field("last", &self.last).field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl LogWriter {
    pub(crate) fn new(
        shared: Arc<Shared>,
        options: &LogOptions,
        marks: MarkFile,
        truncated: TruncatedState,
        (last, last_chain): (EntryId, u64),
    ) -> Self {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Self {
            shared,
            synced,
            unsynced: WriteOptions::default(),
            slow_write: options.slow_write,
            wal_bytes: options.wal_bytes,
            wal_used: 0,
            marks,
            truncated,
            last,
            last_chain,
            record: Vec::new(),
            failed: None,
        }
    }

    /// The last entry that was written.
    pub fn last(&self) -> EntryId {
        self.last
    }

    /// Puts hard state and entries on the disk as one batch; the entries replace everything from the first one's index on.
    /// When this returns, the batch is durable, unless `write.sync` is false: then it is durable with the next synced write.
    ///
    /// # Errors
    /// [`LogError`] is final. Every later call returns the same error without touching the disk.
    pub fn write(&mut self, write: &Write) -> Result<(), LogError> {
        self.check_alive()?;
        assert!(write.sync || write.entries.is_empty(), "a write with entries is synced");
        let payload: usize = write.entries.iter().map(|entry| record_bytes(entry.command.len())).sum();
        let mut batch = WriteBatch::with_capacity_bytes(payload.saturating_add(256));
        let (last, last_chain) = self.put_entries(&mut batch, write)?;
        assert!(write.hard_state.commit_index <= last.index, "the commit index does not pass the end of the log");
        self.put_state(&mut batch, &write.hard_state);
        self.lower_mark(last, last_chain)?;
        self.commit(batch, write.sync)?;
        (self.last, self.last_chain) = (last, last_chain);
        self.publish();
        if write.sync { self.raise_mark(&write.hard_state, payload) } else { Ok(()) }
    }

    /// True while the last part of a WAL file is being filled. At its end the entries in memory are written to a file of
    /// their own, all but those that were truncated: it pays to truncate now.
    pub fn wal_ends_soon(&self) -> bool {
        self.wal_used >= self.wal_bytes / 10 * 7
    }

    /// True while a power cut would take the mark of the last batches back. An owner without work calls
    /// [`LogWriter::sync_mark`] then.
    pub fn mark_is_ahead(&self) -> bool {
        self.marks.is_ahead()
    }

    /// Makes the mark durable.
    ///
    /// # Errors
    /// As [`LogWriter::write`].
    pub fn sync_mark(&mut self) -> Result<(), LogError> {
        self.check_alive()?;
        self.marks.sync().map_err(|error| self.fail(error.0))
    }

    /// Notes durably that this member must come back to `until` (None: to what the others will say) before it votes or leads:
    /// what the other members know of it, or what they said, was learnt after the start. Also across restarts, until the log's
    /// end is there.
    ///
    /// # Errors
    /// As [`LogWriter::write`].
    pub fn recover(&mut self, until: Option<EntryId>) -> Result<(), LogError> {
        self.check_alive()?;
        let (acked, acked_chain) = match until {
            Some(until) if until <= self.last => (self.last, self.last_chain),
            until => (until.unwrap_or(UNKNOWN), CHAIN_UNKNOWN),
        };
        let mark = Mark { acked, acked_chain, ..*self.marks.mark() };
        self.marks.write_synced(mark).map_err(|error| self.fail(error.0))
    }

    /// Removes every entry up to and including `up_to`, which must be in the log. Durable when it returns. To be called for
    /// thousands of entries at once: each call leaves a range tombstone. Does nothing if the log already starts later.
    ///
    /// # Errors
    /// As [`LogWriter::write`].
    pub fn truncate_prefix(&mut self, up_to: EntryId) -> Result<(), LogError> {
        self.check_alive()?;
        if up_to.index <= self.truncated.id.index {
            return Ok(());
        }
        assert!(up_to.index <= self.last.index, "the log is truncated within its bounds");
        let (found, chain) = self.stored(up_to.index)?;
        assert_eq!(found, up_to, "the log is truncated at an entry that it holds");
        let truncated = TruncatedState { id: up_to, chain };
        let mut batch = WriteBatch::default();
        let first = self.truncated.id.index.saturating_add(1);
        self.delete_entries(&mut batch, first, up_to.index.saturating_add(1));
        self.put_state(&mut batch, &truncated);
        // Published first: a reader that misses an entry looks here again, to tell truncation from damage.
        self.truncated = truncated;
        self.publish();
        self.commit(batch, true)
    }

    /// Replaces the whole log by a snapshot's position: no entries, its configuration, this hard state. Atomic and durable.
    ///
    /// # Errors
    /// As [`LogWriter::write`].
    pub fn reset_to_snapshot(&mut self, snapshot: &SnapshotMeta, hard_state: &HardState) -> Result<(), LogError> {
        self.check_alive()?;
        assert!(snapshot.last.index > self.truncated.id.index, "a snapshot is ahead of the truncated prefix");
        assert!(hard_state.commit_index == snapshot.last.index, "a snapshot's last entry is the commit index");
        assert!(hard_state.current_term >= snapshot.last.term, "the current term is not below the snapshot's");
        let truncated = TruncatedState { id: snapshot.last, chain: CHAIN_START };
        let mut batch = WriteBatch::default();
        self.delete_entries(&mut batch, 0, INDEX_END);
        self.put_state(&mut batch, &truncated);
        self.put_state(&mut batch, &snapshot.conf_state);
        self.put_state(&mut batch, hard_state);
        self.lower_mark(snapshot.last, truncated.chain)?;
        self.commit(batch, true)?;
        (self.truncated, self.last, self.last_chain) = (truncated, snapshot.last, truncated.chain);
        self.publish();
        self.raise_mark(hard_state, 0)
    }

    /// Before a batch that takes the log's end back: the mark must not say more than the log holds.
    fn lower_mark(&mut self, last: EntryId, chain: u64) -> Result<(), LogError> {
        let Some(mark) = self.marks.mark().lowered(self.last, last, chain) else { return Ok(()) };
        self.marks.write_synced(mark).map_err(|error| self.fail(error.0))
    }

    /// After a batch is durable. Synced if term or vote changed: then they are in two places before they leave.
    fn raise_mark(&mut self, hard_state: &HardState, bytes: usize) -> Result<(), LogError> {
        let followed = self.marks.follow(hard_state, self.last, self.last_chain, bytes);
        followed.map_err(|error| self.fail(error.0))
    }

    /// Adds the entries, and the deletion of what they replace, to the batch. Returns the log's new end.
    fn put_entries(&mut self, batch: &mut WriteBatch, write: &Write) -> Result<(EntryId, u64), LogError> {
        let Some(first) = write.entries.first() else {
            return Ok((self.last, self.last_chain));
        };
        assert!(first.index > self.truncated.id.index, "an append does not reach into the truncated prefix");
        assert!(first.index <= self.last.index.saturating_add(1), "an append leaves no hole");
        let (mut end, mut chain) = self.position_before(first.index)?;
        for entry in &write.entries {
            assert!(entry.index == end.index.saturating_add(1), "indices rise by one");
            assert!(entry.index < INDEX_END, "no entry has the last index");
            assert!(entry.term >= end.term, "terms do not fall");
            chain = encode(self.shared.region, chain, entry, &mut self.record);
            batch.put_cf(self.shared.log_cf(), log_key(self.shared.region, entry.index), &self.record);
            end = entry.id();
        }
        assert!(write.hard_state.current_term >= end.term, "the current term is not below the log's");
        if end.index < self.last.index {
            // The rest of a conflicting tail: what is overwritten needs no deletion.
            self.delete_entries(batch, end.index.saturating_add(1), self.last.index.saturating_add(1));
        }
        Ok((end, chain))
    }

    /// The position before `index` and its chain value, from memory when appending and from its record when overwriting.
    fn position_before(&mut self, index: u64) -> Result<(EntryId, u64), LogError> {
        let before = index.saturating_sub(1);
        if before == self.last.index {
            Ok((self.last, self.last_chain))
        } else if before == self.truncated.id.index {
            Ok((self.truncated.id, self.truncated.chain))
        } else {
            self.stored(before)
        }
    }

    /// A record that cannot be read back is as final as a failed write.
    fn stored(&mut self, index: u64) -> Result<(EntryId, u64), LogError> {
        let read = self.shared.read_record(index);
        read.map_err(|error: StorageError| self.fail(error.to_string()))
    }

    fn delete_entries(&self, batch: &mut WriteBatch, from: u64, to: u64) {
        let region = self.shared.region;
        batch.delete_range_cf(self.shared.log_cf(), log_key(region, from), log_key(region, to));
    }

    fn put_state<R: StateRow>(&self, batch: &mut WriteBatch, row: &R) {
        let region = self.shared.region;
        batch.put_cf(self.shared.state_cf(), state_key(region, R::TAG), row.encode(region));
    }

    fn commit(&mut self, batch: WriteBatch, sync: bool) -> Result<(), LogError> {
        if self.wal_used >= self.wal_bytes {
            self.switch_wal().map_err(|error| self.fail(format!("taking the next WAL file: {error}")))?;
            self.wal_used = 0;
        }
        let bytes = batch.size_in_bytes();
        let begun = Instant::now();
        let options = if sync { &self.synced } else { &self.unsynced };
        if let Err(error) = self.shared.db.write_opt(batch, options) {
            self.shared.suspect.note(&error);
            return Err(self.fail(error.to_string()));
        }
        self.wal_used = self.wal_used.saturating_add(bytes);
        let took = begun.elapsed();
        if took >= self.slow_write {
            tracing::warn!(?took, bytes, sync, "slow write to the raft log");
        }
        Ok(())
    }

    /// The next batch goes to a recycled WAL file; both memtables are flushed in the background, after which this file is
    /// free. Always after the same number of bytes, so that every file fits its next use.
    fn switch_wal(&self) -> Result<(), rocksdb::Error> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.shared.db.flush_cfs_opt(&[self.shared.log_cf(), self.shared.state_cf()], &options)
    }

    fn publish(&self) {
        self.shared.set_bounds(Bounds { truncated: self.truncated.id, last: self.last });
    }

    fn check_alive(&self) -> Result<(), LogError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, what: String) -> LogError {
        tracing::error!(%what, "the raft log failed; nothing more is written to it");
        let error = LogError(what);
        self.marks.abandon();
        self.failed = Some(error.clone());
        error
    }
}

/// What an entry takes in the batch, roughly: header, key, lengths and a usual context.
fn record_bytes(command: usize) -> usize {
    command.saturating_add(HEADER_BYTES).saturating_add(64)
}
