//! A log that is not right is refused where nothing repairs it, by a message that names the column family and the keys.
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
use common::{entries, identity, log_key, open, options, raft_dir, raw, state_key, write};
use flaredb_storage::{DataDir, Identity, OpenError, RAFT_LOG_CF, RAFT_STATE_CF, RaftLog};
use rocksdb::DB;
use std::fs;
use tempfile::{TempDir, tempdir};

/// A member with entries 4..=9, the first three truncated away.
fn member() -> TempDir {
    let dir = tempdir().unwrap();
    let (_, mut writer) = open(dir.path()).unwrap();
    writer.write(&write(2, 5, entries(1, 9, 2))).unwrap();
    writer.truncate_prefix(entries(3, 3, 2)[0].id()).unwrap();
    dir
}

/// Breaks the member's database and returns the message that it is refused with.
fn refused(dir: &TempDir, break_it: impl FnOnce(&DB)) -> String {
    let db = raw(dir.path());
    break_it(&db);
    drop(db);
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Inconsistent { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("member/raft") && text.contains("docs/storage.md"), "{text}");
    // Refusing changes nothing: the next start says the same.
    assert_eq!(open(dir.path()).unwrap_err(), error);
    text
}

fn get(db: &DB, cf: &str, key: Vec<u8>) -> Vec<u8> {
    db.get_cf(db.cf_handle(cf).unwrap(), key).unwrap().unwrap()
}

fn put(db: &DB, cf: &str, key: Vec<u8>, value: &[u8]) {
    db.put_cf(db.cf_handle(cf).unwrap(), key, value).unwrap();
}

fn delete(db: &DB, cf: &str, key: Vec<u8>) {
    db.delete_cf(db.cf_handle(cf).unwrap(), key).unwrap();
}

#[test]
fn a_hole() {
    let text = refused(&member(), |db| delete(db, RAFT_LOG_CF, log_key(6)));
    assert!(text.contains("raft_log 1/6 is missing, the next record is raft_log 1/7"), "{text}");
}

#[test]
fn a_hole_at_the_truncated_prefix() {
    let text = refused(&member(), |db| delete(db, RAFT_LOG_CF, log_key(4)));
    assert!(text.contains("raft_log 1/4 is missing, the next record is raft_log 1/5"), "{text}");
}

