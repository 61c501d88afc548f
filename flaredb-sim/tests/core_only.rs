//! Seeds of the core-only simulator. `CORE_SEED=n` runs that one alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_sim::core_only::{Coverage, run_seed};

#[test]
fn seeds_keep_every_rule_and_recover() {
    let only: Option<u64> = std::env::var("CORE_SEED").ok().map(|text| text.parse().unwrap());
    let count = if cfg!(debug_assertions) { 20 } else { 100 };
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let mut total = Coverage::default();
    for seed in seeds.clone() {
        let report = run_seed(seed, 20_000);
        assert_eq!(report.violation, None, "CORE_SEED={seed} runs it alone: {report:?}");
        total.committed += report.coverage.committed;
        total.leaders += report.coverage.leaders;
        total.crashes += report.coverage.crashes;
        total.snapshots += report.coverage.snapshots;
        total.cuts += report.coverage.cuts;
        total.reads += report.coverage.reads;
    }
    println!("{total:?}");
    if seeds.end - seeds.start > 1 {
        let rich = total.committed > 500 * count
            && total.leaders > 3 * count
            && total.crashes > count
            && total.snapshots > count / 4
            && total.cuts > count
            && total.reads > 20 * count;
        assert!(rich, "the runs exercise too little: {total:?}");
    }
}

#[test]
fn a_seed_is_one_run() {
    for seed in [3, 17] {
        assert_eq!(run_seed(seed, 20_000), run_seed(seed, 20_000));
    }
    assert_ne!(run_seed(3, 5_000).trace_hash, run_seed(4, 5_000).trace_hash);
}

/// Same seed, same run, in debug and in release: these were recorded once. They change with the core's behaviour and with the
/// simulator's; nothing else may change them.
#[test]
fn debug_and_release_agree() {
    let build = |seed| run_seed(seed, 10_000).trace_hash;
    let recorded = include_str!("core_only.hashes");
    let now: String = (0..8).map(|seed| format!("{seed} {:016x}\n", build(seed))).collect();
    if std::env::var("UPDATE_HASHES").is_ok() {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        std::fs::write(format!("{here}/tests/core_only.hashes"), now).unwrap();
    } else {
        assert_eq!(now, recorded, "UPDATE_HASHES=1 records them anew");
    }
}
