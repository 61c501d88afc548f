//! Each judgement by name, then all pairs of instants of many histories.

use super::*;
use std::collections::BTreeMap;

fn at(index: u64, term: u64) -> EntryId {
    EntryId { index, term }
}

fn hard(current_term: u64, voted_for: Option<u64>, commit_index: u64) -> HardState {
    HardState { current_term, voted_for, commit_index }
}

/// A member at 100@5 that has compacted to 50@3 and applied 80@4.
fn found() -> Found {
    Found {
        rows: Vec::new(),
        hard_state: hard(6, Some(2), 80),
        compacted_to: at(50, 3),
        last: at(100, 5),
        fault: None,
        last_readable: at(100, 5),
        chain_at_acked: Some(7),
        applied: at(80, 4),
        term_at_applied: Some(4),
    }
}

fn mark() -> Mark {
    Mark {
        cluster_id: 1,
        member_id: 2,
        storage_id: 3,
        incarnation: 4,
        term: 6,
        voted_for: Some(2),
        acked: at(100, 5),
        acked_chain: 7,
    }
}

/// (hard state, keep_to, restart_at, until, why)
fn repair(found: &Found, mark: Option<&Mark>) -> (HardState, u64, Option<EntryId>, Option<EntryId>, String) {
    match judge(found, mark) {
        Judgement::Repair { hard_state, keep_to, restart_at, until, why } => {
            (hard_state, keep_to, restart_at, until, why)
        }
        other => panic!("{other:?} for {found:?} {mark:?}"),
    }
}

fn fault(index: u64) -> Option<Fault> {
    Some(Fault { index, what: format!("raft_log 1/{index} says checksum 1, its bytes have 2") })
}

#[test]
fn nothing_missing_is_whole() {
    assert_eq!(judge(&found(), Some(&mark())), Judgement::Whole);
    // The mark lags: an append of the same term, one of a later term, a vote since.
    for older in [
        Mark { acked: at(90, 5), ..mark() },
        Mark { acked: at(90, 4), acked_chain: 99, ..mark() },
        Mark { term: 5, voted_for: Some(1), ..mark() },
        Mark { voted_for: None, ..mark() },
        Mark { acked: at(0, 0), acked_chain: 0, term: 0, voted_for: None, ..mark() },
    ] {
        let chain_at_acked = (older.acked == at(100, 5)).then_some(7);
        assert_eq!(judge(&Found { chain_at_acked, ..found() }, Some(&older)), Judgement::Whole, "{older:?}");
    }
    // A shorter log of a later term is further in Raft's order: its leader replaced a tail that was not committed.
    let replaced = Found { last: at(90, 6), last_readable: at(90, 6), chain_at_acked: None, ..found() };
    assert_eq!(judge(&replaced, Some(&mark())), Judgement::Whole);
    // The commit index on the disk lags behind what is applied, as it may.
    assert_eq!(judge(&Found { hard_state: hard(6, Some(2), 10), ..found() }, Some(&mark())), Judgement::Whole);
    assert_eq!(judge_unmarked(&found()), Judgement::Whole);
}

#[test]
fn a_new_member_is_whole() {
    let new = Found {
        rows: Vec::new(),
        hard_state: HardState::default(),
        compacted_to: at(0, 0),
        last: at(0, 0),
        fault: None,
        last_readable: at(0, 0),
        chain_at_acked: Some(0),
        applied: at(0, 0),
        term_at_applied: Some(0),
    };
    let made = Mark { term: 0, voted_for: None, acked: at(0, 0), acked_chain: CHAIN_UNKNOWN, ..mark() };
    assert_eq!(judge(&new, Some(&made)), Judgement::Whole);
}

#[test]
fn a_torn_tail_that_was_not_acknowledged_is_whole() {
    let torn = Found { fault: fault(101), ..found() };
    assert_eq!(judge(&torn, Some(&mark())), Judgement::Whole);
    let (_, keep_to, restart_at, until, why) = repair(&torn, Some(&Mark { acked: at(101, 5), ..mark() }));
    assert_eq!((keep_to, restart_at, until), (100, None, Some(at(101, 5))));
    assert!(why.contains("raft_log ends at 100@5, the mark says that 101@5 was durable"), "{why}");
    assert!(why.contains("raft_log 1/101 says checksum"), "{why}");
}

