//! Random histories against a naive model: the full state of every revision, kept in a vector.
//!
//! Along the way: batch boundaries, restarts and the progress of physical compaction change nothing, and two members that
//! apply the same entries hold the same content.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::*;
use flaredb_kv::{
    ApplyEntry, Command, CompactProgress, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    DeleteRangeResponse, KeyValue, Kv, KvError, KvReader, Limits, MemoryReader, MemoryStore, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeSummary, RequestOp, Response, ResponseBody, SortOrder, SortTarget, TxnRequest,
    TxnResponse,
};

type State = BTreeMap<Bytes, KeyValue>;

/// What the state machine should be: slow and plain.
#[derive(Clone)]
struct Model {
    /// Index = revision.
    states: Vec<State>,
    compact: i64,
}

/// A command in progress.
struct Step {
    begin: i64,
    changed: bool,
    state: State,
}

impl Model {
    fn new() -> Self {
        Self { states: vec![State::new(), State::new()], compact: -1 }
    }

    fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    fn newest(&self) -> &State {
        self.states.last().unwrap()
    }

    fn apply(&mut self, command: &Command) -> Result<Response, KvError> {
        let mut step = Step { begin: self.revision(), changed: false, state: self.newest().clone() };
        let body = match command {
            Command::Put(put) => {
                if put.key.is_empty() {
                    return Err(KvError::EmptyKey);
                }
                if put.lease != 0 {
                    return Err(KvError::LeaseNotFound);
                }
                ResponseBody::Put(step.put(put)?)
            }
            Command::DeleteRange(delete) => ResponseBody::DeleteRange(step.delete(delete)),
            Command::Compact(compact) => {
                if compact.revision <= self.compact {
                    return Err(KvError::Compacted);
                }
                if compact.revision > self.revision() {
                    return Err(KvError::FutureRevision);
                }
                self.compact = compact.revision;
                ResponseBody::Compact
            }
            Command::Txn(txn) => {
                txn.check(&Limits { request_bytes_max: usize::MAX, txn_ops_max: 1000, txn_depth_max: 32 })?;
                self.check_puts(txn)?;
                self.check_ranges(txn)?;
                ResponseBody::Txn(self.txn(txn, &mut step)?)
            }
        };
        if step.changed {
            self.states.push(step.state);
        }
        Ok(Response { revision: self.revision(), body })
    }

