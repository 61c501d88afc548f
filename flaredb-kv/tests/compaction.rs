//! Compaction beside readers and over restarts, the content hash, and what reads and writes cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use common::*;
use flaredb_kv::{
    Batch, Command, CompactProgress, Compare, CompareResult, CompareTarget, Cursor, Kv, KvError, MemoryCursor,
    MemoryReader, MemoryStore, OrderedStore, PutRequest, RequestOp, StoreError, StoreReader, TxnRequest,
};

#[test]
fn a_reader_from_before_a_compaction_stays_whole() {
    let mut db = Db::new();
    db.put("a", "1");
    db.put("a", "2");
    db.put("b", "1");
    let old = db.reader();
    let copy = old.clone();
    db.put("a", "3");
    db.delete("b", "");
    db.compact(6).unwrap();
    assert_eq!(db.kv.compact_step(100).unwrap(), CompactProgress::More { rows: 0 }, "removal waits");
    let new = db.reader();
    for _ in 0..2 {
        let found = old.range(&range("a", "\0")).unwrap().unwrap();
        assert_eq!(found.kvs, [kv("a", "2", 2, 3, 2), kv("b", "1", 4, 4, 1)]);
    }
    assert_eq!(old.range(&range_at("a", "", 2)).unwrap().unwrap().kvs, [kv("a", "1", 2, 2, 1)]);
    assert_eq!(new.range(&range_at("a", "", 5)).unwrap(), Err(KvError::Compacted));
    drop(old);
    assert_eq!(db.kv.compact_step(100).unwrap(), CompactProgress::More { rows: 0 }, "the clone still reads");
    drop(copy);
    assert_eq!(db.kv.compact_step(100).unwrap(), CompactProgress::Done, "a reader from after it is no obstacle");
    assert_eq!(new.range(&range("a", "\0")).unwrap().unwrap().kvs, [kv("a", "3", 2, 5, 3)]);
}

#[test]
fn reads_stay_right_while_compaction_removes_rows_on_another_thread() {
    let mut db = Db::new();
    for round in 0..20 {
        for key in 0..20 {
            db.put(&format!("{key:02}"), &format!("{round}"));
        }
    }
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let reader = db.reader();
            std::thread::spawn(move || {
                for revision in (1..=401).rev() {
                    let found = reader.range(&range_at("0", "\0", revision)).unwrap().unwrap();
                    assert_eq!(found.count, (revision - 1).min(20));
                    let newest = found.kvs.iter().map(|kv| kv.mod_revision).max().unwrap_or(1);
                    assert_eq!(newest, revision);
                }
            })
        })
        .collect();
    for revision in (50..=400).step_by(50) {
        db.compact(revision).unwrap();
        let _ = db.kv.compact_step(10).unwrap();
    }
    while db.kv.compact_step(10).unwrap() != CompactProgress::Done {
        std::thread::yield_now();
    }
    for reader in readers {
        reader.join().unwrap();
    }
    assert_eq!(db.range(range_at("0", "\0", 400)).unwrap().count, 20);
}

#[test]
fn i31_progress_survives_restarts_at_every_step() {
    let mut reference = filled();
    reference.compact(40).unwrap();
    let mut broken = filled();
    broken.compact(25).unwrap();
    let mut steps = 0;
    loop {
        let progress = broken.kv.compact_step(2).unwrap();
        broken.reopen();
        steps += 1;
        if steps == 5 {
            assert_ne!(progress, CompactProgress::Done);
            broken.compact(40).unwrap(); // a newer target while the older one is half done
        }
        if progress == CompactProgress::Done && steps > 5 {
            break;
        }
        assert!(steps < 1000);
    }
    reference.remove_compacted(1000);
    let content = |db: &Db| db.all_rows().into_iter().filter(|(key, _)| !key.starts_with(b"m")).collect::<Vec<_>>();
    assert_eq!(content(&broken), content(&reference));
    assert_eq!(broken.kv.compaction_finished(), 40);
    assert_eq!(broken.kv.compact_step(1).unwrap(), CompactProgress::Done);
    assert_eq!(broken.revision(), reference.revision());
}

