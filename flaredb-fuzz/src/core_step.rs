//! One peer of three that is told anything: well-typed messages near its state or far from it, events in any order, writes
//! that take their time, crashes. It neither panics nor forgets what was committed, and its invariants hold after every step.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use flaredb_raft::{
    AppendResult, Body, ConfState, Config, EntryId, Event, ForwardedProposal, MemoryStorage, Message, Peer,
    RaftLogEntry, RefuseReason, SnapshotMeta, StorageError, Write,
};
use std::collections::BTreeMap;

const STEPS_MAX: usize = 400;

struct World {
    peer: Peer<MemoryStorage>,
    /// Asked for and not durable yet.
    writing: Option<Write>,
    installing: Option<SnapshotMeta>,
    /// Index to term of what was handed out to be applied since the last snapshot.
    committed: BTreeMap<u64, u64>,
    applied: u64,
    incarnation: u64,
}

pub(crate) fn core_step(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let _ = run(&mut u);
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let small: bool = u.arbitrary()?;
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let mut world = World {
        peer: start(small, 0, disk, 0),
        writing: None,
        installing: None,
        committed: BTreeMap::new(),
        applied: 0,
        incarnation: 0,
    };
    for _ in 0..STEPS_MAX {
        if u.is_empty() {
            break;
        }
        match u.int_in_range(0..=31_u8)? {
            0..=17 => {
                let message = message(u, &world.peer)?;
                world.step(Event::Receive(message));
            }
            18 => world.step(Event::Propose { ticket: 1, command: Bytes::from_static(b"x"), context: None }),
            19 => world.step(Event::ReadIndex { id: u64::from(u.arbitrary::<u8>()?) }),
            20 => world.step(Event::TransferLeadership { to: u.int_in_range(0..=4)? }),
            21 => world.step(Event::Unreachable { peer: u.int_in_range(0..=4)? }),
            22 => world.step(Event::SnapshotSent { to: u.int_in_range(0..=4)?, delivered: u.arbitrary()? }),
            23 => world.step(Event::Campaign),
            24 => {
                for _ in 0..u.int_in_range(1..=12)? {
                    world.step(Event::Tick);
                }
            }
            25 => world.compact(u.int_in_range(0..=3)?),
            26 => world.crash(small),
            27 => {
                let until = if u.ratio(3, 4)? { Some(position(u, world.peer.last())?) } else { None };
                let term = number(u, world.peer.status().term)?;
                world.step(Event::Recover { until, term });
            }
            _ => world.finish_writes(),
        }
        world.take_effects();
    }
    Ok(())
}

fn start(small: bool, incarnation: u64, disk: MemoryStorage, applied: u64) -> Peer<MemoryStorage> {
    let mut config = Config { incarnation, ..Config::new(1, 1) };
    if small {
        config = Config { cache_bytes_max: 100, append_bytes_max: 60, apply_bytes_max: 40, inflight_max: 2, ..config };
    }
    match Peer::new(config, disk, applied) {
        Ok(peer) => peer,
        Err(error) => unreachable!("what a peer has written it can start from: {error}"),
    }
}

impl World {
    fn step(&mut self, event: Event) {
        let before = self.peer.status();
        settle(self.peer.step(event));
        self.peer.check_invariants();
        let after = self.peer.status();
        assert!(after.term >= before.term && after.commit_index >= before.commit_index, "term and commit only rise");
    }

    fn finish_writes(&mut self) {
        if let Some(write) = self.writing.take() {
            self.peer.storage().apply_write(&write);
            self.step(Event::WriteDone { id: write.id });
        }
        if let Some(snapshot) = self.installing.take() {
            self.peer.storage().install_snapshot(&snapshot);
            self.applied = snapshot.last.index;
            self.committed.clear();
            self.step(Event::SnapshotInstalled { last: snapshot.last });
        }
    }

    fn take_effects(&mut self) {
        // With small batches every entry may need a round of its own.
        for _ in 0..64 + self.peer.status().commit_index.saturating_sub(self.applied) {
            if !self.peer.has_effects() {
                return;
            }
            let effects = self.peer.take_effects();
            self.peer.check_invariants();
            let votes = |m: &Message| {
                let vote = matches!(m.body, Body::RequestVoteResponse { granted: true } | Body::RequestVote { .. });
                vote && m.term == self.peer.status().term
            };
            let says_vote = effects.send_now.iter().any(votes) && self.peer.status().recovering;
            assert!(!says_vote, "who has lost something neither votes nor campaigns");
            assert!(effects.write.is_none() || self.writing.is_none(), "one write is out at a time");
            assert!(effects.write.is_some() || effects.send_after_write.is_empty(), "nothing waits for no write");
            self.writing = effects.write.or(self.writing.take());
            self.installing = effects.install.or(self.installing.take());
            for entry in &effects.apply {
                assert!(entry.index == self.applied + 1, "entries are applied in order, each once");
                self.applied = entry.index;
                self.committed.insert(entry.index, entry.term);
            }
            if !effects.apply.is_empty() {
                self.step(Event::Applied { index: self.applied });
            }
        }
        assert!(!self.peer.has_effects(), "effects come to an end");
        for (index, term) in &self.committed {
            let found = settle(self.peer.term_of(*index));
            assert!(found.is_none_or(|found| found == *term), "what was committed stays");
        }
    }

