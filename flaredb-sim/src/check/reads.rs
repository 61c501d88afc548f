//! I18, I25: a linearizable read is not older than anything that was acknowledged before it was sent, and a read index not lower than
//! what was committed when it was asked for. Every read returns exactly the content at its revision. Serializable reads of one
//! life of a node do not go back.

use super::ledger::Ledger;
use super::mirror::Mirror;
use super::model::same_range;
use super::violation;
use crate::history::{Op, Outcome, Record};
use crate::observed::Violation;
use flaredb_kv::{Command, KvError, RangeRequest, RangeResponse};
use flaredb_raft::{Body, Message};
use std::collections::{BTreeMap, VecDeque};

/// Read indexes under way that are kept.
const ASKS_MAX: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Asked {
    revision: i64,
    compacted: i64,
    /// Of the node: its life, and the newest state it had shown.
    incarnation: u64,
    shown: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// The newest revision, and the highest compaction, that anybody was told of.
    acknowledged: i64,
    compacted: i64,
    asked: BTreeMap<u64, Asked>,
    /// By node: life and newest revision shown.
    shown: BTreeMap<u64, (u64, i64)>,
    /// What was committed when a read index was asked for: by asker, leader and id.
    indexes: BTreeMap<(u64, u64, u64), u64>,
    order: VecDeque<(u64, u64, u64)>,
}

impl Reads {
    pub(crate) fn delivered(&mut self, message: &Message, committed: u64) {
        if let Body::ReadIndex { id } = message.body {
            let ask = (message.from, message.to, id);
            if self.indexes.insert(ask, committed).is_none_or(|earlier| {
                // A repeated question may be answered as the first.
                self.indexes.insert(ask, earlier);
                false
            }) {
                self.order.push_back(ask);
            }
            if self.order.len() > ASKS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.indexes.remove(&oldest);
            }
        }
    }

    pub(crate) fn sent(&self, message: &Message) -> Result<(), Violation> {
        let Body::ReadIndexResponse { id, index: Some(index) } = message.body else { return Ok(()) };
        match self.indexes.get(&(message.to, message.from, id)) {
            Some(committed) if index < *committed => {
                let what =
                    format!("n{}@{} answers read index {index}, {committed} was committed", message.from, message.term);
                Err(violation("read-index", what))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn invoked(&mut self, mirror: &Mirror, id: u64, node: u64, op: &Op) -> Result<(), Violation> {
        if let Op::Read(_) = op {
            let incarnation = mirror.node(node)?.incarnation;
            let shown = self.shown.get(&node).filter(|(life, _)| *life == incarnation).map_or(0, |(_, shown)| *shown);
            let Self { acknowledged: revision, compacted, .. } = *self;
            self.asked.insert(id, Asked { revision, compacted, incarnation, shown });
        }
        Ok(())
    }

    pub(crate) fn answered(&mut self, mirror: &Mirror, ledger: &Ledger, record: &Record) -> Result<(), Violation> {
        let asked = self.asked.remove(&record.id);
        match (&record.op, &record.outcome) {
            (Op::Write(command), Outcome::Written(Ok(response))) => {
                self.acknowledged = self.acknowledged.max(response.revision);
                if let Command::Compact(compact) = command {
                    self.compacted = self.compacted.max(compact.revision);
                }
            }
            (Op::Read(request), Outcome::Read { revision, result }) => {
                let Some(asked) = asked else {
                    return Err(violation("reads", format!("request {} was not asked", record.id)));
                };
                let same_life = mirror.node(record.node)?.incarnation == asked.incarnation;
                let at_least = match (request.serializable, same_life) {
                    (true, true) => asked.shown,
                    (true, false) => 0,
                    (false, true) => asked.revision.max(asked.shown),
                    (false, false) => asked.revision,
                };
                if *revision < at_least {
                    let what = format!(
                        "request {} {request:?} was answered at revision {revision}, {at_least} was known",
                        record.id
                    );
                    return Err(violation("reads", what));
                }
                if !right(ledger, request, *revision, result, &asked) {
                    let what = format!("request {} {request:?} was told {result:?} at revision {revision}", record.id);
                    return Err(violation("reads", what));
                }
                if same_life {
                    let shown = self.shown.entry(record.node).or_default();
                    if shown.0 != asked.incarnation {
                        *shown = (asked.incarnation, 0);
                    }
                    shown.1 = shown.1.max(*revision);
                }
                if !request.serializable {
                    self.acknowledged = self.acknowledged.max(*revision);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn right(
    ledger: &Ledger,
    request: &RangeRequest,
    revision: i64,
    result: &Result<RangeResponse, KvError>,
    asked: &Asked,
) -> bool {
    if revision > ledger.model.revision() {
        return false;
    }
    let (least, most) = ledger.compacted_at(revision);
    let least = if request.serializable { least } else { least.max(asked.compacted) };
    match result {
        Ok(found) => {
            let at = if request.revision > 0 { request.revision } else { revision };
            let readable = request.revision <= 0 || (at <= revision && at >= least);
            readable && same_range(request, found, &ledger.model.range(request, at))
        }
        Err(KvError::Compacted) => request.revision > 0 && request.revision < most,
        Err(KvError::FutureRevision) => request.revision > revision,
        Err(KvError::EmptyKey) => request.key.is_empty(),
        Err(_) => false,
    }
}
