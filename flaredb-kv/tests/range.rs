//! Every option of a Range, as etcd answers it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use common::*;
use flaredb_kv::{Command, KvError, PutRequest, RangeRequest, SortOrder, SortTarget};

/// c, a, b, d with distinct orders for every sort target.
fn filled() -> Db {
    let mut db = Db::new();
    db.put("c", "w"); // 2
    db.put("a", "z"); // 3
    db.put("b", "x"); // 4
    db.put("a", "z"); // 5
    db.put("a", "y"); // 6
    db.put("d", "v"); // 7
    db.put("c", "zz"); // 8
    db
}

fn all() -> RangeRequest {
    range("a", "\0")
}

fn answer(db: &Db, request: RangeRequest) -> (String, bool, i64) {
    let answer = db.range(request).unwrap();
    (keys(&answer.kvs).concat(), answer.more, answer.count)
}

fn expect(keys: &str, more: bool, count: i64) -> (String, bool, i64) {
    (keys.to_string(), more, count)
}

#[test]
fn default_order_is_by_key() {
    let db = filled();
    assert_eq!(answer(&db, all()), expect("abcd", false, 4));
    assert_eq!(db.range(range("a", "")).unwrap().kvs, [kv("a", "y", 3, 6, 3)]);
}

#[test]
fn limit_cuts_and_says_so_but_count_does_not_care() {
    let db = filled();
    for (limit, keys, more) in [
        (0, "abcd", false),
        (-1, "abcd", false),
        (1, "a", true),
        (3, "abc", true),
        (4, "abcd", false),
        (i64::MAX, "abcd", false),
    ] {
        assert_eq!(answer(&db, RangeRequest { limit, ..all() }), expect(keys, more, 4), "limit {limit}");
    }
    assert_eq!(answer(&db, RangeRequest { limit: 1, ..range("a", "") }), expect("a", false, 1));
}

#[test]
fn count_only_answers_no_keys() {
    let db = filled();
    let request = RangeRequest { count_only: true, limit: 2, min_mod_revision: 100, ..all() };
    assert_eq!(answer(&db, request), expect("", false, 4), "neither limit nor filters touch the count");
    assert_eq!(answer(&db, RangeRequest { count_only: true, revision: 3, ..all() }), expect("", false, 2));
}

#[test]
fn keys_only_leaves_the_value_out() {
    let db = filled();
    let kvs = db.range(RangeRequest { keys_only: true, ..all() }).unwrap().kvs;
    assert_eq!(kvs[0], kv("a", "", 3, 6, 3));
    assert_eq!(kvs[2], kv("c", "", 2, 8, 2));
    let by_value =
        RangeRequest { keys_only: true, sort_target: SortTarget::Value, sort_order: SortOrder::Descend, ..all() };
    let kvs = db.range(by_value).unwrap().kvs;
    assert_eq!(keys(&kvs), ["c", "a", "b", "d"], "sorted by the value that is then left out");
    assert!(kvs.iter().all(|kv| kv.value.is_empty()));
}

#[test]
fn every_sort_target_in_every_order() {
    let db = filled();
    for (target, ascending, descending) in [
        (SortTarget::Key, "abcd", "dcba"),
        // Versions: a 3, b 1, c 2, d 1; among equals by key.
        (SortTarget::Version, "bdca", "acbd"),
        (SortTarget::Create, "cabd", "dbac"),
        (SortTarget::Mod, "badc", "cdab"),
        (SortTarget::Value, "dbac", "cabd"),
    ] {
        let sorted = |sort_order| RangeRequest { sort_target: target, sort_order, ..all() };
        assert_eq!(answer(&db, sorted(SortOrder::None)).0, ascending, "{target:?}, no order");
        assert_eq!(answer(&db, sorted(SortOrder::Ascend)).0, ascending, "{target:?}, ascending");
        assert_eq!(answer(&db, sorted(SortOrder::Descend)).0, descending, "{target:?}, descending");
        let first_two = |sort_order| RangeRequest { limit: 2, ..sorted(sort_order) };
        assert_eq!(answer(&db, first_two(SortOrder::Ascend)), expect(&ascending[..2], true, 4), "{target:?}");
        assert_eq!(answer(&db, first_two(SortOrder::Descend)), expect(&descending[..2], true, 4), "{target:?}");
    }
}

