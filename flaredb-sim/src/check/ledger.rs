//! The committed entries applied once, in order, by machines of our own: what every replica must come to. The plain model says what
//! is right; a shadow of the real state machine, one entry at a time, must agree with it, and a second shadow in other batches too
//! (I29: apply is a function of state and entry, and of nothing else).

use super::model::Model;
use super::{revision_rules, violation};
use crate::observed::Violation;
use bytes::Bytes;
use flaredb_kv::{AppliedState, ApplyEntry, Command, CommandKind, Kv, KvError, MemoryStore, Response};
use flaredb_raft::RaftLogEntry;

/// Entries that the second shadow takes at once.
const BATCH: usize = 7;

pub(crate) type Outcome = Result<Response, KvError>;

/// See the module.
pub(crate) struct Ledger {
    pub(crate) model: Model,
    shadow: Kv<MemoryStore>,
    batched: Kv<MemoryStore>,
    /// Waits for the second shadow, with the outcomes of the first.
    waiting: (Vec<ApplyEntry>, Vec<Outcome>),
    /// After each entry, from index 1 on; outcomes of commands only.
    steps: Vec<(AppliedState, Option<Outcome>)>,
    /// The store's revision at each compaction, and what it was.
    compactions: Vec<(i64, i64)>,
    outcomes: Vec<Outcome>,
}

impl Ledger {
    pub(crate) fn new() -> Result<Self, Violation> {
        // They remember no rows, so that they look at the store each time, unlike those that they are compared with.
        let open = || {
            Kv::open(MemoryStore::new())
                .map(|kv| kv.remember_keys(0))
                .map_err(|error| violation("world", error.to_string()))
        };
        Ok(Self {
            model: Model::default(),
            shadow: open()?,
            batched: open()?,
            waiting: (Vec::new(), Vec::new()),
            steps: Vec::new(),
            compactions: Vec::new(),
            outcomes: Vec::new(),
        })
    }

    /// The last index that was applied.
    pub(crate) fn last(&self) -> u64 {
        u64::try_from(self.steps.len()).unwrap_or(u64::MAX)
    }

    fn step(&self, index: u64) -> Option<&(AppliedState, Option<Outcome>)> {
        self.steps.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    /// What a state machine is after this entry.
    pub(crate) fn state_at(&self, index: u64) -> Option<AppliedState> {
        self.step(index).map(|(state, _)| *state)
    }

    pub(crate) fn outcome_at(&self, index: u64) -> Option<&Outcome> {
        self.step(index)?.1.as_ref()
    }

    /// The shadow that takes one entry at a time.
    pub(crate) fn shadow(&self) -> &Kv<MemoryStore> {
        &self.shadow
    }

    /// The lowest and the highest compaction that a state of this revision can have.
    pub(crate) fn compacted_at(&self, revision: i64) -> (i64, i64) {
        let up_to =
            |count: usize| count.checked_sub(1).and_then(|last| self.compactions.get(last)).map_or(-1, |(_, to)| *to);
        let before = self.compactions.partition_point(|(at, _)| *at < revision);
        let with = self.compactions.partition_point(|(at, _)| *at <= revision);
        (up_to(before), up_to(with))
    }

    /// The next committed entry.
    pub(crate) fn apply(&mut self, entry: &RaftLogEntry) -> Result<(), Violation> {
        let RaftLogEntry { index, term, .. } = *entry;
        let command = meaning(entry);
        let before = self.shadow.applied();
        let broken = |error: flaredb_kv::StoreError| violation("apply-purity", error.to_string());
        let apply = ApplyEntry { index, term, command: command.clone() };
        self.shadow.apply(std::slice::from_ref(&apply), &mut self.outcomes).map_err(broken)?;
        let Some(found) = self.outcomes.pop() else {
            return Err(violation("apply-purity", format!("entry {index} has no outcome")));
        };
        let decoded = command.as_ref().map(|(kind, bytes)| Command::decode(*kind, bytes));
        let expected = match &decoded {
            Some(Ok(command)) => self.model.execute(command),
            Some(Err(error)) => Err(*error),
            None => found.clone(),
        };
        if found != expected {
            let what = format!("entry {index} {decoded:?} gave {found:?}, but expected is {expected:?}");
            return Err(violation("apply-purity", what));
        }
        let state = self.shadow.applied();
        let (revision, compact_revision) = (self.model.revision(), self.model.compact_revision());
        if state != (AppliedState { index, term, revision, compact_revision }) {
            let what =
                format!("entry {index} led to {state:?}, not to revision {revision} compacted to {compact_revision}");
            return Err(violation("apply-purity", what));
        }
        revision_rules::entry(&before, &state, decoded.is_some().then_some(&found))?;
        if compact_revision > before.compact_revision {
            self.compactions.push((revision, compact_revision));
        }
        self.waiting.0.push(apply);
        self.waiting.1.push(found.clone());
        self.steps.push((state, decoded.is_some().then_some(found)));
        if self.waiting.0.len() >= BATCH { self.apply_batch() } else { Ok(()) }
    }

    /// Brings the second shadow to where the first is.
    pub(crate) fn apply_batch(&mut self) -> Result<(), Violation> {
        let (entries, expected) = std::mem::take(&mut self.waiting);
        let result = self.batched.apply(&entries, &mut self.outcomes);
        result.map_err(|error| violation("apply-purity", error.to_string()))?;
        if self.outcomes != expected || self.batched.applied() != self.shadow.applied() {
            let first = entries.first().map_or(0, |entry| entry.index);
            return Err(violation(
                "apply-purity",
                format!("in one batch the entries from {first} on have other outcomes"),
            ));
        }
        // Removal of compacted rows changes nothing that can be seen; it is done here, and left undone in the other.
        self.batched.compact_step(64).map_err(|error| violation("apply-purity", error.to_string()))?;
        Ok(())
    }

    /// Both shadows and the model at the end: the same content.
    pub(crate) fn compare_contents(&mut self) -> Result<(), Violation> {
        self.apply_batch()?;
        let hash = |kv: &Kv<MemoryStore>| kv.reader().hash(0).ok();
        if hash(&self.shadow) != hash(&self.batched) {
            return Err(violation(
                "apply-purity",
                "other batches, and removal of compacted rows, led to another content",
            ));
        }
        let everything = flaredb_kv::RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..flaredb_kv::RangeRequest::default()
        };
        let found = self.shadow.reader().range(&everything).ok().and_then(Result::ok).map(|range| range.kvs);
        let (found, right) = (found.unwrap_or_default(), self.model.content(self.model.revision()));
        if found != right {
            let odd =
                found.iter().find(|kv| !right.contains(kv)).or_else(|| right.iter().find(|kv| !found.contains(kv)));
            let other = odd.and_then(|odd| right.iter().find(|kv| kv.key == odd.key));
            let what = format!("the content is not the model's: of {odd:?}, where the model has {other:?}");
            return Err(violation("apply-purity", what));
        }
        Ok(())
    }
}

/// What the entry asks of the state machine: the layout of contexts is the log's format (flaredb-replica/src/context.rs), read here
/// on its own. None: nothing but to be counted.
pub(crate) fn meaning(entry: &RaftLogEntry) -> Option<(CommandKind, Bytes)> {
    let context = entry.context.as_ref().filter(|context| context.len() == 26)?;
    let kind = match context.as_ref() {
        [1, 1, ..] => CommandKind::Put,
        [1, 2, ..] => CommandKind::DeleteRange,
        [1, 3, ..] => CommandKind::Txn,
        [1, 4, ..] => CommandKind::Compact,
        _ => return None,
    };
    Some((kind, entry.command.clone()))
}
