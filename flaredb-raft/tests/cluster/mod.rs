//! A cluster of peers in one thread, with a network that is a list of packets and disks that finish when told to. Nothing
//! happens by itself: golden scripts and random runs decide what is delivered, lost, written and crashed. After every step
//! the peer's invariants and the cluster-wide checker run.
#![allow(dead_code, unreachable_pub)]

mod checker;

use bytes::Bytes;
pub use checker::Checker;
use flaredb_raft::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

pub struct Cluster {
    pub nodes: BTreeMap<u64, Node>,
    pub voters: Vec<u64>,
    /// In flight, oldest first.
    pub network: VecDeque<Packet>,
    /// Directed links that lose everything.
    pub cut: BTreeSet<(u64, u64)>,
    pub checker: Checker,
    /// What happened, one line each, since it was last taken.
    pub trace: Vec<String>,
    next_ticket: u64,
    next_incarnation: u64,
    /// Reads asked: id to the lowest index that a correct answer may have.
    reads: BTreeMap<u64, u64>,
    pub reads_answered: BTreeMap<u64, Option<u64>>,
    commands: BTreeMap<u64, Bytes>,
    pub refused: BTreeMap<u64, RefuseReason>,
}

pub struct Node {
    pub id: u64,
    pub config: Config,
    /// None while crashed.
    pub peer: Option<Peer<MemoryStorage>>,
    /// What survives a crash, together with `history` up to `flushed`.
    pub disk: MemoryStorage,
    /// Writes and installs wait to be told that they are done.
    pub slow: bool,
    pub write: Option<(flaredb_raft::Write, Vec<Message>)>,
    pub installing: Option<SnapshotMeta>,
    /// Snapshots' payloads, received whole, by position.
    staged: BTreeMap<EntryId, Vec<RaftLogEntry>>,
    /// The state machine: everything applied, from index 1 on.
    pub history: Vec<RaftLogEntry>,
    pub flushed: u64,
    /// The highest end, in Raft's order, that the disk ever had: what a real host keeps in its mark.
    pub mark: EntryId,
    /// What was promised by a disk that lost something, until the peer has recovered.
    pub owed: Option<EntryId>,
    /// The disk was replaced: what the other voters vouch for, (term, position) of each that was asked by this process.
    pub reports: Option<BTreeMap<u64, (u64, EntryId)>>,
    /// The term it was told then. Until that is durable, a crash makes it ask again.
    told_term: u64,
    /// What was on the disk when it was copied.
    pub copy: Option<Copy>,
}

/// A copy of a disk and of what was flushed.
pub struct Copy {
    disk: MemoryStorage,
    history: Vec<RaftLogEntry>,
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub from: u64,
    pub to: u64,
    pub payload: Payload,
}

#[derive(Clone, Debug)]
pub enum Payload {
    Message(Message),
    /// A snapshot's whole payload, made when it was asked for.
    Snapshot {
        term: u64,
        snapshot: SnapshotMeta,
        history: Vec<RaftLogEntry>,
    },
}

pub fn is_prospective(message: &Message) -> bool {
    matches!(message.body, Body::PreVote { .. } | Body::PreVoteResponse { granted: true })
}

