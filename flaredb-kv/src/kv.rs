//! The state machine itself: one owner, who opens it, applies entries to it, and hands out readers.

use std::sync::Arc;

use crate::{
    AppliedState, ApplyEntry, Cursor, KvError, KvReader, OrderedStore, Response, StoreError, StoreReader,
    apply::Applier,
    compact::Compaction,
    layout::{self, APPLIED_KEY, INDEX_END, NOT_COMPACTED, RowRevision},
    newest::{self, NewestRows},
};

/// etcd's first revision: that of an empty store. The first change gets the next one.
const FIRST_REVISION: i64 = 1;
/// The state of an empty store.
const NOTHING_APPLIED: AppliedState =
    AppliedState { index: 0, term: 0, revision: FIRST_REVISION, compact_revision: NOT_COMPACTED };

/// The key-value state of one replica over a store.
#[derive(Debug)]
pub struct Kv<S: OrderedStore> {
    pub(crate) store: S,
    pub(crate) applied: AppliedState,
    pub(crate) compaction: Compaction,
    newest: NewestRows,
}

impl<S: OrderedStore> Kv<S> {
    /// Reads how far the store has come. An empty store is a state machine to which nothing was applied.
    ///
    /// The revision never goes down: it is the highest of what was stored, of the rows, and of all compactions, finished or
    /// only ordered. Fails if the store does, or if a row is not what this crate writes.
    pub fn open(store: S) -> Result<Self, StoreError> {
        let reader = store.reader();
        let mut applied = match reader.get(APPLIED_KEY)? {
            Some(row) => layout::parse_applied_row(&row)?,
            None => NOTHING_APPLIED,
        };
        let compaction = Compaction::load(&reader)?;
        applied.compact_revision = applied.compact_revision.max(compaction.finished());
        let stored = applied.revision.max(applied.compact_revision);
        applied.revision = last_revision(&reader, stored)?;
        drop(reader);
        Ok(Self { store, applied, compaction, newest: NewestRows::new(newest::KEYS_MAX) })
    }

    /// Remembers where the newest rows of about so many keys are, instead of 131,072 (some 17 MB with keys of 40 bytes). It
    /// changes no result; a put of a key that is not remembered searches the store. Zero: nothing is remembered.
    #[must_use]
    pub fn remember_keys(mut self, keys_max: usize) -> Self {
        self.newest = NewestRows::new(keys_max);
        self
    }

    /// How far the state machine has come.
    pub fn applied(&self) -> AppliedState {
        self.applied
    }

    /// Applies committed entries, which follow the applied index without a gap, as one batch of the store: either all of
    /// them and the new applied index are in the store, or nothing is. `outcomes` is emptied; outcome i then belongs to entry i.
    ///
    /// A refused or malformed command has no effect but that its index is applied. An entry without a command answers
    /// with the revision and an empty [`crate::ResponseBody::Compact`]. Batch boundaries do not change any result.
    ///
    /// Fails only if the store does, which is final.
    pub fn apply(
        &mut self,
        entries: &[ApplyEntry],
        outcomes: &mut Vec<Result<Response, KvError>>,
    ) -> Result<(), StoreError> {
        outcomes.clear();
        if entries.is_empty() {
            return Ok(());
        }
        let reader = self.store.reader();
        let mut applier = Applier::new(&reader, &mut self.newest, self.applied, entries.len());
        for entry in entries {
            outcomes.push(applier.entry(entry)?);
        }
        let (batch, applied) = applier.finish();
        drop(reader);
        self.store.write(&batch)?;
        if applied.compact_revision > self.applied.compact_revision {
            self.compaction.ordered();
        }
        self.applied = applied;
        Ok(())
    }

    /// A view pinned at the current state. It stays right and complete for as long as it lives, whatever is applied
    /// later; to make that so, rows compacted after it was made are removed only once it and its clones are dropped.
    pub fn reader(&self) -> KvReader<S::Reader> {
        KvReader::new(self.store.reader(), self.applied, Arc::clone(self.compaction.pin()))
    }

    /// The store underneath.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store underneath, for its upkeep. Whoever writes rows through it breaks the state machine.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }
}

/// How far the state has come that this cursor over all rows shows. Whoever copies the cursor's rows has the state machine at
/// that index. Fails if the store does.
pub fn applied_at(cursor: &mut impl Cursor) -> Result<AppliedState, StoreError> {
    cursor.seek(APPLIED_KEY)?;
    match cursor.entry() {
        Some((key, row)) if key == APPLIED_KEY => layout::parse_applied_row(row),
        _ => Ok(NOTHING_APPLIED),
    }
}

/// The highest revision in the index, at least `stored`. Rows beyond `stored` cannot come from a whole batch; they are
/// still never given a second meaning.
fn last_revision(reader: &impl StoreReader, stored: i64) -> Result<i64, StoreError> {
    let start = layout::index_key(RowRevision { main: stored + 1, sub: 0 });
    let mut cursor = reader.cursor(&start, INDEX_END)?;
    cursor.seek(&start)?;
    let mut last = stored;
    while let Some((key, _)) = cursor.entry() {
        last = last.max(layout::parse_index_key(key)?.main);
        cursor.next()?;
    }
    Ok(last)
}
