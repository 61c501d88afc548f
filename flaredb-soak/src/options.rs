//! The flags.

use crate::error::{Result, SoakError};
use crate::faults::Kind;
use std::path::PathBuf;

/// Real servers under faults, judged from outside: three members, clients that write and read through all of them, faults drawn
/// from a seed; afterwards everything heals, and what the clients were told is checked for strict serializability.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "flaredb-soak", version)]
pub struct Options {
    /// The flaredb binary [default: the one beside this program]
    #[arg(long, env = "FLAREDB_BIN", value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Test this etcd 3.5 instead
    #[arg(long, value_name = "PATH", conflicts_with = "server")]
    pub etcd: Option<PathBuf>,
    /// How long faults are injected
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Of the schedule and the workload [default: from the clock]
    #[arg(long)]
    pub seed: Option<u64>,
    /// all, or names and groups separated by commas; a leading - leaves one out (all,-wipe); `list` shows them
    #[arg(long, default_value = "all", value_name = "LIST", allow_hyphen_values = true)]
    pub faults: String,
    /// What stands between the members
    #[arg(long, value_enum, default_value_t = Net::Auto)]
    pub net: Net,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=200))]
    pub clients: u64,
    /// Requests per second, of all clients together
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub rate: u64,
    /// Keys
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=900))]
    pub keys: u64,
    /// After the faults end: so many seconds until each member must serve
    #[arg(long, default_value_t = 60)]
    pub patience: u64,
    /// Where the members' folders go [default: the system's temporary folder]
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Keep folders and logs (they are kept in any case if something was found)
    #[arg(long)]
    pub keep: bool,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Test of this program: once the members serve, syncs do nothing. Power cuts must then be reported as lost writes
    #[arg(long)]
    pub lying_disk: bool,
}

/// How the members are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Net {
    /// namespaces where the system permits, otherwise none
    Auto,
    /// Loopback; no network faults; needs no rights
    None,
    /// A network namespace for each member and for the clients; packets are dropped by iptables
    Namespaces,
    /// The same namespaces; the members' links lead through proxies that delay, slow, stall and reset
    Proxy,
}

impl Options {
    /// The faults that were asked for.
    ///
    /// # Errors
    /// A name that is none.
    pub fn kinds(&self) -> Result<Vec<Kind>> {
        let mut chosen: Vec<Kind> = Vec::new();
        for word in self.faults.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "none") {
            let (out, name) = word.strip_prefix('-').map_or((false, word), |name| (true, name));
            let meant: Vec<Kind> = Kind::ALL
                .iter()
                .copied()
                .filter(|kind| name == "all" || kind.name() == name || kind.group() == name)
                .collect();
            if meant.is_empty() {
                return Err(SoakError(format!("{name}: no such fault or group; there are {}", Kind::list())));
            }
            chosen.retain(|kind| !meant.contains(kind));
            if !out {
                chosen.extend(meant);
            }
        }
        Ok(chosen)
    }
}
