//! What the disk allows: the batch's bytes and nothing else, over blocks that exist, then fdatasync.
//!
//! Not a log: no checksum, no length, nothing that could be recovered.

use crate::{Batch, System, Took, timed};
use bytes::Bytes;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const FILE_BYTES: u64 = 32 * 1024 * 1024;

pub(crate) struct Bare {
    file: File,
    /// Where the next batch goes: right after the last one, as in a log, so that small batches share blocks.
    at: u64,
    entry_bytes: usize,
}

impl Bare {
    pub(crate) fn new(path: &Path) -> Self {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        for at in (0..FILE_BYTES).step_by(1 << 20) {
            file.write_all_at(&vec![7; 1 << 20], at).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, at: 0, entry_bytes: 0 }
    }
}

impl System for Bare {
    fn write(&mut self, batch: &Batch) -> Took {
        if self.at + batch.bytes.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        let took = timed(|| {
            self.file.write_all_at(&batch.bytes, self.at).unwrap();
            self.file.sync_data().unwrap();
        });
        self.at += batch.bytes.len() as u64;
        self.entry_bytes = batch.entry_bytes;
        took
    }

    /// Its end overwrites its beginning.
    fn cut(&mut self) {}

    fn last(&self) -> Bytes {
        let mut bytes = vec![0; self.entry_bytes];
        self.file.read_exact_at(&mut bytes, self.at - self.entry_bytes as u64).unwrap();
        bytes.into()
    }
}
