//! The words of `flaredb inspect`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Look into the data folder of a member that does not run.
#[derive(Args, Clone, Debug)]
#[command(after_help = "The member must be stopped. Nothing in the folder is changed.\n\n\
    Exit codes: 0 all is well, 1 something is damaged, 2 the folder could not be looked into.")]
pub struct InspectArgs {
    /// What to look at.
    #[command(subcommand)]
    pub what: InspectWhat,
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum InspectWhat {
    /// Verify everything: identity, mark, every log record, every row of the state machine.
    Integrity {
        /// What the member is started with as --data-dir.
        data_dir: PathBuf,
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// List the entries of the Raft log.
    Log {
        /// What the member is started with as --data-dir.
        data_dir: PathBuf,
        /// First index.
        #[arg(long, value_name = "INDEX", default_value_t = 0)]
        from: u64,
        /// Last index [default: the last there is].
        #[arg(long, value_name = "INDEX", default_value_t = u64::MAX - 1, hide_default_value = true)]
        to: u64,
        /// One JSON document a line instead of a table.
        #[arg(long)]
        json: bool,
    },
}
