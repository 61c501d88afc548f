//! The words of `flaredb dev`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The names of the three nodes.
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Where clients connect by default, n1 first.
pub const CLIENT_PORTS: [u16; 3] = [2379, 22379, 32379];

/// Where the nodes connect to each other by default, n1 first.
pub const PEER_PORTS: [u16; 3] = [2380, 22380, 32380];

/// Three nodes in one process, to try FlareDB and to test programs with it.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = false)]
pub struct DevArgs {
    /// Where the three nodes keep their data, their log and the control socket.
    #[arg(long, value_name = "FOLDER", default_value = "./.flaredb-dev", global = true)]
    pub data_dir: PathBuf,

    /// Ports for clients of n1, n2, n3 [default: 2379,22379,32379, or what the folder was made with].
    #[arg(long, value_name = "P1,P2,P3", value_parser = parse_ports)]
    pub client_ports: Option<[u16; 3]>,

    /// Ports between the nodes [default: 2380,22380,32380, or what the folder was made with].
    #[arg(long, value_name = "P1,P2,P3", value_parser = parse_ports)]
    pub peer_ports: Option<[u16; 3]>,

    /// What to do with the cluster that runs on the folder; without it, start one.
    #[command(subcommand)]
    pub action: Option<DevAction>,
}

/// What another terminal can ask of the process that has the three nodes.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum DevAction {
    /// Show the three nodes.
    Status,
    /// Make a node vanish as in a crash: nothing is flushed or handed over.
    Kill {
        /// n1, n2, n3, or leader.
        node: String,
    },
    /// Start a node that is down, on the data it had.
    Start {
        /// n1, n2 or n3.
        node: String,
    },
    /// Stop the three nodes and the process; the data is kept.
    Stop,
}

const EXAMPLES: &str = "\
Examples:
  flaredb dev                  start three nodes; Ctrl-C stops them, data is kept in ./.flaredb-dev
  flaredb dev status           in another terminal: who leads, who is up
  flaredb dev kill leader      crash the leader and watch the others go on
  flaredb dev start n2         bring it back
  rm -r .flaredb-dev           begin again with nothing";

fn parse_ports(text: &str) -> Result<[u16; 3], String> {
    let ports: Vec<u16> = text
        .split(',')
        .map(|port| port.trim().parse().ok().filter(|port| *port != 0))
        .collect::<Option<_>>()
        .ok_or_else(|| "write three port numbers, as in 12379,12380,12381".to_owned())?;
    let ports: [u16; 3] =
        ports.try_into().map_err(|ports: Vec<u16>| format!("{} ports, but three nodes", ports.len()))?;
    match ports {
        [a, b, c] if a == b || b == c || a == c => Err("the same port twice".to_owned()),
        ports => Ok(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_three_different_numbers() {
        assert_eq!(parse_ports("1, 2,3"), Ok([1, 2, 3]));
        for (text, wrong) in [
            ("1,2", "2 ports, but three nodes"),
            ("1,2,2", "the same port twice"),
            ("1,2,x", "write three port numbers, as in 12379,12380,12381"),
            ("1,2,0", "write three port numbers, as in 12379,12380,12381"),
        ] {
            assert_eq!(parse_ports(text), Err(wrong.to_owned()));
        }
    }
}
