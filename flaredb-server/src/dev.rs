//! `flaredb dev`: three nodes in one process, to try FlareDB and to test programs with it; and the commands that reach
//! that process from another terminal.
//!
//! The nodes are what `flaredb` runs on three hosts, talking over loopback; only their memory is small and their timers
//! are short. Not for production: one process and one machine is one failure.

pub mod args;
mod cluster;
mod control;
mod error;
mod folder;
mod process;
mod status;

pub use args::{DevAction, DevArgs};
pub use error::DevError;

use control::{Reply, Request};

/// Does what the command line asks for; returns when it is done (the cluster: when it was stopped).
///
/// # Errors
/// [`DevError`], one line each for the operator.
pub fn run(args: &DevArgs) -> Result<(), DevError> {
    let request = match &args.action {
        None => return process::run(args),
        Some(DevAction::Status) => Request::Status,
        Some(DevAction::Kill { node }) => Request::Kill { node: node.clone() },
        Some(DevAction::Start { node }) => Request::Start { node: node.clone() },
        Some(DevAction::Stop) => Request::Stop,
    };
    match control::ask(&args.data_dir, &request)? {
        Reply::Done { text } => process::say(&text),
        Reply::Nodes { nodes } => process::say(&status::table(&nodes)),
        Reply::Refused { text } => return Err(DevError::Refused(text)),
    }
    Ok(())
}
