//! Three replicas in one process: memory logs, memory stores, a network of messages in a queue. Everything that a real host
//! does at its own time (deliver, make durable, tick, flush, crash) happens here when a test says so.
//!
//! Every message passes the wire codec. After every step the peer's invariants are checked.
#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use flaredb_kv::{Command, CommandKind, KeyValue, Kv, KvReader, MemoryReader, MemoryStore, PutRequest, RangeRequest};
use flaredb_raft::{Config, MemoryStorage, Message, PeerState, RaftStorage, Write};
use flaredb_replica::wire::{decode_messages, encode_messages};
use flaredb_replica::{Answer, Input, Output, Replica, ReplicaConfig};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const VOTERS: [u64; 3] = [1, 2, 3];

pub struct Node {
    pub id: u64,
    /// Survives a crash: what a completed write has put there.
    pub disk: MemoryStorage,
    /// Survives a crash: the state machine as it was last flushed.
    pub flushed: MemoryStore,
    /// None while the node is down.
    pub replica: Option<Replica<MemoryStorage, MemoryStore>>,
    pub incarnation: u64,
    /// A write that the log has not made durable, and the messages behind it.
    pub writing: Option<(Write, Vec<Message>)>,
    /// Writes complete only when `complete_write` is called.
    pub slow_disk: bool,
    /// Answers that came, in order; of all incarnations.
    pub answers: Vec<(u64, Answer)>,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub network: VecDeque<Message>,
    /// Directed links that lose everything.
    pub cut: BTreeSet<(u64, u64)>,
    /// Messages that this picks are put aside instead of being sent.
    pub intercept: Option<fn(&Message) -> bool>,
    pub intercepted: Vec<Message>,
    pub last_ticket: u64,
    config: fn(&mut ReplicaConfig),
    seed: u64,
}

impl Cluster {
    pub fn new(seed: u64, config: fn(&mut ReplicaConfig)) -> Self {
        let node = |id| Node {
            id,
            disk: MemoryStorage::new(&VOTERS),
            flushed: MemoryStore::new(),
            replica: None,
            incarnation: 0,
            writing: None,
            slow_disk: false,
            answers: Vec::new(),
        };
        let mut cluster = Self {
            nodes: VOTERS.map(node).into(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            intercept: None,
            intercepted: Vec::new(),
            last_ticket: 0,
            config,
            seed,
        };
        for id in VOTERS {
            cluster.start(id);
        }
        cluster
    }

    /// A cluster that node 1 leads and whose first entry all have applied.
    pub fn led_by_1(config: fn(&mut ReplicaConfig)) -> Self {
        let mut cluster = Self::new(1, config);
        cluster.elect(1);
        cluster
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    pub fn replica(&mut self, id: u64) -> &mut Replica<MemoryStorage, MemoryStore> {
        self.node(id).replica.as_mut().expect("the node is up")
    }

    pub fn is_up(&self, id: u64) -> bool {
        self.nodes[id as usize - 1].replica.is_some()
    }

    pub fn start(&mut self, id: u64) {
        let (configure, seed) = (self.config, self.seed);
        let node = self.node(id);
        node.incarnation += 1;
        let mut raft = Config::new(id, 1);
        raft.incarnation = node.incarnation;
        raft.seed = seed.wrapping_mul(1000) + node.incarnation;
        let mut config = ReplicaConfig::new(raft);
        configure(&mut config);
        let kv = Kv::open(node.flushed.clone()).unwrap();
        node.replica = Some(Replica::new(config, node.disk.clone(), kv).unwrap());
    }

    /// Loses what was not durable, and everything in memory.
    pub fn crash(&mut self, id: u64) {
        let node = self.node(id);
        node.replica = None;
        node.writing = None;
    }

    pub fn step(&mut self, id: u64, input: Input) {
        let replica = self.replica(id);
        replica.step(input).unwrap();
        replica.peer().check_invariants();
    }

    /// Does everything the node asks for, until it asks for nothing.
    pub fn drain(&mut self, id: u64) {
        while self.is_up(id) && self.replica(id).has_output() {
            self.drain_once(id);
        }
    }

    pub fn drain_once(&mut self, id: u64) {
        let Output { write, send_now, send_after_write, answers, truncate_log, install, send_snapshot, leadership: _ } =
            self.replica(id).take_output().unwrap();
        assert!(install.is_none() && send_snapshot.is_empty(), "the log is kept for all: no snapshot is needed");
        self.send(send_now);
        let node = self.node(id);
        for (ticket, answer) in answers {
            let twice = node.answers.iter().find(|(answered, _)| *answered == ticket);
            assert!(twice.is_none(), "ticket {ticket} has a second answer: {twice:?}, {answer:?}");
            node.answers.push((ticket, answer));
        }
        if let Some(last) = truncate_log {
            assert_eq!(node.disk.term_of(last.index), Ok(last.term));
            node.disk.compact(last.index);
        }
        match write {
            Some(write) => {
                assert!(node.writing.is_none(), "one write at a time");
                node.writing = Some((write, send_after_write));
                if !node.slow_disk {
                    self.complete_write(id);
                }
            }
            None => assert!(send_after_write.is_empty()),
        }
    }

    pub fn complete_write(&mut self, id: u64) {
        let node = self.node(id);
        let Some((write, messages)) = node.writing.take() else { return };
        node.disk.apply_write(&write);
        self.send(messages);
        self.step(id, Input::WriteDone { id: write.id });
    }

    pub fn send(&mut self, messages: Vec<Message>) {
        let mut payload = Vec::new();
        encode_messages(&messages, &mut payload);
        let decoded = decode_messages(payload.into()).unwrap();
        assert_eq!(decoded, messages, "what is sent is what arrives");
        for message in decoded {
            if self.intercept.is_some_and(|picks| picks(&message)) {
                self.intercepted.push(message);
            } else if !self.cut.contains(&(message.from, message.to)) {
                self.network.push_back(message);
            }
        }
    }

    pub fn deliver(&mut self, message: Message) {
        let to = message.to;
        if self.is_up(to) && !self.cut.contains(&(message.from, to)) {
            self.step(to, Input::Receive(message));
            self.drain(to);
        }
    }

    /// Delivers everything, in the order sent, until nothing is under way.
    pub fn settle(&mut self) {
        for id in VOTERS {
            self.drain(id);
        }
        while let Some(message) = self.network.pop_front() {
            self.deliver(message);
        }
    }

    pub fn tick(&mut self, id: u64) {
        if self.is_up(id) {
            self.step(id, Input::Tick);
        }
    }

    /// One unit of time for everybody, and everything that follows from it.
    pub fn tick_all(&mut self) {
        for id in VOTERS {
            self.tick(id);
        }
        self.settle();
    }

    pub fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick_all();
        }
    }

