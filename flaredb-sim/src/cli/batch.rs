//! Many seeds on some threads, and the sum of what came of them.

use super::args::Args;
use super::one::run_plan;
use super::progress::Progress;
use super::{commit, replay_command};
use flaredb_sim::marks::{Mark, Marks};
use flaredb_sim::run::{RunReport, run as run_seed};
use flaredb_sim::workload::Figures;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

#[derive(Default)]
struct Sum {
    seeds: u64,
    events: u64,
    virtual_us: u64,
    requests: u64,
    workload: Figures,
    marks: Marks,
    /// Histories that were not judged to the end: that took too many tries.
    undecided: u64,
    /// Histories that were not judged: the run ended before.
    unjudged: u64,
    /// Seed to rule and what.
    failures: BTreeMap<u64, (String, String)>,
    hashes: Vec<(u64, u64)>,
}

impl Sum {
    fn add(&mut self, report: &RunReport, hashes: bool) {
        self.seeds += 1;
        self.events += report.events;
        self.virtual_us += report.virtual_us;
        self.requests += report.requests;
        self.workload.merge(&report.workload);
        self.marks.merge(&report.marks);
        self.undecided += u64::from(report.decided == Some(false));
        self.unjudged += u64::from(report.decided.is_none());
        if let Some(violation) = &report.violation {
            self.failures.insert(report.seed, (violation.rule.to_owned(), violation.what.clone()));
        }
        if hashes {
            self.hashes.push((report.seed, report.trace_hash));
        }
    }

    /// For the file that a batch is resumed from.
    fn saved(&self, next_seed: u64, busy_ms: u64) -> Value {
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(seed, (rule, what))| json!({"seed": seed, "rule": rule, "what": what}))
            .collect();
        let marks: Map<String, Value> =
            self.marks.all().map(|(mark, count)| (mark.name().to_owned(), json!(count))).collect();
        json!({
            "next_seed": next_seed, "seeds": self.seeds, "events": self.events, "virtual_us": self.virtual_us,
            "undecided": self.undecided, "unjudged": self.unjudged, "requests": self.requests, "busy_ms": busy_ms, "failures": failures, "marks": marks,
        })
    }

    /// The sum so far, the next seed and the time it took.
    fn resumed(saved: &Value) -> Option<(Self, u64, u64)> {
        let number = |name: &str| saved.get(name)?.as_u64();
        let mut sum = Self {
            seeds: number("seeds")?,
            events: number("events")?,
            virtual_us: number("virtual_us")?,
            requests: number("requests")?,
            undecided: number("undecided").unwrap_or(0),
            unjudged: number("unjudged").unwrap_or(0),
            ..Self::default()
        };
        for (mark, _) in Marks::default().all() {
            sum.marks.add(mark, saved.get("marks")?.get(mark.name()).and_then(Value::as_u64).unwrap_or(0));
        }
        for failure in saved.get("failures")?.as_array()? {
            let text = |name: &str| Some(failure.get(name)?.as_str()?.to_owned());
            sum.failures.insert(failure.get("seed")?.as_u64()?, (text("rule")?, text("what")?));
        }
        Some((sum, number("next_seed")?, number("busy_ms")?))
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    let began = Instant::now();
    let (sum, busy_ms) = match run_all(args) {
        Ok(done) => done,
        Err(error) => {
            let _ = writeln!(io::stderr(), "flaredb-sim: {error}");
            return ExitCode::from(2);
        }
    };
    let busy_ms = busy_ms.max(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)).max(1);
    let printed = if args.json { print_json(args, &sum, busy_ms) } else { print_text(args, &sum, busy_ms) };
    if sum.failures.is_empty() && printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seeds saved as done are a prefix: what was still running then is run again.
const SAVE_EVERY: u64 = 50;

