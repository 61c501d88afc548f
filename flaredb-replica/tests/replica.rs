//! What clients of a replica can rely on, one situation a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod cluster;

use bytes::Bytes;
use cluster::{Cluster, VOTERS};
use flaredb_kv::{ApplyEntry, CommandKind, Kv, KvError, MemoryStore};
use flaredb_raft::{
    AppendResult, Body, ConfState, Config, EntryId, ForwardedProposal, HardState, MemoryStorage, Message, PeerState,
    RaftLogEntry, SnapshotMeta, Write,
};
use flaredb_replica::{Answer, Input, Replica, ReplicaConfig, ReplicaError};

fn defaults(_: &mut ReplicaConfig) {}

/// A request waits less long than a leader without followers leads on.
fn impatient(config: &mut ReplicaConfig) {
    config.request_timeout_ticks = 5;
}

fn is_forward(message: &Message) -> bool {
    matches!(message.body, Body::Propose { .. })
}

fn is_read_index(message: &Message) -> bool {
    matches!(message.body, Body::ReadIndex { .. })
}

fn is_append_response(message: &Message) -> bool {
    matches!(message.body, Body::AppendEntriesResponse { .. })
}

#[test]
fn a_put_through_the_leader_is_answered_with_its_revision_and_applied_everywhere() {
    let mut cluster = Cluster::led_by_1(defaults);
    let ticket = cluster.put(1, "a", "1");
    assert_eq!(cluster.revision(1, ticket), 2);
    cluster.ticks(1);
    for id in VOTERS {
        assert_eq!(cluster.key(id, "a").unwrap().value, "1");
    }
    cluster.assert_equal_content();
}

#[test]
fn a_put_through_a_follower_is_answered_at_that_follower_once() {
    let mut cluster = Cluster::led_by_1(defaults);
    let ticket = cluster.put(2, "a", "1");
    cluster.ticks(1);
    assert_eq!(cluster.revision(2, ticket), 2);
    assert!(cluster.node(1).answers.is_empty() && cluster.node(3).answers.is_empty());
}

#[test]
fn a_refusal_by_the_state_machine_is_a_definite_answer() {
    let mut cluster = Cluster::led_by_1(defaults);
    let ticket = cluster.put(1, "", "1");
    assert_eq!(cluster.answer(1, ticket), Some(Answer::Applied(Err(KvError::EmptyKey))));
}

#[test]
fn a_linearizable_read_on_every_node_sees_the_last_acknowledged_put() {
    let mut cluster = Cluster::led_by_1(defaults);
    for (round, writer) in [1, 2, 3].into_iter().enumerate() {
        let value = round.to_string();
        let ticket = cluster.put(writer, "a", &value);
        for reader in VOTERS {
            let read = cluster.read(reader);
            cluster.settle();
            cluster.ticks(1);
            assert_eq!(cluster.answer(reader, read), Some(Answer::ReadReady));
            assert_eq!(cluster.key(reader, "a").unwrap().value, value);
        }
        cluster.revision(writer, ticket);
    }
}

#[test]
fn a_read_waits_until_the_state_machine_has_applied_its_index() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.ticks(1);
    cluster.node(3).slow_disk = true;
    let put = cluster.put(1, "a", "1");
    cluster.revision(1, put);
    let read = cluster.read(3);
    cluster.settle();
    assert_eq!(cluster.answer(3, read), None, "node 3 has not applied the put");
    assert_eq!(cluster.key(3, "a"), None);
    cluster.node(3).slow_disk = false;
    cluster.complete_write(3);
    cluster.settle();
    cluster.ticks(1);
    assert_eq!(cluster.answer(3, read), Some(Answer::ReadReady));
    assert_eq!(cluster.key(3, "a").unwrap().value, "1");
}

#[test]
fn reads_between_two_outputs_share_one_read_index() {
    let mut cluster = Cluster::led_by_1(defaults);
    let before = cluster.replica(2).counters().read_indexes_asked;
    let reads: Vec<u64> = (0..10).map(|_| cluster.read(2)).collect();
    cluster.settle();
    cluster.ticks(1);
    for read in reads {
        assert_eq!(cluster.answer(2, read), Some(Answer::ReadReady));
    }
    assert_eq!(cluster.replica(2).counters().read_indexes_asked, before + 1);
}

