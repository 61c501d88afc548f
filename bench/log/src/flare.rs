//! FlareDB's Raft log through the calls that a server's log thread makes, with the default options.

use crate::{Batch, System, Took, timed};
use bytes::Bytes;
use flaredb_raft::{EntryId, HardState, RaftLogEntry, RaftStorage as _, Write};
use flaredb_storage::{DataDir, Identity, LogOptions, LogReader, LogWriter, RaftLog};
use std::path::Path;

const TERM: u64 = 1;

pub(crate) struct Flare {
    reader: LogReader,
    writer: LogWriter,
    writes: u64,
}

impl Flare {
    pub(crate) fn new(path: &Path) -> Self {
        let identity = Identity { cluster_id: 1, member_id: 1, region_id: 1, name: "n1".into(), voters: vec![1, 2, 3] };
        let dir = DataDir::open(path, &identity).unwrap();
        let (reader, writer) = RaftLog::open(&dir, &LogOptions::default()).unwrap();
        Self { reader, writer, writes: 0 }
    }
}

impl System for Flare {
    fn write(&mut self, batch: &Batch) -> Took {
        let before = self.writer.last().index;
        let entries = batch.commands().zip(before + 1..);
        let write = Write {
            id: self.writes,
            hard_state: HardState { current_term: TERM, voted_for: Some(1), commit_index: before },
            entries: entries
                .map(|(command, index)| RaftLogEntry { index, term: TERM, command, context: None })
                .collect(),
            sync: true,
        };
        self.writes += 1;
        timed(|| self.writer.write(&write).unwrap())
    }

    fn cut(&mut self) {
        let index = self.writer.last().index - 1;
        self.writer.truncate_prefix(EntryId { index, term: TERM }).unwrap();
    }

    fn last(&self) -> Bytes {
        let last = self.reader.last().index;
        self.reader.entries(last..last + 1, u64::MAX).unwrap().remove(0).command
    }
}
