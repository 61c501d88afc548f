//! What the flags say of log records, as plain values.

use std::path::PathBuf;
use tracing::Level;

/// Which log records go where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// FlareDB's records up to this level are kept; the libraries' one level fewer, warnings at least.
    pub level: Level,
    /// None: text on a terminal, JSON lines elsewhere.
    pub format: Option<LogFormat>,
    /// All get the same records.
    pub outputs: Vec<LogOutput>,
}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line, with etcd's keys: level, ts, caller, msg, then the record's fields.
    Json,
}

/// Where records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to; made with mode 0600 on Unix, because records name keys' owners and addresses.
    File(PathBuf),
}
