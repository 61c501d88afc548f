//! Whatever well-typed message comes in, from a member or a stranger, stale, contradictory or with numbers at the edges: the
//! peer neither panics nor overflows, keeps its invariants, and what it has committed stays.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod prng;

use bytes::Bytes;
use flaredb_raft::*;
use prng::Random;

impl Random {
    /// Near `around`, or at an edge.
    fn number(&mut self, around: u64) -> u64 {
        match self.below(400) {
            0 => u64::MAX,
            1 => u64::MAX - 1,
            2 => u64::MAX >> 1,
            3 => (u64::MAX >> 1) + 1,
            4 => 0,
            _ => around.saturating_add(self.below(5)).saturating_sub(2),
        }
    }

    fn position(&mut self, around: EntryId) -> EntryId {
        EntryId { index: self.number(around.index), term: self.number(around.term) }
    }

    fn message(&mut self, peer: &Peer<MemoryStorage>) -> Message {
        let status = peer.status();
        let last = peer.last();
        let index = self.below(last.index.saturating_add(2));
        let around = match peer.term_of(index).unwrap() {
            Some(term) if self.below(2) == 0 => EntryId { index, term },
            _ => last,
        };
        let term = if self.below(2) == 0 { status.term } else { self.number(status.term) };
        let body = match self.below(13) {
            0 => Body::PreVote { last: self.position(last) },
            1 => Body::PreVoteResponse { granted: self.below(2) == 0 },
            2 => Body::RequestVote { last: self.position(last), transfer: self.below(4) == 0 },
            3 => Body::RequestVoteResponse { granted: self.below(2) == 0 },
            4..7 => {
                let prev = if self.below(2) == 0 { around } else { self.position(around) };
                let entries = (1..=self.below(4)).map(|n| RaftLogEntry {
                    index: prev.index.saturating_add(n),
                    term: if self.below(8) == 0 { self.number(term) } else { term },
                    command: Bytes::from(vec![7; self.below(40) as usize]),
                    context: None,
                });
                let entries = entries.collect();
                Body::AppendEntries { prev, commit_index: self.number(last.index), round: self.number(3), entries }
            }
            7 => Body::AppendEntriesResponse {
                round: self.number(3),
                result: match self.below(3) {
                    0 => AppendResult::Accepted { match_index: self.number(last.index) },
                    1 => AppendResult::Lost { last: self.position(around) },
                    _ => AppendResult::Rejected { prev_index: self.number(last.index), hint: self.position(around) },
                },
            },
            8 => {
                let conf_state = ConfState { voters: if self.below(3) > 0 { vec![1, 2, 3] } else { vec![1, 2] } };
                Body::InstallSnapshot { snapshot: SnapshotMeta { last: self.position(last), conf_state } }
            }
            9 if self.below(2) == 0 => Body::Pledge { round: self.number(3), for_us: self.number(1_000_000) },
            9 => Body::TimeoutNow,
            10 => match self.below(2) {
                0 => Body::ReadIndex { id: self.number(9) },
                _ => Body::ReadIndexResponse { id: self.number(9), index: Some(self.number(last.index)) },
            },
            11 => Body::Propose {
                seq: self.number(5),
                proposals: vec![ForwardedProposal { ticket: self.number(5), command: Bytes::new(), context: None }],
            },
            _ => Body::ProposeRefused { tickets: vec![self.number(5)], reason: RefuseReason::NoLeader },
        };
        Message { from: self.below(5), to: 1 + self.below(20) / 19, region_id: 1 + self.below(20) / 19, term, body }
    }
}

fn run(seed: u64) -> u64 {
    let mut random = Random(seed);
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let config = Config { cache_bytes_max: 200, append_bytes_max: 100, apply_bytes_max: 100, ..Config::new(1, 1) };
    let mut peer = Peer::new(config, disk, 0).unwrap();
    let mut writing: Option<Write> = None;
    let mut committed: Vec<(u64, u64)> = Vec::new();
    let recovers = random.below(3) == 0;
    for _ in 0..1_000 {
        let event = match random.below(20) {
            0..13 => Event::Receive(random.message(&peer)),
            13 => Event::Propose { ticket: 1, command: Bytes::from("x"), context: None },
            14 => Event::ReadIndex { id: random.below(9) },
            15 => match random.below(5) {
                0 => Event::TransferLeadership { to: random.below(5) },
                1 => Event::Unreachable { peer: random.below(5) },
                2 => Event::SnapshotSent { to: random.below(5), delivered: random.below(2) == 0 },
                3 if recovers && random.below(10) == 0 => {
                    let until = (random.below(3) > 0).then(|| random.position(peer.last()));
                    // The host's word: a term and a position that exist.
                    let until = until.filter(|until| until.term < 1 << 60 && until.index < 1 << 60);
                    Event::Recover { until, term: peer.status().term + random.below(2) }
                }
                _ => Event::Campaign,
            },
            _ => Event::Tick,
        };
        peer.step(event).unwrap();
        peer.check_invariants();
        if random.below(3) == 0
            && let Some(write) = writing.take()
        {
            peer.storage().apply_write(&write);
            peer.step(Event::WriteDone { id: write.id }).unwrap();
            peer.check_invariants();
        }
        for _ in 0..50 {
            if !peer.has_effects() {
                break;
            }
            let effects = peer.take_effects();
            peer.check_invariants();
            writing = effects.write.or(writing);
            if let Some(last) = effects.apply.last() {
                peer.step(Event::Applied { index: last.index }).unwrap();
                committed.extend(effects.apply.iter().map(|entry| (entry.index, entry.term)));
            }
            if let Some(snapshot) = effects.install {
                peer.storage().install_snapshot(&snapshot);
                peer.step(Event::SnapshotInstalled { last: snapshot.last }).unwrap();
                committed.clear();
            }
        }
        for (index, term) in &committed {
            assert_eq!(peer.term_of(*index).unwrap(), Some(*term), "what was committed stays");
        }
        committed.drain(..committed.len().saturating_sub(8));
    }
    peer.status().last_applied
}

#[test]
fn no_message_makes_a_peer_panic() {
    let mut applied = 0;
    for seed in 0..400 {
        let result = std::panic::catch_unwind(|| run(seed));
        applied += u64::from(result.unwrap_or_else(|_| panic!("seed {seed} failed")) > 0);
    }
    assert!(applied > 100, "the runs do something: {applied}");
}

#[test]
fn terms_and_indices_at_the_edge_of_their_type_are_dropped() {
    let mut peer = Peer::new(Config::new(1, 1), MemoryStorage::new(&[1, 2, 3]), 0).unwrap();
    let start = EntryId::default();
    let heartbeat = |term| {
        let body = Body::AppendEntries { prev: start, commit_index: u64::MAX, round: u64::MAX, entries: vec![] };
        Event::Receive(Message { from: 2, to: 1, region_id: 1, term, body })
    };
    peer.step(heartbeat(u64::MAX)).unwrap();
    assert_eq!((peer.counters().malformed, peer.status().term), (1, 0));
    // The highest term that is accepted is the last: nobody can campaign beyond it, and nothing overflows.
    peer.step(heartbeat(u64::MAX >> 1)).unwrap();
    assert_eq!(peer.status().term, u64::MAX >> 1);
    for _ in 0..100 {
        peer.step(Event::Tick).unwrap();
    }
    peer.step(Event::Campaign).unwrap();
    assert_eq!(peer.status().state, PeerState::Follower);
}
