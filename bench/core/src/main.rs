//! The Raft core beside raft-rs and openraft: three peers in memory, one thread, 256 B entries; a batch is proposed on the
//! leader and everything runs until it is committed and applied. Nanoseconds by the clock, in turns; instructions by callgrind,
//! which are the same from run to run.
//!
//! `core` prints both tables; `core --run SYSTEM BATCH ENTRIES` only commits, for a profiler.

mod flare;
mod open_raft;
mod raft_rs;

use bytes::Bytes;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const ENTRY_BYTES: usize = 256;
/// Logs are cut now and then, so that the figures are a steady state's (openraft keeps its entries: without a snapshot it cuts
/// nothing, and does not pay for it).
const COMPACT_EVERY: u64 = 4096;
const BATCHES: [u64; 4] = [1, 8, 64, 512];
const SYSTEMS: [&str; 4] = ["FlareDB", "raft-rs", "raft-rs+batch_append", "openraft"];
/// Turns of each system.
const TURNS: usize = 5;
/// How long a turn lasts.
const TURN: Duration = Duration::from_millis(300);
/// Entries of the shorter run under callgrind; the longer one has twice as many, and the difference counts.
const COUNTED: u64 = 8_192;
/// Batches whose instructions are counted: callgrind is fifty times slower.
const COUNTED_BATCHES: [u64; 2] = [1, 64];

/// Three peers.
trait Cluster {
    /// Commits and applies so many entries at once.
    fn commit(&mut self, batch: u64, payload: &Bytes);
    /// How far each of them has applied.
    fn applied(&self) -> [u64; 3];
}

fn cluster(system: &str) -> Option<Box<dyn Cluster>> {
    Some(match system {
        "FlareDB" => Box::new(flare::Flare::new()),
        "raft-rs" => Box::new(raft_rs::RaftRs::new(false)),
        "raft-rs+batch_append" => Box::new(raft_rs::RaftRs::new(true)),
        "openraft" => Box::new(open_raft::OpenRaft::new()),
        _ => return None,
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => tables(),
        ["--run", system, batch, entries] => {
            let (Some(mut cluster), Ok(batch), Ok(entries)) = (cluster(system), batch.parse(), entries.parse()) else {
                return usage();
            };
            run(&mut *cluster, batch, entries);
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("Usage: core\n       core --run SYSTEM BATCH ENTRIES      SYSTEM is one of {}", SYSTEMS.join(", "));
    ExitCode::from(2)
}

/// Commits, and sees that all of it was applied.
fn run(cluster: &mut dyn Cluster, batch: u64, entries: u64) {
    let payload = Bytes::from(vec![7; ENTRY_BYTES]);
    let before = cluster.applied();
    let turns = entries.div_ceil(batch.max(1));
    (0..turns).for_each(|_| cluster.commit(batch, &payload));
    let wanted = before[0] + turns * batch;
    let applied = cluster.applied();
    assert_eq!(applied[0], wanted, "the leader applied everything that was proposed");
    assert!(applied.iter().all(|index| *index + batch >= wanted), "nobody is more than a batch behind: {applied:?}");
}

/// Nanoseconds for an entry, one turn.
fn turn(cluster: &mut dyn Cluster, batch: u64) -> f64 {
    run(cluster, batch, batch * 16);
    let (begun, mut entries) = (Instant::now(), 0);
    while begun.elapsed() < TURN {
        run(cluster, batch, batch * 16);
        entries += batch * 16;
    }
    begun.elapsed().as_nanos() as f64 / entries as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Instructions of a run, by callgrind.
fn instructions(system: &str, batch: u64, entries: u64) -> Option<f64> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--run", system, &batch.to_string(), &entries.to_string()])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split_once("Collected :"))?.1;
    count.trim().parse().ok()
}

fn row(batch: u64, values: &[Option<f64>]) -> String {
    let ours = values[0];
    let mut cells = format!("| {batch} ");
    for (place, value) in values.iter().enumerate() {
        let ratio = match (ours, value) {
            (Some(ours), Some(value)) if place > 0 => format!(" ({:.2})", ours / value),
            _ => String::new(),
        };
        cells += &value.map_or_else(|| "| - ".to_owned(), |value| format!("| {value:.0}{ratio} "));
    }
    cells + "|"
}

fn head(what: &str) {
    println!("\n| {what}; in brackets FlareDB's as a factor | {} |", SYSTEMS.join(" | "));
    println!("|---{}|", "|---:".repeat(SYSTEMS.len()));
}

fn tables() -> ExitCode {
    head("ns for an entry, batch");
    for batch in BATCHES {
        let mut times = vec![Vec::new(); SYSTEMS.len()];
        for round in 0..TURNS {
            // There and back again, so that a drift of the machine meets all alike.
            let order: Vec<usize> =
                if round % 2 == 0 { (0..SYSTEMS.len()).collect() } else { (0..SYSTEMS.len()).rev().collect() };
            for place in order {
                let Some(mut cluster) = cluster(SYSTEMS[place]) else { continue };
                times[place].push(turn(&mut *cluster, batch));
            }
        }
        let medians: Vec<Option<f64>> = times.into_iter().map(|times| Some(median(times))).collect();
        println!("{}", row(batch, &medians));
    }
    if Command::new("valgrind").arg("--version").stdin(Stdio::null()).output().is_err() {
        println!("\nInstructions are not counted: valgrind is not installed.");
        return ExitCode::SUCCESS;
    }
    head("instructions for an entry, batch");
    for batch in COUNTED_BATCHES {
        let counts = SYSTEMS.map(|system| {
            let few = instructions(system, batch, COUNTED)?;
            Some((instructions(system, batch, 2 * COUNTED)? - few) / COUNTED as f64)
        });
        println!("{}", row(batch, &counts));
    }
    ExitCode::SUCCESS
}
