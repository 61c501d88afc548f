//! One peer with its disk and the write that is out, and what an event makes of it. Here are the rules that concern one node
//! alone: nothing is said before it is durable, entries are applied in order.

use super::{
    Sabotage,
    disk::{Content, Disk},
};
use crate::observed::Violation;
use bytes::Bytes;
use flaredb_raft::{AppendResult, Body, Config, Effects, Event, Message, Peer, PeerState, Write};
use std::{
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
};
use xxhash_rust::xxh3::Xxh3;

/// What can happen to a node. Crashes come in two kinds: the write that was out is lost, or it reached the disk and nobody
/// knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Campaign,
    Heartbeat,
    FinishWrite,
    Crash { write_survives: bool },
    Propose(u8),
    Receive(Message),
}

/// An entry as the rules see it: term, and which proposal it is (0: the no-op of a term).
pub(super) type Mark = (u64, u8);

#[derive(Clone, Debug)]
pub(super) struct Node {
    peer: Peer<Disk>,
    /// Out, with what waits for it.
    writing: Option<(Write, Vec<Message>)>,
    /// Since the last start.
    pub(super) applied: Vec<Mark>,
    /// Read off the peer and the disk after every action.
    pub(super) seen: Seen,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: u64,
    pub(super) term: u64,
    pub(super) leads: bool,
    pub(super) commit: u64,
    pub(super) durable_term: u64,
    /// Terms of the log in memory, from index 1 on.
    pub(super) log: Vec<u64>,
    pub(super) durable: Vec<Mark>,
    pub(super) writes: bool,
}

impl Node {
    pub(super) fn new(id: u64) -> Self {
        let peer = start(id, Content::default());
        let mut node = Self { peer, writing: None, applied: Vec::new(), seen: Seen::default() };
        node.look();
        node
    }

