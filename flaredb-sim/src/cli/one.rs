//! One seed: what happened, in words.

use super::args::Args;
use super::{commit, replay_command};
use flaredb_sim::faults::FaultKind;
use flaredb_sim::run::{Plan, RunReport, run as run_seed};
use flaredb_sim::settings::Settings;
use std::io::Write as _;
use std::process::ExitCode;

/// Lines of the story shown before a violation, unless all are asked for.
const LAST_LINES: usize = 40;

pub(super) fn run_plan(args: &Args, seed: u64, told: bool) -> Plan {
    Plan { seed, events: args.events, reduction: args.reduction(), told }
}

pub(super) fn run(args: &Args, seed: u64) -> ExitCode {
    let report = run_told(args, seed);
    match print(args, &report) {
        Ok(()) if report.violation.is_none() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run_told(args: &Args, seed: u64) -> RunReport {
    run_seed(&run_plan(args, seed, true))
}

fn print(args: &Args, report: &RunReport) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let settings = Settings::draw(report.seed);
    let kinds: Vec<&str> =
        FaultKind::ALL.into_iter().filter(|kind| settings.every_us(*kind) > 0).map(FaultKind::stream).collect();
    writeln!(out, "seed {}: {} voters, faults: {}", report.seed, settings.voters, kinds.join(", "))?;
    if args.verbose {
        writeln!(out, "{settings:#?}")?;
    }
    let skipped =
        if args.verbose || report.violation.is_none() { 0 } else { report.story.len().saturating_sub(LAST_LINES) };
    let skipped = if !args.verbose && report.violation.is_none() { report.story.len() } else { skipped };
    for line in report.story.iter().skip(skipped) {
        writeln!(out, "{line}")?;
    }
    let figures: Vec<String> = report
        .workload
        .all()
        .iter()
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    writeln!(out, "workload: {}", figures.join(", "))?;
    writeln!(
        out,
        "{} events, {} ms of virtual time, {} faults, {} of {} marks, trace hash {:016x}",
        report.events,
        report.virtual_us / 1000,
        report.faults.len(),
        report.marks.hit_count(),
        flaredb_sim::marks::Mark::ALL.len(),
        report.trace_hash
    )?;
    match &report.violation {
        None => writeln!(out, "no rule was broken"),
        Some(violation) => {
            writeln!(out, "BROKEN {violation}")?;
            if let Some(commit) = commit() {
                writeln!(out, "commit {commit}")?;
            }
            writeln!(out, "again: {}", replay_command(report.seed, args.events))
        }
    }
}
