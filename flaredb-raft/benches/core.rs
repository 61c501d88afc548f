//! Time per committed entry: three peers in one thread, memory logs, no network. One iteration proposes a batch on the leader
//! and runs the cluster until all three have applied it. Entries are 256 B; both logs are compacted now and then, so that the
//! figures are a steady state's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flaredb_raft::{Config, Effects, Event, MemoryStorage, Message, Peer, PeerState};
use std::hint::black_box;

const ENTRY_BYTES: usize = 256;
const COMPACT_EVERY: u64 = 4096;

struct Cluster {
    peers: Vec<Peer<MemoryStorage>>,
    network: Vec<Message>,
    delivering: Vec<Message>,
    applied: [u64; 3],
}

impl Cluster {
    fn new() -> Self {
        let voters = [1, 2, 3];
        let peer = |id: &u64| {
            let config = Config { cache_bytes_max: 1 << 20, ..Config::new(*id, 1) };
            Peer::new(config, MemoryStorage::new(&voters), 0).unwrap()
        };
        let peers = voters.iter().map(peer).collect();
        let mut cluster = Self { peers, network: Vec::new(), delivering: Vec::new(), applied: [0; 3] };
        cluster.peers[0].step(Event::Campaign).unwrap();
        cluster.settle();
        assert_eq!(cluster.peers[0].status().state, PeerState::Leader);
        cluster
    }

    /// Does what one peer asks for; writes are durable at once.
    fn run(&mut self, place: usize) {
        let peer = &mut self.peers[place];
        while peer.has_effects() {
            let Effects { write, send_now, send_after_write, apply, .. } = peer.take_effects();
            self.network.extend(send_now);
            if let Some(write) = write {
                peer.storage().apply_write(&write);
                peer.step(Event::WriteDone { id: write.id }).unwrap();
            }
            self.network.extend(send_after_write);
            if let Some(last) = apply.last() {
                self.applied[place] = last.index;
                peer.step(Event::Applied { index: last.index }).unwrap();
                if peer.storage().len() > 2 * COMPACT_EVERY {
                    peer.storage().compact(last.index - COMPACT_EVERY);
                }
            }
            black_box(apply);
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
                self.peers[place].step(Event::Receive(message)).unwrap();
                self.run(place);
            }
            self.delivering = delivering;
        }
    }

    fn commit(&mut self, batch: u64, command: &Bytes) {
        for ticket in 0..batch {
            let event = Event::Propose { ticket, command: command.clone(), context: None };
            self.peers[0].step(event).unwrap();
        }
        self.settle();
    }
}

fn committed_entries(criterion: &mut Criterion) {
    let command = Bytes::from(vec![7; ENTRY_BYTES]);
    let mut group = criterion.benchmark_group("committed entry, 3 peers, 256 B");
    for batch in [1, 8, 64, 512] {
        let mut cluster = Cluster::new();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("batch", batch), |bencher| {
            bencher.iter(|| cluster.commit(batch, &command))
        });
        let last = cluster.peers[0].status().last_index;
        assert_eq!(cluster.applied, [last; 3], "everything that was proposed is applied by all");
    }
    group.finish();
}

fn idle(criterion: &mut Criterion) {
    let mut cluster = Cluster::new();
    criterion.bench_function("idle heartbeat of a leader, answered by both followers", |bencher| {
        bencher.iter(|| {
            for place in 0..3 {
                cluster.peers[place].step(Event::Tick).unwrap();
            }
            cluster.settle();
        });
    });
}

fn reads(criterion: &mut Criterion) {
    let mut cluster = Cluster::new();
    let mut group = criterion.benchmark_group("ReadIndex");
    for batch in [1, 64] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("batch", batch), |bencher| {
            bencher.iter(|| {
                for id in 0..batch {
                    cluster.peers[0].step(Event::ReadIndex { id }).unwrap();
                }
                cluster.settle();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, committed_entries, idle, reads);
criterion_main!(benches);
