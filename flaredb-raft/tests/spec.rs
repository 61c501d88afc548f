//! The specification, line by line, as far as the core carries it (`docs/spec.md` maps every line). The column families and
//! their atomic batch are flaredb-storage's; here the batch is one `Write`.
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
use cluster::Cluster;
use flaredb_raft::*;

fn entry(index: u64, term: u64, command: &str) -> RaftLogEntry {
    RaftLogEntry { index, term, command: Bytes::from(command.to_string()), context: None }
}

fn append(from: u64, term: u64, prev: (u64, u64), entries: Vec<RaftLogEntry>, commit_index: u64) -> Event {
    let prev = EntryId { index: prev.0, term: prev.1 };
    let body = Body::AppendEntries { prev, commit_index, round: 0, entries };
    Event::Receive(Message { from, to: 1, region_id: 1, term, body })
}

#[test]
fn peer_has_the_six_fields_and_exchanges_entries_with_other_peers() {
    let mut cluster = Cluster::of_three();
    cluster.elect(2);
    cluster.propose(2, "a");
    cluster.settle();
    let PeerStatus { id, region_id, state, term, commit_index, last_applied, .. } = cluster.status(3);
    assert_eq!((id, region_id, state, term, commit_index, last_applied), (3, 1, PeerState::Follower, 1, 2, 2));
    assert_eq!(cluster.status(2).state, PeerState::Leader);
    assert_eq!(cluster.nodes[&3].history, cluster.nodes[&2].history);
}

#[test]
fn peer_owns_its_storage_and_stays_in_its_region() {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let mut peer = Peer::new(Config::new(1, 7), disk, 0).unwrap();
    assert_eq!(peer.storage().last_index().unwrap(), 0);
    // A message of region 1 at a peer of region 7.
    peer.step(append(2, 9, (0, 0), vec![entry(1, 9, "x")], 1)).unwrap();
    assert!(!peer.has_effects());
    assert_eq!((peer.status().term, peer.status().region_id, peer.counters().wrong_region), (0, 7, 1));
}

#[test]
fn the_voter_set_of_three_is_fixed_and_needs_two() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.crash(3);
    cluster.propose(1, "two of three");
    cluster.settle();
    assert_eq!(cluster.status(1).commit_index, 2);
    cluster.crash(2);
    cluster.propose(1, "one of three");
    cluster.settle();
    assert_eq!((cluster.status(1).commit_index, cluster.status(1).last_index), (2, 3), "one is no quorum");
    assert_eq!(cluster.peer(1).conf_state().voters, [1, 2, 3]);
}

#[test]
fn conf_state_is_loaded_at_start_and_checked() {
    let start = |voters: &[u64]| Peer::new(Config::new(1, 1), MemoryStorage::new(voters), 0).err();
    assert_eq!(start(&[1, 2, 3]), None);
    for voters in [&[][..], &[1, 1, 2], &[0, 1, 2]] {
        let error = start(voters).expect("refused");
        assert!(matches!(error, StartError::Voters(_)) && error.to_string().contains("voters"), "{voters:?}: {error}");
    }
}

#[test]
fn an_entry_has_index_term_command_and_optional_context_which_travel_unchanged() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    let (command, context) = (Bytes::from_static(b"\x00\xff put"), Some(Bytes::from_static(b"mark")));
    cluster.step(1, Event::Propose { ticket: 77, command: command.clone(), context: context.clone() });
    cluster.settle();
    for id in 1..=3 {
        let expected = RaftLogEntry { index: 2, term: 1, command: command.clone(), context: context.clone() };
        assert_eq!(cluster.nodes[&id].history[1], expected, "n{id}");
        assert_eq!(cluster.nodes[&id].disk.all_entries()[1], expected, "n{id}");
    }
}

