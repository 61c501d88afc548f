//! Runs of the whole simulator: a number of seeds without a broken rule, and the same run twice.
//!
//! A failure names its seed and the command that tells its story. `SIM_SEEDS=n` runs so many seeds, `SIM_FIRST_SEED=n` from there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_sim::faults::Reduction;
use flaredb_sim::marks::{Mark, Marks};
use flaredb_sim::run::{Plan, RunReport, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const EVENTS: u64 = 20_000;

fn plan(seed: u64, events: u64) -> Plan {
    Plan { seed, events, reduction: Reduction::default(), told: false }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Runs the seeds on two threads.
fn run_seeds(first: u64, count: u64, events: u64) -> Vec<RunReport> {
    let (next, reports) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let report = run(&plan(seed, events));
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    reports.into_inner().unwrap()
}

#[test]
fn no_seed_breaks_a_rule() {
    let seeds = number("SIM_SEEDS").unwrap_or(500);
    let reports = run_seeds(number("SIM_FIRST_SEED").unwrap_or(0), seeds, EVENTS);
    let mut broken = Vec::new();
    let mut marks = Marks::default();
    for report in &reports {
        marks.merge(&report.marks);
        if let Some(violation) = &report.violation {
            let seed = report.seed;
            broken.push(format!(
                "seed {seed}: {violation}\n  cargo run --release -p flaredb-sim -- --seed {seed} --events {EVENTS}"
            ));
        }
    }
    assert!(broken.is_empty(), "{} of {seeds} seeds broke a rule:\n{}", broken.len(), broken.join("\n"));
    assert!(seeds < 100 || marks.hit_count() >= 100, "the runs meet only {} situations", marks.hit_count());
    let count = |wanted| marks.all().find(|(mark, _)| *mark == wanted).map_or(0, |(_, count)| count);
    for mark in [Mark::DiskWiped, Mark::DiskOldBackup, Mark::PeerReplaced, Mark::PeerTookOver, Mark::SnapshotToReplaced]
    {
        assert!(seeds < 100 || count(mark) > 0, "never hit: {}", mark.name());
    }
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in 1000..1020 {
        let (one, other) = (run(&plan(seed, 5_000)), run(&plan(seed, 5_000)));
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed} went two ways");
        assert_eq!(one.marks, other.marks, "seed {seed}");
        assert_eq!((one.events, one.virtual_us, one.workload), (other.events, other.virtual_us, other.workload));
    }
}

#[test]
fn telling_the_story_changes_nothing() {
    for seed in 1020..1024 {
        let quiet = run(&plan(seed, 3_000));
        let told = run(&Plan { told: true, ..plan(seed, 3_000) });
        assert_eq!(quiet.trace_hash, told.trace_hash, "seed {seed} went another way while it was told");
        assert!(!told.story.is_empty());
    }
}

#[test]
fn a_fault_that_is_left_out_is_gone() {
    let seed = (0..100).find(|seed| run(&plan(*seed, 3_000)).faults.len() > 10).expect("a seed with faults");
    let all = run(&plan(seed, 3_000));
    let without: Reduction = Reduction { faults: all.faults.iter().copied().collect(), ..Reduction::default() };
    let left = run(&Plan { reduction: without.clone(), ..plan(seed, 3_000) });
    assert!(left.faults.iter().all(|fault| !without.faults.contains(fault)), "{:?}", left.faults);
}
