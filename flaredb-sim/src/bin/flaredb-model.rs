//! `flaredb-model [--terms 2] [--entries 3] …`: the exhaustive model of the core, with progress on standard error and one
//! JSON line at the end. Exit code 1 if a rule is broken.

use flaredb_sim::exhaustive::{self, Options, Sabotage, Start};
use std::{env, process::ExitCode, time::Instant};

const USAGE: &str =
    "flaredb-model [--terms N] [--entries N] [--proposals N] [--campaigns N] [--heartbeats N] [--crashes N]
              [--from fresh|elected] [--states-max N] [--sabotage vote|entry|send]";

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    let report = exhaustive::run(&options, &mut |progress| {
        let seconds = start.elapsed().as_secs();
        eprintln!(
            "{seconds:>5} s  depth {:>3}  {:>12} states  {:>11} open",
            progress.depth, progress.states, progress.open
        );
    });
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    if let Some(failure) = &report.failure {
        for (number, line) in failure.story.iter().enumerate() {
            println!("{:>3}. {line}", number + 1);
        }
        println!("     {}", failure.violation);
    }
    let rate = report.states.saturating_mul(1_000_000) / micros;
    println!(
        "{{\"states\":{},\"complete\":{},\"depth\":{},\"steps\":{},\"peer_states\":{},\"peer_steps\":{},\"messages\":{},\
         \"states_with_commit\":{},\"seconds\":{},\"states_per_second\":{rate},\"violations\":{}}}",
        report.states,
        report.complete,
        report.depth,
        report.steps,
        report.peer_states,
        report.peer_steps,
        report.messages,
        report.states_with_commit,
        micros / 1_000_000,
        u8::from(report.failure.is_some()),
    );
    ExitCode::from(u8::from(report.failure.is_some()))
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{flag}: {value} is not a number"));
        let small = || value.parse::<u8>().map_err(|_| format!("{flag}: {value} is not a small number"));
        match flag.as_str() {
            "--terms" => options.terms = number()?,
            "--entries" => options.entries = number()?,
            "--proposals" => options.proposals = small()?,
            "--campaigns" => options.campaigns = small()?,
            "--heartbeats" => options.heartbeats = small()?,
            "--crashes" => options.crashes = small()?,
            "--from" => {
                options.from = match value.as_str() {
                    "fresh" => Start::Fresh,
                    "elected" => Start::Elected,
                    _ => return Err(format!("{value} is no start")),
                }
            }
            "--states-max" => options.states_max = number()?,
            "--sabotage" => {
                options.sabotage = match value.as_str() {
                    "vote" => Sabotage::VoteLostAtCrash,
                    "entry" => Sabotage::EntryLostAtCrash,
                    "send" => Sabotage::SentBesideWrite,
                    _ => return Err(format!("{value} cannot be broken")),
                }
            }
            _ => return Err(format!("{flag} is unknown")),
        }
    }
    Ok(options)
}