#[test]
fn indices_strictly_increase_and_terms_never_fall() {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let mut peer = Peer::new(Config::new(1, 1), disk, 0).unwrap();
    let malformed = [
        vec![entry(1, 2, "a"), entry(3, 2, "hole")],
        vec![entry(1, 2, "a"), entry(1, 2, "again")],
        vec![entry(2, 2, "not right behind its position")],
        vec![entry(1, 2, "a"), entry(2, 1, "a falling term")],
        vec![entry(1, 3, "newer than its message")],
        vec![entry(1, 0, "no term")],
    ];
    let count = malformed.len() as u64;
    for entries in malformed {
        peer.step(append(2, 2, (0, 0), entries, 0)).unwrap();
    }
    assert_eq!((peer.counters().malformed, peer.status().term, peer.has_effects()), (count, 0, false), "dropped whole");
    peer.step(append(2, 2, (0, 0), vec![entry(1, 1, "a"), entry(2, 2, "b")], 0)).unwrap();
    assert_eq!(peer.status().last_index, 2);
}

#[test]
fn entries_are_applied_in_order_when_committed_and_last_applied_only_rises() {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let mut peer = Peer::new(Config::new(1, 1), disk, 0).unwrap();
    peer.step(append(2, 1, (0, 0), vec![entry(1, 1, ""), entry(2, 1, "a"), entry(3, 1, "b")], 0)).unwrap();
    let write = peer.take_effects().write.unwrap();
    peer.step(append(2, 1, (3, 1), vec![], 2)).unwrap();
    assert!(peer.take_effects().apply.is_empty(), "committed, but not durable here");
    peer.storage().apply_write(&write);
    peer.step(Event::WriteDone { id: write.id }).unwrap();
    let applied: Vec<u64> = peer.take_effects().apply.iter().map(|entry| entry.index).collect();
    assert_eq!(applied, [1, 2], "committed and durable; 3 is not committed");
    peer.step(Event::Applied { index: 2 }).unwrap();
    peer.step(Event::Applied { index: 1 }).unwrap();
    assert_eq!(peer.status().last_applied, 2, "a late report changes nothing");
}

#[test]
fn hard_state_is_written_in_one_batch_with_the_entries() {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let mut peer = Peer::new(Config::new(1, 1), disk, 0).unwrap();
    peer.step(append(2, 3, (0, 0), vec![entry(1, 3, ""), entry(2, 3, "a")], 1)).unwrap();
    let write = peer.take_effects().write.unwrap();
    assert_eq!(write.hard_state, HardState { current_term: 3, voted_for: None, commit_index: 1 });
    assert_eq!((write.entries.len(), write.sync), (2, true));
    assert!(peer.take_effects().write.is_none(), "one write at a time");
}

#[test]
fn hard_state_is_loaded_before_participating() {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let hard_state = HardState { current_term: 5, voted_for: Some(3), commit_index: 1 };
    disk.apply_write(&Write { id: 1, hard_state, entries: vec![entry(1, 4, "")], sync: true });
    let mut peer = Peer::new(Config::new(1, 1), disk, 0).unwrap();
    assert_eq!((peer.hard_state(), peer.status().commit_index), (hard_state, 1));
    // Its vote of term 5 is given.
    let body = Body::RequestVote { last: EntryId { index: 9, term: 4 }, transfer: false };
    peer.step(Event::Receive(Message { from: 2, to: 1, region_id: 1, term: 5, body })).unwrap();
    assert_eq!(peer.take_effects().send_now[0].body, Body::RequestVoteResponse { granted: false });
}

#[test]
fn replication_state_drives_backoff_and_progress_and_is_not_persisted() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    for command in ["a", "b"] {
        cluster.propose(1, command);
        cluster.settle();
    }
    let of = |cluster: &Cluster, id| cluster.peer(1).progress().find(|(peer, _)| *peer == id).unwrap().1;
    assert_eq!(of(&cluster, 3), ReplicationState { match_index: 3, next_index: 4, pending: false });
    // The connection breaks: back to what is known, and nothing more until an answer.
    cluster.isolate(3);
    cluster.propose(1, "c");
    assert_eq!(of(&cluster, 3).next_index, 5, "optimistic");
    cluster.step(1, Event::Unreachable { peer: 3 });
    assert_eq!(of(&cluster, 3), ReplicationState { match_index: 3, next_index: 4, pending: true });
    cluster.settle();
    cluster.propose(1, "d");
    cluster.settle();
    assert_eq!(of(&cluster, 3).next_index, 4, "pending: no further append");
    cluster.heal();
    cluster.tick_all();
    assert_eq!(of(&cluster, 3), ReplicationState { match_index: 5, next_index: 6, pending: false });
    // In memory only: a new leadership starts without it.
    cluster.crash(1);
    cluster.start(1);
    assert_eq!(cluster.peer(1).progress().count(), 0);
}