#[test]
fn a_read_that_arrives_later_never_uses_an_index_asked_for_earlier() {
    // B32: the answer to the first read is under way while a write is acknowledged.
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.ticks(1);
    cluster.intercept = Some(|m| matches!(m.body, Body::ReadIndexResponse { .. }) || is_append_to_2(m));
    let early = cluster.read(2);
    cluster.settle();
    let put = cluster.put(1, "a", "1");
    cluster.revision(1, put);
    let late = cluster.read(2);
    cluster.drain(2);
    let answer = cluster.intercepted.iter().position(|m| matches!(m.body, Body::ReadIndexResponse { .. })).unwrap();
    let answer = cluster.intercepted.remove(answer);
    cluster.deliver(answer);
    assert_eq!(cluster.answer(2, early), Some(Answer::ReadReady));
    assert_eq!(cluster.answer(2, late), None, "the put is not applied here, and this read must see it");
    cluster.heal();
    cluster.ticks(15);
    assert_eq!(cluster.answer(2, late), Some(Answer::ReadReady));
    assert_eq!(cluster.key(2, "a").unwrap().value, "1");
}

fn is_append_to_2(message: &Message) -> bool {
    message.to == 2 && matches!(message.body, Body::AppendEntries { .. })
}

#[test]
fn a_lost_read_index_is_asked_for_again() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.intercept = Some(is_read_index);
    let read = cluster.read(3);
    cluster.settle();
    assert_eq!(cluster.intercepted.len(), 1);
    cluster.heal();
    cluster.ticks(4);
    assert_eq!(cluster.answer(3, read), None);
    cluster.ticks(3);
    assert_eq!(cluster.answer(3, read), Some(Answer::ReadReady));
}

#[test]
fn an_answer_slower_than_the_retries_still_serves_its_read() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.intercept = Some(|m| matches!(m.body, Body::ReadIndexResponse { .. }));
    let read = cluster.read(3);
    cluster.settle();
    cluster.ticks(7);
    assert!(cluster.intercepted.len() >= 2, "asked again");
    let first = cluster.intercepted.remove(0);
    cluster.deliver(first);
    assert_eq!(cluster.answer(3, read), Some(Answer::ReadReady));
}

#[test]
fn a_read_in_the_middle_of_an_election_waits_for_the_new_leader() {
    let mut cluster = Cluster::led_by_1(defaults);
    let put = cluster.put(1, "a", "1");
    cluster.revision(1, put);
    cluster.crash(1);
    let read = cluster.read(2);
    cluster.settle();
    assert_eq!(cluster.answer(2, read), None);
    cluster.wait_for_leader();
    cluster.ticks(8);
    assert_eq!(cluster.answer(2, read), Some(Answer::ReadReady));
    assert_eq!(cluster.key(2, "a").unwrap().value, "1");
}

#[test]
fn a_read_without_a_leader_times_out() {
    let mut cluster = Cluster::new(1, impatient);
    cluster.isolate(2);
    let read = cluster.read(2);
    cluster.ticks(4);
    assert_eq!(cluster.answer(2, read), None);
    cluster.ticks(1);
    assert_eq!(cluster.answer(2, read), Some(Answer::Timeout));
}

#[test]
fn a_read_on_a_partitioned_leader_is_never_served() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.isolate(1);
    let read = cluster.read(1);
    cluster.settle();
    cluster.ticks(60);
    assert_eq!(cluster.answer(1, read), None);
    cluster.ticks(10);
    assert_eq!(cluster.answer(1, read), Some(Answer::Timeout));
}

#[test]
fn writers_behind_a_follower_learn_that_the_leader_crashed() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.intercept = Some(is_forward);
    let lost = cluster.put(2, "a", "1");
    cluster.crash(1);
    assert_eq!(cluster.answer(2, lost), None);
    cluster.heal();
    let leader = cluster.wait_for_leader();
    cluster.ticks(2);
    assert_ne!(leader, 1);
    assert_eq!(cluster.answer(2, lost), Some(Answer::LeaderLost));
    assert_eq!(cluster.key(2, "a"), None);
}

