//! The Raft log of a simulated node: RocksDB as far as the log needs it, on a [`SimDisk`].
//!
//! A batch goes into the WAL's cache with `begin_write` and is durable, and visible to readers, after `sync`: between the two a
//! crash may take it or leave it, as a whole. What is read while it runs comes from memory, as from RocksDB's memtable; the disk
//! is read at a start, and by compactions of its tables. Any error is final.

#![expect(clippy::indexing_slicing, reason = "ranges of rows are checked against the log's bounds first")]

use super::identity::Identity;
use super::image::Image;
use super::manifest::{Flush, Manifest};
use super::mark_file::MarkFile;
use super::recovery::{LogRow, wal_name};
use super::rows::Truncated;
use super::sectors::{DiskError, SimDisk};
use super::table::{self, TableBuilder};
use super::wal::Frame;
use flaredb_kv::{AppliedState, MemoryStore};
use flaredb_raft::{ConfState, EntryId, HardState, RaftLogEntry, SnapshotMeta, Write};
use flaredb_record::mark::{self, Mark};
use flaredb_record::record::{CHAIN_START, encode};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A node's log and the image of its state machine. Clones are handles to the same one; all are dropped when the node dies.
#[derive(Clone, Debug)]
pub struct ModelLog(pub(super) Rc<RefCell<Engine>>);

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) disk: SimDisk,
    pub(super) identity: Identity,
    pub(super) options: LogOptions,
    pub(super) manifest: Manifest,
    pub(super) flush: Option<Flush>,
    pub(super) wal: Wal,
    /// Sequence of the next frame.
    pub(super) sequence: u64,
    pub(super) hard_state: HardState,
    pub(super) conf_state: ConfState,
    pub(super) truncated: Truncated,
    pub(super) rows: VecDeque<LogRow>,
    /// The lowest index that was written, or cut away at the end, since the last table; `u64::MAX` if none.
    pub(super) touched_from: u64,
    pub(super) image: Image,
    pub(super) mark: MarkFile,
    pub(super) pending: Option<Pending>,
    pub(super) frame: Frame,
    pub(super) record: Vec<u8>,
    pub(super) failed: Option<DiskError>,
}

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// After so many bytes the WAL goes on in the other file.
    pub wal_bytes: usize,
    /// So many tables are merged into one.
    pub tables_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { wal_bytes: 64 << 10, tables_max: 4 }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wal {
    pub(super) number: u64,
    pub(super) used: usize,
    /// The file before this one has frames that no sync has reached.
    pub(super) before_unsynced: bool,
    pub(super) unsynced: bool,
}

/// A batch in the cache.
#[derive(Debug)]
pub(super) struct Pending {
    hard_state: HardState,
    rows: Vec<LogRow>,
    sync: bool,
}

impl ModelLog {
    /// Puts hard state and entries into the cache as one batch; the entries replace everything from the first one's index on.
    /// One write at a time.
    pub fn begin_write(&self, write: &Write) -> Result<(), DiskError> {
        let engine = &mut *self.0.borrow_mut();
        engine.attempt(|engine| engine.begin_write(write))
    }

    /// Ends the write that was begun: it is durable now, unless its `sync` is false (then it is so with the next one that is
    /// synced). Nothing if none was begun.
    pub fn sync(&self) -> Result<(), DiskError> {
        let engine = &mut *self.0.borrow_mut();
        engine.attempt(Engine::end_write)
    }

    /// Removes every entry up to and including `up_to`, which must be in the log; durable when it returns. Does nothing if the
    /// log already starts later. Must not pass [`ModelLog::durable_applied`].
    pub fn truncate(&self, up_to: EntryId) -> Result<(), DiskError> {
        let engine = &mut *self.0.borrow_mut();
        engine.attempt(|engine| engine.truncate(up_to))
    }

