//! I11, I20: what is committed is never replaced in a durable log, and stays in the durable logs (or states) of a quorum. A node
//! that lost it and owes it counts, as it does not vote before it has it again; but one copy at least must be left.

use super::commit_rule::Committed;
use super::log::TermLog;
use super::mirror::{Mirror, Start};
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{EntryId, Write};

/// Before the mirror takes the write in.
pub(crate) fn durable(mirror: &Mirror, committed: &Committed, id: u64, write: &Write) -> Result<(), Violation> {
    let Some(first) = write.entries.first() else { return Ok(()) };
    let durable = &mirror.node(id)?.durable;
    for entry in &write.entries {
        let Some(agreed) = committed.id_at(entry.index) else { break };
        if entry.term != agreed.term && durable.holds(agreed) {
            let what = format!("n{id} replaces {agreed}, which is committed, by {}", entry.id());
            return Err(violation("durability", what));
        }
    }
    let last = write.entries.last().map_or(first.id(), flaredb_raft::RaftLogEntry::id);
    // What stood behind the last entry is gone.
    if let Some(agreed) = committed.id_at(last.index + 1)
        && durable.last().index >= agreed.index
        && durable.holds(agreed)
    {
        return Err(violation("durability", format!("n{id} cuts {agreed} off, which is committed")));
    }
    Ok(())
}

/// After the mirror has taken the start in.
pub(crate) fn started(mirror: &Mirror, committed: &Committed, id: u64) -> Result<(), Violation> {
    let last = committed.last();
    let held = mirror.all().filter(|(_, node)| node.durable.holds(last)).count();
    let owed = mirror.all().filter(|(_, node)| !node.durable.holds(last) && node.promise >= Some(last)).count();
    if last != EntryId::default() && (held == 0 || held + owed < mirror.quorum()) {
        let what =
            format!("after the start of n{id} {last}, which is committed, is held by {held} nodes and owed by {owed}");
        return Err(violation("durability", what));
    }
    Ok(())
}

/// I21, I9: what the node found fits together, and is nothing that was never there.
pub(crate) fn fits(
    committed: &Committed,
    id: u64,
    start: &Start<'_>,
    log: &TermLog,
    term: u64,
) -> Result<(), Violation> {
    let (first, last) = (log.compacted_to(), log.last());
    if start.applied < first.index {
        let what = format!("n{id} starts with a log from {first} on, but has applied only {}", start.applied);
        return Err(violation("truncation", what));
    }
    if start.applied > last.index {
        let what = format!("n{id} starts with a log to {last}, but has applied {}", start.applied);
        return Err(violation("durability", what));
    }
    let applied = EntryId { index: start.applied, term };
    if start.applied > 0 && committed.id_at(start.applied) != Some(applied) {
        let what = format!("n{id} starts with {applied} applied, committed is {:?}", committed.id_at(start.applied));
        return Err(violation("state-machine-safety", what));
    }
    Ok(())
}