#[test]
fn a_partitioned_leader_answers_its_writers_that_the_outcome_is_unknown() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.isolate(1);
    let put = cluster.put(1, "a", "1");
    cluster.ticks(8);
    assert_eq!(cluster.answer(1, put), None);
    cluster.ticks(4);
    assert_eq!(cluster.replica(1).status().state, PeerState::Follower);
    assert_eq!(cluster.answer(1, put), Some(Answer::LeaderLost));
    assert_eq!(cluster.replica(1).counters().proposals_lost, 1);
    cluster.wait_for_leader();
    cluster.heal();
    cluster.ticks(30);
    cluster.assert_equal_content();
}

#[test]
fn an_entry_that_commits_after_its_writer_was_told_unknown_is_harmless() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.ticks(1);
    cluster.intercept = Some(is_append_response);
    let put = cluster.put(1, "a", "1");
    cluster.ticks(11);
    assert_eq!(cluster.answer(1, put), Some(Answer::LeaderLost));
    cluster.heal();
    cluster.wait_for_leader();
    cluster.ticks(3);
    for id in VOTERS {
        assert_eq!(cluster.key(id, "a").unwrap().version, 1, "it did take effect");
    }
    assert_eq!(cluster.replica(1).counters().outcomes_unclaimed, 1);
    assert_eq!(cluster.node(1).answers.len(), 1);
}

#[test]
fn a_restart_applies_only_what_is_missing_and_ends_with_equal_content() {
    let mut cluster = Cluster::led_by_1(defaults);
    for n in 0..20 {
        cluster.put(1, &format!("key{}", n % 7), &n.to_string());
    }
    cluster.ticks(1);
    cluster.flush(2);
    let flushed = cluster.applied(2);
    for n in 20..30 {
        cluster.put(3, &format!("key{}", n % 7), &n.to_string());
    }
    cluster.ticks(1);
    let applied = cluster.applied(2);
    assert_eq!(applied, flushed + 10);
    let before = cluster.hash(2);
    cluster.crash(2);
    cluster.start(2);
    assert_eq!(cluster.applied(2), flushed);
    cluster.settle();
    cluster.ticks(2);
    assert_eq!(cluster.applied(2), applied);
    assert_eq!(cluster.replica(2).counters().entries_applied, applied - flushed);
    assert_eq!(cluster.hash(2), before);
    cluster.assert_equal_content();
}

#[test]
fn an_entry_of_an_earlier_life_of_this_node_answers_nobody() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.put(2, "a", "1");
    cluster.ticks(1);
    cluster.crash(2);
    cluster.start(2);
    // The first attempt of this life has the number that the first of the last life had, whose entry is applied again now.
    cluster.intercept = Some(is_forward);
    let put = cluster.propose(2, "b", "2");
    cluster.ticks(2);
    assert_eq!(cluster.intercepted.len(), 1, "the attempt was made");
    assert_eq!(cluster.key(2, "a").unwrap().value, "1");
    assert_eq!(cluster.answer(2, put), None);
}

#[test]
fn a_forwarded_put_that_the_network_repeats_is_applied_once() {
    // B68.
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.intercept = Some(is_forward);
    let put = cluster.put(2, "a", "1");
    cluster.heal();
    let forward = cluster.intercepted.pop().unwrap();
    for _ in 0..3 {
        cluster.deliver(forward.clone());
        cluster.settle();
        cluster.ticks(1);
    }
    assert_eq!(cluster.revision(2, put), 2);
    for id in VOTERS {
        assert_eq!(cluster.key(id, "a").unwrap().version, 1);
        assert_eq!(cluster.replica(id).kv().applied().revision, 2);
    }
}

#[test]
fn a_put_that_is_never_decided_is_answered_unknown_in_time() {
    let mut cluster = Cluster::led_by_1(impatient);
    cluster.intercept = Some(is_append_response);
    let at_leader = cluster.put(1, "a", "1");
    cluster.intercept = Some(|m| is_append_response(m) || is_forward(m));
    let at_follower = cluster.put(2, "b", "1");
    cluster.ticks(4);
    assert_eq!((cluster.answer(1, at_leader), cluster.answer(2, at_follower)), (None, None));
    cluster.ticks(1);
    assert_eq!(cluster.answer(1, at_leader), Some(Answer::Timeout));
    assert_eq!(cluster.answer(2, at_follower), Some(Answer::Timeout));
}

