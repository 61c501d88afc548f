//! etcd's MVCC rules that are easy to get wrong, M1-M7 and M10, one or more tests each.
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
use common::*;
use flaredb_kv::{
    Batch, Change, Command, CompareResult, CompareTarget, Kv, KvError, MemoryStore, OrderedStore, PutRequest,
    RangeRequest, RequestOp, Response, ResponseBody,
};

#[test]
fn m01_an_empty_store_has_revision_1_and_the_first_write_gets_2() {
    let mut db = Db::new();
    assert_eq!((db.revision(), db.kv.applied().compact_revision, db.kv.applied().index), (1, -1, 0));
    assert_eq!(db.put("a", "1"), 2);
    assert_eq!(db.put("a", "2"), 3);
    db.reopen();
    assert_eq!(db.revision(), 3);
    assert_eq!(db.put("b", "1"), 4);
}

#[test]
fn m01_the_revision_never_goes_down_over_a_restart() {
    // The newest change is a delete, and compaction removes every row: nothing but the stored revision knows it.
    let mut db = Db::new();
    db.put("a", "1");
    db.delete("a", "");
    db.put("b", "1");
    db.delete("b", "");
    db.compact(5).unwrap();
    db.remove_compacted(100);
    db.reopen();
    assert_eq!(db.revision(), 5);
    assert_eq!(db.put("c", "1"), 6);
    // Rows, and compactions, above the stored revision count too.
    let mut store = db.kv.store().clone();
    store.write(&Batch { changes: vec![Change::Delete(bytes("mapplied"))] }).unwrap();
    assert_eq!(Kv::open(store.clone()).unwrap().applied().revision, 6, "the last row");
    let index_rows: Vec<_> = rows(&store).into_iter().filter(|(key, _)| key.starts_with(b"r")).collect();
    store.write(&Batch { changes: index_rows.into_iter().map(|(key, _)| Change::Delete(key)).collect() }).unwrap();
    let kv = Kv::open(store).unwrap();
    assert_eq!((kv.applied().revision, kv.applied().compact_revision), (5, 5), "the finished compaction");
}

#[test]
fn m02_create_mod_and_version_count_puts_and_a_delete_resets_them() {
    let mut db = Db::new();
    db.put("a", "1");
    db.put("b", "x");
    db.put("a", "1");
    assert_eq!(db.get("a"), Some(kv("a", "1", 2, 4, 2)), "the same value again still counts");
    assert_eq!(db.delete("a", ""), 1);
    assert_eq!(db.get("a"), None);
    db.put("a", "3");
    assert_eq!(db.get("a"), Some(kv("a", "3", 6, 6, 1)));
    assert_eq!(db.get_at("a", 2), Some(kv("a", "1", 2, 2, 1)));
    assert_eq!(db.get_at("a", 4), Some(kv("a", "1", 2, 4, 2)));
    assert_eq!(db.get_at("a", 5), None);
    assert_eq!(db.get_at("b", 5), Some(kv("b", "x", 3, 3, 1)));
}

#[test]
fn m02_a_tombstone_carries_only_its_mark() {
    let mut db = Db::new();
    db.put("a", "a long value that must not be kept twice");
    db.delete("a", "");
    let tombstone = db.all_rows().into_iter().find(|(key, _)| key.starts_with(b"ua\0\0")).unwrap();
    assert_eq!(tombstone.1.as_ref(), [0]);
}

#[test]
fn m03_a_txn_is_one_main_revision_with_a_sub_revision_per_change() {
    let mut db = Db::new();
    db.put("d1", "");
    db.put("d2", "");
    let ops = [op_put("a", "1"), op_delete("d", "e"), op_put("b", "2")];
    let (revision, _) = db.txn(txn(&[], &ops, &[])).unwrap();
    assert_eq!((revision, db.revision()), (4, 4));
    let changes: Vec<_> = db
        .all_rows()
        .into_iter()
        .filter(|(key, _)| key.starts_with(&[b'r', 0, 0, 0, 0, 0, 0, 0, 4]))
        .map(|(key, row)| (key[9..].to_vec(), row[0], row[13..].to_vec()))
        .collect();
    let expected = [(0, 1, "a"), (1, 0, "d1"), (2, 0, "d2"), (3, 1, "b")];
    let expected = expected.map(|(sub, kind, key)| (vec![0, 0, 0, sub], kind, key.as_bytes().to_vec()));
    assert_eq!(changes, expected, "changes in order, deleted keys in key order");
    assert_eq!(db.get("b"), Some(kv("b", "2", 4, 4, 1)));
}

