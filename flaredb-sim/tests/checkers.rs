//! Each rule against hand-made observations that break it and nothing else before, and a right run that breaks none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

#[path = "stories/mod.rs"]
mod stories;

use bytes::Bytes;
use flaredb_kv::{AppliedState, ApplyEntry, Command, Kv, KvError, MemoryStore, RangeRequest, Response, ResponseBody};
use flaredb_raft::{
    AppendResult, Body, ConfState, EntryId, HardState, Message, PeerState, PeerStatus, RaftLogEntry, SnapshotMeta,
    Write,
};
use flaredb_sim::check::Checkers;
use flaredb_sim::history::{Op, Outcome, Record};
use flaredb_sim::observed::{Observed, Violation};
use stories::{all, b, compact, one, put};

type Seen = Result<(), Violation>;

/// Three nodes, seen by the checkers.
struct Scene {
    checkers: Checkers,
    statuses: Vec<PeerStatus>,
    hard_states: Vec<HardState>,
    kvs: Vec<Kv<MemoryStore>>,
    writes: u64,
    requests: u64,
    now: u64,
    /// Of the next start.
    disk_replaced: bool,
}

fn at(index: u64, term: u64) -> EntryId {
    EntryId { index, term }
}

fn no_op(index: u64, term: u64) -> RaftLogEntry {
    RaftLogEntry { index, term, command: Bytes::new(), context: None }
}

fn entry(index: u64, term: u64, command: &Command) -> RaftLogEntry {
    let mut context = vec![1, command.kind() as u8];
    context.extend_from_slice(&[7; 24]);
    RaftLogEntry { index, term, command: command.encode(), context: Some(context.into()) }
}

impl Scene {
    /// All started from empty disks.
    fn new() -> Self {
        let status = |id| PeerStatus {
            id,
            region_id: 1,
            state: PeerState::Follower,
            term: 0,
            commit_index: 0,
            last_applied: 0,
            leader: None,
            last_index: 0,
            persisted_index: 0,
            recovering: false,
        };
        let mut scene = Self {
            checkers: Checkers::new(3),
            statuses: (1..=3).map(status).collect(),
            hard_states: vec![HardState::default(); 3],
            kvs: (0..3).map(|_| Kv::open(MemoryStore::new()).unwrap()).collect(),
            writes: 0,
            requests: 0,
            now: 0,
            disk_replaced: false,
        };
        for node in 1..=3 {
            scene.start(node, 1, HardState::default(), at(0, 0), &[], None).unwrap();
        }
        scene
    }

    fn see(&mut self, observed: &Observed<'_>) -> Seen {
        self.now += 10;
        self.checkers.see(self.now, observed)
    }

    fn start(
        &mut self,
        node: u64,
        incarnation: u64,
        hard_state: HardState,
        compacted_to: EntryId,
        entries: &[RaftLogEntry],
        recovering: Option<EntryId>,
    ) -> Seen {
        let applied = self.kvs[node as usize - 1].applied();
        self.hard_states[node as usize - 1] = hard_state;
        let last_index = entries.last().map_or(compacted_to.index, |entry| entry.index);
        let (term, commit_index) = (hard_state.current_term, applied.index);
        let status = &mut self.statuses[node as usize - 1];
        *status = PeerStatus { state: PeerState::Follower, term, commit_index, last_index, ..*status };
        (status.last_applied, status.persisted_index) = (applied.index, last_index);
        let disk_replaced = std::mem::take(&mut self.disk_replaced);
        self.see(&Observed::Started {
            node,
            incarnation,
            hard_state,
            compacted_to,
            entries,
            applied,
            recovering,
            disk_replaced,
        })
    }

    /// n3's disk is an empty one from now on.
    fn replace_disk(&mut self) -> Seen {
        self.see(&Observed::Crashed { node: 3 })?;
        self.kvs[2] = Kv::open(MemoryStore::new()).unwrap();
        self.disk_replaced = true;
        self.start(3, 2, HardState::default(), at(0, 0), &[], None)
    }

    /// n3 takes the beginning over again; the vote of the term that it is told may be given away already.
    fn recover(&mut self) -> Seen {
        self.step(3, |status| status.recovering = true)?;
        self.step(3, |status| status.term = 1)?;
        self.write(3, hard(1, Some(3)), &[no_op(1, 1), first_put()])?;
        self.step(3, |status| (status.last_index, status.persisted_index, status.recovering) = (2, 2, false))
    }

    /// The leader n1@1 makes an entry that it and n3 have, and that is committed by that.
    fn commit_with_3(&mut self, new: &RaftLogEntry) -> Seen {
        self.append(1, std::slice::from_ref(new))?;
        self.entries(1, 3, 1, at(new.index - 1, 1), std::slice::from_ref(new))?;
        self.append(3, std::slice::from_ref(new))?;
        self.accept(3, 1, 1, new.index)?;
        self.step(1, |status| status.commit_index = new.index)
    }

    fn step(&mut self, node: u64, change: impl FnOnce(&mut PeerStatus)) -> Seen {
        let before = self.statuses[node as usize - 1];
        let mut after = before;
        change(&mut after);
        self.statuses[node as usize - 1] = after;
        self.see(&Observed::Stepped { node, before: &before, after: &after })
    }

