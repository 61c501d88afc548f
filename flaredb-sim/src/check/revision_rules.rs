//! I26, I27: a command that changes something raises the revision by one, any other not at all; the revisions a client is told never
//! fall; of a key create <= mod <= revision, and its version is 1 exactly when it was just created.

use super::history::changes;
use super::ledger::Outcome as Applied;
use super::violation;
use crate::history::{Op, Outcome, Record};
use crate::observed::Violation;
use flaredb_kv::{AppliedState, KeyValue, ResponseBody};
use std::collections::BTreeMap;

/// One entry was applied.
pub(crate) fn entry(before: &AppliedState, after: &AppliedState, outcome: Option<&Applied>) -> Result<(), Violation> {
    let changed = outcome.is_some_and(|outcome| outcome.as_ref().is_ok_and(|response| changes(&response.body)));
    if after.revision != before.revision + i64::from(changed) || after.compact_revision < before.compact_revision {
        let what = format!("entry {} led from {before:?} to {after:?} with {outcome:?}", after.index);
        return Err(violation("revision-rules", what));
    }
    Ok(())
}

/// What each client was told last.
#[derive(Debug, Default)]
pub(crate) struct RevisionRules {
    told: BTreeMap<u64, i64>,
}

impl RevisionRules {
    pub(crate) fn answered(&mut self, record: &Record) -> Result<(), Violation> {
        let revision = match (&record.op, &record.outcome) {
            (_, Outcome::Written(Ok(response))) => {
                each_kv(&response.body, &mut |kv| sound(record, kv, response.revision))?;
                response.revision
            }
            (Op::Read(request), Outcome::Read { revision, result }) => {
                for kv in result.iter().flat_map(|range| &range.kvs) {
                    sound(record, kv, *revision)?;
                }
                if request.serializable {
                    return Ok(());
                }
                *revision
            }
            _ => return Ok(()),
        };
        let told = self.told.entry(record.client).or_insert(revision);
        if revision < *told {
            let what = format!(
                "client {} was told revision {told}, and now {revision} (request {})",
                record.client, record.id
            );
            return Err(violation("revision-rules", what));
        }
        *told = revision;
        Ok(())
    }
}

fn sound(record: &Record, kv: &KeyValue, revision: i64) -> Result<(), Violation> {
    let KeyValue { create_revision, mod_revision, version, .. } = *kv;
    let holds = 1 < create_revision
        && create_revision <= mod_revision
        && mod_revision <= revision
        && version >= 1
        && (version == 1) == (create_revision == mod_revision);
    if holds {
        return Ok(());
    }
    Err(violation("revision-rules", format!("request {} was told, at revision {revision}, of {kv:?}", record.id)))
}

fn each_kv(body: &ResponseBody, visit: &mut dyn FnMut(&KeyValue) -> Result<(), Violation>) -> Result<(), Violation> {
    match body {
        ResponseBody::Put(put) => put.prev_kv.iter().try_for_each(visit),
        ResponseBody::DeleteRange(delete) => delete.prev_kvs.iter().try_for_each(visit),
        ResponseBody::Range(range) => range.kvs.iter().try_for_each(visit),
        ResponseBody::Txn(txn) => txn.responses.iter().try_for_each(|response| each_kv(&response.body, visit)),
        ResponseBody::Compact => Ok(()),
    }
}
