//! The WAL is overwritten, not appended: the same files for the life of the process, of the same size.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use bytes::Bytes;
use common::{identity, raft_dir, write};
use flaredb_raft::RaftLogEntry;
use flaredb_storage::{DataDir, LogOptions, RaftLog};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use tempfile::tempdir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wal {
    number: u64,
    inode: u64,
    bytes: u64,
    /// In units of 512 bytes; what the file system has given it.
    blocks: u64,
}

/// The file that RocksDB writes to: the highest number.
fn current(path: &Path) -> Wal {
    let files = fs::read_dir(raft_dir(path)).unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let number = entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok()?;
        let meta = entry.metadata().ok()?;
        Some(Wal { number, inode: meta.ino(), bytes: meta.len(), blocks: meta.blocks() })
    });
    files.max_by_key(|wal| wal.number).unwrap()
}

/// Per WAL file taken after the first: its inode, and how many of the batches written to it moved its size.
#[derive(Debug, Default)]
struct Use {
    inode: u64,
    batches: u64,
    grown: u64,
}

/// Writes batches of one 4 KiB entry until the WAL has changed `switches` times.
fn write_through(path: &Path, options: &LogOptions, switches: usize) -> Vec<Use> {
    let (_reader, mut writer) = RaftLog::open(&DataDir::open(path, &identity()).unwrap(), options).unwrap();
    let mut before = current(path);
    let mut uses = vec![Use { inode: before.inode, ..Use::default() }];
    let mut index = writer.last().index;
    while uses.len() <= switches {
        index += 1;
        let command = Bytes::from(vec![index as u8; 4096]);
        writer.write(&write(1, 0, vec![RaftLogEntry { index, term: 1, command, context: None }])).unwrap();
        let after = current(path);
        if after.number != before.number {
            uses.push(Use { inode: after.inode, ..Use::default() });
        } else {
            assert_eq!(after.inode, before.inode);
            let used = uses.last_mut().unwrap();
            used.batches += 1;
            used.grown += u64::from((after.bytes, after.blocks) != (before.bytes, before.blocks));
        }
        before = after;
    }
    uses
}

#[test]
fn prefilled_files_take_turns_and_keep_their_size() {
    let dir = tempdir().unwrap();
    let options = LogOptions { wal_bytes: 2 * 1024 * 1024, ..LogOptions::small() };
    for process in 0..2 {
        let uses = write_through(dir.path(), &options, 10);
        // The file that is there at open is never grown, nor is the next one.
        for used in &uses[..2] {
            assert!(used.batches > 400 && used.grown == 0, "process {process}: {uses:#?}");
        }
        // Later ones may grow by the batch that passed the limit. A third file, if a flush was late, grows once in full.
        let mut files: BTreeMap<u64, Vec<&Use>> = BTreeMap::new();
        for used in &uses {
            files.entry(used.inode).or_default().push(used);
        }
        assert!(files.len() <= 4, "process {process}: {uses:#?}");
        for (inode, used) in files {
            let grown: Vec<u64> = used.iter().map(|used| used.grown).collect();
            let first_use = usize::from(inode != uses[0].inode && inode != uses[1].inode);
            assert!(grown.iter().skip(first_use).all(|grown| *grown <= 4), "process {process}: {grown:?} of {uses:#?}");
        }
    }
}

/// The measure can fail: without prefill the first file grows with every batch.
#[test]
fn without_prefill_the_first_file_grows() {
    let dir = tempdir().unwrap();
    let options = LogOptions { wal_bytes: 2 * 1024 * 1024, prefill: false, ..LogOptions::small() };
    let uses = write_through(dir.path(), &options, 1);
    assert_eq!(uses[0].grown, uses[0].batches);
}