#[test]
fn compaction_costs_by_changes_not_by_keys() {
    let mut db = Db::new();
    for i in 0..500 {
        db.put(&format!("{i:03}"), "");
    }
    db.compact(501).unwrap();
    db.remove_compacted(1_000);
    db.put("000", "changed");
    db.compact(502).unwrap();
    assert!(db.remove_compacted(1) <= 4, "one change since, and the one at the last compaction itself");
    assert_eq!(db.range(range("0", "\0")).unwrap().count, 500);
}

#[test]
fn i30_the_hash_follows_content_and_nothing_else() {
    let mut db = filled();
    let before = db.reader().hash(0).unwrap().unwrap();
    assert_eq!((before.revision, before.compact_revision), (db.revision(), -1));
    let at_30 = db.hash(30);
    db.put("z", "");
    assert_eq!(db.hash(30), at_30, "an old revision keeps its hash");
    assert_ne!(db.hash(0), before.hash);
    assert_eq!(db.reader().hash(1000).unwrap(), Err(KvError::FutureRevision));
    db.compact(30).unwrap();
    let compacted = db.hash(0);
    while db.kv.compact_step(1).unwrap() != CompactProgress::Done {
        assert_eq!(db.hash(0), compacted);
    }
    assert_eq!(db.hash(0), compacted);
    assert_eq!(db.reader().hash(29).unwrap(), Err(KvError::Compacted));
    // One changed byte of one value.
    let mut other = filled();
    other.put("z", "x");
    other.compact(30).unwrap();
    assert_ne!(other.hash(0), compacted);
}

#[test]
fn damaged_rows_are_an_error_that_names_them() {
    for (key, value) in [
        (&b"uabc"[..], &b"x"[..]),
        (b"ua\0\0\xff\xff\xff\xff\xff\xff\xff\xfd\xff\xff\xff\xff", b"\x07"),
        (b"ua\0\0\xff\xff\xff\xff\xff\xff\xff\xfd\xff\xff\xff\xff", b"\x01short"),
        (b"ua\0x\0\0\xff\xff\xff\xff\xff\xff\xff\xfd\xff\xff\xff\xff", b"\x01aaaaaaaabbbbbbbbcccccccc"),
    ] {
        let mut db = Db::new();
        db.put("b", "");
        let change = flaredb_kv::Change::Put(bytes(key), bytes(value));
        db.kv.store_mut().write(&Batch { changes: vec![change] }).unwrap();
        let error = db.reader().range(&range("a", "\0")).unwrap_err();
        assert!(error.0.contains("damaged"), "{error}");
    }
    let mut store = MemoryStore::new();
    store.write(&Batch { changes: vec![flaredb_kv::Change::Put(bytes("mapplied"), bytes("x"))] }).unwrap();
    assert!(Kv::open(store).unwrap_err().0.contains("mapplied"));
}

/// 60 puts over 10 keys, with a delete now and then.
fn filled() -> Db {
    let mut db = Db::new();
    for i in 0..60 {
        let key = format!("{}", i * 7 % 10);
        let _ = if i % 9 == 8 { db.delete(&key, "") } else { db.put(&key, &format!("{i}")) };
    }
    db
}

/// Counts what the state machine asks of its store.
#[derive(Clone, Default)]
struct Counts {
    cursors: Arc<AtomicUsize>,
    seeks: Arc<AtomicUsize>,
    steps: Arc<AtomicUsize>,
}

struct Counting(MemoryStore, Counts);

#[derive(Clone)]
struct CountingReader(MemoryReader, Counts);

struct CountingCursor(MemoryCursor, Counts);

impl OrderedStore for Counting {
    type Reader = CountingReader;
    fn reader(&self) -> CountingReader {
        CountingReader(self.0.reader(), self.1.clone())
    }
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.0.write(batch)
    }
}

