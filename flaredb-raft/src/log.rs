//! The log as the peer sees it: a tail of recent entries in memory over the storage below.
//!
//! ```text
//!   storage:  first ........ applied .... persisted            (durable)
//!   tail:            tail_first ................... unwritten ... last
//!                    evicted from here, oldest first     ^ the next write begins here
//! ```
//! The tail always holds every entry that is not durable and every entry that is not applied and was received since the
//! start, so replication and apply read the disk only for what is old. Storage is read only below `tail_first`.
//!
//! Not in here: who may append what. The follower and leader files decide that.

use crate::num::{to_u64, to_usize};
use crate::{EntryId, RaftLogEntry, RaftStorage, StorageError};
use alloc::{collections::VecDeque, format, vec::Vec};
use core::hash::{Hash, Hasher};

#[derive(Clone, Debug)]
pub(crate) struct Log<S> {
    storage: S,
    tail: VecDeque<RaftLogEntry>,
    tail_bytes: u64,
    cache_bytes_max: u64,
    last: EntryId,
    /// Everything up to here is durable and is what this log holds.
    persisted: EntryId,
    /// The first entry that no write has carried yet.
    unwritten: u64,
    /// The last entry of the write in flight that this log still holds; falls when the log is truncated below it. That is
    /// the ABA guard (R12): a write that comes back counts only for what was not overwritten since it left.
    writing: Option<EntryId>,
    commit: u64,
    /// The last entry handed out to be applied.
    handed_out: u64,
    applied: u64,
    /// Handed out and not yet applied: (last index, bytes) of each batch.
    applying: VecDeque<(u64, u64)>,
    applying_bytes: u64,
}

/// How many entries `check_invariants` looks at.
const RECENT: usize = 64;

/// Entries that follow each other, and their bytes.
pub(crate) struct Batch {
    pub(crate) entries: Vec<RaftLogEntry>,
    pub(crate) bytes: u64,
}

/// An append would change what is committed: the sender is wrong, or this disk is.
pub(crate) struct ConflictBelowCommit;

impl<S: RaftStorage> Log<S> {
    pub(crate) fn new(storage: S, last: EntryId, commit: u64, applied: u64, cache_bytes_max: u64) -> Self {
        Self {
            storage,
            tail: VecDeque::new(),
            tail_bytes: 0,
            cache_bytes_max,
            last,
            persisted: last,
            unwritten: last.index + 1,
            writing: None,
            commit,
            handed_out: applied,
            applied,
            applying: VecDeque::new(),
            applying_bytes: 0,
        }
    }

    pub(crate) fn storage(&self) -> &S {
        &self.storage
    }

    /// The same log over another storage, which holds the same.
    pub(crate) fn set_storage(&mut self, storage: S) {
        self.storage = storage;
    }