#[test]
fn a_fault_with_records_after_it_is_a_loss_whatever_the_mark_says() {
    let rotten = Found { last: at(89, 4), fault: fault(90), last_readable: at(100, 5), ..found() };
    for acked in [at(100, 5), at(60, 4)] {
        let (hard_state, keep_to, restart_at, until, why) =
            repair(&Found { chain_at_acked: None, ..rotten.clone() }, Some(&Mark { acked, ..mark() }));
        assert_eq!((keep_to, restart_at, until), (89, None, Some(at(100, 5))), "{why}");
        assert_eq!(hard_state, hard(6, Some(2), 80));
        assert!(
            why.contains("raft_log 1/90 says checksum 1, its bytes have 2, and 100@5 was written after it"),
            "{why}"
        );
    }
    assert!(matches!(judge_unmarked(&rotten), Judgement::Repair { until: None, keep_to: 89, .. }));
}

#[test]
fn a_log_below_its_mark_is_repaired_up_to_the_mark() {
    let (hard_state, keep_to, restart_at, until, why) =
        repair(&Found { chain_at_acked: None, ..found() }, Some(&Mark { acked: at(120, 6), ..mark() }));
    assert_eq!((keep_to, restart_at, until), (100, None, Some(at(120, 6))), "{why}");
    assert_eq!(hard_state, hard(6, Some(2), 80));
    // Longer, but of an earlier term: an earlier copy.
    let (_, keep_to, _, until, _) =
        repair(&Found { chain_at_acked: None, ..found() }, Some(&Mark { acked: at(95, 6), ..mark() }));
    assert_eq!((keep_to, until), (100, Some(at(95, 6))));
}

#[test]
fn a_commit_index_past_the_log_is_a_loss_even_if_the_mark_lags() {
    let short = Found { hard_state: hard(6, Some(2), 105), ..found() };
    let (hard_state, keep_to, _, until, why) = repair(&short, Some(&mark()));
    assert_eq!((hard_state.commit_index, keep_to, until), (100, 100, Some(at(105, 5))));
    assert!(why.contains("says commit index 105, raft_log ends at 100@5"), "{why}");
}

#[test]
fn a_state_machine_ahead_of_the_log_restarts_it() {
    let short =
        Found { last: at(70, 4), last_readable: at(70, 4), term_at_applied: None, chain_at_acked: None, ..found() };
    let (hard_state, keep_to, restart_at, until, why) = repair(&short, Some(&mark()));
    assert_eq!((keep_to, restart_at, until), (80, Some(at(80, 4)), Some(at(100, 5))), "{why}");
    assert_eq!(hard_state, hard(6, Some(2), 80));
    // Nothing of the log can be read, not even where it began.
    let nothing = Found {
        rows: vec!["raft_state 1/TruncatedState is missing".to_owned()],
        hard_state: HardState::default(),
        compacted_to: at(0, 0),
        last: at(0, 0),
        fault: fault(1),
        last_readable: at(100, 5),
        ..short
    };
    let (hard_state, _, restart_at, until, why) = repair(&nothing, Some(&mark()));
    assert_eq!((restart_at, until), (Some(at(80, 4)), Some(at(100, 5))));
    assert_eq!(hard_state, hard(6, Some(2), 80));
    assert!(why.contains("TruncatedState is missing"), "{why}");
    // Applied shows what was durable, also when mark and log have both gone back.
    let (_, _, restart_at, until, _) = repair(&nothing_readable(&nothing), Some(&Mark { acked: at(60, 4), ..mark() }));
    assert_eq!((restart_at, until), (Some(at(80, 4)), Some(at(80, 4))));
}

fn nothing_readable(found: &Found) -> Found {
    Found { last_readable: at(0, 0), ..found.clone() }
}

#[test]
fn a_state_machine_behind_the_log_needs_the_log_to_restart_there() {
    let emptied = Found { applied: at(0, 0), term_at_applied: None, ..found() };
    let (hard_state, keep_to, restart_at, until, why) = repair(&emptied, Some(&mark()));
    assert_eq!((keep_to, restart_at, until), (0, Some(at(0, 0)), Some(at(100, 5))), "{why}");
    assert_eq!(hard_state, hard(6, Some(2), 0));
    assert!(why.contains("applied 0@0, raft_log begins after 50@3: what is between is in neither"), "{why}");
    // An earlier copy of it restarts there; one that the log still reaches is simply applied again.
    let old = Found { applied: at(30, 2), term_at_applied: None, ..found() };
    assert_eq!(repair(&old, Some(&mark())).2, Some(at(30, 2)));
    let reached = Found { applied: at(50, 3), term_at_applied: Some(3), ..found() };
    assert_eq!(judge(&reached, Some(&mark())), Judgement::Whole);
}

