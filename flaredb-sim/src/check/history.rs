//! Strict serializability of a history of etcd's KV API, judged from the outside: from what clients asked and were told, and the
//! content at the end (I25 to I28, I31, I32). No log is needed, so it serves the simulator and real servers alike, etcd too.
//!
//! The revisions in the answers give the order of all writes, so nothing is searched: the writes are replayed by revision on
//! [`Model`](super::model::Model), every answer is compared with what the model says at its revision, and the order must agree with real time: what
//! was answered before another was sent comes before it. Only writes with an unknown outcome are placed by trying, where the
//! revisions leave a gap (`replay.rs`). O(n log n) while unknown writes can be told apart by what others saw of them.
//!
//! What it cannot decide: which of several unknown writes filled a gap if nobody saw a trace of either (any that fits is taken);
//! after too many tries it gives up and says so (`HistoryReport::undecided`). A refusal without a revision in its answer is
//! checked against every revision that its time allows. Serializable reads may be old: of them only the content and "not from
//! the future" are checked, for who answered them after which restart is not in a history. Two values written must differ, or
//! a value that was never written may look like another's.

use super::evidence::Evidence;
use super::replay::Replay;
use crate::history::{Op, Outcome, Record};
use crate::observed::Violation;
use flaredb_kv::{
    Command, KeyValue, KvError, RangeRequest, RequestOp, Response, ResponseBody, TxnRequest, TxnResponse,
};
use std::collections::BTreeMap;

/// All keys at a revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FinalState {
    /// The store's.
    pub revision: i64,
    /// By key.
    pub kvs: Vec<KeyValue>,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryReport {
    /// Requests in all.
    pub operations: u64,
    /// Answered writes that changed something.
    pub writes: u64,
    /// Answered reads, and writes that changed nothing.
    pub reads: u64,
    /// Writes with an unknown outcome.
    pub unknown: u64,
    /// Of these, the ones that took effect.
    pub unknown_placed: u64,
    /// The revision at which it was given up to find out which unknown writes took effect: nothing is said of the rest.
    pub undecided: Option<i64>,
}

/// Judges a history that began with an empty store (revision 1). `last` was read after everything else was answered.
///
/// # Errors
/// The first rule that is broken.
pub fn check_history(records: &[Record], last: &FinalState) -> Result<HistoryReport, Violation> {
    check_history_from(&FinalState { revision: 1, kvs: Vec::new() }, records, last)
}

/// As [`check_history`], for a store that was not empty. Reads of revisions before `first` are not judged.
///
/// # Errors
/// The first rule that is broken.
pub fn check_history_from(
    first: &FinalState,
    records: &[Record],
    last: &FinalState,
) -> Result<HistoryReport, Violation> {
    check_shape(records)?;
    let mut operations = Vec::with_capacity(records.len());
    for record in records {
        operations.push(Operation::of(record)?);
    }
    check_real_time(&mut operations, last)?;
    let evidence = Evidence::collect(&operations, first, last)?;
    evidence.check_writers(&operations, first)?;
    super::compaction::check(&operations, first)?;
    check_refusals(&operations)?;
    let replay = Replay::new(&operations, &evidence, first, last)?;
    let (unknown_placed, undecided) = replay.run()?;
    let count = |wanted: fn(&Place) -> bool| {
        u64::try_from(operations.iter().filter(|operation| wanted(&operation.place)).count()).unwrap_or(u64::MAX)
    };
    Ok(HistoryReport {
        operations: u64::try_from(records.len()).unwrap_or(u64::MAX),
        writes: count(|place| matches!(place, Place::Write(_))),
        reads: count(|place| matches!(place, Place::Look { .. })),
        unknown: count(|place| *place == Place::UnknownWrite),
        unknown_placed,
        undecided,
    })
}

pub(crate) fn violation(rule: &'static str, what: impl Into<String>) -> Violation {
    Violation { rule, what: what.into() }
}

