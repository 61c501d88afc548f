//! `flaredb-core-sim [--seeds N] [--first-seed N] [--events N]`: the core-only simulator over many seeds; one JSON line at the
//! end. Exit code 1 if a rule is broken.

use flaredb_sim::core_only;
use std::{env, process::ExitCode, time::Instant};

fn main() -> ExitCode {
    let (mut seeds, mut first, mut events) = (100_u64, 0_u64, 100_000_u64);
    let words: Vec<String> = env::args().skip(1).collect();
    for pair in words.chunks(2) {
        let place = match pair {
            [flag, _] if flag == "--seeds" => &mut seeds,
            [flag, _] if flag == "--first-seed" => &mut first,
            [flag, _] if flag == "--events" => &mut events,
            _ => return usage(),
        };
        match pair.get(1).and_then(|value| value.parse().ok()) {
            Some(value) => *place = value,
            None => return usage(),
        }
    }
    let start = Instant::now();
    let (mut handled, mut failures) = (0_u64, 0_u64);
    for seed in first..first.saturating_add(seeds) {
        let report = core_only::run_seed(seed, events);
        handled += report.events;
        if let Some(violation) = &report.violation {
            failures += 1;
            println!("seed {seed}: {violation}");
            println!("  again: flaredb-core-sim --first-seed {seed} --seeds 1 --events {events}");
        }
        if seeds == 1 {
            println!("{report:?}");
        }
    }
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    let rate = handled.saturating_mul(1_000_000) / micros;
    println!(
        "{{\"seeds\":{seeds},\"first_seed\":{first},\"events\":{handled},\"events_per_second\":{rate},\"failures\":{failures}}}"
    );
    ExitCode::from(u8::from(failures > 0))
}

fn usage() -> ExitCode {
    eprintln!("flaredb-core-sim [--seeds N] [--first-seed N] [--events N]");
    ExitCode::from(2)
}
