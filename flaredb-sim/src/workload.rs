//! The clients of a run: what they ask, through which node, when. Each has one request under way; every value that is written
//! is written once, so that a read tells whose write it saw.
//!
//! What it is not: a judge. It keeps what a client would remember (revisions, versions of keys), to ask good questions, and
//! counts what it asked, so that a report can say what the workload was.
#![expect(clippy::indexing_slicing, reason = "clients and keys are numbered by this module, within their bounds")]

use crate::history::{Op, Outcome};
use crate::prf::Draw;
use crate::settings::WorkloadSettings;
use bytes::Bytes;
use flaredb_kv::{
    Command, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue, KvError, PutRequest,
    RangeRequest, RequestOp, ResponseBody, SortOrder, SortTarget, TxnRequest,
};

/// What clients asked and were told, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests sent, by kind.
    pub puts: u64,
    /// Of one key.
    pub deletes: u64,
    /// Of a range.
    pub range_deletes: u64,
    /// Transactions.
    pub txns: u64,
    /// Compactions.
    pub compactions: u64,
    /// Linearizable reads.
    pub linearizable_reads: u64,
    /// Serializable reads.
    pub serializable_reads: u64,
    /// Reads of an old revision at or above the last compaction that the clients know of.
    pub old_reads: u64,
    /// Reads below it.
    pub reads_below_compaction: u64,
    /// Reads of a revision that nobody has seen yet.
    pub future_reads: u64,
    /// Answers: applied or read.
    pub answered: u64,
    /// Answers: refused by the state machine.
    pub refused: u64,
    /// Answers: never takes effect.
    pub never: u64,
    /// Without an answer, or with one that says that the outcome is unknown.
    pub unknown: u64,
    /// Transactions whose comparisons held, of those answered.
    pub txns_succeeded: u64,
    /// Transactions whose comparisons did not hold.
    pub txns_failed: u64,
}

impl Figures {
    /// Name and value of each.
    pub fn all(&self) -> [(&'static str, u64); 16] {
        let Self {
            puts,
            deletes,
            range_deletes,
            txns,
            compactions,
            linearizable_reads,
            serializable_reads,
            old_reads,
            reads_below_compaction,
            future_reads,
            answered,
            refused,
            never,
            unknown,
            txns_succeeded,
            txns_failed,
        } = *self;
        [
            ("puts", puts),
            ("deletes", deletes),
            ("range_deletes", range_deletes),
            ("txns", txns),
            ("compactions", compactions),
            ("linearizable_reads", linearizable_reads),
            ("serializable_reads", serializable_reads),
            ("old_reads", old_reads),
            ("reads_below_compaction", reads_below_compaction),
            ("future_reads", future_reads),
            ("answered", answered),
            ("refused", refused),
            ("never", never),
            ("unknown", unknown),
            ("txns_succeeded", txns_succeeded),
            ("txns_failed", txns_failed),
        ]
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        self.puts += other.puts;
        self.deletes += other.deletes;
        self.range_deletes += other.range_deletes;
        self.txns += other.txns;
        self.compactions += other.compactions;
        self.linearizable_reads += other.linearizable_reads;
        self.serializable_reads += other.serializable_reads;
        self.old_reads += other.old_reads;
        self.reads_below_compaction += other.reads_below_compaction;
        self.future_reads += other.future_reads;
        self.answered += other.answered;
        self.refused += other.refused;
        self.never += other.never;
        self.unknown += other.unknown;
        self.txns_succeeded += other.txns_succeeded;
        self.txns_failed += other.txns_failed;
    }
}

/// A request under way.
#[derive(Clone, Debug)]
pub struct Current {
    /// Numbers the requests of a run; the ticket at the node too.
    pub id: u64,
    /// Through which node, from 0.
    pub node: usize,
    /// What.
    pub op: Op,
    /// When.
    pub invoked_at: u64,
    /// The node's answer, on its way back.
    pub answer: Option<Outcome>,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// What it asks.
    draw: Draw,
    /// When it asks, and what is lost on the way.
    pub timing: Draw,
    /// Where it asks.
    routing: Draw,
    node: usize,
    /// The request under way.
    pub current: Option<Current>,
    sent: u64,
    /// Requests without a pause that are left of a burst.
    burst: u64,
}

/// All clients, and what they have seen together.
#[derive(Debug)]
pub struct Workload {
    settings: WorkloadSettings,
    /// Of a thousand transactions so many fail half way.
    half_way: u64,
    voters: usize,
    /// From 0.
    pub clients: Vec<Client>,
    next_id: u64,
    /// Values made.
    values: u64,
    /// The highest revision that any of them was told.
    revision: i64,
    /// The highest revision that one of them compacted to.
    compacted: i64,
    /// Each key as it was last seen.
    seen: Vec<Option<KeyValue>>,
    /// In numbers.
    pub figures: Figures,
}

impl Workload {
    /// The clients of this seed.
    pub fn new(settings: &WorkloadSettings, seed: u64, voters: usize) -> Self {
        let client = |number| Client {
            draw: Draw::new(seed, "client", number),
            timing: Draw::new(seed, "client timing", number),
            routing: Draw::new(seed, "client routing", number),
            node: usize::try_from(number).unwrap_or(0) % voters,
            current: None,
            sent: 0,
            burst: 0,
        };
        Self {
            settings: settings.clone(),
            half_way: *Draw::new(seed, "transactions that fail half way", 0).pick(&[0, 0, 50, 250]),
            voters,
            clients: (0..settings.clients).map(client).collect(),
            next_id: 1,
            values: 0,
            revision: 1,
            compacted: 0,
            seen: vec![None; usize::try_from(settings.keys).unwrap_or(1)],
            figures: Figures::default(),
        }
    }