    fn ask(&mut self, node: u64, hard_state: HardState, entries: &[RaftLogEntry]) -> Result<Write, Violation> {
        self.writes += 1;
        let write = Write { id: self.writes, hard_state, entries: entries.to_vec(), sync: true };
        self.see(&Observed::WriteAsked { node, write: &write })?;
        Ok(write)
    }

    fn write(&mut self, node: u64, hard_state: HardState, entries: &[RaftLogEntry]) -> Seen {
        let write = self.ask(node, hard_state, entries)?;
        self.hard_states[node as usize - 1] = hard_state;
        self.see(&Observed::WriteDurable { node, write: &write })
    }

    /// Durable entries of the present term.
    fn append(&mut self, node: u64, entries: &[RaftLogEntry]) -> Seen {
        let hard_state = self.hard_states[node as usize - 1];
        self.write(node, hard_state, entries)?;
        let last = entries.last().unwrap().index;
        self.step(node, |status| (status.last_index, status.persisted_index) = (last, last))
    }

    fn ticks(&mut self, node: u64, count: u64) -> Seen {
        for _ in 0..count {
            self.see(&Observed::Ticked { node })?;
            self.see(&Observed::TurnEnded { node })?;
        }
        Ok(())
    }

    fn send(&mut self, from: u64, to: u64, term: u64, body: Body) -> Seen {
        self.see(&Observed::Sent { message: &Message { from, to, region_id: 1, term, body } })
    }

    fn entries(&mut self, from: u64, to: u64, term: u64, prev: EntryId, entries: &[RaftLogEntry]) -> Seen {
        let body = Body::AppendEntries { prev, commit_index: 0, round: 1, entries: entries.to_vec() };
        self.send(from, to, term, body)
    }

    fn accept(&mut self, from: u64, to: u64, term: u64, match_index: u64) -> Seen {
        let result = AppendResult::Accepted { match_index };
        self.send(from, to, term, Body::AppendEntriesResponse { round: 1, result })
    }

    fn vote(&mut self, node: u64, term: u64, candidate: u64) -> Seen {
        self.step(node, |status| (status.term, status.state) = (term, PeerState::Follower))?;
        let commit_index = self.hard_states[node as usize - 1].commit_index;
        let hard_state = HardState { current_term: term, voted_for: Some(candidate), commit_index };
        self.write(node, hard_state, &[])?;
        if node == candidate {
            return Ok(());
        }
        self.send(node, candidate, term, Body::RequestVoteResponse { granted: true })
    }

    fn lead(&mut self, node: u64) -> Seen {
        self.step(node, |status| (status.state, status.leader) = (PeerState::Leader, Some(status.id)))
    }

    /// Elected by itself and `voter`.
    fn elect(&mut self, node: u64, term: u64, voter: u64) -> Seen {
        self.vote(node, term, node)?;
        self.step(node, |status| status.state = PeerState::Candidate)?;
        let last = at(self.statuses[node as usize - 1].last_index, 0);
        self.send(node, voter, term, Body::RequestVote { last, transfer: false })?;
        self.vote(voter, term, node)?;
        self.lead(node)
    }

    /// The leader n1@1 makes an entry that all have, commit and apply.
    fn replicate(&mut self, new: &RaftLogEntry) -> Seen {
        let prev = at(new.index - 1, if new.index > 1 { new.term } else { 0 });
        self.append(1, std::slice::from_ref(new))?;
        for node in [2, 3] {
            self.entries(1, node, new.term, prev, std::slice::from_ref(new))?;
            self.append(node, std::slice::from_ref(new))?;
            self.accept(node, 1, new.term, new.index)?;
        }
        for node in 1..=3 {
            self.step(node, |status| status.commit_index = new.index)?;
            self.apply(node, new)?;
        }
        Ok(())
    }

    fn execute(&mut self, node: u64, new: &RaftLogEntry) -> (u64, AppliedState) {
        let command = new.context.as_ref().map(|context| {
            let kind = [1, 2, 3, 4].into_iter().find(|kind| *kind == context[1]).unwrap();
            let kind = flaredb_kv::CommandKind::try_from(kind).unwrap();
            (kind, new.command.clone())
        });
        let kv = &mut self.kvs[node as usize - 1];
        let from = kv.applied().index;
        let apply = ApplyEntry { index: new.index, term: new.term, command };
        kv.apply(&[apply], &mut Vec::new()).unwrap();
        (from, kv.applied())
    }

    fn apply(&mut self, node: u64, new: &RaftLogEntry) -> Seen {
        let (from, to) = self.execute(node, new);
        self.show(node, from, to)
    }

    fn show(&mut self, node: u64, from: u64, to: AppliedState) -> Seen {
        self.now += 10;
        let kv = &self.kvs[node as usize - 1];
        self.checkers.see(self.now, &Observed::Applied { node, from, to, kv })
    }

