//! Transactions: comparisons, branches, and the rules that are checked before anything runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use CompareResult::{Equal, Greater, Less, NotEqual};
use common::*;
use flaredb_kv::{
    Command, Compare, CompareResult, CompareTarget, KvError, Limits, PutRequest, RangeRequest, RequestOp, ResponseBody,
    TxnRequest,
};

#[test]
fn every_target_with_every_result() {
    let mut db = Db::new();
    db.put("other", "");
    db.put("a", "1");
    db.put("a", "m");
    // create 3, mod 4, version 2, value "m", lease 0
    type Target = fn(i64) -> CompareTarget;
    let targets: [(Target, i64); 4] =
        [(CompareTarget::Version, 2), (CompareTarget::Create, 3), (CompareTarget::Mod, 4), (CompareTarget::Lease, 0)];
    let mut holds = |compare: Compare| db.txn(txn(&[compare], &[], &[])).unwrap().1.succeeded;
    for (target, actual) in targets {
        for (given, results) in [
            (actual - 1, [false, true, false, true]),
            (actual, [true, false, false, false]),
            (actual + 1, [false, false, true, true]),
        ] {
            let found = [Equal, Greater, Less, NotEqual].map(|result| holds(compare("a", result, target(given))));
            assert_eq!(found, results, "{:?}", target(given));
        }
    }
    for (given, results) in [
        ("l", [false, true, false, true]),
        ("m", [true, false, false, false]),
        ("ma", [false, false, true, true]),
        ("", [false, true, false, true]),
    ] {
        let found = [Equal, Greater, Less, NotEqual]
            .map(|result| holds(compare("a", result, CompareTarget::Value(bytes(given)))));
        assert_eq!(found, results, "value {given:?}");
    }
}

#[test]
fn an_absent_key_compares_as_zeros_but_never_as_a_value() {
    let mut db = Db::new();
    let mut holds = |compare: Compare| db.txn(txn(&[compare], &[], &[])).unwrap().1.succeeded;
    for target in [CompareTarget::Version(0), CompareTarget::Create(0), CompareTarget::Mod(0), CompareTarget::Lease(0)]
    {
        assert!(holds(compare("x", Equal, target.clone())), "{target:?}");
        assert!(!holds(compare("x", NotEqual, target)));
    }
    assert!(holds(compare("x", Less, CompareTarget::Version(1))));
    for result in [Equal, Greater, Less, NotEqual] {
        assert!(!holds(compare("x", result, CompareTarget::Value(bytes("")))), "{result:?}");
    }
    assert!(
        holds(Compare { range_end: bytes("\0"), ..compare("x", Equal, CompareTarget::Create(0)) }),
        "an empty range too"
    );
}

#[test]
fn a_comparison_over_a_range_must_hold_for_every_key() {
    let mut db = Db::new();
    db.put("a", "1");
    db.put("b", "1");
    db.put("c", "2");
    let mut holds = |end: &str| {
        let value = Compare { range_end: bytes(end), ..compare("a", Equal, CompareTarget::Value(bytes("1"))) };
        db.txn(txn(&[value], &[], &[])).unwrap().1.succeeded
    };
    assert!(holds("c"));
    assert!(!holds("d"));
    assert!(!holds("\0"));
    assert!(holds(""));
}

#[test]
fn all_comparisons_must_hold_and_none_means_yes() {
    let mut db = Db::new();
    db.put("a", "1");
    let (yes, no) = (compare("a", Equal, CompareTarget::Version(1)), compare("a", Equal, CompareTarget::Version(2)));
    for (compares, succeeded) in
        [(vec![], true), (vec![yes.clone()], true), (vec![yes.clone(), no.clone()], false), (vec![no, yes], false)]
    {
        let (_, answer) = db.txn(txn(&compares, &[op_range("a", "")], &[])).unwrap();
        assert_eq!((answer.succeeded, answer.responses.len()), (succeeded, usize::from(succeeded)));
    }
}

