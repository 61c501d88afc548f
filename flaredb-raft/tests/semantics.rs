//! R1 to R15: the semantics that Raft implementations get wrong most often, one test each. `docs/raft.md` refers to them by name.
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

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index, term }
}

fn message(from: u64, to: u64, term: u64, body: Body) -> Event {
    Event::Receive(Message { from, to, region_id: 1, term, body })
}

fn append(prev: EntryId, entries: Vec<RaftLogEntry>, commit_index: u64) -> Body {
    Body::AppendEntries { prev, commit_index, round: 1, entries }
}

/// n1 of three, with this log on disk, all of term 1 unless said otherwise.
fn peer_with(hard_state: HardState, entries: Vec<RaftLogEntry>) -> Peer<MemoryStorage> {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    disk.apply_write(&Write { id: 1, hard_state, entries, sync: true });
    Peer::new(Config::new(1, 1), disk, 0).unwrap()
}

fn hard_state(current_term: u64, voted_for: Option<u64>, commit_index: u64) -> HardState {
    HardState { current_term, voted_for, commit_index }
}

/// Everything the peer asks for; writes are done at once.
fn settle(peer: &mut Peer<MemoryStorage>) -> (Vec<Message>, Vec<RaftLogEntry>) {
    let mut sent = Vec::new();
    let mut applied = Vec::new();
    while peer.has_effects() {
        let effects = peer.take_effects();
        sent.extend(effects.send_now);
        if let Some(write) = effects.write {
            peer.storage().apply_write(&write);
            peer.step(Event::WriteDone { id: write.id }).unwrap();
        }
        sent.extend(effects.send_after_write);
        assert!(effects.install.is_none(), "no test that settles expects an install");
        applied.extend(effects.apply);
        peer.check_invariants();
    }
    (sent, applied)
}

fn answer(sent: &[Message]) -> AppendResult {
    let Body::AppendEntriesResponse { result, .. } = sent.last().expect("an answer").body else { panic!("{sent:?}") };
    result
}

#[test]
fn r01_only_entries_of_the_own_term_are_committed_by_counting() {
    // n1 leads term 3 with an old entry 2@1; figure 8.
    let mut peer = peer_with(hard_state(2, None, 1), vec![entry(1, 1, ""), entry(2, 1, "old")]);
    elect(&mut peer, 3);
    settle(&mut peer);
    let accepted =
        |match_index| Body::AppendEntriesResponse { round: 0, result: AppendResult::Accepted { match_index } };
    peer.step(message(2, 1, 3, accepted(2))).unwrap();
    peer.step(message(3, 1, 3, accepted(2))).unwrap();
    assert_eq!(peer.status().commit_index, 1, "2@1 is on all three, and not committed");
    peer.step(message(3, 1, 3, accepted(3))).unwrap();
    assert_eq!(peer.status().commit_index, 3, "the no-op 3@3 commits both");
}

/// Makes n1 leader of `term`, the others having voted for it.
fn elect(peer: &mut Peer<MemoryStorage>, term: u64) {
    peer.step(Event::Campaign).unwrap();
    settle(peer);
    peer.step(message(2, 1, term, Body::PreVoteResponse { granted: true })).unwrap();
    settle(peer);
    peer.step(message(2, 1, term, Body::RequestVoteResponse { granted: true })).unwrap();
    assert_eq!(peer.status().state, PeerState::Leader);
}

#[test]
fn r01_the_no_op_is_never_refused() {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let mut peer = Peer::new(Config { uncommitted_bytes_max: 1, ..Config::new(1, 1) }, disk, 0).unwrap();
    elect(&mut peer, 1);
    assert_eq!(peer.last(), id(1, 1), "appended, though it is larger than the limit");
    peer.step(Event::Propose { ticket: 9, command: Bytes::from("x"), context: None }).unwrap();
    let refused = peer.take_effects().refused;
    assert_eq!(refused, [Refused { ticket: 9, reason: RefuseReason::TooManyUncommitted }]);
}

#[test]
fn r02_term_and_vote_are_durable_before_any_reply() {
    let mut peer = peer_with(hard_state(0, None, 0), vec![]);
    peer.step(message(2, 1, 5, Body::RequestVote { last: id(0, 0), transfer: false })).unwrap();
    let effects = peer.take_effects();
    let write = effects.write.expect("term and vote are written");
    assert_eq!((write.hard_state, write.sync), (hard_state(5, Some(2), 0), true), "one batch, synced");
    assert!(effects.send_now.is_empty(), "nothing is said before");
    assert_eq!(effects.send_after_write.len(), 1, "the answer comes with the write");
    // While it is out: the same question, and an append of a leader in a higher term. Nothing is said either.
    peer.step(message(2, 1, 5, Body::RequestVote { last: id(0, 0), transfer: false })).unwrap();
    assert!(!peer.has_effects());
    peer.step(message(3, 1, 6, append(id(0, 0), vec![entry(1, 6, "")], 0))).unwrap();
    let effects = peer.take_effects();
    assert!(effects.send_now.is_empty() && effects.write.is_none());
    peer.step(Event::WriteDone { id: write.id }).unwrap();
    let effects = peer.take_effects();
    assert!(effects.send_now.is_empty(), "the vote of term 5 is not repeated in term 6");
    let write = effects.write.unwrap();
    assert_eq!((write.hard_state.current_term, write.entries.len()), (6, 1), "a term is durable with its first entry");
    assert_eq!(effects.send_after_write.len(), 1);
}

#[test]
fn r02_a_candidate_asks_only_when_its_own_vote_is_durable() {
    let mut peer = peer_with(hard_state(0, None, 0), vec![]);
    peer.step(Event::Campaign).unwrap();
    peer.take_effects();
    peer.step(message(2, 1, 1, Body::PreVoteResponse { granted: true })).unwrap();
    let effects = peer.take_effects();
    assert!(effects.send_now.is_empty());
    assert_eq!(effects.send_after_write.len(), 2, "two requests wait for the vote");
    // A vote that comes before anybody was asked cannot be real: it elects nobody.
    peer.step(message(2, 1, 1, Body::RequestVoteResponse { granted: true })).unwrap();
    assert_eq!(peer.status().state, PeerState::Candidate);
    peer.step(Event::WriteDone { id: 1 }).unwrap();
    peer.step(message(2, 1, 1, Body::RequestVoteResponse { granted: true })).unwrap();
    assert_eq!(peer.status().state, PeerState::Leader);
}