impl StoreReader for CountingReader {
    type Cursor<'a> = CountingCursor;
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key)
    }
    fn cursor(&self, start: &[u8], end: &[u8]) -> Result<CountingCursor, StoreError> {
        self.1.cursors.fetch_add(1, Ordering::Relaxed);
        Ok(CountingCursor(self.0.cursor(start, end)?, self.1.clone()))
    }
    fn point_cursor(&self) -> Result<CountingCursor, StoreError> {
        self.1.cursors.fetch_add(1, Ordering::Relaxed);
        Ok(CountingCursor(self.0.point_cursor()?, self.1.clone()))
    }
}

impl Cursor for CountingCursor {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.1.seeks.fetch_add(1, Ordering::Relaxed);
        self.0.seek(key)
    }
    fn next(&mut self) -> Result<(), StoreError> {
        self.1.steps.fetch_add(1, Ordering::Relaxed);
        self.0.next()
    }
    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.0.entry()
    }
}

fn counting() -> (Db<Counting>, impl Fn() -> (usize, usize, usize)) {
    let counts = Counts::default();
    let db = Db { kv: Kv::open(Counting(MemoryStore::new(), counts.clone())).unwrap() };
    (db, move || {
        let take = |counter: &AtomicUsize| counter.swap(0, Ordering::Relaxed);
        (take(&counts.cursors), take(&counts.seeks), take(&counts.steps))
    })
}

#[test]
fn a_point_get_is_one_seek() {
    let (mut db, taken) = counting();
    for i in 0..100 {
        db.put("a", &i.to_string());
    }
    db.put("b", "");
    for revision in [0, 2, 50] {
        taken();
        assert_eq!(db.range(range_at("a", "", revision)).unwrap().count, 1);
        assert_eq!(taken(), (1, 1, 0), "revision {revision}");
    }
    taken();
    assert_eq!(db.range(range("absent", "")).unwrap().count, 0);
    assert_eq!(taken(), (1, 1, 0));
}

#[test]
fn a_put_or_a_comparison_of_a_remembered_key_does_not_ask_the_store() {
    let (mut db, taken) = counting();
    db.put("a", "");
    db.delete("gone", "");
    taken();
    for _ in 0..3 {
        db.put("a", "");
    }
    assert_eq!(taken(), (0, 0, 0));
    let txn = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal,
            target: CompareTarget::Version(4),
            key: bytes("a"),
            range_end: bytes(""),
        }],
        success: vec![op_put("a", "")],
        failure: Vec::new(),
    };
    assert!(db.txn(txn).unwrap().1.succeeded);
    assert_eq!(taken(), (0, 0, 0));
    db.put("new", "");
    assert_eq!(taken(), (1, 1, 0), "what is not remembered is searched, once");
    db.put("new", "");
    assert_eq!(taken(), (0, 0, 0));
}

/// As one batch, with a memory of 16 keys, and one by one without.
fn assert_batches_change_nothing(commands: &[Command]) {
    let entries: Vec<_> = commands.iter().zip(1..).map(|(command, index)| entry(index, command)).collect();
    let mut at_once = Kv::open(MemoryStore::new()).unwrap().remember_keys(1);
    at_once.apply(&entries, &mut Vec::new()).unwrap();
    let mut one_by_one = Kv::open(MemoryStore::new()).unwrap().remember_keys(0);
    for entry in &entries {
        one_by_one.apply(std::slice::from_ref(entry), &mut Vec::new()).unwrap();
    }
    assert_eq!(rows(at_once.store()), rows(one_by_one.store()));
}

