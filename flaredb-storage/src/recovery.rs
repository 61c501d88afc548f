//! What a log must look like to be started from.
//!
//! RocksDB's recovery gives a prefix of the write order. This file checks that the prefix is a log, from end to end, because
//! the alternatives are worse: a hole or a foreign record found later is found by a follower or by the state machine.
//! It cannot know that acknowledged entries at the *end* are gone (a torn tail and a rotten tail look alike): that is what
//! the durable mark outside the WAL will tell (layout.rs, `mark`).

use crate::layout::{LogKey, RAFT_LOG_CF, StateKey, log_key, parse_log_key, state_key};
use crate::log::{log_cf, state_cf};
use crate::record::decode;
use crate::state_rows::{StateRow, TruncatedState};
use crate::{Identity, OpenError};
use flaredb_raft::{ConfState, EntryId, HardState};
use rocksdb::{DB, ReadOptions, WriteBatch, WriteOptions};
use std::path::{Path, PathBuf};

const SCAN_READAHEAD_BYTES: usize = 2 * 1024 * 1024;

/// A verified log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) truncated: TruncatedState,
    pub(crate) last: EntryId,
    pub(crate) last_chain: u64,
}

/// Verifies the log, or makes that of a new member. `was_made`: the folder says that there must be one.
pub(crate) fn recover(db: &DB, path: &Path, identity: &Identity, was_made: bool) -> Result<Recovered, OpenError> {
    let found = Found { db, path, region: identity.region_id };
    let rows: (Option<HardState>, Option<ConfState>, Option<TruncatedState>) =
        (found.row()?, found.row()?, found.row()?);
    match rows {
        (Some(hard), Some(conf), Some(truncated)) => {
            let recovered = found.scan(truncated)?;
            found.check_voters(&conf, identity)?;
            found.check_term(&hard, recovered.last)?;
            let first = truncated.id.index.saturating_add(1);
            // The applied index is the state machine's; the caller checks it when it knows it.
            check(found.path.to_path_buf(), &hard, first, recovered.last.index, None)?;
            Ok(recovered)
        }
        (None, None, None) if !found.has_records()? => {
            if was_made {
                return Err(found.inconsistent("the log of this member was made once and is empty now".to_owned()));
            }
            found.make(identity)
        }
        (hard, conf, _) => {
            let missing = if hard.is_none() {
                found.state_key::<HardState>()
            } else if conf.is_none() {
                found.state_key::<ConfState>()
            } else {
                found.state_key::<TruncatedState>()
            };
            Err(found.inconsistent(format!("{missing} is missing")))
        }
    }
}

/// Whether log, hard state and state machine are instants of one history. `first..=last` is what the log holds
/// (`last == first - 1`: nothing), `applied` is the state machine's durable applied index.
///
/// A stored commit index below `applied` is right: commit-only changes are not synced, and the core starts from the larger.
///
/// # Errors
/// [`OpenError::Inconsistent`], with an empty path: which files are wrong is not known here.
pub fn check_recovery(hard: &HardState, first: u64, last: u64, applied: u64) -> Result<(), OpenError> {
    check(PathBuf::new(), hard, first, last, Some(applied))
}

fn check(path: PathBuf, hard: &HardState, first: u64, last: u64, applied: Option<u64>) -> Result<(), OpenError> {
    let truncated = first.saturating_sub(1);
    let what = if last < truncated {
        format!("{RAFT_LOG_CF} begins at {first} and ends at {last}")
    } else if hard.commit_index > last {
        format!("raft_state/HardState says commit index {}, {RAFT_LOG_CF} ends at {last}", hard.commit_index)
    } else {
        match applied {
            Some(applied) if applied > last => {
                format!("the state machine has applied {applied}, {RAFT_LOG_CF} ends at {last}")
            }
            Some(applied) if applied < truncated => format!(
                "the state machine has applied {applied}, {RAFT_LOG_CF} begins at {first}: entries {} to {truncated} are \
                 in neither",
                applied.saturating_add(1)
            ),
            _ => return Ok(()),
        }
    };
    Err(OpenError::Inconsistent { path, what })
}

/// What is in the database.
struct Found<'a> {
    db: &'a DB,
    path: &'a Path,
    region: u64,
}

