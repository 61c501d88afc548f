//! A node's settings, however they were given (flags, environment, `flaredb dev`).
//!
//! `flags` is the table of every flag, `command` reads the command line by it, `env` the environment, `values` and `url`
//! turn text into typed values, `validate` checks them against each other. Nothing here opens a port or writes a file.

pub mod command;
pub mod env;
pub mod error;
pub mod flags;
mod initial_cluster;
mod url;
mod validate;
mod values;

pub use command::{Invocation, parse};
pub use error::{ConfigError, Origin};
pub(crate) use validate::ELECTION_MAX;

use crate::logging::LogConfig;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Everything `node::start` needs. Already validated and resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// This member's name in `initial_cluster`.
    pub name: String,
    /// Holds `member/`, where everything of this node lives.
    pub data_dir: PathBuf,
    /// Where clients connect.
    pub listen_client: Vec<SocketAddr>,
    /// What clients are told to connect to.
    pub advertise_client_urls: Vec<String>,
    /// Where the other members connect.
    pub listen_peer: Vec<SocketAddr>,
    /// (name, peer URLs) of every member, this one included.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// Keeps clusters with equal URLs apart; equal on all members.
    pub initial_cluster_token: String,
    /// Of a leader.
    pub heartbeat_interval: Duration,
    /// A follower that hears nothing campaigns after one to two times this.
    pub election_timeout: Duration,
    /// Reads by lease: the leader answers linearizable reads without asking.
    pub lease_reads: bool,
    /// Applied entries after which the log is truncated.
    pub snapshot_count: u64,
    /// Bytes; None = no limit.
    pub quota_backend_bytes: Option<u64>,
    /// Largest request, in bytes.
    pub max_request_bytes: usize,
    /// Most operations in one transaction.
    pub max_txn_ops: usize,
    /// How much memory the two databases may take.
    pub storage_profile: StorageProfile,
}

/// Which sizes the databases are opened with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageProfile {
    /// A server that has its machine for itself.
    #[default]
    Server,
    /// Several nodes in one process on a developer's machine.
    Small,
}

/// What a command line and an environment add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For `node::start`.
    pub node: NodeConfig,
    /// For `logging::init`.
    pub log: LogConfig,
    /// What the operator should read about how the settings came about; logged once the log is open.
    pub notices: Vec<Notice>,
}

/// A remark on the settings that does not keep the node from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Which of two sources won, where a value came from.
    Info(String),
    /// Something asked for is not done, or looks like a slip.
    Warn(String),
}