#[test]
fn r02_the_leader_counts_itself_only_when_its_disk_has_it() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.nodes.get_mut(&1).unwrap().slow = true;
    cluster.isolate(3);
    cluster.propose(1, "a");
    cluster.settle();
    assert_eq!(cluster.status(1).commit_index, 1, "one durable copy, on n2");
    cluster.finish_write(1);
    assert_eq!(cluster.status(1).commit_index, 2);
}

#[test]
fn r03_commit_progress_alone_is_not_written_and_recovered_from_what_is_applied() {
    let mut peer = peer_with(hard_state(1, None, 0), vec![entry(1, 1, ""), entry(2, 1, "a")]);
    peer.step(message(2, 1, 1, append(id(2, 1), vec![], 2))).unwrap();
    let effects = peer.take_effects();
    assert!(effects.write.is_none(), "a heartbeat that only commits writes nothing");
    assert_eq!(effects.apply.len(), 2);
    // The next write carries it.
    peer.step(message(2, 1, 1, append(id(2, 1), vec![entry(3, 1, "b")], 2))).unwrap();
    assert_eq!(peer.take_effects().write.unwrap().hard_state.commit_index, 2);
    // A crash: the disk says commit 0, the state machine holds 2.
    let restarted = Peer::new(Config::new(1, 1), peer.storage().clone(), 2).unwrap();
    assert_eq!((restarted.status().commit_index, restarted.status().last_applied), (2, 2));
}

#[test]
fn r03_what_does_not_fit_together_does_not_start() {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let entries = vec![entry(1, 1, ""), entry(2, 1, "a")];
    disk.apply_write(&Write { id: 1, hard_state: hard_state(1, None, 3), entries, sync: true });
    let start = |disk: &MemoryStorage, applied| Peer::new(Config::new(1, 1), disk.clone(), applied).err().unwrap();
    let snapshot = id(0, 0);
    let past_end = StartError::CommitPastEnd { stored_commit: 3, last_applied: 0, snapshot, last_index: 2 };
    assert_eq!(start(&disk, 0), past_end);
    assert!(past_end.to_string().contains("ends at 2") && past_end.to_string().contains("commit_index is 3"));
    disk.put_hard_state(hard_state(1, None, 0));
    assert!(matches!(start(&disk, 3), StartError::CommitPastEnd { last_applied: 3, .. }));
    disk.put_hard_state(hard_state(0, None, 0));
    assert_eq!(start(&disk, 0), StartError::TermBehindLog { current_term: 0, last: id(2, 1) });
    disk.put_hard_state(hard_state(1, None, 0));
    disk.compact(2);
    assert!(matches!(start(&disk, 1), StartError::LogHole { last_applied: 1, first_index: 3, .. }), "entry 2 is gone");
}

#[test]
fn r04_no_read_before_the_terms_first_commit_also_with_one_voter() {
    let disk = MemoryStorage::new(&[1]);
    let mut peer = Peer::new(Config::new(1, 1), disk, 0).unwrap();
    peer.step(Event::Campaign).unwrap();
    let vote = peer.take_effects().write.unwrap();
    peer.storage().apply_write(&vote);
    peer.step(Event::WriteDone { id: vote.id }).unwrap();
    assert_eq!(peer.status().state, PeerState::Leader);
    peer.step(Event::ReadIndex { id: 7 }).unwrap();
    let effects = peer.take_effects();
    assert!(effects.reads_ready.is_empty(), "the no-op is not durable");
    peer.storage().apply_write(effects.write.as_ref().unwrap());
    peer.step(Event::WriteDone { id: 2 }).unwrap();
    assert_eq!(peer.take_effects().reads_ready, [ReadReady { id: 7, index: 1 }]);
}

#[test]
fn r05_rounds_are_the_leaders_and_only_answers_to_later_messages_count() {
    let mut peer = peer_with(hard_state(0, None, 0), vec![]);
    elect(&mut peer, 1);
    settle(&mut peer);
    let answer =
        |round, match_index| Body::AppendEntriesResponse { round, result: AppendResult::Accepted { match_index } };
    peer.step(message(2, 1, 1, answer(0, 1))).unwrap();
    settle(&mut peer);
    // Several reads before a broadcast share its round; the question's own name appears nowhere.
    for read in [7, 8] {
        peer.step(Event::ReadIndex { id: read }).unwrap();
    }
    let sent = peer.take_effects().send_now;
    assert!(sent.iter().all(|m| matches!(m.body, Body::AppendEntries { round: 1, .. })) && sent.len() == 2, "{sent:?}");
    // Late answers to earlier messages, and a round that was never sent, confirm nothing.
    peer.step(message(2, 1, 1, answer(0, 1))).unwrap();
    peer.step(message(3, 1, 1, answer(9, 1))).unwrap();
    assert!(peer.take_effects().reads_ready.is_empty());
    assert_eq!(peer.counters().malformed, 1);
    // A read asked after the broadcast waits for the next round.
    peer.step(Event::ReadIndex { id: 9 }).unwrap();
    peer.step(message(3, 1, 1, answer(1, 1))).unwrap();
    let effects = peer.take_effects();
    assert_eq!(effects.reads_ready, [ReadReady { id: 7, index: 1 }, ReadReady { id: 8, index: 1 }]);
    assert!(effects.send_now.iter().all(|m| matches!(m.body, Body::AppendEntries { round: 2, .. })));
    // A term change fails what waits.
    peer.step(message(2, 1, 2, append(id(1, 1), vec![], 1))).unwrap();
    assert_eq!(peer.take_effects().reads_failed, [9]);
}

#[test]
fn r05_a_followers_questions_are_never_repeated_over_incarnations() {
    let question = |incarnation| {
        let disk = MemoryStorage::new(&[1, 2, 3]);
        disk.put_hard_state(hard_state(1, None, 0));
        let mut peer = Peer::new(Config { incarnation, ..Config::new(1, 1) }, disk, 0).unwrap();
        peer.step(message(2, 1, 1, append(id(0, 0), vec![], 0))).unwrap();
        settle(&mut peer);
        peer.step(Event::ReadIndex { id: 7 }).unwrap();
        let (sent, _) = settle(&mut peer);
        let Body::ReadIndex { id } = sent[0].body else { panic!("{sent:?}") };
        // An answer to another incarnation's question answers nothing.
        peer.step(message(2, 1, 1, Body::ReadIndexResponse { id: id ^ 1, index: Some(0) })).unwrap();
        assert!(peer.take_effects().reads_ready.is_empty());
        id
    };
    assert_ne!(question(1), question(2), "the same peer, restarted, asking the same");
}