#[test]
fn m03_all_compares_see_the_state_before_the_txn() {
    let mut db = Db::new();
    db.put("a", "old");
    let is = |value: &str| compare("a", CompareResult::Equal, CompareTarget::Value(bytes(value)));
    let inner = txn(&[is("old")], &[op_put("b", "saw old")], &[op_put("b", "saw new")]);
    let (_, answer) = db.txn(txn(&[is("old")], &[op_put("a", "new"), RequestOp::Txn(inner)], &[])).unwrap();
    assert!(answer.succeeded);
    assert_eq!(db.get("b").unwrap().value, "saw old");
    assert_eq!(db.get("a").unwrap().value, "new");
}

#[test]
fn m03_a_range_after_a_put_in_the_txn_sees_it() {
    let mut db = Db::new();
    db.put("a", "1");
    let ops = [
        op_range("a", "c"),
        op_put("a", "2"),
        op_put("b", "1"),
        op_range("a", "c"),
        RequestOp::Range(range_at("a", "c", 2)),
        RequestOp::Txn(txn(&[], &[op_delete("c", ""), op_range("a", "c")], &[])),
    ];
    let (revision, answer) = db.txn(txn(&[], &ops, &[])).unwrap();
    assert_eq!(revision, 3);
    let range_of = |response: &Response| match &response.body {
        ResponseBody::Range(range) => range.kvs.clone(),
        other => panic!("{other:?}"),
    };
    let after = vec![kv("a", "2", 2, 3, 2), kv("b", "1", 3, 3, 1)];
    assert_eq!(range_of(&answer.responses[0]), vec![kv("a", "1", 2, 2, 1)]);
    assert_eq!(range_of(&answer.responses[3]), after);
    assert_eq!(range_of(&answer.responses[4]), vec![kv("a", "1", 2, 2, 1)], "an old revision stays what it was");
    let ResponseBody::Txn(nested) = &answer.responses[5].body else { panic!() };
    assert_eq!(range_of(&nested.responses[1]), after);
    let revisions: Vec<i64> = answer.responses.iter().map(|response| response.revision).collect();
    assert_eq!(revisions, [2, 3, 3, 3, 3, 0], "inner headers: the revision at that point; none for a nested txn");
}

#[test]
fn m03_a_key_changed_twice_in_one_txn_ends_as_the_last_change_says() {
    // etcd lets "delete from this key on" stand beside puts: the only way to change a key twice.
    let mut db = Db::new();
    db.put("b", "old");
    db.txn(txn(&[], &[op_delete("a", "\0"), op_put("b", "new")], &[])).unwrap();
    assert_eq!(db.get("b"), Some(kv("b", "new", 3, 3, 1)), "deleted, then created");
    db.txn(txn(&[], &[op_put("c", "short"), op_delete("b", "\0"), op_range("a", "\0")], &[])).unwrap();
    assert_eq!(db.range(range("a", "\0")).unwrap().count, 0);
    let hash = db.hash(0);
    db.compact(4).unwrap();
    db.remove_compacted(1);
    assert_eq!(db.range(range("a", "\0")).unwrap().count, 0);
    let index: Vec<_> = db.all_rows().into_iter().map(|(key, _)| key).filter(|key| key[0] == b'r').collect();
    let subs: Vec<_> = index.iter().map(|key| (key[8], key[12])).collect();
    assert_eq!(subs, [(4, 1), (4, 2)], "the put that the same txn deleted is in the index no more");
    db.put("c", "again");
    assert_eq!(db.get("c"), Some(kv("c", "again", 5, 5, 1)));
    assert_ne!(db.hash(0), hash);
}