#[test]
fn a_log_that_disagrees_with_the_state_machine_or_the_mark_is_not_kept() {
    let stale = Found { term_at_applied: Some(3), ..found() };
    let (_, _, restart_at, until, why) = repair(&stale, Some(&mark()));
    assert_eq!((restart_at, until), (Some(at(80, 4)), Some(at(100, 5))));
    assert!(why.contains("has applied 80@4, raft_log has 80@3 there"), "{why}");

    let other = Found { chain_at_acked: Some(8), last: at(300, 9), last_readable: at(300, 9), ..found() };
    let (hard_state, _, restart_at, until, why) = repair(&other, Some(&mark()));
    assert_eq!((restart_at, until), (Some(at(80, 4)), Some(at(100, 5))), "not what another log says");
    assert_eq!(hard_state.current_term, 9);
    assert!(why.contains("this is another log"), "{why}");
    // A chain value that is not known is not compared.
    assert_eq!(
        judge(&Found { chain_at_acked: Some(8), ..found() }, Some(&Mark { acked_chain: CHAIN_UNKNOWN, ..mark() })),
        Judgement::Whole
    );
}

#[test]
fn term_and_vote_are_raised_to_the_marks() {
    for (stored, expected) in [
        (hard(5, Some(1), 80), hard(6, Some(2), 80)),
        (hard(5, None, 80), hard(6, Some(2), 80)),
        (hard(6, None, 80), hard(6, Some(2), 80)),
        (HardState::default(), hard(6, Some(2), 80)),
    ] {
        let (hard_state, keep_to, restart_at, until, why) =
            repair(&Found { hard_state: stored, ..found() }, Some(&mark()));
        assert_eq!(hard_state, expected, "{why}");
        // Nothing of the log is missing: it may take part at once.
        assert_eq!((keep_to, restart_at, until), (100, None, Some(at(100, 5))));
    }
    // A term that only the log knows: no vote in it can have left before the mark was written.
    let old = Mark { term: 3, voted_for: Some(1), ..mark() };
    assert_eq!(repair(&Found { hard_state: hard(3, Some(1), 80), ..found() }, Some(&old)).0, hard(5, None, 80));
    // Later terms than the mark's keep their vote.
    assert_eq!(judge(&Found { hard_state: hard(7, Some(3), 80), ..found() }, Some(&mark())), Judgement::Whole);
}

#[test]
fn a_lost_row_is_a_loss_by_itself() {
    let rows = vec!["raft_state 1/ConfState is missing".to_owned()];
    let (hard_state, keep_to, restart_at, until, why) = repair(&Found { rows: rows.clone(), ..found() }, Some(&mark()));
    assert_eq!((hard_state, keep_to, restart_at, until), (found().hard_state, 100, None, Some(at(100, 5))), "{why}");
    assert_eq!(why, "raft_state 1/ConfState is missing");
    assert!(matches!(judge_unmarked(&Found { rows, ..found() }), Judgement::Repair { until: None, .. }));
}

#[test]
fn a_lost_mark_leaves_the_promise_unknown() {
    let (hard_state, keep_to, restart_at, until, why) = repair(&found(), None);
    assert_eq!((keep_to, restart_at, until), (100, None, None));
    assert_eq!(hard_state, found().hard_state);
    assert!(why.contains("mark is missing or damaged in both slots"), "{why}");
    // It stays so until somebody has said what it was.
    let unknown = Mark { acked: UNKNOWN, acked_chain: CHAIN_UNKNOWN, ..mark() };
    assert_eq!(repair(&Found { chain_at_acked: None, ..found() }, Some(&unknown)).3, None);
}

#[test]
fn what_no_loss_explains_stops_the_member() {
    let halt = |found: &Found, mark: &Mark| match judge(found, Some(mark)) {
        Judgement::Halt { why } => why,
        other => panic!("{other:?}"),
    };
    let why = halt(&found(), &Mark { voted_for: Some(3), ..mark() });
    assert!(why.contains("voted for 2 in term 6, the mark says for 3"), "{why}");
    let why = halt(&Found { last: at(40, 2), ..found() }, &mark());
    assert!(why.contains("begins after 50@3, raft_log ends at 40@2"), "{why}");
}

