//! The Raft core beside raft-rs and openraft: three peers in memory, one thread, 256 B entries; a batch is proposed on the
//! leader and everything runs until it is committed and applied. Nanoseconds by the clock, in turns; instructions by callgrind,
//! which are the same from run to run.
//!
//! `core` prints both tables, `core --tsv` lines for a program; `core --run SYSTEM BATCH ENTRIES` only commits, for a profiler.

mod flare;
mod open_raft;
mod raft_rs;
mod report;

use bytes::Bytes;
use report::{Report, Row};
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
        ["--run", system, batch, entries] => {
            let (Some(mut cluster), Ok(batch), Ok(entries)) = (cluster(system), batch.parse(), entries.parse()) else {
                return usage();
            };
            run(&mut *cluster, batch, entries);
            ExitCode::SUCCESS
        }
        flags => {
            let Some((tsv, batches)) = flags_of(flags) else { return usage() };
            let report = measure(&batches);
            print!("{}", if tsv { report.tsv() } else { report.tables() });
            ExitCode::SUCCESS
        }
    }
}

/// Whether lines are wanted, and the batches.
fn flags_of(flags: &[&str]) -> Option<(bool, Vec<u64>)> {
    match flags {
        [] => Some((false, BATCHES.to_vec())),
        ["--tsv", rest @ ..] => Some((true, flags_of(rest)?.1)),
        ["--batch", batch, rest @ ..] => {
            let batch = batch.parse().ok().filter(|batch| (1..=65_536).contains(batch))?;
            Some((flags_of(rest)?.0, vec![batch]))
        }
        _ => None,
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "Usage: core [--tsv] [--batch ENTRIES]
       core --run SYSTEM BATCH ENTRIES

  --tsv             lines of measure, case, system and figure with tabs between them, instead of tables
  --batch ENTRIES   only batches of this size, 1 to 65536, also with instructions
  --run             only commit, for a profiler; SYSTEM is one of {}",
        SYSTEMS.join(", ")
    );
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

/// Instructions of a run, by callgrind, or why there is no count.
fn instructions(system: &str, batch: u64, entries: u64) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--run", system, &batch.to_string(), &entries.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split_once("Collected :"));
    count.and_then(|(_, count)| count.trim().parse().ok()).ok_or_else(|| {
        let last = text.lines().last().unwrap_or("it said nothing");
        format!("valgrind counted nothing for {system} ({}): {last}", output.status)
    })
}

fn nanoseconds(batch: u64) -> Row {
    let mut times = vec![Vec::new(); SYSTEMS.len()];
    for round in 0..TURNS {
        eprintln!("ns, batch of {batch}: turn {} of {TURNS}", round + 1);
        // There and back again, so that a drift of the machine meets all alike.
        let order: Vec<usize> =
            if round % 2 == 0 { (0..SYSTEMS.len()).collect() } else { (0..SYSTEMS.len()).rev().collect() };
        for place in order {
            let Some(mut cluster) = cluster(SYSTEMS[place]) else { continue };
            times[place].push(turn(&mut *cluster, batch));
        }
    }
    Row { batch, values: times.into_iter().map(|times| Ok(median(times))).collect() }
}

fn counted(batch: u64, valgrind: bool) -> Row {
    let count = |system: &str| {
        if !valgrind {
            return Err("valgrind is not installed: apt-get install valgrind".to_owned());
        }
        eprintln!("instructions, batch of {batch}: {system}");
        let few = instructions(system, batch, COUNTED)?;
        Ok((instructions(system, batch, 2 * COUNTED)? - few) / COUNTED as f64)
    };
    Row { batch, values: SYSTEMS.into_iter().map(count).collect() }
}

/// Both figures of these batches; of all of them, instructions of some only.
fn measure(batches: &[u64]) -> Report {
    let valgrind = Command::new("valgrind").arg("--version").stdin(Stdio::null()).output().is_ok();
    let counts = if batches.len() == 1 { batches.to_vec() } else { COUNTED_BATCHES.to_vec() };
    Report {
        nanoseconds: batches.iter().map(|batch| nanoseconds(*batch)).collect(),
        instructions: counts.into_iter().map(|batch| counted(batch, valgrind)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_in_any_order() {
        assert_eq!(flags_of(&[]), Some((false, BATCHES.to_vec())));
        assert_eq!(flags_of(&["--tsv", "--batch", "64"]), Some((true, vec![64])));
        assert_eq!(flags_of(&["--batch", "8", "--tsv"]), Some((true, vec![8])));
        for wrong in [&["--batch"] as &[&str], &["--batch", "0"], &["--batch", "x"], &["--json"], &["--tsv", "64"]] {
            assert_eq!(flags_of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn without_valgrind_the_rows_say_what_to_install() {
        let row = counted(64, false);
        assert_eq!(row.values.len(), SYSTEMS.len());
        assert!(
            row.values.iter().all(|value| value.as_ref().is_err_and(|why| why.contains("apt-get install valgrind")))
        );
    }
}
