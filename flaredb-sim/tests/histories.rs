//! The history checker against histories that are wrong in one way each, right but odd ones, and spoiled random ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod stories;

use flaredb_kv::{
    Command, CompareTarget, DeleteRangeResponse, KeyValue, KvError, PutResponse, RangeRequest, RequestOp, Response,
    ResponseBody, SortOrder, SortTarget,
};
use flaredb_sim::check::history::{FinalState, check_history};
use flaredb_sim::history::{Op, Outcome};
use flaredb_sim::prf::Draw;
use stories::*;

type Spoil = fn(&mut Story);

/// a=1 (revision 2), b=2 (3), a=3 (4), then room for more.
fn beginning() -> Story {
    let mut story = Story::new();
    story.write(put("a", "1"));
    story.write(put("b", "2"));
    story.write(put("a", "3"));
    story
}

const WRONG: &[(&str, &str, Spoil)] = &[
    ("stale read", "stale-read", |s| {
        let read = s.read(one("a"));
        let write = s.write(put("a", "4"));
        s.at(read, 9000, 9100);
        s.at(write, 8000, 8100);
    }),
    ("reads going back", "stale-read", |s| {
        let old = s.read(one("a"));
        let write = s.lost(put("a", "4"));
        let _ = s.execute(&put("a", "4"));
        let _ = (s.read(one("a")), write);
        s.at(old, 90_000, 90_100);
    }),
    ("a revision goes back between keys", "stale-read", |s| {
        let old = s.read(one("b"));
        s.write(put("a", "4"));
        s.at(old, 90_000, 90_100);
    }),
    ("lost update: two compare-and-swaps of one version hold", "write-answer", |s| {
        s.write(txn(vec![version_is("a", 2)], vec![op(put("a", "x"))], vec![]));
        let second = s.write(txn(vec![version_is("a", 2)], vec![op(put("a", "y"))], vec![]));
        let prev_kv = None;
        let response = Response { revision: 6, body: ResponseBody::Put(PutResponse { prev_kv }) };
        s.response(second).revision = 6;
        *s.txn_response(second) = flaredb_kv::TxnResponse { succeeded: true, responses: vec![response] };
        s.last().revision = 6;
    }),
    ("aborted read", "never-visible", |s| {
        s.never(put("a", "4"));
        let read = s.read(one("a"));
        s.kv_of(read).value = b("4");
    }),
    ("never, but in the end it is there", "never-visible", |s| {
        s.never(put("c", "4"));
        let _ = s.execute(&put("c", "4"));
    }),
    ("a refused transaction left a trace", "never-visible", |s| {
        let refused = txn(vec![], vec![op(put("c", "4")), op(keep("nothing"))], vec![]);
        s.write(refused);
        let _ = s.execute(&put("c", "4"));
    }),
    ("a value nobody wrote", "unwritten-value", |s| {
        let read = s.read(one("a"));
        s.kv_of(read).value = b("?");
    }),
    ("dirty read: the next revision under this header", "revision-rules", |s| {
        s.write(put("a", "4"));
        let read = s.read(one("a"));
        *s.outcome(read) = match s.outcome(read).clone() {
            Outcome::Read { result, .. } => Outcome::Read { revision: 4, result },
            other => other,
        };
        s.at(read, 1500, 1900);
    }),
    ("dirty read: the value under an old revision", "read-content", |s| {
        let read = s.read(one("a"));
        s.write(put("a", "4"));
        s.kv_of(read).value = b("4");
    }),
    ("duplicate application", "revision-gap", |s| {
        s.write(put("c", "4"));
        let _ = s.execute(&put("c", "4"));
    }),
    ("duplicate application of an unknown write", "revision-gap", |s| {
        s.unknown(put("c", "4"));
        let _ = s.execute(&put("c", "4"));
        s.read(one("c"));
    }),
    ("revision reuse", "revision-reuse", |s| {
        let write = s.write(put("c", "4"));
        s.response(write).revision = 4;
        s.at(write, 1000, 90_000);
    }),
    ("revision of the beginning", "revision-reuse", |s| {
        let write = s.write(put("c", "4"));
        s.response(write).revision = 1;
        s.at(write, 100, 90_000);
    }),
    ("revision gap that nobody can have made", "revision-gap", |s| {
        let _ = s.execute(&put("z", "1"));
        let _ = s.execute(&delete("z"));
        s.read(all());
    }),
    ("revision gap with an unknown write that was sent later", "revision-gap", |s| {
        let _ = s.execute(&put("c", "4"));
        s.read(one("c"));
        s.lost(put("c", "4"));
    }),
    ("revision gap with an unknown delete that finds nothing", "revision-gap", |s| {
        s.lost(delete("nothing"));
        let _ = s.execute(&put("c", "4"));
        let _ = s.execute(&delete("c"));
        s.read(one("c"));
    }),
    ("revision gap with an unknown write of another key", "revision-gap", |s| {
        s.lost(put("d", "5"));
        s.lost(put("c", "4"));
        let _ = s.execute(&put("c", "4"));
        let read = s.read(one("c"));
        s.kv_of(read).key = b("d");
    }),
    ("wrong prev_kv", "write-answer", |s| {
        let write = s.write(put("a", "4"));
        if let ResponseBody::Put(PutResponse { prev_kv: Some(kv) }) = &mut s.response(write).body {
            kv.value = b("1");
        }
    }),
    ("prev_kv missing", "write-answer", |s| {
        let write = s.write(put("a", "4"));
        s.response(write).body = ResponseBody::Put(PutResponse { prev_kv: None });
    }),
    ("prev_kv of an absent key", "write-answer", |s| {
        s.write(delete("a"));
        let write = s.write(put("a", "4"));
        let kv = KeyValue {
            key: b("a"),
            create_revision: 2,
            mod_revision: 4,
            version: 2,
            value: b("3"),
            ..Default::default()
        };
        s.response(write).body = ResponseBody::Put(PutResponse { prev_kv: Some(kv) });
    }),
    ("wrong version", "read-content", |s| {
        let read = s.read(one("a"));
        s.kv_of(read).version = 3;
    }),
    ("version 0", "revision-rules", |s| {
        let read = s.read(one("a"));
        s.kv_of(read).version = 0;
    }),
    ("version one of a key that was put before", "revision-rules", |s| {
        let read = s.read(one("a"));
        s.kv_of(read).version = 1;
    }),
    ("create revision moved with the put", "revision-rules", |s| {
        let read = s.read(one("a"));
        s.kv_of(read).create_revision = 4;
    }),
    ("created after it was modified", "revision-rules", |s| {
        let read = s.read(one("b"));
        s.kv_of(read).create_revision = 4;
    }),
    ("wrong create revision", "read-content", |s| {
        let read = s.read(one("a"));
        s.kv_of(read).create_revision = 3;
    }),
    ("version not reset by a delete", "read-content", |s| {
        s.write(delete("a"));
        s.write(put("a", "4"));
        let read = s.read(one("a"));
        (s.kv_of(read).version, s.kv_of(read).create_revision) = (3, 2);
    }),
    ("a lease out of nothing", "read-content", |s| {
        let read = s.read(one("a"));
        s.kv_of(read).lease = 7;
    }),
    ("transaction half applied, seen at the end", "final-content", |s| {
        s.write(txn(vec![], vec![op(put("c", "4")), op(put("d", "5"))], vec![]));
        s.last().kvs.pop();
    }),
    ("transaction half applied, seen by a read", "read-content", |s| {
        s.write(txn(vec![], vec![op(put("c", "4")), op(put("d", "5"))], vec![]));
        let read = s.read(all());
        s.range(read).kvs.pop();
        s.range(read).count -= 1;
    }),
    ("transaction split over two revisions", "revision-gap", |s| {
        let write = s.write(put("c", "4"));
        s.write(put("d", "5"));
        let both = txn(vec![], vec![op(put("c", "4")), op(put("d", "5"))], vec![]);
        s.records.truncate(write);
        s.lost(both);
        s.read(all());
    }),
    ("transaction took the wrong branch", "write-answer", |s| {
        let write = s.write(txn(vec![version_is("a", 9)], vec![op(put("c", "4"))], vec![op(put("d", "5"))]));
        s.txn_response(write).succeeded = true;
    }),
    ("greater holds for equal", "write-answer", |s| {
        let mut compare = version_is("a", 2);
        compare.result = flaredb_kv::CompareResult::Greater;
        let write = s.write(txn(vec![compare], vec![], vec![]));
        s.txn_response(write).succeeded = true;
    }),
    ("a comparison saw the transaction's own put", "write-answer", |s| {
        let inner = txn(vec![version_is("c", 1)], vec![op(put("d", "5"))], vec![op(put("e", "6"))]);
        let write = s.write(txn(vec![], vec![op(put("c", "4")), op(inner)], vec![]));
        if let ResponseBody::Txn(inner) = &mut s.txn_response(write).responses[1].body {
            inner.succeeded = true;
        }
    }),
    ("a range inside a transaction saw another state", "write-answer", |s| {
        let ops = vec![op(put("a", "4")), RequestOp::Range(one("a"))];
        let write = s.write(txn(vec![], ops, vec![]));
        if let ResponseBody::Range(range) = &mut s.txn_response(write).responses[1].body {
            range.kvs.clear();
        }
    }),
    ("a wrong revision inside a transaction", "write-answer", |s| {
        let write = s.write(txn(vec![], vec![op(put("a", "4"))], vec![]));
        s.txn_response(write).responses[0].revision -= 1;
    }),
    ("a transaction that must be refused", "write-answer", |s| {
        let write = s.write(put("c", "4"));
        s.records[write].op = Op::Write(keep("c"));
        s.records[write].outcome =
            Outcome::Written(Ok(Response { revision: 5, body: ResponseBody::Put(PutResponse { prev_kv: None }) }));
        s.never(put("other", "other"));
        s.last().kvs.retain(|kv| kv.key != "c");
    }),
    ("a failed compare-and-swap looked at the past", "real-time", |s| {
        let write = s.write(txn(vec![version_is("c", 1)], vec![], vec![]));
        s.write(put("c", "4"));
        s.at(write, 90_000, 90_100);
    }),
    ("phantom after delete", "read-content", |s| {
        let before = s.read(one("a"));
        s.write(delete("a"));
        let read = s.read(one("a"));
        *s.range(read) = s.range(before).clone();
    }),
    ("a key missing from a range", "read-content", |s| {
        let read = s.read(all());
        s.range(read).kvs.remove(0);
    }),
    ("delete says it found more", "write-answer", |s| {
        let write = s.write(delete_all());
        s.response(write).body = ResponseBody::DeleteRange(DeleteRangeResponse { deleted: 3, prev_kvs: vec![] });
    }),
    ("delete of nothing made a revision", "revision-gap", |s| {
        let write = s.write(delete("nothing"));
        s.response(write).revision += 1;
        let _ = s.execute(&put("z", "1"));
        let _ = s.read(one("a"));
        s.last().kvs.retain(|kv| kv.key != "z");
    }),
    ("a put made no revision", "revision-reuse", |s| {
        let write = s.write(put("a", "4"));
        let next = s.write(put("b", "5"));
        s.response(next).revision -= 1;
        s.at(write, 80_000, 90_000);
        s.at(next, 80_000, 90_000);
    }),
    ("wrong count", "read-content", |s| {
        let read = s.read(all());
        s.range(read).count += 1;
    }),
    ("more is wrong", "read-content", |s| {
        let read = s.read(RangeRequest { limit: 2, ..all() });
        s.range(read).more = true;
    }),
    ("the limit is ignored", "read-content", |s| {
        let all = s.read(all());
        let read = s.read(RangeRequest { limit: 1, ..stories::all() });
        *s.range(read) = s.range(all).clone();
    }),
    ("the order is ignored", "read-content", |s| {
        let read = s.read(RangeRequest { sort_order: SortOrder::Descend, ..all() });
        s.range(read).kvs.reverse();
    }),
    ("the order by revision is wrong", "read-content", |s| {
        let read = s.read(RangeRequest { sort_target: SortTarget::Mod, sort_order: SortOrder::Ascend, ..all() });
        s.range(read).kvs.reverse();
    }),
    ("values where only keys are wanted", "read-content", |s| {
        let read = s.read(RangeRequest { keys_only: true, ..one("a") });
        s.kv_of(read).value = b("3");
    }),
    ("a filter is ignored", "read-content", |s| {
        let read = s.read(RangeRequest { min_mod_revision: 4, ..all() });
        let all = s.read(all());
        *s.range(read) = s.range(all).clone();
    }),
    ("the past has changed", "read-content", |s| {
        let read = s.read(RangeRequest { revision: 2, ..one("a") });
        s.range(read).kvs.clear();
    }),
    ("a compacted read is answered", "compaction", |s| {
        let read = s.read(RangeRequest { revision: 2, ..one("a") });
        s.write(compact(4));
        s.at(read, 80_000, 80_100);
    }),
    ("a compacted serializable read at a later revision is answered", "compaction", |s| {
        let read = s.read(RangeRequest { revision: 2, serializable: true, ..one("a") });
        s.write(compact(4));
        s.write(put("a", "4"));
        let result = Ok(s.range(read).clone());
        *s.outcome(read) = Outcome::Read { revision: 5, result };
        s.at(read, 80_000, 80_100);
    }),
    ("a compacted range in a transaction is answered", "compaction", |s| {
        let range = RequestOp::Range(RangeRequest { revision: 3, ..one("a") });
        let write = s.write(txn(vec![], vec![range], vec![]));
        s.write(compact(4));
        s.at(write, 80_000, 80_100);
    }),
    ("a read is refused as compacted, but nothing is", "compaction", |s| {
        let read = s.read(one("a"));
        s.records[read].op = Op::Read(RangeRequest { revision: 2, ..one("a") });
        *s.outcome(read) = Outcome::Read { revision: 4, result: Err(KvError::Compacted) };
    }),
    ("a read of the newest is refused as compacted", "compaction", |s| {
        s.write(compact(4));
        let read = s.read(one("a"));
        *s.outcome(read) = Outcome::Read { revision: 4, result: Err(KvError::Compacted) };
    }),
    ("a read at the compacted revision is refused", "compaction", |s| {
        s.write(compact(3));
        let read = s.read(RangeRequest { revision: 3, ..one("a") });
        *s.outcome(read) = Outcome::Read { revision: 0, result: Err(KvError::Compacted) };
    }),
    ("compacted beyond the newest", "compaction", |s| {
        let write = s.write(compact(4));
        s.records[write].op = Op::Write(compact(5));
    }),
    ("compacted twice", "compaction", |s| {
        s.write(compact(4));
        let again = s.write(compact(4));
        *s.outcome(again) = Outcome::Written(Ok(Response { revision: 4, body: ResponseBody::Compact }));
    }),
    ("a compaction is refused for no reason", "compaction", |s| {
        let write = s.write(compact(3));
        *s.outcome(write) = Outcome::Written(Err(KvError::Compacted));
    }),
    ("a compaction of the present is refused as future", "refusal", |s| {
        let write = s.write(compact(4));
        *s.outcome(write) = Outcome::Written(Err(KvError::FutureRevision));
    }),
    ("a read of the past is refused as future", "refusal", |s| {
        let read = s.read(RangeRequest { revision: 3, ..one("a") });
        *s.outcome(read) = Outcome::Read { revision: 0, result: Err(KvError::FutureRevision) };
    }),
    ("a future read is answered", "future-read", |s| {
        let read = s.read(one("a"));
        s.records[read].op = Op::Read(RangeRequest { revision: 5, ..one("a") });
        s.write(put("a", "4"));
    }),
    ("a read of a revision that never was", "future-read", |s| {
        let read = s.read(one("nothing"));
        let result = Ok(s.range(read).clone());
        *s.outcome(read) = Outcome::Read { revision: 9, result };
    }),
    ("a key that exists is not found", "refusal", |s| {
        let write = s.write(keep("a"));
        s.records.remove(write);
        s.add(Op::Write(keep("a")), Outcome::Written(Err(KvError::KeyNotFound)));
        s.last().revision = 4;
        s.last().kvs = Story::state(&beginning()).kvs;
    }),
    ("keys are duplicate that are not", "refusal", |s| {
        let command = txn(vec![], vec![op(put("c", "4")), op(put("d", "5"))], vec![]);
        s.add(Op::Write(command), Outcome::Written(Err(KvError::DuplicateKey)));
    }),
    ("a lease is missing that nobody named", "refusal", |s| {
        s.add(Op::Write(put("c", "4")), Outcome::Written(Err(KvError::LeaseNotFound)));
    }),
    ("a read is refused with a write's error", "refusal", |s| {
        s.add(Op::Read(one("a")), Outcome::Read { revision: 4, result: Err(KvError::KeyNotFound) });
    }),
    ("writes against real time", "real-time", |s| {
        s.at(0, 5000, 5100);
        s.at(1, 4000, 4100);
    }),
    ("a write is seen before it is sent", "real-time", |s| {
        let write = s.write(put("a", "4"));
        s.read(one("a"));
        s.at(write, 80_000, 80_100);
    }),
    ("a serializable read sees what is not sent yet", "real-time", |s| {
        let write = s.write(put("a", "4"));
        s.read(RangeRequest { serializable: true, ..one("a") });
        s.at(write, 80_000, 80_100);
    }),
    ("a serializable read of a state that never was", "read-content", |s| {
        let read = s.read(RangeRequest { serializable: true, ..all() });
        s.range(read).kvs.remove(1);
        s.range(read).count = 1;
    }),
    ("an acknowledged write is lost", "lost-write", |s| {
        s.last();
        s.write(put("c", "4"));
    }),
    ("an acknowledged write is lost, its revision given again", "revision-reuse", |s| {
        let write = s.write(put("c", "4"));
        s.response(write).revision = 4;
        s.at(write, 1400, 1450);
        s.at(2, 1400, 1450);
        *s.last() = beginning().state();
    }),
    ("the last content lacks a key", "final-content", |s| {
        s.last().kvs.remove(0);
    }),
    ("the last content has an old value", "final-content", |s| {
        let kv = &mut s.last().kvs[0];
        (kv.value, kv.mod_revision, kv.version) = (b("1"), 2, 1);
    }),
    ("the last content has a deleted key", "final-content", |s| {
        let kvs = s.state().kvs;
        s.write(delete("a"));
        s.last().kvs = kvs;
    }),
    ("the last revision is too high", "revision-gap", |s| {
        s.last().revision += 1;
    }),
    ("an unknown write deleted what was seen to live on", "revision-gap", |s| {
        s.lost(delete("a"));
        let _ = s.execute(&put("z", "9"));
        let _ = s.execute(&delete("z"));
        s.write(put("b", "5"));
        s.read(one("a"));
    }),
    ("answered with another request's answer", "write-answer", |s| {
        let write = s.write(put("c", "4"));
        s.response(write).body = ResponseBody::Compact;
    }),
    ("an answer of another kind", "history-shape", |s| {
        let read = s.read(one("a"));
        *s.outcome(read) = Outcome::Written(Err(KvError::KeyNotFound));
    }),
    ("answered twice", "history-shape", |s| {
        let again = s.records[0].clone();
        s.records.push(again);
    }),
    ("a client with two requests under way", "history-shape", |s| {
        s.records[1].client = s.records[0].client;
        s.at(1, 1050, 1300);
    }),
    ("answered before it was sent", "history-shape", |s| s.at(0, 1100, 1000)),
];