    /// How long the client waits until its next request.
    pub fn pause_us(&mut self, client: usize) -> u64 {
        let WorkloadSettings { think_us, bursts, .. } = self.settings;
        let client = &mut self.clients[client];
        if client.burst > 0 {
            client.burst -= 1;
            return client.timing.between(100, 2_000);
        }
        if bursts && client.timing.below(40) == 0 {
            client.burst = client.timing.between(5, 40);
        }
        client.timing.between(think_us / 10, 2 * think_us)
    }

    /// Makes the client's next request.
    pub fn next_request(&mut self, client: usize, now: u64) -> &Current {
        let op = self.draw_op(client);
        let id = self.next_id;
        self.next_id += 1;
        let client = &mut self.clients[client];
        if client.routing.below(8) == 0 {
            client.node = usize::try_from(client.routing.below(u64::try_from(self.voters).unwrap_or(1))).unwrap_or(0);
        }
        client.sent += 1;
        client.current.insert(Current { id, node: client.node, op, invoked_at: now, answer: None })
    }

    /// A request of the world's own, through a given node.
    pub fn probe(&mut self, client: usize, now: u64, node: usize, op: Op) -> &Current {
        let id = self.next_id;
        self.next_id += 1;
        self.clients[client].current.insert(Current { id, node, op, invoked_at: now, answer: None })
    }

    /// How many requests were made.
    pub fn requests(&self) -> u64 {
        self.next_id - 1
    }

    /// The client goes to another node: this one does not answer.
    pub fn move_on(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.node = (client.node + 1) % self.voters;
    }

    fn draw_op(&mut self, client: usize) -> Op {
        let weights = self.settings.weights;
        let mut place = self.clients[client].draw.below(weights.iter().sum());
        let mut kind = 0;
        for weight in weights {
            if place < weight {
                break;
            }
            place -= weight;
            kind += 1;
        }
        match kind {
            0 => {
                self.figures.puts += 1;
                Op::Write(Command::Put(self.put(client)))
            }
            1 => {
                self.figures.deletes += 1;
                let key = self.key(client);
                Op::Write(Command::DeleteRange(DeleteRangeRequest { key, range_end: Bytes::new(), prev_kv: true }))
            }
            2 => {
                self.figures.range_deletes += 1;
                Op::Write(Command::DeleteRange(self.range_delete(client)))
            }
            3 => {
                self.figures.txns += 1;
                Op::Write(Command::Txn(self.txn(client, 1)))
            }
            4 => {
                self.figures.compactions += 1;
                let back = i64::try_from(self.clients[client].draw.below(20)).unwrap_or(0) - 2;
                let revision = (self.revision - back).max(0);
                Op::Write(Command::Compact(CompactRequest { revision, physical: false }))
            }
            5 => {
                self.figures.linearizable_reads += 1;
                Op::Read(self.range(client, false))
            }
            _ => {
                self.figures.serializable_reads += 1;
                Op::Read(self.range(client, true))
            }
        }
    }

    fn key_number(&mut self, client: usize) -> usize {
        usize::try_from(self.clients[client].draw.below(self.settings.keys)).unwrap_or(0)
    }

    fn key(&mut self, client: usize) -> Bytes {
        key(self.key_number(client))
    }

