//! What must hold over all nodes and all time, whatever the network and the disks do (I1-I18 of the reliability notes, as far
//! as the core carries them). Each check is a sentence in its message.

#![allow(unreachable_pub)]

use super::{Node, is_prospective};
use bytes::Bytes;
use flaredb_raft::{AppendResult, Body, EntryId, Message, PeerState, RaftLogEntry, RaftStorage, Write};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Checker {
    leaders: BTreeMap<u64, u64>,
    votes: BTreeMap<(u64, u64), u64>,
    /// Every entry that was ever in a log: (index, term) to the term before it and its command.
    entries: BTreeMap<(u64, u64), (u64, Bytes)>,
    /// Committed entries by index.
    committed: BTreeMap<u64, u64>,
    pub commit_max: u64,
    applied: BTreeMap<u64, RaftLogEntry>,
    applied_commands: BTreeSet<Bytes>,
    refused_commands: BTreeSet<Bytes>,
    commit_seen: BTreeMap<u64, u64>,
    term_seen: BTreeMap<u64, u64>,
}

impl Checker {
    /// A message leaves a node, whose disk is as it is now.
    pub fn on_send(&mut self, node: &Node, message: &Message) {
        let durable = node.disk.hard_state();
        if !is_prospective(message) {
            assert!(message.term <= durable.current_term, "I7: {message:?} leaves in a term that is not durable");
        }
        if let Some(peer) = &node.peer {
            assert!(node.reports.is_none(), "R15: n{} does not know what it promised, and says {message:?}", node.id);
            let elects = matches!(
                message.body,
                Body::PreVote { .. }
                    | Body::RequestVote { .. }
                    | Body::PreVoteResponse { granted: true }
                    | Body::RequestVoteResponse { granted: true }
            );
            assert!(!elects || !peer.status().recovering, "R15: n{} is recovering, and says {message:?}", node.id);
        }
        match &message.body {
            Body::RequestVote { .. } => self.vote(message.from, message.term, message.from),
            Body::RequestVoteResponse { granted: true } => {
                let is_durable = durable.current_term == message.term && durable.voted_for == Some(message.to);
                assert!(is_durable, "I6: a vote leaves n{} before it is durable", message.from);
                self.vote(message.from, message.term, message.to);
            }
            Body::AppendEntries { prev, entries, .. } => {
                let first = entries.first().map_or(prev.index + 1, |entry| entry.index);
                assert_eq!(first, prev.index + 1, "I14: an append starts right behind its position");
            }
            Body::AppendEntriesResponse { result: AppendResult::Accepted { match_index }, .. } => {
                let last = node.disk.last_index().unwrap();
                assert!(
                    *match_index <= last,
                    "I12: n{} acknowledges {match_index}, its disk ends at {last}",
                    message.from
                );
            }
            _ => {}
        }
    }

    fn vote(&mut self, node: u64, term: u64, candidate: u64) {
        let before = *self.votes.entry((node, term)).or_insert(candidate);
        assert_eq!(before, candidate, "I6: n{node} votes for two candidates of term {term}");
    }

    /// A write was handed out: its entries are in that node's log.
    pub fn on_write(&mut self, node: &Node, write: &Write) {
        let peer = node.peer.as_ref().unwrap();
        for entry in &write.entries {
            let before = peer.term_of(entry.index - 1).unwrap().unwrap_or(0);
            let known =
                self.entries.entry((entry.index, entry.term)).or_insert_with(|| (before, entry.command.clone()));
            let position = entry.id();
            assert_eq!(
                *known,
                (before, entry.command.clone()),
                "I3: two logs have {position} with different contents or pasts"
            );
        }
    }

    pub fn on_apply(&mut self, node: &Node, entry: &RaftLogEntry) {
        let applied = node.history.last().map_or(0, |last| last.index);
        assert_eq!(entry.index, applied + 1, "I9: n{} applies entries in order, one by one", node.id);
        let stored = node.disk.term_of(entry.index).unwrap();
        assert_eq!(stored, entry.term, "n{} applies only what is durable there", node.id);
        let first = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
        assert_eq!(first, entry, "I5: the same entry is applied everywhere");
        if *first == *entry && !entry.command.is_empty() && self.applied_commands.insert(entry.command.clone()) {
            assert!(
                !self.refused_commands.contains(&entry.command),
                "I32: {:?} was refused and took effect",
                entry.command
            );
        }
    }

    pub fn on_refused(&mut self, command: &Bytes) {
        assert!(!self.applied_commands.contains(command), "I32: {command:?} is refused but took effect");
        self.refused_commands.insert(command.clone());
    }

    /// I26, B68: commands are unique in these tests, so each may stand at one index only.
    pub fn check_applied_once(&self) {
        let mut seen = BTreeSet::new();
        for entry in self.applied.values().filter(|entry| !entry.command.is_empty()) {
            assert!(seen.insert(entry.command.clone()), "B68: {:?} took effect twice", entry.command);
        }
    }

    pub fn on_restart(&mut self, node: u64) {
        self.commit_seen.remove(&node);
    }

    /// A disk was replaced. The votes it gave to others count for ever; those for itself ended with it: that candidate is gone,
    /// and answers to it find a follower (R15).
    pub fn on_wipe(&mut self, node: u64) {
        self.votes.retain(|(voter, _), candidate| *voter != node || *candidate != node);
    }

    /// After every step of a node.
    pub fn after_step(&mut self, nodes: &BTreeMap<u64, Node>, id: u64, voters: &[u64]) {
        let node = &nodes[&id];
        let Some(peer) = &node.peer else { return };
        let status = peer.status();
        let term_before = self.term_seen.insert(id, status.term).unwrap_or(0);
        assert!(status.term >= term_before.min(node.disk.hard_state().current_term), "I7: the term never falls");
        if status.state == PeerState::Leader {
            let leader = *self.leaders.entry(status.term).or_insert(id);
            assert_eq!(leader, id, "I1: two leaders in term {}", status.term);
            if let Some(term) = self.committed.get(&self.commit_max)
                && status.term >= *self.leaders.keys().last().unwrap()
                && let Some(found) = peer.term_of(self.commit_max).unwrap()
            {
                assert_eq!(found, *term, "I4: a leader's log holds everything committed");
            } else if status.term >= *self.leaders.keys().last().unwrap() {
                assert!(status.last_index >= self.commit_max, "I4: a leader's log holds everything committed");
            }
        }
        let seen = self.commit_seen.get(&id).copied().unwrap_or(0);
        assert!(status.commit_index >= seen, "I8: the commit index of n{id} never falls");
        for index in seen + 1..=status.commit_index {
            let Some(term) = peer.term_of(index).unwrap() else { continue };
            let known = *self.committed.entry(index).or_insert(term);
            assert_eq!(known, term, "I5: entry {index} is committed once and for all");
            if index > self.commit_max {
                self.commit_max = index;
                let holds = |voter: &&u64| {
                    let disk = &nodes[*voter].disk;
                    let snapshot = disk.snapshot().unwrap().last.index;
                    // What a disk lost counts as long as its node keeps the promise (R15).
                    let promised = nodes[*voter].owed.is_some_and(|owed| owed >= EntryId { index, term });
                    promised || index <= snapshot || disk.term_of(index).is_ok_and(|found| found == term)
                };
                let copies = voters.iter().filter(holds).count();
                let position = EntryId { index, term };
                assert!(
                    copies > voters.len() / 2,
                    "I10: {position} is committed on {copies} disks of {}",
                    voters.len()
                );
            }
        }
        self.commit_seen.insert(id, status.commit_index);
    }
}
