//! The writes of a history again, revision by revision, and at each revision what was seen there. A revision without an answered
//! write is a gap: an unknown write must have made it. Those that fit are tried, the most urgent first; a contradiction later
//! takes the last choice back.

use super::evidence::{Evidence, Sight};
use super::history::{FinalState, Name, Operation, Place, each_request, violation};
use super::model::{Model, same_range, same_response};
use crate::history::{Op, Outcome};
use crate::observed::Violation;
use bytes::Bytes;
use flaredb_kv::{Command, KvError, RequestOp};
use std::collections::{BTreeMap, BTreeSet};

/// Candidates tried in all before it is given up.
const TRIES_MAX: u64 = 500_000;

pub(crate) struct Replay<'a> {
    evidence: &'a Evidence,
    first: i64,
    last: &'a FinalState,
    /// By revision.
    writers: BTreeMap<i64, &'a Operation<'a>>,
    /// By revision.
    looks: BTreeMap<i64, Vec<&'a Operation<'a>>>,
    /// Writes that were told that a key is not there, by the last revision at which that can have been.
    not_found: BTreeMap<i64, Vec<&'a Operation<'a>>>,
    /// By the time they were sent.
    unknown: Vec<Unknown<'a>>,
    /// By the values they may write.
    unknown_by_value: BTreeMap<Bytes, Vec<usize>>,
    model: Model,
    choices: Vec<Choice>,
    tries: u64,
    /// Where it got to, with the contradiction there: the one that is reported if there is no way on.
    deepest: Option<(i64, Violation)>,
}

/// A write that may have had effect, with what never changes of it while gaps are filled.
struct Unknown<'a> {
    operation: &'a Operation<'a>,
    command: &'a Command,
    /// It has a place.
    placed: bool,
    /// Where each of its values that was seen was seen to be written.
    seen: Vec<&'a BTreeSet<i64>>,
    /// Writes that differ in nothing that anybody saw: one of each kind is enough.
    kind: Option<Kind<'a>>,
}

type Kind<'a> = (&'static str, &'a Bytes, Option<&'a Bytes>);

/// A gap that was filled.
struct Choice {
    revision: i64,
    /// Whose turn it is, and who is left, last first.
    taken: usize,
    left: Vec<usize>,
}

