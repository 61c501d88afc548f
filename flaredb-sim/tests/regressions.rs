//! Seeds that once showed a bug of ours, run again. A seed means another run as soon as anything is drawn differently, so this is
//! the cheap half of a guard; docs/bugs-found.md names the other tests that cover each bug.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_sim::faults::Reduction;
use flaredb_sim::marks::Mark;
use flaredb_sim::run::{Plan, RunReport, run};
use flaredb_sim::settings::Settings;

const EVENTS: u64 = 20_000;

fn run_seed(seed: u64) -> RunReport {
    run(&Plan { seed, events: EVENTS, reduction: Reduction::default(), told: false })
}

fn holds(seed: u64, what: &str) {
    let report = run_seed(seed);
    assert!(report.violation.is_none(), "seed {seed} ({what}): {:?}", report.violation);
}

#[test]
fn announcements_of_an_idle_cluster_end() {
    for seed in [5064, 20146] {
        holds(seed, "keep_log_for_all with snapshot_count 1 appended an entry a tick for ever");
    }
}

#[test]
fn one_power_cut_leaves_a_slot_of_the_mark() {
    holds(116, "two lazy marks left both slots un-synced");
}

#[test]
fn a_log_that_came_back_by_a_snapshot_is_no_foreign_one() {
    for seed in [32, 1005] {
        holds(seed, "the mark's chain value was that of before the snapshot");
    }
}

#[test]
fn a_snapshot_that_waits_for_the_disk_is_not_thrown_away() {
    holds(204_721, "installing one snapshot dropped a newer one that waited");
}

/// A false alarm of the simulator: the leader was asked to hand over before the healing, and did so under the probe.
#[test]
fn a_probe_waits_for_the_end_of_a_hand_over() {
    holds(37_374, "a request forwarded to a leader that handed over had no outcome");
}

/// A false alarm too: what a leader had written when its disk was replaced reached another member late, and was committed without it.
#[test]
fn a_replaced_disk_does_not_owe_what_others_committed_without_it() {
    holds(81_929, "an entry of the former disk's leader was committed in a later term by the two others");
}

/// Another false alarm: a leader whose clock had been frozen before the healing was silent for seconds after it.
#[test]
fn a_probe_waits_until_every_clock_of_the_core_ticks() {
    holds(86_762, "the next tick of a clock that was frozen before the healing is not brought forward");
}

/// And another: answers to heartbeats were lost before the healing, and the leader stepped down over it under the probe.
#[test]
fn a_probe_waits_until_no_leader_can_miss_answers_from_before() {
    holds(803_290, "the leader had heard no majority for an election timeout that began before the healing");
}

/// And another: the leader had given up a hand-over, and its TimeoutNow came only under the probe.
#[test]
fn a_probe_waits_for_a_timeout_now_that_is_under_way() {
    holds(92_713, "a TimeoutNow from before the healing came late, and the leader changed");
}

/// The model disk kept a chain value that flaredb-storage forgets: a log that was lost whole and came back was taken for another one.
#[test]
fn a_log_that_was_lost_whole_and_came_back_is_no_foreign_one() {
    holds(83_801, "the mark's chain value was that of the log before, which had begun after a snapshot");
}

/// Beyond the budget nothing is required but honesty; that nobody goes on by guessing is what the rules look for, this only that
/// the runs get there: members that halt, that wait without a leader, and that do not know what they promised.
#[test]
fn more_can_be_lost_than_can_be_borne() {
    let seeds: Vec<u64> = (0..1000).filter(|seed| Settings::draw(*seed).beyond_budget).collect();
    assert!((20..80).contains(&seeds.len()), "{} of 1000 seeds go beyond the budget", seeds.len());
    let mut marks = flaredb_sim::marks::Marks::default();
    for seed in seeds {
        let report = run_seed(seed);
        assert!(report.violation.is_none(), "seed {seed}: {:?}", report.violation);
        marks.merge(&report.marks);
    }
    let wanted = [
        Mark::BeyondBudget,
        Mark::WaitsBeyondBudget,
        Mark::StartHalted,
        Mark::HaltedOnDisk,
        Mark::MarkSlotLost,
        Mark::MarkLost,
        Mark::IdentityLost,
        Mark::DisksWipedAtOnce,
    ];
    for mark in wanted {
        let count = marks.all().find(|(found, _)| *found == mark).map_or(0, |(_, count)| count);
        assert!(count > 0, "never hit: {}", mark.name());
    }
}