#[test]
fn a_put_without_a_leader_is_answered_that_it_was_never_proposed() {
    let mut cluster = Cluster::new(1, impatient);
    cluster.isolate(2);
    let put = cluster.put(2, "a", "1");
    cluster.ticks(4);
    assert_eq!(cluster.answer(2, put), None);
    cluster.ticks(1);
    assert_eq!(cluster.answer(2, put), Some(Answer::NoLeader));
    cluster.heal();
    cluster.wait_for_leader();
    cluster.ticks(5);
    assert_eq!(cluster.key(2, "a"), None, "definite: it takes no effect later");
}

#[test]
fn puts_in_the_middle_of_an_election_wait_and_succeed() {
    let mut cluster = Cluster::new(1, defaults);
    let puts: Vec<(u64, u64)> = VOTERS.into_iter().map(|id| (id, cluster.put(id, &format!("key{id}"), "1"))).collect();
    assert!(puts.iter().all(|(id, _)| cluster.replica(*id).counters().proposals_held == 1));
    cluster.wait_for_leader();
    cluster.ticks(2);
    for (id, put) in puts {
        cluster.revision(id, put);
    }
    cluster.assert_equal_content();
}

#[test]
fn puts_at_a_follower_that_lost_its_connection_to_the_leader_wait_for_the_next_leader() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.crash(1);
    cluster.step(2, Input::Unreachable { peer: 1 });
    let put = cluster.put(2, "key", "1");
    assert_eq!(cluster.replica(2).counters().proposals_held, 1, "it is not forwarded into a broken connection");
    cluster.wait_for_leader();
    cluster.ticks(2);
    cluster.revision(2, put);
}

#[test]
fn puts_are_forwarded_again_once_the_leader_is_heard_again() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.step(2, Input::Unreachable { peer: 1 });
    let put = cluster.put(2, "key", "1");
    cluster.ticks(3);
    cluster.revision(2, put);
    assert_eq!(cluster.leader(), Some(1), "the leader is the same");
}

#[test]
fn held_puts_are_bounded_by_count_and_by_bytes() {
    let mut cluster = Cluster::new(1, |config| config.proposals_max = 2);
    let puts: Vec<u64> = (0..3).map(|n| cluster.put(1, "a", &n.to_string())).collect();
    assert_eq!(cluster.answer(1, puts[1]), None);
    assert_eq!(cluster.answer(1, puts[2]), Some(Answer::NoLeader));

    let mut cluster = Cluster::new(1, |config| config.proposal_bytes_max = 100);
    let fits = cluster.put(1, "a", &"x".repeat(80));
    let too_much = cluster.put(1, "a", &"x".repeat(80));
    assert_eq!(cluster.answer(1, fits), None);
    assert_eq!(cluster.answer(1, too_much), Some(Answer::NoLeader));
    cluster.wait_for_leader();
    cluster.ticks(1);
    cluster.revision(1, fits);
    let again = cluster.put(1, "a", &"x".repeat(80));
    cluster.revision(1, again);
}

#[test]
fn waiting_puts_and_reads_are_bounded_under_a_leader_too() {
    let mut cluster = Cluster::led_by_1(|config| (config.proposals_max, config.reads_max) = (2, 2));
    cluster.isolate(1);
    let puts: Vec<u64> = (0..3).map(|n| cluster.put(1, "a", &n.to_string())).collect();
    let reads: Vec<u64> = (0..3).map(|_| cluster.read(1)).collect();
    cluster.settle();
    assert_eq!((cluster.answer(1, puts[1]), cluster.answer(1, reads[1])), (None, None));
    assert_eq!(cluster.answer(1, puts[2]), Some(Answer::TooManyRequests));
    assert_eq!(cluster.answer(1, reads[2]), Some(Answer::TooManyRequests));
}

#[test]
fn too_many_uncommitted_bytes_refuse_a_put_at_the_leader_and_through_a_follower() {
    let mut cluster = Cluster::led_by_1(|config| config.raft.uncommitted_bytes_max = 100);
    cluster.ticks(1);
    cluster.intercept = Some(is_append_response);
    let first = cluster.put(1, "a", &"x".repeat(60));
    let second = cluster.put(1, "b", &"x".repeat(60));
    let forwarded = cluster.put(2, "c", &"x".repeat(60));
    assert_eq!(cluster.answer(1, second), Some(Answer::TooManyRequests));
    assert_eq!(cluster.answer(2, forwarded), Some(Answer::TooManyRequests));
    cluster.heal();
    cluster.ticks(3);
    cluster.revision(1, first);
    assert_eq!((cluster.key(1, "b"), cluster.key(1, "c")), (None, None), "definite: refused for good");
}

