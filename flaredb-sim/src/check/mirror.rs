//! What each node holds, as far as it was seen: the log in its memory, the log and hard state that must survive a crash, and what
//! it promised. The rules look here; only this file changes it.

use super::log::TermLog;
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{AppendResult, Body, EntryId, HardState, Message, PeerState, PeerStatus, RaftLogEntry, Write};
use std::collections::BTreeMap;

/// One node over all its lives.
#[derive(Debug, Default)]
pub(crate) struct NodeMirror {
    pub(crate) is_up: bool,
    pub(crate) has_started: bool,
    pub(crate) incarnation: u64,
    /// The peer as it was last seen, in this life.
    pub(crate) status: Option<PeerStatus>,
    /// The log in memory: as it was last asked to be written, and what a leader sent before it asked.
    pub(crate) memory: TermLog,
    /// The log as it was last asked to be written: what is durable if the write under way survives.
    pub(crate) asked: TermLog,
    /// The log that is durable.
    pub(crate) durable: TermLog,
    /// The hard state that was last asked for, and the one that is durable.
    pub(crate) asked_hard_state: HardState,
    pub(crate) hard_state: HardState,
    /// The id of the write under way.
    pub(crate) writing: Option<u64>,
    /// Whom it durably voted for in each term, over all lives and disks.
    pub(crate) votes: BTreeMap<u64, u64>,
    /// Applied index of its state machine.
    pub(crate) applied: u64,
    /// It lost entries: before its log has reached this it must not vote.
    pub(crate) promise: Option<EntryId>,
    /// What its former disk held, from when that was replaced until its recovery ends.
    pub(crate) former: Option<TermLog>,
    /// Its disk was replaced, and it does not know yet, or not any more.
    pub(crate) is_unaware: bool,
    /// Up to this term its disks may have forgotten its votes.
    pub(crate) forgotten_to: u64,
    /// It lost something once, or was sent a snapshot: what its log lacks is not due to truncation alone.
    pub(crate) was_helped: bool,
}

impl NodeMirror {
    pub(crate) fn is_leader(&self) -> bool {
        self.status.is_some_and(|status| status.state == PeerState::Leader)
    }

    pub(crate) fn term(&self) -> u64 {
        self.status.map_or(self.hard_state.current_term, |status| status.term)
    }
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// Node 1 is the first.
    nodes: Vec<NodeMirror>,
    quorum: usize,
}

impl Mirror {
    pub(crate) fn new(nodes: u64) -> Self {
        let count = usize::try_from(nodes).unwrap_or(0);
        Self { nodes: (0..count).map(|_| NodeMirror::default()).collect(), quorum: count / 2 + 1 }
    }

    pub(crate) fn quorum(&self) -> usize {
        self.quorum
    }

    /// Node ids begin at 1; an unknown one is a mistake of the world's.
    pub(crate) fn node(&self, id: u64) -> Result<&NodeMirror, Violation> {
        let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        place.and_then(|place| self.nodes.get(place)).ok_or_else(|| violation("world", format!("there is no n{id}")))
    }

    pub(crate) fn node_mut(&mut self, id: u64) -> Result<&mut NodeMirror, Violation> {
        let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let node = place.and_then(|place| self.nodes.get_mut(place));
        node.ok_or_else(|| violation("world", format!("there is no n{id}")))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &NodeMirror)> {
        (1..).zip(&self.nodes)
    }

    pub(crate) fn started(&mut self, id: u64, start: &Start<'_>) -> Result<(), Violation> {
        let node = self.node_mut(id)?;
        let mut log = TermLog::from(start.compacted_to);
        for entry in start.entries {
            log.push(entry.id()).map_err(|what| violation("log-matching", format!("n{id} started: {what}")))?;
        }
        let lost = start.lost(node, &log);
        let restarted = start.compacted_to.index > node.durable.compacted_to().index;
        node.was_helped |= lost || start.disk_replaced || start.recovering.is_some() || restarted;
        if start.disk_replaced {
            node.former.get_or_insert_with(|| node.durable.clone());
            let voted = node.votes.last_key_value().map_or(0, |(term, _)| *term);
            node.forgotten_to = node.forgotten_to.max(voted).max(node.hard_state.current_term);
            // Its own candidacies are over: whoever votes for it now votes for what it is now.
            node.votes.retain(|_, candidate| *candidate != id);
        }
        node.is_unaware = node.former.is_some() && start.recovering.is_none();
        let claimed = start.recovering.filter(|until| until.term != u64::MAX);
        let owed = node.promise.max(lost.then(|| node.durable.last())).max(claimed);
        node.promise = owed.filter(|until| log.last() < *until);
        (node.is_up, node.has_started, node.incarnation, node.status) = (true, true, start.incarnation, None);
        (node.asked_hard_state, node.hard_state, node.writing) = (start.hard_state, start.hard_state, None);
        // A write that a crash cut short may be there all the same, its vote too.
        if let Some(candidate) = start.hard_state.voted_for {
            node.votes.entry(start.hard_state.current_term).or_insert(candidate);
        }
        (node.memory, node.asked) = (log.clone(), log.clone());
        node.durable = log;
        node.applied = start.applied;
        Ok(())
    }