#[test]
fn r06_without_the_option_reads_never_rest_on_a_lease() {
    // Leadership is handed over and taken by the target while the old leader still believes: its reads wait for a majority
    // that it does not get. There is no lease that could answer them.
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.step(1, Event::TransferLeadership { to: 2 });
    cluster.deliver(0);
    cluster.cut.extend([(2, 1), (1, 2), (1, 3), (3, 1)]);
    cluster.settle();
    cluster.propose(2, "a");
    cluster.settle();
    assert_eq!(
        (cluster.leader(), cluster.status(2).commit_index),
        (Some(2), 3),
        "transfer votes bypass the live leader"
    );
    assert_eq!(cluster.status(1).state, PeerState::Leader, "n1 does not know");
    let read = cluster.read(1);
    for _ in 0..10 {
        cluster.tick(1);
    }
    assert_eq!(cluster.reads_answered[&read], None, "failed, not answered");
}

/// Three peers with pledges of this long, n1 elected at clock 1,100,000 and pledged to by all.
fn leased() -> Cluster {
    let mut cluster = Cluster::new(&[1, 2, 3], &[1, 2, 3], |config| config.lease_us = 1_100_000);
    clocks(&mut cluster, 0);
    cluster.step(1, Event::Campaign);
    assert!(cluster.network.is_empty(), "a start is pledged, its own campaign included");
    clocks(&mut cluster, 1_100_000);
    cluster.elect(1);
    // A heartbeat begins a round, at which the others pledge.
    cluster.tick(1);
    cluster.settle();
    cluster
}

fn clocks(cluster: &mut Cluster, now: u64) {
    for id in [1, 2, 3] {
        cluster.step(id, Event::Clock { now });
    }
}

#[test]
fn r06_a_lease_answers_without_asking_for_nine_elevenths_of_the_pledge() {
    let mut cluster = leased();
    cluster.cut.extend([(1, 2), (2, 1), (1, 3), (3, 1)]);
    let read = cluster.read(1);
    assert_eq!(cluster.reads_answered.get(&read), None, "the clock was last read before it came");
    cluster.step(1, Event::Clock { now: 1_999_999 });
    assert_eq!(cluster.reads_answered[&read], Some(1), "nobody was asked");
    assert_eq!(cluster.peer(1).counters().lease_reads, 1);
    assert!(cluster.peer(1).holds_lease(1_999_999) && !cluster.peer(1).holds_lease(2_000_000));
    let late = cluster.read(1);
    cluster.step(1, Event::Clock { now: 2_000_000 });
    assert_eq!(cluster.reads_answered.get(&late), None, "900,000 us after the round began it is over");
    cluster.cut.clear();
    cluster.tick(1);
    cluster.settle();
    assert_eq!(cluster.reads_answered[&late], Some(1), "by its round");
    assert!(cluster.peer(1).holds_lease(2_899_999), "which renewed the pledges");
}

#[test]
fn r06_a_followers_question_is_answered_by_the_leaders_lease() {
    let mut cluster = leased();
    let read = cluster.read(2);
    cluster.cut.insert((3, 1));
    cluster.deliver(0);
    assert!(cluster.network.iter().all(|packet| packet.to == 3 || packet.from == 1), "nobody has confirmed anything");
    cluster.step(1, Event::Clock { now: 1_200_000 });
    cluster.settle();
    assert_eq!((cluster.reads_answered[&read], cluster.peer(1).counters().lease_reads), (Some(1), 1));
}

#[test]
fn r06_a_pledge_outlasts_a_broken_connection_a_higher_term_and_a_restart() {
    let mut cluster = leased();
    clocks(&mut cluster, 1_200_000);
    // All connections to n1 break: without pledges a follower campaigns after two ticks.
    cluster.cut.extend([(1, 2), (2, 1), (1, 3), (3, 1)]);
    for id in [2, 3] {
        cluster.step(id, Event::Unreachable { peer: 1 });
    }
    for _ in 0..40 {
        cluster.tick(2);
        cluster.tick(3);
        cluster.settle();
    }
    assert_eq!(cluster.leader(), Some(1), "by the clock no time has passed, whatever the ticks say");
    // A candidate of a higher term asks; one that was restarted is no freer.
    cluster.crash(3);
    cluster.start(3);
    let ask = Body::RequestVote { last: id(1, 1), transfer: false };
    cluster.step(3, message(2, 3, 9, ask.clone()));
    cluster.step(3, Event::Clock { now: 5_000 });
    cluster.step(3, message(2, 3, 9, ask));
    assert_eq!((cluster.status(3).term, cluster.peer(3).counters().vote_pledged), (1, 2));
    assert!(cluster.network.is_empty(), "no vote, no refusal");
    // The pledges end: n2's at 1,200,000 + 1,100,000, n3's by its own clock.
    cluster.step(3, Event::Clock { now: 1_105_000 });
    cluster.step(2, Event::Clock { now: 2_299_999 });
    cluster.tick(2);
    assert!(cluster.network.is_empty());
    cluster.step(2, Event::Clock { now: 2_300_000 });
    cluster.tick(2);
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.status(2).term), (Some(2), 2));
}

#[test]
fn r06_a_lease_ends_for_good_when_leadership_is_offered() {
    let mut cluster = leased();
    assert!(cluster.peer(1).holds_lease(1_200_000));
    cluster.step(1, Event::TransferLeadership { to: 2 });
    assert!(!cluster.peer(1).holds_lease(1_200_000), "TimeoutNow has left: it may be answered at any time");
    // It is lost, or late; n1 leads on, its followers pledge on, and all the same there is no lease in this term.
    cluster.network.clear();
    for _ in 0..12 {
        cluster.tick(1);
        cluster.settle();
    }
    assert_eq!((cluster.leader(), cluster.peer(1).transferee()), (Some(1), None));
    clocks(&mut cluster, 1_300_000);
    cluster.tick(1);
    cluster.settle();
    assert!(!cluster.peer(1).holds_lease(1_300_000));
    // The late one: pledges do not hold up an election that the leader asked for.
    cluster.step(2, message(1, 2, 1, Body::TimeoutNow));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(2));
}

