//! Writing and reading the log; every state survives a reopen without any flush or goodbye.
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
use common::{all, entries, open, options, write};
use flaredb_raft::{
    ConfState, EntryId, HardState, InitialState, RaftLogEntry, RaftStorage, SnapshotMeta, StorageError, Write,
};
use flaredb_storage::{DataDir, LogOptions, LogReader, LogWriter, RaftLog};
use std::path::Path;
use std::time::Instant;
use tempfile::tempdir;

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index, term }
}

/// Drops all handles without flush or goodbye and opens again.
fn reopen(path: &Path, log: (LogReader, LogWriter)) -> (LogReader, LogWriter) {
    drop(log);
    open(path).unwrap()
}

#[test]
fn a_new_log_has_its_configuration_and_nothing_else() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    for _ in 0..2 {
        let reader = &log.0;
        let conf_state = ConfState { voters: vec![1, 2, 3] };
        let hard_state = HardState::default();
        let expected = InitialState { hard_state, conf_state: conf_state.clone(), recover_until: None };
        assert_eq!(reader.initial_state(), Ok(expected));
        assert_eq!((reader.first_index(), reader.last_index(), reader.term_of(0)), (Ok(1), Ok(0), Ok(0)));
        assert_eq!(reader.snapshot(), Ok(SnapshotMeta { last: id(0, 0), conf_state }));
        assert_eq!(reader.entries(1..1, 10), Ok(vec![]));
        assert_eq!(reader.entries(1..2, 10), Err(StorageError::Unavailable { index: 1, last: id(0, 0) }));
        log = reopen(dir.path(), log);
    }
}

#[test]
fn what_was_written_is_there_after_a_drop_without_flush() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    log.1.write(&write(1, 0, entries(1, 3, 1))).unwrap();
    log.1.write(&write(4, 3, entries(4, 6, 4))).unwrap();
    let expected = [entries(1, 3, 1), entries(4, 6, 4)].concat();
    for _ in 0..2 {
        assert_eq!(all(&log.0), expected);
        let hard_state = HardState { current_term: 4, voted_for: Some(2), commit_index: 3 };
        assert_eq!(log.0.initial_state().unwrap().hard_state, hard_state);
        assert_eq!((log.0.term_of(3), log.0.term_of(4), log.0.term_of(6)), (Ok(1), Ok(4), Ok(4)));
        assert_eq!(log.0.term_of(7), Err(StorageError::Unavailable { index: 7, last: id(6, 4) }));
        log = reopen(dir.path(), log);
    }
    log.1.write(&write(4, 6, entries(7, 7, 4))).unwrap();
    assert_eq!(log.0.last(), id(7, 4));
}

#[test]
fn a_byte_limit_gives_at_least_one_entry() {
    let dir = tempdir().unwrap();
    let (reader, mut writer) = open(dir.path()).unwrap();
    let written = entries(1, 9, 1);
    writer.write(&write(1, 0, written.clone())).unwrap();
    assert_eq!(reader.entries(2..9, 0).unwrap(), written[1..2]);
    assert_eq!(reader.entries(2..9, 1).unwrap(), written[1..2]);
    let two = written[1].size() + written[2].size();
    assert_eq!(reader.entries(2..9, two).unwrap(), written[1..3]);
    assert_eq!(reader.entries(2..9, two - 1).unwrap(), written[1..2]);
    assert_eq!(reader.entries(2..9, u64::MAX).unwrap(), written[1..8]);
}