    /// The node after this, and what it sends. A panic of the core is a violation like any other.
    pub(super) fn after(&self, action: &Action, sabotage: Sabotage) -> Result<(Self, Vec<Message>), Violation> {
        let mut next = self.clone();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut sent = Vec::new();
            next.act(action, sabotage, &mut sent)?;
            next.drain(sabotage, &mut sent)?;
            next.look();
            Ok((next, sent))
        }));
        ran.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let what = format!("n{}: {}", self.seen.id, text.unwrap_or_default());
            Err(Violation { rule: "assertion of the core", what })
        })
    }

    fn act(&mut self, action: &Action, sabotage: Sabotage, sent: &mut Vec<Message>) -> Result<(), Violation> {
        match action {
            Action::Campaign => self.step(Event::Campaign),
            Action::Heartbeat => self.step(Event::Tick),
            Action::Propose(number) => {
                let command = Bytes::copy_from_slice(&[b'a' + number]);
                self.step(Event::Propose { ticket: u64::from(*number), command, context: None });
            }
            Action::Receive(message) => self.step(Event::Receive(message.clone())),
            Action::FinishWrite => {
                let Some((write, after)) = self.writing.take() else { return Ok(()) };
                self.peer.storage().0.borrow_mut().apply(&write);
                for message in &after {
                    self.check_sent(message)?;
                }
                sent.extend(after);
                self.step(Event::WriteDone { id: write.id });
            }
            Action::Crash { write_survives } => {
                let mut content = self.peer.storage().0.borrow().clone();
                if let Some((write, _)) = self.writing.take().filter(|_| *write_survives) {
                    content.apply(&write);
                }
                match sabotage {
                    Sabotage::VoteLostAtCrash => content.hard_state.voted_for = None,
                    Sabotage::EntryLostAtCrash => {
                        drop(content.entries.pop());
                        content.hard_state.commit_index = content.hard_state.commit_index.min(content.last().index);
                    }
                    Sabotage::None | Sabotage::SentBesideWrite => {}
                }
                self.peer = start(self.seen.id, content);
                self.applied.clear();
            }
        }
        Ok(())
    }

    fn step(&mut self, event: Event) {
        let stepped = self.peer.step(event);
        assert!(stepped.is_ok(), "a disk in memory does not fail: {stepped:?}");
        self.peer.check_invariants();
    }

    /// Does what the peer asks for, until it asks for nothing more.
    fn drain(&mut self, sabotage: Sabotage, sent: &mut Vec<Message>) -> Result<(), Violation> {
        for _ in 0..32 {
            if !self.peer.has_effects() {
                return Ok(());
            }
            let Effects {
                write,
                send_now,
                send_after_write,
                apply,
                reads_ready: _,
                reads_failed: _,
                refused: _,
                install,
                send_snapshot,
                leadership: _,
            } = self.peer.take_effects();
            assert!(install.is_none() && send_snapshot.is_empty(), "nothing is compacted away here");
            assert!(write.is_some() || send_after_write.is_empty(), "what waits, waits for a write");
            for message in &send_now {
                self.check_sent(message)?;
            }
            sent.extend(send_now);
            if let Some(write) = write {
                assert!(self.writing.is_none(), "one write is out at a time");
                if sabotage == Sabotage::SentBesideWrite {
                    sent.extend(send_after_write);
                    self.writing = Some((write, Vec::new()));
                } else {
                    self.writing = Some((write, send_after_write));
                }
            }
            let Some(last) = apply.last().map(|entry| entry.index) else { continue };
            for entry in apply {
                let durable = self.peer.storage().0.borrow();
                let place = usize::try_from(entry.index - 1).unwrap_or(usize::MAX);
                if place != self.applied.len() || durable.entries.get(place) != Some(&entry) {
                    let what = format!("n{} applies {} out of order or before it is durable", self.seen.id, entry.id());
                    return Err(Violation { rule: "apply order", what });
                }
                self.applied.push((entry.term, proposal(&entry.command)));
            }
            self.step(Event::Applied { index: last });
        }
        assert!(!self.peer.has_effects(), "effects come to an end");
        Ok(())
    }

    /// A message leaves: what it promises is on the disk.
    fn check_sent(&self, message: &Message) -> Result<(), Violation> {
        let disk = self.peer.storage().0.borrow();
        let hard = disk.hard_state;
        let votes_for = |id: u64| hard.current_term == message.term && hard.voted_for == Some(id);
        let holds = match &message.body {
            // Of a term that has not begun.
            Body::PreVote { .. } | Body::PreVoteResponse { granted: true } => true,
            Body::RequestVote { .. } => votes_for(message.from),
            Body::RequestVoteResponse { granted: true } => votes_for(message.to),
            Body::AppendEntriesResponse { result: AppendResult::Accepted { match_index }, .. } => {
                message.term <= hard.current_term && *match_index <= disk.last().index
            }
            _ => message.term <= hard.current_term,
        };
        if holds {
            return Ok(());
        }
        let what = format!("n{} says {message:?}, its disk has {hard:?} and ends at {}", message.from, disk.last());
        Err(Violation { rule: "persist before send", what })
    }

    fn look(&mut self) {
        let status = self.peer.status();
        let term_at = |index| self.peer.term_of(index).ok().flatten().unwrap_or(0);
        self.seen = Seen {
            id: status.id,
            term: status.term,
            leads: status.state == PeerState::Leader,
            commit: status.commit_index,
            durable_term: self.peer.storage().0.borrow().hard_state.current_term,
            log: (1..=status.last_index).map(term_at).collect(),
            durable: {
                let disk = self.peer.storage().0.borrow();
                disk.entries.iter().map(|entry| (entry.term, proposal(&entry.command))).collect()
            },
            writes: self.writing.is_some(),
        };
    }

    /// Two nodes with the same fingerprint do the same from now on.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut hasher = Xxh3::new();
        self.seen.id.hash(&mut hasher);
        self.peer.hash_timeless_state(&mut hasher);
        self.peer.storage().0.borrow().hash(&mut hasher);
        match &self.writing {
            // Numbers of writes only tell them apart.
            Some((Write { id: _, hard_state, entries, sync }, after)) => {
                (hard_state, entries, sync, after).hash(&mut hasher);
            }
            None => hasher.write_u8(0),
        }
        self.applied.hash(&mut hasher);
        hasher.digest128()
    }
}

/// A peer that reads this disk. It never campaigns by itself: the model says when.
fn start(id: u64, content: Content) -> Peer<Disk> {
    let config = Config { election_timeout_ticks: 1_000_000, heartbeat_interval_ticks: 1, ..Config::new(id, 1) };
    match Peer::new(config, Disk(content.into()), 0) {
        Ok(peer) => peer,
        Err(error) => unreachable!("what a peer has written it can start from: {error}"),
    }
}

fn proposal(command: &Bytes) -> u8 {
    command.first().map_or(0, |byte| byte - b'a' + 1)
}
