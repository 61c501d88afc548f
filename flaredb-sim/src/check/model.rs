//! What the state machine should be, plainly: of every key all versions, and a command executed on them step by step.
//!
//! Written against etcd's documentation and independent of `flaredb-kv`'s apply (only the checks that look at a request alone
//! are shared), so that a mistake there shows. It keeps everything: compaction refuses reads but removes nothing.

use bytes::Bytes;
use flaredb_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, KeyValue, KvError, Limits,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, Response, ResponseBody, SortOrder, SortTarget,
    TxnRequest, TxnResponse,
};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The content at every revision.
#[derive(Clone, Debug)]
pub struct Model {
    revision: i64,
    compact_revision: i64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Revision and key of every change, in order: to take changes back.
    changes: Vec<(i64, Bytes)>,
}

/// A key from a revision on; None: absent.
#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    kv: Option<KeyValue>,
}

/// Apply holds requests against the rules, not against an operator's limits.
const RULES: Limits = Limits { request_bytes_max: usize::MAX, txn_ops_max: usize::MAX, txn_depth_max: 32 };

impl Default for Model {
    fn default() -> Self {
        Self::new(1, &[])
    }
}

impl Model {
    /// The content at `revision`; of what was before it nothing is known.
    pub fn new(revision: i64, content: &[KeyValue]) -> Self {
        let keys = content
            .iter()
            .map(|kv| (kv.key.clone(), vec![Version { revision: kv.mod_revision, kv: Some(kv.clone()) }]));
        Self { revision, compact_revision: -1, keys: keys.collect(), changes: Vec::new() }
    }

