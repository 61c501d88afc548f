//! What a start makes of what it finds: a whole log, one that lost something and is to be repaired by the other members, or
//! one that contradicts every history this member can have had.
//!
//! The rule behind it: a voter's promise is its position in Raft's order (last term, then last index), together with term and
//! vote. A log that stands at or above the position it once acknowledged holds every committed entry it acknowledged, also if
//! its tail was replaced since (a later leader's entries follow all that was committed before). So a log below its mark, and
//! only such a log, must neither vote nor lead; it follows until it is back there. What is left of it is never thrown away
//! without need: a true prefix is a true earlier state, and a leader continues from it as from any follower that lags.
//!
//! What this is not: reading. The caller verifies records one by one and says what it found; here are no bytes.

use crate::mark::{CHAIN_UNKNOWN, Mark, UNKNOWN};
use flaredb_raft::{EntryId, HardState};

/// What is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Every row beside the log that is missing or damaged, by its key.
    pub rows: Vec<String>,
    /// As read; default if its row is missing or damaged.
    pub hard_state: HardState,
    /// The last entry that is no longer in the log, by the log's own account. 0@0 if that account is missing or damaged:
    /// then nothing after it is intact, so `last` is 0@0 too.
    pub compacted_to: EntryId,
    /// The last entry of the intact prefix, which begins after `compacted_to`; `compacted_to` if there is none.
    pub last: EntryId,
    /// The first thing that is wrong after it.
    pub fault: Option<Fault>,
    /// The highest record that can be read after the fault; `last` if there is none. A record that cannot be read but must
    /// have been whole once counts too, with the lowest term that it can have had.
    pub last_readable: EntryId,
    /// The chain value of the entry `mark.acked`, if the intact prefix ends with or holds exactly this entry (or was compacted
    /// to it and the value is known).
    pub chain_at_acked: Option<u64>,
    /// How far the state machine has come durably; 0@0 for an empty one.
    pub applied: EntryId,
    /// The term that the log says was at `applied.index` (in it, or compacted to it); None if it reaches neither.
    pub term_at_applied: Option<u64>,
}

/// Something that cannot be read as what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The index whose record is missing or damaged.
    pub index: u64,
    /// Names the key.
    pub what: String,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing that was acknowledged is missing. A fault without a readable record behind it is then a write that was torn
    /// before it was acknowledged: the log ends at `last`.
    Whole,
    /// Something is missing. Do this, keeping what is there for inspection, then take part as a member that is recovering.
    Repair {
        /// Write this: term and vote as promised, the commit index within what is left.
        hard_state: HardState,
        /// Keep the log up to here and no further.
        keep_to: u64,
        /// If given, keep nothing: the log is empty and continues after this entry, the last that the state machine applied.
        restart_at: Option<EntryId>,
        /// Do not vote, do not lead while the end of the log is below this. None: what was promised is not known; the other
        /// members must be asked. To be made durable (in the mark) before anything else is changed.
        until: Option<EntryId>,
        /// Everything that is wrong, with its keys.
        why: String,
    },
    /// This cannot be what the member left behind, and no repair by others makes it so. It must not start.
    Halt {
        /// What contradicts what.
        why: String,
    },
}

/// Judges what was found against the mark. `None`: there was a mark and it cannot be read; what was promised is not known.
pub fn judge(found: &Found, mark: Option<&Mark>) -> Judgement {
    let mut why = found.rows.clone();
    if mark.is_none() {
        why.push("the mark is missing or damaged in both slots: what was acknowledged is not known".to_owned());
    }
    judge_by(found, mark, why)
}

/// Judges a log to which no mark was ever made (it was written by a program that knew none). What looks whole is taken as
/// whole, as that program did; a loss that shows has no known extent.
pub fn judge_unmarked(found: &Found) -> Judgement {
    judge_by(found, None, found.rows.clone())
}

fn judge_by(found: &Found, mark: Option<&Mark>, mut why: Vec<String>) -> Judgement {
    if let Some(contradiction) = contradiction(found, mark) {
        return Judgement::Halt { why: contradiction };
    }
    let foreign = mark.and_then(|mark| foreign(found, mark));
    let stays = restart_reason(found).or_else(|| foreign.clone());
    why.extend(stays.iter().cloned());
    why.extend(losses(found, mark));
    why.extend(stale_hard_state(found, mark));
    if why.is_empty() {
        return Judgement::Whole;
    }
    // Named with whatever else is wrong, also when by itself it would be a torn tail.
    why.extend(found.fault.as_ref().map(|fault| fault.what.clone()).filter(|what| !why.contains(what)));
    let restart_at = stays.map(|_| found.applied);
    let end = restart_at.unwrap_or(found.last);
    Judgement::Repair {
        hard_state: promised(found, mark, end),
        keep_to: end.index,
        restart_at,
        until: mark.and_then(|mark| until(found, mark, foreign.is_some())),
        why: why.join("; "),
    }
}

