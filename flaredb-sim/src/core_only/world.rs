//! Virtual time and one heap of what happens when; the network, the disks and the clients that put things into it.

use super::{
    Coverage, Report,
    node::{Applied, Node},
    rules::Rules,
    settings::{Settings, TICK},
};
use crate::{observed::Violation, prf::Draw};
use bytes::Bytes;
use flaredb_raft::{Body, Effects, Event, Message, Peer, PeerState, SendSnapshot, SnapshotMeta};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What is due at some time.
enum Due {
    Deliver(Message),
    Snapshot { from: u64, to: u64, term: u64, snapshot: SnapshotMeta, state: Applied },
    Tick { node: u64, incarnation: u64 },
    DiskDone { node: u64, incarnation: u64 },
    Restart { node: u64 },
    Heal,
    Propose,
}

/// Ordered by time, then by number.
struct Item {
    at: Reverse<(u64, u64)>,
    due: Due,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Item {}
impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

pub(super) struct World {
    seed: u64,
    settings: Settings,
    nodes: Vec<Node>,
    voters: Vec<u64>,
    heap: BinaryHeap<Item>,
    now: u64,
    number: u64,
    /// Pairs (from, to) that nothing passes.
    cut: Vec<(u64, u64)>,
    links: Draw,
    disks: Draw,
    faults: Draw,
    clients: Draw,
    rules: Rules,
    coverage: Coverage,
    events: u64,
    events_max: u64,
    trace: u64,
    proposed: u64,
    reads: u64,
}

impl World {
    pub(super) fn new(seed: u64, events: u64) -> Self {
        let settings = Settings::draw(seed);
        let voters: Vec<u64> = (1..=settings.nodes).collect();
        let nodes = voters.iter().map(|id| Node::new(*id, &voters)).collect();
        let stream = |name| Draw::new(seed, name, 0);
        Self {
            seed,
            settings,
            nodes,
            voters,
            heap: BinaryHeap::new(),
            now: 0,
            number: 0,
            cut: Vec::new(),
            links: stream("links"),
            disks: stream("disks"),
            faults: stream("faults"),
            clients: stream("clients"),
            rules: Rules::default(),
            coverage: Coverage::default(),
            events: 0,
            events_max: events,
            trace: 0,
            proposed: 0,
            reads: 0,
        }
    }

