//! The mark: written with the log, checked at each start, made for folders that have none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use common::{entries, identity, options, write};
use flaredb_raft::{ConfState, EntryId, HardState, RaftStorage as _, SnapshotMeta, Write};
use flaredb_record::mark::{self, Mark};
use flaredb_storage::{DataDir, DataOptions, Identity, OpenError, Opened, Recovery};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

fn open(path: &Path) -> Result<Opened, OpenError> {
    flaredb_storage::open(&DataDir::open(path, &identity())?, &options(), &DataOptions::small())
}

fn at(index: u64, term: u64) -> EntryId {
    EntryId { index, term }
}

fn read(path: &Path) -> (u64, Mark) {
    let bytes = fs::read(path.join("member/mark")).unwrap();
    assert_eq!(bytes.len() as u64, mark::FILE_BYTES);
    mark::decode_both(&bytes[..512], &bytes[4096..4608]).unwrap()
}

#[test]
fn it_says_what_the_log_holds() {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let (_, first) = read(dir.path());
    assert_eq!((first.cluster_id, first.member_id, first.incarnation), (0xc1, 2, 1));
    assert_eq!((first.term, first.voted_for, first.acked), (0, None, at(0, 0)));
    assert_eq!((opened.storage_id, opened.incarnation), (first.storage_id, 1));
    assert_ne!(first.storage_id, 0);

    opened.writer.write(&write(1, 0, entries(1, 5, 1))).unwrap();
    let (_, now) = read(dir.path());
    assert_eq!((now.term, now.voted_for, now.acked), (1, Some(2), at(5, 1)));
    assert_eq!(now.acked_chain, opened.log.chain_at(5).unwrap());
    // A vote; then a commit index alone, which is nothing to promise.
    let voted = HardState { current_term: 3, voted_for: Some(1), commit_index: 0 };
    opened.writer.write(&Write { id: 2, hard_state: voted, entries: vec![], sync: true }).unwrap();
    let (generation, now) = read(dir.path());
    assert_eq!((now.term, now.voted_for, now.acked), (3, Some(1), at(5, 1)));
    let hard_state = HardState { commit_index: 4, ..voted };
    opened.writer.write(&Write { id: 3, hard_state, entries: vec![], sync: false }).unwrap();
    assert_eq!(read(dir.path()).0, generation);
    // A tail that is replaced by one that is lower in Raft's order.
    opened.writer.write(&Write { id: 4, hard_state, entries: entries(6, 9, 3), sync: true }).unwrap();
    assert_eq!(read(dir.path()).1.acked, at(9, 3));
    opened.writer.write(&write(4, 4, entries(6, 7, 2))).unwrap();
    assert_eq!(read(dir.path()).1.acked, at(7, 2));
    // A snapshot takes the place of the log.
    let snapshot = SnapshotMeta { last: at(50, 4), conf_state: ConfState { voters: vec![1, 2, 3] } };
    let hard_state = HardState { current_term: 4, voted_for: Some(2), commit_index: 50 };
    opened.writer.reset_to_snapshot(&snapshot, &hard_state).unwrap();
    assert_eq!(read(dir.path()).1.acked, at(50, 4));
    opened.writer.truncate_prefix(at(50, 4)).unwrap();
    assert_eq!(read(dir.path()).1.acked, at(50, 4));
}

#[test]
fn each_start_is_a_new_incarnation_of_the_same_storage() {
    let dir = tempdir().unwrap();
    let first = open(dir.path()).unwrap().storage_id;
    for incarnation in 2..5 {
        let opened = open(dir.path()).unwrap();
        assert_eq!((opened.storage_id, opened.incarnation), (first, incarnation));
        assert_eq!((opened.recovery, opened.why), (Recovery::Complete, None));
    }
    let other = tempdir().unwrap();
    assert_ne!(open(other.path()).unwrap().storage_id, first);
}

#[test]
fn one_bad_slot_is_written_again_and_two_leave_the_promise_unknown() {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.writer.write(&write(1, 0, entries(1, 5, 1))).unwrap();
    let storage = opened.storage_id;
    drop(opened);
    let path = dir.path().join("member/mark");
    let damage = |slots: &[usize]| {
        let mut bytes = fs::read(&path).unwrap();
        for slot in slots {
            bytes[slot * 4096 + 100] ^= 1;
        }
        fs::write(&path, bytes).unwrap();
    };
    for slot in [0, 1] {
        damage(&[slot]);
        let opened = open(dir.path()).unwrap();
        assert_eq!((opened.recovery, opened.storage_id), (Recovery::Complete, storage));
        drop(opened);
        let bytes = fs::read(&path).unwrap();
        assert!(mark::decode(&bytes[..512]).is_some() && mark::decode(&bytes[4096..]).is_some());
    }
    for lose in [0, 1] {
        let there = open(dir.path()).unwrap().log.last();
        let mut before = storage;
        if lose == 0 {
            damage(&[0, 1])
        } else {
            fs::remove_file(&path).unwrap()
        }
        for start in 0..3 {
            let opened = open(dir.path()).unwrap();
            assert_eq!(opened.recovery, Recovery::Unknown, "also at the next start");
            assert_eq!(opened.log.initial_state().unwrap().recover_until, None, "the host has to say it");
            assert_eq!(opened.log.last(), there, "what is there is kept");
            assert_eq!(opened.storage_id == before, start > 0, "its peers must not take it for the storage they knew");
            before = opened.storage_id;
        }
        // Its peers have said where it was at most.
        let mut opened = open(dir.path()).unwrap();
        opened.writer.recover(Some(at(there.index + 3, 1))).unwrap();
        drop(opened);
        assert_eq!(open(dir.path()).unwrap().recovery, Recovery::Until(at(there.index + 3, 1)));
        let mut opened = open(dir.path()).unwrap();
        let last = opened.log.last().index;
        opened.writer.write(&write(1, 0, entries(last + 1, last + 3, 1))).unwrap();
        drop(opened);
        let opened = open(dir.path()).unwrap();
        assert_eq!((opened.recovery, opened.why), (Recovery::Complete, None));
    }
    assert!(dir.path().join("member/mark.damaged-1").exists());
}

