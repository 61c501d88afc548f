//! I6, I7: what a node says of its term and vote is durable before it leaves; one candidate a node and term, over all its lives and
//! disks; terms never fall, not over restarts either. Pre-votes speak of a term that nobody has yet.

use super::mirror::{Mirror, Start};
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{Body, Message, PeerStatus, Write};
use std::collections::BTreeMap;

/// Votes that left a node.
#[derive(Debug, Default)]
pub(crate) struct VoteDurability {
    said: BTreeMap<(u64, u64), u64>,
}

impl VoteDurability {
    pub(crate) fn started(&mut self, mirror: &Mirror, id: u64, start: &Start<'_>) -> Result<(), Violation> {
        let node = mirror.node(id)?;
        if start.disk_replaced {
            // Its own candidacies are over with the disk.
            self.said.retain(|(from, _), candidate| *from != id || *candidate != id);
        }
        if !node.has_started || start.disk_replaced {
            return Ok(());
        }
        let (had, has) = (node.hard_state, start.hard_state);
        if has.current_term < had.current_term {
            let what = format!("n{id} had term {} durably and starts with {}", had.current_term, has.current_term);
            return Err(violation("vote-durability", what));
        }
        let vote = node.votes.get(&has.current_term).copied();
        // What a former disk voted is not on this one; that it is not said again is judged where it is sent.
        let forgotten = has.current_term <= node.forgotten_to;
        if vote.is_some() && vote != has.voted_for && !forgotten {
            let what =
                format!("n{id}@{} voted durably for {vote:?} and starts with {:?}", has.current_term, has.voted_for);
            return Err(violation("vote-durability", what));
        }
        Ok(())
    }

    pub(crate) fn stepped(&self, id: u64, before: &PeerStatus, after: &PeerStatus) -> Result<(), Violation> {
        if after.term < before.term {
            let what = format!("n{id} goes from term {} to {}", before.term, after.term);
            return Err(violation("vote-durability", what));
        }
        Ok(())
    }

    /// Before the mirror takes the write in.
    pub(crate) fn asked(&self, mirror: &Mirror, id: u64, write: &Write) -> Result<(), Violation> {
        let node = mirror.node(id)?;
        let (had, has) = (node.asked_hard_state, write.hard_state);
        let term = has.current_term;
        if term < had.current_term {
            return Err(violation("vote-durability", format!("n{id} writes term {term} over {}", had.current_term)));
        }
        let vote_changes = term == had.current_term && had.voted_for.is_some() && has.voted_for != had.voted_for;
        let earlier = node
            .votes
            .get(&term)
            .copied()
            .filter(|earlier| Some(*earlier) != has.voted_for && term > node.forgotten_to);
        if vote_changes || earlier.is_some() {
            let earlier = earlier.or(had.voted_for);
            let what = format!("n{id}@{term} changes its vote from {earlier:?} to {:?}", has.voted_for);
            return Err(violation("vote-durability", what));
        }
        let says_much = (term, has.voted_for) != (had.current_term, had.voted_for) || !write.entries.is_empty();
        if says_much && !write.sync {
            return Err(violation(
                "vote-durability",
                format!("n{id}@{term} writes term, vote or entries without a sync"),
            ));
        }
        Ok(())
    }

    pub(crate) fn sent(&mut self, mirror: &Mirror, message: &Message) -> Result<(), Violation> {
        let Message { from, to, term, .. } = *message;
        let candidate = match message.body {
            Body::PreVote { .. } | Body::PreVoteResponse { granted: true } => return Ok(()),
            Body::RequestVote { .. } => Some(from),
            Body::RequestVoteResponse { granted: true } => Some(to),
            _ => None,
        };
        let node = mirror.node(from)?;
        if term > node.hard_state.current_term {
            let durable = node.hard_state.current_term;
            let what = format!("n{from} speaks in term {term}, but {durable} is durable: {:?}", message.body);
            return Err(violation("vote-durability", what));
        }
        let Some(candidate) = candidate else { return Ok(()) };
        if node.votes.get(&term) != Some(&candidate) {
            let what =
                format!("n{from}@{term} says its vote for n{candidate}, but {:?} is durable", node.votes.get(&term));
            return Err(violation("vote-durability", what));
        }
        let said = self.said.entry((from, term)).or_insert(candidate);
        if *said != candidate {
            let what = format!("n{from}@{term} votes for n{candidate} after n{said}");
            return Err(violation("vote-durability", what));
        }
        Ok(())
    }
}