/// Where the answer puts an operation in the order of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It made this revision.
    Write(i64),
    /// It saw this revision, and changed nothing.
    Look { revision: i64, linearizable: bool },
    /// Refused; the revision is not told.
    Refused,
    /// It has no place in the order.
    Never,
    /// It may have one.
    UnknownWrite,
    /// A read that nobody knows the answer of.
    Nothing,
}

/// A record with its place and what real time says of it.
#[derive(Clone, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) record: &'a Record,
    pub(crate) place: Place,
    /// The highest revision in a linearizable answer given before this was sent: it must not be older.
    pub(crate) seen_before: i64,
    /// The same over all answers: a write comes after it.
    pub(crate) known_before: i64,
    /// The highest revision it can have, because of what was sent after its answer.
    pub(crate) at_most: i64,
}

impl<'a> Operation<'a> {
    fn of(record: &'a Record) -> Result<Self, Violation> {
        let place = match (&record.op, &record.outcome) {
            (Op::Write(command), Outcome::Written(Ok(response))) => {
                if !fits(command, &response.body) {
                    return Err(violation(
                        "write-answer",
                        format!("{}: the answer is another request's", Name(record)),
                    ));
                }
                if changes(&response.body) {
                    Place::Write(response.revision)
                } else {
                    Place::Look { revision: response.revision, linearizable: true }
                }
            }
            (Op::Write(_), Outcome::Written(Err(_))) => Place::Refused,
            (Op::Read(request), Outcome::Read { revision, result }) => match result {
                Err(_) if *revision == 0 => Place::Refused,
                _ => Place::Look { revision: *revision, linearizable: !request.serializable },
            },
            (Op::Write(_), Outcome::Never) => Place::Never,
            (Op::Write(_), Outcome::Unknown) => Place::UnknownWrite,
            (Op::Read(_), Outcome::Never | Outcome::Unknown) => Place::Nothing,
            (Op::Write(_), Outcome::Read { .. }) | (Op::Read(_), Outcome::Written(_)) => {
                return Err(violation("history-shape", format!("{}: the answer is of another kind", Name(record))));
            }
        };
        Ok(Self { record, place, seen_before: 0, known_before: 0, at_most: i64::MAX })
    }

    /// Its command, if it is a write.
    pub(crate) fn command(&self) -> Option<&'a Command> {
        match &self.record.op {
            Op::Write(command) => Some(command),
            Op::Read(_) => None,
        }
    }

    pub(crate) fn refused_for_no_reason(&self) -> Violation {
        let what = format!("{}: refused with {:?}, for no reason", Name(self.record), self.record.outcome);
        violation("refusal", what)
    }

    /// False if its answer is of no time: it may take effect whenever.
    fn ends(&self) -> bool {
        !matches!(self.place, Place::UnknownWrite | Place::Nothing)
    }
}

/// A record as reports name it.
pub(crate) struct Name<'a>(pub(crate) &'a Record);

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Record { id, client, node, invoked_at, answered_at, op, .. } = self.0;
        write!(f, "request {id} (client {client}, n{node}, {invoked_at}..{answered_at}) {op:?}")
    }
}

fn fits(command: &Command, body: &ResponseBody) -> bool {
    matches!(
        (command, body),
        (Command::Put(_), ResponseBody::Put(_))
            | (Command::DeleteRange(_), ResponseBody::DeleteRange(_))
            | (Command::Txn(_), ResponseBody::Txn(_))
            | (Command::Compact(_), ResponseBody::Compact)
    )
}

/// True if a write with this answer made a revision.
pub(crate) fn changes(body: &ResponseBody) -> bool {
    match body {
        ResponseBody::Put(_) => true,
        ResponseBody::DeleteRange(delete) => delete.deleted > 0,
        ResponseBody::Txn(txn) => txn.responses.iter().any(|response| changes(&response.body)),
        ResponseBody::Range(_) | ResponseBody::Compact => false,
    }
}

