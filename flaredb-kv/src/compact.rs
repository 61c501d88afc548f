//! Physical removal of compacted rows: in the background, in steps of bounded size, taken up again after a restart.
//!
//! When a compaction at revision r is applied, reads below r are refused from then on, on every member. What this file does
//! later is each member's own affair and changes no answer. It walks the revision index up to r. Each change there removes
//! the row that it replaced; a deletion before r removes its own tombstone too. So of every key the newest row up to r stays
//! if it is live, and a tombstone at r itself stays, because a watch from r must still see that deletion. Index rows before r
//! go, those at r stay, and the next compaction begins with them: the cost follows the number of changes, not of keys.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Batch, Change, Cursor, Kv, OrderedStore, StoreError, StoreReader,
    layout::{self, COMPACTION_KEY, CompactionState, RowRevision},
};

/// What a step of physical compaction found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactProgress {
    /// Nothing is left to remove until the next compaction is applied.
    Done,
    /// Call again: there is, or may be, more to remove.
    More {
        /// Index rows that this step got through. Zero: a reader from before the compaction still lives, and nothing is
        /// removed under it; try again after a pause.
        rows: usize,
    },
}

/// Progress, and the readers that removal waits for.
#[derive(Debug)]
pub(crate) struct Compaction {
    state: CompactionState,
    /// Held by every reader made since the last compaction was ordered.
    pin: Arc<()>,
    /// The pins of readers made before it. One that only this list holds has no reader any more.
    older_pins: Vec<Arc<()>>,
}

impl Compaction {
    pub(crate) fn load(reader: &impl StoreReader) -> Result<Self, StoreError> {
        let state = match reader.get(COMPACTION_KEY)? {
            Some(row) => layout::parse_compaction_row(&row)?,
            None => CompactionState::default(),
        };
        Ok(Self { state, pin: Arc::new(()), older_pins: Vec::new() })
    }

    pub(crate) fn finished(&self) -> i64 {
        self.state.finished
    }

    pub(crate) fn pin(&self) -> &Arc<()> {
        &self.pin
    }

    /// A compaction was applied: readers made from now on do not look below it.
    pub(crate) fn ordered(&mut self) {
        let pin = std::mem::replace(&mut self.pin, Arc::new(()));
        self.older_pins.push(pin);
        self.drop_released_pins();
    }

    fn drop_released_pins(&mut self) {
        self.older_pins.retain_mut(|pin| Arc::get_mut(pin).is_none());
    }

    /// Where the walk over the index up to `target` goes on.
    fn position(&self, target: i64) -> RowRevision {
        if self.state.target == target {
            self.state.next
        } else {
            // Below the former target everything that was passed is gone; the changes at that target itself were kept.
            RowRevision { main: self.state.next.main.min(self.state.target).max(0), sub: 0 }
        }
    }
}

impl<S: OrderedStore> Kv<S> {
    /// Removes rows that no reader can ask for any more. Looks at up to `rows_max` changes (at least one), which removes up
    /// to four rows each, and records the progress in the same batch. Fails only if the store does, which is final.
    pub fn compact_step(&mut self, rows_max: usize) -> Result<CompactProgress, StoreError> {
        let target = self.applied.compact_revision;
        if self.compaction.state.finished >= target {
            return Ok(CompactProgress::Done);
        }
        self.compaction.drop_released_pins();
        if !self.compaction.older_pins.is_empty() {
            return Ok(CompactProgress::More { rows: 0 });
        }
        let reader = self.store.reader();
        let (mut batch, mut state, rows) = step(&reader, self.compaction.position(target), target, rows_max.max(1))?;
        if state.finished < target {
            state.finished = self.compaction.state.finished;
        }
        drop(reader);
        batch.changes.push(Change::Put(Bytes::from_static(COMPACTION_KEY), layout::compaction_row(&state)));
        self.store.write(&batch)?;
        self.compaction.state = state;
        Ok(if state.finished == target { CompactProgress::Done } else { CompactProgress::More { rows } })
    }

    /// The revision up to which compacted rows are physically gone; -1 before the first compaction.
    pub fn compaction_finished(&self) -> i64 {
        self.compaction.finished()
    }
}

fn step(
    reader: &impl StoreReader,
    from: RowRevision,
    target: i64,
    rows_max: usize,
) -> Result<(Batch, CompactionState, usize), StoreError> {
    let start = layout::index_key(from);
    let end = layout::index_key(RowRevision { main: target + 1, sub: 0 });
    let mut cursor = reader.cursor(&start, &end)?;
    cursor.seek(&start)?;
    let mut batch = Batch::default();
    for rows in 0..rows_max {
        let Some((key, value)) = cursor.entry() else {
            let next = RowRevision { main: target, sub: 0 };
            return Ok((batch, CompactionState { finished: target, target, next }, rows));
        };
        remove_superseded(key, value, target, &mut batch)?;
        cursor.next()?;
    }
    let next = match cursor.entry() {
        Some((key, _)) => layout::parse_index_key(key)?,
        None => RowRevision { main: target + 1, sub: 0 },
    };
    Ok((batch, CompactionState { finished: layout::NOT_COMPACTED, target, next }, rows_max))
}

/// Adds to `batch` what the change at this index row makes superfluous.
fn remove_superseded(key: &[u8], value: &[u8], target: i64, batch: &mut Batch) -> Result<(), StoreError> {
    let at = layout::parse_index_key(key)?;
    let row = layout::parse_index_row(key, value)?;
    let user_row = |revision| layout::user_row_key(layout::user_prefix(row.user_key), revision);
    if let Some(replaced) = row.replaced {
        batch.changes.push(Change::Delete(user_row(replaced)));
        if replaced.main == target {
            // Both changes are of one transaction: the first of them never shows, to a watch either.
            batch.changes.push(Change::Delete(layout::index_key(replaced)));
        }
    }
    if at.main < target {
        if row.tombstone || mutant!(CompactionRemovesLive) {
            batch.changes.push(Change::Delete(user_row(at)));
        }
        batch.changes.push(Change::Delete(Bytes::copy_from_slice(key)));
    }
    Ok(())
}