    pub(crate) fn crashed(&mut self, id: u64) -> Result<(), Violation> {
        let node = self.node_mut(id)?;
        (node.is_up, node.status) = (false, None);
        Ok(())
    }

    pub(crate) fn stepped(&mut self, id: u64, after: &PeerStatus) -> Result<(), Violation> {
        let node = self.node_mut(id)?;
        if after.recovering {
            node.is_unaware = false;
        } else if node.former.is_some() && node.status.is_some_and(|before| before.recovering) {
            (node.former, node.promise) = (None, None);
        }
        node.status = Some(*after);
        Ok(())
    }

    pub(crate) fn asked(&mut self, id: u64, write: &Write) -> Result<(), Violation> {
        let node = self.node_mut(id)?;
        node.asked_hard_state = write.hard_state;
        node.writing = Some(write.id);
        let result = node.memory.splice(write.entries.iter().map(RaftLogEntry::id));
        let result = result.and_then(|()| node.asked.splice(write.entries.iter().map(RaftLogEntry::id)));
        result.map_err(|what| violation("log-matching", format!("n{id} asks to write: {what}")))
    }

    pub(crate) fn durable(&mut self, id: u64, write: &Write) -> Result<(), Violation> {
        let node = self.node_mut(id)?;
        if node.writing.take() != Some(write.id) {
            return Err(violation("world", format!("n{id}: write {} is durable, but was not asked for", write.id)));
        }
        node.hard_state = write.hard_state;
        if let Some(candidate) = write.hard_state.voted_for {
            node.votes.entry(write.hard_state.current_term).or_insert(candidate);
        }
        let result = node.durable.splice(write.entries.iter().map(RaftLogEntry::id));
        node.promise = node.promise.filter(|until| node.durable.last() < *until);
        result.map_err(|what| violation("log-matching", format!("n{id} has written: {what}")))
    }

    /// A leader may send what it has not asked to write yet.
    pub(crate) fn sent(&mut self, message: &Message) -> Result<(), Violation> {
        let Body::AppendEntries { entries, .. } = &message.body else { return Ok(()) };
        let id = message.from;
        let node = self.node_mut(id)?;
        // What was put together in an earlier leadership may leave later, and says nothing of the log as it is now.
        if !node.is_leader() || node.term() != message.term {
            return Ok(());
        }
        for entry in entries {
            if entry.index == node.memory.last().index + 1 {
                node.memory
                    .push(entry.id())
                    .map_err(|what| violation("log-matching", format!("n{id} sends: {what}")))?;
            }
        }
        Ok(())
    }

    pub(crate) fn truncated(&mut self, id: u64, up_to: EntryId) -> Result<(), Violation> {
        let node = self.node_mut(id)?;
        node.memory.compact(up_to);
        node.asked.compact(up_to);
        node.durable.compact(up_to);
        Ok(())
    }

    pub(crate) fn installed(&mut self, id: u64, last: EntryId) -> Result<(), Violation> {
        let node = self.node_mut(id)?;
        (node.memory, node.asked) = (TermLog::from(last), TermLog::from(last));
        node.durable = TermLog::from(last);
        node.applied = last.index;
        node.was_helped = true;
        node.promise = node.promise.filter(|until| last < *until);
        Ok(())
    }
}

/// A start as it was seen.
pub(crate) struct Start<'a> {
    pub(crate) incarnation: u64,
    pub(crate) hard_state: HardState,
    pub(crate) compacted_to: EntryId,
    pub(crate) entries: &'a [RaftLogEntry],
    pub(crate) applied: u64,
    pub(crate) recovering: Option<EntryId>,
    pub(crate) disk_replaced: bool,
}

impl Start<'_> {
    /// True if the log that is left is neither the durable one nor that with the write under way, which is atomic, nor empty
    /// behind a snapshot that was being installed: that is done where the log lacks the snapshot's entry.
    pub(crate) fn lost(&self, node: &NodeMirror, log: &TermLog) -> bool {
        let installed = !self.disk_replaced && !node.durable.holds(self.compacted_to) && self.entries.is_empty();
        node.has_started && !log.holds_all_of(&node.durable) && !log.holds_all_of(&node.asked) && !installed
    }

    /// The log that it found.
    pub(crate) fn log(&self) -> TermLog {
        let mut log = TermLog::from(self.compacted_to);
        for entry in self.entries {
            // What does not follow is reported by the mirror.
            let _ = log.push(entry.id());
        }
        log
    }
}

/// The position that an answer says is durable and equal to the leader's.
pub(crate) fn accepted(message: &Message) -> Option<u64> {
    match &message.body {
        Body::AppendEntriesResponse { result: AppendResult::Accepted { match_index }, .. } => Some(*match_index),
        _ => None,
    }
}