    fn check_ranges(&self, txn: &TxnRequest) -> Result<(), KvError> {
        let branch = if self.holds(txn) { &txn.success } else { &txn.failure };
        for op in branch {
            match op {
                RequestOp::Range(range) if range.revision > self.revision() => return Err(KvError::FutureRevision),
                RequestOp::Range(range) if range.revision != 0 && range.revision < self.compact => {
                    return Err(KvError::Compacted);
                }
                RequestOp::Txn(inner) => self.check_ranges(inner)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_puts(&self, txn: &TxnRequest) -> Result<(), KvError> {
        let branch = if self.holds(txn) { &txn.success } else { &txn.failure };
        for op in branch {
            match op {
                RequestOp::Put(put)
                    if (put.ignore_value || put.ignore_lease) && !self.newest().contains_key(&put.key) =>
                {
                    return Err(KvError::KeyNotFound);
                }
                RequestOp::Put(put) if put.lease != 0 => return Err(KvError::LeaseNotFound),
                RequestOp::Txn(inner) => self.check_puts(inner)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn holds(&self, txn: &TxnRequest) -> bool {
        txn.compare.iter().all(|compare| {
            let kvs = in_span(self.newest(), &compare.key, &compare.range_end);
            if kvs.is_empty() {
                return !matches!(compare.target, CompareTarget::Value(_))
                    && compare_one(compare, &KeyValue::default());
            }
            kvs.iter().all(|kv| compare_one(compare, kv))
        })
    }

    fn txn(&self, txn: &TxnRequest, step: &mut Step) -> Result<TxnResponse, KvError> {
        let succeeded = self.holds(txn);
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            let mut body = match op {
                RequestOp::Put(put) => ResponseBody::Put(step.put(put)?),
                RequestOp::DeleteRange(delete) => ResponseBody::DeleteRange(step.delete(delete)),
                RequestOp::Range(range) if range.revision > 0 => {
                    ResponseBody::Range(answer(&self.states[range.revision as usize], range))
                }
                RequestOp::Range(range) => ResponseBody::Range(answer(&step.state, range)),
                RequestOp::Txn(inner) => ResponseBody::Txn(self.txn(inner, step)?),
                RequestOp::Nothing => return Err(KvError::KeyNotFound),
            };
            let revision = match &mut body {
                ResponseBody::Txn(_) => 0,
                _ => step.begin + i64::from(step.changed),
            };
            responses.push(Response { revision, body });
        }
        Ok(TxnResponse { succeeded, responses })
    }

    fn range(&self, request: &RangeRequest, pinned: i64, compact: i64) -> Result<RangeResponse, KvError> {
        let revision = match request.revision {
            revision if revision > pinned => return Err(KvError::FutureRevision),
            revision if revision <= 0 => pinned,
            revision if revision < compact => return Err(KvError::Compacted),
            revision => revision,
        };
        Ok(answer(&self.states[revision as usize], request))
    }
}

impl Step {
    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, KvError> {
        let previous = self.state.get(&put.key).cloned();
        let new = match &previous {
            None if put.ignore_value || put.ignore_lease => return Err(KvError::KeyNotFound),
            None => KeyValue {
                key: put.key.clone(),
                create_revision: self.begin + 1,
                mod_revision: self.begin + 1,
                version: 1,
                value: put.value.clone(),
                lease: put.lease,
            },
            Some(previous) => KeyValue {
                mod_revision: self.begin + 1,
                version: previous.version + 1,
                value: if put.ignore_value { previous.value.clone() } else { put.value.clone() },
                lease: put.lease,
                ..previous.clone()
            },
        };
        self.changed = true;
        self.state.insert(put.key.clone(), new);
        Ok(PutResponse { prev_kv: previous.filter(|_| put.prev_kv) })
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone = in_span(&self.state, &delete.key, &delete.range_end);
        for kv in &gone {
            self.state.remove(&kv.key);
        }
        self.changed |= !gone.is_empty();
        DeleteRangeResponse { deleted: gone.len() as i64, prev_kvs: if delete.prev_kv { gone } else { Vec::new() } }
    }
}

fn in_span(state: &State, key: &Bytes, end: &Bytes) -> Vec<KeyValue> {
    let inside = |candidate: &Bytes| match end.as_ref() {
        [] => candidate == key,
        [0] => candidate >= key,
        end => candidate >= key && candidate.as_ref() < end,
    };
    state.values().filter(|kv| inside(&kv.key)).cloned().collect()
}

fn compare_one(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(version) => kv.version.cmp(version),
        CompareTarget::Create(revision) => kv.create_revision.cmp(revision),
        CompareTarget::Mod(revision) => kv.mod_revision.cmp(revision),
        CompareTarget::Value(value) => kv.value.cmp(value),
        CompareTarget::Lease(lease) => kv.lease.cmp(lease),
    };
    match compare.result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}

/// etcd's steps, one after the other: fetch (with the limit, if nothing but the natural order is asked for), filter, sort, cut.
fn answer(state: &State, request: &RangeRequest) -> RangeResponse {
    let mut kvs = in_span(state, &request.key, &request.range_end);
    let count = kvs.len() as i64;
    if request.count_only {
        return RangeResponse { kvs: Vec::new(), more: false, count };
    }
    let bounds =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    let natural = request.sort_order == SortOrder::None
        || (request.sort_target == SortTarget::Key && request.sort_order == SortOrder::Ascend);
    if natural && bounds == [0; 4] && request.limit > 0 {
        kvs.truncate((request.limit as usize).saturating_add(1));
    }
    kvs.retain(|kv| {
        (bounds[0] == 0 || kv.mod_revision >= bounds[0])
            && (bounds[1] == 0 || kv.mod_revision <= bounds[1])
            && (bounds[2] == 0 || kv.create_revision >= bounds[2])
            && (bounds[3] == 0 || kv.create_revision <= bounds[3])
    });
    let by = |a: &KeyValue, b: &KeyValue| match request.sort_target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match request.sort_order {
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
        _ => kvs.sort_by(by),
    }
    let more = request.limit > 0 && kvs.len() as i64 > request.limit;
    if more {
        kvs.truncate(request.limit as usize);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    RangeResponse { kvs, more, count }
}

const KEYS: [&[u8]; 12] =
    [b"a", b"a\0", b"a\0\0", b"ab", b"b", b"\0", b"\0\xff", b"\xff", b"\xff\xff", b"c", b"c\0d", b"\x01"];

fn any_key(random: &mut Random) -> Bytes {
    bytes(random.pick(&KEYS))
}

fn any_end(random: &mut Random) -> Bytes {
    match random.below(4) {
        0 | 1 => Bytes::new(),
        2 if random.one_in(3) => bytes(b"\0"),
        _ => any_key(random),
    }
}

fn any_value(random: &mut Random) -> Bytes {
    // The last one so long that scans do not step over it.
    bytes(random.pick(&["", "1", "2", "a somewhat longer value", &"long".repeat(600)]))
}

fn any_put(random: &mut Random) -> PutRequest {
    let mut put = PutRequest { key: any_key(random), value: any_value(random), ..Default::default() };
    put.prev_kv = random.one_in(3);
    put.ignore_value = random.one_in(8);
    if put.ignore_value {
        put.value = Bytes::new();
    }
    put.ignore_lease = random.one_in(8);
    if random.one_in(30) && !put.ignore_lease {
        put.lease = 77;
    }
    put
}

fn any_delete(random: &mut Random) -> DeleteRangeRequest {
    DeleteRangeRequest { key: any_key(random), range_end: any_end(random), prev_kv: random.one_in(2) }
}

/// Both ways of reading, which must agree.
fn read(reader: &KvReader<MemoryReader>, request: &RangeRequest) -> Result<RangeResponse, KvError> {
    let copied = reader.range(request).unwrap();
    let shown = |steps_max| {
        let mut kvs = Vec::new();
        let summary = reader.range_rows(request, steps_max, |row| kvs.push(row.to_key_value())).unwrap();
        summary.map(|summary| summary.map(|RangeSummary { more, count }| RangeResponse { kvs, more, count }))
    };
    let whole = copied.clone().map(Some);
    assert_eq!(shown(usize::MAX), whole, "{request:?}");
    // All of it or nothing.
    for steps_max in [0, 1, 3, 10, 30] {
        let few = shown(steps_max);
        assert!(few == whole || few == Ok(None), "{request:?} in {steps_max} steps: {few:?}");
    }
    copied
}

fn any_range(random: &mut Random, newest: i64) -> RangeRequest {
    let bound = |random: &mut Random| if random.one_in(4) { random.between(1, newest + 1) } else { 0 };
    RangeRequest {
        key: any_key(random),
        range_end: if random.one_in(3) {
            Bytes::new()
        } else {
            random.pick(&[bytes(b"\0"), any_key_static(3), any_key_static(9)]).clone()
        },
        limit: if random.one_in(2) { random.between(-1, 5) } else { 0 },
        revision: if random.one_in(3) { random.between(-1, newest + 1) } else { 0 },
        sort_order: *random.pick(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]),
        sort_target: *random.pick(&[
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ]),
        serializable: random.one_in(2),
        keys_only: random.one_in(4),
        count_only: random.one_in(6),
        min_mod_revision: bound(random),
        max_mod_revision: bound(random),
        min_create_revision: bound(random),
        max_create_revision: bound(random),
    }
}

fn any_key_static(index: usize) -> Bytes {
    bytes(KEYS[index])
}

fn any_compare(random: &mut Random, newest: i64) -> Compare {
    Compare {
        result: *random.pick(&[
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]),
        target: match random.below(5) {
            0 => CompareTarget::Version(random.between(0, 3)),
            1 => CompareTarget::Create(random.between(0, newest)),
            2 => CompareTarget::Mod(random.between(0, newest)),
            3 => CompareTarget::Value(any_value(random)),
            _ => CompareTarget::Lease(0),
        },
        key: any_key(random),
        range_end: any_end(random),
    }
}

fn any_txn(random: &mut Random, newest: i64, depth: u64) -> TxnRequest {
    let ops = |random: &mut Random| -> Vec<RequestOp> {
        (0..random.below(5))
            .map(|_| match random.below(8) {
                0..=2 => RequestOp::Put(any_put(random)),
                3 => RequestOp::DeleteRange(any_delete(random)),
                4 if depth < 3 => RequestOp::Txn(any_txn(random, newest, depth + 1)),
                _ => RequestOp::Range(any_range(random, newest)),
            })
            .collect()
    };
    let (success, failure) = (ops(random), ops(random));
    TxnRequest { compare: (0..random.below(3)).map(|_| any_compare(random, newest)).collect(), success, failure }
}

fn any_command(random: &mut Random, newest: i64, compact: i64) -> Command {
    match random.below(40) {
        0..=15 => Command::Put(any_put(random)),
        16..=22 => Command::DeleteRange(any_delete(random)),
        23..=38 => Command::Txn(any_txn(random, newest, 1)),
        _ => {
            let revision = random.between(compact - 1, newest + 1);
            Command::Compact(CompactRequest { revision, physical: random.one_in(2) })
        }
    }
}

/// A reader that was kept, with what it must show for ever.
struct Kept {
    reader: KvReader<MemoryReader>,
    pinned: i64,
    compact: i64,
}

/// Returns what kinds of outcomes occurred, to know that the generator reaches them.
fn history(seed: u64, steps: usize) -> BTreeMap<String, usize> {
    let mut random = Random(seed);
    let mut model = Model::new();
    let mut kv = Kv::open(MemoryStore::new()).unwrap();
    let mut entries: Vec<ApplyEntry> = Vec::new();
    let mut kept: Vec<Kept> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for step in 0..steps {
        let context = || format!("seed {seed:#x}, step {step}");
        let mut expected = Vec::new();
        let mut batch = Vec::new();
        for _ in 0..=random.below(6) {
            let index = kv.applied().index + 1 + batch.len() as u64;
            if random.one_in(50) {
                batch.push(ApplyEntry { index, term: 1, command: None });
                expected.push(Ok(Response { revision: model.revision(), body: ResponseBody::Compact }));
                continue;
            }
            let command = any_command(&mut random, model.revision(), model.compact);
            batch.push(entry(index, &command));
            let outcome = model.apply(&command);
            let kind = match &outcome {
                Ok(_) => format!("{:?} ok", command.kind()),
                Err(error) => format!("{:?} {error:?}", command.kind()),
            };
            *seen.entry(kind).or_default() += 1;
            expected.push(outcome);
        }
        let mut twin = Kv::open(kv.store().clone()).unwrap();
        let mut outcomes = Vec::new();
        kv.apply(&batch, &mut outcomes).unwrap();
        for (i, (found, wanted)) in outcomes.iter().zip(&expected).enumerate() {
            assert_eq!(found, wanted, "{}, entry {i} of {:?}", context(), batch[i]);
        }
        assert_eq!(outcomes.len(), expected.len());
        let applied = kv.applied();
        assert_eq!((applied.revision, applied.compact_revision), (model.revision(), model.compact), "{}", context());
        if step % 16 == 0 {
            // I29: a second member, one entry at a time.
            for one in &batch {
                twin.apply(std::slice::from_ref(one), &mut outcomes).unwrap();
            }
            assert_eq!(rows(twin.store()), rows(kv.store()), "{}: row for row the same", context());
        }
        entries.extend(batch);

        for _ in 0..3 {
            let request = any_range(&mut random, model.revision());
            let found = read(&kv.reader(), &request);
            assert_eq!(found, model.range(&request, model.revision(), model.compact), "{}: {request:?}", context());
        }
        let read_only = TxnRequest {
            compare: vec![any_compare(&mut random, model.revision())],
            success: vec![RequestOp::Range(any_range(&mut random, model.revision()))],
            failure: vec![RequestOp::Range(any_range(&mut random, model.revision()))],
        };
        let found = kv.reader().txn(&read_only).unwrap();
        assert_eq!(found, model.apply(&Command::Txn(read_only.clone())), "{}: {read_only:?}", context());

        if let Some(old) = (!kept.is_empty()).then(|| random.pick(&kept)) {
            let request = any_range(&mut random, old.pinned);
            let found = read(&old.reader, &request);
            assert_eq!(
                found,
                model.range(&request, old.pinned, old.compact),
                "{}: a kept reader, {request:?}",
                context()
            );
        }
        match random.below(12) {
            0 => kept.push(Kept { reader: kv.reader(), pinned: model.revision(), compact: model.compact }),
            1 => kept.clear(),
            2 => {
                // A restart drops all readers.
                kept.clear();
                kv = Kv::open(kv.store().clone()).unwrap();
                assert_eq!(kv.applied(), applied, "{}: a restart forgets nothing", context());
            }
            3..=8 => {
                let old_reader = kept.iter().any(|kept| kept.compact < model.compact);
                let hash = kv.reader().hash(0).unwrap();
                let progress = kv.compact_step(1 + random.below(20) as usize).unwrap();
                assert_eq!(kv.reader().hash(0).unwrap(), hash, "{}: removal is not content", context());
                assert!(
                    !old_reader || progress == CompactProgress::More { rows: 0 } || progress == CompactProgress::Done
                );
                *seen.entry(format!("{:?}", std::mem::discriminant(&progress))).or_default() += 1;
            }
            _ => {}
        }
    }
    drop(kept);
    replays_agree(seed, &entries, &mut kv, &model);
    seen
}

/// The whole history again: in one batch, one by one, and with all compaction done.
fn replays_agree(seed: u64, entries: &[ApplyEntry], kv: &mut Kv<MemoryStore>, model: &Model) {
    let mut outcomes = Vec::new();
    // How many keys are remembered changes nothing either.
    let mut at_once = Kv::open(MemoryStore::new()).unwrap().remember_keys(8);
    at_once.apply(entries, &mut outcomes).unwrap();
    let mut one_by_one = Kv::open(MemoryStore::new()).unwrap().remember_keys(0);
    let mut single = Vec::new();
    for (entry, wanted) in entries.iter().zip(&outcomes) {
        one_by_one.apply(std::slice::from_ref(entry), &mut single).unwrap();
        assert_eq!(&single[0], wanted, "seed {seed:#x}: batch boundaries change no answer");
        if entry.index % 3 == 0 {
            one_by_one.compact_step(7).unwrap();
        }
    }
    assert_eq!((at_once.applied(), one_by_one.applied()), (kv.applied(), kv.applied()));
    for revision in model.compact.max(1)..=model.revision() {
        let hash = kv.reader().hash(revision).unwrap().unwrap();
        assert_eq!(at_once.reader().hash(revision).unwrap(), Ok(hash), "seed {seed:#x}, revision {revision}");
        assert_eq!(one_by_one.reader().hash(revision).unwrap(), Ok(hash), "seed {seed:#x}, revision {revision}");
    }
    // Physically compacted to the end, all three hold the same rows, and no more than they need.
    let mut compacted = Vec::new();
    for kv in [&mut *kv, &mut at_once, &mut one_by_one] {
        while kv.compact_step(5).unwrap() != CompactProgress::Done {}
        compacted.push(rows(kv.store()).into_iter().filter(|(key, _)| key != "mcompaction").collect::<Vec<_>>());
    }
    assert_eq!(compacted[0], compacted[1], "seed {seed:#x}");
    assert_eq!(compacted[0], compacted[2], "seed {seed:#x}");
    if model.compact > 0 {
        let all = RangeRequest { key: bytes(b"\0"), range_end: bytes(b"\0"), ..Default::default() };
        for revision in model.compact..=model.revision() {
            let request = RangeRequest { revision, ..all.clone() };
            assert_eq!(read(&kv.reader(), &request), model.range(&request, model.revision(), model.compact));
        }
    }
}

#[test]
fn i29_random_histories_match_the_model() {
    let seeds = std::env::var("FLAREDB_KV_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..seeds {
        for (kind, count) in history(0xf1a_0000 + seed, 250) {
            *seen.entry(kind).or_default() += count;
        }
    }
    for kind in [
        "Put ok",
        "Put LeaseNotFound",
        "Put KeyNotFound",
        "DeleteRange ok",
        "Txn ok",
        "Txn DuplicateKey",
        "Txn FutureRevision",
        "Txn Compacted",
        "Txn KeyNotFound",
        "Txn LeaseNotFound",
        "Compact ok",
        "Compact Compacted",
        "Compact FutureRevision",
    ] {
        assert!(seen.get(kind).is_some_and(|count| *count > 3), "the generator reaches {kind}: {seen:?}");
    }
}
