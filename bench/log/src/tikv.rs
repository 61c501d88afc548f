//! raft-engine, the log of TiKV: one Raft group, entries and a hard state in one log batch, one synced write.
//!
//! As it comes, it writes to new files until it holds 10 GB, so it is measured as in the first 10 GB of a node's life. Prefilled,
//! it is measured as it is from then on, or with its prefill from the start.

use crate::entry::Entry;
use crate::{Batch, System, Took, timed};
use bytes::Bytes;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use std::fs::{self, File};
use std::path::Path;

const GROUP: u64 = 1;
const TERM: u64 = 1;
const HARD_STATE: &[u8] = b"h";

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

pub(crate) struct Tikv {
    engine: Engine,
    /// Kept for its memory.
    batch: LogBatch,
    last: u64,
}

impl Tikv {
    pub(crate) fn as_it_comes(path: &Path) -> Self {
        Self::open(path, Config::default())
    }

    pub(crate) fn prefilled(path: &Path) -> Self {
        let config = Config {
            enable_log_recycle: true,
            prefill_for_recycle: true,
            // Instead of 10 GB, which would be 15 GB of prefilled files: three files of 128 MB, which are used again and again.
            purge_threshold: ReadableSize::mb(256),
            ..Config::default()
        };
        let mut this = Self::open(path, config);
        this.leave_first_file(path);
        this
    }

    fn open(path: &Path, mut config: Config) -> Self {
        config.dir = path.to_str().expect("the folder's name is text").to_owned();
        Self { engine: Engine::open(config).unwrap(), batch: LogBatch::default(), last: 0 }
    }

    /// The first file is a new one whatever the options are: prefilled ones come after it.
    fn leave_first_file(&mut self, path: &Path) {
        let second = path.join("0000000000000002.raftlog");
        // So small that it is not compressed.
        let data = Bytes::from(vec![7; 4096]);
        while !second.exists() {
            assert!(self.last < 100_000, "a file of 128 MB is full after 128 MB");
            self.fill(std::iter::once(data.clone()));
            self.engine.write(&mut self.batch, false).unwrap();
        }
        self.cut();
        // The prefill itself is not synced; its blocks are to be on the disk before they are overwritten.
        for file in fs::read_dir(path).unwrap() {
            File::open(file.unwrap().path()).unwrap().sync_all().unwrap();
        }
    }

    fn fill(&mut self, commands: impl Iterator<Item = Bytes>) {
        let entries = self.entries(commands);
        self.last += entries.len() as u64;
        self.batch.add_entries::<Entries>(GROUP, &entries).unwrap();
    }

    fn entries(&self, commands: impl Iterator<Item = Bytes>) -> Vec<Entry> {
        commands.zip(self.last + 1..).map(|(data, index)| Entry::of(TERM, index, data)).collect()
    }
}

impl System for Tikv {
    fn write(&mut self, batch: &Batch) -> Took {
        let entries = self.entries(batch.commands());
        let hard_state = [TERM, 1, self.last].map(u64::to_le_bytes).concat();
        self.last += entries.len() as u64;
        timed(|| {
            self.batch.add_entries::<Entries>(GROUP, &entries).unwrap();
            self.batch.put(GROUP, HARD_STATE.to_vec(), hard_state).unwrap();
            self.engine.write(&mut self.batch, true).unwrap();
        })
    }

    fn cut(&mut self) {
        self.engine.compact_to(GROUP, self.last);
        self.engine.purge_expired_files().unwrap();
    }

    fn last(&self) -> Bytes {
        self.engine.get_entry::<Entries>(GROUP, self.last).unwrap().unwrap().data
    }
}