#[test]
fn r06_a_leader_counts_only_on_a_majority_that_pledges_as_much_as_itself() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[1, 2, 3], |config| {
        config.lease_us = [1_000_000, 0, 999_999][usize::try_from(config.id - 1).unwrap()];
        config.former_lease_us = config.lease_us;
    });
    clocks(&mut cluster, 0);
    clocks(&mut cluster, 1_000_000);
    cluster.elect(1);
    cluster.tick(1);
    cluster.settle();
    assert!(!cluster.peer(1).holds_lease(1_000_000), "n2 pledges nothing, n3 a microsecond too little");
    assert_eq!(cluster.peer(1).counters().pledge_too_short, 1);
    let read = cluster.read(1);
    cluster.settle();
    assert_eq!(cluster.reads_answered[&read], Some(1), "by its round");
}

#[test]
fn r06_no_lease_before_the_terms_first_commit() {
    let config = Config { lease_us: 1_100_000, ..Config::new(1, 1) };
    let mut peer = Peer::new(config, MemoryStorage::new(&[1, 2, 3]), 0).unwrap();
    peer.step(Event::Clock { now: 0 }).unwrap();
    peer.step(Event::Clock { now: 1_100_000 }).unwrap();
    elect(&mut peer, 1);
    peer.step(Event::Tick).unwrap();
    settle(&mut peer);
    peer.step(Event::ReadIndex { id: 7 }).unwrap();
    peer.step(message(2, 1, 1, Body::Pledge { round: 1, for_us: 1_100_000 })).unwrap();
    peer.step(Event::Clock { now: 1_200_000 }).unwrap();
    assert!(!peer.holds_lease(1_200_000), "pledged, but what earlier terms committed may be unknown here");
    let accepted = AppendResult::Accepted { match_index: 1 };
    peer.step(message(2, 1, 1, Body::AppendEntriesResponse { round: 0, result: accepted })).unwrap();
    assert!(peer.holds_lease(1_200_000) && peer.take_effects().reads_ready.is_empty());
    peer.step(Event::Clock { now: 1_200_000 }).unwrap();
    assert_eq!(peer.take_effects().reads_ready, [ReadReady { id: 7, index: 1 }]);
    // A round that was never begun is nobody's to pledge for.
    peer.step(message(3, 1, 1, Body::Pledge { round: 9, for_us: 1_100_000 })).unwrap();
    assert_eq!(peer.counters().malformed, 1);
}

#[test]
fn a_leader_says_to_whom_it_hands_over_until_it_has_or_gives_up() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    assert_eq!(cluster.peer(1).transferee(), None);
    cluster.step(1, Event::TransferLeadership { to: 2 });
    assert_eq!(cluster.peer(1).transferee(), Some(2));
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.peer(1).transferee(), cluster.peer(2).transferee()), (Some(2), None, None));
    // n3 is not there: after an election timeout n2 goes on by itself.
    cluster.crash(3);
    cluster.step(2, Event::TransferLeadership { to: 3 });
    assert_eq!(cluster.peer(2).transferee(), Some(3));
    for _ in 0..10 {
        cluster.tick_all_up();
        cluster.settle();
    }
    assert_eq!((cluster.leader(), cluster.peer(2).transferee()), (Some(2), None));
}

#[test]
fn r07_pre_votes_change_nothing_and_lower_terms_are_answered() {
    let mut peer = peer_with(hard_state(4, Some(3), 0), vec![entry(1, 1, "")]);
    peer.step(message(2, 1, 9, Body::PreVote { last: id(5, 4) })).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!((sent[0].term, &sent[0].body), (9, &Body::PreVoteResponse { granted: true }), "with the asker's term");
    assert_eq!(peer.hard_state(), hard_state(4, Some(3), 0), "neither term nor vote moved");
    // Refused with the own term: a shorter log, or a term that is no news.
    for (term, last) in [(9, id(0, 0)), (4, id(9, 4)), (2, id(9, 2))] {
        peer.step(message(2, 1, term, Body::PreVote { last })).unwrap();
        let (sent, _) = settle(&mut peer);
        assert_eq!((sent[0].term, &sent[0].body), (4, &Body::PreVoteResponse { granted: false }));
    }
    // A leader of a lower term is told, or this peer would never be heard again. The answer confirms nothing else.
    peer.step(message(3, 1, 2, append(id(1, 1), vec![], 1))).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!(sent[0].term, 4);
    // It confirms no round, and rejects a position that no log has: should its receiver lead term 4 by now, that is nothing new.
    assert!(matches!(sent[0].body, Body::AppendEntriesResponse { round: 0, .. }));
    assert!(matches!(answer(&sent), AppendResult::Rejected { prev_index, .. } if prev_index == u64::MAX >> 1));
    // A pre-candidate follows nobody.
    peer.step(message(3, 1, 4, append(id(1, 1), vec![], 0))).unwrap();
    settle(&mut peer);
    assert_eq!(peer.status().leader, Some(3));
    peer.step(Event::Campaign).unwrap();
    assert_eq!((peer.status().leader, peer.status().term), (None, 4));
}

#[test]
fn r08_a_peer_that_is_no_voter_never_campaigns_but_votes() {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let mut peer = Peer::new(Config::new(4, 1), disk, 0).unwrap();
    for _ in 0..100 {
        peer.step(Event::Tick).unwrap();
    }
    peer.step(Event::Campaign).unwrap();
    assert!(!peer.has_effects() && peer.status().state == PeerState::Follower);
    peer.step(message(1, 4, 1, Body::RequestVote { last: id(0, 0), transfer: false })).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!(sent[0].body, Body::RequestVoteResponse { granted: true });
}

#[test]
fn r09_no_input_changes_the_voters() {
    let mut peer = peer_with(hard_state(1, None, 0), vec![entry(1, 1, "")]);
    let voters = peer.conf_state().clone();
    let other = ConfState { voters: vec![2, 3, 4] };
    let snapshot = SnapshotMeta { last: id(9, 1), conf_state: other };
    peer.step(message(2, 1, 1, Body::InstallSnapshot { snapshot })).unwrap();
    assert!(peer.take_effects().install.is_none(), "a snapshot with other voters is not this region's");
    assert_eq!(peer.counters().foreign_voters, 1);
    // An entry is bytes for the state machine, whatever they say.
    let command = entry(2, 1, "voters = 4, 5, 6");
    peer.step(message(2, 1, 1, append(id(1, 1), vec![command], 2))).unwrap();
    let (_, applied) = settle(&mut peer);
    assert_eq!(applied.len(), 2);
    assert_eq!(*peer.conf_state(), voters);
    assert_eq!(peer.storage().initial_state().unwrap().conf_state, voters);
}