#[test]
fn wrong_histories_are_rejected_by_the_right_rule() {
    assert!(WRONG.len() >= 40);
    let mut mistaken = Vec::new();
    for (name, rule, spoil) in WRONG {
        let mut story = beginning();
        assert!(story.judge().is_ok(), "the beginning is right");
        spoil(&mut story);
        match story.judge() {
            Err(violation) if violation.rule == *rule => {}
            other => mistaken.push(format!("{name}: expected {rule}, but {other:?}")),
        }
    }
    assert!(mistaken.is_empty(), "{}", mistaken.join("\n"));
}

/// With the number of unknown writes that must have been placed.
const RIGHT: &[(&str, u64, Spoil)] = &[
    ("nothing at all", 0, |s| *s = Story::new()),
    ("one after the other", 0, |s| {
        s.write(delete("a"));
        s.write(put("a", "4"));
        s.read(all());
    }),
    ("an unknown write took effect", 1, |s| {
        s.unknown(put("a", "4"));
        s.read(one("a"));
    }),
    ("an unknown write took effect late", 1, |s| {
        s.lost(put("a", "4"));
        s.write(put("a", "5"));
        s.read(one("a"));
        let _ = s.execute(&put("a", "4"));
        s.read(one("a"));
    }),
    ("an unknown write never took effect", 0, |s| {
        s.lost(put("a", "4"));
        s.read(one("a"));
        s.write(put("a", "5"));
    }),
    ("an unknown write was overwritten before anybody looked", 1, |s| {
        s.unknown(put("a", "4"));
        let overwrite = Command::Put(flaredb_kv::PutRequest { key: b("a"), value: b("5"), ..Default::default() });
        s.write(overwrite);
        s.read(one("a"));
    }),
    ("which of two unknown writes was overwritten shows in the version", 1, |s| {
        s.lost(put("b", "6"));
        s.unknown(put("a", "4"));
        let overwrite = |key: &str, value: &str| {
            Command::Put(flaredb_kv::PutRequest { key: b(key), value: b(value), ..Default::default() })
        };
        s.write(overwrite("a", "5"));
        s.write(overwrite("b", "7"));
        s.read(all());
    }),
    ("which of two unknown writes it was shows only at the end", 1, |s| {
        s.lost(put("c", "6"));
        s.unknown(put("d", "4"));
        s.write(put("a", "5"));
        s.write(delete("c"));
        s.write(delete("d"));
    }),
    ("the first choice is wrong and is taken back", 1, |s| {
        // Both fit; only the state inside a later transaction tells which it was.
        s.lost(put("c", "6"));
        s.unknown(put("d", "4"));
        s.write(put("a", "5"));
        s.write(txn(vec![version_is("d", 1)], vec![op(put("e", "7"))], vec![]));
        s.write(delete_all());
    }),
    ("of two unknown writes a comparison by order tells which it was", 1, |s| {
        s.lost(put("c", "1x"));
        s.unknown(put("c", "9x"));
        let mut compare = version_is("c", 0);
        compare.target = CompareTarget::Value(b("5"));
        compare.result = flaredb_kv::CompareResult::Greater;
        s.write(txn(vec![compare], vec![op(put("d", "4"))], vec![]));
        s.write(delete_all());
    }),
    ("two unknown writes changed places", 2, |s| {
        s.lost(put("a", "4"));
        s.lost(put("a", "5"));
        let _ = s.execute(&put("a", "5"));
        s.read(one("a"));
        let _ = s.execute(&put("a", "4"));
        s.read(one("a"));
    }),
    ("an unknown delete", 1, |s| {
        s.unknown(delete("a"));
        s.read(one("a"));
    }),
    ("an unknown transaction took its other branch", 1, |s| {
        s.unknown(txn(vec![version_is("a", 9)], vec![op(put("c", "4"))], vec![op(put("d", "5")), op(put("e", "6"))]));
        s.read(all());
    }),
    ("an unknown put that keeps the value", 1, |s| {
        s.unknown(keep("a"));
        s.read(one("a"));
    }),
    ("an unknown put whose value was kept later", 1, |s| {
        s.unknown(put("c", "4"));
        s.write(keep("c"));
        s.read(one("c"));
    }),
    ("an unknown delete that found nothing", 0, |s| {
        s.unknown(delete("nothing"));
        s.read(all());
    }),
    ("unknown reads, and a request that never happened", 0, |s| {
        s.add(Op::Read(one("a")), Outcome::Unknown);
        s.add(Op::Read(one("a")), Outcome::Never);
        s.never(put("a", "4"));
        s.read(one("a"));
    }),
    ("overlapping writes in the other order", 0, |s| {
        s.at(0, 1010, 5000);
        s.at(1, 1000, 5000);
        s.at(2, 1005, 5000);
    }),
    ("an overlapping read sees the old state", 0, |s| {
        let read = s.read(one("a"));
        let write = s.write(put("a", "4"));
        s.at(write, 2000, 9000);
        s.at(read, 8000, 8100);
    }),
    ("an overlapping read sees the new state before the writer knows", 0, |s| {
        let write = s.write(put("a", "4"));
        let read = s.read(one("a"));
        s.at(write, 2000, 9000);
        s.at(read, 8000, 8100);
    }),
    ("answered and sent at the same time is overlapping", 0, |s| {
        s.at(1, 1000, 1100);
        s.at(0, 1100, 1200);
    }),
    ("a serializable read is old", 0, |s| {
        let read = s.read(RangeRequest { serializable: true, ..all() });
        s.write(put("a", "4"));
        s.read(all());
        s.at(read, 80_000, 80_100);
    }),
    ("a read of the past", 0, |s| {
        s.write(delete("a"));
        s.read(RangeRequest { revision: 2, ..all() });
        s.read(RangeRequest { revision: 4, limit: 1, ..all() });
    }),
    ("compaction, and what it refuses", 0, |s| {
        s.write(compact(3));
        s.read(RangeRequest { revision: 2, ..all() });
        s.read(RangeRequest { revision: 3, ..all() });
        s.write(compact(2));
        s.write(compact(9));
        s.read(RangeRequest { revision: 9, ..all() });
        s.write(txn(vec![], vec![RequestOp::Range(RangeRequest { revision: 2, ..all() })], vec![]));
    }),
    ("an unknown compaction never happened, and an unknown transaction read below it", 1, |s| {
        s.lost(compact(3));
        let range = RequestOp::Range(RangeRequest { revision: 2, ..all() });
        s.unknown(txn(vec![], vec![op(put("c", "4")), range], vec![]));
        s.read(all());
    }),
    ("an unknown compaction refuses a read", 0, |s| {
        s.unknown(compact(3));
        s.read(RangeRequest { revision: 2, ..all() });
    }),
    ("a serializable read has not heard of the compaction", 0, |s| {
        let read = s.read(RangeRequest { revision: 2, serializable: true, ..all() });
        s.write(compact(3));
        s.at(read, 80_000, 80_100);
    }),
    ("the revision came while the read was refused", 0, |s| {
        let read = s.read(RangeRequest { revision: 5, ..all() });
        *s.outcome(read) = Outcome::Read { revision: 0, result: Err(KvError::FutureRevision) };
        let write = s.write(put("a", "4"));
        s.at(write, 1900, 9000);
        s.at(read, 1900, 9000);
    }),
    ("refusals of all kinds", 0, |s| {
        s.write(keep("nothing"));
        s.write(put("", "1"));
        s.write(txn(vec![], vec![op(put("c", "4")), op(put("c", "5"))], vec![]));
        s.write(txn(vec![], vec![op(delete("a")), RequestOp::Nothing], vec![]));
        s.write(Command::Put(flaredb_kv::PutRequest { key: b("a"), lease: 7, ..Default::default() }));
        s.write(txn(vec![], vec![RequestOp::Range(RangeRequest { revision: 9, ..all() })], vec![]));
        s.read(one(""));
    }),
    ("the key was there before and after, but not when it was kept", 0, |s| {
        s.write(delete("a"));
        let refused = s.write(keep("a"));
        s.write(put("a", "4"));
        s.at(refused, 100, 90_000);
    }),
    ("a transaction that only reads, and one that does nothing", 0, |s| {
        s.write(txn(vec![version_is("a", 2)], vec![RequestOp::Range(all())], vec![]));
        s.write(txn(vec![], vec![], vec![]));
    }),
    ("a key is born again", 0, |s| {
        s.write(delete("a"));
        s.read(one("a"));
        s.write(put("a", "4"));
        s.read(one("a"));
        s.read(RangeRequest { revision: 4, ..one("a") });
    }),
    ("the same value twice", 1, |s| {
        s.write(put("c", "1"));
        s.unknown(put("d", "1"));
        s.read(all());
    }),
    ("etcd may order equals otherwise", 0, |s| {
        s.write(txn(vec![], vec![op(put("c", "4")), op(put("d", "5"))], vec![]));
        let read = s.read(RangeRequest { sort_target: SortTarget::Mod, sort_order: SortOrder::Ascend, ..all() });
        s.range(read).kvs.swap(2, 3);
    }),
    ("a store that was not empty", 0, |s| {
        s.first = s.state();
        s.records.clear();
        s.write(put("a", "4"));
        s.read(RangeRequest { revision: 2, ..one("a") });
        s.read(all());
    }),
];

