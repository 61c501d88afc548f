//! What the driver does besides requests: flushing the data store, so that the log can be truncated, and removing
//! compacted rows. Both stay off the path of requests: the flush on a thread of its own, the removal in steps of about a
//! millisecond with pauses.

use flaredb_kv::StoreError;
use flaredb_storage::Flusher;
use std::time::Duration;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// When a flush is due.
struct Due {
    entries_max: u64,
    flushed_index: u64,
    wal_ends_soon: bool,
    /// The log's WAL file ends soon, and no flush began since that is known: each file asks once.
    asked_by_wal: bool,
}

impl Due {
    fn on_wal(&mut self, ends_soon: bool) {
        self.asked_by_wal |= ends_soon && !self.wal_ends_soon;
        self.wal_ends_soon = ends_soon;
    }

    fn is_due(&self, applied_index: u64) -> bool {
        let entries = applied_index.saturating_sub(self.flushed_index);
        entries >= self.entries_max || (self.asked_by_wal && entries > 0)
    }
}

/// When to flush, and the flush that runs.
pub(super) struct Flushing {
    flusher: Flusher,
    due: Due,
    running: Option<(u64, JoinHandle<Result<(), StoreError>>)>,
}

impl Flushing {
    /// `applied_index` is what the disk holds at start.
    pub(super) fn new(flusher: Flusher, entries_max: u64, applied_index: u64) -> Self {
        let entries_max = entries_max.max(1);
        let due = Due { entries_max, flushed_index: applied_index, wal_ends_soon: false, asked_by_wal: false };
        Self { flusher, due, running: None }
    }

    /// A flush before a WAL file ends lets the log be truncated while its entries are in memory: most are then never written
    /// a second time. It also bounds what a restart has to apply, however large the entries.
    pub(super) fn on_wal(&mut self, ends_soon: bool) {
        self.due.on_wal(ends_soon);
    }

    /// Starts a flush if enough has been applied and none runs.
    pub(super) fn maybe_start(&mut self, applied_index: u64) {
        if self.running.is_some() || !self.due.is_due(applied_index) {
            return;
        }
        let flusher = self.flusher.clone();
        self.due.asked_by_wal = false;
        self.running = Some((applied_index, tokio::task::spawn_blocking(move || flusher.flush())));
    }

    /// Waits for the flush that runs, for ever if there is none. Returns the applied index that is durable now.
    pub(super) async fn done(&mut self) -> Result<u64, StoreError> {
        let Some((applied_index, task)) = &mut self.running else { return std::future::pending().await };
        let applied_index = *applied_index;
        let result = task.await.unwrap_or_else(|error| Err(StoreError(format!("the flush did not finish: {error}"))));
        self.running = None;
        result?;
        self.due.flushed_index = applied_index;
        Ok(applied_index)
    }

    /// For a clean stop: everything applied is durable when this returns.
    pub(super) async fn finish(&mut self) -> Result<(), StoreError> {
        if self.running.is_some() {
            self.done().await?;
        }
        let flusher = self.flusher.clone();
        let task = tokio::task::spawn_blocking(move || flusher.flush());
        task.await.unwrap_or_else(|error| Err(StoreError(format!("the flush did not finish: {error}"))))
    }
}

const STEP_TIME: Duration = Duration::from_millis(1);
/// Keeps the removal of old rows below about a fifth of the thread's time.
const STEP_PAUSE: Duration = Duration::from_millis(5);
/// A reader from before the compaction holds the removal up.
const BLOCKED_PAUSE: Duration = Duration::from_millis(100);
const ROWS_MIN: usize = 16;
const ROWS_MAX: usize = 4096;

/// When to remove compacted rows, and how many at a time.
pub(super) struct Compacting {
    /// The compaction that is removed completely.
    done_for: Option<i64>,
    rows: usize,
    next: Instant,
}

impl Compacting {
    pub(super) fn new() -> Self {
        Self { done_for: None, rows: ROWS_MIN, next: Instant::now() }
    }

    pub(super) fn is_pending(&self, compact_revision: i64) -> bool {
        self.done_for != Some(compact_revision)
    }

    /// Rows to look at in the next step.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) async fn due(&self) {
        sleep_until(self.next).await;
    }

    pub(super) fn on_done(&mut self, compact_revision: i64) {
        self.done_for = Some(compact_revision);
    }

    /// `rows` were looked at since `began`; none if a reader is in the way.
    pub(super) fn on_step(&mut self, rows: usize, began: Instant) {
        let now = Instant::now();
        if rows == 0 {
            self.next = now + BLOCKED_PAUSE;
            return;
        }
        let rows = if now - began > STEP_TIME { self.rows / 2 } else { self.rows * 2 };
        self.rows = rows.clamp(ROWS_MIN, ROWS_MAX);
        self.next = now + STEP_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due() -> Due {
        Due { entries_max: 100, flushed_index: 50, wal_ends_soon: false, asked_by_wal: false }
    }

    #[test]
    fn a_flush_is_due_after_so_many_entries() {
        assert!(!due().is_due(149));
        assert!(due().is_due(150));
    }

    #[test]
    fn each_wal_file_asks_for_one_flush() {
        let mut due = due();
        due.on_wal(true);
        assert!(due.is_due(51));
        assert!(!due.is_due(50), "nothing new to flush");
        due.asked_by_wal = false;
        due.on_wal(true);
        assert!(!due.is_due(60), "the same file asks once");
        due.on_wal(false);
        assert!(!due.is_due(60));
        due.on_wal(true);
        assert!(due.is_due(60), "the next file");
    }
}