    fn invoke(&mut self, node: u64, op: Op) -> Result<Record, Violation> {
        self.requests += 1;
        let (id, client) = (self.requests, node);
        self.see(&Observed::Invoked { id, client, node, op: &op })?;
        let (invoked_at, answered_at) = (self.now, 0);
        Ok(Record { id, client, node, invoked_at, answered_at, op, outcome: Outcome::Unknown })
    }

    fn answer(&mut self, mut record: Record, outcome: Outcome) -> Seen {
        (record.outcome, record.answered_at) = (outcome, self.now + 10);
        self.see(&Observed::Answered { record: &record })
    }

    fn read_of(&self, node: u64, request: &RangeRequest) -> Outcome {
        let reader = self.kvs[node as usize - 1].reader();
        Outcome::Read { revision: reader.applied().revision, result: reader.range(request).unwrap() }
    }

    fn read(&mut self, node: u64, request: RangeRequest) -> Seen {
        let record = self.invoke(node, Op::Read(request.clone()))?;
        let outcome = self.read_of(node, &request);
        self.answer(record, outcome)
    }

    /// Asked through a node, replicated, answered with what a put that makes `revision` answers.
    fn put(&mut self, node: u64, index: u64, value: &str, revision: i64) -> Seen {
        let command = Command::Put(flaredb_kv::PutRequest { key: b("a"), value: b(value), ..Default::default() });
        let record = self.invoke(node, Op::Write(command.clone()))?;
        self.replicate(&entry(index, 1, &command))?;
        self.answer(record, written(revision))
    }

    fn end(&mut self, converged: bool) -> Seen {
        self.now += 10;
        let kvs: Vec<(u64, &Kv<MemoryStore>)> = (1..).zip(&self.kvs).collect();
        self.checkers.see(self.now, &Observed::Ended { converged, kvs: &kvs })
    }
}

fn written(revision: i64) -> Outcome {
    let body = ResponseBody::Put(flaredb_kv::PutResponse { prev_kv: None });
    Outcome::Written(Ok(Response { revision, body }))
}

fn hard(current_term: u64, voted_for: Option<u64>) -> HardState {
    HardState { current_term, voted_for, commit_index: 0 }
}

/// n1 leads term 1, elected by n2; entry 1 is its no-op; entry 2 puts a = 1, asked through n1. All is applied everywhere.
fn beginning() -> Scene {
    let mut scene = Scene::new();
    scene.elect(1, 1, 2).unwrap();
    scene.vote(3, 1, 1).unwrap();
    scene.replicate(&no_op(1, 1)).unwrap();
    scene.put(1, 2, "1", 2).unwrap();
    scene
}

fn snapshot_at_2() -> Body {
    Body::InstallSnapshot { snapshot: SnapshotMeta { last: at(2, 1), conf_state: ConfState::default() } }
}

#[test]
fn who_lost_its_disk_may_be_sent_a_snapshot_where_logs_are_kept_for_all() {
    let mut s = beginning();
    s.checkers.require_log_for_all();
    s.replace_disk().unwrap();
    s.send(1, 3, 1, snapshot_at_2()).unwrap();
    let refused = s.send(1, 2, 1, snapshot_at_2()).unwrap_err();
    assert_eq!(refused.rule, "truncation");
}

/// What n3 wrote last, as a leader or from one, may be committed later by others: its copy is not needed for that. (Seed 81929.)
#[test]
fn a_replaced_node_does_not_owe_what_a_quorum_of_others_holds() {
    let mut s = beginning();
    let last = no_op(3, 1);
    s.append(1, std::slice::from_ref(&last)).unwrap();
    s.entries(1, 3, 1, at(2, 1), std::slice::from_ref(&last)).unwrap();
    s.append(3, std::slice::from_ref(&last)).unwrap();
    s.replace_disk().unwrap();
    s.entries(1, 2, 1, at(2, 1), std::slice::from_ref(&last)).unwrap();
    s.append(2, std::slice::from_ref(&last)).unwrap();
    s.accept(2, 1, 1, 3).unwrap();
    s.step(1, |status| status.commit_index = 3).unwrap();
    s.recover().unwrap();
}

#[test]
fn a_member_owes_answers_only_for_time_that_it_saw_and_to_clients_of_this_life() {
    let mut s = beginning();
    s.see(&Observed::RequestTaken { node: 1, id: 7, within_ticks: 3 }).unwrap();
    s.ticks(1, 5).unwrap();
    s.see(&Observed::RequestDone { node: 1, id: 7 }).unwrap();
    s.ticks(1, 50).unwrap();
    s.see(&Observed::RequestTaken { node: 1, id: 8, within_ticks: 3 }).unwrap();
    // Others' time is not its own, and what it took in at once it answers at the end of its turn.
    s.ticks(2, 50).unwrap();
    for _ in 0..60 {
        s.see(&Observed::Ticked { node: 1 }).unwrap();
    }
    s.see(&Observed::RequestDone { node: 1, id: 8 }).unwrap();
    s.see(&Observed::TurnEnded { node: 1 }).unwrap();
    s.see(&Observed::RequestTaken { node: 3, id: 9, within_ticks: 3 }).unwrap();
    s.see(&Observed::Crashed { node: 3 }).unwrap();
    s.start(3, 2, hard(1, Some(1)), at(0, 0), &[no_op(1, 1), first_put()], None).unwrap();
    s.ticks(3, 50).unwrap();
}