#[test]
fn right_but_odd_histories_are_accepted() {
    assert!(RIGHT.len() >= 15);
    let mut mistaken = Vec::new();
    for (name, placed, arrange) in RIGHT {
        let mut story = beginning();
        arrange(&mut story);
        match story.judge() {
            Ok(report) if report.unknown_placed == *placed && report.undecided.is_none() => {}
            other => mistaken.push(format!("{name}: expected {placed} placed, but {other:?}")),
        }
    }
    assert!(mistaken.is_empty(), "{}", mistaken.join("\n"));
}

#[test]
fn a_puzzle_too_large_is_given_up_and_said_so() {
    let mut story = Story::new();
    // Thirty gaps, sixty unknown transactions that all fit, no trace of any, and an end that none of them explains.
    for number in 0..60 {
        let key = format!("k{number:02}");
        story.lost(txn(vec![], vec![op(put(&key, &format!("v{number}"))), op(delete("none"))], vec![]));
    }
    for number in 0..30 {
        let _ = story.execute(&put(&format!("k{number:02}"), &format!("v{number}")));
    }
    story.write(delete_all());
    story.write(put("x", "y"));
    story.last().kvs[0].lease = 9;
    let report = story.judge().unwrap();
    assert!(report.undecided.is_some(), "{report:?}");
}

