//! The flags.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// FlareDB and etcd side by side: three servers each, the same load, in turns, in one run.
#[derive(Parser, Debug)]
#[command(version, about, after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The flaredb binary [default: target/release/flaredb here or one folder up, else the one in PATH].
    #[arg(long, value_name = "FILE", env = "FLAREDB")]
    pub(crate) flaredb: Option<PathBuf>,
    /// An etcd binary to compare with; without it FlareDB is measured alone.
    #[arg(long, value_name = "FILE", env = "ETCD")]
    pub(crate) etcd: Option<PathBuf>,
    /// The benchmark of the Raft core, for the cell `core`: bench/core built, which `make bench` does.
    #[arg(long, value_name = "FILE")]
    pub(crate) core: Option<PathBuf>,
    /// The benchmark of the Raft log, for the cell `log`: bench/log built, which `make bench` does.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Only these cells, separated by commas; `--list` names them.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) cells: Vec<String>,
    /// Name the cells and end.
    #[arg(long)]
    pub(crate) list: bool,
    /// A minute instead of half an hour: few cells, one short turn each. Its figures are not worth quoting.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Whom the clients talk to.
    #[arg(long, value_enum, default_value_t = Target::Spread)]
    pub(crate) target: Target,
    /// Connections to each member that all clients share; one is what an etcd client has.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) connections: usize,
    /// Servers' data goes into a new folder in here, which is removed at the end; it must be on a real disk.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub(crate) data: PathBuf,
    /// Results: results.json, table.md and plots.
    #[arg(long, value_name = "FOLDER", default_value = "bench-results")]
    pub(crate) out: PathBuf,
    /// Measured seconds of each turn [default: 8, quick: 1].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,
    /// ABBA rounds of each cell (quick: one AB).
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) rounds: usize,
    /// Calls a second of the open-loop cell [default: half of etcd's best rate of puts in this run].
    #[arg(long, value_name = "RATE")]
    pub(crate) open_rate: Option<f64>,
    /// Keys at the end of the growth cell, which gets there in steps [default: 1000000, quick: 30000].
    #[arg(long, value_name = "COUNT")]
    pub(crate) grow_to: Option<u64>,
    /// Kills of the leader for each system [default: 20, quick: 2].
    #[arg(long, value_name = "COUNT")]
    pub(crate) kills: Option<usize>,
}

const EXAMPLES: &str = "\
Examples:
  flaredb-bench --etcd /usr/local/bin/etcd               all cells but core and log, some 20 minutes
  make bench ETCD=/usr/local/bin/etcd                    the whole table
  flaredb-bench --etcd /usr/local/bin/etcd --quick       a look, in a minute
  flaredb-bench --cells put-64,get-64                    FlareDB alone, two cells

Exit codes: 0 everything was measured that is there (a row says so of what is not: etcd, core, log, valgrind),
1 something failed, 2 wrong flags.";

/// Whom the clients talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// All three members in turn, as etcd's own client does.
    Spread,
    /// The leader alone.
    Leader,
}

impl Options {
    /// Not measured at the beginning of each turn.
    pub(crate) fn warmup(&self) -> Duration {
        if self.quick { Duration::from_millis(500) } else { Duration::from_secs(2) }
    }

    pub(crate) fn measure(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 1.0 } else { 8.0 }))
    }

    pub(crate) fn grown(&self) -> u64 {
        self.grow_to.unwrap_or(if self.quick { 30_000 } else { 1_000_000 })
    }

    pub(crate) fn kills(&self) -> usize {
        self.kills.unwrap_or(if self.quick { 2 } else { 20 })
    }

    /// The FlareDB binary that was named, or the one that is found.
    pub(crate) fn flaredb_binary(&self) -> PathBuf {
        let built = || {
            let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
            let folders = target.into_iter().chain(["target", "../target"].map(PathBuf::from));
            folders.map(|folder| folder.join("release/flaredb")).find(|file| file.is_file())
        };
        self.flaredb.clone().or_else(built).unwrap_or_else(|| PathBuf::from("flaredb"))
    }
}