#[test]
fn r10_peers_outside_the_voters_have_no_influence() {
    let mut peer = peer_with(hard_state(1, None, 0), vec![entry(1, 1, "")]);
    for body in [
        Body::RequestVote { last: id(9, 9), transfer: true },
        Body::PreVoteResponse { granted: false },
        append(id(1, 1), vec![entry(2, 9, "x")], 2),
    ] {
        peer.step(message(4, 1, 99, body)).unwrap();
    }
    assert_eq!((peer.status().term, peer.counters().unknown_sender), (1, 3), "their terms never spread");
    // Nor do they count: n1 and two strangers are no majority.
    peer.step(Event::Campaign).unwrap();
    settle(&mut peer);
    for stranger in [4, 5] {
        peer.step(message(stranger, 1, 2, Body::PreVoteResponse { granted: true })).unwrap();
    }
    assert_eq!((peer.status().state, peer.status().term), (PeerState::Candidate, 1));
    // A transfer to a stranger is not begun.
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.step(1, Event::TransferLeadership { to: 4 });
    cluster.propose(1, "a");
    assert!(cluster.refused.is_empty(), "proposals are taken as before");
}

#[test]
fn r11_only_a_conflict_removes_entries_and_commit_moves_only_over_what_was_verified() {
    let log = vec![entry(1, 1, ""), entry(2, 1, "a"), entry(3, 1, "b"), entry(4, 1, "c")];
    let mut peer = peer_with(hard_state(2, None, 1), log);
    // A late, short append: nothing is removed, and the commit index goes no further than it reaches (B06, B07).
    peer.step(message(2, 1, 2, append(id(1, 1), vec![entry(2, 1, "a")], 4))).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!(answer(&sent), AppendResult::Accepted { match_index: 2 });
    assert_eq!((peer.last(), peer.status().commit_index), (id(4, 1), 2));
    // A heartbeat commits up to its position only.
    peer.step(message(2, 1, 2, append(id(3, 1), vec![], 99))).unwrap();
    assert_eq!(peer.status().commit_index, 3);
    // From the first entry of another term on everything goes.
    peer.step(message(2, 1, 2, append(id(3, 1), vec![entry(4, 2, "x")], 3))).unwrap();
    settle(&mut peer);
    assert_eq!(peer.last(), id(4, 2));
    // Below the commit index nothing goes, whoever says so.
    peer.step(message(2, 1, 2, append(id(2, 1), vec![entry(3, 2, "y")], 3))).unwrap();
    peer.step(message(2, 1, 2, append(id(2, 2), vec![], 3))).unwrap();
    assert_eq!((peer.counters().conflict_below_commit, peer.term_of(3).unwrap()), (2, Some(1)));
    assert!(!peer.has_effects() || peer.take_effects().send_now.is_empty(), "and it is not acknowledged");
}

#[test]
fn r11_late_rejections_do_not_rewind() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.settle();
    let before: Vec<_> = cluster.peer(1).progress().collect();
    for prev_index in 0..5 {
        let result = AppendResult::Rejected { prev_index, hint: id(0, 0) };
        cluster.step(1, message(2, 1, 1, Body::AppendEntriesResponse { round: 0, result }));
    }
    assert_eq!(cluster.peer(1).progress().collect::<Vec<_>>(), before);
}

#[test]
fn r12_a_write_that_was_overwritten_does_not_count() {
    let mut peer = peer_with(hard_state(1, None, 1), vec![entry(1, 1, "")]);
    peer.step(message(2, 1, 1, append(id(1, 1), vec![entry(2, 1, "a"), entry(3, 1, "b")], 1))).unwrap();
    let first = peer.take_effects().write.unwrap();
    // Before it is done a leader of term 2 replaces entry 3 by 3@2: entry 2 stays.
    peer.step(message(3, 1, 2, append(id(2, 1), vec![entry(3, 2, "x")], 3))).unwrap();
    peer.storage().apply_write(&first);
    peer.step(Event::WriteDone { id: first.id }).unwrap();
    assert_eq!(peer.status().persisted_index, 2, "3@1 is durable, 3@2 is not");
    let effects = peer.take_effects();
    assert!(effects.send_now.is_empty(), "nothing is acknowledged to term 2 yet");
    assert_eq!(effects.apply.last().map(RaftLogEntry::id), Some(id(2, 1)), "committed, but 3@2 is not durable here");
    let second = effects.write.unwrap();
    assert_eq!(second.entries, [entry(3, 2, "x")]);
    peer.storage().apply_write(&second);
    peer.step(Event::WriteDone { id: second.id }).unwrap();
    assert_eq!((peer.status().persisted_index, peer.take_effects().apply), (3, vec![entry(3, 2, "x")]));
}

#[test]
fn r12_the_same_position_written_twice_is_still_not_the_same() {
    // 2@1 is in flight, is replaced by 2@2, and that by 2@3, all before the first write is done.
    let mut peer = peer_with(hard_state(1, None, 1), vec![entry(1, 1, "")]);
    peer.step(message(2, 1, 1, append(id(1, 1), vec![entry(2, 1, "a")], 1))).unwrap();
    let first = peer.take_effects().write.unwrap();
    peer.step(message(3, 1, 2, append(id(1, 1), vec![entry(2, 2, "b")], 1))).unwrap();
    peer.step(message(2, 1, 3, append(id(1, 1), vec![entry(2, 3, "c")], 1))).unwrap();
    peer.storage().apply_write(&first);
    peer.step(Event::WriteDone { id: first.id }).unwrap();
    assert_eq!(peer.status().persisted_index, 1);
    let (sent, _) = settle(&mut peer);
    assert_eq!(
        (sent.len(), answer(&sent)),
        (1, AppendResult::Accepted { match_index: 2 }),
        "one answer, to the last leader"
    );
    assert_eq!((sent[0].to, sent[0].term), (2, 3));
}

