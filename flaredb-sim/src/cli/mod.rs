//! The command line's uses: many seeds, for figures; one seed, for its story; known bugs put back, to see them found.

mod args;
mod batch;
mod mutants;
mod one;
mod progress;

use args::Args;
use clap::Parser;
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    flaredb_sim::run::keep_panics_quiet();
    if args.mutants {
        return mutants::run(&args);
    }
    if let Some(name) = &args.mutant
        && let Err(error) = mutants::select(name)
    {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("flaredb-sim: {error}\n"));
        return ExitCode::from(2);
    }
    match args.seed {
        Some(seed) => one::run(&args, seed),
        None => batch::run(&args),
    }
}

/// The commit that was built from, if somebody can say.
fn commit() -> Option<String> {
    let output = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let changed = std::process::Command::new("git").args(["status", "--porcelain", "-uno"]).output().ok()?;
    let text = text.trim().to_owned();
    match (text.is_empty(), changed.stdout.is_empty()) {
        (true, _) => None,
        (false, true) => Some(text),
        (false, false) => Some(format!("{text}+changes")),
    }
}

/// The command that runs this seed again. Of a mutant's run it is this program's, which holds the mutant.
fn replay_command(seed: u64, args: &Args) -> String {
    let run = format!("--seed {seed} --events {}", args.events);
    match &args.mutant {
        Some(mutant) => format!("flaredb-sim --mutant {mutant} {run} --verbose"),
        None => format!("cargo run --release -p flaredb-sim -- {run} --verbose"),
    }
}