    /// Key and end: one key, a part, or everything.
    fn span(&mut self, client: usize) -> (Bytes, Bytes) {
        let draw = &mut self.clients[client].draw;
        match draw.below(8) {
            0..4 => (self.key(client), Bytes::new()),
            4..6 => {
                let (a, b) = (self.key_number(client), self.key_number(client));
                (key(a.min(b)), key(a.max(b) + 1))
            }
            6 => (self.key(client), Bytes::from_static(b"\0")),
            _ => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        }
    }

    /// A value that nobody else writes.
    fn value(&mut self, client: usize) -> Bytes {
        self.values += 1;
        let (number, values, filled) = (self.next_id, self.values, self.settings.value_bytes);
        let client = &mut self.clients[client];
        let mut value = format!("r{number}.{values}").into_bytes();
        let length = usize::try_from(client.draw.below(filled + 1)).unwrap_or(0);
        value.resize(value.len().max(length), b'.');
        value.into()
    }

    fn put(&mut self, client: usize) -> PutRequest {
        let key = self.key(client);
        let value = self.value(client);
        let prev_kv = self.clients[client].draw.below(3) == 0;
        if self.clients[client].draw.below(40) == 0 {
            // Refused if the key is not there.
            return PutRequest { key, ignore_value: true, prev_kv, ..PutRequest::default() };
        }
        PutRequest { key, value, prev_kv, ..PutRequest::default() }
    }

    fn range_delete(&mut self, client: usize) -> DeleteRangeRequest {
        let (key, range_end) = self.span(client);
        DeleteRangeRequest { key, range_end, prev_kv: self.clients[client].draw.below(2) == 0 }
    }

