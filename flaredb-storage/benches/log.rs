//! One synced append to the Raft log, against what the disk allows: `cargo bench -p flaredb-storage`.
//!
//! Three ways to make 4 KiB durable take turns in one loop, so that each meets the same noise: the log (12 entries of 300 B
//! with hard state), a bare write and fdatasync over a prefilled file, and the same batch in RocksDB as it comes. A harness of
//! statistics over one function at a time cannot do this, hence none is used. The ratio of medians is what to look at: at most
//! 1.25 is the target, and only on a machine that does nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

use bytes::Bytes;
use flaredb_raft::{HardState, RaftLogEntry, Write};
use flaredb_storage::{DataDir, Identity, LogOptions, LogWriter, RAFT_LOG_CF, RAFT_STATE_CF, RaftLog};
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Enough for the log to change its WAL file twice.
const ROUNDS: u64 = 18_000;
const ENTRIES: u64 = 12;
const BARE_FILE_BYTES: u64 = 32 * 1024 * 1024;

fn main() {
    // Not under /tmp, which may be memory.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-log");
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target).unwrap();

    let begun = Instant::now();
    let mut log = open_log(&target.join("log"));
    println!("open of a new log, with prefill: {:?}", begun.elapsed());
    let mut bare = Bare::new(&target.join("bare"));
    let default = open_default(&target.join("default"));

    let names = ["flaredb raft log", "write + fdatasync, prefilled", "rocksdb, default options"];
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        // The order turns too: who comes after the slow one must not always be the same.
        for turn in 0..3 {
            let which = ((round + turn) % 3) as usize;
            let took = match which {
                0 => append(&mut log, round),
                1 => bare.write(),
                _ => write_default(&default, round),
            };
            times[which].push(took);
        }
    }
    for times in &mut times {
        times.drain(..200);
        times.sort_unstable();
    }
    let at = |times: &[Duration], part: f64| times[(times.len() as f64 * part) as usize];
    let median = at(&times[1], 0.5).as_secs_f64();
    println!("{:<30} {:>9} {:>9} {:>9} {:>14}", "4 KiB made durable", "p50", "p90", "p99", "p50 / bare p50");
    for (name, times) in names.iter().zip(&times) {
        let micros = |part| format!("{} µs", at(times, part).as_micros());
        let ratio = at(times, 0.5).as_secs_f64() / median;
        println!("{name:<30} {:>9} {:>9} {:>9} {ratio:>14.2}", micros(0.5), micros(0.9), micros(0.99));
    }
    fs::remove_dir_all(&target).unwrap();
}

fn open_log(path: &Path) -> LogWriter {
    let identity = Identity { cluster_id: 1, member_id: 1, region_id: 1, name: "n1".into(), voters: vec![1, 2, 3] };
    RaftLog::open(&DataDir::open(path, &identity).unwrap(), &LogOptions::default()).unwrap().1
}

fn append(log: &mut LogWriter, round: u64) -> Duration {
    let first = round * ENTRIES + 1;
    let entries = (first..first + ENTRIES)
        .map(|index| RaftLogEntry {
            index,
            term: 1,
            command: Bytes::from(vec![round as u8; 274]),
            context: Some(Bytes::from(vec![1; 26])),
        })
        .collect();
    let write = Write {
        id: round,
        hard_state: HardState { current_term: 1, voted_for: Some(1), commit_index: first - 1 },
        entries,
        sync: true,
    };
    let begun = Instant::now();
    log.write(&write).unwrap();
    begun.elapsed()
}

struct Bare {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

impl Bare {
    fn new(path: &Path) -> Self {
        let file = File::create(path).unwrap();
        for at in (0..BARE_FILE_BYTES).step_by(1 << 20) {
            file.write_all_at(&vec![7; 1 << 20], at).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, at: 0, bytes: vec![9; 4096] }
    }

    fn write(&mut self) -> Duration {
        let begun = Instant::now();
        self.file.write_all_at(&self.bytes, self.at).unwrap();
        self.file.sync_data().unwrap();
        let took = begun.elapsed();
        self.at = (self.at + 4096) % BARE_FILE_BYTES;
        took
    }
}

fn open_default(path: &Path) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    DB::open_cf(&options, path, [RAFT_LOG_CF, RAFT_STATE_CF]).unwrap()
}

fn write_default(db: &DB, round: u64) -> Duration {
    let (log, state) = (db.cf_handle(RAFT_LOG_CF).unwrap(), db.cf_handle(RAFT_STATE_CF).unwrap());
    let mut batch = WriteBatch::default();
    for entry in 0..ENTRIES {
        batch.put_cf(
            log,
            [1_u64.to_be_bytes(), (round * ENTRIES + entry).to_be_bytes()].concat(),
            vec![round as u8; 336],
        );
    }
    batch.put_cf(state, [1; 9], [2; 30]);
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let begun = Instant::now();
    db.write_opt(batch, &synced).unwrap();
    begun.elapsed()
}