fn run_all(args: &Args) -> io::Result<(Sum, u64)> {
    let last = args.first_seed.saturating_add(args.seeds);
    let (mut sum, mut first, mut before_ms) = (Sum::default(), args.first_seed, 0);
    if let Some(file) = &args.resume
        && let Ok(text) = std::fs::read_to_string(file)
    {
        let saved = serde_json::from_str(&text).ok().and_then(|saved| Sum::resumed(&saved));
        let wrong = || io::Error::other(format!("{} is not a file that this program wrote", file.display()));
        (sum, first, before_ms) = saved.ok_or_else(wrong)?;
    }
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let (sender, reports) = mpsc::channel();
    let mut progress = Progress::new();
    std::thread::scope(|scope| -> io::Result<()> {
        for _ in 0..args.jobs.max(1) {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if sender.send(run_seed(&run_plan(args, seed, false))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Reports come in any order; they are added in the order of the seeds, so that the sum is always of a prefix.
        let mut early = BTreeMap::new();
        let mut expected = first;
        for report in reports {
            early.insert(report.seed, report);
            while let Some(report) = early.remove(&expected) {
                expected += 1;
                sum.add(&report, args.hashes);
                if let Some(violation) = &report.violation {
                    progress.end();
                    let _ = writeln!(
                        io::stderr(),
                        "seed {} BROKEN {violation}\n  again: {}",
                        report.seed,
                        replay_command(report.seed, args)
                    );
                    stop.fetch_or(args.fail_fast, Ordering::Relaxed);
                }
                let left = last.saturating_sub(expected);
                if let Some(file) = &args.resume
                    && (left == 0 || expected.is_multiple_of(SAVE_EVERY))
                {
                    let busy = before_ms + u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
                    std::fs::write(file, sum.saved(expected, busy).to_string())?;
                }
                progress.show(expected - args.first_seed, args.seeds, sum.events, sum.failures.len());
            }
        }
        Ok(())
    })?;
    progress.end();
    Ok((sum, before_ms + u64::try_from(began.elapsed().as_millis()).unwrap_or(0)))
}

fn never_hit(marks: &Marks) -> Vec<&'static str> {
    marks.all().filter(|(_, count)| *count == 0).map(|(mark, _)| mark.name()).collect()
}

fn print_json(args: &Args, sum: &Sum, busy_ms: u64) -> io::Result<()> {
    let failures: Vec<Value> = sum
        .failures
        .iter()
        .map(|(seed, (rule, what))| json!({"seed": seed, "rule": rule, "what": what, "replay": replay_command(*seed, args)}))
        .collect();
    let workload: Map<String, Value> =
        sum.workload.all().iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let hit: Map<String, Value> = sum
        .marks
        .all()
        .filter(|(_, count)| *count > 0)
        .map(|(mark, count)| (mark.name().to_owned(), json!(count)))
        .collect();
    let mut line = json!({
        "commit": commit(),
        "first_seed": args.first_seed,
        "seeds": sum.seeds,
        "events": sum.events,
        "events_per_second": sum.events * 1000 / busy_ms,
        "jobs": args.jobs,
        "seconds": busy_ms / 1000,
        "simulated_seconds": sum.virtual_us / 1_000_000,
        "times_real_time": sum.virtual_us / 1000 / busy_ms,
        "requests": sum.requests,
        "undecided": sum.undecided,
        "unjudged": sum.unjudged,
        "failures": failures,
        "marks": { "of": Mark::ALL.len(), "hit": sum.marks.hit_count(), "never_hit": never_hit(&sum.marks), "counts": hit },
        "workload": workload,
    });
    if args.hashes
        && let Some(line) = line.as_object_mut()
    {
        let hashes: Vec<Value> = sum.hashes.iter().map(|(seed, hash)| json!([seed, format!("{hash:016x}")])).collect();
        line.insert("hashes".to_owned(), Value::Array(hashes));
    }
    writeln!(io::stdout().lock(), "{line}")
}

fn print_text(args: &Args, sum: &Sum, busy_ms: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (seed, hash) in &sum.hashes {
        writeln!(out, "{seed} {hash:016x}")?;
    }
    writeln!(
        out,
        "{} seeds, {} events in {} s on {} threads ({} events/s), {} simulated seconds ({} times real time)",
        sum.seeds,
        sum.events,
        busy_ms / 1000,
        args.jobs,
        sum.events * 1000 / busy_ms,
        sum.virtual_us / 1_000_000,
        sum.virtual_us / 1000 / busy_ms
    )?;
    let figures: Vec<String> = sum.workload.all().iter().map(|(name, value)| format!("{name} {value}")).collect();
    writeln!(out, "workload: {}", figures.join(", "))?;
    writeln!(
        out,
        "marks: {} of {}; never hit: {}",
        sum.marks.hit_count(),
        Mark::ALL.len(),
        never_hit(&sum.marks).join(" ")
    )?;
    if sum.undecided + sum.unjudged > 0 {
        writeln!(out, "histories: {} undecided, {} not judged", sum.undecided, sum.unjudged)?;
    }
    for (seed, (rule, what)) in &sum.failures {
        writeln!(out, "seed {seed} BROKEN {rule}: {what}\n  again: {}", replay_command(*seed, args))?;
    }
    writeln!(out, "{} failures", sum.failures.len())
}
