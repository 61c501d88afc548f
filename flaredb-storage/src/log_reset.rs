//! Makes up for a crash in the middle of an install: the state machine's folder is the snapshot's already, and the log was
//! not reset to it. See `data_folder.rs` for the steps.

use crate::OpenError;
use crate::data_folder;
use crate::layout::{INDEX_END, log_key, state_key};
use crate::log::{log_cf, state_cf};
use crate::record::CHAIN_START;
use crate::state_rows::{StateRow, TruncatedState};
use flaredb_raft::{EntryId, HardState};
use rocksdb::{DB, WriteBatch, WriteOptions};
use std::path::Path;

/// Resets the log if it begins before the position of the snapshot that the rows come from. Afterwards it never does, so
/// this happens once. `member`: the folder above the database at `path`.
pub(crate) fn finish(db: &DB, path: &Path, member: &Path, region: u64) -> Result<(), OpenError> {
    let base = data_folder::current(member)?.base;
    // A log without these rows, or with damaged ones, is for recovery to judge.
    let (Some(truncated), Some(hard_state)) = (row::<TruncatedState>(db, region), row::<HardState>(db, region)) else {
        return Ok(());
    };
    if truncated.id.index >= base.index {
        return Ok(());
    }
    tracing::info!(path = %path.display(), snapshot = %base, "finishing the install of a snapshot: the log is reset to it");
    let mut batch = WriteBatch::default();
    batch.delete_range_cf(log_cf(db), log_key(region, 0), log_key(region, INDEX_END));
    let put = |batch: &mut WriteBatch, tag, row: Vec<u8>| batch.put_cf(state_cf(db), state_key(region, tag), row);
    put(&mut batch, TruncatedState::TAG, reset_to(base).encode(region));
    // Term and vote are promises; the term was raised to the snapshot's before the snapshot was taken in.
    let hard_state =
        HardState { commit_index: base.index, current_term: hard_state.current_term.max(base.term), ..hard_state };
    put(&mut batch, HardState::TAG, hard_state.encode(region));
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    db.write_opt(batch, &synced).map_err(|error| OpenError::rocksdb(path, &error))
}

fn row<R: StateRow>(db: &DB, region: u64) -> Option<R> {
    let row = db.get_pinned_cf(state_cf(db), state_key(region, R::TAG)).ok()??;
    R::decode(region, &row).ok()
}

fn reset_to(base: EntryId) -> TruncatedState {
    TruncatedState { id: base, chain: CHAIN_START }
}