/// Visits the operations of a transaction that ran, each with its answer.
pub(crate) fn each_op<'a>(
    txn: &'a TxnRequest,
    answer: &'a TxnResponse,
    visit: &mut dyn FnMut(&'a RequestOp, &'a Response),
) {
    let branch = if answer.succeeded { &txn.success } else { &txn.failure };
    for (op, response) in branch.iter().zip(&answer.responses) {
        match (op, &response.body) {
            (RequestOp::Txn(inner), ResponseBody::Txn(answer)) => each_op(inner, answer, visit),
            _ => visit(op, response),
        }
    }
}

/// Ids are used once, time does not run backwards, and a client waits for its answer.
fn check_shape(records: &[Record]) -> Result<(), Violation> {
    let mut ids = std::collections::BTreeSet::new();
    let mut by_client: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in records {
        if !ids.insert(record.id) {
            return Err(violation("history-shape", format!("{}: answered twice", Name(record))));
        }
        if record.outcome.is_definite() {
            if record.answered_at < record.invoked_at {
                return Err(violation("history-shape", format!("{}: answered before it was sent", Name(record))));
            }
            by_client.entry(record.client).or_default().push(record);
        }
    }
    for of_client in by_client.values_mut() {
        of_client.sort_by_key(|record| (record.invoked_at, record.answered_at));
        for (one, next) in of_client.iter().zip(of_client.iter().skip(1)) {
            if next.invoked_at < one.answered_at {
                let what = format!("{}: sent while {} was under way", Name(next), Name(one));
                return Err(violation("history-shape", what));
            }
        }
    }
    Ok(())
}

/// What was answered before another was sent comes before it. Notes for each operation which revisions its time allows.
fn check_real_time(operations: &mut [Operation<'_>], last: &FinalState) -> Result<(), Violation> {
    /// Revision, linearizable, answered at, sent at, place in the list.
    type Placed = (i64, bool, u64, u64, usize);
    let placed = |(number, operation): (usize, &Operation<'_>)| -> Option<Placed> {
        let (revision, linearizable) = match operation.place {
            Place::Write(revision) => (revision, true),
            Place::Look { revision, linearizable } => (revision, linearizable),
            _ => return None,
        };
        Some((revision, linearizable, operation.record.answered_at, operation.record.invoked_at, number))
    };
    let mut answered: Vec<Placed> = operations.iter().enumerate().filter_map(placed).collect();
    for (revision, .., number) in &answered {
        let Some(operation) = operations.get(*number).filter(|_| *revision > last.revision) else { continue };
        let rule = if matches!(operation.place, Place::Write(_)) { "lost-write" } else { "future-read" };
        let what = format!("{}: revision {revision}, but the last is {}", Name(operation.record), last.revision);
        return Err(violation(rule, what));
    }
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|number| operations.get(*number).map(|operation| operation.record.invoked_at));

    // Forward in time: what was known when each was sent.
    answered.sort_by_key(|(.., at, _, _)| *at);
    let mut next = answered.iter().peekable();
    let (mut seen, mut known): ((i64, usize), (i64, usize)) = ((0, usize::MAX), (0, usize::MAX));
    for number in &order {
        let Some(invoked_at) = operations.get(*number).map(|operation| operation.record.invoked_at) else { continue };
        while let Some((revision, linearizable, .., other)) = next.next_if(|(.., at, _, _)| *at < invoked_at) {
            if *linearizable && *revision > seen.0 {
                seen = (*revision, *other);
            }
            if *revision > known.0 {
                known = (*revision, *other);
            }
        }
        let Some(operation) = operations.get_mut(*number) else { continue };
        (operation.seen_before, operation.known_before) = (seen.0, known.0);
        let (wrong, revision, earlier) = match operation.place {
            Place::Write(revision) => (revision <= known.0, revision, known),
            Place::Look { revision, linearizable: true } => (revision < seen.0, revision, seen),
            _ => continue,
        };
        if wrong {
            let rule = if matches!(operation.record.op, Op::Read(_)) { "stale-read" } else { "real-time" };
            let this = Name(operation.record).to_string();
            let other = operations.get(earlier.1).map(|other| Name(other.record).to_string()).unwrap_or_default();
            let what = format!("{this} got revision {revision}, but before it was sent {other} had got {}", earlier.0);
            return Err(violation(rule, what));
        }
    }

    // Backward: what was sent after each was answered is not before it.
    let mut sent: Vec<Placed> = answered.into_iter().filter(|(_, linearizable, ..)| *linearizable).collect();
    sent.sort_by_key(|(.., at, _)| std::cmp::Reverse(*at));
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order
        .sort_by_key(|number| std::cmp::Reverse(operations.get(*number).map(|operation| operation.record.answered_at)));
    let mut next = sent.iter().peekable();
    let mut at_most = last.revision;
    for number in order {
        let Some(answered_at) = operations.get(number).filter(|o| o.ends()).map(|o| o.record.answered_at) else {
            continue;
        };
        while let Some((revision, .., other)) = next.next_if(|(.., at, _)| *at > answered_at) {
            let is_write = operations.get(*other).is_some_and(|other| matches!(other.place, Place::Write(_)));
            at_most = at_most.min(revision - i64::from(is_write));
        }
        if let Some(operation) = operations.get_mut(number) {
            operation.at_most = at_most;
        }
    }
    Ok(())
}