    fn range(&mut self, client: usize, serializable: bool) -> RangeRequest {
        let (key, range_end) = self.span(client);
        let (revision, compacted) = (self.revision, self.compacted);
        let draw = &mut self.clients[client].draw;
        let asked = match draw.below(12) {
            0..8 => 0,
            8..11 => {
                let back = i64::try_from(draw.below(30)).unwrap_or(0);
                (revision - back).max(1)
            }
            _ => revision + i64::try_from(draw.below(4)).unwrap_or(0),
        };
        if asked > revision {
            self.figures.future_reads += 1;
        } else if asked > 0 && asked < compacted {
            self.figures.reads_below_compaction += 1;
        } else if asked > 0 {
            self.figures.old_reads += 1;
        }
        let limit = if draw.below(4) == 0 { i64::try_from(draw.between(1, 4)).unwrap_or(1) } else { 0 };
        let sort_order = *draw.pick(&[SortOrder::None, SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
        let sort_target = *draw.pick(&[SortTarget::Key, SortTarget::Key, SortTarget::Key, SortTarget::Mod]);
        let (keys_only, count_only) = (draw.below(16) == 0, draw.below(16) == 0);
        RangeRequest {
            key,
            range_end,
            limit,
            revision: asked,
            sort_order,
            sort_target,
            serializable,
            keys_only,
            count_only,
            ..RangeRequest::default()
        }
    }

    fn compare(&mut self, client: usize) -> Compare {
        let number = self.key_number(client);
        let (create, modified, version, value) = match &self.seen[number] {
            Some(kv) => (kv.create_revision, kv.mod_revision, kv.version, kv.value.clone()),
            None => (0, 0, 0, Bytes::new()),
        };
        let draw = &mut self.clients[client].draw;
        let target = match draw.below(4) {
            0 => CompareTarget::Version(version),
            1 => CompareTarget::Create(create),
            2 if !value.is_empty() => CompareTarget::Value(value),
            _ => CompareTarget::Mod(modified),
        };
        let result = *draw.pick(&[
            CompareResult::Equal,
            CompareResult::Equal,
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]);
        Compare { result, target, key: key(number), range_end: Bytes::new() }
    }

    fn txn(&mut self, client: usize, depth: u64) -> TxnRequest {
        let half_way = self.half_way > 0 && depth == 1 && self.clients[client].draw.below(1000) < self.half_way;
        let compares = if half_way { self.clients[client].draw.below(2) } else { self.clients[client].draw.below(3) };
        let compare = (0..compares).map(|_| self.compare(client)).collect();
        if half_way {
            let (success, failure) = (self.half_way_branch(client), self.half_way_branch(client));
            return TxnRequest { compare, success, failure };
        }
        // Different keys, or the whole would be refused; now and then it is.
        let mut free: Vec<usize> = (0..self.seen.len()).collect();
        let success = self.branch(client, depth, &mut free);
        let failure = self.branch(client, depth, &mut free);
        TxnRequest { compare, success, failure }
    }

    /// Operations that cannot all be executed, which shows only after the first of them have written: everything from a key on is
    /// deleted (the one kind of delete that may come before a put of the same key, as in etcd), then one of these keys is to keep
    /// its value or lease. Where that key was not there before, the whole is refused before it begins.
    fn half_way_branch(&mut self, client: usize) -> Vec<RequestOp> {
        let kept = self.key_number(client);
        let value = self.value(client);
        let draw = &mut self.clients[client].draw;
        let from = usize::try_from(draw.below(u64::try_from(kept + 1).unwrap_or(1))).unwrap_or(0);
        let mut ops = Vec::new();
        if from > 0 && draw.below(2) == 0 {
            let other = usize::try_from(draw.below(u64::try_from(from).unwrap_or(1))).unwrap_or(0);
            ops.push(RequestOp::Put(PutRequest { key: key(other), value: value.clone(), ..PutRequest::default() }));
        }
        let (key, end) = (key(kept), Bytes::from_static(b"\0"));
        let prev_kv = draw.below(3) == 0;
        ops.push(RequestOp::DeleteRange(DeleteRangeRequest { key: self::key(from), range_end: end, prev_kv }));
        let (ignore_value, nested) = (draw.below(2) == 0, draw.below(4) == 0);
        // The value is written once only.
        let put = if ignore_value || ops.len() > 1 {
            PutRequest { key, ignore_value: true, ..PutRequest::default() }
        } else {
            PutRequest { key, value, ignore_lease: true, ..PutRequest::default() }
        };
        let put = RequestOp::Put(put);
        ops.push(if nested { RequestOp::Txn(TxnRequest { success: vec![put], ..TxnRequest::default() }) } else { put });
        ops
    }

    fn branch(&mut self, client: usize, depth: u64, free: &mut Vec<usize>) -> Vec<RequestOp> {
        let count = self.clients[client].draw.below(4);
        let mut ops = Vec::new();
        for _ in 0..count {
            let draw = &mut self.clients[client].draw;
            let choice = draw.below(10);
            let number = if free.is_empty() || draw.below(50) == 0 {
                self.key_number(client)
            } else {
                let place = usize::try_from(draw.below(u64::try_from(free.len()).unwrap_or(1))).unwrap_or(0);
                free.swap_remove(place)
            };
            let prev_kv = self.clients[client].draw.below(3) == 0;
            ops.push(match choice {
                0..4 => {
                    let value = self.value(client);
                    RequestOp::Put(PutRequest { key: key(number), value, prev_kv, ..PutRequest::default() })
                }
                4..6 => {
                    RequestOp::DeleteRange(DeleteRangeRequest { key: key(number), range_end: Bytes::new(), prev_kv })
                }
                6 if depth < 3 => RequestOp::Txn(self.txn(client, depth + 1)),
                _ => {
                    let mut range = self.range(client, false);
                    if self.clients[client].draw.below(4) > 0 {
                        range.revision = 0;
                    }
                    RequestOp::Range(range)
                }
            });
        }
        ops
    }

    /// The client was told this: what it remembers of it.
    pub fn on_outcome(&mut self, op: &Op, outcome: &Outcome) {
        let figures = &mut self.figures;
        match outcome {
            Outcome::Written(Ok(response)) => {
                figures.answered += 1;
                self.revision = self.revision.max(response.revision);
                match (&response.body, op) {
                    (ResponseBody::Txn(txn), _) if txn.succeeded => figures.txns_succeeded += 1,
                    (ResponseBody::Txn(_), _) => figures.txns_failed += 1,
                    (ResponseBody::Compact, Op::Write(Command::Compact(compact))) => {
                        self.compacted = self.compacted.max(compact.revision);
                    }
                    _ => {}
                }
            }
            Outcome::Read { revision, result: Ok(range) } => {
                figures.answered += 1;
                self.revision = self.revision.max(*revision);
                if let Op::Read(asked) = op
                    && asked.revision == 0
                    && !asked.keys_only
                {
                    for kv in &range.kvs {
                        if let Some(number) = number_of(&kv.key).filter(|number| *number < self.seen.len()) {
                            self.seen[number] = Some(kv.clone());
                        }
                    }
                }
            }
            Outcome::Written(Err(_)) | Outcome::Read { result: Err(_), .. } => figures.refused += 1,
            Outcome::Never => figures.never += 1,
            Outcome::Unknown => figures.unknown += 1,
        }
        if matches!(outcome, Outcome::Read { result: Err(KvError::Compacted), .. }) {
            self.compacted = self.compacted.max(1);
        }
    }
}

fn key(number: usize) -> Bytes {
    format!("k{number:02}").into_bytes().into()
}

fn number_of(key: &[u8]) -> Option<usize> {
    std::str::from_utf8(key.strip_prefix(b"k")?).ok()?.parse().ok()
}