#[test]
fn r13_a_snapshot_takes_nothing_back_and_replaces_everything_else() {
    let meta = |index, term| SnapshotMeta { last: id(index, term), conf_state: ConfState { voters: vec![1, 2, 3] } };
    let install = |index, term| Body::InstallSnapshot { snapshot: meta(index, term) };
    let log = vec![entry(1, 1, ""), entry(2, 1, "a"), entry(3, 1, "b")];
    let mut peer = peer_with(hard_state(2, None, 1), log);
    // At or below the commit index: refused, with an answer that tells where this peer is.
    peer.step(message(2, 1, 2, install(1, 1))).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!(answer(&sent), AppendResult::Accepted { match_index: 1 });
    // In the log: only commit moves.
    peer.step(message(2, 1, 2, install(2, 1))).unwrap();
    let (sent, applied) = settle(&mut peer);
    assert_eq!((answer(&sent), applied.len()), (AppendResult::Accepted { match_index: 2 }, 1));
    // Not in the log: everything is replaced, also entry 3@1. The higher term is durable first.
    peer.step(message(3, 1, 3, install(9, 2))).unwrap();
    let effects = peer.take_effects();
    let write = effects.write.expect("the term is written before the install, which keeps it");
    assert!(effects.install.is_none());
    peer.storage().apply_write(&write);
    peer.step(Event::WriteDone { id: write.id }).unwrap();
    let snapshot = peer.take_effects().install.unwrap();
    // Meanwhile: no election, no append, no write, nothing applied.
    peer.step(Event::Campaign).unwrap();
    peer.step(message(3, 1, 3, append(id(3, 1), vec![entry(4, 3, "x")], 4))).unwrap();
    let effects = peer.take_effects();
    assert!(effects.write.is_none() && effects.apply.is_empty() && peer.status().state == PeerState::Follower);
    peer.storage().install_snapshot(&snapshot);
    peer.step(Event::SnapshotInstalled { last: snapshot.last }).unwrap();
    let status = peer.status();
    assert_eq!((status.commit_index, status.last_applied, peer.last()), (9, 9, id(9, 2)));
    assert_eq!(peer.durable_hard_state(), hard_state(3, None, 9));
    let (sent, _) = settle(&mut peer);
    assert_eq!(answer(&sent), AppendResult::Accepted { match_index: 9 });
    // An older one, whose position is not in the log any more, arrives late.
    peer.step(message(3, 1, 3, install(5, 2))).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!((answer(&sent), peer.last()), (AppendResult::Accepted { match_index: 9 }, id(9, 2)));
}

#[test]
fn r13_of_two_snapshots_the_newer_is_installed() {
    let conf_state = ConfState { voters: vec![1, 2, 3] };
    let install =
        |index| Body::InstallSnapshot { snapshot: SnapshotMeta { last: id(index, 1), conf_state: conf_state.clone() } };
    let mut peer = peer_with(hard_state(1, None, 0), vec![]);
    peer.step(message(2, 1, 1, install(10))).unwrap();
    peer.step(message(2, 1, 1, install(20))).unwrap();
    peer.step(message(2, 1, 1, install(15))).unwrap();
    let snapshot = peer.take_effects().install.unwrap();
    assert_eq!(snapshot.last, id(20, 1));
    peer.step(message(2, 1, 1, install(30))).unwrap();
    assert!(peer.take_effects().install.is_none(), "one at a time");
}

#[test]
fn r13_a_snapshot_that_waits_is_dropped_when_a_newer_one_is_in_the_log() {
    let conf_state = ConfState { voters: vec![1, 2, 3] };
    let install = |last| Body::InstallSnapshot { snapshot: SnapshotMeta { last, conf_state: conf_state.clone() } };
    let log = vec![entry(1, 1, ""), entry(2, 1, "a"), entry(3, 3, "b")];
    let mut peer = peer_with(hard_state(3, None, 1), log);
    // 2@2 contradicts the log; it waits for the write of the new term. 3@3 is in the log, which commits it.
    peer.step(message(2, 1, 4, install(id(2, 2)))).unwrap();
    let write = peer.take_effects().write.unwrap();
    peer.step(message(2, 1, 4, install(id(3, 3)))).unwrap();
    peer.storage().apply_write(&write);
    peer.step(Event::WriteDone { id: write.id }).unwrap();
    let (_, applied) = settle(&mut peer);
    assert_eq!((applied.len(), peer.last()), (2, id(3, 3)), "what is committed is not replaced by something older");
}

#[test]
fn r14_the_position_before_the_log_is_known_and_a_follower_behind_it_gets_a_snapshot() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[1, 2, 3], |config| config.cache_bytes_max = 1);
    cluster.elect(1);
    cluster.isolate(3);
    for command in ["a", "b", "c"] {
        cluster.propose(1, command);
        cluster.settle();
    }
    cluster.compact(1, 3);
    let peer = cluster.peer(1);
    assert_eq!(peer.storage().first_index().unwrap(), 4);
    assert_eq!(
        (peer.term_of(3).unwrap(), peer.term_of(2).unwrap()),
        (Some(1), None),
        "the term of first_index - 1 is kept"
    );
    // So a follower that has exactly 3 would need no snapshot; n3 has 1.
    cluster.heal();
    cluster.tick_all();
    cluster.tick_all();
    assert!(cluster.trace.iter().any(|line| line == "n1: sends snapshot 4@1 to n3"), "{:?}", cluster.trace);
    assert_eq!((cluster.status(3).last_applied, cluster.peer(3).storage().first_index().unwrap()), (4, 5));
    assert_eq!(cluster.nodes[&3].history, cluster.nodes[&1].history);
}