impl Cluster {
    /// Peers `ids` with the given voters; `adjust` changes the settings of each.
    pub fn new(ids: &[u64], voters: &[u64], adjust: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            voters: voters.to_vec(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            checker: Checker::default(),
            trace: Vec::new(),
            next_ticket: 1,
            next_incarnation: 1,
            reads: BTreeMap::new(),
            reads_answered: BTreeMap::new(),
            commands: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        for &id in ids {
            let mut config = Config::new(id, 1);
            adjust(&mut config);
            let disk = MemoryStorage::new(voters);
            let node = Node {
                id,
                config,
                peer: None,
                disk,
                slow: false,
                write: None,
                installing: None,
                staged: BTreeMap::new(),
                history: Vec::new(),
                flushed: 0,
                mark: EntryId::default(),
                owed: None,
                reports: None,
                told_term: 0,
                copy: None,
            };
            cluster.nodes.insert(id, node);
            cluster.start(id);
        }
        cluster.trace.clear();
        cluster
    }

    pub fn of_three() -> Self {
        Self::new(&[1, 2, 3], &[1, 2, 3], |_| {})
    }

    pub fn peer(&self, id: u64) -> &Peer<MemoryStorage> {
        self.nodes[&id].peer.as_ref().unwrap()
    }

    pub fn status(&self, id: u64) -> PeerStatus {
        self.peer(id).status()
    }

    pub fn is_up(&self, id: u64) -> bool {
        self.nodes[&id].peer.is_some()
    }

    /// The leader of the highest term among the running nodes.
    pub fn leader(&self) -> Option<u64> {
        let up = self.nodes.values().filter_map(|node| node.peer.as_ref());
        let leaders = up.map(Peer::status).filter(|status| status.state == PeerState::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.id)
    }

    pub fn say(&mut self, line: String) {
        self.trace.push(line);
    }

    pub fn step(&mut self, id: u64, event: Event) {
        let Some(peer) = &mut self.nodes.get_mut(&id).unwrap().peer else { return };
        peer.step(event).unwrap();
        peer.check_invariants();
        self.after_step(id);
        self.run(id);
    }

    fn after_step(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let knows_its_term = node.disk.hard_state().current_term >= node.told_term;
        if knows_its_term && node.peer.as_ref().is_some_and(|peer| !peer.status().recovering) {
            node.owed = None;
        }
        self.checker.after_step(&self.nodes, id, &self.voters);
    }

    /// Does what the peer asks for, in the order that `Effects` lays down.
    fn run(&mut self, id: u64) {
        for round in 0.. {
            assert!(round < 100_000, "n{id} asks without end");
            let Some(peer) = &mut self.nodes.get_mut(&id).unwrap().peer else { return };
            if !peer.has_effects() {
                return;
            }
            let effects = peer.take_effects();
            peer.check_invariants();
            self.perform(id, effects);
        }
    }

    fn perform(&mut self, id: u64, effects: Effects) {
        let Effects {
            write,
            send_now,
            send_after_write,
            apply,
            reads_ready,
            reads_failed,
            refused,
            install,
            send_snapshot,
            leadership,
        } = effects;
        if let Some(change) = leadership {
            let leader = change.leader.map_or("no leader".to_string(), |leader| format!("leader n{leader}"));
            let lost = if change.lost_leadership { ", lost leadership" } else { "" };
            self.say(format!("n{id}: {leader} in term {}{lost}: {}", change.term, change.reason));
        }
        assert!(write.is_some() || send_after_write.is_empty(), "what waits for a write comes with it");
        self.send_all(id, send_now);
        if let Some(write) = write {
            assert!(self.nodes[&id].write.is_none(), "one write is in flight at a time");
            assert!(self.nodes[&id].installing.is_none(), "no write is asked for during an install");
            self.checker.on_write(&self.nodes[&id], &write);
            self.say(format!("n{id}: writes {}", show_write(&write)));
            let node = self.nodes.get_mut(&id).unwrap();
            node.write = Some((write, send_after_write));
            if !node.slow {
                self.finish_write(id);
            }
        }
        for entry in apply {
            self.checker.on_apply(&self.nodes[&id], &entry);
            self.say(format!("n{id}: applies {}", show_entry(&entry)));
            self.nodes.get_mut(&id).unwrap().history.push(entry);
        }
        let applied = self.nodes[&id].history.last().map_or(0, |entry| entry.index);
        if self.is_up(id) && applied > self.status(id).last_applied {
            let peer = self.nodes.get_mut(&id).unwrap().peer.as_mut().unwrap();
            peer.step(Event::Applied { index: applied }).unwrap();
        }
        for ReadReady { id: read, index } in reads_ready {
            self.say(format!("n{id}: read {read} may be answered at {index}"));
            let lowest = self.reads.remove(&read).unwrap_or_else(|| panic!("read {read} is answered once"));
            assert!(
                index >= lowest,
                "I18: read {read} is answered at {index}, but {lowest} was committed before it was asked"
            );
            self.reads_answered.insert(read, Some(index));
        }
        for read in reads_failed {
            self.say(format!("n{id}: read {read} failed"));
            assert!(self.reads.remove(&read).is_some(), "read {read} is answered once");
            self.reads_answered.insert(read, None);
        }
        for Refused { ticket, reason } in refused {
            let command = self.commands[&ticket].clone();
            self.say(format!("n{id}: refuses {} ({reason:?})", show_bytes(&command)));
            assert!(self.refused.insert(ticket, reason).is_none(), "ticket {ticket} is refused once");
            self.checker.on_refused(&command);
        }
        for SendSnapshot { to, term } in send_snapshot {
            let node = &self.nodes[&id];
            let last = node.history.last().map_or(EntryId::default(), RaftLogEntry::id);
            let snapshot = SnapshotMeta { last, conf_state: node.peer.as_ref().unwrap().conf_state().clone() };
            let payload = Payload::Snapshot { term, snapshot, history: node.history.clone() };
            self.say(format!("n{id}: sends snapshot {last} to n{to}"));
            self.network.push_back(Packet { from: id, to, payload });
        }
        if let Some(snapshot) = install {
            self.say(format!("n{id}: installs snapshot {}", snapshot.last));
            let node = self.nodes.get_mut(&id).unwrap();
            assert!(node.write.is_none(), "no write is out during an install");
            node.installing = Some(snapshot);
            if !node.slow {
                self.finish_install(id);
            }
        }
        if self.is_up(id) {
            self.peer(id).check_invariants();
            self.after_step(id);
        }
    }

    fn send_all(&mut self, id: u64, messages: Vec<Message>) {
        for message in messages {
            self.checker.on_send(&self.nodes[&id], &message);
            let packet = Packet { from: id, to: message.to, payload: Payload::Message(message) };
            if !self.cut.contains(&(packet.from, packet.to)) {
                self.network.push_back(packet);
            }
        }
    }

    /// The disk has finished the write in flight.
    pub fn finish_write(&mut self, id: u64) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some((write, after)) = node.write.take() else { return false };
        node.disk.apply_write(&write);
        node.mark = node.mark.max(node.disk.last());
        let slow = node.slow;
        if slow {
            self.say(format!("n{id}: write {} is durable", write.id));
        }
        self.send_all(id, after);
        let peer = self.nodes.get_mut(&id).unwrap().peer.as_mut().unwrap();
        peer.step(Event::WriteDone { id: write.id }).unwrap();
        peer.check_invariants();
        self.after_step(id);
        if slow {
            self.run(id);
        }
        true
    }

