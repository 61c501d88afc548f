//! One batch of Raft entries made durable: FlareDB's log beside raft-engine, a bare write with fdatasync, and RocksDB as it
//! comes.
//!
//! One thread, one disk, one loop: all of them write the same batch in each round, in an order that changes from round to
//! round, so that each meets the same noise. What is timed is a call with entries in memory that returns when they are on the
//! disk, encoding included. Cutting the logs and what threads in the background do is not.
//!
//! It is not a benchmark of throughput: there is never more than one batch on its way. Nor one of tails that come once in
//! minutes. And what a log does by the clock (FlareDB syncs its mark every 200 ms) meets more batches in a hundred here, where
//! each waits for the others' turns, than in a server.
//!
//! Payloads are random bytes. raft-engine compresses batches from 8 KiB on; compressible payloads would spare it bytes.

mod bare;
mod entry;
mod flare;
mod report;
mod rocks;
mod tikv;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "Usage: log [--tsv] [--rounds N] [--dir FOLDER]
  --tsv          lines of measure, case, system and figure with tabs between them, instead of tables
  --rounds N     batches that each makes durable, of each size; half as many of the largest (3000)
  --dir FOLDER   where a folder for the data is made and removed again (the target folder); not one in memory";

const ROUNDS: usize = 3_000;
/// Rounds that do not count, before each size.
const WARM_UP: usize = 100;
/// Logs are cut after so many batches, each in its own way.
const CUT_EVERY: usize = 1_000;
const SIZES: [Size; 5] =
    [Size::of(1, 256), Size::of(16, 256), Size::of(64, 256), Size::of(1, 4096), Size::of(16, 4096)];
/// From so many bytes on a batch is written half as often.
const LARGE_BYTES: usize = 32 * 1024;
/// Random bytes that payloads are taken from: more than any compressor looks back.
const PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// A way to make entries durable.
trait System {
    /// Makes the batch durable, together with a hard state where there is one.
    fn write(&mut self, batch: &Batch) -> Took;
    /// Removes all entries but the last.
    fn cut(&mut self);
    /// The last entry, read back.
    fn last(&self) -> Bytes;
}

/// What one call took.
struct Took {
    wall: Duration,
    /// Of this thread, the kernel's part included.
    cpu: Duration,
}

fn timed(call: impl FnOnce()) -> Took {
    let cpu = thread_cpu();
    let begun = Instant::now();
    call();
    let wall = begun.elapsed();
    Took { wall, cpu: thread_cpu() - cpu }
}

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("a thread's time is not negative")
}

#[derive(Clone, Copy)]
struct Size {
    entries: usize,
    entry_bytes: usize,
}

impl Size {
    const fn of(entries: usize, entry_bytes: usize) -> Self {
        Self { entries, entry_bytes }
    }

    const fn bytes(self) -> usize {
        self.entries * self.entry_bytes
    }
}

/// The commands of consecutive entries.
struct Batch {
    bytes: Bytes,
    entry_bytes: usize,
}

impl Batch {
    fn commands(&self) -> impl Iterator<Item = Bytes> {
        (0..self.bytes.len()).step_by(self.entry_bytes).map(|at| self.bytes.slice(at..at + self.entry_bytes))
    }

    fn last(&self) -> Bytes {
        self.bytes.slice(self.bytes.len() - self.entry_bytes..)
    }
}

/// Where batches come from.
struct Payloads {
    bytes: Bytes,
    at: usize,
}

impl Payloads {
    /// The same in each run.
    fn new() -> Self {
        let mut state = 1_u64;
        let mut bytes = Vec::with_capacity(PAYLOAD_BYTES);
        while bytes.len() < PAYLOAD_BYTES {
            // Xorshift: good enough against LZ4.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        Self { bytes: bytes.into(), at: 0 }
    }

    fn next(&mut self, size: Size) -> Batch {
        if self.at + size.bytes() > self.bytes.len() {
            self.at = 0;
        }
        let bytes = self.bytes.slice(self.at..self.at + size.bytes());
        self.at += size.bytes();
        Batch { bytes, entry_bytes: size.entry_bytes }
    }
}

/// Removed with all that is in it, also after a panic.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Result<Self, String> {
        let path = parent.join("bench-log-data");
        // Of a run that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)
            .map_err(|error| format!("{}: {error}; --dir FOLDER names another place", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Arguments {
    tsv: bool,
    rounds: usize,
    parent: PathBuf,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut arguments = Self { tsv: false, rounds: ROUNDS, parent: target_folder()? };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--tsv" => arguments.tsv = true,
                "--rounds" => arguments.rounds = words.next()?.parse().ok().filter(|rounds| *rounds > 0)?,
                "--dir" => arguments.parent = words.next()?.into(),
                _ => return None,
            }
        }
        Some(arguments)
    }

