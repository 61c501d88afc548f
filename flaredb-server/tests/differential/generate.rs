//! Random requests, mostly ones that can succeed, from few keys and values, so that they meet each other.

use flaredb_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::TargetUnion, request_op::Request,
};
use tonic::Code;

use crate::{Op, Outcome};

/// Prefixes of each other, neighbours, and the bytes that encodings trip over.
const KEYS: [&[u8]; 14] = [
    b"\0",
    b"\0\0",
    b"\0\xff",
    b"\x01",
    b"a",
    b"a\0",
    b"a\0\xff",
    b"a\xff",
    b"ab",
    b"b",
    b"b\xff\xff",
    b"c",
    b"\xff",
    b"\xff\xff",
];
const VALUES: [&[u8]; 6] = [b"", b"x", b"y", b"\0", b"x\0", b"\xff"];
/// etcd's default for operations per transaction.
const TXN_OPS_MAX: usize = 128;
/// etcd's default for the size of a request. A value as long makes it larger.
const REQUEST_BYTES_MAX: usize = 1_572_864;
/// FlareDB's bound on transactions inside each other.
const TXN_DEPTH_MAX: usize = 8;

/// What to ask whom.
pub enum Step {
    /// Both, and the answers must be the same.
    Both(Op),
    /// FlareDB alone, which must refuse like this.
    Documented(Op, Code, &'static str),
}

pub struct Generator {
    state: u64,
    revision: i64,
    compacted: i64,
    answered: u64,
    refused: u64,
    /// How many of the keys are in use: with few, transactions meet themselves.
    keys: usize,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, revision: 1, compacted: -1, answered: 0, refused: 0, keys: KEYS.len() }
    }

    /// splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as u64) as i64
    }

    fn choose<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    /// The member that is asked.
    pub fn member(&mut self) -> usize {
        self.below(3) as usize
    }

    /// Takes etcd's answer in: which revisions exist.
    pub fn learn(&mut self, op: &Op, outcome: &Outcome) {
        let Ok(answer) = outcome else {
            self.refused += 1;
            return;
        };
        self.answered += 1;
        self.revision = answer.clone().header().revision;
        if let Op::Compact(request) = op {
            self.compacted = request.revision;
        }
    }

    pub fn summary(&self) -> String {
        let Self { answered, refused, revision, compacted, .. } = self;
        format!("{answered} answered, {refused} refused, revision {revision}, compacted up to {compacted}")
    }

    /// Everything there is, at every revision that is left (the last thousand of them).
    pub fn history(&self) -> Vec<Op> {
        let first = self.compacted.max(self.revision - 1_000).max(1) - 1;
        (first..=self.revision)
            .map(|revision| {
                let (key, range_end) = ("\0".into(), "\0".into());
                Op::Range(RangeRequest { key, range_end, revision, serializable: true, ..RangeRequest::default() })
            })
            .collect()
    }

    pub fn step(&mut self) -> Step {
        self.keys = if self.chance(15) { 3 } else { KEYS.len() };
        Step::Both(match self.below(100) {
            0..30 => Op::Put(self.put()),
            30..55 => Op::Range(self.range()),
            55..62 => Op::DeleteRange(self.delete_range()),
            62..94 => Op::Txn(self.txn(3)),
            94..95 => Op::Txn(self.crowded_txn()),
            95..96 => Op::Txn(self.deep_txn(TXN_DEPTH_MAX)),
            96..98 => Op::Compact(self.compact()),
            98 if self.chance(10) => Op::Put(PutRequest { value: vec![b'v'; REQUEST_BYTES_MAX].into(), ..self.put() }),
            _ => return self.documented(),
        })
    }

    fn documented(&mut self) -> Step {
        match self.below(4) {
            0 => {
                let mut compare = Compare { key: self.key(), ..self.compare() };
                if self.chance(50) {
                    compare.result = self.choose(&[4, 100, -1]);
                } else {
                    compare.target = self.choose(&[5, 100, -1]);
                }
                let txn = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
                Step::Documented(Op::Txn(txn), Code::InvalidArgument, "flaredb: malformed request")
            }
            1 => {
                let (txn, text) = (self.deep_txn(TXN_DEPTH_MAX + 1), "etcdserver: too many operations in txn request");
                Step::Documented(Op::Txn(txn), Code::InvalidArgument, text)
            }
            _ => {
                let mut range = RangeRequest { key: self.key(), ..self.range() };
                if self.chance(50) {
                    range.sort_order = self.choose(&[3, 100, -1]);
                } else {
                    range.sort_target = self.choose(&[5, 100, -1]);
                }
                let text = "etcdserver: invalid sort option";
                if self.chance(50) {
                    return Step::Documented(Op::Range(range), Code::InvalidArgument, text);
                }
                let txn = TxnRequest { success: vec![op(Request::RequestRange(range))], ..TxnRequest::default() };
                Step::Documented(Op::Txn(txn), Code::InvalidArgument, text)
            }
        }
    }

    fn key<T: From<&'static [u8]>>(&mut self) -> T {
        self.choose(&KEYS[..self.keys]).into()
    }

    /// Sometimes none, which is refused.
    fn key_or_none<T: From<&'static [u8]>>(&mut self) -> T {
        if self.chance(1) { b"".as_slice().into() } else { self.key() }
    }

    fn range_end<T: From<&'static [u8]> + From<Vec<u8>>>(&mut self, key: &[u8]) -> T {
        match self.below(100) {
            0..40 => b"".as_slice().into(),
            40..55 => b"\0".as_slice().into(),
            55..70 => prefix_end(key).into(),
            // Often at or below the key: an empty range.
            70..90 => self.key(),
            90..95 => key.to_vec().into(),
            _ => [key, b"\0"].concat().into(),
        }
    }

    fn revision(&mut self) -> i64 {
        let (revision, compacted) = (self.revision, self.compacted);
        match self.below(100) {
            0..50 => 0,
            50..80 => self.between(compacted.max(1), revision),
            80..86 => compacted - 1,
            86..90 => compacted,
            90..92 => compacted + 1,
            92..94 => revision,
            94..96 => revision + 1,
            96..98 => -self.between(1, 3),
            _ => self.choose(&[i64::MIN, i64::MAX, 1, revision + 100]),
        }
    }

    /// Near what keys have.
    fn bound(&mut self) -> i64 {
        match self.below(10) {
            0 => -1,
            1 => 1,
            2 => self.revision + 1,
            _ => self.between((self.revision - 20).max(1), self.revision),
        }
    }

    fn bound_or_none(&mut self) -> i64 {
        if self.chance(85) { 0 } else { self.bound() }
    }

    fn range(&mut self) -> RangeRequest {
        let key: Vec<u8> = self.key_or_none();
        let sorted = self.chance(50);
        RangeRequest {
            range_end: self.range_end(&key),
            key: key.into(),
            limit: if self.chance(50) { 0 } else { self.choose(&[1, 2, 3, 5, 100, -1, i64::MAX, i64::MIN]) },
            revision: self.revision(),
            sort_order: if sorted { self.below(3) as i32 } else { 0 },
            sort_target: if sorted { self.below(5) as i32 } else { 0 },
            serializable: self.chance(30),
            keys_only: self.chance(20),
            count_only: self.chance(10),
            min_mod_revision: self.bound_or_none(),
            max_mod_revision: self.bound_or_none(),
            min_create_revision: self.bound_or_none(),
            max_create_revision: self.bound_or_none(),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.chance(15);
        let ignore_lease = self.chance(15);
        PutRequest {
            key: self.key_or_none(),
            value: if ignore_value && self.chance(80) { b"".as_slice().into() } else { self.choose(&VALUES).into() },
            // There are no leases: every id is refused, with one text or another.
            lease: if self.chance(3) { self.choose(&[1, -1, i64::MAX]) } else { 0 },
            prev_kv: self.chance(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        let key: Vec<u8> = self.key_or_none();
        DeleteRangeRequest { range_end: self.range_end(&key), key: key.into(), prev_kv: self.chance(50) }
    }

    fn compact(&mut self) -> CompactionRequest {
        let (revision, compacted) = (self.revision, self.compacted);
        let revision = match self.below(10) {
            0..6 => self.between(compacted.max(0) + 1, revision),
            6 => compacted,
            7 => revision,
            8 => revision + 1,
            _ => self.choose(&[0, -1, -2, i64::MIN, i64::MAX]),
        };
        CompactionRequest { revision, physical: self.chance(30) }
    }

    fn compare(&mut self) -> Compare {
        let key: Vec<u8> = self.key_or_none();
        let target = self.below(5) as i32;
        let range_end = if self.chance(70) { b"".as_slice().into() } else { self.range_end(&key) };
        // The field that belongs to the target, mostly; a foreign one, or none, compares with zero or nothing.
        let field = if self.chance(88) { target } else { self.below(6) as i32 };
        let revision = if self.chance(20) { 0 } else { self.bound() };
        let target_union = match field {
            0 => Some(TargetUnion::Version(self.between(-1, 4))),
            1 => Some(TargetUnion::CreateRevision(revision)),
            2 => Some(TargetUnion::ModRevision(revision)),
            3 => Some(TargetUnion::Value(self.choose(&VALUES).into())),
            4 => Some(TargetUnion::Lease(self.between(-1, 1))),
            _ => None,
        };
        Compare { result: self.below(4) as i32, target, key: key.into(), range_end, target_union }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        // Transactions that only read take another way through the server.
        let read_only = self.chance(25);
        let mut txn = self.txn_of(depth, read_only);
        if self.chance(3) {
            txn.success.push(RequestOp { request: None });
        }
        if deletes_to_the_end(&txn) {
            ignore_nothing(&mut txn);
        }
        txn
    }

    fn txn_of(&mut self, depth: usize, read_only: bool) -> TxnRequest {
        let compares = self.below(3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        let branch = |generator: &mut Self| {
            let ops = generator.below(4);
            (0..ops).map(|_| generator.request_op(depth, read_only)).collect()
        };
        TxnRequest { compare, success: branch(self), failure: branch(self) }
    }

    fn request_op(&mut self, depth: usize, read_only: bool) -> RequestOp {
        op(match self.below(100) {
            _ if read_only => Request::RequestRange(self.range()),
            0..40 => Request::RequestPut(self.put()),
            40..65 => Request::RequestRange(self.range()),
            65..80 => Request::RequestDeleteRange(self.delete_range()),
            _ if depth > 1 => Request::RequestTxn(self.txn_of(depth - 1, false)),
            _ => Request::RequestRange(self.range()),
        })
    }

    /// About as many operations as are allowed, in the transaction or in one inside it.
    fn crowded_txn(&mut self) -> TxnRequest {
        let ops = |count: usize| -> Vec<RequestOp> {
            let range = || RangeRequest { key: "a".into(), count_only: true, ..RangeRequest::default() };
            (0..count).map(|_| op(Request::RequestRange(range()))).collect()
        };
        let outer = self.between(1, 4) as usize;
        let count = TXN_OPS_MAX - 1 + self.below(3) as usize - outer;
        let inner = match self.below(3) {
            0 => TxnRequest { success: ops(count), ..TxnRequest::default() },
            1 => TxnRequest { failure: ops(count), ..TxnRequest::default() },
            _ => TxnRequest { compare: (0..count).map(|_| self.compare()).collect(), ..TxnRequest::default() },
        };
        if self.chance(50) {
            let count = count + outer;
            return TxnRequest { success: ops(count), failure: ops(3), ..TxnRequest::default() };
        }
        let mut success = ops(outer - 1);
        success.push(op(Request::RequestTxn(inner)));
        TxnRequest { success, ..TxnRequest::default() }
    }

    fn deep_txn(&mut self, depth: usize) -> TxnRequest {
        let put = PutRequest { key: "a".into(), ..PutRequest::default() };
        let mut txn = TxnRequest { success: vec![op(Request::RequestPut(put))], ..TxnRequest::default() };
        for _ in 1..depth {
            let inner = op(Request::RequestTxn(txn));
            txn = TxnRequest { success: vec![inner.clone()], ..TxnRequest::default() };
            if self.chance(30) {
                txn.failure.push(inner);
            }
        }
        txn
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The end of the keys that begin with `key`.
fn prefix_end(key: &[u8]) -> Vec<u8> {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn deletes_to_the_end(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestDeleteRange(delete)) => *delete.range_end == [0],
        Some(Request::RequestTxn(txn)) => deletes_to_the_end(txn),
        _ => false,
    })
}

fn ignore_nothing(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => (put.ignore_value, put.ignore_lease) = (false, false),
            Some(Request::RequestTxn(txn)) => ignore_nothing(txn),
            _ => {}
        }
    }
}
