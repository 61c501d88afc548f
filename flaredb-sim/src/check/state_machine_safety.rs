//! I5, I9: wherever an index is applied it is the same entry with the same effect; applied is what is committed and durable there,
//! in order and without holes.

use super::commit_rule::Committed;
use super::ledger::Ledger;
use super::mirror::Mirror;
use super::violation;
use crate::observed::Violation;
use flaredb_kv::AppliedState;

/// Before the mirror takes it in; the ledger is up to date.
pub(crate) fn applied(
    mirror: &Mirror,
    committed: &Committed,
    ledger: &Ledger,
    id: u64,
    from: u64,
    to: &AppliedState,
) -> Result<(), Violation> {
    let node = mirror.node(id)?;
    if from != node.applied || to.index <= from {
        let what = format!("n{id} applies from {from} to {}, but had applied {}", to.index, node.applied);
        return Err(violation("state-machine-safety", what));
    }
    let Some(agreed) = committed.id_at(to.index) else {
        let what = format!("n{id} applies {}, but {} is committed", to.index, committed.last());
        return Err(violation("state-machine-safety", what));
    };
    if node.durable.last().index < to.index {
        let what = format!("n{id} applies {agreed}, but its durable log ends at {}", node.durable.last());
        return Err(violation("apply-durable", what));
    }
    if !node.durable.holds(agreed) {
        let what =
            format!("n{id} applies {} of term {:?}, committed is {agreed}", to.index, node.durable.term_at(to.index));
        return Err(violation("state-machine-safety", what));
    }
    same_state(ledger, id, to)
}

/// The state machine is what the committed entries up to there make it.
pub(crate) fn same_state(ledger: &Ledger, id: u64, to: &AppliedState) -> Result<(), Violation> {
    match ledger.state_at(to.index) {
        Some(expected) if expected == *to => Ok(()),
        None if to.index == 0 => Ok(()),
        expected => {
            let what = format!("n{id} has applied up to {} and is {to:?}, expected is {expected:?}", to.index);
            Err(violation("state-machine-safety", what))
        }
    }
}