/// A random history that is right, with each request's effect somewhere between sending and answer.
fn random(draw: &mut Draw, length: u64, certain: u64) -> Story {
    let mut story = Story::new();
    let mut late: Vec<Command> = Vec::new();
    let mut values = 0;
    let mut value = || {
        values += 1;
        format!("v{values}")
    };
    for _ in 0..length {
        let key = |draw: &mut Draw| format!("k{}", draw.below(5));
        let revision = story.kv.applied().revision;
        let command = match draw.below(12) {
            0..4 => put(&key(draw), &value()),
            4 => delete(&key(draw)),
            5 if draw.below(4) == 0 => delete_all(),
            5 => keep(&key(draw)),
            6 if draw.below(3) == 0 => compact(revision - draw.below(6) as i64 + 1),
            6..8 => {
                let mut compare = version_is(&key(draw), draw.below(4) as i64);
                if draw.below(2) == 0 {
                    compare.target = CompareTarget::Mod(revision - draw.below(4) as i64);
                    compare.result = flaredb_kv::CompareResult::Greater;
                }
                let (one, two) = (key(draw), key(draw));
                let range =
                    RequestOp::Range(RangeRequest { revision: if draw.below(4) == 0 { revision } else { 0 }, ..all() });
                txn(vec![compare], vec![op(put(&one, &value())), range], vec![op(delete(&two))])
            }
            _ => {
                let sort_order = *draw.pick(&[SortOrder::None, SortOrder::Descend]);
                let revision = if draw.below(4) == 0 { revision - draw.below(5) as i64 } else { 0 };
                let range = RangeRequest { limit: draw.below(4) as i64, revision, sort_order, ..all() };
                let serializable = draw.below(3) == 0;
                story.read(RangeRequest { serializable, ..if draw.below(2) == 0 { range } else { one(&key(draw)) } });
                continue;
            }
        };
        match draw.below(certain) {
            0 => drop(story.never(command)),
            1 => drop(story.unknown(command)),
            2 => drop(story.lost(command)),
            3 => {
                story.lost(command.clone());
                late.push(command);
            }
            _ => drop(story.write(command)),
        }
        if draw.below(6) == 0
            && let Some(command) = late.pop()
        {
            let _ = story.execute(&command);
        }
    }
    for number in 0..story.records.len() {
        let effect = 1000 + number as u64 * 100;
        story.at(number, effect - draw.below(300), effect + draw.below(300));
    }
    story
}