#[test]
fn a_conflicting_tail_is_replaced_in_the_batch_that_appends() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    log.1.write(&write(1, 0, entries(1, 9, 1))).unwrap();
    let chain_before = log.0.chain_at(4).unwrap();
    log.1.write(&write(2, 4, entries(5, 6, 2))).unwrap();
    let expected = [entries(1, 4, 1), entries(5, 6, 2)].concat();
    for _ in 0..2 {
        assert_eq!(all(&log.0), expected);
        assert_eq!(log.0.chain_at(4), Ok(chain_before));
        assert_eq!(log.0.entries(6..8, 100), Err(StorageError::Unavailable { index: 7, last: id(6, 2) }));
        log = reopen(dir.path(), log);
    }
    // Entries at the indices that were deleted, and a whole log replaced from its first index.
    log.1.write(&write(2, 4, entries(7, 9, 2))).unwrap();
    log = reopen(dir.path(), log);
    assert_eq!(all(&log.0), [entries(1, 4, 1), entries(5, 9, 2)].concat());
    log.1.write(&write(3, 0, entries(1, 1, 3))).unwrap();
    log = reopen(dir.path(), log);
    assert_eq!(all(&log.0), entries(1, 1, 3));
}

/// Two members with equal logs have equal chains, however the entries came in batches; a difference anywhere shows after it.
#[test]
fn the_chain_compares_logs() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let (left, mut writer) = open(one.path()).unwrap();
    writer.write(&write(1, 0, entries(1, 9, 1))).unwrap();
    let (right, mut writer) = open(two.path()).unwrap();
    for index in 1..=9 {
        let mut batch = entries(index, index, 1);
        if index == 6 {
            writer.write(&write(1, 0, entries(6, 8, 1))).unwrap();
            batch[0].command = Bytes::from_static(b"other");
        }
        writer.write(&write(1, 0, batch)).unwrap();
    }
    for index in 1..=9 {
        assert_eq!(left.chain_at(index) == right.chain_at(index), index < 6, "{index}");
    }
}

#[test]
fn commit_only_writes_need_no_sync_and_ride_with_the_next() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    log.1.write(&write(1, 0, entries(1, 3, 1))).unwrap();
    log.1.write(&Write { sync: false, ..write(1, 3, vec![]) }).unwrap();
    log.1.write(&write(2, 3, vec![])).unwrap();
    log = reopen(dir.path(), log);
    let hard_state = HardState { current_term: 2, voted_for: Some(2), commit_index: 3 };
    assert_eq!(log.0.initial_state().unwrap().hard_state, hard_state);
}

#[test]
fn a_truncated_prefix_is_gone_and_its_end_is_known() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    log.1.write(&write(1, 0, entries(1, 5, 1))).unwrap();
    log.1.write(&write(2, 9, entries(6, 9, 2))).unwrap();
    let chain = log.0.chain_at(9).unwrap();
    log.1.truncate_prefix(id(5, 1)).unwrap();
    log.1.truncate_prefix(id(3, 1)).unwrap();
    for _ in 0..2 {
        assert_eq!((log.0.first_index(), log.0.last_index(), log.0.term_of(5)), (Ok(6), Ok(9), Ok(1)));
        assert_eq!(log.0.term_of(4), Err(StorageError::Compacted { index: 4, first: 6 }));
        assert_eq!(log.0.entries(5..7, 100), Err(StorageError::Compacted { index: 5, first: 6 }));
        assert_eq!(log.0.snapshot().unwrap().last, id(5, 1));
        assert_eq!(all(&log.0), entries(6, 9, 2));
        assert_eq!(log.0.chain_at(9), Ok(chain));
        log = reopen(dir.path(), log);
    }
    // The chain goes on from the truncated entry, also when the first entry left is replaced.
    log.1.write(&write(3, 5, entries(6, 7, 3))).unwrap();
    log = reopen(dir.path(), log);
    assert_eq!(all(&log.0), entries(6, 7, 3));
    // All of it.
    log.1.truncate_prefix(id(7, 3)).unwrap();
    log = reopen(dir.path(), log);
    assert_eq!((log.0.first_index(), log.0.last_index(), log.0.term_of(7)), (Ok(8), Ok(7), Ok(3)));
    log.1.write(&write(3, 7, entries(8, 8, 3))).unwrap();
    log = reopen(dir.path(), log);
    assert_eq!(all(&log.0), entries(8, 8, 3));
}