#[test]
fn m04_what_changes_nothing_leaves_the_revision_alone() {
    let mut db = Db::new();
    db.put("a", "1");
    let absent = compare("a", CompareResult::Equal, CompareTarget::Version(0));
    assert_eq!(db.txn(txn(&[], &[], &[])).unwrap().0, 2, "an empty txn");
    assert_eq!(db.txn(txn(&[], &[op_range("a", "")], &[])).unwrap().0, 2, "a txn that reads");
    assert_eq!(db.txn(txn(&[absent], &[op_put("a", "2")], &[])).unwrap().0, 2, "a failed compare without an else");
    assert_eq!(db.txn(txn(&[], &[op_delete("x", "z")], &[])).unwrap().0, 2, "a txn that deletes nothing");
    let response = db.apply(Command::DeleteRange(delete("x", "z"))).unwrap();
    assert_eq!(response.revision, 2, "a delete of nothing");
    assert_eq!(db.compact(2).unwrap(), 2, "a compaction");
    let noop = flaredb_kv::ApplyEntry { index: db.kv.applied().index + 1, term: 2, command: None };
    let mut outcomes = Vec::new();
    db.kv.apply(&[noop], &mut outcomes).unwrap();
    assert_eq!(outcomes, [Ok(Response { revision: 2, body: ResponseBody::Compact })], "a leader's no-op");
    assert_eq!((db.revision(), db.kv.applied().term), (2, 2));
    assert_eq!(db.put("a", "2"), 3);
}

#[test]
fn m05_a_refused_command_leaves_no_trace() {
    let mut db = Db::new();
    db.put("a", "1");
    db.put("a", "2");
    db.compact(3).unwrap();
    let before: Vec<_> = db.all_rows();
    let with_lease = RequestOp::Put(PutRequest { lease: 7, ..put("b", "1") });
    let keep_value = |key: &str| RequestOp::Put(PutRequest { ignore_value: true, ..put(key, "") });
    let nested = |op: RequestOp| RequestOp::Txn(txn(&[], &[op], &[]));
    let cases = [
        (vec![op_put("a", "x"), with_lease.clone()], KvError::LeaseNotFound),
        (vec![op_put("a", "x"), RequestOp::Range(range_at("a", "", 2))], KvError::Compacted),
        (vec![op_put("a", "x"), RequestOp::Range(range_at("a", "", 4))], KvError::FutureRevision),
        (vec![op_put("a", "x"), RequestOp::Range(range_at("a", "", -1))], KvError::Compacted),
        (vec![op_put("a", "x"), keep_value("absent")], KvError::KeyNotFound),
        (vec![op_put("x", "x"), nested(with_lease.clone())], KvError::LeaseNotFound),
        (vec![op_put("x", "x"), nested(nested(RequestOp::Range(range_at("a", "", 9))))], KvError::FutureRevision),
        // The puts of all levels are looked at before the ranges.
        (vec![RequestOp::Range(range_at("a", "", 9)), keep_value("absent")], KvError::KeyNotFound),
        (vec![RequestOp::Range(range_at("a", "", 2)), nested(keep_value("absent"))], KvError::KeyNotFound),
        (vec![nested(RequestOp::Range(range_at("a", "", 2))), with_lease.clone()], KvError::LeaseNotFound),
        // Only found out while executing: the key was there before, and an earlier operation deleted it. etcd crashes here.
        (vec![op_put("0", "x"), op_delete("a", "\0"), keep_value("a")], KvError::KeyNotFound),
        (vec![op_put("b", "x"), op_put("b", "y")], KvError::DuplicateKey),
        (vec![op_put("", "x")], KvError::EmptyKey),
    ];
    for (ops, error) in cases {
        assert_eq!(db.txn(txn(&[], &ops, &[])), Err(error), "{ops:?}");
        let mut after = db.all_rows();
        let applied = after.iter_mut().find(|(key, _)| key == "mapplied").unwrap();
        applied.1 = before.iter().find(|(key, _)| key == "mapplied").unwrap().1.clone();
        assert_eq!(after, before, "only the applied index moves: {ops:?}");
        assert_eq!(db.revision(), 3);
    }
    assert_eq!(db.get("a").unwrap().value, "2");
}

#[test]
fn m05_a_branch_that_does_not_run_is_not_asked_whether_it_could() {
    let mut db = Db::new();
    let with_lease = RequestOp::Put(PutRequest { lease: 7, ..put("b", "1") });
    let (_, answer) = db.txn(txn(&[], &[op_put("a", "1")], &[with_lease])).unwrap();
    assert!(answer.succeeded);
}

