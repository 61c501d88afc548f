//! I22: a node that lost what it had acknowledged knows it, and neither votes nor asks for votes until its log has reached again
//! what it lost. Judged by what was seen to be durable, whatever the node itself believes.

use super::log::TermLog;
use super::mirror::{Mirror, Start};
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{Body, Message, PeerState, PeerStatus};

/// Before the mirror takes the start in.
pub(crate) fn started(mirror: &Mirror, id: u64, start: &Start<'_>, log: &TermLog) -> Result<(), Violation> {
    let node = mirror.node(id)?;
    if start.disk_replaced {
        return Ok(());
    }
    let lost = start.lost(node, log).then(|| node.durable.last());
    let Some(owed) = node.promise.max(lost).filter(|owed| log.last() < *owed || lost.is_some()) else { return Ok(()) };
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

pub(crate) fn stepped(mirror: &Mirror, id: u64, before: &PeerStatus, after: &PeerStatus) -> Result<(), Violation> {
    let Some(until) = mirror.node(id)?.promise else { return Ok(()) };
    if before.state == after.state || after.state == PeerState::Follower {
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
    if votes && let Some(until) = mirror.node(message.from)?.promise {
        let what = format!("n{}@{} votes, but owes its log up to {until}", message.from, message.term);
        return Err(violation("recovery", what));
    }
    Ok(())
}