    pub(super) fn run(mut self) -> Report {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_all()));
        let violation = match ran {
            Ok(result) => result.err(),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Some(Violation { rule: "assertion of the core", what: text.unwrap_or_default() })
            }
        };
        self.coverage.committed = self.rules.committed();
        self.coverage.leaders = self.rules.leaders();
        let Self { seed, events, trace, coverage, .. } = self;
        Report { seed, events, trace_hash: trace, violation, coverage }
    }

    fn run_all(&mut self) -> Result<(), Violation> {
        for at in 0..self.nodes.len() {
            self.start(at)?;
        }
        self.later(1, Due::Propose);
        let faulty = self.events_max / 10 * 9;
        while self.events < faulty {
            self.next()?;
            self.break_something()?;
        }
        self.heal()?;
        // What was under way, then elections, then a proposal of each kind has time to pass.
        let goal = self.rules.committed() + 3;
        let end = self.now + 400 * TICK;
        while self.now < end || self.events < self.events_max {
            self.next()?;
        }
        let behind = self.nodes.iter().find(|node| node.applied.last.index < goal);
        match behind {
            None => Ok(()),
            Some(node) => {
                let what =
                    format!("n{} has applied {}, not {goal}, 400 ticks after all healed", node.id, node.applied.last);
                Err(Violation { rule: "liveness", what })
            }
        }
    }

    fn later(&mut self, delay: u64, due: Due) {
        self.number += 1;
        self.heap.push(Item { at: Reverse((self.now + delay, self.number)), due });
    }

    /// Folds what happens into the trace's hash.
    fn note(&mut self, kind: u64, what: u64) {
        let mixed =
            (self.trace ^ kind ^ what.rotate_left(17) ^ self.now.rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.trace = mixed ^ (mixed >> 29);
    }

    fn index(id: u64) -> usize {
        usize::try_from(id - 1).unwrap_or(usize::MAX)
    }

    fn next(&mut self) -> Result<(), Violation> {
        let Some(Item { at: Reverse((now, _)), due }) = self.heap.pop() else { unreachable!("proposals never end") };
        self.now = now;
        self.events += 1;
        match due {
            Due::Deliver(message) => {
                if self.is_cut(message.from, message.to) {
                    return Ok(());
                }
                let at = Self::index(message.to);
                self.note(1, message.from << 8 | message.to);
                self.step(at, Event::Receive(message))
            }
            Due::Tick { node, incarnation } => {
                let at = Self::index(node);
                if self.nodes.get(at).is_none_or(|node| node.incarnation != incarnation) {
                    return Ok(());
                }
                let jitter = self.clients.below(20);
                self.later(TICK - 10 + jitter, Due::Tick { node, incarnation });
                self.step(at, Event::Tick)
            }
            Due::DiskDone { node, incarnation } => self.disk_done(Self::index(node), incarnation),
            Due::Snapshot { from, to, term, snapshot, state } => self.snapshot_arrives(from, to, term, snapshot, state),
            Due::Restart { node } => {
                let at = Self::index(node);
                if self.nodes.get(at).is_some_and(|node| node.peer.is_none()) { self.start(at) } else { Ok(()) }
            }
            Due::Heal => {
                self.cut.clear();
                Ok(())
            }
            Due::Propose => self.propose(),
        }
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        !self.cut.is_empty() && self.cut.contains(&(from, to))
    }

    fn start(&mut self, at: usize) -> Result<(), Violation> {
        let (seed, settings) = (self.seed, &self.settings);
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let config = settings.config(seed.wrapping_mul(31).wrapping_add(node.id), node.id, node.incarnation);
        match Peer::new(config, node.disk.clone(), node.flushed.last.index) {
            Ok(peer) => node.peer = Some(peer),
            Err(error) => return Err(Violation { rule: "start", what: format!("n{}: {error}", node.id) }),
        }
        node.applied = node.flushed;
        let (id, incarnation) = (node.id, node.incarnation);
        let first = 1 + self.clients.below(TICK);
        self.later(first, Due::Tick { node: id, incarnation });
        self.look(at, None)?;
        self.drain(at)
    }

    /// Steps a peer that is up, does what it asks for, and checks.
    fn step(&mut self, at: usize, event: Event) -> Result<(), Violation> {
        if self.step_only(at, event)? { self.drain(at) } else { Ok(()) }
    }

    /// False if it is down.
    fn step_only(&mut self, at: usize, event: Event) -> Result<bool, Violation> {
        let Some(Node { id, peer: Some(peer), .. }) = self.nodes.get_mut(at) else { return Ok(false) };
        let led = peer.status().state == PeerState::Leader;
        if let Err(error) = peer.step(event) {
            return Err(Violation { rule: "storage", what: format!("n{id}: {error}") });
        }
        self.look(at, Some(led))?;
        Ok(true)
    }

    fn look(&mut self, at: usize, led: Option<bool>) -> Result<(), Violation> {
        let Some(Node { peer: Some(peer), commit_seen, .. }) = self.nodes.get(at) else { return Ok(()) };
        let status = peer.status();
        let seen = *commit_seen;
        self.rules.stepped(&self.nodes, at, &status, seen)?;
        if status.state == PeerState::Leader && led != Some(true) {
            let Some(node) = self.nodes.get(at) else { return Ok(()) };
            self.rules.elected(node, &status)?;
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.commit_seen = status.commit_index;
        }
        self.note(2, status.term.rotate_left(8) ^ status.last_index.rotate_left(24) ^ status.commit_index);
        Ok(())
    }

    fn drain(&mut self, at: usize) -> Result<(), Violation> {
        loop {
            let Some(Node { id, peer: Some(peer), .. }) = self.nodes.get_mut(at) else { return Ok(()) };
            if !peer.has_effects() {
                peer.check_invariants();
                return Ok(());
            }
            let id = *id;
            let Effects {
                write,
                send_now,
                send_after_write,
                apply,
                reads_ready,
                reads_failed: _,
                refused: _,
                install,
                send_snapshot,
                leadership: _,
            } = peer.take_effects();
            self.send_all(at, send_now)?;
            if let Some(write) = write {
                let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
                self.rules.wrote(node, &write)?;
                assert!(node.writing.is_none() && node.installing.is_none(), "one write is out at a time");
                node.writing = Some((write, send_after_write));
                self.start_disk(at);
            } else {
                assert!(send_after_write.is_empty(), "what waits, waits for a write");
            }
            self.coverage.reads += u64::try_from(reads_ready.len()).unwrap_or(0);
            if let Some(last) = apply.last().map(|entry| entry.index) {
                let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
                for entry in &apply {
                    assert!(entry.index == node.applied.last.index + 1, "entries are applied in order, each once");
                    node.applied.apply(entry);
                    self.rules.applied(id, &node.applied)?;
                }
                self.step_only(at, Event::Applied { index: last })?;
            }
            for SendSnapshot { to, term } in send_snapshot {
                self.send_snapshot(at, to, term);
            }
            if let Some(snapshot) = install {
                if let Some(node) = self.nodes.get_mut(at) {
                    node.installing = Some(snapshot);
                }
                self.start_disk(at);
            }
        }
    }

    fn send_all(&mut self, at: usize, messages: Vec<Message>) -> Result<(), Violation> {
        for message in messages {
            let Some(node) = self.nodes.get(at) else { return Ok(()) };
            self.rules.sent(node, &message)?;
            if self.links.hits(self.settings.loss) {
                continue;
            }
            if self.links.hits(self.settings.duplicates) {
                let delay = self.delay();
                self.later(delay, Due::Deliver(message.clone()));
            }
            let delay = self.delay();
            self.later(delay, Due::Deliver(message));
        }
        Ok(())
    }

    fn delay(&mut self) -> u64 {
        let late = self.links.hits(self.settings.late);
        20 + self.links.below(if late { 10 * TICK } else { self.settings.delay_max })
    }

    fn start_disk(&mut self, at: usize) {
        let stall = self.disks.hits(self.settings.stalls);
        let delay = 10 + self.disks.below(if stall { 30 * TICK } else { 200 });
        let Some(Node { id, incarnation, .. }) = self.nodes.get(at) else { return };
        let (node, incarnation) = (*id, *incarnation);
        self.later(delay, Due::DiskDone { node, incarnation });
    }

    fn disk_done(&mut self, at: usize, incarnation: u64) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        if node.incarnation != incarnation {
            return Ok(());
        }
        if let Some((write, after)) = node.writing.take() {
            node.disk.apply_write(&write);
            self.send_all(at, after)?;
            return self.step(at, Event::WriteDone { id: write.id });
        }
        let Some(snapshot) = node.installing.take() else { return Ok(()) };
        let Some(state) = node.staged.remove(&snapshot.last) else {
            return Err(Violation { rule: "snapshots", what: format!("n{} installs what it was not sent", node.id) });
        };
        // A newer one may have come meanwhile; the core asks for that next.
        node.staged.retain(|last, _| last.index > snapshot.last.index);
        node.disk.install_snapshot(&snapshot);
        (node.applied, node.flushed) = (state, state);
        let id = node.id;
        self.rules.applied(id, &state)?;
        self.coverage.snapshots += 1;
        self.step(at, Event::SnapshotInstalled { last: snapshot.last })
    }

    fn send_snapshot(&mut self, at: usize, to: u64, term: u64) {
        let Some(Node { id, peer: Some(peer), applied, .. }) = self.nodes.get(at) else { return };
        let snapshot = SnapshotMeta { last: applied.last, conf_state: peer.conf_state().clone() };
        let (from, state) = (*id, *applied);
        let delay = 100 + self.links.below(5 * TICK);
        self.later(delay, Due::Snapshot { from, to, term, snapshot, state });
    }

    fn snapshot_arrives(
        &mut self,
        from: u64,
        to: u64,
        term: u64,
        snapshot: SnapshotMeta,
        state: Applied,
    ) -> Result<(), Violation> {
        let lost = self.is_cut(from, to) || self.links.hits(self.settings.loss);
        let at = Self::index(to);
        let receiver = self.nodes.get_mut(at).filter(|node| node.peer.is_some() && !lost);
        let delivered = receiver.is_some();
        if let Some(node) = receiver {
            node.staged.insert(snapshot.last, state);
            let body = Body::InstallSnapshot { snapshot };
            self.step(at, Event::Receive(Message { from, to, region_id: 1, term, body }))?;
        }
        self.step(Self::index(from), Event::SnapshotSent { to, delivered })
    }

    /// Proposals and reads, through the leader as a rule.
    fn propose(&mut self) -> Result<(), Violation> {
        let gap = 1 + self.clients.below(2 * self.settings.proposal_gap);
        self.later(gap, Due::Propose);
        let any = usize::try_from(self.clients.below(self.settings.nodes)).unwrap_or(0);
        let leads = |node: &Node| node.peer.as_ref().is_some_and(|peer| peer.status().state == PeerState::Leader);
        let leader = self.nodes.iter().position(leads).filter(|_| self.clients.below(4) > 0);
        let at = leader.unwrap_or(any);
        if self.clients.below(8) == 0 {
            self.reads += 1;
            return self.step(at, Event::ReadIndex { id: self.reads });
        }
        for _ in 0..self.clients.between(1, 3) {
            self.proposed += 1;
            let command = Bytes::copy_from_slice(&self.proposed.to_le_bytes());
            self.step_only(at, Event::Propose { ticket: self.proposed, command, context: None })?;
        }
        self.drain(at)
    }

    fn break_something(&mut self) -> Result<(), Violation> {
        let at = usize::try_from(self.events % self.settings.nodes).unwrap_or(0);
        let Some(id) = self.nodes.get(at).map(|node| node.id) else { return Ok(()) };
        if self.faults.hits(self.settings.crashes) && self.nodes.get(at).is_some_and(|node| node.peer.is_some()) {
            self.note(3, id);
            self.coverage.crashes += 1;
            self.nodes.get_mut(at).into_iter().for_each(Node::crash);
            let down = 1 + self.faults.below(20 * TICK);
            self.later(down, Due::Restart { node: id });
        }
        if self.faults.hits(self.settings.cuts) && self.cut.is_empty() {
            self.note(4, id);
            self.coverage.cuts += 1;
            let (out, into) = *self.faults.pick(&[(true, true), (true, true), (true, false), (false, true)]);
            for other in self.voters.iter().filter(|other| **other != id) {
                if out {
                    self.cut.push((id, *other));
                }
                if into {
                    self.cut.push((*other, id));
                }
            }
            let length = 1 + self.faults.below(60 * TICK);
            self.later(length, Due::Heal);
        }
        if self.faults.hits(self.settings.compactions) {
            let keep = self.faults.below(5);
            if let Some(node) = self.nodes.get_mut(at).filter(|node| node.installing.is_none()) {
                node.compact(keep);
            }
        }
        if self.faults.hits(self.settings.transfers) {
            let to = *self.faults.pick(&self.voters);
            self.step(at, Event::TransferLeadership { to })?;
            self.step(at, Event::Unreachable { peer: to })?;
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), Violation> {
        self.settings.heal();
        self.cut.clear();
        for at in 0..self.nodes.len() {
            if self.nodes.get(at).is_some_and(|node| node.peer.is_none()) {
                self.start(at)?;
            }
        }
        Ok(())
    }
}
