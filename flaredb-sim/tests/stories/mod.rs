//! Right histories, made by running the state machine itself, to be spoiled by the tests.
#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use flaredb_kv::{
    ApplyEntry, Command, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue, Kv,
    KvError, MemoryStore, PutRequest, RangeRequest, RangeResponse, RequestOp, Response, ResponseBody, TxnRequest,
    TxnResponse,
};
use flaredb_sim::check::history::{FinalState, HistoryReport, check_history_from};
use flaredb_sim::history::{Op, Outcome, Record};
use flaredb_sim::observed::Violation;

pub fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> Command {
    Command::Put(PutRequest { key: b(key), value: b(value), prev_kv: true, ..Default::default() })
}

pub fn keep(key: &str) -> Command {
    Command::Put(PutRequest { key: b(key), ignore_value: true, ..Default::default() })
}

pub fn delete(key: &str) -> Command {
    Command::DeleteRange(DeleteRangeRequest { key: b(key), prev_kv: true, ..Default::default() })
}

pub fn delete_all() -> Command {
    Command::DeleteRange(DeleteRangeRequest { key: b("\0"), range_end: b("\0"), prev_kv: false })
}

pub fn compact(revision: i64) -> Command {
    Command::Compact(CompactRequest { revision, physical: false })
}

pub fn op(command: Command) -> RequestOp {
    match command {
        Command::Put(put) => RequestOp::Put(put),
        Command::DeleteRange(delete) => RequestOp::DeleteRange(delete),
        Command::Txn(txn) => RequestOp::Txn(txn),
        Command::Compact(_) => RequestOp::Nothing,
    }
}

pub fn version_is(key: &str, version: i64) -> Compare {
    let target = CompareTarget::Version(version);
    Compare { result: CompareResult::Equal, target, key: b(key), range_end: Bytes::new() }
}

pub fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> Command {
    Command::Txn(TxnRequest { compare, success, failure })
}

pub fn one(key: &str) -> RangeRequest {
    RangeRequest { key: b(key), ..Default::default() }
}

pub fn all() -> RangeRequest {
    RangeRequest { key: b("\0"), range_end: b("\0"), ..Default::default() }
}

/// Requests one after the other, 100 µs each with 100 µs between, each from a client of its own.
pub struct Story {
    pub first: FinalState,
    pub kv: Kv<MemoryStore>,
    pub records: Vec<Record>,
    pub last: Option<FinalState>,
}

impl Story {
    pub fn new() -> Self {
        let kv = Kv::open(MemoryStore::new()).unwrap();
        Self { first: FinalState { revision: 1, kvs: Vec::new() }, kv, records: Vec::new(), last: None }
    }

    /// Executes it without anybody having asked.
    pub fn execute(&mut self, command: &Command) -> Result<Response, KvError> {
        let mut outcomes = Vec::new();
        let index = self.kv.applied().index + 1;
        let entry = ApplyEntry { index, term: 1, command: Some((command.kind(), command.encode())) };
        self.kv.apply(&[entry], &mut outcomes).unwrap();
        outcomes.pop().unwrap()
    }

    pub fn add(&mut self, op: Op, outcome: Outcome) -> usize {
        let id = self.records.len() as u64;
        let invoked_at = 1000 + id * 200;
        let record = Record { id, client: id, node: 1, invoked_at, answered_at: invoked_at + 100, op, outcome };
        self.records.push(record);
        self.records.len() - 1
    }

    pub fn write(&mut self, command: Command) -> usize {
        let outcome = self.execute(&command);
        self.add(Op::Write(command), Outcome::Written(outcome))
    }

    /// Its outcome is unknown; it takes effect now.
    pub fn unknown(&mut self, command: Command) -> usize {
        let _ = self.execute(&command);
        self.add(Op::Write(command), Outcome::Unknown)
    }

    /// Its outcome is unknown; it takes no effect (yet).
    pub fn lost(&mut self, command: Command) -> usize {
        self.add(Op::Write(command), Outcome::Unknown)
    }

    pub fn never(&mut self, command: Command) -> usize {
        self.add(Op::Write(command), Outcome::Never)
    }

    pub fn read(&mut self, request: RangeRequest) -> usize {
        let reader = self.kv.reader();
        let result = reader.range(&request).unwrap();
        self.add(Op::Read(request), Outcome::Read { revision: reader.applied().revision, result })
    }

    pub fn state(&self) -> FinalState {
        let reader = self.kv.reader();
        FinalState { revision: reader.applied().revision, kvs: reader.range(&all()).unwrap().unwrap().kvs }
    }

    /// The content at the end, to be spoiled.
    pub fn last(&mut self) -> &mut FinalState {
        let state = self.state();
        self.last.get_or_insert(state)
    }

    /// Sent and answered at other times.
    pub fn at(&mut self, record: usize, invoked_at: u64, answered_at: u64) {
        (self.records[record].invoked_at, self.records[record].answered_at) = (invoked_at, answered_at);
    }

    pub fn response(&mut self, record: usize) -> &mut Response {
        match &mut self.records[record].outcome {
            Outcome::Written(Ok(response)) => response,
            other => panic!("not written: {other:?}"),
        }
    }

    pub fn txn_response(&mut self, record: usize) -> &mut TxnResponse {
        match &mut self.response(record).body {
            ResponseBody::Txn(txn) => txn,
            other => panic!("not a transaction's: {other:?}"),
        }
    }

    pub fn range(&mut self, record: usize) -> &mut RangeResponse {
        match &mut self.records[record].outcome {
            Outcome::Read { result: Ok(response), .. } => response,
            other => panic!("not read: {other:?}"),
        }
    }

    pub fn kv_of(&mut self, record: usize) -> &mut KeyValue {
        &mut self.range(record).kvs[0]
    }

    pub fn outcome(&mut self, record: usize) -> &mut Outcome {
        &mut self.records[record].outcome
    }

    pub fn judge(&self) -> Result<HistoryReport, Violation> {
        let last = self.last.clone().unwrap_or_else(|| self.state());
        check_history_from(&self.first, &self.records, &last)
    }
}