#[test]
fn m06_rows_and_applied_index_are_one_batch() {
    /// Fails every write; remembers nothing.
    struct Broken(MemoryStore, bool);
    impl OrderedStore for Broken {
        type Reader = flaredb_kv::MemoryReader;
        fn reader(&self) -> Self::Reader {
            self.0.reader()
        }
        fn write(&mut self, batch: &Batch) -> Result<(), flaredb_kv::StoreError> {
            if self.1 { Err(flaredb_kv::StoreError("disk".into())) } else { self.0.write(batch) }
        }
    }
    let mut kv = Kv::open(Broken(MemoryStore::new(), false)).unwrap();
    let entries: Vec<_> = (1..=3).map(|i| entry(i, &Command::Put(put("a", "1")))).collect();
    let mut outcomes = Vec::new();
    kv.apply(&entries[..1], &mut outcomes).unwrap();
    kv.store_mut().1 = true;
    assert!(kv.apply(&entries[1..], &mut outcomes).is_err());
    assert_eq!((kv.applied().index, kv.applied().revision), (1, 2), "nothing of a failed batch counts");
    let reopened = Kv::open(kv.store().0.clone()).unwrap();
    assert_eq!(reopened.applied(), kv.applied());
    assert_eq!(rows(reopened.store()).len(), 3, "a row, its index row, the applied row");
}

#[test]
#[should_panic(expected = "entries are applied in order, each once")]
fn m06_an_entry_is_not_applied_twice() {
    let mut db = Db::new();
    db.put("a", "1");
    let _ = db.kv.apply(&[entry(1, &Command::Put(put("a", "1")))], &mut Vec::new());
}

#[test]
fn m06_a_malformed_entry_has_no_effect_and_is_passed() {
    let mut db = Db::new();
    let mut garbage = entry(2, &Command::Put(put("a", "garbage")));
    garbage.command = garbage.command.map(|(kind, bytes)| (kind, bytes.slice(..bytes.len() - 1)));
    let entries = [entry(1, &Command::Put(put("a", "1"))), garbage, entry(3, &Command::Put(put("a", "2")))];
    let mut outcomes = Vec::new();
    db.kv.apply(&entries, &mut outcomes).unwrap();
    assert_eq!(outcomes[1], Err(KvError::Malformed));
    assert_eq!(outcomes[2].as_ref().unwrap().revision, 3);
    assert_eq!((db.kv.applied().index, db.revision()), (3, 3));
    assert_eq!(db.get("a"), Some(kv("a", "2", 2, 3, 2)));
}

#[test]
fn m07_compaction_keeps_the_newest_live_row_and_refuses_reads_below() {
    for rows_max in [1, 2, 3, 100] {
        let mut db = Db::new();
        db.put("a", "1"); // 2
        db.put("a", "2"); // 3
        db.put("b", "1"); // 4
        db.delete("b", ""); // 5
        db.put("c", "1"); // 6
        db.delete("c", ""); // 7: a tombstone exactly at the compact revision
        db.put("a", "3"); // 8
        db.compact(7).unwrap();
        let logical: Vec<_> = (7..=8).map(|revision| db.range(range_at("a", "\0", revision)).unwrap()).collect();
        db.remove_compacted(rows_max);
        assert_eq!(db.kv.compaction_finished(), 7);
        assert_eq!(db.get_at("a", 7), Some(kv("a", "2", 2, 3, 2)));
        for (revision, expected) in (7..=8).zip(&logical) {
            assert_eq!(&db.range(range_at("a", "\0", revision)).unwrap(), expected, "removal changes no answer");
        }
        for revision in 1..7 {
            assert_eq!(db.range(range_at("a", "", revision)), Err(KvError::Compacted));
        }
        let left: Vec<_> = db.all_rows().into_iter().map(|(key, _)| key).filter(|key| key[0] == b'u').collect();
        let expect = |key: &[u8], revision: u64| {
            Bytes::from([b"u", key, &[0, 0], &(!revision).to_be_bytes(), &(!0u32).to_be_bytes()].concat())
        };
        assert_eq!(left, [expect(b"a", 8), expect(b"a", 3), expect(b"c", 7)]);
        let index: Vec<_> = db.all_rows().into_iter().map(|(key, _)| key).filter(|key| key[0] == b'r').collect();
        assert_eq!(index.iter().map(|key| key[8]).collect::<Vec<_>>(), [7, 8]);
    }
}

#[test]
fn m07_the_next_compaction_removes_the_tombstone_that_was_kept() {
    let mut db = Db::new();
    db.put("c", "1");
    db.delete("c", "");
    db.compact(3).unwrap();
    db.remove_compacted(10);
    db.put("a", "1");
    db.compact(4).unwrap();
    db.remove_compacted(10);
    assert!(!db.all_rows().iter().any(|(key, _)| key.starts_with(b"uc")));
    assert_eq!(db.get("a"), Some(kv("a", "1", 4, 4, 1)));
}