/// What no loss explains.
fn contradiction(found: &Found, mark: Option<&Mark>) -> Option<String> {
    if found.last.index < found.compacted_to.index {
        return Some(format!(
            "raft_state TruncatedState says that the log begins after {}, raft_log ends at {}",
            found.compacted_to, found.last
        ));
    }
    let (hard, mark) = (&found.hard_state, mark?);
    match (hard.voted_for, mark.voted_for) {
        (Some(one), Some(other)) if hard.current_term == mark.term && one != other => Some(format!(
            "raft_state HardState says that this member voted for {one:x} in term {}, the mark says for {other:x}: a vote is \
             never changed, so they are not of one member",
            mark.term
        )),
        _ => None,
    }
}

/// Why the intact prefix is of no use: the state machine does not follow from it, or cannot be continued by it.
fn restart_reason(found: &Found) -> Option<String> {
    let Found { applied, compacted_to, last, .. } = found;
    if applied.index > last.index {
        Some(format!("the state machine has applied {applied}, the intact part of raft_log ends at {last}"))
    } else if applied.index < compacted_to.index {
        Some(format!(
            "the state machine has applied {applied}, raft_log begins after {compacted_to}: what is between is in neither"
        ))
    } else {
        let term = found.term_at_applied.filter(|term| *term != applied.term)?;
        Some(format!("the state machine has applied {applied}, raft_log has {}@{term} there", applied.index))
    }
}

/// The log has the acknowledged entry, and another history before it.
fn foreign(found: &Found, mark: &Mark) -> Option<String> {
    let chain = found.chain_at_acked.filter(|chain| mark.acked_chain != CHAIN_UNKNOWN && *chain != mark.acked_chain)?;
    Some(format!(
        "raft_log has chain value {chain:016x} at {}, the mark says {:016x}: this is another log",
        mark.acked, mark.acked_chain
    ))
}

/// What was in the log once and is not now.
fn losses(found: &Found, mark: Option<&Mark>) -> Vec<String> {
    let mut why = Vec::new();
    if let Some(fault) = &found.fault
        && found.last_readable > found.last
    {
        why.push(format!("{}, and {} was written after it", fault.what, found.last_readable));
    }
    if let Some(mark) = mark {
        if mark.acked == UNKNOWN {
            why.push("what this member acknowledged is not known (as the mark says)".to_owned());
        } else if found.last < mark.acked {
            why.push(format!("raft_log ends at {}, the mark says that {} was durable", found.last, mark.acked));
        }
    }
    let commit = found.hard_state.commit_index;
    if commit > found.last.index {
        why.push(format!("raft_state HardState says commit index {commit}, raft_log ends at {}", found.last));
    }
    why
}

/// Term and vote that are older than they were.
fn stale_hard_state(found: &Found, mark: Option<&Mark>) -> Vec<String> {
    let mut why = Vec::new();
    let hard = &found.hard_state;
    if hard.current_term < found.last.term {
        why.push(format!("raft_state HardState says term {}, raft_log ends at {}", hard.current_term, found.last));
    }
    if let Some(mark) = mark {
        if hard.current_term < mark.term {
            why.push(format!("raft_state HardState says term {}, the mark says {}", hard.current_term, mark.term));
        } else if hard.current_term == mark.term && hard.voted_for.is_none() && mark.voted_for.is_some() {
            why.push(format!(
                "raft_state HardState says no vote in term {}, the mark says that there was one",
                mark.term
            ));
        }
    }
    why
}

/// The hard state to go on with when the log ends at `end`.
fn promised(found: &Found, mark: Option<&Mark>, end: EntryId) -> HardState {
    let mut hard = found.hard_state;
    if let Some(mark) = mark {
        if mark.term > hard.current_term {
            (hard.current_term, hard.voted_for) = (mark.term, mark.voted_for);
        } else if mark.term == hard.current_term {
            hard.voted_for = hard.voted_for.or(mark.voted_for);
        }
    }
    let reached = found.last.term.max(end.term);
    if reached > hard.current_term {
        // A vote in a term that the mark does not know never left this member.
        (hard.current_term, hard.voted_for) = (reached, None);
    }
    // What is applied is committed; what is not there cannot be said to be.
    hard.commit_index = hard.commit_index.max(found.applied.index).min(end.index);
    hard
}

/// The highest position that can be shown to have been durable.
fn until(found: &Found, mark: &Mark, foreign: bool) -> Option<EntryId> {
    if mark.acked == UNKNOWN {
        return None;
    }
    let mut until = mark.acked.max(found.applied);
    if !foreign {
        let committed = EntryId { index: found.hard_state.commit_index, term: found.last.term };
        until = until.max(found.last).max(found.last_readable).max(committed);
    }
    Some(until)
}

#[cfg(test)]
mod tests;