#[test]
fn a_snapshot_replaces_everything() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    log.1.write(&write(1, 2, entries(1, 90, 1))).unwrap();
    let snapshot = SnapshotMeta { last: id(50, 7), conf_state: ConfState { voters: vec![1, 2, 3] } };
    let hard_state = HardState { current_term: 8, voted_for: None, commit_index: 50 };
    log.1.reset_to_snapshot(&snapshot, &hard_state).unwrap();
    for _ in 0..2 {
        assert_eq!((log.0.first_index(), log.0.last_index(), log.0.term_of(50)), (Ok(51), Ok(50), Ok(7)));
        assert_eq!(log.0.snapshot(), Ok(snapshot.clone()));
        assert_eq!(log.0.initial_state().unwrap().hard_state, hard_state);
        log = reopen(dir.path(), log);
    }
    log.1.write(&write(8, 50, entries(51, 60, 8))).unwrap();
    log = reopen(dir.path(), log);
    assert_eq!(all(&log.0), entries(51, 60, 8));
}

#[test]
fn entries_of_every_size_come_back() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    let sizes = [0, 1, 31, 239, 240, 241, 4096, 32_768, 1_572_864 + 4096];
    let mut written = Vec::new();
    for (index, size) in (1..).zip(sizes) {
        let command = Bytes::from(vec![index as u8; size]);
        let context = [None, Some(Bytes::new()), Some(Bytes::from(vec![7; size]))][index as usize % 3].clone();
        written.push(RaftLogEntry { index, term: 1, command, context });
    }
    for entry in &written {
        log.1.write(&write(1, 0, vec![entry.clone()])).unwrap();
    }
    log = reopen(dir.path(), log);
    assert_eq!(all(&log.0), written);
}

#[test]
#[should_panic(expected = "an append leaves no hole")]
fn a_hole_is_our_bug() {
    let dir = tempdir().unwrap();
    let (_, mut writer) = open(dir.path()).unwrap();
    let _ = writer.write(&write(1, 0, entries(2, 2, 1)));
}

#[test]
#[should_panic(expected = "terms do not fall")]
fn a_falling_term_is_our_bug() {
    let dir = tempdir().unwrap();
    let (_, mut writer) = open(dir.path()).unwrap();
    writer.write(&write(2, 0, entries(1, 1, 2))).unwrap();
    let _ = writer.write(&write(2, 0, entries(2, 2, 1)));
}

#[test]
#[should_panic(expected = "the commit index does not pass the end of the log")]
fn a_commit_index_past_the_end_is_our_bug() {
    let dir = tempdir().unwrap();
    let (_, mut writer) = open(dir.path()).unwrap();
    let _ = writer.write(&write(1, 2, entries(1, 1, 1)));
}

/// The reader is used on other threads while the log thread writes.
#[test]
fn readers_see_whole_entries_beside_the_writer() {
    let dir = tempdir().unwrap();
    let (reader, mut writer) = open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        let checker = scope.spawn(move || {
            let mut seen = 0;
            while seen < 200 {
                let last = reader.last_index().unwrap();
                let read = reader.entries(1..last + 1, u64::MAX).unwrap();
                assert_eq!(read, entries(1, last, 1));
                seen = last;
            }
        });
        for index in 1..=200 {
            writer.write(&write(1, 0, entries(index, index, 1))).unwrap();
        }
        checker.join().unwrap();
    });
}

/// Restart must be quick: the figure is printed, the bound is loose because tests share the machine.
#[test]
fn two_hundred_thousand_entries_are_verified_quickly() {
    let dir = tempdir().unwrap();
    let open = |prefill| {
        let options = LogOptions { prefill, ..LogOptions::default() };
        RaftLog::open(&DataDir::open(dir.path(), &common::identity()).unwrap(), &options).unwrap()
    };
    let (_, mut writer) = open(false);
    for first in (1..=200_000).step_by(1000) {
        let batch: Vec<_> = (first..first + 1000)
            .map(|index| RaftLogEntry {
                index,
                term: 1,
                command: Bytes::from(vec![7; 240]),
                context: Some(Bytes::from(vec![1; 26])),
            })
            .collect();
        writer.write(&write(1, 0, batch)).unwrap();
    }
    drop(writer);
    for prefill in [false, true, true] {
        let begun = Instant::now();
        let (reader, _writer) = open(prefill);
        eprintln!("open with 200,000 entries, prefill {prefill}: {:?}", begun.elapsed());
        assert_eq!(reader.last_index(), Ok(200_000));
        assert!(begun.elapsed().as_secs() < 10);
    }
    let _ = options();
}

