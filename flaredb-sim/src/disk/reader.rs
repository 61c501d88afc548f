//! The log as the Raft core reads it.

use super::engine::{Engine, ModelLog};
use flaredb_raft::{InitialState, RaftLogEntry, RaftStorage, SnapshotMeta, StorageError};
use flaredb_record::mark::UNKNOWN;
use std::ops::Range;

impl RaftStorage for ModelLog {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let engine = self.0.borrow();
        let (hard_state, conf_state) = (engine.hard_state, engine.conf_state.clone());
        // Of an unknown promise the host tells the peer before anything else.
        let recover_until = engine.missing_until().filter(|until| *until != UNKNOWN);
        Ok(InitialState { hard_state, conf_state, recover_until })
    }

    fn entries(&self, range: Range<u64>, bytes_max: u64) -> Result<Vec<RaftLogEntry>, StorageError> {
        let engine = self.0.borrow();
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else { return Ok(Vec::new()) };
        engine.check(range.start)?;
        engine.check(last)?;
        let mut bytes = 0;
        let fits = |(place, entry): &(usize, &RaftLogEntry)| {
            bytes += entry.size();
            *place == 0 || bytes <= bytes_max
        };
        let rows = engine.rows.range(engine.place(range.start)..engine.place(range.end)).map(|row| &row.entry);
        Ok(rows.enumerate().take_while(fits).map(|(_, entry)| entry.clone()).collect())
    }

    fn term_of(&self, index: u64) -> Result<u64, StorageError> {
        let engine = self.0.borrow();
        if index == engine.truncated.id.index {
            return Ok(engine.truncated.id.term);
        }
        engine.check(index)?;
        Ok(engine.rows.get(engine.place(index)).map_or(0, |row| row.entry.term))
    }

    fn first_index(&self) -> Result<u64, StorageError> {
        Ok(self.0.borrow().first())
    }

    fn last_index(&self) -> Result<u64, StorageError> {
        Ok(self.last().index)
    }

    fn snapshot(&self) -> Result<SnapshotMeta, StorageError> {
        let engine = self.0.borrow();
        Ok(SnapshotMeta { last: engine.truncated.id, conf_state: engine.conf_state.clone() })
    }
}

impl Engine {
    fn check(&self, index: u64) -> Result<(), StorageError> {
        if index < self.first() {
            return Err(StorageError::Compacted { index, first: self.first() });
        }
        if index > self.last().index {
            return Err(StorageError::Unavailable { index, last: self.last() });
        }
        Ok(())
    }
}
