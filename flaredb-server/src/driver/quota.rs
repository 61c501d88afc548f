//! The quota on this node's data: when it holds, and giving space back while it does.
//!
//! What is measured is the store's total, which is `dbSize` in Status: what the disk must hold. It falls the moment RocksDB
//! has rewritten files without removed rows, and no figure falls sooner for that reason: the one for bytes in use does not
//! know what tombstones cover. It only leaves out files that overlap others, so it also falls when nothing was freed.
//!
//! RocksDB rewrites files when it sees fit, which for removed rows may be never. So it is told to: once when the quota
//! begins to hold, and after each removal of compacted rows that ends while it does.

use crate::disk;
use flaredb_storage::Flusher;
use std::path::{Path, PathBuf};
use tokio::task::JoinHandle;

/// The part of the quota by which the size must have fallen below it before writes are let in again, as a divisor: 5 %.
/// Otherwise a node at its quota would take writes in bursts.
const HYSTERESIS_DIVISOR: u64 = 20;

/// What must be free beyond the data's size before it is rewritten: a store that meets the end of the disk is broken for good.
const REWRITE_MARGIN_BYTES: u64 = 8 << 20;

/// What a look at the size has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuotaChange {
    Began,
    Ended,
}

/// See the module.
pub(super) struct Quota {
    /// Bytes; None = no limit.
    bytes: Option<u64>,
    exceeded: bool,
    /// The disk is nearly full.
    squeezed: bool,
    /// On the disk that is rewritten on.
    folder: PathBuf,
    flusher: Flusher,
    /// Rows were removed since the last rewriting began, or it never did.
    reclaim_wanted: bool,
    reclaiming: Option<JoinHandle<()>>,
}

impl Quota {
    pub(super) fn new(bytes: Option<u64>, folder: PathBuf, flusher: Flusher) -> Self {
        Self { bytes, exceeded: false, squeezed: false, folder, flusher, reclaim_wanted: false, reclaiming: None }
    }

    /// Another store has taken the place of the one there was.
    pub(super) fn set_store(&mut self, flusher: Flusher) {
        self.flusher = flusher;
        // What runs on the old one ends with it.
        self.reclaiming = None;
        self.reclaim_wanted = self.exceeded;
        self.maybe_reclaim();
    }

    /// The store has this many bytes now.
    pub(super) fn on_size(&mut self, size: u64) -> Option<QuotaChange> {
        let exceeded = self.bytes.is_some_and(|quota| is_exceeded(self.exceeded, size, quota));
        if exceeded == self.exceeded {
            return None;
        }
        self.exceeded = exceeded;
        self.reclaim_wanted = exceeded;
        self.maybe_reclaim();
        Some(if exceeded { QuotaChange::Began } else { QuotaChange::Ended })
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// While the disk is nearly full space is given back as while the quota is exceeded, except that it does not begin with it:
    /// rewriting needs space before it gives any.
    pub(super) fn set_squeezed(&mut self, squeezed: bool) {
        self.squeezed = squeezed;
    }

    /// Compacted rows are gone, down to RocksDB's tombstones.
    pub(super) fn on_rows_removed(&mut self) {
        self.reclaim_wanted = self.exceeded || self.squeezed;
        self.maybe_reclaim();
    }

    /// Waits for the rewriting that runs, for ever if there is none. The size is worth a look then.
    pub(super) async fn reclaimed(&mut self) {
        let Some(task) = &mut self.reclaiming else { return std::future::pending().await };
        if let Err(error) = task.await {
            tracing::warn!(%error, "giving space back ended in a bug");
        }
        self.reclaiming = None;
        self.maybe_reclaim();
    }

    fn maybe_reclaim(&mut self) {
        if self.reclaim_wanted && self.reclaiming.is_none() {
            self.reclaim_wanted = false;
            let (flusher, folder) = (self.flusher.clone(), self.folder.clone());
            self.reclaiming = Some(tokio::task::spawn_blocking(move || {
                if has_room(&folder, &flusher) {
                    flusher.reclaim();
                }
            }));
        }
    }
}

/// Looked at right before rewriting: what was free a second ago may be gone.
fn has_room(folder: &Path, flusher: &Flusher) -> bool {
    match (disk::free_bytes(folder), flusher.sizes()) {
        (Ok(free), Ok(sizes)) => free >= sizes.total.saturating_add(REWRITE_MARGIN_BYTES),
        // Nothing is known; the quota still has to be kept.
        _ => true,
    }
}

fn is_exceeded(before: bool, size: u64, quota: u64) -> bool {
    size > if before { quota - quota / HYSTERESIS_DIVISOR } else { quota }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_above_the_quota_and_ends_five_percent_below() {
        let mut held = false;
        for (size, expected) in [
            (0, false),
            (1000, false),
            (1001, true),
            (1000, true),
            (951, true),
            (950, false),
            (1000, false),
            (1001, true),
        ] {
            held = is_exceeded(held, size, 1000);
            assert_eq!(held, expected, "at {size}");
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert!(is_exceeded(false, 1, 0) && is_exceeded(true, 1, 0) && !is_exceeded(true, 0, 0));
        assert!(!is_exceeded(false, u64::MAX, u64::MAX) && is_exceeded(true, u64::MAX, u64::MAX));
        assert!(!is_exceeded(true, 7, 7) && is_exceeded(true, 8, 7), "too small for a twentieth");
    }
}