#[test]
fn what_only_waits_to_be_drained_is_no_backlog() {
    let mut cluster = Cluster::led_by_1(|config| config.apply_lag_max = 5);
    cluster.ticks(1);
    for n in 0..20 {
        cluster.propose(1, "a", &n.to_string());
    }
    cluster.drain(1);
    let to_followers: Vec<_> = cluster.network.drain(..).collect();
    to_followers.into_iter().for_each(|message| cluster.deliver(message));
    // The answers and more puts arrive in one turn, before the host drains.
    for message in std::mem::take(&mut cluster.network) {
        cluster.step(1, Input::Receive(message));
    }
    let status = cluster.replica(1).status();
    assert!(status.commit_index > status.last_applied + 5, "{status:?}");
    let put = cluster.put(1, "b", "1");
    cluster.revision(1, put);
}

#[test]
fn who_waits_while_a_snapshot_is_installed_is_answered_from_it() {
    let disk = MemoryStorage::new(&VOTERS);
    let kv = Kv::open(MemoryStore::new()).unwrap();
    let mut replica = Replica::new(ReplicaConfig::new(Config::new(1, 1)), disk.clone(), kv).unwrap();
    let from_leader = |body| Input::Receive(Message { from: 2, to: 1, region_id: 1, term: 3, body });
    let last = EntryId { index: 10, term: 2 };
    let conf_state = ConfState { voters: VOTERS.to_vec() };
    let drain = |replica: &mut Replica<MemoryStorage, MemoryStore>| {
        let (mut answers, mut sent, mut installs) = (Vec::new(), Vec::new(), Vec::new());
        while replica.has_output() {
            let output = replica.take_output().unwrap();
            sent.extend(output.send_now);
            sent.extend(output.send_after_write);
            answers.extend(output.answers);
            installs.extend(output.install);
            if let Some(write) = output.write {
                disk.apply_write(&write);
                replica.step(Input::WriteDone { id: write.id }).unwrap();
            }
        }
        (answers, sent, installs)
    };
    let heartbeat = Body::AppendEntries { prev: EntryId::default(), commit_index: 0, round: 0, entries: vec![] };
    replica.step(from_leader(heartbeat)).unwrap();
    drain(&mut replica);
    // A write and a read are under way; the read's index is answered, but lies in the snapshot.
    replica.step(Input::Propose { ticket: 1, kind: CommandKind::Put, command: cluster::put("a", "1") }).unwrap();
    replica.step(Input::Read { ticket: 2 }).unwrap();
    let (_, sent, _) = drain(&mut replica);
    let id = sent.iter().find_map(|m| if let Body::ReadIndex { id } = m.body { Some(id) } else { None }).unwrap();
    replica.step(from_leader(Body::ReadIndexResponse { id, index: Some(10) })).unwrap();
    let snapshot = SnapshotMeta { last, conf_state };
    replica.step(from_leader(Body::InstallSnapshot { snapshot: snapshot.clone() })).unwrap();
    let (answers, _, installs) = drain(&mut replica);
    assert_eq!((answers, installs), (vec![], vec![snapshot.clone()]));
    // The host has received it whole and puts it in place.
    let mut installed = Kv::open(MemoryStore::new()).unwrap();
    let entries: Vec<_> = (1..=10).map(|index| ApplyEntry { index, term: 2, command: None }).collect();
    installed.apply(&entries, &mut Vec::new()).unwrap();
    disk.install_snapshot(&snapshot);
    *replica.kv_mut() = installed;
    replica.step(Input::SnapshotInstalled { last }).unwrap();
    let (answers, sent, _) = drain(&mut replica);
    assert_eq!(answers, [(2, Answer::ReadReady)], "the write still waits: its outcome is not known");
    assert!(sent.iter().any(|m| matches!(
        m.body,
        Body::AppendEntriesResponse { result: AppendResult::Accepted { match_index: 10 }, .. }
    )));
    for _ in 0..70 {
        replica.step(Input::Tick).unwrap();
    }
    let (answers, _, _) = drain(&mut replica);
    assert_eq!(answers, [(1, Answer::Timeout)]);
    replica.peer().check_invariants();
}

