//! I1, I2: one leader a term, elected by a quorum whose votes are durable; and it never replaces entries of its own log.

use super::mirror::Mirror;
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{Body, Message, PeerState, PeerStatus, Write};
use std::collections::BTreeMap;

/// Who led which term.
#[derive(Debug, Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<u64, u64>,
}

impl ElectionSafety {
    pub(crate) fn leader_of(&self, term: u64) -> Option<u64> {
        self.leaders.get(&term).copied()
    }

    /// The highest term that has had a leader, and who it was.
    pub(crate) fn newest(&self) -> Option<(u64, u64)> {
        self.leaders.last_key_value().map(|(term, id)| (*term, *id))
    }

    /// True if the node has just become leader.
    pub(crate) fn stepped(
        &mut self,
        mirror: &Mirror,
        id: u64,
        before: &PeerStatus,
        after: &PeerStatus,
    ) -> Result<bool, Violation> {
        let leads = after.state == PeerState::Leader;
        if !leads || (before.state == PeerState::Leader && before.term == after.term) {
            return Ok(false);
        }
        let term = after.term;
        if let Some(other) = self.leaders.insert(term, id) {
            let what = if other == id {
                format!("n{id}@{term} is elected a second time")
            } else {
                format!("n{id}@{term} leads, but n{other} has led this term")
            };
            return Err(violation("election-safety", what));
        }
        let votes = mirror.all().filter(|(_, node)| node.votes.get(&term) == Some(&id)).count();
        if votes < mirror.quorum() {
            let what = format!("n{id}@{term} leads with {votes} durable votes, {} are needed", mirror.quorum());
            return Err(violation("election-safety", what));
        }
        Ok(true)
    }

    pub(crate) fn sent(&self, message: &Message) -> Result<(), Violation> {
        let leads =
            matches!(message.body, Body::AppendEntries { .. } | Body::InstallSnapshot { .. } | Body::TimeoutNow);
        if leads && self.leader_of(message.term) != Some(message.from) {
            let what = format!("n{}@{} acts as a leader that it is not", message.from, message.term);
            return Err(violation("election-safety", what));
        }
        Ok(())
    }

    /// Before the mirror takes the write in.
    pub(crate) fn asked(&self, mirror: &Mirror, id: u64, write: &Write) -> Result<(), Violation> {
        let node = mirror.node(id)?;
        let Some(first) = write.entries.first() else { return Ok(()) };
        let replaced = node.memory.term_at(first.index).filter(|term| *term != first.term);
        if node.is_leader() && replaced.is_some() {
            let what = format!("n{id}@{} leads and replaces its entry at {}", node.term(), first.index);
            return Err(violation("election-safety", what));
        }
        Ok(())
    }
}