#[test]
fn replication_backs_off_by_the_followers_hint() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.isolate(3);
    for command in ["a", "b", "c", "d"] {
        cluster.propose(1, command);
        cluster.settle();
    }
    // n2 leads from the end of its log; n3 is four entries behind it.
    cluster.step(1, Event::TransferLeadership { to: 2 });
    cluster.settle();
    cluster.heal();
    cluster.trace.clear();
    cluster.tick(2);
    cluster.settle();
    let state = cluster.peer(2).progress().find(|(peer, _)| *peer == 3).unwrap().1;
    assert_eq!(state, ReplicationState { match_index: 6, next_index: 7, pending: false });
    assert_eq!(cluster.trace.iter().filter(|line| line.starts_with("n3: writes")).count(), 2, "{:#?}", cluster.trace);
}

#[test]
fn follower_becomes_candidate_becomes_leader() {
    let mut cluster = Cluster::of_three();
    assert_eq!(cluster.status(1).state, PeerState::Follower);
    cluster.step(1, Event::Campaign);
    assert_eq!(cluster.status(1).state, PeerState::Candidate);
    cluster.settle();
    assert_eq!(cluster.status(1).state, PeerState::Leader);
}

#[test]
fn leader_becomes_follower_on_a_higher_term() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.step(1, append(2, 2, (1, 1), vec![], 0));
    let status = cluster.status(1);
    assert_eq!((status.state, status.term, status.leader), (PeerState::Follower, 2, Some(2)));
}

#[test]
fn candidate_becomes_follower_when_the_election_fails() {
    let mut cluster = Cluster::of_three();
    cluster.step(1, Event::Campaign);
    for _ in 0..3 {
        // PreVote, its answers, RequestVote.
        for _ in 0..cluster.network.len() {
            if !matches!(&cluster.network[0].payload, cluster::Payload::Message(m) if matches!(m.body, Body::RequestVote { .. }))
            {
                cluster.deliver(0);
            }
        }
    }
    cluster.network.clear();
    assert_eq!((cluster.status(1).state, cluster.status(1).term), (PeerState::Candidate, 1));
    for voter in [2, 3] {
        let body = Body::RequestVoteResponse { granted: false };
        cluster.step(1, Event::Receive(Message { from: voter, to: 1, region_id: 1, term: 1, body }));
    }
    assert_eq!((cluster.status(1).state, cluster.status(1).term), (PeerState::Follower, 1));
}

#[test]
fn recovery_reconciles_with_the_leader_before_new_entries_are_applied() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.settle();
    // n1 has two entries that nobody else gets, and loses power; the others go on.
    cluster.isolate(1);
    cluster.propose(1, "lost 1");
    cluster.propose(1, "lost 2");
    cluster.crash(1);
    for _ in 0..40 {
        cluster.tick_all_up();
    }
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "b");
    cluster.settle();
    cluster.heal();
    cluster.start(1);
    let before = cluster.status(1);
    assert_eq!((before.last_index, before.commit_index), (4, 2), "hard state and log as they were");
    assert!(
        cluster.nodes[&1].history.iter().all(|entry| !entry.command.starts_with(b"lost")),
        "nothing uncommitted is applied"
    );
    for _ in 0..3 {
        cluster.tick_all();
    }
    assert_eq!(cluster.nodes[&1].history, cluster.nodes[&leader].history, "truncated, appended, applied");
    assert_eq!(cluster.nodes[&1].disk.all_entries(), cluster.nodes[&leader].disk.all_entries());
}