/// One instant of a member's disk.
#[derive(Clone, Debug)]
struct Instant {
    compacted: (EntryId, u64),
    /// Term and chain value of each entry after `compacted`.
    log: Vec<(u64, u64)>,
    hard: HardState,
    /// Marks that a crash here may leave: from the last synced one on.
    marks: Vec<Mark>,
    /// States of the state machine that a crash here may leave.
    applied: Vec<EntryId>,
}

impl Instant {
    fn last(&self) -> (EntryId, u64) {
        let Some((term, chain)) = self.log.last() else { return self.compacted };
        (at(self.compacted.0.index + u64::try_from(self.log.len()).unwrap(), *term), *chain)
    }

    fn entry(&self, index: u64) -> Option<(EntryId, u64)> {
        if index == self.compacted.0.index {
            return Some(self.compacted);
        }
        let place = index.checked_sub(self.compacted.0.index + 1)?;
        self.log.get(usize::try_from(place).ok()?).map(|(term, chain)| (at(index, *term), *chain))
    }

    fn found(&self, mark: &Mark, applied: EntryId) -> Found {
        let last = self.last().0;
        Found {
            rows: Vec::new(),
            hard_state: self.hard,
            compacted_to: self.compacted.0,
            last,
            fault: None,
            last_readable: last,
            chain_at_acked: self.entry(mark.acked.index).filter(|(id, _)| *id == mark.acked).map(|(_, chain)| chain),
            applied,
            term_at_applied: self.entry(applied.index).map(|(id, _)| id.term),
        }
    }
}

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A member's life: appends, replaced tails, terms, votes, commits, flushes, compactions, snapshots.
fn history(seed: u64) -> Vec<Instant> {
    let mut numbers = Numbers(seed);
    let first = Mark { term: 0, voted_for: None, acked: at(0, 0), acked_chain: CHAIN_UNKNOWN, ..self::mark() };
    let mut now = Instant {
        compacted: (at(0, 0), CHAIN_UNKNOWN),
        log: Vec::new(),
        hard: HardState::default(),
        marks: vec![first],
        applied: vec![at(0, 0)],
    };
    let mut instants = vec![now.clone()];
    let mut used = BTreeMap::new();
    for _ in 0..40 {
        let before = now.last().0;
        let mark = *now.marks.last().unwrap();
        let mut next = now.clone();
        match numbers.below(10) {
            0..=4 => {
                // Entries, of this term or a new one, perhaps instead of an uncommitted tail.
                if numbers.below(3) == 0 {
                    next.hard.current_term += 1 + numbers.below(2);
                    next.hard.voted_for = (numbers.below(2) == 0).then(|| numbers.below(3));
                }
                let committed = next.hard.commit_index.max(next.compacted.0.index);
                let spare = before.index - committed;
                if spare > 0 && numbers.below(3) == 0 {
                    let keep = committed + numbers.below(spare) - next.compacted.0.index;
                    next.log.truncate(usize::try_from(keep).unwrap());
                    // Only a leader of a later term does this; its entries may be of any term between.
                    next.hard.current_term += 1;
                    next.hard.voted_for = None;
                }
                let lowest = next.last().0.term.max(1);
                let mut term = lowest + numbers.below(next.hard.current_term.max(lowest) - lowest + 1);
                next.hard.current_term = next.hard.current_term.max(term);
                for _ in 0..=numbers.below(3) {
                    let index = next.last().0.index + 1;
                    let chain = next.last().1.wrapping_mul(31).wrapping_add(term * 7 + numbers.below(1000)) | 1;
                    // Raft's log matching: an index and term name one entry, and all before it.
                    if used.insert((index, term), chain).is_some() {
                        next.hard.current_term += 1;
                        next.hard.voted_for = None;
                        term = next.hard.current_term;
                        used.insert((index, term), chain);
                    }
                    next.log.push((term, chain));
                    if numbers.below(4) == 0 {
                        term = next.hard.current_term;
                    }
                }
            }
            5 => {
                next.hard.current_term += 1;
                next.hard.voted_for = None;
            }
            6 => next.hard.voted_for = next.hard.voted_for.or(Some(numbers.below(3))),
            7 => {
                let room = before.index - next.hard.commit_index.min(before.index);
                next.hard.commit_index += numbers.below(room + 1);
                if let Some((id, _)) = next.entry(next.hard.commit_index) {
                    next.applied.push(id);
                }
            }
            8 => {
                // A flush; then a compaction up to it.
                let flushed = *next.applied.last().unwrap();
                next.applied = vec![flushed];
                if let Some(to) = next.entry(flushed.index) {
                    next.log.drain(..usize::try_from(to.0.index - next.compacted.0.index).unwrap());
                    next.compacted = to;
                }
            }
            _ => {
                // A snapshot of a leader that is ahead.
                let term = next.hard.current_term.max(1);
                let to = at(before.index + 1 + numbers.below(5), term - numbers.below(2).min(term - 1));
                next.hard.current_term = term;
                next.hard.commit_index = to.index;
                next.compacted = (to, CHAIN_UNKNOWN);
                next.log.clear();
                next.applied = vec![to];
            }
        }
        let (last, chain) = next.last();
        if let Some(lowered) = mark.lowered(before, last, chain) {
            // Durable before the batch: a crash between the two leaves the old log with it.
            now.marks = vec![lowered];
            instants.push(now.clone());
            next.marks = vec![lowered];
        }
        // The batch is durable, the mark not yet.
        instants.push(next.clone());
        let (after, sync) = next.marks.last().unwrap().after(&next.hard, last, chain);
        if sync || numbers.below(4) == 0 {
            next.marks.clear();
        }
        next.marks.push(after);
        instants.push(next.clone());
        now = next;
    }
    instants
}