#[test]
fn m07_compaction_of_what_is_compacted_or_not_yet_there_is_refused() {
    let mut db = Db::new();
    assert_eq!(db.compact(-1), Err(KvError::Compacted));
    assert_eq!(db.compact(0), Ok(1), "a fresh store's compact revision is below 0");
    assert_eq!(db.compact(0), Err(KvError::Compacted));
    db.put("a", "1");
    assert_eq!(db.compact(3), Err(KvError::FutureRevision));
    assert_eq!(db.compact(2), Ok(2));
    assert_eq!(db.compact(2), Err(KvError::Compacted));
    assert_eq!(db.kv.applied().compact_revision, 2);
}

#[test]
fn m10_range_end_conventions() {
    let mut db = Db::new();
    for key in ["a", "a\0", "aa", "ab", "b", "\0", "\0\0", "c"] {
        db.put(key, "");
    }
    let found = |key: &str, end: &str| {
        let answer = db.range(range(key, end)).unwrap();
        assert_eq!(answer.count as usize, answer.kvs.len());
        answer.kvs.into_iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found("a", ""), ["a"], "empty: the key alone");
    assert_eq!(found("x", ""), [""; 0]);
    assert_eq!(found("a", "\0"), ["a", "a\0", "aa", "ab", "b", "c"], "\\0: from the key on");
    assert_eq!(found("\0", "\0"), ["\0", "\0\0", "a", "a\0", "aa", "ab", "b", "c"], "\\0 to \\0: everything");
    assert_eq!(found("a", "b"), ["a", "a\0", "aa", "ab"], "a prefix");
    assert_eq!(found("a", "ab"), ["a", "a\0", "aa"], "the end is not inside");
    assert_eq!(found("a", "a\0"), ["a"]);
    assert_eq!(found("\0", "a"), ["\0", "\0\0"]);
    assert_eq!(found("b", "a"), [""; 0], "a reversed range is empty");
    assert_eq!(found("a", "a"), [""; 0]);
    assert_eq!(db.range(range("", "\0")), Err(KvError::EmptyKey));
}

#[test]
fn m10_keys_of_high_bytes_and_their_prefix_range() {
    let mut db = Db::new();
    for key in [&b"\xff"[..], b"\xff\xff", b"\xff\0", b"\xfe"] {
        db.apply(Command::Put(PutRequest { key: bytes(key), ..Default::default() })).unwrap();
    }
    let from = |key: &[u8], end: &[u8]| {
        let request = RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() };
        db.range(request).unwrap().kvs.into_iter().map(|kv| kv.key.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(from(b"\xff", b"\0"), [b"\xff".to_vec(), b"\xff\0".to_vec(), b"\xff\xff".to_vec()]);
    assert_eq!(from(b"\xff\xff", b""), [b"\xff\xff".to_vec()]);
    assert_eq!(from(b"\xfe", b"\xff"), [b"\xfe".to_vec()]);
}

#[test]
fn m10_deletes_follow_the_same_conventions() {
    let mut db = Db::new();
    let fill = |db: &mut Db| ["a", "ab", "b", "c"].map(|key| db.put(key, ""));
    for (key, end, deleted) in
        [("a", "", 1), ("a", "b", 2), ("b", "\0", 2), ("\0", "\0", 4), ("c", "b", 0), ("b", "b", 0)]
    {
        fill(&mut db);
        assert_eq!(db.delete(key, end), deleted, "{key:?}..{end:?}");
    }
}

#[test]
fn the_rows_are_those_of_the_documentation() {
    let mut db = Db::new();
    db.put("a\0", "x");
    db.delete("a\0", "");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found: Vec<String> = db.all_rows().iter().map(|(key, value)| hex(key) + " " + &hex(value)).collect();
    // docs/storage.md, "State machine rows"
    let documented = [
        "6d 6170706c696564|0000000000000002 0000000000000001 0000000000000003 ffffffffffffffff",
        "72 0000000000000002 00000000|01 0000000000000000 00000000 6100",
        "72 0000000000000003 00000000|00 0000000000000002 00000000 6100",
        "75 61 00ff 0000 fffffffffffffffc ffffffff|00",
        "75 61 00ff 0000 fffffffffffffffd ffffffff|01 0000000000000002 0000000000000001 0000000000000000 78",
    ];
    assert_eq!(found, documented.map(|row| row.replace(' ', "").replace('|', " ")));
}