impl<'a> Replay<'a> {
    /// Nothing is replayed yet. Two writes of one revision are refused here.
    pub(crate) fn new(
        operations: &'a [Operation<'a>],
        evidence: &'a Evidence,
        first: &FinalState,
        last: &'a FinalState,
    ) -> Result<Self, Violation> {
        let mut writers: BTreeMap<i64, &Operation<'_>> = BTreeMap::new();
        let mut looks: BTreeMap<i64, Vec<&Operation<'_>>> = BTreeMap::new();
        let mut not_found: BTreeMap<i64, Vec<&Operation<'_>>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for operation in operations {
            match operation.place {
                Place::Write(revision) => {
                    if revision <= first.revision {
                        let what = format!("{}: revision {revision} was there before", Name(operation.record));
                        return Err(violation("revision-reuse", what));
                    }
                    if let Some(other) = writers.insert(revision, operation) {
                        let (a, b) = (Name(other.record), Name(operation.record));
                        return Err(violation("revision-reuse", format!("{revision} was given to {a} and to {b}")));
                    }
                }
                Place::Look { revision, .. } => looks.entry(revision).or_default().push(operation),
                Place::UnknownWrite => unknown.extend(Unknown::new(operation, evidence)),
                Place::Refused => {
                    if operation.record.outcome == Outcome::Written(Err(KvError::KeyNotFound)) {
                        let at_most = operation.at_most.clamp(first.revision, last.revision);
                        not_found.entry(at_most).or_default().push(operation);
                    }
                }
                Place::Never | Place::Nothing => {}
            }
        }
        unknown.sort_by_key(|unknown| unknown.operation.record.invoked_at);
        let mut unknown_by_value: BTreeMap<Bytes, Vec<usize>> = BTreeMap::new();
        for (number, unknown) in unknown.iter().enumerate() {
            each_request(unknown.command, &mut |op| {
                if let RequestOp::Put(put) = op {
                    unknown_by_value.entry(put.value.clone()).or_default().push(number);
                }
            });
        }
        let model = Model::new(first.revision, &first.kvs);
        let first = first.revision;
        Ok(Self {
            evidence,
            first,
            last,
            writers,
            looks,
            not_found,
            unknown,
            unknown_by_value,
            model,
            choices: Vec::new(),
            tries: 0,
            deepest: None,
        })
    }

    /// How many unknown writes took effect, and where it was given up.
    pub(crate) fn run(mut self) -> Result<(u64, Option<i64>), Violation> {
        let mut revision = self.first;
        let mut result = self.look(revision);
        loop {
            if let Err(violation) = result {
                if self.is_deepest(revision) {
                    self.deepest = Some((revision, violation));
                }
                if self.tries > TRIES_MAX {
                    return Ok((self.placed(), Some(revision)));
                }
                match self.choose_again() {
                    Some(earlier) => revision = earlier,
                    None => {
                        return Err(self.deepest.map_or_else(|| violation_of_nothing(revision), |(_, first)| first));
                    }
                }
            } else if revision >= self.last.revision {
                result = self.compare_last();
                if result.is_ok() {
                    return Ok((self.placed(), None));
                }
                continue;
            } else {
                revision += 1;
                result = self.write(revision);
                if result.is_err() {
                    continue;
                }
            }
            result = self.look(revision);
        }
    }

    fn is_deepest(&self, revision: i64) -> bool {
        self.deepest.as_ref().is_none_or(|(at, _)| revision > *at)
    }

    /// Trying finds contradictions all the time, and only the deepest is reported: only that one is put into words.
    fn contradiction(&self, revision: i64, rule: &'static str, what: impl FnOnce() -> String) -> Violation {
        violation(rule, if self.is_deepest(revision) { what() } else { String::new() })
    }

    fn placed(&self) -> u64 {
        u64::try_from(self.unknown.iter().filter(|unknown| unknown.placed).count()).unwrap_or(u64::MAX)
    }

    /// Goes back to the last gap that can be filled otherwise, and does so.
    fn choose_again(&mut self) -> Option<i64> {
        while let Some(mut choice) = self.choices.pop() {
            self.mark(choice.taken, false);
            if let Some(next) = choice.left.pop() {
                self.model.undo_to(choice.revision - 1);
                self.tries += 1;
                let command = self.unknown.get(next)?.command;
                // It was executed before, in the same state.
                let _ = self.model.execute(command);
                self.mark(next, true);
                choice.taken = next;
                let revision = choice.revision;
                self.choices.push(choice);
                return Some(revision);
            }
        }
        None
    }

    fn mark(&mut self, number: usize, placed: bool) {
        if let Some(unknown) = self.unknown.get_mut(number) {
            unknown.placed = placed;
        }
    }

    fn write(&mut self, revision: i64) -> Result<(), Violation> {
        let Some(operation) = self.writers.get(&revision).copied() else { return self.fill(revision) };
        let (Some(command), Outcome::Written(Ok(found))) = (operation.command(), &operation.record.outcome) else {
            return Ok(());
        };
        match self.model.execute(command) {
            Ok(expected) if self.model.revision() == revision && same_response(command, found, &expected) => Ok(()),
            expected => {
                let name = Name(operation.record);
                let what = || format!("{name}: was told {found:?}, but expected is {expected:?}");
                Err(self.contradiction(revision, "write-answer", what))
            }
        }
    }

    /// Finds the unknown writes that can have made this revision and takes the most urgent.
    fn fill(&mut self, revision: i64) -> Result<(), Violation> {
        let mut fitting = Vec::new();
        let mut alike: BTreeSet<Kind<'_>> = BTreeSet::new();
        for number in self.candidates(revision) {
            let Some(unknown) = self.unknown.get(number).filter(|unknown| unknown.may_be_at(revision)) else {
                continue;
            };
            let command = unknown.command;
            let is_new = unknown.kind.is_none_or(|kind| alike.insert(kind));
            if !is_new {
                continue;
            }
            self.tries += 1;
            if self.model.execute(command).is_ok()
                && self.model.revision() == revision
                && let Some(urgency) = self.fits(revision)
            {
                fitting.push((urgency, number));
            }
            self.model.undo_to(revision - 1);
        }
        // The last is taken first.
        fitting.sort_unstable_by(|a, b| b.cmp(a));
        let mut left: Vec<usize> = fitting.into_iter().map(|(_, number)| number).collect();
        let Some(taken) = left.pop() else {
            let what = || {
                let seen: Vec<&Bytes> = self.evidence.touched(revision).map(|(key, _)| key).collect();
                format!("no request can have made revision {revision}; seen to be written there: {seen:?}")
            };
            return Err(self.contradiction(revision, "revision-gap", what));
        };
        if let Some(unknown) = self.unknown.get(taken) {
            let _ = self.model.execute(unknown.command);
        }
        self.mark(taken, true);
        self.choices.push(Choice { revision, taken, left });
        Ok(())
    }

    /// Who may have made this revision, by the value that was seen there, if one was.
    fn candidates(&self, revision: i64) -> Vec<usize> {
        let mut values = self.evidence.touched(revision).filter_map(|(_, sight)| sight?.value.as_ref());
        let telling = values.find(|value| self.evidence.written_at(value).is_some());
        match telling {
            Some(value) => self.unknown_by_value.get(value).cloned().unwrap_or_default(),
            None => (0..self.unknown.len()).collect(),
        }
    }

    /// Whether what was just executed agrees with all that was seen of the keys it changed, and how urgent it is: the revision
    /// at which a put of one of these keys must have happened (the lower, the more).
    fn fits(&self, revision: i64) -> Option<i64> {
        for (key, sight) in self.evidence.touched(revision) {
            let kv = self.model.get(key, revision)?;
            match sight {
                Some(sight) if !shows(sight, kv) => return None,
                None if kv.create_revision != revision => return None,
                _ => {}
            }
        }
        let mut urgency = i64::MAX;
        for key in self.model.changed_last() {
            let Some(sight) = self.evidence.next_sight(key, revision) else { continue };
            if sight.create_revision > revision {
                continue;
            }
            // The key lived from here to that sight; so many more puts were seen to happen than were answered.
            let kv = self.model.get(key, revision)?;
            let answered = self.evidence.puts_between(key, revision, sight.mod_revision);
            if kv.create_revision != sight.create_revision || kv.version + answered > sight.version {
                return None;
            }
            urgency = urgency.min(sight.mod_revision);
        }
        let is_seen_here = self.evidence.touched(revision).next().is_some();
        Some(if is_seen_here { 0 } else { urgency })
    }

    /// Everything that was seen at this revision.
    fn look(&mut self, revision: i64) -> Result<(), Violation> {
        for operation in self.not_found.get(&revision).into_iter().flatten() {
            if !self.was_not_found(operation, revision) {
                let refused = || operation.refused_for_no_reason();
                return Err(if self.is_deepest(revision) { refused() } else { violation("refusal", "") });
            }
        }
        for operation in self.looks.get(&revision).into_iter().flatten() {
            match (&operation.record.op, &operation.record.outcome) {
                (Op::Read(request), Outcome::Read { result: Ok(found), .. }) => {
                    let at = if request.revision > 0 { request.revision } else { revision };
                    if at > revision {
                        let what = || format!("{}: answered at revision {revision}", Name(operation.record));
                        return Err(self.contradiction(revision, "future-read", what));
                    }
                    if at < self.first {
                        continue;
                    }
                    let expected = self.model.range(request, at);
                    if !same_range(request, found, &expected) {
                        let name = Name(operation.record);
                        let what =
                            || format!("{name}: at revision {at} was told {found:?}, but there was {expected:?}");
                        return Err(self.contradiction(revision, "read-content", what));
                    }
                }
                (Op::Write(Command::Compact(_)), _) => {}
                (Op::Write(command), Outcome::Written(Ok(found))) => {
                    let expected = self.model.execute(command);
                    self.model.undo_to(revision);
                    if !expected.as_ref().is_ok_and(|expected| same_response(command, found, expected)) {
                        let name = Name(operation.record);
                        let what = || format!("{name}: was told {found:?}, but expected is {expected:?}");
                        return Err(self.contradiction(revision, "write-answer", what));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// True if there was a time at which a key that it wants to keep was absent.
    fn was_not_found(&self, operation: &Operation<'_>, to: i64) -> bool {
        let Some(command) = operation.command() else { return false };
        let from = operation.seen_before.max(self.first);
        let mut reason = false;
        each_request(command, &mut |op| {
            reason |= match op {
                RequestOp::Put(put) => {
                    (put.ignore_value || put.ignore_lease) && self.model.ever(&put.key, from, to, false)
                }
                // A transaction that deletes what it then wants to keep.
                RequestOp::DeleteRange(_) => matches!(command, Command::Txn(_)),
                RequestOp::Nothing => true,
                RequestOp::Range(_) | RequestOp::Txn(_) => false,
            };
        });
        reason
    }

    fn compare_last(&self) -> Result<(), Violation> {
        let expected = self.model.content(self.last.revision);
        if expected == self.last.kvs {
            return Ok(());
        }
        let differs = |(a, b): &(&flaredb_kv::KeyValue, &flaredb_kv::KeyValue)| a != b;
        let (found, expected) = match self.last.kvs.iter().zip(&expected).find(differs) {
            Some((found, expected)) => (format!("{found:?}"), format!("{expected:?}")),
            None => (format!("{} keys", self.last.kvs.len()), format!("{} keys", expected.len())),
        };
        let what = format!("at revision {} there is {found}, but expected is {expected}", self.last.revision);
        Err(violation("final-content", what))
    }
}

impl<'a> Unknown<'a> {
    /// None if it makes no revision: a compaction, of which the model here knows nothing.
    fn new(operation: &'a Operation<'a>, evidence: &'a Evidence) -> Option<Self> {
        let command = operation.command().filter(|command| !matches!(command, Command::Compact(_)))?;
        let mut seen = Vec::new();
        each_request(command, &mut |op| {
            if let RequestOp::Put(put) = op {
                seen.extend(evidence.written_at(&put.value));
            }
        });
        let kind: Option<Kind<'_>> = match command {
            Command::Put(put) if put.ignore_value => Some(("keep", &put.key, None)),
            Command::Put(put) if evidence.is_unseen(&put.key, &put.value) => Some(("put", &put.key, None)),
            Command::DeleteRange(delete) => Some(("delete", &delete.key, Some(&delete.range_end))),
            _ => None,
        };
        Some(Self { operation, command, placed: false, seen, kind })
    }

    /// False if it has a place, was sent when the revision was there already, or if one of its values was seen to be written, but
    /// never at this revision. (Of a transaction one branch only has effect, but what was seen was written.)
    fn may_be_at(&self, revision: i64) -> bool {
        !self.placed
            && self.operation.known_before < revision
            && self.seen.iter().all(|revisions| revisions.contains(&revision))
    }
}

fn shows(sight: &Sight, kv: &flaredb_kv::KeyValue) -> bool {
    (sight.mod_revision, sight.create_revision, sight.version) == (kv.mod_revision, kv.create_revision, kv.version)
        && sight.value.as_ref().is_none_or(|value| *value == kv.value)
}

fn violation_of_nothing(revision: i64) -> Violation {
    violation("revision-gap", format!("revision {revision}"))
}