    fn rounds(&self, size: Size) -> usize {
        if size.bytes() < LARGE_BYTES { self.rounds } else { self.rounds.div_ceil(2) }
    }
}

/// This program is `target/release/log`. Not /tmp, which may be memory.
fn target_folder() -> Option<PathBuf> {
    std::env::current_exe().ok()?.ancestors().nth(2).map(Path::to_owned)
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    // Before what is open in it, so that it is dropped after that.
    let folder = match Folder::new(&arguments.parent) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("Error: {error}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("making the logs in {}", folder.0.display());
    let mut systems: Vec<(&str, Box<dyn System>)> = vec![
        ("FlareDB's log", Box::new(flare::Flare::new(&folder.0.join("flaredb")))),
        ("raft-engine, as it comes", Box::new(tikv::Tikv::as_it_comes(&folder.0.join("raft-engine")))),
        ("raft-engine, prefilled", Box::new(tikv::Tikv::prefilled(&folder.0.join("raft-engine-prefilled")))),
        (BARE, Box::new(bare::Bare::new(&folder.0.join("bare")))),
        ("RocksDB, as it comes", Box::new(rocks::Rocks::new(&folder.0.join("rocksdb")))),
    ];
    let mut payloads = Payloads::new();
    for size in SIZES {
        let rounds = arguments.rounds(size);
        let took = measure(&mut systems, &mut payloads, size, rounds);
        let rows = report::rows(&systems.iter().map(|(name, _)| *name).collect::<Vec<_>>(), took);
        print!("{}", if arguments.tsv { report::tsv(size, &rows) } else { report::table(size, rounds, &rows) });
    }
    eprintln!("done after {:.0} s", begun.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

const BARE: &str = "write + fdatasync, prefilled";

/// What each system's calls took.
fn measure(
    systems: &mut [(&str, Box<dyn System>)],
    payloads: &mut Payloads,
    size: Size,
    rounds: usize,
) -> Vec<Vec<Took>> {
    let count = systems.len();
    let mut took: Vec<Vec<Took>> = (0..count).map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..WARM_UP + rounds {
        if round % 100 == 0 {
            eprint!("\r{} x {} B: {} of {rounds} ", size.entries, size.entry_bytes, round.saturating_sub(WARM_UP));
        }
        if round % CUT_EVERY == CUT_EVERY - 1 {
            systems.iter_mut().for_each(|(_, system)| system.cut());
        }
        let batch = payloads.next(size);
        for place in order(round, count) {
            let one = systems[place].1.write(&batch);
            if round >= WARM_UP {
                took[place].push(one);
            }
        }
        if round + 1 == WARM_UP + rounds {
            for (name, system) in &*systems {
                assert_eq!(system.last(), batch.last(), "{name} holds what was written last");
            }
        }
    }
    eprintln!("\r{} x {} B: {rounds} of {rounds} ", size.entries, size.entry_bytes);
    took
}

/// Of a prime number of systems each comes first equally often, and after each other equally often.
fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    let (first, step) = (round % count, 1 + round / count % (count - 1));
    (0..count).map(move |turn| (first + turn * step) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let read = |words: &[&str]| Arguments::read(words.iter().map(|word| (*word).to_owned()));
        let all = read(&["--rounds", "7", "--tsv", "--dir", "/somewhere"]).unwrap();
        assert_eq!((all.tsv, all.rounds, all.parent), (true, 7, PathBuf::from("/somewhere")));
        assert!(read(&[]).is_some_and(|none| !none.tsv && none.rounds == ROUNDS));
        for wrong in [&["--rounds", "0"] as &[&str], &["--rounds"], &["--json"]] {
            assert!(read(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn each_comes_first_and_after_each_other_equally_often() {
        let (mut first, mut after) = ([0; 5], [[0; 5]; 5]);
        for round in 0..20 {
            let order: Vec<usize> = order(round, 5).collect();
            first[order[0]] += 1;
            order.windows(2).for_each(|pair| after[pair[0]][pair[1]] += 1);
        }
        assert_eq!(first, [4; 5]);
        assert!((0..5).all(|a| (0..5).all(|b| after[a][b] == if a == b { 0 } else { 4 })), "{after:?}");
    }
}