#[test]
fn a_row_that_is_forgotten_while_its_batch_is_applied_is_found_in_the_batch() {
    let puts: Vec<_> = (0..120).map(|number| Command::Put(put(&format!("key{}", number % 60), ""))).collect();
    assert_batches_change_nothing(&puts);
    // The last put finds nothing, which is known only then: the row of "a" is taken back, and with it what was known of "a".
    let last = RequestOp::Put(PutRequest { ignore_value: true, ..put("x", "") });
    let refused = Command::Txn(txn(&[], &[op_put("a", "no"), op_delete("x", "\0"), last], &[]));
    let put_a = Command::Put(put("a", ""));
    assert_batches_change_nothing(&[Command::Put(put("x", "")), put_a.clone(), refused, put_a]);
}

#[test]
fn a_scan_seeks_past_many_versions_and_steps_over_few() {
    let (mut db, taken) = counting();
    for key in 0..10 {
        for _ in 0..1000 {
            db.put(&key.to_string(), "");
        }
    }
    taken();
    assert_eq!(db.range(range("0", "\0")).unwrap().count, 10);
    let (cursors, seeks, steps) = taken();
    assert!(cursors == 1 && seeks <= 11 && steps <= 100, "{seeks} seeks, {steps} steps");
    assert_eq!(db.range(range_at("0", "\0", 9_500)).unwrap().count, 10);
    let (_, seeks, steps) = taken();
    assert!(seeks <= 21 && steps <= 200, "{seeks} seeks, {steps} steps");

    let (mut db, taken) = counting();
    for key in 0..100 {
        db.put(&format!("{key:02}"), "");
    }
    taken();
    assert_eq!(db.range(range("0", "\0")).unwrap().count, 100);
    assert_eq!(taken(), (1, 1, 100), "a key with one version is one step");

    // A step reads the value of the row it comes to.
    let (mut db, taken) = counting();
    let long = "v".repeat(3000);
    for key in 0..100 {
        for _ in 0..if key < 10 { 5 } else { 1 } {
            db.put(&format!("{key:02}"), &long);
        }
    }
    taken();
    assert_eq!(db.range(range("0", "\0")).unwrap().count, 100);
    assert_eq!(taken(), (1, 11, 100), "one step, and a seek past older versions of long values");
    assert_eq!(db.range(range_at("0", "\0", 48)).unwrap().count, 10);
    let (cursors, seeks, steps) = taken();
    assert!(cursors == 1 && seeks <= 21 && steps <= 111, "{seeks} seeks, {steps} steps");
}

#[test]
fn a_batch_of_puts_is_one_cursor_and_one_seek_each() {
    let (mut db, taken) = counting();
    taken();
    let entries: Vec<_> = (1..=100).map(|i| entry(i, &Command::Put(put(&(i % 50).to_string(), "")))).collect();
    db.kv.apply(&entries, &mut Vec::new()).unwrap();
    assert_eq!(taken(), (1, 50, 0), "a key that the batch itself has written needs none");
}

/// Time that this thread has spent on a CPU: beside other work the clock on the wall says little.
fn cpu_time() -> std::time::Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

/// Not a test of anything: prints how fast puts are applied. `cargo test --release -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement, Linux only"]
fn speed_of_puts() {
    const PUTS: u32 = 100_000;
    for (batch, keys, value) in
        [(1, 1_000, 16), (32, 1_000, 16), (32, 1_000, 256), (32, 100_000, 256), (256, 100_000, 256)]
    {
        let value = "v".repeat(value);
        let mut kv = Kv::open(MemoryStore::new()).unwrap();
        let key = |i: u64| format!("key-{:08}", i * 7919 % keys);
        let entries: Vec<_> = (1..=u64::from(PUTS)).map(|i| entry(i, &Command::Put(put(&key(i), &value)))).collect();
        let mut outcomes = Vec::new();
        let start = cpu_time();
        for batch in entries.chunks(batch) {
            kv.apply(batch, &mut outcomes).unwrap();
        }
        let each = (cpu_time() - start) / PUTS;
        println!("batches of {batch}, {keys} keys, values of {} bytes: {each:?} of CPU a put", value.len());
    }
}
