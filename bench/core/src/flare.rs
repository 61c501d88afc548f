//! FlareDB's core.

use crate::{COMPACT_EVERY, Cluster};
use bytes::Bytes;
use flaredb_raft::{Config, Effects, Event, MemoryStorage, Message, Peer, PeerState};

/// Three peers and the messages between them.
pub(crate) struct Flare {
    peers: Vec<Peer<MemoryStorage>>,
    network: Vec<Message>,
    delivering: Vec<Message>,
    applied: [u64; 3],
}

impl Flare {
    pub(crate) fn new() -> Self {
        let voters = [1, 2, 3];
        let peer = |id: &u64| {
            let config = Config { cache_bytes_max: 1 << 20, ..Config::new(*id, 1) };
            Peer::new(config, MemoryStorage::new(&voters), 0).expect("a good configuration")
        };
        let peers = voters.iter().map(peer).collect();
        let mut cluster = Self { peers, network: Vec::new(), delivering: Vec::new(), applied: [0; 3] };
        cluster.step(0, Event::Campaign);
        cluster.settle();
        assert_eq!(cluster.peers[0].status().state, PeerState::Leader);
        cluster
    }

    fn step(&mut self, place: usize, event: Event) {
        self.peers[place].step(event).expect("a good event");
    }

    /// Does what one peer asks for; writes are durable at once.
    fn run(&mut self, place: usize) {
        while self.peers[place].has_effects() {
            let Effects { write, send_now, send_after_write, apply, .. } = self.peers[place].take_effects();
            self.network.extend(send_now);
            if let Some(write) = write {
                self.peers[place].storage().apply_write(&write);
                self.step(place, Event::WriteDone { id: write.id });
            }
            self.network.extend(send_after_write);
            if let Some(last) = apply.last() {
                self.applied[place] = last.index;
                self.step(place, Event::Applied { index: last.index });
                let storage = self.peers[place].storage();
                if storage.len() > 2 * COMPACT_EVERY {
                    storage.compact(last.index - COMPACT_EVERY);
                }
            }
            std::hint::black_box(apply);
        }
    }

    fn settle(&mut self) {
        for place in 0..3 {
            self.run(place);
        }
        while !self.network.is_empty() {
            std::mem::swap(&mut self.network, &mut self.delivering);
            let mut delivering = std::mem::take(&mut self.delivering);
            for message in delivering.drain(..) {
                let place = message.to as usize - 1;
                self.step(place, Event::Receive(message));
                self.run(place);
            }
            self.delivering = delivering;
        }
    }
}

impl Cluster for Flare {
    fn commit(&mut self, batch: u64, payload: &Bytes) {
        for ticket in 0..batch {
            self.step(0, Event::Propose { ticket, command: payload.clone(), context: None });
        }
        self.settle();
    }

    fn applied(&self) -> [u64; 3] {
        self.applied
    }
}