#[test]
fn a_target_without_an_order_sorts_only_what_the_limit_took() {
    // etcd's corner: the first limit + 1 keys (a, b, c) are taken, then sorted by create revision, then cut.
    let db = filled();
    let request = RangeRequest { sort_target: SortTarget::Create, limit: 2, ..all() };
    assert_eq!(answer(&db, request.clone()), expect("ca", true, 4));
    let request = RangeRequest { sort_target: SortTarget::Mod, limit: 1, ..all() };
    assert_eq!(answer(&db, request.clone()), expect("b", true, 4), "of a and b");
    let request = RangeRequest { sort_target: SortTarget::Value, limit: 1, ..all() };
    assert_eq!(answer(&db, request), expect("b", true, 4), "d has the smallest value, but was not taken");
    let request = RangeRequest { max_mod_revision: 100, sort_target: SortTarget::Value, limit: 1, ..all() };
    assert_eq!(answer(&db, request), expect("d", true, 4), "with a filter the sort sees everything");
}

#[test]
fn revision_filters_apply_before_the_limit_and_not_to_the_count() {
    let db = filled();
    let cases = [
        (RangeRequest { min_mod_revision: 6, ..all() }, "acd", false),
        (RangeRequest { max_mod_revision: 6, ..all() }, "ab", false),
        (RangeRequest { min_mod_revision: 6, max_mod_revision: 7, ..all() }, "ad", false),
        (RangeRequest { min_create_revision: 4, ..all() }, "bd", false),
        (RangeRequest { max_create_revision: 3, ..all() }, "ac", false),
        (RangeRequest { max_create_revision: 3, min_mod_revision: 8, ..all() }, "c", false),
        (RangeRequest { min_mod_revision: 6, limit: 2, ..all() }, "ac", true),
        (RangeRequest { min_mod_revision: 6, limit: 3, ..all() }, "acd", false),
        (RangeRequest { min_mod_revision: 6, limit: 1, sort_order: SortOrder::Descend, ..all() }, "d", true),
        (RangeRequest { min_mod_revision: 9, ..all() }, "", false),
        (RangeRequest { max_mod_revision: -1, ..all() }, "", false),
        (RangeRequest { min_mod_revision: -1, ..all() }, "abcd", false),
    ];
    for (request, keys, more) in cases {
        assert_eq!(answer(&db, request.clone()), expect(keys, more, 4), "{request:?}");
    }
}

#[test]
fn old_revisions_show_the_state_of_then() {
    let db = filled();
    assert_eq!(answer(&db, range_at("a", "\0", 1)), expect("", false, 0));
    assert_eq!(answer(&db, range_at("a", "\0", 3)), expect("ac", false, 2));
    assert_eq!(db.get_at("a", 5), Some(kv("a", "z", 3, 5, 2)));
    assert_eq!(db.get_at("c", 7), Some(kv("c", "w", 2, 2, 1)));
    assert_eq!(answer(&db, range_at("a", "\0", 0)), answer(&db, range_at("a", "\0", 8)));
    assert_eq!(answer(&db, range_at("a", "\0", -5)), answer(&db, all()), "negative is now, outside a txn");
    assert_eq!(db.range(range_at("a", "", 9)), Err(KvError::FutureRevision));
}

#[test]
fn a_reader_shows_the_revision_it_was_made_at() {
    let mut db = filled();
    let reader = db.reader();
    db.put("a", "later");
    db.delete("b", "");
    db.put("aa", "later");
    assert_eq!(reader.applied().revision, 8);
    let old = reader.range(&all()).unwrap().unwrap();
    assert_eq!(keys(&old.kvs), ["a", "b", "c", "d"]);
    assert_eq!(old.kvs[0].value, "y");
    assert_eq!(reader.range(&range_at("a", "", 9)).unwrap(), Err(KvError::FutureRevision));
    assert_eq!(answer(&db, all()).0, "aaacd");
}