#[test]
fn proposals_that_cannot_leave_because_of_a_slow_disk_are_bounded() {
    // n1 follows n2 in term 2, which is not durable, so it forwards nothing; its clients go on proposing.
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let mut peer = Peer::new(Config { uncommitted_bytes_max: 100, ..Config::new(1, 1) }, disk, 0).unwrap();
    peer.step(message(2, 1, 2, append(id(0, 0), vec![], 0))).unwrap();
    let write = peer.take_effects().write.unwrap();
    for ticket in 1..=10 {
        peer.step(Event::Propose { ticket, command: Bytes::from(vec![7; 60]), context: None }).unwrap();
    }
    let refused = peer.take_effects().refused;
    assert!(refused.iter().all(|refused| refused.reason == RefuseReason::TooManyUncommitted), "{refused:?}");
    assert_eq!(refused.iter().map(|refused| refused.ticket).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // Those that were taken leave with the write, and then there is room again.
    peer.storage().apply_write(&write);
    peer.step(Event::WriteDone { id: write.id }).unwrap();
    settle(&mut peer);
    peer.step(Event::Propose { ticket: 11, command: Bytes::from("x"), context: None }).unwrap();
    let (sent, _) = settle(&mut peer);
    assert!(matches!(sent.last().unwrap().body, Body::Propose { .. }));
}

#[test]
fn r07_a_late_answer_to_an_earlier_term_moves_no_progress() {
    // n1 leads term 1, then term 3; n2's answer to an append of term 1 arrives in term 3, while n1 probes n2.
    let mut leader = peer_with(hard_state(2, None, 1), vec![entry(1, 1, ""), entry(2, 1, "a")]);
    elect(&mut leader, 3);
    settle(&mut leader);
    let before: Vec<_> = leader.progress().collect();
    let mut follower = peer_with(hard_state(3, Some(1), 1), vec![entry(1, 1, ""), entry(2, 1, "a")]);
    follower.step(message(2, 1, 1, append(id(1, 1), vec![], 1))).unwrap();
    let (sent, _) = settle(&mut follower);
    leader.step(message(2, 1, 3, sent[0].body.clone())).unwrap();
    assert_eq!(leader.progress().collect::<Vec<_>>(), before);
}

/// n1 of three with one entry of the three that it acknowledged.
fn recovering_peer() -> Peer<MemoryStorage> {
    let disk = MemoryStorage::new(&[1, 2, 3]);
    let write = Write { id: 1, hard_state: hard_state(2, Some(2), 3), entries: vec![entry(1, 1, "")], sync: true };
    disk.apply_write(&write);
    disk.set_recover_until(Some(id(3, 2)));
    Peer::new(Config::new(1, 1), disk, 0).unwrap()
}

#[test]
fn r15_below_its_promise_a_peer_neither_votes_nor_leads() {
    let mut peer = recovering_peer();
    assert_eq!((peer.status().recovering, peer.promise(), peer.persisted()), (true, Some(id(3, 2)), id(1, 1)));
    assert_eq!(peer.status().commit_index, 1, "that more was committed is known, but not what");
    // Nobody gets its vote, whatever their log; nothing makes it campaign.
    peer.step(message(3, 1, 5, Body::PreVote { last: id(9, 4) })).unwrap();
    peer.step(message(3, 1, 5, Body::RequestVote { last: id(9, 4), transfer: false })).unwrap();
    let (sent, _) = settle(&mut peer);
    assert!(sent.iter().all(|m| matches!(
        m.body,
        Body::PreVoteResponse { granted: false } | Body::RequestVoteResponse { granted: false }
    )));
    peer.step(message(2, 1, 5, append(id(1, 1), vec![], 1))).unwrap();
    peer.step(message(2, 1, 5, Body::TimeoutNow)).unwrap();
    peer.step(Event::Campaign).unwrap();
    for _ in 0..50 {
        peer.step(Event::Tick).unwrap();
    }
    assert_eq!((peer.status().state, peer.status().term), (PeerState::Follower, 5));
    settle(&mut peer);
    // It acknowledges what is durable, and only reaching the promise, durably, ends it. 2@2 is below, 3@2 is it.
    peer.step(message(2, 1, 5, append(id(1, 1), vec![entry(2, 2, "a")], 1))).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!((answer(&sent), peer.status().recovering), (AppendResult::Accepted { match_index: 2 }, true));
    peer.step(message(2, 1, 5, append(id(2, 2), vec![entry(3, 2, "b")], 1))).unwrap();
    assert!(peer.status().recovering, "received, not durable");
    settle(&mut peer);
    assert_eq!((peer.status().recovering, peer.promise()), (false, Some(id(3, 2))));
    for _ in 0..10 {
        peer.step(Event::Tick).unwrap();
    }
    peer.step(message(3, 1, 6, Body::RequestVote { last: id(9, 4), transfer: false })).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!(sent.last().unwrap().body, Body::RequestVoteResponse { granted: true });
}

#[test]
fn r15_a_loss_is_reported_wherever_a_leader_may_believe_in_more() {
    let mut peer = recovering_peer();
    peer.step(message(2, 1, 5, append(id(3, 2), vec![], 3))).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!(answer(&sent), AppendResult::Lost { last: id(1, 1) });
    peer.step(message(2, 1, 5, append(id(1, 1), vec![entry(2, 2, "a")], 1))).unwrap();
    settle(&mut peer);
    // An old copy of a disk may hold other entries there than what it acknowledged: also that takes back the leader's belief.
    peer.step(message(2, 1, 5, append(id(2, 1), vec![], 1))).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!(answer(&sent), AppendResult::Lost { last: id(1, 1) });
}

#[test]
fn r15_an_old_copy_with_a_conflicting_end_takes_back_what_the_leader_believes() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.settle();
    // Term 2's leader has 3@2; the copy says that it has entries of term 1 up to there, and further.
    cluster.step(1, Event::TransferLeadership { to: 3 });
    cluster.settle();
    let of_2 = |cluster: &Cluster| cluster.peer(3).progress().find(|(id, _)| *id == 2).unwrap().1;
    assert_eq!(of_2(&cluster).match_index, 3);
    cluster.step(
        3,
        message(2, 3, 2, Body::AppendEntriesResponse { round: 0, result: AppendResult::Lost { last: id(3, 1) } }),
    );
    assert_eq!((of_2(&cluster).match_index, of_2(&cluster).next_index), (2, 3), "3@1 is not 3@2");
}

#[test]
fn r15_a_report_of_a_loss_lowers_match_and_never_commit() {
    let mut cluster = Cluster::of_three();
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.propose(1, "b");
    cluster.settle();
    let of_2 = |cluster: &Cluster| cluster.peer(1).progress().find(|(id, _)| *id == 2).unwrap().1;
    assert_eq!(of_2(&cluster).match_index, 3);
    let lost = |last| Body::AppendEntriesResponse { round: 0, result: AppendResult::Lost { last } };
    for _ in 0..3 {
        cluster.step(1, message(2, 1, 1, lost(id(1, 1))));
    }
    assert_eq!((of_2(&cluster).match_index, cluster.status(1).commit_index), (1, 3));
    assert_eq!(cluster.network.iter().filter(|packet| packet.to == 2).count(), 1, "repeated reports cost nothing");
    // Of another term, past the end of the log, or impossible: dropped.
    cluster.step(1, message(2, 1, 1, lost(id(9, 1))));
    cluster.step(1, message(2, 1, 1, lost(id(0, 1))));
    assert_eq!(cluster.peer(1).counters().malformed, 2);
    cluster.settle();
    assert_eq!((of_2(&cluster).match_index, cluster.status(1).commit_index), (3, 3));
}

#[test]
fn r15_a_vote_that_waits_for_its_write_does_not_leave_after_a_loss_was_found() {
    let mut peer = peer_with(hard_state(0, None, 0), vec![]);
    peer.step(message(2, 1, 1, Body::RequestVote { last: id(0, 0), transfer: false })).unwrap();
    let write = peer.take_effects().write.unwrap();
    // Asked again while the vote is being written: this answer waits in the peer.
    peer.step(message(2, 1, 1, Body::RequestVote { last: id(0, 0), transfer: false })).unwrap();
    peer.step(Event::Recover { until: Some(id(2, 1)), term: 0 }).unwrap();
    peer.storage().apply_write(&write);
    peer.step(Event::WriteDone { id: write.id }).unwrap();
    assert!(!peer.has_effects(), "no vote");
}

