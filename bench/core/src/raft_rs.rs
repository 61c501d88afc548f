//! raft-rs, handled as its example of a node in memory does.

use crate::{COMPACT_EVERY, Cluster};
use bytes::Bytes;
use raft::prelude::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

/// Three nodes and the messages between them.
pub(crate) struct RaftRs {
    nodes: Vec<RawNode<MemStorage>>,
    network: Vec<Message>,
    applied: [u64; 3],
    compacted: [u64; 3],
}

impl RaftRs {
    /// `batch_append`: whether entries that are proposed one after the other leave in one message.
    pub(crate) fn new(batch_append: bool) -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = |id: u64| {
            let config = Config {
                id,
                election_tick: 10,
                heartbeat_tick: 1,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 1024,
                check_quorum: true,
                pre_vote: true,
                batch_append,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            RawNode::new(&config, storage, &logger).expect("a good configuration")
        };
        let nodes = (1..=3).map(node).collect();
        let mut cluster = Self { nodes, network: Vec::new(), applied: [0; 3], compacted: [0; 3] };
        cluster.nodes[0].campaign().expect("a node that may campaign");
        cluster.settle();
        assert_eq!(cluster.nodes[0].raft.state, StateRole::Leader);
        cluster
    }

    fn apply(&mut self, place: usize, entries: Vec<Entry>) {
        if let Some(last) = entries.last() {
            self.applied[place] = last.index;
        }
        std::hint::black_box(entries);
    }

    fn run(&mut self, place: usize) {
        while self.nodes[place].has_ready() {
            let mut ready = self.nodes[place].ready();
            self.network.extend(ready.take_messages());
            self.apply(place, ready.take_committed_entries());
            let storage = self.nodes[place].raft.raft_log.store.clone();
            if !ready.entries().is_empty() {
                storage.wl().append(ready.entries()).expect("entries that follow the last one");
            }
            if let Some(state) = ready.hs() {
                storage.wl().set_hardstate(state.clone());
            }
            self.network.extend(ready.take_persisted_messages());
            let mut light = self.nodes[place].advance(ready);
            if let Some(commit) = light.commit_index() {
                storage.wl().mut_hard_state().commit = commit;
            }
            self.network.extend(light.take_messages());
            self.apply(place, light.take_committed_entries());
            self.nodes[place].advance_apply();
            if self.applied[place] > self.compacted[place] + 2 * COMPACT_EVERY {
                self.compacted[place] = self.applied[place] - COMPACT_EVERY;
                storage.wl().compact(self.compacted[place]).expect("an index in the log");
            }
        }
    }

    fn settle(&mut self) {
        for place in 0..3 {
            self.run(place);
        }
        while !self.network.is_empty() {
            for message in std::mem::take(&mut self.network) {
                let place = message.to as usize - 1;
                self.nodes[place].step(message).expect("a good message");
                self.run(place);
            }
        }
    }
}

impl Cluster for RaftRs {
    fn commit(&mut self, batch: u64, payload: &Bytes) {
        for _ in 0..batch {
            // Its proposals own their bytes.
            self.nodes[0].propose(Vec::new(), payload.to_vec()).expect("a leader that takes proposals");
        }
        self.settle();
    }

    fn applied(&self) -> [u64; 3] {
        self.applied
    }
}