/// Whatever a crash alone can leave is whole: no false alarm.
#[test]
fn neighbouring_instants_of_one_history_are_whole() {
    for seed in 0..400 {
        for instant in history(seed) {
            for mark in &instant.marks {
                for applied in &instant.applied {
                    let found = instant.found(mark, *applied);
                    assert_eq!(judge(&found, Some(mark)), Judgement::Whole, "seed {seed}: {found:?} {mark:?}");
                }
            }
        }
    }
}

/// A disk that goes back to any earlier instant, alone or with its state machine, never leads to a member that takes part
/// below its mark, forgets a vote, or has a state machine that its log does not continue.
#[test]
fn no_loss_leads_to_a_member_that_breaks_its_promise() {
    let (mut wholes, mut repairs, mut restarts) = (0_u64, 0_u64, 0_u64);
    for seed in 0..60 {
        let instants = history(seed);
        for (when, newest) in instants.iter().enumerate() {
            let mark = newest.marks.last().unwrap();
            for older in &instants[..=when] {
                for applied in newest.applied.iter().chain(&older.applied).chain([&at(0, 0)]) {
                    let found = older.found(mark, *applied);
                    let says = || format!("seed {seed} at {when}: {found:?} {mark:?}");
                    let (hard, end, until, compacted) = match judge(&found, Some(mark)) {
                        Judgement::Whole => {
                            wholes += 1;
                            (found.hard_state, found.last, None, found.compacted_to.index)
                        }
                        Judgement::Repair { hard_state, keep_to, restart_at, until, .. } => {
                            repairs += 1;
                            restarts += u64::from(restart_at.is_some());
                            let end = restart_at.unwrap_or(found.last);
                            assert_eq!(keep_to, end.index, "{}", says());
                            let compacted = restart_at.map_or(found.compacted_to.index, |at| at.index);
                            (hard_state, end, until, compacted)
                        }
                        Judgement::Halt { why } => panic!("{why}: {}", says()),
                    };
                    assert!(end >= mark.acked || until.is_some_and(|until| until >= mark.acked), "{}", says());
                    assert!(hard.current_term >= mark.term.max(end.term), "{}", says());
                    if hard.current_term == mark.term && mark.voted_for.is_some() {
                        assert_eq!(hard.voted_for, mark.voted_for, "{}", says());
                    }
                    assert!(hard.commit_index <= end.index, "{}", says());
                    assert!(compacted <= applied.index && applied.index <= end.index, "{}", says());
                }
            }
        }
    }
    assert!(wholes > 10_000 && repairs > 10_000 && restarts > 1000, "{wholes} {repairs} {restarts}");
}
