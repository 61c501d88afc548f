//! The command line.

use clap::Parser;
use flaredb_sim::faults::{FaultId, FaultKind, Reduction};
use std::path::PathBuf;

/// FlareDB's simulator: runs clusters on a model disk and a model network, every run drawn from a seed, and checks that nothing
/// false is said and that progress is made when faults end.
#[derive(Debug, Parser)]
#[command(name = "flaredb-sim", version)]
pub(super) struct Args {
    /// Run this seed alone and tell what happened.
    #[arg(long, conflicts_with_all = ["seeds", "first_seed", "jobs", "resume"])]
    pub(super) seed: Option<u64>,
    /// Number of seeds to run.
    #[arg(long, default_value_t = 100)]
    pub(super) seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    pub(super) first_seed: u64,
    /// Events of a run before its faults end.
    #[arg(long, default_value_t = 20_000)]
    pub(super) events: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    pub(super) jobs: usize,
    /// Print one line of JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Keep the results so far in this file, and go on from it.
    #[arg(long)]
    pub(super) resume: Option<PathBuf>,
    /// With --seed: print everything that happened.
    #[arg(long)]
    pub(super) verbose: bool,
    /// With --seed: find a smaller run that breaks the same rule, and tell its story.
    #[arg(long, requires = "seed")]
    pub(super) shrink: bool,
    /// Print seed and trace hash of every run, to compare builds and machines.
    #[arg(long)]
    pub(super) hashes: bool,
    /// Stop at the first failing seed.
    #[arg(long)]
    pub(super) fail_fast: bool,
    /// Put every known bug back, one at a time, and report the first seed that catches it (at most `--seeds` each).
    #[arg(long, conflicts_with_all = ["seed", "resume"])]
    pub(super) mutants: bool,
    /// Run with this bug put back. Needs a build with mutants.
    #[arg(long)]
    pub(super) mutant: Option<String>,
    /// Faults of these kinds do not happen.
    #[arg(long, value_parser = kind, value_delimiter = ',')]
    pub(super) without_kinds: Vec<FaultKind>,
    /// These faults do not happen (kind/who/number).
    #[arg(long, value_delimiter = ',')]
    pub(super) without: Vec<FaultId>,
    /// These requests of clients are not made (as in 3,7-20).
    #[arg(long, value_parser = span, value_delimiter = ',')]
    pub(super) without_requests: Vec<(u64, u64)>,
    /// So many voters instead of what the seed says.
    #[arg(long)]
    pub(super) voters: Option<u64>,
    /// Faults end after so many events (--events says how many there are to be; shrinking makes them fewer).
    #[arg(long)]
    pub(super) faulty_events: Option<u64>,
    /// At most so many clients.
    #[arg(long)]
    pub(super) clients: Option<u64>,
    /// Clients make at most so many requests in all.
    #[arg(long)]
    pub(super) requests: Option<u64>,
}

fn kind(name: &str) -> Result<FaultKind, String> {
    FaultKind::named(&name.replace('-', " ")).ok_or_else(|| {
        let known: Vec<String> = FaultKind::ALL.iter().map(|kind| kind.stream().replace(' ', "-")).collect();
        format!("there is no such kind of fault; there are {}", known.join(", "))
    })
}

/// More requests than any run makes.
const SPAN_MAX: u64 = 10_000_000;

fn span(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number of a request"));
    let (first, last) = (number(first)?, number(last)?);
    if last < SPAN_MAX { Ok((first, last)) } else { Err(format!("there is no request {last}")) }
}

impl Args {
    /// What runs are to leave out.
    pub(super) fn reduction(&self) -> Reduction {
        Reduction {
            kinds: self.without_kinds.iter().copied().collect(),
            faults: self.without.iter().copied().collect(),
            clients_max: self.clients,
            requests_max: self.requests,
            requests: self.without_requests.iter().flat_map(|(first, last)| *first..=*last).collect(),
            events_max: self.faulty_events,
            voters: self.voters,
        }
    }
}