/// The put of the beginning.
fn first_put() -> RaftLogEntry {
    let command = Command::Put(flaredb_kv::PutRequest { key: b("a"), value: b("1"), ..Default::default() });
    entry(2, 1, &command)
}

#[test]
fn a_right_run_breaks_no_rule() {
    let mut s = beginning();
    s.put(2, 3, "2", 3).unwrap();
    s.read(3, one("a")).unwrap();
    s.read(2, RangeRequest { serializable: true, ..all() }).unwrap();
    // A write that nobody holds durably is gone with its node; the promise of another is kept over a lost disk.
    let hard_state = s.hard_states[0];
    let lost = entry(4, 1, &put("a", "never written"));
    s.invoke(1, Op::Write(put("a", "never written"))).unwrap();
    s.ask(1, hard_state, std::slice::from_ref(&lost)).unwrap();
    s.see(&Observed::Crashed { node: 1 }).unwrap();
    let log = [no_op(1, 1), first_put(), entry_of_put(3, "2")];
    s.start(1, 2, hard(1, Some(1)), at(0, 0), &log, None).unwrap();
    s.see(&Observed::Crashed { node: 3 }).unwrap();
    s.kvs[2] = Kv::open(MemoryStore::new()).unwrap();
    s.start(3, 2, hard(1, Some(1)), at(0, 0), &log[..1], Some(at(3, 1))).unwrap();
    s.elect(2, 2, 1).unwrap();
    let no_op = no_op(4, 2);
    s.entries(2, 1, 2, at(3, 1), std::slice::from_ref(&no_op)).unwrap();
    s.append(2, std::slice::from_ref(&no_op)).unwrap();
    s.append(1, std::slice::from_ref(&no_op)).unwrap();
    s.accept(1, 2, 2, 4).unwrap();
    s.step(2, |status| status.commit_index = 4).unwrap();
    s.apply(2, &no_op).unwrap();
    s.write(3, hard(2, None), &[log[1].clone(), log[2].clone(), no_op.clone()]).unwrap();
    s.accept(3, 2, 2, 4).unwrap();
    s.step(3, |status| (status.term, status.commit_index, status.last_index) = (2, 4, 4)).unwrap();
    for entry in [&log[0], &log[1], &log[2], &no_op] {
        s.apply(3, entry).unwrap();
    }
    s.send(3, 1, 3, Body::PreVote { last: at(4, 2) }).unwrap();
    s.step(1, |status| status.commit_index = 4).unwrap();
    s.apply(1, &no_op).unwrap();
    s.see(&Observed::Truncated { node: 2, up_to: at(2, 1) }).unwrap();
    s.see(&Observed::Healed { core: &[2] }).unwrap();
    let record = s.invoke(2, Op::Write(put("nothing", ""))).unwrap();
    s.answer(record, Outcome::Never).unwrap();
    let refused = s.end(true).unwrap_err();
    assert_eq!(refused.rule, "liveness", "no write has succeeded through n2 since it was healed");
}

fn entry_of_put(index: u64, value: &str) -> RaftLogEntry {
    let command = Command::Put(flaredb_kv::PutRequest { key: b("a"), value: b(value), ..Default::default() });
    entry(index, 1, &command)
}

#[test]
fn a_replaced_disk_that_is_noticed_breaks_no_rule() {
    let mut s = beginning();
    s.replace_disk().unwrap();
    s.step(3, |status| status.state = PeerState::Candidate).unwrap();
    s.send(3, 1, 1, Body::PreVote { last: at(0, 0) }).unwrap();
    s.step(3, |status| (status.state, status.recovering) = (PeerState::Follower, true)).unwrap();
    // It dies before it has noted what it was told.
    s.see(&Observed::Crashed { node: 3 }).unwrap();
    s.start(3, 3, HardState::default(), at(0, 0), &[], None).unwrap();
    s.recover().unwrap();
    s.elect(2, 2, 3).unwrap();
}

#[test]
fn a_right_end_is_accepted() {
    let mut s = beginning();
    s.see(&Observed::Healed { core: &[1] }).unwrap();
    s.put(1, 3, "2", 3).unwrap();
    s.read(1, one("a")).unwrap();
    s.end(true).unwrap();
}

type Case = fn(&mut Scene) -> Seen;