/// With how many of a hundred must be rejected: what remains is right, by luck (two unanswered writes that nobody looked at
/// between may as well have changed places).
const MUTATIONS: &[(&str, u64)] = &[
    ("the value of a key in an answer", 98),
    ("a key is missing in an answer", 98),
    ("the version of a key in an answer", 98),
    ("a write's revision one higher", 98),
    ("a write's revision one lower", 98),
    ("the other branch", 98),
    ("a write that took effect is said to be never", 98),
    ("the last content", 98),
    ("prev_kv left out", 98),
    ("an answered write is forgotten", 80),
    ("a read's revision one lower", 35),
    ("a read's revision one higher", 45),
    ("a request is answered much later", 70),
    ("a request is sent much later", 90),
];

/// Spoils one thing; false if there is nothing of the kind.
fn mutate(story: &mut Story, kind: usize, draw: &mut Draw) -> bool {
    let last = story.state();
    story.last = Some(last);
    let count = story.records.len();
    let start = draw.below(count as u64) as usize;
    for number in (0..count).map(|offset| (start + offset) % count) {
        let (id, shift) = (story.records[number].id, 1_000 + draw.below(10_000));
        let record = &mut story.records[number];
        let is_change = |response: &Response| match &response.body {
            ResponseBody::Put(_) => true,
            ResponseBody::DeleteRange(delete) => delete.deleted > 0,
            _ => false,
        };
        match (kind, &mut record.outcome) {
            (0, Outcome::Read { result: Ok(range), .. }) if !range.kvs.is_empty() => {
                range.kvs[0].value = b("spoiled");
            }
            (1, Outcome::Read { result: Ok(range), .. }) if !range.kvs.is_empty() => {
                range.kvs.pop();
            }
            (2, Outcome::Read { result: Ok(range), .. }) if !range.kvs.is_empty() => {
                range.kvs[0].version += 1;
            }
            (3, Outcome::Written(Ok(response))) if is_change(response) => response.revision += 1,
            (4, Outcome::Written(Ok(response))) if is_change(response) => response.revision -= 1,
            (5, Outcome::Written(Ok(Response { body: ResponseBody::Txn(txn), .. }))) => {
                txn.succeeded = !txn.succeeded;
            }
            // That nobody saw a trace of it is possible for a delete; a put is seen at least as a gap.
            (6, outcome @ Outcome::Written(Ok(_))) if matches!(&record.op, Op::Write(Command::Put(_))) => {
                *outcome = Outcome::Never;
                story.records.retain(|record| record.outcome != Outcome::Unknown);
            }
            (7, _) => {
                let Some(kv) = story.last.as_mut().unwrap().kvs.first_mut() else { return false };
                kv.version += 1;
            }
            (8, Outcome::Written(Ok(Response { body: ResponseBody::Put(put), .. }))) if put.prev_kv.is_some() => {
                put.prev_kv = None;
            }
            (9, Outcome::Written(Ok(response))) if is_change(response) => {
                story.records.retain(|record| record.id != id);
            }
            (10, Outcome::Read { revision, .. }) => *revision -= 1,
            (11, Outcome::Read { revision, .. }) => *revision += 1,
            (12, Outcome::Read { .. } | Outcome::Written(_)) => {
                record.invoked_at += shift;
                record.answered_at += shift;
            }
            (13, Outcome::Written(Ok(response))) if is_change(response) => {
                record.invoked_at += shift;
                record.answered_at += shift;
            }
            _ => continue,
        }
        return true;
    }
    false
}