    /// The newest.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// A key as it is at a revision.
    pub fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        self.keys.get(key).and_then(|versions| version_at(versions, at))
    }

    /// True if the key is present (or absent, if `present` is false) at some revision of the range.
    pub fn ever(&self, key: &[u8], from: i64, to: i64, present: bool) -> bool {
        self.get(key, from).is_some() == present
            || self.keys.get(key).is_some_and(|versions| {
                let within = |version: &&Version| version.revision > from && version.revision <= to;
                versions.iter().filter(within).any(|version| version.kv.is_some() == present)
            })
    }

    /// Everything at a revision, by key.
    pub fn content(&self, at: i64) -> Vec<KeyValue> {
        self.keys.values().filter_map(|versions| version_at(versions, at)).cloned().collect()
    }

    /// The answer to a range at a revision, whatever revision the request itself asks for.
    pub fn range(&self, request: &RangeRequest, at: i64) -> RangeResponse {
        answer(self.span(&request.key, &request.range_end, at).cloned().collect(), request)
    }

    /// Takes back every change after `revision`, as if nothing had been executed since.
    pub fn undo_to(&mut self, revision: i64) {
        while let Some((_, key)) = self.changes.pop_if(|(at, _)| *at > revision) {
            if let Some(versions) = self.keys.get_mut(&key) {
                versions.pop();
                if versions.is_empty() {
                    self.keys.remove(&key);
                }
            }
        }
        self.revision = self.revision.min(revision);
    }

    /// The keys that the newest revision changed, some perhaps twice.
    pub fn changed_last(&self) -> impl Iterator<Item = &Bytes> {
        self.changes.iter().rev().take_while(|(at, _)| *at == self.revision).map(|(_, key)| key)
    }

    /// Executes a command as the next one of the log. A refused one changes nothing.
    ///
    /// # Errors
    /// The refusal that the client is told.
    pub fn execute(&mut self, command: &Command) -> Result<Response, KvError> {
        let begin = self.revision;
        let result = self.try_execute(command);
        let changed = self.changes.last().is_some_and(|(at, _)| *at > begin);
        match result {
            Ok(body) => {
                self.revision = begin + i64::from(changed);
                Ok(Response { revision: self.revision, body })
            }
            Err(refusal) => {
                self.undo_to(begin);
                Err(refusal)
            }
        }
    }

    fn try_execute(&mut self, command: &Command) -> Result<ResponseBody, KvError> {
        command.check(&RULES)?;
        Ok(match command {
            Command::Put(put) => {
                check_lease(put)?;
                ResponseBody::Put(self.put(put)?)
            }
            Command::DeleteRange(delete) => ResponseBody::DeleteRange(self.delete(delete)),
            Command::Txn(txn) => {
                self.check_puts(txn)?;
                self.check_ranges(txn)?;
                ResponseBody::Txn(self.txn(txn)?)
            }
            Command::Compact(compact) => {
                if compact.revision <= self.compact_revision {
                    return Err(KvError::Compacted);
                }
                if compact.revision > self.revision {
                    return Err(KvError::FutureRevision);
                }
                self.compact_revision = compact.revision;
                ResponseBody::Compact
            }
        })
    }

    /// The revision as the command at hand sees it.
    fn current(&self) -> i64 {
        self.changes.last().map_or(self.revision, |(at, _)| (*at).max(self.revision))
    }

    fn span<'a>(&'a self, key: &'a Bytes, end: &'a Bytes, at: i64) -> impl Iterator<Item = &'a KeyValue> {
        let inside = move |candidate: &Bytes| match end.as_ref() {
            [] => candidate == key,
            [0] => true,
            end => candidate.as_ref() < end,
        };
        self.keys
            .range(key.clone()..)
            .take_while(move |(candidate, _)| inside(candidate))
            .filter_map(move |(_, versions)| version_at(versions, at))
    }

    /// All comparisons, nested ones included, see the state before the transaction.
    fn holds(&self, txn: &TxnRequest) -> bool {
        txn.compare.iter().all(|compare| {
            let mut kvs = self.span(&compare.key, &compare.range_end, self.revision).peekable();
            if kvs.peek().is_none() {
                // A missing value is no value, not an empty one; everything else of an absent key is zero.
                let absent = KeyValue::default();
                return !matches!(compare.target, CompareTarget::Value(_)) && compares(compare, &absent);
            }
            kvs.all(|kv| compares(compare, kv))
        })
    }

    fn branch<'t>(&self, txn: &'t TxnRequest) -> &'t [RequestOp] {
        if self.holds(txn) { &txn.success } else { &txn.failure }
    }

    fn check_puts(&self, txn: &TxnRequest) -> Result<(), KvError> {
        for op in self.branch(txn) {
            match op {
                RequestOp::Put(put) => {
                    let must_exist = put.ignore_value || put.ignore_lease;
                    if must_exist && self.get(&put.key, self.revision).is_none() {
                        return Err(KvError::KeyNotFound);
                    }
                    check_lease(put)?;
                }
                RequestOp::Txn(inner) => self.check_puts(inner)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_ranges(&self, txn: &TxnRequest) -> Result<(), KvError> {
        for op in self.branch(txn) {
            match op {
                RequestOp::Range(range) if range.revision > self.revision => return Err(KvError::FutureRevision),
                RequestOp::Range(range) if range.revision != 0 && range.revision < self.compact_revision => {
                    return Err(KvError::Compacted);
                }
                RequestOp::Txn(inner) => self.check_ranges(inner)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn txn(&mut self, txn: &TxnRequest) -> Result<TxnResponse, KvError> {
        let succeeded = self.holds(txn);
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            let body = match op {
                RequestOp::Put(put) => ResponseBody::Put(self.put(put)?),
                RequestOp::DeleteRange(delete) => ResponseBody::DeleteRange(self.delete(delete)),
                RequestOp::Range(range) => {
                    let at = if range.revision > 0 { range.revision } else { self.current() };
                    ResponseBody::Range(self.range(range, at))
                }
                RequestOp::Txn(inner) => ResponseBody::Txn(self.txn(inner)?),
                RequestOp::Nothing => return Err(KvError::KeyNotFound),
            };
            // A nested transaction's answer has an empty header in etcd.
            let revision = if matches!(body, ResponseBody::Txn(_)) { 0 } else { self.current() };
            responses.push(Response { revision, body });
        }
        Ok(TxnResponse { succeeded, responses })
    }

    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, KvError> {
        let next = self.revision + 1;
        let previous = self.get(&put.key, next).cloned();
        if previous.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(KvError::KeyNotFound);
        }
        let (create_revision, version) = previous.as_ref().map_or((next, 1), |kv| (kv.create_revision, kv.version + 1));
        let value = match &previous {
            Some(kv) if put.ignore_value => kv.value.clone(),
            _ => put.value.clone(),
        };
        let lease = previous.as_ref().filter(|_| put.ignore_lease).map_or(put.lease, |kv| kv.lease);
        let kv = KeyValue { key: put.key.clone(), create_revision, mod_revision: next, version, value, lease };
        self.change(put.key.clone(), Some(kv));
        Ok(PutResponse { prev_kv: previous.filter(|_| put.prev_kv) })
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone: Vec<KeyValue> = self.span(&delete.key, &delete.range_end, self.revision + 1).cloned().collect();
        for kv in &gone {
            self.change(kv.key.clone(), None);
        }
        let deleted = i64::try_from(gone.len()).unwrap_or(i64::MAX);
        DeleteRangeResponse { deleted, prev_kvs: if delete.prev_kv { gone } else { Vec::new() } }
    }

    fn change(&mut self, key: Bytes, kv: Option<KeyValue>) {
        let revision = self.revision + 1;
        self.changes.push((revision, key.clone()));
        self.keys.entry(key).or_default().push(Version { revision, kv });
    }
}

fn version_at(versions: &[Version], at: i64) -> Option<&KeyValue> {
    let newest = versions.last().filter(|version| version.revision <= at);
    let before = || versions.partition_point(|version| version.revision <= at).checked_sub(1);
    newest.or_else(|| versions.get(before()?))?.kv.as_ref()
}

fn check_lease(put: &PutRequest) -> Result<(), KvError> {
    if put.lease == 0 { Ok(()) } else { Err(KvError::LeaseNotFound) }
}

fn compares(compare: &Compare, kv: &KeyValue) -> bool {
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

/// etcd's steps, one after the other: fetch (up to the limit, if nothing but the natural order is asked for), filter, sort, cut.
fn answer(mut kvs: Vec<KeyValue>, request: &RangeRequest) -> RangeResponse {
    let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
    if request.count_only {
        return RangeResponse { kvs: Vec::new(), more: false, count };
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let bounds =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    let natural = request.sort_order == SortOrder::None
        || (request.sort_target == SortTarget::Key && request.sort_order == SortOrder::Ascend);
    if let (Some(limit), true) = (limit, natural && bounds == [0; 4]) {
        kvs.truncate(limit.saturating_add(1));
    }
    let [mod_min, mod_max, create_min, create_max] = bounds;
    let within = |min: i64, value: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    kvs.retain(|kv| within(mod_min, kv.mod_revision, mod_max) && within(create_min, kv.create_revision, create_max));
    let by = |a: &KeyValue, b: &KeyValue| sort_order(request.sort_target, a, b);
    match request.sort_order {
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(by),
    }
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    if let (Some(limit), true) = (limit, more) {
        kvs.truncate(limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    RangeResponse { kvs, more, count }
}

fn sort_order(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}

/// True if `found` answers the request as well as `expected` does. etcd leaves the order of equals open where it sorts by
/// something else than the key, and then also which of them a limit cuts off.
pub fn same_range(request: &RangeRequest, found: &RangeResponse, expected: &RangeResponse) -> bool {
    if found == expected {
        return true;
    }
    let target = request.sort_target;
    if target == SortTarget::Key
        || (found.count, found.more, found.kvs.len()) != (expected.count, expected.more, expected.kvs.len())
    {
        return false;
    }
    let ranks_agree = found.kvs.iter().zip(&expected.kvs).all(|(a, b)| sort_order(target, a, b).is_eq());
    let by_key = |kvs: &[KeyValue]| kvs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect::<BTreeMap<_, _>>();
    // Without values there may be nothing left to compare the order of values with.
    let ranks_agree = ranks_agree || (request.keys_only && target == SortTarget::Value);
    ranks_agree && (found.more || by_key(&found.kvs) == by_key(&expected.kvs))
}

/// [`same_range`] for the answer to a write, ranges inside of transactions included.
pub fn same_response(command: &Command, found: &Response, expected: &Response) -> bool {
    found == expected
        || match (command, &found.body, &expected.body) {
            (Command::Txn(txn), ResponseBody::Txn(a), ResponseBody::Txn(b)) => {
                found.revision == expected.revision && same_txn(txn, a, b)
            }
            _ => false,
        }
}

fn same_txn(txn: &TxnRequest, found: &TxnResponse, expected: &TxnResponse) -> bool {
    let branch = if expected.succeeded { &txn.success } else { &txn.failure };
    found.succeeded == expected.succeeded
        && found.responses.len() == expected.responses.len()
        && branch.iter().zip(found.responses.iter().zip(&expected.responses)).all(|(op, (a, b))| {
            a.revision == b.revision
                && match (op, &a.body, &b.body) {
                    (RequestOp::Range(range), ResponseBody::Range(a), ResponseBody::Range(b)) => {
                        same_range(range, a, b)
                    }
                    (RequestOp::Txn(inner), ResponseBody::Txn(a), ResponseBody::Txn(b)) => same_txn(inner, a, b),
                    (_, a, b) => a == b,
                }
        })
}
