//! The log as the Raft core reads it: durable entries, verified one by one.
//!
//! This is the slow path by design. The core keeps recent entries in memory and comes here for a follower that lags, and at
//! start; so there is no cache of entries, only RocksDB's small block cache.

use crate::Recovery;
use crate::layout::{INDEX_END, LogKey, StateKey, log_key, state_key};
use crate::log::Shared;
use crate::record::decode;
use crate::state_rows::StateRow;
use bytes::Bytes;
use flaredb_raft::{EntryId, InitialState, RaftLogEntry, RaftStorage, SnapshotMeta, StorageError};
use rocksdb::ReadOptions;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Read access to the log. Cheap to clone; may be used on any thread, beside the writer.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("bounds", &self.shared.bounds()).finish_non_exhaustive()
    }
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The last durable entry's position.
    pub fn last(&self) -> EntryId {
        self.shared.bounds().last
    }

    /// What the start found out about this member's promises.
    pub fn recovery(&self) -> Recovery {
        self.shared.recovery
    }

    /// The hash of the log up to and including `index`: equal on two members exactly if their logs are, as long as neither
    /// installed a snapshot in between.
    ///
    /// # Errors
    /// As [`RaftStorage::term_of`], but not answered for the truncated position.
    pub fn chain_at(&self, index: u64) -> Result<u64, StorageError> {
        self.check_index(index)?;
        self.shared.read_record(index).map(|(_, chain)| chain).map_err(|error| self.or_compacted(index, error))
    }

    /// The writer may remove entries while they are read. It publishes that before, so what was not found and is not in the
    /// log any more was truncated; everything else is damage.
    fn or_compacted(&self, index: u64, error: StorageError) -> StorageError {
        match self.check_index(index) {
            Err(compacted @ StorageError::Compacted { .. }) => compacted,
            _ => error,
        }
    }

    fn read_entries(&self, range: Range<u64>, bytes_max: u64) -> Result<Vec<RaftLogEntry>, StorageError> {
        let mut entries: Vec<RaftLogEntry> = Vec::new();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(log_key(self.shared.region, range.end));
        let mut rows = self.shared.db.raw_iterator_cf_opt(self.shared.log_cf(), options);
        rows.seek(log_key(self.shared.region, range.start));
        let (mut bytes, mut chain, mut term) = (0_u64, None, 0);
        for index in range {
            let key = LogKey { region: self.shared.region, index };
            let Some((found, value)) = rows.item() else {
                rows.status().map_err(|error| StorageError::Broken(format!("{key}: {error}")))?;
                return Err(StorageError::Broken(format!("{key} is missing")));
            };
            if found != log_key(key.region, index).as_slice() {
                return Err(StorageError::Broken(format!(
                    "{key} is missing, key {found:02x?} follows the entry before it"
                )));
            }
            let buffer = Bytes::copy_from_slice(value);
            let view = decode(key.region, index, chain, &buffer)
                .map_err(|fault| StorageError::Broken(format!("{key} {fault}")))?;
            if view.term < term {
                let what = format!("{key} has term {}, the entry before it has {term}", view.term);
                return Err(StorageError::Broken(what));
            }
            (chain, term) = (Some(view.chain), view.term);
            let entry = view.to_entry(&buffer);
            bytes = bytes.saturating_add(entry.size());
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
            rows.next();
        }
        Ok(entries)
    }

    fn check_index(&self, index: u64) -> Result<(), StorageError> {
        let bounds = self.shared.bounds();
        if index <= bounds.truncated.index {
            return Err(StorageError::Compacted { index, first: bounds.truncated.index.saturating_add(1) });
        }
        if index > bounds.last.index {
            return Err(StorageError::Unavailable { index, last: bounds.last });
        }
        Ok(())
    }
}

impl RaftStorage for LogReader {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let (hard_state, conf_state) = (self.shared.read_state()?, self.shared.read_state()?);
        // Of an unknown promise the host tells the peer before anything else ([`Recovery::Unknown`]).
        let recover_until = if let Recovery::Until(until) = self.shared.recovery { Some(until) } else { None };
        Ok(InitialState { hard_state, conf_state, recover_until })
    }

    fn entries(&self, range: Range<u64>, bytes_max: u64) -> Result<Vec<RaftLogEntry>, StorageError> {
        let Some(last_wanted) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return Ok(Vec::new());
        };
        self.check_index(range.start)?;
        self.check_index(last_wanted)?;
        let first = range.start;
        self.read_entries(range, bytes_max).map_err(|error| self.or_compacted(first, error))
    }

    fn term_of(&self, index: u64) -> Result<u64, StorageError> {
        let bounds = self.shared.bounds();
        if index == bounds.truncated.index {
            return Ok(bounds.truncated.term);
        }
        if index == bounds.last.index {
            return Ok(bounds.last.term);
        }
        let result = self.check_index(index).and_then(|()| self.shared.read_record(index));
        result.map(|(id, _)| id.term).or_else(|error| {
            // Overtaken by a truncation up to here: its end's term is known.
            let truncated = self.shared.bounds().truncated;
            if index == truncated.index { Ok(truncated.term) } else { Err(self.or_compacted(index, error)) }
        })
    }

    fn first_index(&self) -> Result<u64, StorageError> {
        Ok(self.shared.bounds().truncated.index.saturating_add(1))
    }

    fn last_index(&self) -> Result<u64, StorageError> {
        Ok(self.shared.bounds().last.index)
    }

    fn snapshot(&self) -> Result<SnapshotMeta, StorageError> {
        Ok(SnapshotMeta { last: self.shared.bounds().truncated, conf_state: self.shared.read_state()? })
    }
}

