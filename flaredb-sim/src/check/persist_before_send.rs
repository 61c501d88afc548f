//! I12, I13, I14: what a node says it has, it has durably, and the leader it says so to has the same; appends are well formed.

use super::log_matching::Table;
use super::mirror::{Mirror, accepted};
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{Body, EntryId, Message, RaftLogEntry};

/// Before the mirror has taken in what is sent.
pub(crate) fn sent(mirror: &Mirror, table: &Table, message: &Message) -> Result<(), Violation> {
    let Message { from, to, term, .. } = *message;
    if let Some(match_index) = accepted(message) {
        let node = mirror.node(from)?;
        let durable = node.durable.last();
        if match_index > durable.index {
            let what = format!("n{from}@{term} accepts up to {match_index}, but its durable log ends at {durable}");
            return Err(violation("persist-before-send", what));
        }
        let leader = mirror.node(to)?;
        let own = node.durable.term_at(match_index);
        let theirs = leader.memory.term_at(match_index);
        if leader.is_leader()
            && leader.term() == term
            && match_index > leader.memory.compacted_to().index
            && own.is_some()
            && own != theirs
        {
            let what =
                format!("n{from}@{term} accepts {match_index} with term {own:?}, its leader n{to} has {theirs:?}");
            return Err(violation("persist-before-send", what));
        }
    }
    if let Body::AppendEntries { prev, entries, .. } = &message.body {
        return append(mirror, table, message, *prev, entries);
    }
    Ok(())
}

fn append(
    mirror: &Mirror,
    table: &Table,
    message: &Message,
    prev: EntryId,
    entries: &[RaftLogEntry],
) -> Result<(), Violation> {
    let Message { from, term, .. } = *message;
    let node = mirror.node(from)?;
    let mut before = prev;
    for entry in entries {
        if entry.index != before.index + 1 || entry.term < before.term || entry.term > term {
            let what = format!("n{from}@{term} sends {} behind {before}", entry.id());
            return Err(violation("append-form", what));
        }
        before = entry.id();
    }
    // What was put together in an earlier leadership may leave later, when the log is another one.
    if !node.is_leader() || node.term() != term {
        return Ok(());
    }
    // Position 0 is the start of every log.
    let known = match node.memory.term_at(prev.index) {
        Some(own) => own == prev.term,
        None => prev.index <= node.memory.compacted_to().index || table.get(prev).is_some(),
    };
    if prev.index > 0 && !known {
        let own = node.memory.term_at(prev.index);
        let what = format!("n{from}@{term} sends entries behind {prev}, but has term {own:?} there");
        return Err(violation("append-form", what));
    }
    Ok(())
}

/// The term before this entry in the sender's log.
pub(crate) fn previous_term(table: &Table, prev: EntryId) -> Option<u64> {
    (prev.index == 0 || prev.term > 0 || table.get(prev).is_some()).then_some(prev.term)
}