#[test]
fn a_record_that_was_truncated() {
    let text = refused(&member(), |db| put(db, RAFT_LOG_CF, log_key(2), b""));
    assert!(text.contains("raft_log 1/2 is there, though the log was truncated up to 3@2"), "{text}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_record() {
    let dir = member();
    let whole = get(&raw(dir.path()), RAFT_LOG_CF, log_key(6));
    // One bit in each field: checksum, version, zeroes, chain, index, term, length, context, command.
    for at in [0, 4, 6, 8, 16, 24, 32, 36, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        let text = refused(&dir, |db| put(db, RAFT_LOG_CF, log_key(6), &flipped));
        assert!(text.contains("raft_log 1/6 says checksum"), "byte {at}: {text}");
    }
    let text = refused(&dir, |db| put(db, RAFT_LOG_CF, log_key(6), &whole[..20]));
    assert!(text.contains("raft_log 1/6 has 20 bytes"), "{text}");
}

#[test]
fn swapped_records() {
    let text = refused(&member(), |db| {
        let (six, seven) = (get(db, RAFT_LOG_CF, log_key(6)), get(db, RAFT_LOG_CF, log_key(7)));
        put(db, RAFT_LOG_CF, log_key(6), &seven);
        put(db, RAFT_LOG_CF, log_key(7), &six);
    });
    assert!(text.contains("raft_log 1/6 holds the record of index 7"), "{text}");
}

/// A record that is whole and in its place, but of another history (a stale or misdirected block).
#[test]
fn a_record_of_another_history() {
    let other = tempdir().unwrap();
    let (_, mut writer) = open(other.path()).unwrap();
    let mut foreign = entries(1, 9, 2);
    foreign[4].command = Bytes::from_static(b"another command at index 5");
    writer.write(&write(2, 5, foreign)).unwrap();
    drop(writer);
    let record = get(&raw(other.path()), RAFT_LOG_CF, log_key(6));
    let text = refused(&member(), |db| put(db, RAFT_LOG_CF, log_key(6), &record));
    assert!(text.contains("raft_log 1/6 says chain"), "{text}");
}

#[test]
fn a_key_of_another_shape() {
    let text = refused(&member(), |db| put(db, RAFT_LOG_CF, [log_key(5), vec![0]].concat(), b""));
    assert!(text.contains("raft_log has a key of 17 bytes"), "{text}");
}

#[test]
fn a_missing_row_of_raft_state() {
    for (tag, name) in [(1, "HardState"), (2, "ConfState"), (3, "TruncatedState")] {
        let text = refused(&member(), |db| delete(db, RAFT_STATE_CF, state_key(tag)));
        assert!(text.contains(&format!("raft_state 1/{name} is missing")), "{text}");
    }
}

#[test]
fn a_flipped_bit_in_raft_state() {
    for (tag, name) in [(1, "HardState"), (2, "ConfState"), (3, "TruncatedState")] {
        let text = refused(&member(), |db| {
            let mut row = get(db, RAFT_STATE_CF, state_key(tag));
            row[7] ^= 1;
            put(db, RAFT_STATE_CF, state_key(tag), &row);
        });
        assert!(text.contains(&format!("raft_state 1/{name} says checksum")), "{text}");
    }
}

/// A row of raft_state from an earlier instant: the log is then longer in term, or shorter than its commit index.
#[test]
fn rows_of_different_instants() {
    let dir = tempdir().unwrap();
    let (reader, mut writer) = open(dir.path()).unwrap();
    writer.write(&write(1, 0, entries(1, 3, 1))).unwrap();
    drop((reader, writer));
    let old = get(&raw(dir.path()), RAFT_STATE_CF, state_key(1));
    let (reader, mut writer) = open(dir.path()).unwrap();
    writer.write(&write(2, 5, entries(4, 6, 2))).unwrap();
    drop((reader, writer));
    let new = get(&raw(dir.path()), RAFT_STATE_CF, state_key(1));

    let text = refused(&dir, |db| put(db, RAFT_STATE_CF, state_key(1), &old));
    assert!(text.contains("raft_state HardState says term 1, raft_log ends at 6@2"), "{text}");
    let text = refused(&dir, |db| {
        put(db, RAFT_STATE_CF, state_key(1), &new);
        for index in 4..=6 {
            delete(db, RAFT_LOG_CF, log_key(index));
        }
    });
    assert!(text.contains("says commit index 5, raft_log ends at 3"), "{text}");
}

#[test]
fn other_voters() {
    let dir = member();
    let others = Identity { voters: vec![1, 2, 4], ..identity() };
    let error = RaftLog::open(&DataDir::open(dir.path(), &others).unwrap(), &options()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("raft_state 1/ConfState says voters 0000000000000001 0000000000000002 0000000000000003"),
        "{text}"
    );
    assert!(text.contains("started with 0000000000000001 0000000000000002 0000000000000004"), "{text}");
}

/// A member whose database vanished must not come back as a new one: it has voted and acknowledged.
#[test]
fn a_wiped_log_is_not_a_new_log() {
    let dir = member();
    fs::remove_dir_all(raft_dir(dir.path())).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    let dir = member();
    let text = refused(&dir, |db| {
        for index in 4..=9 {
            delete(db, RAFT_LOG_CF, log_key(index));
        }
        for tag in 1..=3 {
            delete(db, RAFT_STATE_CF, state_key(tag));
        }
    });
    assert!(text.contains("raft_state 1/HardState is missing; raft_state 1/ConfState is missing"), "{text}");
}

/// The first batch is durable before the identity says so: a crash between the two is no damage.
#[test]
fn a_crash_between_first_batch_and_identity_is_harmless() {
    let dir = tempdir().unwrap();
    let before = {
        let _dir = DataDir::open(dir.path(), &identity()).unwrap();
        fs::read(dir.path().join("member/identity")).unwrap()
    };
    drop(open(dir.path()).unwrap());
    fs::write(dir.path().join("member/identity"), before).unwrap();
    drop(open(dir.path()).unwrap());
    assert!(fs::read_to_string(dir.path().join("member/identity")).unwrap().contains("log-made: yes"));
}