    /// Replaces the log by a snapshot's position, its configuration and this hard state; atomic, and durable when it returns.
    /// The rows are to be installed first: [`ModelLog::install_image`].
    pub fn reset_to_snapshot(&self, snapshot: &SnapshotMeta, hard_state: HardState) -> Result<(), DiskError> {
        let engine = &mut *self.0.borrow_mut();
        engine.attempt(|engine| engine.reset(snapshot, hard_state))
    }

    /// Writes the state machine's rows into the cache, beside the durable ones.
    pub fn save_image(&self, applied: AppliedState, store: MemoryStore) -> Result<(), DiskError> {
        let engine = &mut *self.0.borrow_mut();
        engine.attempt(|engine| engine.image.save(&engine.disk, applied, engine.image.stamp.base, store))
    }

    /// Makes what was saved durable, and then lets it count. A crash in between falls back to what was there.
    pub fn sync_image(&self) -> Result<(), DiskError> {
        let engine = &mut *self.0.borrow_mut();
        engine.attempt(|engine| engine.image.sync(&engine.disk))
    }

    /// Replaces the rows by a snapshot's; durable when it returns. If a crash falls between this and `reset_to_snapshot`, the
    /// next start does that.
    pub fn install_image(
        &self,
        snapshot: &SnapshotMeta,
        applied: AppliedState,
        store: MemoryStore,
    ) -> Result<(), DiskError> {
        let engine = &mut *self.0.borrow_mut();
        engine.attempt(|engine| {
            engine.lower_mark(snapshot.last, CHAIN_START)?;
            engine.image.save(&engine.disk, applied, snapshot.last, store)?;
            engine.image.sync(&engine.disk)
        })
    }

    /// Notes, durably, that this member has promised more than its log holds: until the log's end is there it must not vote.
    /// None: it is not known how much. (A member whose disk was replaced learns it from the others.)
    pub fn recover_until(&self, until: Option<EntryId>) -> Result<(), DiskError> {
        let engine = &mut *self.0.borrow_mut();
        engine.attempt(|engine| engine.recover_until(until))
    }

    /// How far the rows on the disk have come: the log must not be truncated past it.
    pub fn durable_applied(&self) -> AppliedState {
        self.0.borrow().image.stamp.applied
    }

    /// The last entry's position.
    pub fn last(&self) -> EntryId {
        self.0.borrow().last()
    }

    /// Everything in the log.
    pub fn all_entries(&self) -> Vec<RaftLogEntry> {
        self.0.borrow().rows.iter().map(|row| row.entry.clone()).collect()
    }

    /// The error that ended it.
    pub fn failure(&self) -> Option<DiskError> {
        self.0.borrow().failed.clone()
    }
}