#[test]
fn a_state_machine_too_far_behind_refuses_puts() {
    let mut cluster = Cluster::led_by_1(|config| config.apply_lag_max = 1);
    cluster.ticks(1);
    // Commit moves while the host does not drain node 2.
    for n in 0..3 {
        cluster.propose(1, "a", &n.to_string());
    }
    cluster.intercept = Some(|m| m.to == 2);
    cluster.settle();
    cluster.ticks(1);
    for message in std::mem::take(&mut cluster.intercepted) {
        cluster.step(2, Input::Receive(message));
    }
    cluster.heal();
    cluster.node(2).slow_disk = true;
    cluster.drain(2);
    cluster.node(2).slow_disk = false;
    cluster.complete_write(2);
    let status = cluster.replica(2).status();
    assert!(status.commit_index > status.last_applied + 1, "{status:?}");
    let put = cluster.put(2, "b", "1");
    assert_eq!(cluster.answer(2, put), Some(Answer::TooManyRequests));
    let put = cluster.put(2, "b", "1");
    cluster.ticks(1);
    cluster.revision(2, put);
}

#[test]
fn puts_during_a_transfer_of_leadership_wait_for_the_new_leader() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.ticks(1);
    cluster.intercept = Some(|m| matches!(m.body, Body::TimeoutNow));
    cluster.step(1, Input::TransferLeadership { to: 2 });
    cluster.settle();
    let (at_leader, at_follower) = (cluster.put(1, "a", "1"), cluster.put(3, "b", "1"));
    assert_eq!((cluster.answer(1, at_leader), cluster.answer(3, at_follower)), (None, None));
    cluster.heal();
    let timeout_now = cluster.intercepted.pop().unwrap();
    cluster.deliver(timeout_now);
    cluster.settle();
    cluster.ticks(2);
    assert_eq!(cluster.leader(), Some(2));
    cluster.revision(1, at_leader);
    cluster.revision(3, at_follower);
}

#[test]
fn a_cancelled_ticket_is_not_answered() {
    let mut cluster = Cluster::new(1, defaults);
    let (put, read) = (cluster.propose(1, "a", "1"), cluster.read(1));
    cluster.step(1, Input::Cancel { ticket: put });
    cluster.step(1, Input::Cancel { ticket: read });
    cluster.step(1, Input::Cancel { ticket: 999 });
    cluster.elect(1);
    cluster.ticks(2);
    assert_eq!(cluster.key(1, "a"), None, "held and cancelled: never proposed");
    let (put, read) = (cluster.propose(1, "b", "1"), cluster.read(1));
    cluster.step(1, Input::Cancel { ticket: put });
    cluster.step(1, Input::Cancel { ticket: read });
    cluster.settle();
    cluster.ticks(80);
    assert_eq!(cluster.key(1, "b").unwrap().value, "1", "handed on and cancelled: takes effect, answers nobody");
    assert!(cluster.node(1).answers.is_empty());
    assert_eq!(cluster.replica(1).counters().outcomes_unclaimed, 1);
}

#[test]
fn an_entry_that_cannot_be_read_has_no_effect_on_any_node() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.ticks(1);
    let good = cluster::put("a", "1");
    let contexts = [
        None,
        Some(Bytes::new()),
        Some(Bytes::from_static(&[9; 26])),
        // A kind that is not known, and an announcement about what comes after it.
        Some([&[1, 77][..], &[0; 24]].concat().into()),
        Some([&[1, 128][..], &[0; 16], &u64::MAX.to_le_bytes()].concat().into()),
    ];
    let proposals: Vec<ForwardedProposal> = contexts
        .into_iter()
        .zip(1..)
        .map(|(context, ticket)| ForwardedProposal { ticket, command: good.clone(), context })
        .collect();
    let count = proposals.len() as u64;
    let term = cluster.replica(1).status().term;
    cluster.deliver(Message { from: 2, to: 1, region_id: 1, term, body: Body::Propose { seq: 1, proposals } });
    cluster.settle();
    cluster.ticks(1);
    for id in VOTERS {
        assert_eq!(cluster.replica(id).counters().entries_malformed, count, "node {id}");
        assert_eq!(cluster.key(id, "a"), None);
        assert_eq!(cluster.applied(id), 1 + count);
    }
    cluster.assert_equal_content();
    let put = cluster.put(1, "a", "1");
    assert_eq!(cluster.revision(1, put), 2);
}