#[test]
fn a_key_with_many_versions_is_passed_quickly_and_rightly() {
    let mut db = Db::new();
    db.put("a", "first");
    for i in 0..100 {
        db.put("b", &i.to_string());
    }
    db.put("c", "last");
    for revision in [2, 3, 5, 50, 101, 102, 103] {
        let found = db.range(range_at("a", "\0", revision)).unwrap();
        let expected = match revision {
            2 => vec!["first".to_string()],
            3..=102 => vec!["first".to_string(), (revision - 3).to_string()],
            _ => vec!["first".to_string(), "99".to_string(), "last".to_string()],
        };
        assert_eq!(
            found.kvs.iter().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()).collect::<Vec<_>>(),
            expected
        );
    }
}

#[test]
fn put_options() {
    let mut db = Db::new();
    let mut apply = |request: PutRequest| db.apply(Command::Put(request));
    let keep_value = PutRequest { ignore_value: true, ..put("a", "") };
    let keep_lease = PutRequest { ignore_lease: true, ..put("a", "2") };
    let refused = [
        (PutRequest { key: bytes(""), ..put("a", "") }, KvError::EmptyKey),
        (PutRequest { value: bytes("x"), ..keep_value.clone() }, KvError::ValueProvided),
        (PutRequest { lease: 1, ..keep_lease.clone() }, KvError::LeaseProvided),
        (PutRequest { lease: 1, ..put("a", "") }, KvError::LeaseNotFound),
        (PutRequest { lease: 1, ..keep_value.clone() }, KvError::LeaseNotFound),
        (keep_value.clone(), KvError::KeyNotFound),
        (keep_lease.clone(), KvError::KeyNotFound),
    ];
    for (request, error) in refused {
        assert_eq!(apply(request.clone()), Err(error), "{request:?}");
    }
    let prev = |response: flaredb_kv::Response| match response.body {
        flaredb_kv::ResponseBody::Put(body) => body.prev_kv,
        other => panic!("{other:?}"),
    };
    assert_eq!(prev(apply(PutRequest { prev_kv: true, ..put("a", "1") }).unwrap()), None, "there was none");
    assert_eq!(prev(apply(put("a", "1")).unwrap()), None, "nobody asked");
    assert_eq!(prev(apply(PutRequest { prev_kv: true, ..keep_value }).unwrap()), Some(kv("a", "1", 2, 3, 2)));
    assert_eq!(prev(apply(PutRequest { prev_kv: true, ..keep_lease }).unwrap()), Some(kv("a", "1", 2, 4, 3)));
    assert_eq!(db.get("a"), Some(kv("a", "2", 2, 5, 4)));
}

#[test]
fn delete_answers_what_was_there() {
    let mut db = filled();
    let request = flaredb_kv::DeleteRangeRequest { prev_kv: true, ..delete("b", "d") };
    let response = db.apply(Command::DeleteRange(request)).unwrap();
    let flaredb_kv::ResponseBody::DeleteRange(body) = response.body else { panic!() };
    assert_eq!((response.revision, body.deleted), (9, 2));
    assert_eq!(body.prev_kvs, [kv("b", "x", 4, 4, 1), kv("c", "zz", 2, 8, 2)]);
}

#[test]
fn a_read_gives_up_after_its_steps_and_large_values_are_many() {
    let mut db = Db::new();
    for key in 10..30 {
        db.put(&format!("small{key}"), "value");
        db.put(&format!("large{key}"), &"v".repeat(64 * 1024));
    }
    let reader = db.reader();
    let rows_in = |request: &RangeRequest, steps_max| {
        let mut rows = 0;
        let summary = reader.range_rows(request, steps_max, |_| rows += 1).unwrap().unwrap();
        summary.map(|summary| (rows, summary.count))
    };
    assert_eq!(rows_in(&range("small", "t"), 30), Some((20, 20)));
    assert_eq!(rows_in(&range("small", "t"), 15), None);
    assert_eq!(rows_in(&range("large", "m"), 30), None, "each row is 17 steps");
    assert_eq!(rows_in(&range("large", "m"), 400), Some((20, 20)));
    assert_eq!(rows_in(&range("large10", ""), 10), Some((1, 1)), "one key, however large");
    let counted = RangeRequest { count_only: true, ..range("large", "m") };
    assert_eq!(rows_in(&counted, 30), None, "what is only counted is passed over all the same");
    let backwards = RangeRequest { sort_order: SortOrder::Descend, ..range("small", "t") };
    assert_eq!(rows_in(&backwards, 400), None, "what must be sorted is not begun");
    assert_eq!(rows_in(&backwards, usize::MAX), Some((20, 20)));
}