    /// Everything that is not durable is lost; the state machine keeps what it has applied.
    fn crash(&mut self, small: bool) {
        self.incarnation += 1;
        (self.writing, self.installing) = (None, None);
        let disk = self.peer.storage().deep_clone();
        self.peer = start(small, self.incarnation, disk, self.applied);
        self.peer.check_invariants();
    }

    fn compact(&mut self, keep: u64) {
        let to = self.peer.status().last_applied.saturating_sub(keep);
        self.peer.storage().compact(to);
        self.peer.check_invariants();
    }
}

fn settle<T>(result: std::result::Result<T, StorageError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => unreachable!("memory does not fail: {error}"),
    }
}

/// Near `around`, or at an edge.
fn number(u: &mut Unstructured<'_>, around: u64) -> Result<u64> {
    Ok(match u.arbitrary::<u8>()? {
        255 => u64::MAX,
        254 => u64::MAX >> 1,
        253 => (u64::MAX >> 1) + 1,
        252 => u.arbitrary()?,
        251 => 0,
        near => around.saturating_add(u64::from(near % 5)).saturating_sub(2),
    })
}

fn position(u: &mut Unstructured<'_>, around: EntryId) -> Result<EntryId> {
    Ok(EntryId { index: number(u, around.index)?, term: number(u, around.term)? })
}

fn message(u: &mut Unstructured<'_>, peer: &Peer<MemoryStorage>) -> Result<Message> {
    let status = peer.status();
    let last = peer.last();
    let index = last.index.saturating_sub(u.int_in_range(0..=4)?);
    let around = match settle(peer.term_of(index)) {
        Some(term) => EntryId { index, term },
        None => last,
    };
    let term = if u.arbitrary()? { status.term } else { number(u, status.term)? };
    let body = match u.int_in_range(0..=15_u8)? {
        0 => Body::PreVote { last: position(u, last)? },
        1 => Body::PreVoteResponse { granted: u.arbitrary()? },
        2 => Body::RequestVote { last: position(u, last)?, transfer: u.ratio(1, 4)? },
        3 | 4 => Body::RequestVoteResponse { granted: u.arbitrary()? },
        5..=8 => append(u, around, term, last)?,
        9 | 10 => Body::AppendEntriesResponse { round: number(u, 3)?, result: append_result(u, around, last)? },
        11 => {
            let voters = if u.ratio(3, 4)? { vec![1, 2, 3] } else { vec![1, 2] };
            Body::InstallSnapshot {
                snapshot: SnapshotMeta { last: position(u, last)?, conf_state: ConfState { voters } },
            }
        }
        12 if u.arbitrary()? => Body::Pledge { round: number(u, 3)?, for_us: number(u, 1_000_000)? },
        12 => Body::TimeoutNow,
        13 if u.arbitrary()? => Body::ReadIndex { id: number(u, 9)? },
        13 => Body::ReadIndexResponse { id: number(u, 9)?, index: Some(number(u, last.index)?) },
        14 => Body::Propose {
            seq: number(u, 5)?,
            proposals: vec![ForwardedProposal {
                ticket: number(u, 5)?,
                command: Bytes::from_static(b"y"),
                context: None,
            }],
        },
        _ => Body::ProposeRefused { tickets: vec![number(u, 5)?], reason: RefuseReason::NoLeader },
    };
    let from = u.int_in_range(0..=15_u64)?;
    let from = if from < 4 { from } else { 2 + from % 2 };
    Ok(Message { from, to: 1, region_id: 1, term, body })
}

fn append(u: &mut Unstructured<'_>, around: EntryId, term: u64, last: EntryId) -> Result<Body> {
    let prev = if u.ratio(3, 4)? { around } else { position(u, around)? };
    let mut entries = Vec::new();
    for offset in 1..=u.int_in_range(0..=4_u64)? {
        entries.push(RaftLogEntry {
            index: prev.index.saturating_add(offset),
            term: if u.ratio(1, 8)? { number(u, term)? } else { term.min(prev.term.saturating_add(1)).max(prev.term) },
            command: Bytes::from(vec![7; usize::from(u.arbitrary::<u8>()? % 40)]),
            context: None,
        });
    }
    Ok(Body::AppendEntries { prev, commit_index: number(u, last.index)?, round: number(u, 3)?, entries })
}

fn append_result(u: &mut Unstructured<'_>, around: EntryId, last: EntryId) -> Result<AppendResult> {
    Ok(match u.int_in_range(0..=2)? {
        0 => AppendResult::Accepted { match_index: number(u, last.index)? },
        1 => AppendResult::Lost { last: position(u, around)? },
        _ => AppendResult::Rejected { prev_index: number(u, last.index)?, hint: position(u, around)? },
    })
}