#[test]
fn r15_who_does_not_know_its_promise_says_nothing_and_then_gives_no_vote_twice() {
    let mut peer = peer_with(hard_state(0, None, 0), vec![]);
    peer.step(Event::Recover { until: None, term: 0 }).unwrap();
    assert_eq!(peer.promise(), None);
    peer.step(message(2, 1, 4, append(id(0, 0), vec![entry(1, 4, "")], 1))).unwrap();
    peer.step(message(3, 1, 9, Body::RequestVote { last: id(5, 4), transfer: true })).unwrap();
    peer.step(message(3, 1, 9, Body::PreVote { last: id(5, 4) })).unwrap();
    for _ in 0..50 {
        peer.step(Event::Tick).unwrap();
    }
    let (sent, applied) = settle(&mut peer);
    assert!(sent.is_empty() && applied.is_empty() && peer.counters().mute == 3);
    // Told: the term is durable before it says a word, and its vote in it counts as given.
    peer.step(Event::Recover { until: Some(id(0, 0)), term: 4 }).unwrap();
    assert!(!peer.status().recovering, "there is nothing that it would have to get back");
    peer.step(message(3, 1, 4, Body::RequestVote { last: id(5, 4), transfer: true })).unwrap();
    let effects = peer.take_effects();
    assert_eq!(effects.write.as_ref().unwrap().hard_state, hard_state(4, Some(1), 0));
    assert!(effects.send_now.is_empty());
    assert_eq!(effects.send_after_write[0].body, Body::RequestVoteResponse { granted: false });
    peer.storage().apply_write(effects.write.as_ref().unwrap());
    peer.step(Event::WriteDone { id: effects.write.unwrap().id }).unwrap();
    // In the next term it votes again; and what is told twice is never told less.
    peer.step(message(3, 1, 5, Body::RequestVote { last: id(5, 4), transfer: true })).unwrap();
    let (sent, _) = settle(&mut peer);
    assert_eq!(sent.last().unwrap().body, Body::RequestVoteResponse { granted: true });
    peer.step(Event::Recover { until: Some(id(7, 4)), term: 0 }).unwrap();
    peer.step(Event::Recover { until: None, term: 0 }).unwrap();
    peer.step(Event::Recover { until: Some(id(2, 4)), term: 0 }).unwrap();
    assert_eq!((peer.promise(), peer.hard_state()), (Some(id(7, 4)), hard_state(5, Some(3), 0)));
}

#[test]
fn r15_a_single_voter_has_nobody_to_recover_from() {
    let disk = MemoryStorage::new(&[1]);
    let start = |until| {
        disk.set_recover_until(until);
        Peer::new(Config::new(1, 1), disk.clone(), 0).err()
    };
    let error = start(Some(id(3, 1))).unwrap();
    assert_eq!(error, StartError::NobodyToRecoverFrom { until: id(3, 1), last: id(0, 0) });
    assert!(error.to_string().contains("3@1 was acknowledged once"), "{error}");
    assert_eq!(start(Some(id(0, 0))), None, "nothing is missing");
}

#[test]
fn a_stalled_write_and_a_broken_connection_change_nothing_that_is_durable() {
    let mut peer = peer_with(hard_state(1, Some(2), 1), vec![entry(1, 1, "")]);
    peer.step(message(2, 1, 1, append(id(1, 1), vec![entry(2, 1, "a")], 1))).unwrap();
    assert!(peer.take_effects().write.is_some());
    peer.step(Event::Unreachable { peer: 2 }).unwrap();
    for _ in 0..2 {
        peer.step(Event::Tick).unwrap();
    }
    assert_eq!((peer.status().state, peer.hard_state()), (PeerState::Candidate, hard_state(1, Some(2), 1)), "it asks");
    assert_eq!(peer.counters().early_campaigns, 1);
    for _ in 0..40 {
        peer.step(Event::Tick).unwrap();
    }
    assert_eq!(
        (peer.status().state, peer.hard_state()),
        (PeerState::Follower, hard_state(1, Some(2), 1)),
        "it stops asking"
    );
    peer.step(Event::Campaign).unwrap();
    assert_eq!(peer.status().state, PeerState::Follower);
}

/// Found by fuzzing (`fuzz/corpus/core_step/ack-of-truncated`). No honest leader does this; whoever does must not end the process.
#[test]
fn a_leader_that_contradicts_itself_gets_no_ack_of_what_it_replaced() {
    let mut peer = peer_with(hard_state(3, None, 0), vec![]);
    let three = vec![entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")];
    peer.step(message(2, 1, 3, append(id(0, 0), three, 0))).unwrap();
    peer.step(message(2, 1, 3, append(id(0, 0), vec![entry(1, 2, "d")], 0))).unwrap();
    peer.check_invariants();
    let (sent, _) = settle(&mut peer);
    peer.check_invariants();
    let matched = sent.iter().filter_map(|message| match message.body {
        Body::AppendEntriesResponse { result: AppendResult::Accepted { match_index }, .. } => Some(match_index),
        _ => None,
    });
    assert_eq!(matched.max(), Some(1), "only what is in the log is acknowledged");
}

/// Both answers wait for the same write (the term is not durable yet). Of what waits for one receiver the newest is enough, but
/// one to a deposed leader is no news for the leader.
#[test]
fn an_answer_to_a_deposed_leader_does_not_displace_the_leaders() {
    let mut peer = peer_with(hard_state(1, None, 0), vec![]);
    peer.step(message(2, 1, 3, append(id(0, 0), vec![entry(1, 3, "a")], 0))).unwrap();
    peer.step(message(3, 1, 2, append(id(0, 0), vec![entry(1, 2, "b")], 0))).unwrap();
    let (sent, _) = settle(&mut peer);
    let to = |receiver| sent.iter().filter(move |message| message.to == receiver).map(|message| &message.body);
    assert!(
        to(2).any(|body| matches!(
            body,
            Body::AppendEntriesResponse { result: AppendResult::Accepted { match_index: 1 }, .. }
        )),
        "{sent:?}"
    );
    assert!(to(3).next().is_some(), "the deposed leader is told the term: {sent:?}");
}