impl Found<'_> {
    fn row<R: StateRow>(&self) -> Result<Option<R>, OpenError> {
        let value = self.db.get_pinned_cf(state_cf(self.db), state_key(self.region, R::TAG));
        let value = value.map_err(|error| self.inconsistent(format!("{}: {error}", self.state_key::<R>())))?;
        value.map(|row| R::decode(self.region, &row)).transpose().map_err(|what| self.inconsistent(what))
    }

    fn has_records(&self) -> Result<bool, OpenError> {
        let mut rows = self.db.raw_iterator_cf_opt(log_cf(self.db), self.region_bounds());
        rows.seek(log_key(self.region, 0));
        let any = rows.valid();
        rows.status().map_err(|error| self.inconsistent(format!("{RAFT_LOG_CF}: {error}")))?;
        Ok(any)
    }

    /// Every record: checksum, place, chain, term, no hole.
    fn scan(&self, truncated: TruncatedState) -> Result<Recovered, OpenError> {
        let mut rows = self.db.raw_iterator_cf_opt(log_cf(self.db), self.region_bounds());
        rows.seek(log_key(self.region, 0));
        let (mut last, mut chain) = (truncated.id, truncated.chain);
        while let Some((key, value)) = rows.item() {
            let expected = LogKey { region: self.region, index: last.index.saturating_add(1) };
            let index = parse_log_key(key).map(|(_, index)| index);
            let index =
                index.ok_or_else(|| self.inconsistent(format!("{RAFT_LOG_CF} has a key of {} bytes", key.len())))?;
            if index != expected.index {
                let found = LogKey { region: self.region, index };
                return Err(self.inconsistent(if index <= truncated.id.index {
                    format!("{found} is there, though the log was truncated up to {}", truncated.id)
                } else {
                    format!("{expected} is missing, the next record is {found}")
                }));
            }
            let view = decode(self.region, index, Some(chain), value)
                .map_err(|fault| self.inconsistent(format!("{expected} {fault}")))?;
            if view.term < last.term {
                let what = format!("{expected} has term {}, the entry before it has {}", view.term, last.term);
                return Err(self.inconsistent(what));
            }
            (last, chain) = (EntryId { index, term: view.term }, view.chain);
            rows.next();
        }
        rows.status().map_err(|error| self.inconsistent(format!("{RAFT_LOG_CF} after {last}: {error}")))?;
        Ok(Recovered { truncated, last, last_chain: chain })
    }

    fn check_voters(&self, conf: &ConfState, identity: &Identity) -> Result<(), OpenError> {
        let mut expected = identity.voters.clone();
        expected.sort_unstable();
        if conf.voters == expected {
            return Ok(());
        }
        let hex = |ids: &[u64]| ids.iter().map(|id| format!("{id:016x}")).collect::<Vec<_>>().join(" ");
        Err(self.inconsistent(format!(
            "{} says voters {}, this process was started with {}",
            self.state_key::<ConfState>(),
            hex(&conf.voters),
            hex(&expected)
        )))
    }

    fn check_term(&self, hard: &HardState, last: EntryId) -> Result<(), OpenError> {
        if hard.current_term >= last.term {
            return Ok(());
        }
        let key = self.state_key::<HardState>();
        Err(self.inconsistent(format!("{key} says term {}, {RAFT_LOG_CF} ends at {last}", hard.current_term)))
    }

    /// The first batch of a new member.
    fn make(&self, identity: &Identity) -> Result<Recovered, OpenError> {
        let mut voters = identity.voters.clone();
        voters.sort_unstable();
        let truncated = TruncatedState::default();
        let mut batch = WriteBatch::default();
        self.put(&mut batch, &HardState::default());
        self.put(&mut batch, &ConfState { voters });
        self.put(&mut batch, &truncated);
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.db.write_opt(batch, &synced).map_err(|error| OpenError::rocksdb(self.path, &error))?;
        Ok(Recovered { truncated, last: truncated.id, last_chain: truncated.chain })
    }

    fn put<R: StateRow>(&self, batch: &mut WriteBatch, row: &R) {
        batch.put_cf(state_cf(self.db), state_key(self.region, R::TAG), row.encode(self.region));
    }

    fn region_bounds(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        // INDEX_END's key is never put, so excluding it hides nothing.
        options.set_iterate_upper_bound(log_key(self.region, u64::MAX));
        options.set_readahead_size(SCAN_READAHEAD_BYTES);
        options.fill_cache(false);
        options
    }

    fn state_key<R: StateRow>(&self) -> StateKey {
        StateKey { region: self.region, tag: R::TAG }
    }

    fn inconsistent(&self, what: String) -> OpenError {
        OpenError::Inconsistent { path: self.path.to_path_buf(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(commit_index: u64, first: u64, last: u64, applied: u64) -> Result<(), String> {
        let hard = HardState { current_term: 1, voted_for: None, commit_index };
        check_recovery(&hard, first, last, applied).map_err(|error| error.to_string())
    }

    #[test]
    fn states_of_one_history_pass() {
        for (commit, first, last, applied) in
            [(0, 1, 0, 0), (5, 1, 9, 3), (5, 1, 9, 7), (9, 10, 9, 9), (3, 5, 9, 4), (9, 5, 9, 9)]
        {
            assert_eq!(check(commit, first, last, applied), Ok(()), "{commit} {first} {last} {applied}");
        }
    }

    #[test]
    fn states_of_different_histories_do_not() {
        for (commit, first, last, applied, says) in [
            (5, 1, 9, 10, "has applied 10, raft_log ends at 9"),
            (10, 1, 9, 9, "commit index 10, raft_log ends at 9"),
            (9, 6, 9, 3, "entries 4 to 5 are in neither"),
            (0, 6, 4, 5, "begins at 6 and ends at 4"),
        ] {
            let error = check(commit, first, last, applied).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
