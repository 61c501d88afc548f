//! What a client asks next. Few keys, so that requests meet; every value is written once, so that a read tells whose it is.

use bytes::Bytes;
use flaredb_kv::{
    Command, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue, PutRequest,
    RangeRequest, RequestOp, SortOrder, SortTarget, TxnRequest,
};
use flaredb_sim::history::Op;
use flaredb_sim::prf::Draw;
use std::collections::BTreeMap;

/// Every key of ours, and where they end.
pub const FIRST: &[u8] = b"soak/";
/// The end of the range of our keys.
pub const END: &[u8] = b"soak0";

/// A client's choices, and what it remembers to make them good ones.
#[derive(Debug)]
pub struct Chooser {
    draw: Draw,
    client: u64,
    keys: u64,
    values: u64,
    /// As last read.
    pub seen: BTreeMap<Bytes, KeyValue>,
}

impl Chooser {
    /// Of this client.
    pub fn new(seed: u64, client: u64, keys: u64) -> Self {
        Self { draw: Draw::new(seed, "soak client", client), client, keys, values: 0, seen: BTreeMap::new() }
    }

    /// Another member, now and then.
    pub fn wanders(&mut self) -> Option<usize> {
        (self.draw.below(10) == 0).then(|| *self.draw.pick(&[0, 1, 2]))
    }

    /// `known` is the highest revision that any client was told.
    pub fn next_op(&mut self, known: i64) -> Op {
        match self.draw.below(200) {
            0..50 => Op::Write(Command::Put(self.put())),
            50..66 => Op::Write(Command::DeleteRange(self.delete())),
            66..110 => Op::Write(Command::Txn(self.txn())),
            110..111 => {
                let back = self.back(150);
                Op::Write(Command::Compact(CompactRequest { revision: (known - back).max(1), physical: false }))
            }
            111..155 => Op::Read(self.range(false, 0)),
            155..180 => Op::Read(self.range(true, 0)),
            180..192 => {
                let back = self.back(100);
                let serializable = self.draw.below(2) == 0;
                Op::Read(self.range(serializable, (known - back).max(1)))
            }
            _ => {
                let back = self.back(10);
                Op::Read(self.range(false, (known + 3 - back).max(1)))
            }
        }
    }

    fn back(&mut self, bound: u64) -> i64 {
        i64::try_from(self.draw.below(bound)).unwrap_or(0)
    }

    fn key(&mut self) -> Bytes {
        let number = self.draw.below(self.keys);
        format!("soak/{number:03}").into()
    }

    /// Written by nobody else.
    fn value(&mut self) -> Bytes {
        self.values += 1;
        let mut value = format!("c{}.{}", self.client, self.values);
        // Mostly small; some that cross sectors.
        let length = *self.draw.pick(&[0, 0, 0, 40, 300, 2000]);
        while value.len() < length {
            value.push('.');
        }
        value.into()
    }

    fn put(&mut self) -> PutRequest {
        PutRequest { key: self.key(), value: self.value(), prev_kv: self.draw.below(2) == 0, ..PutRequest::default() }
    }

    /// A key, its neighbours too, or all.
    fn span(&mut self) -> (Bytes, Bytes) {
        match self.draw.below(10) {
            0..6 => (self.key(), Bytes::new()),
            6..9 => {
                let (one, other) = (self.key(), self.key());
                if one < other { (one, other) } else { (other, Bytes::from_static(END)) }
            }
            _ => (Bytes::from_static(FIRST), Bytes::from_static(END)),
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (mut key, mut range_end) = (self.key(), Bytes::new());
        if self.draw.below(6) == 0 {
            (key, range_end) = self.span();
        }
        DeleteRangeRequest { key, range_end, prev_kv: self.draw.below(2) == 0 }
    }

    fn range(&mut self, serializable: bool, revision: i64) -> RangeRequest {
        let (key, range_end) = self.span();
        let limit = if self.draw.below(5) == 0 { 3 } else { 0 };
        let sort_order = *self.draw.pick(&[SortOrder::None, SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
        // Their mod revisions may be equal (one transaction), and etcd leaves the order of equals open.
        let sort_target = SortTarget::Key;
        RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable,
            ..RangeRequest::default()
        }
    }

    /// Whether a key is as this client last saw it; sometimes only whether it is there.
    fn compare(&mut self, key: Bytes) -> Compare {
        let seen = self.seen.get(&key).cloned().unwrap_or_default();
        let target = match self.draw.below(5) {
            0 if !seen.value.is_empty() => CompareTarget::Value(seen.value),
            1 => CompareTarget::Version(seen.version),
            2 => CompareTarget::Create(seen.create_revision),
            _ => CompareTarget::Mod(seen.mod_revision),
        };
        let result = *self.draw.pick(&[
            CompareResult::Equal,
            CompareResult::Equal,
            CompareResult::Equal,
            CompareResult::NotEqual,
            CompareResult::Greater,
            CompareResult::Less,
        ]);
        Compare { result, target, key, range_end: Bytes::new() }
    }

    /// Read, compare and set of one key; or several operations on different keys.
    fn txn(&mut self) -> TxnRequest {
        let read = |key: Bytes| RequestOp::Range(RangeRequest { key, ..RangeRequest::default() });
        let key = self.key();
        if self.draw.below(2) == 0 {
            let put = RequestOp::Put(PutRequest { key: key.clone(), value: self.value(), ..PutRequest::default() });
            return TxnRequest {
                compare: vec![self.compare(key.clone())],
                success: vec![put],
                failure: vec![read(key)],
            };
        }
        let mut keys = vec![key];
        for _ in 0..3 {
            let key = self.key();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let compare = if self.draw.below(2) == 0 {
            vec![]
        } else {
            keys.first().cloned().map(|key| self.compare(key)).into_iter().collect()
        };
        let mut success = Vec::new();
        for key in &keys {
            success.push(match self.draw.below(5) {
                0..3 => RequestOp::Put(PutRequest {
                    key: key.clone(),
                    value: self.value(),
                    prev_kv: self.draw.below(2) == 0,
                    ..PutRequest::default()
                }),
                3 => RequestOp::DeleteRange(DeleteRangeRequest {
                    key: key.clone(),
                    range_end: Bytes::new(),
                    prev_kv: true,
                }),
                _ => read(key.clone()),
            });
        }
        let (key, range_end) = self.span();
        success.push(RequestOp::Range(RangeRequest { key, range_end, ..RangeRequest::default() }));
        let failure = keys.first().cloned().map(read).into_iter().collect();
        TxnRequest { compare, success, failure }
    }
}