/// A refusal must have been right at some revision that its time allows. Here those that only the request and its time decide.
fn check_refusals(operations: &[Operation<'_>]) -> Result<(), Violation> {
    for operation in operations {
        let right = match (&operation.record.op, &operation.record.outcome) {
            (Op::Write(command), Outcome::Written(Err(error))) => {
                refused_rightly(command, *error, operation.seen_before)
            }
            (Op::Read(request), Outcome::Read { revision, result: Err(error) }) => {
                read_refused_rightly(request, *error, *revision, operation)
            }
            _ => true,
        };
        if !right {
            return Err(operation.refused_for_no_reason());
        }
    }
    Ok(())
}

fn refused_rightly(command: &Command, error: KvError, seen_before: i64) -> bool {
    let any = |reason: &dyn Fn(&RequestOp) -> bool| {
        let mut any = false;
        each_request(command, &mut |op| any |= reason(op));
        any
    };
    match error {
        KvError::FutureRevision => match command {
            Command::Compact(compact) => compact.revision > seen_before,
            _ => any(&|op| matches!(op, RequestOp::Range(range) if range.revision > seen_before)),
        },
        KvError::EmptyKey | KvError::DuplicateKey | KvError::ValueProvided | KvError::LeaseProvided => {
            command.check(&flaredb_kv::Limits::default()) == Err(error)
        }
        KvError::LeaseNotFound => any(&|op| matches!(op, RequestOp::Put(put) if put.lease != 0)),
        // These depend on the state (`replay.rs`), on compactions, or on the operator's limits.
        KvError::KeyNotFound
        | KvError::Compacted
        | KvError::TooManyOps
        | KvError::InvalidSortOption
        | KvError::RequestTooLarge
        | KvError::Malformed => true,
    }
}

fn read_refused_rightly(request: &RangeRequest, error: KvError, revision: i64, operation: &Operation<'_>) -> bool {
    match error {
        KvError::FutureRevision if revision > 0 => request.revision > revision,
        KvError::FutureRevision => request.serializable || request.revision > operation.seen_before,
        KvError::EmptyKey => request.key.is_empty(),
        KvError::Compacted => true,
        _ => false,
    }
}

/// Visits every operation of a command, whichever branch it stands in.
pub(crate) fn each_request(command: &Command, visit: &mut dyn FnMut(&RequestOp)) {
    fn of_txn(txn: &TxnRequest, visit: &mut dyn FnMut(&RequestOp)) {
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                RequestOp::Txn(inner) => of_txn(inner, visit),
                other => visit(other),
            }
        }
    }
    match command {
        Command::Put(put) => visit(&RequestOp::Put(put.clone())),
        Command::DeleteRange(delete) => visit(&RequestOp::DeleteRange(delete.clone())),
        Command::Txn(txn) => of_txn(txn, visit),
        Command::Compact(_) => {}
    }
}
