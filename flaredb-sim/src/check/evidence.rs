//! What clients saw of each key: every key-value pair in an answer tells which revision wrote it, when the key came into being
//! and how often it was put since. It tells where a write with an unknown outcome has its place, and that a value was visible
//! that nobody may have written.

use super::history::{FinalState, Name, Operation, Place, each_op, each_request, violation};
use crate::history::{Op, Outcome};
use crate::observed::Violation;
use bytes::Bytes;
use flaredb_kv::{
    Command, CompareResult, CompareTarget, KeyValue, RangeRequest, RequestOp, Response, ResponseBody, TxnRequest,
};
use std::collections::{BTreeMap, BTreeSet};

/// One sight of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sight {
    pub(crate) mod_revision: i64,
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    /// None if it was not asked for.
    pub(crate) value: Option<Bytes>,
}

/// All sights.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// By key and mod revision, each state of a key once (with the value, if anybody asked for it).
    keys: BTreeMap<Bytes, BTreeMap<i64, Sight>>,
    /// Keys that were seen to be written at a revision, or created.
    touched: BTreeMap<i64, BTreeSet<Bytes>>,
    /// Revisions at which answered writes put a key.
    puts: BTreeMap<Bytes, Vec<i64>>,
    /// Where a value was seen to be written.
    values: BTreeMap<Bytes, BTreeSet<i64>>,
    /// Keys that were perhaps put without a new value.
    kept: BTreeSet<Bytes>,
    /// Values of two puts: they tell nothing of whose they are.
    ambiguous: BTreeSet<Bytes>,
    /// Values that transactions compare with.
    compared: BTreeSet<Bytes>,
    /// Keys, and ends of ranges, whose values are compared by order: there also a value that nobody saw tells something.
    ordered: BTreeSet<(Bytes, Bytes)>,
}

