//! What must hold over all nodes and all time. Each look is constant time, or linear in what is new.

use super::node::{Applied, Node};
use crate::observed::Violation;
use flaredb_raft::{AppendResult, Body, EntryId, Message, PeerState, PeerStatus, RaftStorage, Write};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Rules {
    leaders: BTreeMap<u64, u64>,
    /// (node, term) to candidate, of recent terms.
    votes: BTreeMap<(u64, u64), u64>,
    /// By index, from 1 on: every entry that was ever in a log, as term, term before it, length of its command.
    entries: Vec<Vec<(u64, u64, usize)>>,
    /// By index, from 1 on: the term of the committed entry.
    committed: Vec<u64>,
    /// By index, from 1 on: the content after it, from the first that applied it.
    applied: Vec<Option<u64>>,
}

fn broken(rule: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { rule, what })
}

fn place(index: u64) -> usize {
    usize::try_from(index - 1).unwrap_or(usize::MAX)
}

impl Rules {
    pub(super) fn committed(&self) -> u64 {
        u64::try_from(self.committed.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn leaders(&self) -> u64 {
        u64::try_from(self.leaders.len()).unwrap_or(u64::MAX)
    }

    /// A message leaves: what it promises is durable, and a vote is said for one candidate only.
    pub(super) fn sent(&mut self, node: &Node, message: &Message) -> Result<(), Violation> {
        let hard = node.disk.hard_state();
        let candidate = match message.body {
            Body::PreVote { .. } | Body::PreVoteResponse { granted: true } => return Ok(()),
            Body::RequestVote { .. } => Some(message.from),
            Body::RequestVoteResponse { granted: true } => Some(message.to),
            _ => None,
        };
        if message.term > hard.current_term {
            return broken(
                "persist before send",
                format!("{message:?} leaves, the disk has term {}", hard.current_term),
            );
        }
        if let Some(candidate) = candidate {
            if hard.current_term == message.term && hard.voted_for != Some(candidate) {
                return broken("persist before send", format!("{message:?} leaves, the disk has {hard:?}"));
            }
            let first = *self.votes.entry((node.id, message.term)).or_insert(candidate);
            if first != candidate {
                let what = format!("n{} votes for n{first} and n{candidate} in term {}", node.id, message.term);
                return broken("one vote a term", what);
            }
        }
        if let Body::AppendEntriesResponse { result: AppendResult::Accepted { match_index }, .. } = message.body {
            let last = node.disk.last_index().unwrap_or(0);
            if match_index > last {
                return broken(
                    "persist before send",
                    format!("n{} acknowledges {match_index}, its disk ends at {last}", node.id),
                );
            }
        }
        Ok(())
    }

    /// Log matching: an entry has one content and one past, wherever it is.
    pub(super) fn wrote(&mut self, node: &Node, write: &Write) -> Result<(), Violation> {
        let Some(first) = write.entries.first() else { return Ok(()) };
        let mut before = match &node.peer {
            Some(peer) => peer.term_of(first.index - 1).ok().flatten().unwrap_or(0),
            None => 0,
        };
        for entry in &write.entries {
            let at = place(entry.index);
            if self.entries.len() <= at {
                self.entries.resize(at + 1, Vec::new());
            }
            let Some(known) = self.entries.get_mut(at) else { continue };
            let this = (entry.term, before, entry.command.len());
            match known.iter().find(|(term, ..)| *term == entry.term) {
                Some(found) if *found != this => {
                    return broken(
                        "log matching",
                        format!("n{} writes {}: {this:?}, known is {found:?}", node.id, entry.id()),
                    );
                }
                Some(_) => {}
                None => known.push(this),
            }
            before = entry.term;
        }
        Ok(())
    }

    /// All nodes hold the same after the same entry.
    pub(super) fn applied(&mut self, node: u64, state: &Applied) -> Result<(), Violation> {
        let at = place(state.last.index);
        if self.applied.len() <= at {
            self.applied.resize(at + 1, None);
        }
        let Some(known) = self.applied.get_mut(at) else { return Ok(()) };
        if *known.get_or_insert(state.hash) == state.hash {
            return Ok(());
        }
        broken("state machine safety", format!("n{node} holds another state than others after {}", state.last))
    }

    /// A peer has taken in one event.
    pub(super) fn stepped(
        &mut self,
        nodes: &[Node],
        at: usize,
        status: &PeerStatus,
        seen: u64,
    ) -> Result<(), Violation> {
        let Some(node) = nodes.get(at) else { return Ok(()) };
        if status.state == PeerState::Leader {
            let leader = *self.leaders.entry(status.term).or_insert_with(|| node.id);
            if leader != node.id {
                return broken("election safety", format!("n{leader} and n{} lead in term {}", node.id, status.term));
            }
        }
        if status.commit_index < seen {
            return broken("commit never falls", format!("n{}: {} after {seen}", node.id, status.commit_index));
        }
        if status.commit_index == seen {
            return Ok(());
        }
        let Some(peer) = &node.peer else { return Ok(()) };
        for index in seen + 1..=status.commit_index {
            let Ok(Some(term)) = peer.term_of(index) else { continue };
            match self.committed.get(place(index)) {
                Some(known) if *known != term => {
                    let what = format!("{index}@{known} is committed, and {index}@{term} at n{}", node.id);
                    return broken("state machine safety", what);
                }
                Some(_) => {}
                None => self.commits(nodes, status, EntryId { index, term })?,
            }
        }
        Ok(())
    }

    /// Committed for the first time: by a leader, and on a majority of disks.
    fn commits(&mut self, nodes: &[Node], status: &PeerStatus, entry: EntryId) -> Result<(), Violation> {
        self.committed.push(entry.term);
        let holds = |node: &&Node| match node.disk.term_of(entry.index) {
            Ok(term) => term == entry.term,
            // Compacted away: it was committed there.
            Err(_) => node.disk.first_index().is_ok_and(|first| entry.index < first),
        };
        let copies = nodes.iter().filter(holds).count();
        if status.state == PeerState::Leader && copies > nodes.len() / 2 {
            return Ok(());
        }
        broken("commit rule", format!("n{} commits {entry} with {copies} copies as {:?}", status.id, status.state))
    }

    /// A new leader has everything that was committed.
    pub(super) fn elected(&self, node: &Node, status: &PeerStatus) -> Result<(), Violation> {
        let newest = self.leaders.last_key_value().is_none_or(|(term, _)| *term <= status.term);
        let Some((last, peer)) = self.committed.last().zip(node.peer.as_ref()).filter(|_| newest) else {
            return Ok(());
        };
        let index = self.committed();
        let found = peer.term_of(index).ok().flatten();
        // Compacted entries are committed ones.
        let compacted = found.is_none() && status.last_index > index;
        if found == Some(*last) || compacted {
            return Ok(());
        }
        let what = format!("n{} leads term {} without {index}@{last}: {found:?}", node.id, status.term);
        broken("leader completeness", what)
    }
}