    /// Everything that is not in the storage.
    pub(crate) fn hash_state<H: Hasher>(&self, state: &mut H) {
        let Self {
            storage: _,
            tail,
            tail_bytes: _,
            cache_bytes_max: _,
            last,
            persisted,
            unwritten,
            writing,
            commit,
            handed_out,
            applied,
            applying,
            applying_bytes: _,
        } = self;
        (tail, last, persisted, unwritten, writing).hash(state);
        (commit, handed_out, applied, applying).hash(state);
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    pub(crate) fn persisted(&self) -> u64 {
        self.persisted.index
    }

    pub(crate) fn persisted_id(&self) -> EntryId {
        self.persisted
    }

    pub(crate) fn commit(&self) -> u64 {
        self.commit
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.unwritten <= self.last.index
    }

    fn tail_first(&self) -> u64 {
        self.last.index + 1 - to_u64(self.tail.len())
    }

    fn in_tail(&self, index: u64) -> Option<&RaftLogEntry> {
        self.tail.get(to_usize(index.checked_sub(self.tail_first())?))
    }

    /// The term of the entry at `index`; None if it was compacted away or is past the end.
    pub(crate) fn term_of(&self, index: u64) -> Result<Option<u64>, StorageError> {
        if index >= self.last.index {
            return Ok((index == self.last.index).then_some(self.last.term));
        }
        if let Some(entry) = self.in_tail(index) {
            return Ok(Some(entry.term));
        }
        match self.storage.term_of(index) {
            Ok(term) => Ok(Some(term)),
            Err(StorageError::Compacted { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Entries from `first` to `last`, at least one, then as many as fit into `bytes_max`; fewer where the disk's part ends.
    /// None if `first` was compacted away.
    pub(crate) fn entries(&self, first: u64, last: u64, bytes_max: u64) -> Result<Option<Batch>, StorageError> {
        assert!(first <= last && last <= self.last.index, "only entries of the log are read");
        let tail_first = self.tail_first();
        if let Some(start) = first.checked_sub(tail_first) {
            return Ok(Some(self.tail_entries(to_usize(start), to_usize(last - tail_first + 1), bytes_max)));
        }
        let entries = match self.storage.entries(first..tail_first.min(last + 1), bytes_max) {
            Ok(entries) => entries,
            Err(StorageError::Compacted { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let contiguous =
            entries.iter().zip(first..tail_first.min(last + 1)).filter(|(e, index)| e.index == *index).count();
        if entries.is_empty() || contiguous != entries.len() {
            let found: Vec<u64> = entries.iter().take(3).map(|entry| entry.index).collect();
            let text = format!("the log was asked for entries from {first} to {last} and returned {found:?} first");
            return Err(StorageError::Broken(text));
        }
        let bytes = entries.iter().map(RaftLogEntry::size).sum();
        Ok(Some(Batch { entries, bytes }))
    }

    fn tail_entries(&self, start: usize, end: usize, bytes_max: u64) -> Batch {
        let mut bytes = 0;
        let mut count = 0;
        for entry in self.tail.range(start..end) {
            let size = entry.size();
            if count > 0 && bytes + size > bytes_max {
                break;
            }
            bytes += size;
            count += 1;
        }
        Batch { entries: self.tail.range(start..start + count).cloned().collect(), bytes }
    }

    /// The last entry at or before `index` whose term is at most `term`: both sides of a conflict skip whole terms with it.
    /// Terms never fall within a log, so this is a binary search.
    pub(crate) fn last_with_term_at_most(&self, index: u64, term: u64) -> Result<EntryId, StorageError> {
        let index = index.min(self.last.index);
        if let Some(found) = self.term_of(index)?.filter(|found| *found <= term) {
            return Ok(EntryId { index, term: found });
        }
        let (mut low, mut high) = (self.storage.first_index()?.saturating_sub(1).min(index), index);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.term_of(middle)? {
                Some(found) if found > term => high = middle - 1,
                _ => low = middle,
            }
        }
        Ok(EntryId { index: low, term: self.term_of(low)?.unwrap_or(0).min(term) })
    }

    /// Appends one entry at the end.
    pub(crate) fn push(&mut self, entry: RaftLogEntry) {
        assert!(entry.index == self.last.index + 1, "indices rise by one");
        assert!(entry.term >= self.last.term, "terms never fall within a log");
        self.last = entry.id();
        self.tail_bytes += entry.size();
        self.tail.push_back(entry);
    }

    /// Appends what a leader sent, `entries` being contiguous and their predecessor known to match. Removes entries only from
    /// the first one whose term differs (R11): a short or late append removes nothing.
    pub(crate) fn splice(
        &mut self,
        entries: Vec<RaftLogEntry>,
    ) -> Result<Result<(), ConflictBelowCommit>, StorageError> {
        let end = entries.last().map(|entry| entry.index);
        for entry in entries {
            if entry.index <= self.last.index {
                // Compacted entries are committed, and those are the same everywhere.
                if self.term_of(entry.index)?.is_none_or(|term| term == entry.term) {
                    continue;
                }
                if entry.index <= self.commit {
                    return Ok(Err(ConflictBelowCommit));
                }
                self.truncate_from(entry.index)?;
            }
            self.push(entry);
        }
        if mutant!(ShortAppendTruncates)
            && let Some(end) = end
            && (self.commit..self.last.index).contains(&end)
        {
            self.truncate_from(end + 1)?;
        }
        self.evict();
        Ok(Ok(()))
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), StorageError> {
        assert!(index > self.commit, "committed entries are never removed");
        let before = EntryId { index: index - 1, term: self.term_of(index - 1)?.unwrap_or(0) };
        let keep = to_usize(index.saturating_sub(self.tail_first()));
        self.tail_bytes -= self.tail.range(keep.min(self.tail.len())..).map(RaftLogEntry::size).sum::<u64>();
        self.tail.truncate(keep);
        self.last = before;
        if self.persisted.index > before.index {
            self.persisted = before;
        }
        self.unwritten = self.unwritten.min(index);
        if self.writing.is_some_and(|last| last.index >= index) && !mutant!(OverwrittenWriteCounts) {
            self.writing = Some(before);
        }
        Ok(())
    }

    /// Everything that no write has carried yet, for the write that leaves now.
    pub(crate) fn start_write(&mut self) -> Vec<RaftLogEntry> {
        assert!(self.writing.is_none(), "one write is in flight at a time");
        self.writing = Some(self.last);
        let start = to_usize(self.unwritten - self.tail_first());
        self.unwritten = self.last.index + 1;
        self.tail.range(start..).cloned().collect()
    }

    /// The write in flight is durable.
    pub(crate) fn finish_write(&mut self) -> Result<(), StorageError> {
        let Some(written) = self.writing.take() else {
            unreachable!("only a write that is out can be done");
        };
        assert!(
            self.term_of(written.index)?.is_none_or(|term| term == written.term) || mutant!(OverwrittenWriteCounts),
            "what was overwritten is not counted"
        );
        // Not past the end, also where a mutant forgot that the end moved.
        let written = if written.index > self.last.index { self.last } else { written };
        if written.index > self.persisted.index {
            self.persisted = written;
        }
        self.evict();
        Ok(())
    }

    pub(crate) fn commit_to(&mut self, index: u64) {
        assert!(index <= self.last.index, "only entries of the log are committed");
        self.commit = self.commit.max(index);
    }

    /// Sum of the sizes of the entries after `after`, up to and including `last`. Only for entries that are not applied and
    /// were appended since the start: those are in the tail.
    pub(crate) fn tail_size(&self, after: u64, last: u64) -> u64 {
        let start = to_usize((after + 1).saturating_sub(self.tail_first()));
        let end = to_usize((last + 1).saturating_sub(self.tail_first()));
        self.tail.range(start.min(end)..end).map(RaftLogEntry::size).sum()
    }

    /// Last entry that may be applied: committed, and durable here.
    fn appliable(&self) -> u64 {
        if mutant!(AppliedBeforeDurable) {
            return self.commit;
        }
        self.commit.min(self.persisted.index)
    }

    pub(crate) fn can_apply(&self, bytes_max: u64) -> bool {
        self.handed_out < self.appliable() && self.applying_bytes < bytes_max.saturating_mul(4)
    }

    /// The next committed and durable entries, in order.
    pub(crate) fn next_to_apply(&mut self, bytes_max: u64) -> Result<Vec<RaftLogEntry>, StorageError> {
        let first = self.handed_out + 1;
        let Some(Batch { mut entries, bytes }) = self.entries(first, self.appliable(), bytes_max)? else {
            let text = format!("entry {first} is committed and not applied, but no longer in the log");
            return Err(StorageError::Broken(text));
        };
        self.handed_out += to_u64(entries.len());
        self.applying.push_back((self.handed_out, bytes));
        self.applying_bytes += bytes;
        if mutant!(EntrySkippedAtPageLimit) && entries.len() > 1 {
            entries.pop();
        }
        Ok(entries)
    }

    /// The state machine has applied everything up to `index`. Late reports from before a snapshot change nothing.
    pub(crate) fn on_applied(&mut self, index: u64) {
        assert!(index <= self.handed_out, "only what was handed out is applied");
        self.applied = self.applied.max(index);
        while let Some((_, bytes)) = self.applying.pop_front_if(|(last, _)| *last <= index) {
            self.applying_bytes -= bytes;
        }
        self.evict();
    }

    /// The host has replaced log and state by a snapshot up to `last`.
    pub(crate) fn reset(&mut self, last: EntryId) {
        assert!(last.index > self.commit, "a snapshot never takes the commit index back");
        assert!(self.writing.is_none(), "no write is out during an install");
        self.tail.clear();
        self.tail_bytes = 0;
        self.last = last;
        self.persisted = last;
        self.unwritten = last.index + 1;
        self.commit = last.index;
        self.handed_out = last.index;
        self.applied = last.index;
        self.applying.clear();
        self.applying_bytes = 0;
    }

    fn evict(&mut self) {
        let evictable = self.applied.min(self.persisted.index);
        while self.tail_bytes > self.cache_bytes_max {
            let Some(entry) = self.tail.pop_front_if(|entry| entry.index <= evictable) else { return };
            self.tail_bytes -= entry.size();
        }
    }

    /// I9 and the shape of the tail.
    pub(crate) fn check_invariants(&self) {
        if let (Ok(first), Ok(snapshot)) = (self.storage.first_index(), self.storage.snapshot()) {
            assert!(first <= snapshot.last.index + 1, "no gap between snapshot and log");
            assert!(first - 1 <= self.applied, "the log is compacted only up to what is applied");
        }
        assert!(self.applied <= self.handed_out, "applied <= handed out");
        assert!(self.handed_out <= self.commit, "only committed entries are handed out");
        assert!(self.handed_out <= self.persisted.index, "only durable entries are handed out");
        assert!(self.commit <= self.last.index, "commit <= last");
        assert!(self.persisted.index <= self.last.index, "persisted <= last");
        assert!(self.persisted.index < self.unwritten, "what is durable was written");
        assert!(self.unwritten <= self.last.index + 1, "unwritten <= last + 1");
        assert!(self.tail_first() <= self.persisted.index + 1, "what is not durable is in memory");
        assert!(self.tail.back().is_none_or(|entry| entry.id() == self.last), "the tail ends at the last entry");
        // Only the end changes, so a long tail is not walked again after every step. One walk: this runs after every input.
        let start = self.tail.len().saturating_sub(RECENT);
        let (mut indices_rise, mut terms_rise, mut bytes) = (true, true, 0);
        let (mut index, mut term) = (self.tail_first() + to_u64(start), 0);
        for entry in self.tail.range(start..) {
            indices_rise &= entry.index == index;
            terms_rise &= entry.term >= term;
            (index, term) = (index + 1, entry.term);
            bytes += entry.size();
        }
        assert!(indices_rise, "indices rise by one");
        assert!(terms_rise, "terms never fall within a log");
        assert!(bytes == self.tail_bytes || start > 0, "tail bytes are counted");
        assert!(
            self.applying_bytes == self.applying.iter().map(|(_, bytes)| *bytes).sum::<u64>(),
            "applying bytes are counted"
        );
    }
}