/// The log thread truncates while the driver's thread reads: a reader that is overtaken is told so, and does not take what was
/// removed for damage, which would end the process.
#[test]
fn a_read_that_a_truncation_overtakes_finds_the_log_compacted_not_broken() {
    const LAST: u64 = 3000;
    let dir = tempdir().unwrap();
    let (reader, mut writer) = open(dir.path()).unwrap();
    writer.write(&write(1, LAST, entries(1, LAST, 1))).unwrap();
    let truncating = std::thread::spawn(move || {
        for up_to in (1..LAST).step_by(10) {
            writer.truncate_prefix(id(up_to, 1)).unwrap();
        }
    });
    let is_right = |result: Result<(), StorageError>| match result {
        Ok(()) | Err(StorageError::Compacted { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    while !truncating.is_finished() {
        let first = reader.first_index().unwrap();
        is_right(reader.term_of(first).map(drop));
        is_right(reader.term_of((first + 9).min(LAST)).map(drop));
        is_right(reader.entries(first..(first + 3).min(LAST), 1000).map(drop));
        is_right(reader.chain_at(first).map(drop));
    }
    truncating.join().unwrap();
}

/// Bytes of the first table file of the log, after its first WAL file has ended. `truncates`: when the writer says that it will.
fn flushed_bytes(truncates: bool) -> u64 {
    let dir = tempdir().unwrap();
    let (_reader, mut writer) = open(dir.path()).unwrap();
    let (mut index, mut ends_soon_at) = (0, None);
    let append = |writer: &mut LogWriter, index: &mut u64| {
        *index += 1;
        let entry = RaftLogEntry { index: *index, term: 1, command: vec![7; 4096].into(), context: None };
        writer.write(&write(1, *index, vec![entry])).unwrap();
    };
    while ends_soon_at.is_none() || writer.wal_ends_soon() {
        append(&mut writer, &mut index);
        assert!(index < 1000, "a WAL file of a mebibyte ends");
        if writer.wal_ends_soon() && ends_soon_at.is_none() {
            ends_soon_at = Some(index);
            if truncates {
                writer.truncate_prefix(id(index - 1, 1)).unwrap();
            }
        }
    }
    let ends_soon_at = ends_soon_at.unwrap();
    assert!((170..=185).contains(&ends_soon_at), "seven tenths of 255 entries, but it was {ends_soon_at}");
    // The flush goes on in the background; the larger of the two column families' files is that of the entries.
    let mut seen = (Vec::new(), 0);
    for _ in 0..500 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let files = std::fs::read_dir(common::raft_dir(dir.path())).unwrap().map(|file| file.unwrap());
        let tables = files.filter(|file| file.path().extension().is_some_and(|end| end == "sst"));
        let sizes: Vec<u64> = tables.map(|file| file.metadata().unwrap().len()).collect();
        seen = if sizes == seen.0 { (sizes, seen.1 + 1) } else { (sizes, 0) };
        if seen.0.len() >= 2 && seen.1 >= 20 {
            return seen.0.into_iter().max().unwrap();
        }
    }
    panic!("the log was not flushed within ten seconds: {seen:?}");
}

/// Why the state machine is flushed before a WAL file ends (the driver's `housekeeping.rs`).
#[test]
fn what_is_truncated_before_its_wal_file_ends_is_not_written_again() {
    let (kept, truncated) = (flushed_bytes(false), flushed_bytes(true));
    assert!(kept > 1_000_000, "all of the WAL file's entries: {kept}");
    assert!(truncated < 400_000, "those after the truncation: {truncated}");
}