#[test]
fn spoiled_random_histories_are_rejected_and_right_ones_are_not() {
    let rounds: u64 = std::env::var("FLAREDB_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let mut rejected = vec![(0_u64, 0_u64); MUTATIONS.len()];
    for seed in 0..rounds {
        let story = random(&mut Draw::new(seed, "history", 0), 60, 20);
        let report = story.judge().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert_eq!(report.undecided, None, "seed {seed}");
        for (kind, (name, _)) in MUTATIONS.iter().enumerate() {
            let mut spoiled = random(&mut Draw::new(seed, "history", 0), 60, 20);
            if !mutate(&mut spoiled, kind, &mut Draw::new(seed, name, 0)) {
                continue;
            }
            let verdict = spoiled.judge();
            rejected[kind].0 += u64::from(verdict.is_err());
            rejected[kind].1 += 1;
        }
    }
    for ((name, least), (rejected, tried)) in MUTATIONS.iter().zip(&rejected) {
        println!("{name}: {rejected} of {tried} rejected");
        assert!(*tried >= rounds / 2, "{name}: the generator gives too few");
        assert!(*rejected * 100 >= *tried * least, "{name}: seldom noticed");
    }
}

#[test]
fn a_long_history_takes_no_long_time() {
    for (certain, length) in [(20, 5_000), (200, 20_000), (2000, 20_000)] {
        let story = random(&mut Draw::new(7, "history", 1), length, certain);
        let began = std::time::Instant::now();
        let report = story.judge().unwrap();
        println!("one of {certain} unknown: {report:?} in {:?}", began.elapsed());
        assert_eq!((report.operations, report.undecided), (length, None));
    }
    assert!(check_history(&[], &FinalState { revision: 1, kvs: vec![] }).is_ok());
}
