//! I4: whoever is elected has everything in its log that leaders of earlier terms have committed. (Votes may arrive so late that
//! a later term has its leader already, and commits.)

use super::commit_rule::Committed;
use super::mirror::Mirror;
use super::violation;
use crate::observed::Violation;

/// The node has just become leader: its log is as it was asked to be written, but for the entry that begins its term.
pub(crate) fn elected(mirror: &Mirror, committed: &Committed, id: u64) -> Result<(), Violation> {
    let node = mirror.node(id)?;
    let last = committed.last_before(node.term());
    // Votes that come late make a leader of a term that is long over; it can commit nothing.
    if last.term > node.term() {
        return Ok(());
    }
    if !node.memory.holds(last) {
        let what = format!("n{id}@{} leads with a log to {}, but {last} is committed", node.term(), node.memory.last());
        return Err(violation("leader-completeness", what));
    }
    Ok(())
}