impl Evidence {
    /// Everything that is in the answers, in the first and in the last content.
    pub(crate) fn collect(
        operations: &[Operation<'_>],
        first: &FinalState,
        last: &FinalState,
    ) -> Result<Self, Violation> {
        let mut evidence = Self::default();
        for operation in operations {
            let Some(command) = operation.command() else { continue };
            if let Command::Txn(txn) = command {
                evidence.note_compared(txn);
            }
            each_request(command, &mut |op| {
                if let RequestOp::Put(put) = op
                    && put.ignore_value
                {
                    evidence.kept.insert(put.key.clone());
                }
            });
        }
        for kv in first.kvs.iter().chain(&last.kvs) {
            evidence.see(kv, true, last.revision).map_err(|what| violation("final-content", what))?;
        }
        let mut written: BTreeSet<Bytes> = first.kvs.iter().map(|kv| kv.value.clone()).collect();
        for operation in operations {
            if let Some(command) = operation.command() {
                each_request(command, &mut |op| {
                    if let RequestOp::Put(put) = op
                        && !written.insert(put.value.clone())
                    {
                        evidence.ambiguous.insert(put.value.clone());
                    }
                });
            }
            evidence
                .see_operation(operation)
                .map_err(|what| violation("revision-rules", format!("{}: {what}", Name(operation.record))))?;
        }
        for puts in evidence.puts.values_mut() {
            puts.sort_unstable();
        }
        Ok(evidence)
    }

    fn note_compared(&mut self, txn: &TxnRequest) {
        for compare in &txn.compare {
            if let CompareTarget::Value(value) = &compare.target {
                self.compared.insert(value.clone());
                if matches!(compare.result, CompareResult::Greater | CompareResult::Less) {
                    self.ordered.insert((compare.key.clone(), compare.range_end.clone()));
                }
            }
        }
        for op in txn.success.iter().chain(&txn.failure) {
            if let RequestOp::Txn(inner) = op {
                self.note_compared(inner);
            }
        }
    }

    fn see_operation(&mut self, operation: &Operation<'_>) -> Result<(), String> {
        match (&operation.record.op, &operation.record.outcome) {
            (Op::Read(request), Outcome::Read { revision, result: Ok(response) }) => {
                let newest = if request.revision > 0 { request.revision } else { *revision };
                for kv in &response.kvs {
                    self.see(kv, !request.keys_only, newest)?;
                }
            }
            (Op::Write(command), Outcome::Written(Ok(response))) => match (command, &response.body) {
                (Command::Put(put), _) => self.see_op(&RequestOp::Put(put.clone()), response, response)?,
                (Command::DeleteRange(delete), _) => {
                    self.see_op(&RequestOp::DeleteRange(delete.clone()), response, response)?;
                }
                (Command::Txn(txn), ResponseBody::Txn(answer)) => {
                    let mut result = Ok(());
                    each_op(txn, answer, &mut |op, inner| {
                        if result.is_ok() {
                            result = self.see_op(op, inner, response);
                        }
                    });
                    result?;
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn see_op(&mut self, op: &RequestOp, response: &Response, whole: &Response) -> Result<(), String> {
        match (op, &response.body) {
            (RequestOp::Put(put), ResponseBody::Put(answer)) => {
                self.puts.entry(put.key.clone()).or_default().push(whole.revision);
                if let Some(kv) = &answer.prev_kv {
                    self.see(kv, true, whole.revision)?;
                }
            }
            (RequestOp::DeleteRange(_), ResponseBody::DeleteRange(answer)) => {
                for kv in &answer.prev_kvs {
                    self.see(kv, true, whole.revision)?;
                }
            }
            (RequestOp::Range(RangeRequest { keys_only, .. }), ResponseBody::Range(answer)) => {
                for kv in &answer.kvs {
                    self.see(kv, !keys_only, whole.revision)?;
                }
            }
            _ => return Err("the answer to an operation of a transaction is of another kind".into()),
        }
        Ok(())
    }

    /// I27: the numbers of a key fit together.
    fn see(&mut self, kv: &KeyValue, with_value: bool, newest: i64) -> Result<(), String> {
        let KeyValue { create_revision, mod_revision, version, .. } = *kv;
        let sound = 1 <= create_revision
            && create_revision <= mod_revision
            && mod_revision <= newest
            && version >= 1
            && (version == 1) == (create_revision == mod_revision);
        if !sound {
            return Err(format!("at revision {newest} a key cannot be {kv:?}"));
        }
        self.touched.entry(mod_revision).or_default().insert(kv.key.clone());
        self.touched.entry(create_revision).or_default().insert(kv.key.clone());
        let value = with_value.then(|| kv.value.clone());
        if let Some(value) = &value {
            if self.kept.contains(&kv.key) {
                self.ambiguous.insert(value.clone());
            }
            self.values.entry(value.clone()).or_default().insert(mod_revision);
        }
        let sights = self.keys.entry(kv.key.clone()).or_default();
        let sight = sights.entry(mod_revision).or_insert_with(|| Sight {
            mod_revision,
            create_revision,
            version,
            value: value.clone(),
        });
        if sight.value.is_none() {
            sight.value = value;
        }
        Ok(())
    }

    /// Every value that was seen was written by somebody, and not only by requests that have no effect.
    pub(crate) fn check_writers(&self, operations: &[Operation<'_>], first: &FinalState) -> Result<(), Violation> {
        let mut writers: BTreeMap<Bytes, (bool, Option<&Operation<'_>>)> = BTreeMap::new();
        for kv in &first.kvs {
            writers.insert(kv.value.clone(), (true, None));
        }
        for operation in operations {
            let Some(command) = operation.command() else { continue };
            let has_effect = !matches!(operation.place, Place::Never | Place::Refused);
            each_request(command, &mut |op| {
                if let RequestOp::Put(put) = op
                    && !put.ignore_value
                {
                    let writer = writers.entry(put.value.clone()).or_insert((false, None));
                    writer.0 |= has_effect;
                    writer.1 = writer.1.or(Some(operation));
                }
            });
        }
        for (value, revisions) in &self.values {
            let Some(revision) = revisions.range(first.revision + 1..).next() else { continue };
            match writers.get(value) {
                Some((true, _)) => {}
                Some((false, Some(operation))) => {
                    let what = format!("its value is there since revision {revision}: {}", Name(operation.record));
                    return Err(violation("never-visible", what));
                }
                _ => return Err(violation("unwritten-value", format!("{value:?} is there since revision {revision}"))),
            }
        }
        Ok(())
    }

    /// The keys that the write of this revision must have changed.
    pub(crate) fn touched(&self, revision: i64) -> impl Iterator<Item = (&Bytes, Option<&Sight>)> {
        let keys = self.touched.get(&revision).into_iter().flatten();
        keys.map(move |key| (key, self.keys.get(key).and_then(|sights| sights.get(&revision))))
    }

    /// True if nobody saw this value of this key, neither in an answer nor by comparing with it.
    pub(crate) fn is_unseen(&self, key: &Bytes, value: &Bytes) -> bool {
        let covers = |(start, end): &(Bytes, Bytes)| match end.as_ref() {
            [] => start == key,
            [0] => start <= key,
            _ => start <= key && key < end,
        };
        !self.values.contains_key(value) && !self.compared.contains(value) && !self.ordered.iter().any(covers)
    }

    /// Where this value was seen to be written; None if nobody saw it, or if it is the value of several puts.
    pub(crate) fn written_at(&self, value: &Bytes) -> Option<&BTreeSet<i64>> {
        self.values.get(value).filter(|_| !self.ambiguous.contains(value))
    }

    /// The next state of the key after a revision that somebody saw.
    pub(crate) fn next_sight(&self, key: &[u8], after: i64) -> Option<&Sight> {
        self.keys.get(key)?.range(after + 1..).next().map(|(_, sight)| sight)
    }

    /// How many answered writes put the key after `after`, up to `to`.
    pub(crate) fn puts_between(&self, key: &[u8], after: i64, to: i64) -> i64 {
        let Some(puts) = self.puts.get(key) else { return 0 };
        let up_to = |revision: i64| puts.partition_point(|put| *put <= revision);
        i64::try_from(up_to(to) - up_to(after)).unwrap_or(i64::MAX)
    }
}