    /// Log, state and hard state are replaced, in one instant.
    pub fn finish_install(&mut self, id: u64) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(snapshot) = node.installing.take() else { return false };
        let history = node.staged.remove(&snapshot.last).expect("a snapshot that was received is installed");
        node.staged.clear();
        node.disk.install_snapshot(&snapshot);
        node.history = history;
        node.flushed = snapshot.last.index;
        node.mark = node.mark.max(snapshot.last);
        let slow = node.slow;
        let peer = node.peer.as_mut().unwrap();
        peer.step(Event::SnapshotInstalled { last: snapshot.last }).unwrap();
        peer.check_invariants();
        self.after_step(id);
        if slow {
            self.run(id);
        }
        true
    }

    pub fn tick(&mut self, id: u64) {
        self.step(id, Event::Tick);
    }

    pub fn propose(&mut self, id: u64, command: &str) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let command = Bytes::from(command.to_string());
        self.commands.insert(ticket, command.clone());
        self.step(id, Event::Propose { ticket, command, context: None });
        ticket
    }

    /// Several proposals that reach the peer before it is asked for effects.
    pub fn propose_together(&mut self, id: u64, commands: &[String]) {
        for command in commands {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            let command = Bytes::from(command.clone());
            self.commands.insert(ticket, command.clone());
            let Some(peer) = &mut self.nodes.get_mut(&id).unwrap().peer else { return };
            peer.step(Event::Propose { ticket, command, context: None }).unwrap();
        }
        self.run(id);
    }

    pub fn read(&mut self, id: u64) -> u64 {
        let read = self.next_ticket;
        self.next_ticket += 1;
        self.read_as(id, read);
        read
    }

    pub fn read_as(&mut self, id: u64, read: u64) {
        self.reads.insert(read, self.checker.commit_max);
        self.step(id, Event::ReadIndex { id: read });
    }

    /// Everything that was not durable is gone, and so is what the node had in mind.
    pub fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.peer = None;
        node.write = None;
        node.installing = None;
        node.staged.clear();
        node.history.truncate(usize::try_from(node.flushed).unwrap());
        self.checker.on_restart(id);
    }

    pub fn start(&mut self, id: u64) {
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(node.peer.is_none(), "n{id} is down");
        let config = Config { incarnation, seed: node.config.seed ^ (incarnation << 32), ..node.config.clone() };
        let mut peer = Peer::new(config, node.disk.clone(), node.flushed).unwrap();
        peer.check_invariants();
        if node.reports.is_some() || node.disk.hard_state().current_term < node.told_term {
            node.reports = Some(BTreeMap::new());
            peer.step(Event::Recover { until: None, term: 0 }).unwrap();
        }
        node.peer = Some(peer);
        self.after_step(id);
        self.run(id);
    }

    /// Compacts the log up to `index`, which must be applied; the state is flushed first (R14).
    pub fn compact(&mut self, id: u64, index: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let applied = node.history.last().map_or(0, |entry| entry.index);
        node.flushed = applied;
        node.disk.compact(index.min(applied));
        if let Some(peer) = &node.peer {
            peer.check_invariants();
        }
    }

    /// The node crashes, and its disk loses everything after `keep`. The state machine's store is another one: if it is ahead,
    /// the log begins again where that stands. The host finds this out from its mark.
    pub fn lose(&mut self, id: u64, keep: u64) {
        self.crash(id);
        let node = self.nodes.get_mut(&id).unwrap();
        node.disk.lose_after(keep);
        if let Some(applied) = node.history.last().filter(|entry| entry.index > node.disk.last().index) {
            node.disk.restart_at(applied.id());
        }
        node.disk.set_recover_until(Some(node.mark));
        node.owed = Some(node.mark);
        let last = node.disk.last();
        let mark = node.mark;
        self.say(format!("n{id}: the disk ends at {last}, and held {mark} once"));
    }

    /// The node crashes, and its disk is replaced by an empty one.
    pub fn wipe(&mut self, id: u64) {
        self.crash(id);
        let node = self.nodes.get_mut(&id).unwrap();
        node.disk = MemoryStorage::new(&self.voters);
        node.history.clear();
        node.flushed = 0;
        node.owed = Some(node.mark);
        node.mark = EntryId::default();
        node.told_term = 0;
        node.reports = Some(BTreeMap::new());
        self.checker.on_wipe(id);
        self.say(format!("n{id}: the disk is a new one"));
    }

    /// Keeps a copy of the node's disk as it is.
    pub fn copy_disk(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let history = node.history[..usize::try_from(node.flushed).unwrap()].to_vec();
        node.copy = Some(Copy { disk: node.disk.deep_clone(), history });
    }

    /// The node crashes, and its disk is replaced by the copy.
    pub fn restore(&mut self, id: u64) {
        let copy = self.nodes.get_mut(&id).unwrap().copy.take().expect("there is a copy");
        self.wipe(id);
        let node = self.nodes.get_mut(&id).unwrap();
        node.disk = copy.disk;
        node.flushed = u64::try_from(copy.history.len()).unwrap();
        node.history = copy.history;
        self.say(format!("n{id}: it is an old copy"));
    }

    /// A node with a new disk asks another what it vouches for. When all have answered it knows what it promised.
    pub fn ask(&mut self, id: u64, other: u64) -> bool {
        if id == other || !self.is_up(id) || !self.is_up(other) {
            return false;
        }
        let Some(promise) = self.peer(other).promise() else { return false };
        let term = self.status(other).term;
        let Some(reports) = &mut self.nodes.get_mut(&id).unwrap().reports else { return false };
        reports.insert(other, (term, promise));
        if reports.len() + 1 < self.voters.len() {
            return true;
        }
        let until = reports.values().map(|(_, promise)| *promise).max().unwrap();
        let term = reports.values().map(|(term, _)| *term).max().unwrap();
        let node = self.nodes.get_mut(&id).unwrap();
        node.reports = None;
        node.told_term = term;
        // Durable first: the mark of the new disk.
        node.mark = node.mark.max(until);
        node.disk.set_recover_until(Some(until));
        self.say(format!("n{id}: recovers until {until}, term {term}"));
        self.step(id, Event::Recover { until: Some(until), term });
        true
    }

    pub fn flush(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.flushed = node.history.last().map_or(0, |entry| entry.index);
    }

    /// Delivers the packet at this place of the queue.
    pub fn deliver(&mut self, place: usize) {
        let Packet { from, to, payload } = self.network.remove(place).unwrap();
        if self.cut.contains(&(from, to)) || !self.is_up(to) {
            if matches!(payload, Payload::Snapshot { .. }) {
                self.step(from, Event::SnapshotSent { to, delivered: false });
            }
            return;
        }
        match payload {
            Payload::Message(message) => self.step(to, Event::Receive(message)),
            Payload::Snapshot { term, snapshot, history } => {
                let node = self.nodes.get_mut(&to).unwrap();
                node.staged.insert(snapshot.last, history);
                let body = Body::InstallSnapshot { snapshot };
                self.step(to, Event::Receive(Message { from, to, region_id: 1, term, body }));
                self.step(from, Event::SnapshotSent { to, delivered: true });
            }
        }
    }

    /// Drops the packet at this place of the queue.
    pub fn drop_packet(&mut self, place: usize) {
        let Packet { from, to, payload } = self.network.remove(place).unwrap();
        if matches!(payload, Payload::Snapshot { .. }) {
            self.step(from, Event::SnapshotSent { to, delivered: false });
        }
    }

    /// Delivers until nothing is in flight.
    pub fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the cluster talks without end");
            if self.network.is_empty() {
                return;
            }
            self.deliver(0);
        }
    }

    /// One tick everywhere, then quiet.
    pub fn tick_all(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.tick(id);
        }
        self.settle();
    }

    /// As `tick_all`, for the nodes that run.
    pub fn tick_all_up(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.is_up(id) {
                self.tick(id);
            }
        }
        self.settle();
    }

    /// Makes `id` leader and lets everybody know.
    pub fn elect(&mut self, id: u64) {
        self.step(id, Event::Campaign);
        self.settle();
        assert_eq!(self.status(id).state, PeerState::Leader, "n{id} is elected");
    }

    pub fn isolate(&mut self, id: u64) {
        for &other in self.nodes.keys().filter(|other| **other != id) {
            self.cut.insert((id, other));
            self.cut.insert((other, id));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }
}