impl Shared {
    /// Position and chain value of a stored entry.
    pub(crate) fn read_record(&self, index: u64) -> Result<(EntryId, u64), StorageError> {
        assert!(index != INDEX_END, "no entry has the last index");
        let key = LogKey { region: self.region, index };
        let value = self
            .db
            .get_pinned_cf(self.log_cf(), log_key(self.region, index))
            .map_err(|error| StorageError::Broken(format!("{key}: {error}")))?
            .ok_or_else(|| StorageError::Broken(format!("{key} is missing")))?;
        let view =
            decode(self.region, index, None, &value).map_err(|fault| StorageError::Broken(format!("{key} {fault}")))?;
        Ok((EntryId { index, term: view.term }, view.chain))
    }

    fn read_state<R: StateRow>(&self) -> Result<R, StorageError> {
        let key = StateKey { region: self.region, tag: R::TAG };
        let value = self
            .db
            .get_pinned_cf(self.state_cf(), state_key(self.region, R::TAG))
            .map_err(|error| StorageError::Broken(format!("{key}: {error}")))?
            .ok_or_else(|| StorageError::Broken(format!("{key} is missing")))?;
        R::decode(self.region, &value).map_err(StorageError::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataDir, Identity, LogOptions, RaftLog};
    use flaredb_raft::{HardState, Write};

    fn entries(range: Range<u64>, term: u64) -> Vec<RaftLogEntry> {
        range.map(|index| RaftLogEntry { index, term, command: Bytes::from(vec![7; 9]), context: None }).collect()
    }

    fn broken(result: Result<Vec<RaftLogEntry>, StorageError>) -> String {
        match result {
            Err(StorageError::Broken(text)) => text,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Damage that appears while the process runs is found by the read and not passed on.
    #[test]
    fn every_read_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity { cluster_id: 1, member_id: 1, region_id: 1, name: "n1".into(), voters: vec![1] };
        let options = LogOptions { prefill: false, ..LogOptions::small() };
        let (reader, mut writer) = RaftLog::open(&DataDir::open(dir.path(), &identity).unwrap(), &options).unwrap();
        let hard_state = HardState { current_term: 5, voted_for: None, commit_index: 0 };
        writer.write(&Write { id: 1, hard_state, entries: entries(1..6, 5), sync: true }).unwrap();
        let shared = &reader.shared;
        let whole = |index| shared.db.get_cf(shared.log_cf(), log_key(1, index)).unwrap().unwrap();
        let put = |index, value: &[u8]| shared.db.put_cf(shared.log_cf(), log_key(1, index), value).unwrap();
        let three = whole(3);

        let mut flipped = three.clone();
        flipped[40] ^= 1;
        put(3, &flipped);
        let text = broken(reader.entries(2..5, 1000));
        assert!(text.contains("raft_log 1/3 says checksum"), "{text}");
        assert!(reader.term_of(3).unwrap_err().to_string().contains("raft_log 1/3 says checksum"));
        assert!(reader.chain_at(3).is_err());
        put(3, &whole(4));
        let text = broken(reader.entries(2..5, 1000));
        assert!(text.contains("raft_log 1/3 holds the record of index 4"), "{text}");
        // Whole and in its place, but of another history: the chain from the entry before shows it, and so does the term.
        let mut other = Vec::new();
        crate::record::encode(1, 99, &entries(3..4, 5)[0], &mut other);
        put(3, &other);
        let text = broken(reader.entries(2..5, 1000));
        assert!(text.contains("raft_log 1/3 says chain"), "{text}");
        let two = crate::record::decode(1, 2, None, &whole(2)).unwrap().chain;
        crate::record::encode(1, two, &entries(3..4, 4)[0], &mut other);
        put(3, &other);
        let text = broken(reader.entries(2..5, 1000));
        assert!(text.contains("raft_log 1/3 has term 4, the entry before it has 5"), "{text}");
        shared.db.delete_cf(shared.log_cf(), log_key(1, 3)).unwrap();
        let text = broken(reader.entries(2..5, 1000));
        assert!(text.contains("raft_log 1/3 is missing"), "{text}");
        assert_eq!(broken(reader.entries(3..4, 1000)), "raft_log 1/3 is missing");
        put(3, &three);
        assert_eq!(reader.entries(1..6, 1000).unwrap(), entries(1..6, 5));
    }
}
