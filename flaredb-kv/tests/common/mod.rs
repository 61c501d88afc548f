//! What the tests of the state machine share: short ways to make requests, and a database that applies them.
#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use flaredb_kv::{
    ApplyEntry, Command, CompactProgress, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KeyValue, Kv, KvError, KvReader, MemoryReader, MemoryStore, OrderedStore, PutRequest, RangeRequest, RangeResponse,
    RequestOp, Response, ResponseBody, TxnRequest, TxnResponse,
};

pub fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: false }
}

pub fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() }
}

pub fn range_at(key: &str, range_end: &str, revision: i64) -> RangeRequest {
    RangeRequest { revision, ..range(key, range_end) }
}

pub fn compare(key: &str, result: CompareResult, target: CompareTarget) -> Compare {
    Compare { result, target, key: bytes(key), range_end: Bytes::new() }
}

pub fn txn(compare: &[Compare], success: &[RequestOp], failure: &[RequestOp]) -> TxnRequest {
    TxnRequest { compare: compare.to_vec(), success: success.to_vec(), failure: failure.to_vec() }
}

pub fn op_put(key: &str, value: &str) -> RequestOp {
    RequestOp::Put(put(key, value))
}

pub fn op_delete(key: &str, range_end: &str) -> RequestOp {
    RequestOp::DeleteRange(delete(key, range_end))
}

pub fn op_range(key: &str, range_end: &str) -> RequestOp {
    RequestOp::Range(range(key, range_end))
}

pub fn kv(key: &str, value: &str, create_revision: i64, mod_revision: i64, version: i64) -> KeyValue {
    KeyValue { key: bytes(key), create_revision, mod_revision, version, value: bytes(value), lease: 0 }
}

pub fn entry(index: u64, command: &Command) -> ApplyEntry {
    ApplyEntry { index, term: 1, command: Some((command.kind(), command.encode())) }
}

/// A state machine that is fed one command at a time.
pub struct Db<S: OrderedStore = MemoryStore> {
    pub kv: Kv<S>,
}

impl Db<MemoryStore> {
    pub fn new() -> Self {
        Self { kv: Kv::open(MemoryStore::new()).unwrap() }
    }

    pub fn reopen(&mut self) {
        self.kv = Kv::open(self.kv.store().clone()).unwrap();
    }

    pub fn reader(&self) -> KvReader<MemoryReader> {
        self.kv.reader()
    }

    pub fn all_rows(&self) -> Vec<(Bytes, Bytes)> {
        rows(self.kv.store())
    }
}

impl<S: OrderedStore> Db<S> {
    pub fn apply(&mut self, command: Command) -> Result<Response, KvError> {
        let mut outcomes = Vec::new();
        let applied = self.kv.applied();
        let next = ApplyEntry { term: applied.term.max(1), ..entry(applied.index + 1, &command) };
        self.kv.apply(&[next], &mut outcomes).unwrap();
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    pub fn put(&mut self, key: &str, value: &str) -> i64 {
        self.apply(Command::Put(put(key, value))).unwrap().revision
    }

    pub fn delete(&mut self, key: &str, range_end: &str) -> i64 {
        let response = self.apply(Command::DeleteRange(delete(key, range_end))).unwrap();
        match response.body {
            ResponseBody::DeleteRange(body) => body.deleted,
            other => panic!("{other:?}"),
        }
    }

    pub fn txn(&mut self, request: TxnRequest) -> Result<(i64, TxnResponse), KvError> {
        let response = self.apply(Command::Txn(request))?;
        match response.body {
            ResponseBody::Txn(body) => Ok((response.revision, body)),
            other => panic!("{other:?}"),
        }
    }

    pub fn compact(&mut self, revision: i64) -> Result<i64, KvError> {
        self.apply(Command::Compact(CompactRequest { revision, physical: false })).map(|response| response.revision)
    }

    /// Removes everything that can be removed, in steps of `rows_max`. Returns the number of steps.
    pub fn remove_compacted(&mut self, rows_max: usize) -> usize {
        for steps in 1..1_000_000 {
            match self.kv.compact_step(rows_max).unwrap() {
                CompactProgress::Done => return steps,
                CompactProgress::More { rows } => assert!(rows > 0, "a reader still holds the rows"),
            }
        }
        panic!("compaction makes no end");
    }

    pub fn range(&self, request: RangeRequest) -> Result<RangeResponse, KvError> {
        self.kv.reader().range(&request).unwrap()
    }

    pub fn get(&self, key: &str) -> Option<KeyValue> {
        self.range(range(key, "")).unwrap().kvs.into_iter().next()
    }

    pub fn get_at(&self, key: &str, revision: i64) -> Option<KeyValue> {
        self.range(range_at(key, "", revision)).unwrap().kvs.into_iter().next()
    }

    pub fn revision(&self) -> i64 {
        self.kv.applied().revision
    }

    pub fn hash(&self, revision: i64) -> u32 {
        self.kv.reader().hash(revision).unwrap().unwrap().hash
    }
}

pub fn rows(store: &impl OrderedStore) -> Vec<(Bytes, Bytes)> {
    use flaredb_kv::{Cursor, StoreReader};
    let reader = store.reader();
    let mut cursor = reader.cursor(b"", b"").unwrap();
    cursor.seek(b"").unwrap();
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.entry() {
        rows.push((bytes(key), bytes(value)));
        cursor.next().unwrap();
    }
    rows
}

pub fn keys(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| std::str::from_utf8(&kv.key).unwrap()).collect()
}

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below(u64::try_from(high - low + 1).unwrap())).unwrap()
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}