pub fn show_bytes(bytes: &Bytes) -> String {
    if bytes.is_empty() {
        return "no-op".to_string();
    }
    String::from_utf8_lossy(bytes).chars().take(20).collect()
}

pub fn show_entry(entry: &RaftLogEntry) -> String {
    format!("{} {}", entry.id(), show_bytes(&entry.command))
}

pub fn show_entries(entries: &[RaftLogEntry]) -> String {
    match entries {
        [] => "none".to_string(),
        [first, .., last] if entries.len() > 6 => {
            format!("{} .. {} ({} entries)", show_entry(first), show_entry(last), entries.len())
        }
        _ => entries.iter().map(show_entry).collect::<Vec<_>>().join(", "),
    }
}

pub fn show_hard_state(hard_state: &HardState) -> String {
    let HardState { current_term, voted_for, commit_index } = hard_state;
    let vote = voted_for.map_or("none".to_string(), |id| format!("n{id}"));
    format!("term {current_term}, vote {vote}, commit {commit_index}")
}

fn show_write(write: &flaredb_raft::Write) -> String {
    let mut text = format!("{}: {}", write.id, show_hard_state(&write.hard_state));
    if !write.entries.is_empty() {
        let _ = write!(text, ", entries {}", show_entries(&write.entries));
    }
    text
}