/// What is learnt while the process runs lasts: a member that took another one's place is not a member in good standing
/// after its next start.
#[test]
fn a_recovery_that_began_at_run_time_lasts_until_it_ends() {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.writer.recover(None).unwrap();
    opened.writer.write(&write(1, 0, entries(1, 5, 1))).unwrap();
    drop(opened);
    let mut opened = open(dir.path()).unwrap();
    assert_eq!(opened.recovery, Recovery::Unknown);
    opened.writer.recover(Some(at(9, 2))).unwrap();
    drop(opened);
    let mut opened = open(dir.path()).unwrap();
    assert_eq!(opened.recovery, Recovery::Until(at(9, 2)));
    assert_eq!(opened.log.initial_state().unwrap().recover_until, Some(at(9, 2)));
    opened.writer.write(&write(3, 0, entries(6, 6, 3))).unwrap();
    drop(opened);
    assert_eq!(open(dir.path()).unwrap().recovery, Recovery::Complete);
    let mut opened = open(dir.path()).unwrap();
    opened.writer.recover(Some(at(2, 1))).unwrap();
    drop(opened);
    assert_eq!(open(dir.path()).unwrap().recovery, Recovery::Complete, "it holds that");
}

#[test]
fn a_mark_of_somebody_else_is_refused_or_not_believed() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    drop(open(one.path()).unwrap());
    let other = Identity { member_id: 3, ..identity() };
    let opened = flaredb_storage::open(&DataDir::open(two.path(), &other).unwrap(), &options(), &DataOptions::small());
    drop(opened.unwrap());
    fs::copy(two.path().join("member/mark"), one.path().join("member/mark")).unwrap();
    let error = open(one.path()).unwrap_err();
    assert!(matches!(error, OpenError::Identity { what: "member", found: 3, expected: 2, .. }), "{error}");
    assert!(error.to_string().contains("member/mark"), "{error}");
    // The same member's, of another folder of its: what this one promised is not known.
    let three = tempdir().unwrap();
    drop(open(three.path()).unwrap());
    fs::copy(three.path().join("member/mark"), one.path().join("member/mark")).unwrap();
    let opened = open(one.path()).unwrap();
    assert_eq!(opened.recovery, Recovery::Unknown);
    assert!(opened.why.unwrap().contains("the file mark is of storage"));
}

/// A folder as the last release left it: no mark, no storage id. Nothing else in it has changed since.
fn without_mark(path: &Path) {
    fs::remove_file(path.join("member/mark")).unwrap();
    let identity = fs::read_to_string(path.join("member/identity")).unwrap();
    let body: String = identity
        .lines()
        .filter(|line| !line.starts_with("storage: ") && !line.starts_with("crc32: "))
        .map(|line| format!("{line}\n"))
        .collect();
    let crc = crc32fast::hash(body.as_bytes());
    fs::write(path.join("member/identity"), format!("{body}crc32: {crc:08x}\n")).unwrap();
}

#[test]
fn a_folder_of_the_last_release_gets_a_mark_at_its_first_start() {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.writer.write(&write(7, 0, entries(1, 5, 6))).unwrap();
    drop(opened);
    without_mark(dir.path());
    assert_eq!(
        fs::read_to_string(dir.path().join("member/identity")).unwrap(),
        "name: n2\ncluster: 00000000000000c1\nmember: 0000000000000002\nregion: 0000000000000001\nlog-made: yes\ncrc32: 38222e09\n",
        "byte for byte what that release wrote"
    );
    let opened = open(dir.path()).unwrap();
    assert_eq!((opened.recovery, opened.why.clone(), opened.incarnation), (Recovery::Complete, None, 1));
    let (_, mark) = read(dir.path());
    assert_eq!((mark.term, mark.voted_for, mark.acked), (7, Some(2), at(5, 6)));
    let storage = opened.storage_id;
    drop(opened);
    let opened = open(dir.path()).unwrap();
    assert_eq!((opened.storage_id, opened.incarnation), (storage, 2));
    drop(opened);
    // A crash between the mark and the identity file that names it: the same again, with another id.
    let mark = fs::read(dir.path().join("member/mark")).unwrap();
    without_mark(dir.path());
    fs::write(dir.path().join("member/mark"), mark).unwrap();
    let opened = open(dir.path()).unwrap();
    assert_eq!((opened.recovery, opened.incarnation), (Recovery::Complete, 1));
}