impl Engine {
    /// The first error is the answer to everything that follows.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<(), DiskError>) -> Result<(), DiskError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        work(self).inspect_err(|error| self.failed = Some(error.clone()))
    }

    pub(super) fn first(&self) -> u64 {
        self.truncated.id.index + 1
    }

    pub(super) fn last(&self) -> EntryId {
        self.end().0
    }

    /// The last entry with its chain value.
    pub(super) fn end(&self) -> (EntryId, u64) {
        self.rows.back().map_or((self.truncated.id, self.truncated.chain), |row| (row.entry.id(), row.chain))
    }

    /// Position in `rows`; the index must not be below the first.
    pub(super) fn place(&self, index: u64) -> usize {
        usize::try_from(index - self.first()).unwrap_or(usize::MAX)
    }

    /// The entry before `index`, with its chain value.
    fn before(&self, index: u64) -> (EntryId, u64) {
        match self.place(index).checked_sub(1) {
            None => (self.truncated.id, self.truncated.chain),
            Some(place) => (self.rows[place].entry.id(), self.rows[place].chain),
        }
    }

    fn begin_write(&mut self, write: &Write) -> Result<(), DiskError> {
        assert!(self.pending.is_none(), "one write is out at a time");
        assert!(write.sync || write.entries.is_empty(), "a write with entries is synced");
        self.frame.clear();
        let mut rows = Vec::with_capacity(write.entries.len());
        let (mut end, mut chain) = self.end();
        if let Some(first) = write.entries.first() {
            assert!(first.index >= self.first(), "an append does not reach into the truncated prefix");
            assert!(first.index <= end.index + 1, "an append leaves no hole");
            let last_before = end.index;
            (end, chain) = self.before(first.index);
            for entry in &write.entries {
                assert!(entry.index == end.index + 1, "indices rise by one");
                assert!(entry.term >= end.term, "terms do not fall");
                chain = encode(self.identity.region_id, chain, entry, &mut self.record);
                self.frame.put_log(entry.index, &self.record);
                rows.push(LogRow { entry: entry.clone(), chain });
                end = entry.id();
            }
            if end.index < last_before {
                self.frame.cut_from(end.index + 1);
            }
        }
        assert!(write.hard_state.current_term >= end.term, "the current term is not below the log's");
        assert!(write.hard_state.commit_index <= end.index, "the commit index does not pass the end of the log");
        self.frame.put_state(&write.hard_state);
        self.lower_mark(end, chain)?;
        self.append_frame()?;
        self.pending = Some(Pending { hard_state: write.hard_state, rows, sync: write.sync });
        Ok(())
    }

    fn end_write(&mut self) -> Result<(), DiskError> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        if pending.sync {
            self.sync_wal()?;
        }
        self.hard_state = pending.hard_state;
        if let Some(first) = pending.rows.first().map(|row| row.entry.index) {
            self.rows.truncate(self.place(first));
            self.rows.extend(pending.rows);
            self.touched_from = self.touched_from.min(first);
        }
        if pending.sync { self.raise_mark() } else { Ok(()) }
    }

    /// Before the log's end falls.
    fn lower_mark(&mut self, end: EntryId, chain: u64) -> Result<(), DiskError> {
        match self.mark.mark.lowered(self.last(), end, chain) {
            Some(mark) => self.mark.put(&self.disk, mark, true),
            None => Ok(()),
        }
    }

    /// After a batch is durable.
    fn raise_mark(&mut self) -> Result<(), DiskError> {
        let (end, chain) = self.end();
        let (mark, must) = self.mark.mark.after(&self.hard_state, end, chain);
        self.mark.put(&self.disk, mark, must)
    }

    /// What was promised and is not there.
    pub(super) fn missing_until(&self) -> Option<EntryId> {
        let acked = self.mark.mark.acked;
        (self.last() < acked).then_some(acked)
    }

    fn recover_until(&mut self, until: Option<EntryId>) -> Result<(), DiskError> {
        let (end, chain) = self.end();
        let until = until.unwrap_or(mark::UNKNOWN);
        let (acked, acked_chain) = if until > end { (until, mark::CHAIN_UNKNOWN) } else { (end, chain) };
        let mark = Mark { acked, acked_chain, ..self.mark.mark };
        self.mark.put(&self.disk, mark, true)
    }

    fn truncate(&mut self, up_to: EntryId) -> Result<(), DiskError> {
        assert!(self.pending.is_none(), "one write is out at a time");
        if up_to.index < self.first() {
            return Ok(());
        }
        assert!(up_to.index <= self.image.stamp.applied.index, "only what the rows on the disk hold is truncated");
        assert!(up_to.index <= self.last().index, "the log is truncated within its bounds");
        let (id, chain) = self.before(up_to.index + 1);
        assert_eq!(id, up_to, "the log is truncated at an entry that it holds");
        let truncated = Truncated { id, chain };
        self.frame.clear();
        self.frame.cut_to(up_to.index);
        self.frame.put_state(&truncated);
        self.append_frame()?;
        self.sync_wal()?;
        self.rows.drain(..=self.place(up_to.index));
        self.truncated = truncated;
        Ok(())
    }

    fn reset(&mut self, snapshot: &SnapshotMeta, hard_state: HardState) -> Result<(), DiskError> {
        assert!(self.pending.is_none(), "one write is out at a time");
        assert!(snapshot.last.index > self.truncated.id.index, "a snapshot is ahead of the truncated prefix");
        assert!(hard_state.commit_index == snapshot.last.index, "a snapshot's last entry is the commit index");
        assert!(hard_state.current_term >= snapshot.last.term, "the current term is not below the snapshot's");
        let truncated = Truncated { id: snapshot.last, chain: CHAIN_START };
        self.lower_mark(snapshot.last, CHAIN_START)?;
        if self.mark.mark.acked > snapshot.last {
            // On its way back to an entry that it lost. The chain begins anew, so that entry will have another chain value.
            let mark = Mark { acked_chain: mark::CHAIN_UNKNOWN, ..self.mark.mark };
            self.mark.put(&self.disk, mark, true)?;
        }
        self.frame.clear();
        self.frame.cut_from(0);
        self.frame.put_state(&truncated);
        self.frame.put_state(&snapshot.conf_state);
        self.frame.put_state(&hard_state);
        self.append_frame()?;
        self.sync_wal()?;
        self.rows.clear();
        self.touched_from = 0;
        (self.truncated, self.hard_state, self.conf_state) = (truncated, hard_state, snapshot.conf_state.clone());
        self.raise_mark()
    }

    /// Puts the frame into the WAL's cache.
    fn append_frame(&mut self) -> Result<(), DiskError> {
        if self.wal.used >= self.options.wal_bytes {
            self.switch_wal()?;
        }
        self.advance_flush()?;
        let name = wal_name(self.wal.number);
        let file = self.disk.find(name).ok_or_else(|| DiskError::Missing(name.to_owned()))?;
        let bytes = self.frame.finish(self.wal.number, self.sequence);
        self.disk.write(file, self.wal.used, bytes)?;
        self.wal.used += bytes.len();
        self.wal.unsynced = true;
        self.sequence += 1;
        Ok(())
    }

    /// A sync reaches all frames before it too, wherever they are.
    fn sync_wal(&mut self) -> Result<(), DiskError> {
        for (unsynced, number) in
            [(self.wal.before_unsynced, self.wal.number.wrapping_sub(1)), (self.wal.unsynced, self.wal.number)]
        {
            if let Some(file) = self.disk.find(wal_name(number)).filter(|_| unsynced) {
                self.disk.sync(file)?;
            }
        }
        (self.wal.before_unsynced, self.wal.unsynced) = (false, false);
        Ok(())
    }

    /// The next frame goes to the other file. What this one holds becomes a table, a step with each further write.
    fn switch_wal(&mut self) -> Result<(), DiskError> {
        while self.flush.is_some() {
            self.advance_flush()?;
        }
        let merges = self.manifest.tables.len() >= self.options.tables_max;
        if merges {
            self.manifest.tables.iter().try_for_each(|number| table::verify(&self.disk, *number))?;
            self.touched_from = 0;
        }
        let content = self.table();
        let next = self.wal.number + 1;
        self.flush = Some(Flush::new(&self.manifest, content, merges, next, self.sequence));
        self.wal = Wal { number: next, used: 0, before_unsynced: self.wal.unsynced, unsynced: false };
        self.touched_from = u64::MAX;
        Ok(())
    }

    fn advance_flush(&mut self) -> Result<(), DiskError> {
        if let Some(flush) = &mut self.flush
            && flush.advance(&self.disk)?
        {
            self.manifest = flush.after.clone();
            self.flush = None;
        }
        Ok(())
    }

    /// What was changed since the last table.
    pub(super) fn table(&mut self) -> Vec<u8> {
        let mut table = TableBuilder::new(self.manifest.next_table, self.truncated.id.index, self.touched_from);
        table.states(&self.hard_state, &self.conf_state, &self.truncated);
        let from = self.touched_from.max(self.first());
        if from <= self.last().index {
            let mut chain = self.before(from).1;
            for row in self.rows.range(self.place(from)..) {
                chain = encode(self.identity.region_id, chain, &row.entry, &mut self.record);
                table.record(row.entry.index, &self.record);
            }
        }
        table.finish()
    }
}
