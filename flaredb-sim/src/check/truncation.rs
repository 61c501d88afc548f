//! I23, I24: a log is truncated only below what is applied, and at an entry it has; a snapshot takes nothing back, is what the
//! committed entries make of it, and replaces log and state as a whole. Where logs are kept for the slowest member, nobody
//! needs one who has lost nothing.

use super::commit_rule::Committed;
use super::ledger::Ledger;
use super::mirror::Mirror;
use super::{replica_equality, state_machine_safety, violation};
use crate::observed::Violation;
use flaredb_kv::{Kv, MemoryStore};
use flaredb_raft::{Body, EntryId, Message, SnapshotMeta};

/// Before the mirror takes it in.
pub(crate) fn truncated(mirror: &Mirror, committed: &Committed, id: u64, up_to: EntryId) -> Result<(), Violation> {
    let node = mirror.node(id)?;
    let there = node.durable.last().index >= up_to.index && node.durable.term_at(up_to.index) == Some(up_to.term);
    if up_to.index > node.applied || !there || committed.id_at(up_to.index) != Some(up_to) {
        let what = format!("n{id} truncates up to {up_to}; applied {}, log to {}", node.applied, node.durable.last());
        return Err(violation("truncation", what));
    }
    Ok(())
}

/// Logs are kept for the slowest: only who lost something, or leads after having lost something, has to do with snapshots.
pub(crate) fn snapshot_sent(mirror: &Mirror, message: &Message) -> Result<(), Violation> {
    let Body::InstallSnapshot { snapshot } = &message.body else { return Ok(()) };
    let (from, to) = (mirror.node(message.from)?, mirror.node(message.to)?);
    if from.was_helped || to.was_helped {
        return Ok(());
    }
    let (from, to, at) = (message.from, message.to, to.durable.last());
    let what =
        format!("n{from} sends n{to}, whose log ends at {at}, a snapshot at {}: its log was not kept", snapshot.last);
    Err(violation("truncation", what))
}

/// Before the mirror takes it in.
pub(crate) fn installed(
    mirror: &Mirror,
    committed: &Committed,
    ledger: &Ledger,
    id: u64,
    snapshot: &SnapshotMeta,
    kv: &Kv<MemoryStore>,
) -> Result<(), Violation> {
    let (last, applied) = (snapshot.last, kv.applied());
    let node = mirror.node(id)?;
    let commit = node.status.map_or(0, |status| status.commit_index);
    if last.index < commit.max(node.applied) {
        let what = format!("n{id} installs a snapshot at {last}, but had commit {commit} and applied {}", node.applied);
        return Err(violation("snapshot", what));
    }
    if (applied.index, applied.term) != (last.index, last.term) || committed.id_at(last.index) != Some(last) {
        let what = format!("n{id} installs a snapshot at {last} that holds {applied:?}");
        return Err(violation("snapshot", what));
    }
    state_machine_safety::same_state(ledger, id, &applied)?;
    replica_equality::compare(ledger, id, kv)?;
    Ok(())
}