const CASES: &[(&str, &str, Case)] = &[
    ("a second leader of a term", "election-safety", |s| s.lead(2)),
    ("a leader without a quorum's votes", "election-safety", |s| {
        s.vote(2, 2, 2)?;
        s.lead(2)
    }),
    ("heartbeats of a node that was not elected", "election-safety", |s| s.entries(2, 1, 1, at(2, 1), &[])),
    ("a lease that runs when another is elected", "lease", |s| {
        s.see(&Observed::LeaseHeld { node: 1, term: 1 })?;
        s.elect(2, 2, 3)?;
        s.see(&Observed::LeaseHeld { node: 2, term: 2 })?;
        s.see(&Observed::LeaseHeld { node: 1, term: 1 })
    }),
    ("a leader replaces its own entry", "election-safety", |s| {
        s.append(1, &[no_op(3, 1)])?;
        let hard_state = s.hard_states[0];
        s.elect(1, 2, 2)?;
        s.write(1, HardState { current_term: 2, ..hard_state }, &[no_op(3, 2)])
    }),
    ("one position, two contents", "log-matching", |s| {
        s.entries(1, 2, 1, at(2, 1), &[no_op(3, 1)])?;
        s.append(2, &[RaftLogEntry { context: Some(b("other")), ..no_op(3, 1) }])
    }),
    ("one position, two predecessors", "log-matching", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.elect(2, 2, 3)?;
        s.append(2, &[no_op(3, 2), no_op(4, 2)])?;
        let hard_state = s.hard_states[0];
        s.write(1, HardState { current_term: 2, ..hard_state }, &[no_op(4, 2)])
    }),
    ("an entry that no leader made", "log-matching", |s| s.append(2, &[no_op(3, 1)])),
    ("a hole in a log", "log-matching", |s| s.append(1, &[no_op(5, 1)])),
    ("elected without what is committed", "leader-completeness", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.entries(1, 2, 1, at(2, 1), &[no_op(3, 1)])?;
        s.append(2, &[no_op(3, 1)])?;
        s.step(1, |status| status.commit_index = 3)?;
        s.elect(3, 2, 2)
    }),
    ("an applied state that is another", "state-machine-safety", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.entries(1, 2, 1, at(2, 1), &[no_op(3, 1)])?;
        s.append(2, &[no_op(3, 1)])?;
        s.step(1, |status| status.commit_index = 3)?;
        let (from, to) = s.execute(1, &no_op(3, 1));
        s.show(1, from, AppliedState { revision: 9, ..to })
    }),
    ("an entry applied twice", "state-machine-safety", |s| {
        let to = s.kvs[0].applied();
        s.show(1, 1, to)
    }),
    ("applied, but not committed", "state-machine-safety", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.apply(1, &no_op(3, 1))
    }),
    ("applied, but not durable here", "apply-durable", |s| {
        for node in [2, 3] {
            s.entries(1, node, 1, at(2, 1), &[no_op(3, 1)])?;
            s.append(node, &[no_op(3, 1)])?;
        }
        s.step(1, |status| (status.commit_index, status.last_index) = (3, 3))?;
        s.apply(1, &no_op(3, 1))
    }),
    ("starts with something applied that is not committed", "commit-rule", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.see(&Observed::Crashed { node: 1 })?;
        let log = [no_op(1, 1), first_put(), no_op(3, 1)];
        s.start(1, 2, HardState { commit_index: 3, ..hard(1, Some(1)) }, at(0, 0), &log, None)
    }),
    ("a vote leaves before it is durable", "vote-durability", |s| {
        s.step(2, |status| status.term = 2)?;
        let _ = s.ask(2, hard(2, Some(1)), &[])?;
        s.send(2, 1, 2, Body::RequestVoteResponse { granted: true })
    }),
    ("a term leaves before it is durable", "vote-durability", |s| {
        s.step(2, |status| status.term = 2)?;
        s.send(2, 1, 2, Body::RequestVoteResponse { granted: false })
    }),
    ("a second vote in a term", "vote-durability", |s| {
        s.vote(2, 2, 1)?;
        s.vote(2, 2, 3)
    }),
    ("a vote forgotten within a term", "vote-durability", |s| {
        s.vote(2, 2, 1)?;
        s.write(2, hard(2, None), &[])
    }),
    ("a vote forgotten over a restart", "vote-durability", |s| {
        s.vote(2, 2, 1)?;
        s.see(&Observed::Crashed { node: 2 })?;
        s.start(2, 2, hard(2, None), at(0, 0), &[no_op(1, 1), first_put()], None)
    }),
    ("a term forgotten over a restart", "vote-durability", |s| {
        s.vote(2, 2, 1)?;
        s.see(&Observed::Crashed { node: 2 })?;
        s.start(2, 2, hard(1, Some(1)), at(0, 0), &[no_op(1, 1), first_put()], None)
    }),
    ("a term falls", "vote-durability", |s| {
        s.step(2, |status| status.term = 5)?;
        s.step(2, |status| status.term = 4)
    }),
    ("a vote that is not synced", "vote-durability", |s| {
        s.writes += 1;
        let write = Write { id: s.writes, hard_state: hard(2, Some(1)), entries: vec![], sync: false };
        s.see(&Observed::WriteAsked { node: 2, write: &write })
    }),
    ("committed by a minority", "commit-rule", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.step(1, |status| status.commit_index = 3)
    }),
    ("an old term's entry committed by counting", "commit-rule", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.elect(1, 2, 2)?;
        s.entries(1, 2, 2, at(2, 1), &[no_op(3, 1)])?;
        s.append(2, &[no_op(3, 1)])?;
        s.step(1, |status| status.commit_index = 3)
    }),
    ("commit goes back", "commit-rule", |s| s.step(2, |status| status.commit_index = 1)),
    ("commit past the log", "commit-rule", |s| s.step(2, |status| status.commit_index = 9)),
    ("a follower commits more than any leader", "commit-rule", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.append(2, &[no_op(3, 1)])?;
        s.step(2, |status| status.commit_index = 3)
    }),
    ("a leader tells of a commit that is none", "commit-rule", |s| {
        let body = Body::AppendEntries { prev: at(2, 1), commit_index: 3, round: 1, entries: vec![] };
        s.send(1, 2, 1, body)
    }),
    ("accepted before it is durable", "persist-before-send", |s| {
        s.entries(1, 2, 1, at(2, 1), &[no_op(3, 1)])?;
        let hard_state = s.hard_states[1];
        let _ = s.ask(2, hard_state, &[no_op(3, 1)])?;
        s.accept(2, 1, 1, 3)
    }),
    ("accepted what the leader does not have", "persist-before-send", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.elect(2, 2, 3)?;
        s.append(2, &[no_op(3, 2)])?;
        s.vote(1, 2, 2)?;
        s.step(1, |status| status.state = PeerState::Follower)?;
        s.accept(1, 2, 2, 3)
    }),
    ("entries that do not follow each other", "append-form", |s| s.entries(1, 2, 1, at(1, 1), &[no_op(3, 1)])),
    ("entries behind what the sender does not have", "append-form", |s| s.entries(1, 2, 1, at(7, 1), &[])),
    ("an acknowledged tail is lost and nobody knows", "recovery", |s| {
        s.see(&Observed::Crashed { node: 3 })?;
        s.kvs[2] = Kv::open(MemoryStore::new()).unwrap();
        s.start(3, 2, hard(1, Some(1)), at(0, 0), &[no_op(1, 1)], None)
    }),
    ("what was lost is taken for less", "recovery", |s| {
        s.see(&Observed::Crashed { node: 3 })?;
        s.kvs[2] = Kv::open(MemoryStore::new()).unwrap();
        s.start(3, 2, hard(1, Some(1)), at(0, 0), &[], Some(at(1, 1)))
    }),
    ("a recovering node votes", "recovery", |s| {
        s.see(&Observed::Crashed { node: 3 })?;
        s.kvs[2] = Kv::open(MemoryStore::new()).unwrap();
        s.start(3, 2, hard(1, Some(1)), at(0, 0), &[no_op(1, 1)], Some(at(2, 1)))?;
        s.vote(3, 2, 2)
    }),
    ("a recovering node pre-votes", "recovery", |s| {
        s.see(&Observed::Crashed { node: 3 })?;
        s.kvs[2] = Kv::open(MemoryStore::new()).unwrap();
        s.start(3, 2, hard(1, Some(1)), at(0, 0), &[no_op(1, 1)], Some(at(2, 1)))?;
        s.send(3, 2, 2, Body::PreVoteResponse { granted: true })
    }),
    ("a recovering node campaigns", "recovery", |s| {
        s.see(&Observed::Crashed { node: 3 })?;
        s.kvs[2] = Kv::open(MemoryStore::new()).unwrap();
        s.start(3, 2, hard(1, Some(1)), at(0, 0), &[no_op(1, 1)], Some(at(2, 1)))?;
        s.step(3, |status| status.state = PeerState::Candidate)
    }),
    ("a replaced node votes", "recovery", |s| {
        s.replace_disk()?;
        s.vote(3, 2, 2)
    }),
    ("a replaced node asks for votes", "recovery", |s| {
        s.replace_disk()?;
        s.vote(3, 2, 3)?;
        s.send(3, 1, 2, Body::RequestVote { last: at(0, 0), transfer: false })
    }),
    ("a replaced node that knows it campaigns", "recovery", |s| {
        s.replace_disk()?;
        s.step(3, |status| status.recovering = true)?;
        s.step(3, |status| status.state = PeerState::Candidate)
    }),
    ("a replaced node takes itself for whole too early", "recovery", |s| {
        // Committed by n1 and n3: without n3's copy there is one.
        s.commit_with_3(&no_op(3, 1))?;
        s.replace_disk()?;
        s.recover()
    }),
    ("a replaced node is told too little", "recovery", |s| {
        s.commit_with_3(&no_op(3, 1))?;
        s.replace_disk()?;
        s.see(&Observed::Crashed { node: 3 })?;
        s.start(3, 3, hard(1, Some(3)), at(0, 0), &[], Some(at(2, 1)))
    }),
    ("a replaced node gives away a vote again", "vote-durability", |s| {
        s.replace_disk()?;
        s.recover()?;
        s.send(3, 2, 1, Body::RequestVoteResponse { granted: true })
    }),
    ("a committed entry is replaced", "durability", |s| {
        s.entries(1, 2, 1, at(2, 1), &[no_op(3, 1)])?;
        s.append(1, &[no_op(3, 1)])?;
        s.append(2, &[no_op(3, 1)])?;
        s.step(1, |status| status.commit_index = 3)?;
        s.write(3, hard(1, Some(1)), &[no_op(3, 1)])?;
        s.write(3, hard(1, Some(1)), &[first_put()])
    }),
    ("every copy of a committed entry is lost", "durability", |s| {
        for node in [1, 2, 3] {
            s.see(&Observed::Crashed { node })?;
            s.kvs[node as usize - 1] = Kv::open(MemoryStore::new()).unwrap();
            s.start(node, 2, hard(1, Some(1)), at(0, 0), &[no_op(1, 1)], Some(at(2, 1)))?;
        }
        Ok(())
    }),
    ("an outcome that another entry has", "answers", |s| {
        let command = put("b", "2");
        let record = s.invoke(2, Op::Write(command.clone()))?;
        s.replicate(&entry(3, 1, &command))?;
        s.answer(record, written(7))
    }),
    ("written, but in no log", "answers", |s| {
        let record = s.invoke(2, Op::Write(put("b", "2")))?;
        s.answer(record, written(3))
    }),
    ("told never, but it is in a log", "answers", |s| {
        let record = s.invoke(1, Op::Write(put("b", "2")))?;
        s.append(1, &[entry(3, 1, &put("b", "2"))])?;
        s.answer(record, Outcome::Never)
    }),
    ("told never, and then it is in a log", "answers", |s| {
        let record = s.invoke(1, Op::Write(put("b", "2")))?;
        s.answer(record, Outcome::Never)?;
        s.append(1, &[entry(3, 1, &put("b", "2"))])
    }),
    ("one command, two entries", "answers", |s| {
        s.invoke(1, Op::Write(put("b", "2")))?;
        s.append(1, &[entry(3, 1, &put("b", "2")), entry(4, 1, &put("b", "2"))])
    }),
    ("a command that nobody asked for", "answers", |s| s.append(1, &[entry(3, 1, &put("b", "2"))])),
    ("answered twice", "answers", |s| {
        let record = s.invoke(1, Op::Write(put("b", "2")))?;
        s.answer(record.clone(), Outcome::Unknown)?;
        s.answer(record, Outcome::Unknown)
    }),
    ("never answered", "answers", |s| {
        s.see(&Observed::Healed { core: &[1] })?;
        s.put(1, 3, "2", 3)?;
        s.read(1, one("a"))?;
        s.invoke(1, Op::Write(put("b", "2")))?;
        s.end(true)
    }),
    ("a stale read", "reads", |s| {
        let stale = s.read_of(3, &one("a"));
        s.put(1, 3, "2", 3)?;
        let record = s.invoke(3, Op::Read(one("a")))?;
        s.answer(record, stale)
    }),
    ("a read of what is not there", "reads", |s| {
        let record = s.invoke(3, Op::Read(one("b")))?;
        let outcome = s.read_of(3, &one("a"));
        s.answer(record, outcome)
    }),
    ("a read of the future", "reads", |s| {
        let record = s.invoke(3, Op::Read(one("b")))?;
        let Outcome::Read { result, .. } = s.read_of(3, &one("b")) else { unreachable!() };
        s.answer(record, Outcome::Read { revision: 3, result })
    }),
    ("a compacted read answered", "reads", |s| {
        s.put(1, 3, "2", 3)?;
        let request = RangeRequest { revision: 2, ..one("a") };
        let old = s.read_of(1, &request);
        let record = s.invoke(1, Op::Write(compact(3)))?;
        s.replicate(&entry(4, 1, &compact(3)))?;
        s.answer(record, Outcome::Written(Ok(Response { revision: 3, body: ResponseBody::Compact })))?;
        let record = s.invoke(3, Op::Read(request))?;
        s.answer(record, old)
    }),
    ("a read refused for no reason", "reads", |s| {
        let record = s.invoke(3, Op::Read(RangeRequest { revision: 2, ..one("a") }))?;
        s.answer(record, Outcome::Read { revision: 2, result: Err(KvError::Compacted) })
    }),
    ("a serializable read goes back in one life", "reads", |s| {
        let request = RangeRequest { serializable: true, ..one("a") };
        let old = s.read_of(3, &request);
        s.put(1, 3, "2", 3)?;
        s.read(3, request.clone())?;
        let record = s.invoke(3, Op::Read(request))?;
        s.answer(record, old)
    }),
    ("a read index below what was committed", "read-index", |s| {
        let body = Body::ReadIndex { id: 5 };
        s.see(&Observed::Delivered { message: &Message { from: 2, to: 1, region_id: 1, term: 1, body } })?;
        s.send(1, 2, 1, Body::ReadIndexResponse { id: 5, index: Some(1) })
    }),
    ("a key with impossible numbers", "revision-rules", |s| {
        let record = s.invoke(3, Op::Read(one("a")))?;
        let Outcome::Read { revision, result: Ok(mut range) } = s.read_of(3, &one("a")) else { unreachable!() };
        range.kvs[0].version = 2;
        s.answer(record, Outcome::Read { revision, result: Ok(range) })
    }),
    ("a client is told an older revision", "revision-rules", |s| {
        s.put(1, 3, "2", 3)?;
        let record = s.invoke(1, Op::Read(one("b")))?;
        let Outcome::Read { result, .. } = s.read_of(1, &one("b")) else { unreachable!() };
        s.answer(record, Outcome::Read { revision: 2, result })
    }),
    ("a replica with another content", "replica-equality", |s| {
        let lease = Command::Put(flaredb_kv::PutRequest { key: b("a"), value: b("x"), ..Default::default() });
        let mut other = Kv::open(MemoryStore::new()).unwrap();
        let commands = [None, Some((lease.kind(), lease.encode()))];
        let entries = (1..).zip(commands).map(|(index, command)| ApplyEntry { index, term: 1, command });
        other.apply(&entries.collect::<Vec<_>>(), &mut Vec::new()).unwrap();
        assert_eq!(other.applied(), s.kvs[1].applied(), "only the content differs");
        s.kvs[1] = other;
        s.end(true)
    }),
    ("a node at the end without what is acknowledged", "durability", |s| {
        let mut behind = Kv::open(MemoryStore::new()).unwrap();
        behind.apply(&[ApplyEntry { index: 1, term: 1, command: None }], &mut Vec::new()).unwrap();
        s.kvs[1] = behind;
        s.end(true)
    }),
    ("truncated past what is applied", "truncation", |s| {
        s.append(1, &[no_op(3, 1)])?;
        s.see(&Observed::Truncated { node: 1, up_to: at(3, 1) })
    }),
    ("truncated at an entry it does not have", "truncation", |s| {
        s.see(&Observed::Truncated { node: 1, up_to: at(2, 9) })
    }),
    ("a log that begins behind what is applied", "truncation", |s| {
        s.see(&Observed::Truncated { node: 1, up_to: at(2, 1) })?;
        s.see(&Observed::Crashed { node: 1 })?;
        s.kvs[0] = Kv::open(MemoryStore::new()).unwrap();
        s.start(1, 2, hard(1, Some(1)), at(2, 1), &[], None)
    }),
    ("a snapshot that takes something back", "snapshot", |s| {
        let mut old = Kv::open(MemoryStore::new()).unwrap();
        old.apply(&[ApplyEntry { index: 1, term: 1, command: None }], &mut Vec::new()).unwrap();
        let snapshot = SnapshotMeta { last: at(1, 1), conf_state: ConfState::default() };
        s.see(&Observed::Installed { node: 2, snapshot: &snapshot, kv: &old })
    }),
    ("a snapshot of another place than it says", "snapshot", |s| {
        let empty = Kv::open(MemoryStore::new()).unwrap();
        let snapshot = SnapshotMeta { last: at(2, 1), conf_state: ConfState::default() };
        s.see(&Observed::Installed { node: 2, snapshot: &snapshot, kv: &empty })
    }),
    ("a snapshot for who lost nothing, though logs are kept for all", "truncation", |s| {
        s.checkers.require_log_for_all();
        s.send(1, 3, 1, snapshot_at_2())
    }),
    ("a member that leaves its client waiting", "own-answers", |s| {
        s.see(&Observed::RequestTaken { node: 1, id: 99, within_ticks: 2 })?;
        s.see(&Observed::RequestTaken { node: 1, id: 100, within_ticks: 2 })?;
        s.see(&Observed::RequestDone { node: 1, id: 99 })?;
        s.ticks(1, 5)
    }),
    ("a member that stood still does not forget its clients", "own-answers", |s| {
        s.see(&Observed::RequestTaken { node: 1, id: 99, within_ticks: 2 })?;
        s.ticks(2, 50)?;
        s.ticks(1, 5)
    }),
    ("an append of an earlier term is accepted", "stale-term", |s| {
        s.entries(1, 2, 1, at(2, 1), &[])?;
        s.write(2, hard(2, None), &[])?;
        s.step(2, |status| status.term = 2)?;
        s.accept(2, 1, 2, 2)
    }),
    ("no agreement at the end", "liveness", |s| {
        s.see(&Observed::Healed { core: &[1, 2] })?;
        s.end(false)
    }),
    ("a history that no order explains", "real-time", |s| {
        // Right by the log, but told before any of it had happened.
        s.put(1, 3, "2", 3)?;
        let compaction = s.invoke(1, Op::Write(compact(3)))?;
        s.replicate(&entry(4, 1, &compact(3)))?;
        s.answer(compaction, Outcome::Written(Ok(Response { revision: 3, body: ResponseBody::Compact })))?;
        let mut strange = s.invoke(3, Op::Read(RangeRequest { revision: 2, serializable: true, ..one("a") }))?;
        strange.invoked_at = 2;
        strange.answered_at = 3;
        let outcome = Outcome::Read { revision: 3, result: Err(KvError::Compacted) };
        strange.outcome = outcome;
        s.see(&Observed::Answered { record: &strange })?;
        s.end(true)
    }),
    ("a node that there is not", "world", |s| s.see(&Observed::Crashed { node: 9 })),
];

#[test]
fn each_rule_is_broken_by_its_case() {
    let mut mistaken = Vec::new();
    for (name, rule, case) in CASES {
        match case(&mut beginning()) {
            Err(violation) if violation.rule == *rule => {}
            other => mistaken.push(format!("{name}: expected {rule}, but {other:?}")),
        }
    }
    assert!(mistaken.is_empty(), "{}", mistaken.join("\n"));
}