/// Truncates eagerly.
fn short_log(config: &mut ReplicaConfig) {
    config.snapshot_count = 5;
    config.catch_up_entries = 3;
}

#[test]
fn the_log_is_truncated_on_every_node_behind_what_is_flushed() {
    let mut cluster = Cluster::led_by_1(short_log);
    for n in 0..50 {
        cluster.put(1, "a", &n.to_string());
        cluster.ticks(1);
    }
    for id in VOTERS {
        assert_eq!(cluster.first_index(id), 1, "nothing is flushed");
        cluster.flush(id);
        let (first, applied) = (cluster.first_index(id), cluster.applied(id));
        assert!(first > 30, "node {id} truncated to {first}");
        assert!(first + 3 <= applied + 1, "node {id} keeps entries to catch up with");
        cluster.flush(id);
        assert_eq!(cluster.first_index(id), first, "not for so few entries");
    }
    cluster.crash(2);
    cluster.start(2);
    let put = cluster.put(3, "b", "1");
    cluster.ticks(2);
    cluster.revision(3, put);
    cluster.assert_equal_content();
}

#[test]
fn no_node_truncates_what_the_slowest_voter_lacks_whoever_leads() {
    let mut cluster = Cluster::led_by_1(short_log);
    for n in 0..20 {
        cluster.put(1, "a", &n.to_string());
        cluster.ticks(1);
    }
    cluster.crash(3);
    let lacks = cluster.node(3).disk.len() + 1;
    for n in 0..100 {
        cluster.put(2, "a", &n.to_string());
        cluster.ticks(1);
        cluster.flush(1);
        cluster.flush(2);
    }
    for id in [1, 2] {
        let first = cluster.first_index(id);
        assert!(first > 1 && first <= lacks, "node {id}: first {first}, node 3 lacks {lacks}");
    }
    // Leadership moves to the node that was told by the old leader only; it can still bring the slow one up to date.
    cluster.crash(1);
    cluster.start(3);
    let leader = cluster.wait_for_leader();
    assert_eq!(leader, 2);
    let put = cluster.put(2, "b", "1");
    cluster.ticks(5);
    cluster.revision(2, put);
    assert_eq!(cluster.hash(2), cluster.hash(3));
    // And truncation goes on when all are back.
    cluster.start(1);
    for n in 0..20 {
        cluster.put(2, "a", &n.to_string());
        cluster.ticks(1);
    }
    for id in VOTERS {
        cluster.flush(id);
        assert!(cluster.first_index(id) > lacks, "node {id}");
    }
    cluster.assert_equal_content();
}

#[test]
fn a_log_and_a_state_machine_that_contradict_each_other_do_not_start() {
    let mut cluster = Cluster::led_by_1(defaults);
    cluster.put(1, "a", "1");
    cluster.flush(1);
    let data = cluster.node(1).flushed.clone();
    let start = |log: &MemoryStorage, data: &MemoryStore| {
        Replica::new(ReplicaConfig::new(Config::new(1, 1)), log.clone(), Kv::open(data.clone()).unwrap()).err()
    };
    assert!(start(&cluster.node(1).disk.deep_clone(), &data).is_none());

    let empty = MemoryStorage::new(&VOTERS);
    let error = start(&empty, &data).unwrap();
    assert!(matches!(error, ReplicaError::Inconsistent(_)), "applied past the end of the log: {error}");

    let other = MemoryStorage::new(&VOTERS);
    let entries = (1..=9).map(|index| RaftLogEntry { index, term: 7, command: Bytes::new(), context: None }).collect();
    let hard_state = HardState { current_term: 7, voted_for: None, commit_index: 9 };
    other.apply_write(&Write { id: 1, hard_state, entries, sync: true });
    let error = start(&other, &data).unwrap();
    assert!(error.to_string().contains("term 7 in the log, but was applied with term 1"), "{error}");
}

#[test]
#[should_panic(expected = "a ticket has one answer")]
fn a_ticket_cannot_wait_twice() {
    let mut cluster = Cluster::new(1, defaults);
    for _ in 0..2 {
        cluster.step(1, Input::Propose { ticket: 7, kind: CommandKind::Put, command: cluster::put("a", "1") });
    }
}
