//! RocksDB as it comes: a row for each entry and one for the hard state, in one synced batch.
//!
//! A row is the entry's command alone, without a header or a checksum of its own.

use crate::{Batch, System, Took, timed};
use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, Options, WriteBatch, WriteOptions};
use std::path::Path;

const LOG: &str = "log";
const STATE: &str = "state";
const REGION: u64 = 1;
const TERM: u64 = 1;

pub(crate) struct Rocks {
    db: DB,
    synced: WriteOptions,
    last: u64,
}

impl Rocks {
    pub(crate) fn new(path: &Path) -> Self {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let db = DB::open_cf(&options, path, [LOG, STATE]).unwrap();
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Self { db, synced, last: 0 }
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).unwrap()
    }
}

fn key(index: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&REGION.to_be_bytes());
    key[8..].copy_from_slice(&index.to_be_bytes());
    key
}

impl System for Rocks {
    fn write(&mut self, batch: &Batch) -> Took {
        let commands: Vec<Bytes> = batch.commands().collect();
        let took = timed(|| {
            let (log, state) = (self.family(LOG), self.family(STATE));
            let mut rows = WriteBatch::default();
            for (command, index) in commands.iter().zip(self.last + 1..) {
                rows.put_cf(log, key(index), command);
            }
            rows.put_cf(state, REGION.to_be_bytes(), [TERM, 1, self.last].map(u64::to_le_bytes).concat());
            self.db.write_opt(rows, &self.synced).unwrap();
        });
        self.last += commands.len() as u64;
        took
    }

    fn cut(&mut self) {
        let mut rows = WriteBatch::default();
        rows.delete_range_cf(self.family(LOG), key(0), key(self.last));
        self.db.write_opt(rows, &self.synced).unwrap();
    }

    fn last(&self) -> Bytes {
        self.db.get_cf(self.family(LOG), key(self.last)).unwrap().unwrap().into()
    }
}