pub fn show_packet(packet: &Packet) -> String {
    let Packet { from, to, payload } = packet;
    let (term, text) = match payload {
        Payload::Snapshot { term, snapshot, .. } => (*term, format!("InstallSnapshot {}", snapshot.last)),
        Payload::Message(message) => (message.term, show_body(&message.body)),
    };
    format!("n{from}@{term} -> n{to} {text}")
}

pub fn kind(packet: &Packet) -> String {
    let Payload::Message(message) = &packet.payload else { return "InstallSnapshot".to_string() };
    format!("{:?}", message.body).split([' ', '{']).next().unwrap().to_string()
}

fn show_body(body: &Body) -> String {
    match body {
        Body::PreVote { last } => format!("PreVote last {last}"),
        Body::PreVoteResponse { granted } => {
            format!("PreVoteResponse {}", if *granted { "granted" } else { "refused" })
        }
        Body::RequestVote { last, transfer: false } => format!("RequestVote last {last}"),
        Body::RequestVote { last, transfer: true } => format!("RequestVote last {last}, transfer"),
        Body::RequestVoteResponse { granted } => {
            format!("RequestVoteResponse {}", if *granted { "granted" } else { "refused" })
        }
        Body::AppendEntries { prev, commit_index, round, entries } => {
            format!(
                "AppendEntries prev {prev}, commit {commit_index}, round {round}, entries {}",
                show_entries(entries)
            )
        }
        Body::AppendEntriesResponse { round, result: AppendResult::Accepted { match_index } } => {
            format!("AppendEntriesResponse accepted to {match_index}, round {round}")
        }
        Body::AppendEntriesResponse { round, result: AppendResult::Rejected { prev_index, hint } } => {
            format!("AppendEntriesResponse rejected prev {prev_index}, hint {hint}, round {round}")
        }
        Body::AppendEntriesResponse { round, result: AppendResult::Lost { last } } => {
            format!("AppendEntriesResponse lost after {last}, round {round}")
        }
        Body::Pledge { round, for_us } => format!("Pledge of {for_us} us, round {round}"),
        Body::InstallSnapshot { snapshot } => format!("InstallSnapshot {}", snapshot.last),
        Body::TimeoutNow => "TimeoutNow".to_string(),
        Body::ReadIndex { .. } => "ReadIndex".to_string(),
        Body::ReadIndexResponse { index, .. } => match index {
            Some(index) => format!("ReadIndexResponse at {index}"),
            None => "ReadIndexResponse failed".to_string(),
        },
        Body::Propose { seq, proposals } => {
            let commands: Vec<_> = proposals.iter().map(|proposal| show_bytes(&proposal.command)).collect();
            format!("Propose batch {} of incarnation {}: {}", seq & 0xFF_FFFF_FFFF, seq >> 40, commands.join(", "))
        }
        Body::ProposeRefused { tickets, reason } => format!("ProposeRefused {} ({reason:?})", tickets.len()),
    }
}
