//! One seed: what happened, in words.

use super::args::Args;
use super::{commit, replay_command};
use flaredb_sim::faults::FaultKind;
use flaredb_sim::run::{Plan, RunReport, run as run_seed};
use flaredb_sim::settings::Settings;
use flaredb_sim::shrink::{Shrunk, Tried, shrink};
use flaredb_sim::story::page;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Lines of the story shown before a violation, unless all are asked for.
const LAST_LINES: usize = 40;

pub(super) fn run_plan(args: &Args, seed: u64, told: bool) -> Plan {
    Plan { seed, events: args.events, reduction: args.reduction(), told }
}

pub(super) fn run(args: &Args, seed: u64) -> ExitCode {
    if args.shrink {
        return shrink_and_tell(args, seed).unwrap_or(ExitCode::FAILURE);
    }
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
            writeln!(out, "again: {}", replay_command(report.seed, args))
        }
    }
}

/// Shrinking ends after this, with what it has.
const SHRINK_FOR: Duration = Duration::from_secs(100);
const SAY_EVERY: Duration = Duration::from_secs(2);

fn shrink_and_tell(args: &Args, seed: u64) -> std::io::Result<ExitCode> {
    let began = Instant::now();
    let mut said = Duration::ZERO;
    let mut smallest = None;
    let mut go_on = |tried: &Tried<'_>| {
        if tried.is_smaller {
            smallest = Some((tried.events, tried.faults));
        }
        let took = began.elapsed();
        if let Some((events, faults)) = smallest
            && took >= said + SAY_EVERY
        {
            said = took;
            let Tried { runs, what, .. } = tried;
            // A terminal that is gone is no reason to stop.
            let _ = writeln!(
                std::io::stderr(),
                "{} s, {runs} runs: {events} events and {faults} faults are left; now {what}",
                took.as_secs()
            );
        }
        took < SHRINK_FOR
    };
    let shrunk = shrink(&run_plan(args, seed, false), &mut go_on);
    let mut out = std::io::stdout().lock();
    let Some(Shrunk { plan, report, runs }) = shrunk else {
        writeln!(out, "seed {seed} breaks no rule")?;
        return Ok(ExitCode::SUCCESS);
    };
    let voters = plan.reduction.voters.unwrap_or(Settings::draw(seed).voters);
    writeln!(out, "seed {seed}: {voters} members. n1@3 is member 1 in term 3, 18@2 the entry 18 of term 2.")?;
    for line in page(&report.story) {
        writeln!(out, "{line}")?;
    }
    if let Some(violation) = &report.violation {
        writeln!(out, "BROKEN {violation}")?;
    }
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(" ") };
    let gone = plan.reduction.requests.iter().filter(|id| **id <= report.requests).count();
    let requests = report.requests - u64::try_from(gone).unwrap_or(0).min(report.requests);
    writeln!(out, "left: {} events, {requests} requests of clients, faults: {faults}", report.events)?;
    writeln!(out, "found with {runs} runs in {} s", began.elapsed().as_secs())?;
    if let Some(commit) = commit() {
        writeln!(out, "commit {commit}")?;
    }
    writeln!(out, "again: {}", reduced_command(args, &plan))?;
    Ok(ExitCode::FAILURE)
}

/// The command that runs a reduced plan.
fn reduced_command(args: &Args, plan: &Plan) -> String {
    use std::fmt::Write as _;
    let mut command = replay_command(plan.seed, args);
    let reduction = &plan.reduction;
    let list = |items: Vec<String>| items.join(",");
    let kinds: Vec<String> = reduction.kinds.iter().map(|kind| kind.stream().replace(' ', "-")).collect();
    let options = [
        ("without-kinds", list(kinds)),
        ("without", list(reduction.faults.iter().map(ToString::to_string).collect())),
        ("without-requests", list(spans(&reduction.requests))),
        ("requests", reduction.requests_max.map(|n| n.to_string()).unwrap_or_default()),
        ("voters", reduction.voters.map(|n| n.to_string()).unwrap_or_default()),
        ("faulty-events", reduction.events_max.map(|n| n.to_string()).unwrap_or_default()),
        ("clients", reduction.clients_max.map(|n| n.to_string()).unwrap_or_default()),
    ];
    for (name, value) in options.into_iter().filter(|(_, value)| !value.is_empty()) {
        // Writing to a String does not fail.
        let _ = write!(command, " --{name} {value}");
    }
    command
}

/// Numbers, those in a row as one span.
fn spans(numbers: &BTreeSet<u64>) -> Vec<String> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => spans.push((*number, *number)),
        }
    }
    spans
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect()
}