    /// Makes `id` the leader of a cluster without one.
    pub fn elect(&mut self, id: u64) {
        for _ in 0..50 {
            self.tick(id);
            self.settle();
            if self.replica(id).status().state == PeerState::Leader {
                return;
            }
        }
        panic!("{id} was not elected");
    }

    /// Waits until one of the nodes that are up leads, and returns it.
    pub fn wait_for_leader(&mut self) -> u64 {
        for _ in 0..100 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.tick_all();
        }
        panic!("nobody was elected");
    }

    /// The leader of the highest term.
    pub fn leader(&mut self) -> Option<u64> {
        let up: Vec<_> = self.nodes.iter().filter_map(|node| node.replica.as_ref()).map(|r| r.status()).collect();
        up.iter().filter(|s| s.state == PeerState::Leader).max_by_key(|s| s.term).map(|s| s.id)
    }

    pub fn isolate(&mut self, id: u64) {
        for other in VOTERS.into_iter().filter(|other| *other != id) {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        self.intercept = None;
    }

    pub fn ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// A put that nothing is done about yet.
    pub fn propose(&mut self, id: u64, key: &str, value: &str) -> u64 {
        let ticket = self.ticket();
        self.step(id, Input::Propose { ticket, kind: CommandKind::Put, command: put(key, value) });
        ticket
    }

    /// A put through `id`, and everything that follows from it.
    pub fn put(&mut self, id: u64, key: &str, value: &str) -> u64 {
        let ticket = self.propose(id, key, value);
        self.settle();
        ticket
    }

    pub fn read(&mut self, id: u64) -> u64 {
        let ticket = self.ticket();
        self.step(id, Input::Read { ticket });
        ticket
    }

    pub fn answer(&mut self, id: u64, ticket: u64) -> Option<Answer> {
        self.node(id).answers.iter().find(|(answered, _)| *answered == ticket).map(|(_, answer)| answer.clone())
    }

    /// The revision that an acknowledged write got.
    pub fn revision(&mut self, id: u64, ticket: u64) -> i64 {
        match self.answer(id, ticket) {
            Some(Answer::Applied(Ok(response))) => response.revision,
            other => panic!("ticket {ticket} at node {id} was answered {other:?}"),
        }
    }

    /// The state machine's store reports what it holds as durable.
    pub fn flush(&mut self, id: u64) {
        let node = self.node(id);
        let kv = node.replica.as_ref().expect("the node is up").kv();
        node.flushed = kv.store().clone();
        let applied_index = kv.applied().index;
        self.step(id, Input::Flushed { applied_index });
        self.drain(id);
    }

    pub fn applied(&mut self, id: u64) -> u64 {
        self.replica(id).kv().applied().index
    }

    pub fn key(&mut self, id: u64, key: &str) -> Option<KeyValue> {
        key_in(&self.replica(id).kv().reader(), key)
    }

    pub fn hash(&mut self, id: u64) -> (i64, u32) {
        let hash = self.replica(id).kv().reader().hash(0).unwrap().unwrap();
        (hash.revision, hash.hash)
    }

    pub fn assert_equal_content(&mut self) {
        let hashes: BTreeMap<u64, _> = VOTERS.into_iter().map(|id| (id, self.hash(id))).collect();
        assert!(hashes.values().all(|hash| *hash == hashes[&1]), "content differs: {hashes:?}");
    }

    pub fn first_index(&mut self, id: u64) -> u64 {
        self.node(id).disk.first_index().unwrap()
    }
}

pub fn put(key: &str, value: &str) -> Bytes {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..PutRequest::default()
    };
    Command::Put(request).encode()
}

pub fn key_in(reader: &KvReader<MemoryReader>, key: &str) -> Option<KeyValue> {
    let request = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..RangeRequest::default() };
    reader.range(&request).unwrap().unwrap().kvs.pop()
}
