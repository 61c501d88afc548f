//! The exhaustive model, in small; and that it finds what is broken on purpose, by a shortest way. `flaredb-model` runs it in
//! full.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_sim::exhaustive::{Options, Report, Sabotage, Start, run};

fn explore(options: Options) -> Report {
    run(&options, &mut |_| {})
}

#[test]
fn a_hundred_thousand_states_from_a_fresh_cluster_keep_every_rule() {
    let report = explore(Options { states_max: 100_000, ..Options::default() });
    assert_eq!(report.failure, None);
    assert!(report.states >= 100_000 && report.depth >= 8, "{report:?}");
}

#[test]
fn a_hundred_thousand_states_around_a_change_of_leaders_keep_every_rule() {
    let report = explore(Options { from: Start::Elected, campaigns: 2, states_max: 100_000, ..Options::default() });
    assert_eq!(report.failure, None);
    assert!(report.states_with_commit > 90_000, "{report:?}");
}

#[test]
fn small_bounds_are_explored_to_the_end_and_always_the_same() {
    let options = Options { from: Start::Elected, campaigns: 2, crashes: 0, heartbeats: 0, ..Options::default() };
    let options = Options { states_max: 1_000_000, ..options };
    let report = explore(options);
    assert!(report.complete && report.failure.is_none() && report.states > 1_000, "{report:?}");
    assert_eq!(explore(options), report);
}

/// What is broken on purpose is found, with the rule it must break, in so many steps.
fn finds(sabotage: Sabotage, options: Options, rules: &[&str], steps_max: usize) {
    let report = explore(Options { sabotage, states_max: 3_000_000, ..options });
    let failure = report.failure.unwrap_or_else(|| panic!("{sabotage:?} is not found in {} states", report.states));
    assert!(rules.contains(&failure.violation.rule), "{failure:#?}");
    assert!(failure.story.len() <= steps_max, "{failure:#?}");
    assert!(!failure.story.iter().any(|line| line.contains("missing")), "{failure:#?}");
    println!("{sabotage:?}:\n{}\n{}", failure.story.join("\n"), failure.violation);
}

#[test]
fn a_disk_that_forgets_a_vote_is_found() {
    finds(Sabotage::VoteLostAtCrash, Options { heartbeats: 0, ..Options::default() }, &["one vote a term"], 12);
}

#[test]
fn a_disk_that_forgets_an_entry_is_found() {
    let options = Options { from: Start::Elected, campaigns: 2, ..Options::default() };
    finds(Sabotage::EntryLostAtCrash, options, &["commit rule", "leader completeness", "state machine safety"], 12);
}

#[test]
fn messages_that_leave_before_their_write_are_found() {
    let options = Options { from: Start::Elected, campaigns: 2, ..Options::default() };
    finds(Sabotage::SentBesideWrite, options, &["commit rule"], 6);
}