#[test]
fn nested_transactions_choose_their_own_branches() {
    let mut db = Db::new();
    db.put("a", "1");
    let exists = |key: &str| compare(key, Greater, CompareTarget::Version(0));
    let inner = |key: &str, mark: &str| {
        RequestOp::Txn(txn(&[exists(key)], &[op_put(&format!("{mark}yes"), "")], &[op_put(&format!("{mark}no"), "")]))
    };
    let deep = RequestOp::Txn(txn(&[exists("absent")], &[inner("a", "1")], &[inner("a", "2"), inner("absent", "3")]));
    let (revision, answer) = db.txn(txn(&[], &[inner("a", "0"), deep, inner("absent", "4")], &[])).unwrap();
    assert_eq!(revision, 3);
    let branches: Vec<bool> = answer
        .responses
        .iter()
        .map(|response| match &response.body {
            ResponseBody::Txn(nested) => nested.succeeded,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(branches, [true, false, false]);
    assert_eq!(keys(&db.range(range("0", "9")).unwrap().kvs), ["0yes", "2yes", "3no", "4no"]);
}

#[test]
fn read_only_transactions_run_on_a_reader() {
    let mut db = Db::new();
    db.put("a", "1");
    db.put("a", "2");
    let exists = compare("a", Greater, CompareTarget::Version(0));
    let request = txn(&[exists], &[op_range("a", ""), RequestOp::Range(range_at("a", "", 2))], &[op_range("b", "")]);
    assert!(request.is_read_only() && !request.is_serializable());
    let reader = db.reader();
    let local = reader.txn(&request).unwrap().unwrap();
    assert_eq!((local.revision, local.body.clone()), (3, ResponseBody::Txn(db.txn(request.clone()).unwrap().1)));
    let ResponseBody::Txn(body) = local.body else { panic!() };
    assert_eq!(body.responses.iter().map(|response| response.revision).collect::<Vec<_>>(), [3, 3]);
    for (revision, error) in [(4, KvError::FutureRevision), (-2, KvError::Compacted)] {
        let request = txn(&[], &[RequestOp::Range(range_at("a", "", revision))], &[]);
        assert_eq!(reader.txn(&request).unwrap(), Err(error));
        assert_eq!(db.txn(request), Err(error));
    }
    assert_eq!(reader.txn(&txn(&[], &[op_range("", "")], &[])).unwrap(), Err(KvError::EmptyKey));
}

#[test]
fn what_counts_as_read_only_and_serializable() {
    let serializable = RequestOp::Range(RangeRequest { serializable: true, ..range("a", "") });
    let nested = RequestOp::Txn(txn(&[], std::slice::from_ref(&serializable), &[]));
    let cases = [
        (txn(&[], &[], &[]), true, true),
        (txn(&[], std::slice::from_ref(&serializable), &[]), true, true),
        (txn(&[], &[serializable], &[op_range("a", "")]), true, false),
        (txn(&[], &[], &[op_put("a", "")]), false, false),
        (txn(&[], &[op_delete("a", "")], &[]), false, false),
        (txn(&[], &[nested], &[]), false, false),
    ];
    for (request, read_only, is_serializable) in cases {
        assert_eq!((request.is_read_only(), request.is_serializable()), (read_only, is_serializable), "{request:?}");
    }
}

fn check(success: Vec<RequestOp>) -> Result<(), KvError> {
    TxnRequest { success, ..Default::default() }.check(&Limits::default())
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    RequestOp::Txn(TxnRequest { success, failure, ..Default::default() })
}

#[test]
fn a_key_must_not_be_changed_twice() {
    let (a, b) = (|| op_put("a", ""), || op_put("b", ""));
    let duplicate = Err(KvError::DuplicateKey);
    let cases = [
        (vec![a(), b()], Ok(())),
        (vec![a(), a()], duplicate),
        (vec![a(), op_delete("a", "")], duplicate),
        (vec![op_delete("a", ""), a()], duplicate),
        (vec![op_delete("0", "b"), a()], duplicate),
        (vec![op_delete("a", "b"), b()], Ok(())),
        (vec![op_delete("a", "aa"), op_delete("aa", "c"), b()], duplicate),
        (vec![op_delete("a", ""), op_delete("a", "")], Ok(())),
        (vec![op_delete("a", "z"), op_delete("b", "c"), op_delete("0", "1")], Ok(())),
        (vec![op_delete("a", "\0"), b()], Ok(())),
        (vec![op_delete("z", "a"), b()], Ok(())),
        (vec![nested(vec![a()], vec![a()])], Ok(())),
        (vec![nested(vec![a()], vec![]), a()], duplicate),
        (vec![nested(vec![], vec![a()]), a()], duplicate),
        (vec![nested(vec![a()], vec![]), nested(vec![a()], vec![])], duplicate),
        (vec![nested(vec![a()], vec![]), nested(vec![], vec![a()])], duplicate),
        (vec![nested(vec![a()], vec![]), nested(vec![], vec![b()])], Ok(())),
        (vec![nested(vec![a()], vec![]), op_delete("a", "")], duplicate),
        (vec![nested(vec![op_delete("a", "")], vec![]), a()], duplicate),
        (vec![nested(vec![op_delete("a", "")], vec![]), nested(vec![a()], vec![])], duplicate),
        (vec![nested(vec![], vec![op_delete("a", "c")]), nested(vec![], vec![b()])], duplicate),
        // etcd holds a nested put against the deletes before it only.
        (vec![nested(vec![a()], vec![]), nested(vec![op_delete("a", "")], vec![])], Ok(())),
        (vec![nested(vec![a()], vec![op_delete("a", "")])], Ok(())),
        (vec![nested(vec![a(), a()], vec![])], duplicate),
        (vec![nested(vec![nested(vec![a()], vec![])], vec![]), a()], duplicate),
    ];
    for (ops, result) in cases {
        assert_eq!(check(ops.clone()), result, "{ops:?}");
        assert_eq!(TxnRequest { failure: ops, ..Default::default() }.check(&Limits::default()), result);
    }
    let apart = TxnRequest { success: vec![a()], failure: vec![op_delete("a", "")], ..Default::default() };
    assert_eq!(apart.check(&Limits::default()), Ok(()), "the branches exclude each other");
}

#[test]
fn the_duplicate_check_agrees_with_a_naive_one() {
    let seed = 0x0dd5;
    let mut random = Random(seed);
    let pick = |random: &mut Random| *random.pick(&["a", "b", "c", "d", "aa", "b\0"]);
    for round in 0..5_000 {
        let ops: Vec<RequestOp> = (0..random.below(6))
            .map(|_| match random.below(3) {
                0 => op_put(pick(&mut random), ""),
                1 => op_delete(pick(&mut random), ""),
                _ => op_delete(pick(&mut random), pick(&mut random)),
            })
            .collect();
        let mut naive = Ok(());
        for (i, one) in ops.iter().enumerate() {
            let RequestOp::Put(put) = one else { continue };
            for (j, other) in ops.iter().enumerate() {
                let overlap = match other {
                    RequestOp::Put(other) => i != j && other.key == put.key,
                    RequestOp::DeleteRange(delete) if delete.range_end.is_empty() => delete.key == put.key,
                    RequestOp::DeleteRange(delete) => delete.key <= put.key && put.key < delete.range_end,
                    _ => false,
                };
                if overlap {
                    naive = Err(KvError::DuplicateKey);
                }
            }
        }
        assert_eq!(check(ops.clone()), naive, "seed {seed:#x}, round {round}: {ops:?}");
    }
}

#[test]
fn limits_count_as_etcd_counts() {
    let puts = |count: usize| (0..count).map(|i| op_put(&i.to_string(), "")).collect::<Vec<_>>();
    let ranges = |count: usize| vec![op_range("a", ""); count];
    let compares = |count: usize| vec![compare("a", Equal, CompareTarget::Version(0)); count];
    let many = Err(KvError::TooManyOps);
    assert_eq!(check(puts(128)), Ok(()));
    assert_eq!(check(puts(129)), many);
    let limits = Limits::default();
    assert_eq!(TxnRequest { compare: compares(129), ..Default::default() }.check(&limits), many);
    let full = TxnRequest { compare: compares(128), success: ranges(128), failure: ranges(128) };
    assert_eq!(full.check(&limits), Ok(()), "the longest list counts, not the sum");
    // A nested transaction may have what its parent's longest list leaves.
    let mut ops = ranges(27);
    ops.push(nested(ranges(100), vec![]));
    assert_eq!(check(ops.clone()), Ok(()));
    ops.push(op_range("a", ""));
    assert_eq!(check(ops), many);
    let deep = |depth: usize| (1..depth).fold(vec![op_range("a", "")], |ops, _| vec![nested(ops, vec![])]);
    assert_eq!(check(deep(8)), Ok(()));
    assert_eq!(check(deep(9)), many);
    let tight = Limits { request_bytes_max: 20, ..limits };
    assert_eq!(Command::Put(put("a", "0123456789012")).check(&tight), Ok(()));
    let large = Command::Put(put("a", "012345678901234567"));
    assert_eq!(large.encoded_len(), large.encode().len());
    assert_eq!(large.check(&tight), Err(KvError::RequestTooLarge));
    let faulty = PutRequest { ignore_value: true, ..put("a", "012345678901234567") };
    assert_eq!(Command::Put(faulty).check(&tight), Err(KvError::ValueProvided), "the rules come before the size");
}

#[test]
fn apply_knows_no_limits_but_all_rules() {
    let mut db = Db::new();
    let many = (0..500).map(|i| op_put(&format!("{i:03}"), "")).collect::<Vec<_>>();
    db.txn(txn(&[], &many, &[])).unwrap();
    assert_eq!(db.range(range("0", "\0")).unwrap().count, 500);
    let empty_compare = txn(&[compare("", Equal, CompareTarget::Version(0))], &[], &[]);
    assert_eq!(db.txn(empty_compare), Err(KvError::EmptyKey));
    assert_eq!(db.txn(txn(&[], &[op_range("", "")], &[])), Err(KvError::EmptyKey));
    assert_eq!(
        db.txn(txn(&[], &[], &[op_delete("", "")])),
        Err(KvError::EmptyKey),
        "also in the branch that would not run"
    );
    let both = RequestOp::Put(PutRequest { ignore_value: true, ..put("a", "x") });
    assert_eq!(db.txn(txn(&[], &[nested(vec![both], vec![])], &[])), Err(KvError::ValueProvided));
    let lease = RequestOp::Put(PutRequest { ignore_lease: true, lease: 1, ..put("a", "x") });
    assert_eq!(db.txn(txn(&[], &[lease], &[])), Err(KvError::LeaseProvided));
}
