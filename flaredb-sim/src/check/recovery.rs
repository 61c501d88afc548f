//! I22: a node that lost what it had acknowledged knows it, and neither votes nor asks for votes until its log has reached again
//! what it lost. A replaced disk owes all that is committed, that the former one held, and that too few others hold to do without it: what
//! the former one wrote last as a leader may have been committed by a later leader, and others, after this node was told what it owes.
//! Judged by what was seen to be durable, whatever the node itself believes.

use super::commit_rule::Committed;
use super::log::TermLog;
use super::mirror::{Mirror, Start};
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{Body, EntryId, Message, PeerState, PeerStatus};

/// Before the mirror takes the start in.
pub(crate) fn started(
    mirror: &Mirror,
    committed: &Committed,
    id: u64,
    start: &Start<'_>,
    log: &TermLog,
) -> Result<(), Violation> {
    let node = mirror.node(id)?;
    // Until it has noted what the others say, they say it again before it hears anything else.
    if start.disk_replaced || (node.former.is_some() && start.recovering.is_none()) {
        return Ok(());
    }
    let lost = start.lost(node, log).then(|| node.durable.last());
    let promise = match &node.former {
        Some(former) => Some(owed_by(mirror, committed, id, former)),
        None => node.promise,
    };
    let Some(owed) = promise.max(lost).filter(|owed| log.last() < *owed || lost.is_some()) else { return Ok(()) };
    if start.recovering.is_none_or(|until| until < owed) {
        let what = format!(
            "n{id} had its log durably up to {owed}, starts with one to {} and believes {:?}",
            log.last(),
            start.recovering
        );
        return Err(violation("recovery", what));
    }
    Ok(())
}

/// The last committed entry that this node's former log held and that no quorum of others holds.
fn owed_by(mirror: &Mirror, committed: &Committed, id: u64, former: &TermLog) -> EntryId {
    let rests_on_it = |entry: EntryId| {
        let others = mirror.all().filter(|(other, node)| *other != id && node.durable.holds(entry));
        others.count() < mirror.quorum()
    };
    let last = former.last().index.min(committed.last().index);
    let entries = (1..=last).rev().filter_map(|index| committed.id_at(index));
    entries.into_iter().find(|entry| former.holds(*entry) && rests_on_it(*entry)).unwrap_or_default()
}

pub(crate) fn stepped(
    mirror: &Mirror,
    committed: &Committed,
    id: u64,
    before: &PeerStatus,
    after: &PeerStatus,
) -> Result<(), Violation> {
    let node = mirror.node(id)?;
    if before.recovering
        && !after.recovering
        && let Some(former) = &node.former
    {
        let (owed, has) = (owed_by(mirror, committed, id, former), node.durable.last());
        if has < owed {
            let what = format!(
                "n{id} says that it has recovered, its log ends at {has} and its former one held {owed}, which no quorum of others holds"
            );
            return Err(violation("recovery", what));
        }
        return Ok(());
    }
    let Some(until) = node.promise else { return Ok(()) };
    // Alone it may ask before it has met anybody; it is a pre-candidate then.
    let asks = node.is_unaware && after.state == PeerState::Candidate;
    if asks || before.state == after.state || after.state == PeerState::Follower {
        return Ok(());
    }
    let what = format!("n{id}@{} campaigns, but owes its log up to {until}", after.term);
    Err(violation("recovery", what))
}

pub(crate) fn sent(mirror: &Mirror, message: &Message) -> Result<(), Violation> {
    let votes = matches!(
        message.body,
        Body::PreVote { .. }
            | Body::RequestVote { .. }
            | Body::PreVoteResponse { granted: true }
            | Body::RequestVoteResponse { granted: true }
    );
    let node = mirror.node(message.from)?;
    if votes && node.former.is_some() && !node.is_unaware {
        let what = format!("n{}@{} votes, but does not know what it promised", message.from, message.term);
        return Err(violation("recovery", what));
    }
    let asks = node.is_unaware && matches!(message.body, Body::PreVote { .. });
    if votes
        && !asks
        && let Some(until) = node.promise
    {
        let what = format!("n{}@{} votes, but owes its log up to {until}", message.from, message.term);
        return Err(violation("recovery", what));
    }
    Ok(())
}
