//! A snapshot takes the place of a member's state: at every step a crash leaves the old state or the new one, log and rows.

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
use common::{entries, identity, options, write};
use flaredb_kv::{ApplyEntry, Command, CommandKind, Cursor as _, Kv, OrderedStore as _, PutRequest, RangeRequest};
use flaredb_raft::{ConfState, EntryId, HardState, RaftStorage as _, SnapshotMeta};
use flaredb_storage::{DataDir, DataOptions, DataStore, LogReader, LogWriter, RaftLog, Staged, check_recovery};
use std::path::Path;

const SNAPSHOT: EntryId = EntryId { index: 90, term: 4 };

fn put(index: u64, term: u64, key: &str) -> ApplyEntry {
    let request = PutRequest { key: key.to_owned().into(), value: "v".into(), ..PutRequest::default() };
    ApplyEntry { index, term, command: Some((CommandKind::Put, Command::Put(request).encode())) }
}

/// Keys in a state machine.
fn keys(kv: &Kv<DataStore>) -> Vec<String> {
    let all =
        RangeRequest { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), ..RangeRequest::default() };
    let range = kv.reader().range(&all).unwrap().unwrap();
    range.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

struct Member {
    dir: DataDir,
    log: LogReader,
    writer: LogWriter,
    kv: Kv<DataStore>,
}

/// As a node does at start.
fn open(path: &Path) -> Member {
    let dir = DataDir::open(path, &identity()).unwrap();
    dir.remove_leftovers().unwrap();
    let (log, writer) = RaftLog::open(&dir, &options()).unwrap();
    let kv = Kv::open(DataStore::open(&dir, &DataOptions::small()).unwrap()).unwrap();
    let hard_state = log.initial_state().unwrap().hard_state;
    check_recovery(&hard_state, log.first_index().unwrap(), log.last_index().unwrap(), kv.applied().index).unwrap();
    Member { dir, log, writer, kv }
}

/// A member with the entries 1 to 20 of terms 1, of which 10 are applied.
fn old_member(path: &Path) -> Member {
    let mut member = open(path);
    member.writer.write(&write(1, 10, entries(1, 20, 1))).unwrap();
    member.writer.write(&write(4, 10, Vec::new())).unwrap();
    let applied: Vec<_> = (1..=10).map(|index| put(index, 1, &format!("old{index}"))).collect();
    member.kv.apply(&applied, &mut Vec::new()).unwrap();
    member.kv.store().flusher().flush().unwrap();
    member
}

/// Another member's rows, received.
fn stage(dir: &DataDir) -> Staged {
    let folder = tempfile::tempdir().unwrap();
    let mut other = open(folder.path());
    let applied: Vec<_> = (1..=90).map(|index| put(index, 1 + index / 30, &format!("new{index:02}"))).collect();
    other.kv.apply(&applied, &mut Vec::new()).unwrap();
    let reader = other.kv.store().reader();
    let mut cursor = reader.scan();
    let applied = flaredb_kv::applied_at(&mut cursor).unwrap();
    assert_eq!((applied.index, applied.term), (SNAPSHOT.index, SNAPSHOT.term));
    cursor.seek(&[]).unwrap();
    let mut staging = dir.stage(SNAPSHOT, &DataOptions::small()).unwrap();
    while let Some((key, value)) = cursor.entry() {
        staging.put(vec![(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))]).unwrap();
        cursor.next().unwrap();
    }
    staging.finish().unwrap()
}

fn reset(writer: &mut LogWriter) {
    let snapshot = SnapshotMeta { last: SNAPSHOT, conf_state: ConfState { voters: vec![1, 2, 3] } };
    let hard_state = HardState { current_term: 4, voted_for: Some(2), commit_index: SNAPSHOT.index };
    writer.reset_to_snapshot(&snapshot, &hard_state).unwrap();
}

fn assert_old(path: &Path) {
    let member = open(path);
    assert_eq!(keys(&member.kv).len(), 10);
    assert_eq!((member.log.first_index(), member.log.last_index()), (Ok(1), Ok(20)));
    assert_folders(path, "data");
}

fn assert_new(path: &Path) {
    let mut member = open(path);
    let found = keys(&member.kv);
    assert!(found.len() == 90 && found.iter().all(|key| key.starts_with("new")), "{found:?}");
    assert_eq!(member.log.snapshot().unwrap().last, SNAPSHOT);
    assert_eq!(member.log.last_index(), Ok(90));
    let hard_state = member.log.initial_state().unwrap().hard_state;
    assert_eq!(hard_state, HardState { current_term: 4, voted_for: Some(2), commit_index: 90 });
    assert_folders(path, "data-90-4");
    // It goes on from there, and what follows is not taken for a reset that is missing.
    member.writer.write(&write(4, 90, entries(91, 95, 4))).unwrap();
    drop(member);
    let member = open(path);
    assert_eq!((member.log.last_index(), keys(&member.kv).len()), (Ok(95), 90));
    assert_folders(path, "data-90-4");
}

fn assert_folders(path: &Path, data: &str) {
    let mut found: Vec<String> = std::fs::read_dir(path.join("member"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("data") || name.starts_with("incoming"))
        .collect();
    found.sort();
    assert_eq!(found, [data]);
}

#[test]
fn a_crash_before_the_switch_leaves_the_old_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let member = old_member(path);
    // While it is received: the folder stays, as after a kill.
    let mut staging = member.dir.stage(SNAPSHOT, &DataOptions::small()).unwrap();
    staging.put(vec![("mapplied".into(), "half".into())]).unwrap();
    assert!(member.dir.stage(SNAPSHOT, &DataOptions::small()).is_err(), "one at a position");
    std::mem::forget(staging);
    drop(member);
    // The lock went with the forgotten store: only a copy can be opened in this process.
    let copy = copied(path);
    assert_old(copy.path());

    let folder = tempfile::tempdir().unwrap();
    let member = old_member(folder.path());
    let staged = stage(&member.dir);
    assert_eq!(staged.position(), SNAPSHOT);
    assert_old(copied(folder.path()).path());
    let settled = staged.settle().unwrap();
    assert_old(copied(folder.path()).path());
    drop(settled);
    drop(member);
    assert_old(folder.path());
}

#[test]
fn a_crash_after_the_switch_leaves_the_new_state() {
    let folder = tempfile::tempdir().unwrap();
    let mut member = old_member(folder.path());
    let before = stage(&member.dir).settle().unwrap().make_current().unwrap();
    assert!(before.ends_with("member/data"), "{before:?}");
    assert_eq!(keys(&member.kv).len(), 10, "who reads the old state still can");
    assert_new(copied(folder.path()).path());
    reset(&mut member.writer);
    assert_new(copied(folder.path()).path());
    std::fs::remove_dir_all(before).unwrap();
    drop(member);
    assert_new(folder.path());
}

#[test]
fn rows_at_another_position_are_no_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let member = old_member(folder.path());
    let staging = member.dir.stage(EntryId { index: 7, term: 7 }, &DataOptions::small()).unwrap();
    let error = staging.finish().unwrap_err().to_string();
    assert!(error.contains("those at 0@0, not at 7@7"), "{error}");
    drop(member);
    assert_old(folder.path());
}

/// What a kill would leave: the files as they are, while the process has them open.
fn copied(path: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp").arg("-a").arg(path.join("member")).arg(copy.path()).status().unwrap();
    assert!(status.success());
    copy
}
