//! What can go wrong in `flaredb dev`: which folder, port or node, and what to do.

use crate::{logging::LogError, node::StartError};
use std::{io, path::PathBuf};

/// Why a dev cluster does not start, or does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Nobody listens on the folder's control socket.
    #[error("no dev cluster is running on {}; start one with `{start}`", folder.display())]
    NotRunning {
        /// As given.
        folder: PathBuf,
        /// The command that starts one there.
        start: String,
    },
    /// Another process has the folder.
    #[error(
        "a dev cluster runs on {} already{}; see `{status}`, or use another --data-dir with other --client-ports and \
         --peer-ports",
        folder.display(),
        pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
    )]
    AlreadyRunning {
        /// As given.
        folder: PathBuf,
        /// Of that process, if it could be read.
        pid: Option<u32>,
        /// The command that looks at it.
        status: String,
    },
    /// A folder with something else in it.
    #[error(
        "{} is not empty and was not made by `flaredb dev`; choose another --data-dir, or empty it",
        folder.display()
    )]
    ForeignFolder {
        /// As given.
        folder: PathBuf,
    },
    /// A port that another program has.
    #[error(
        "port {port} ({node}, {usage}) is in use, perhaps by etcd or another `flaredb dev`; stop that program, or \
         choose other ports, as in: flaredb dev {flag} {example}"
    )]
    PortInUse {
        /// The port.
        port: u16,
        /// The node that needs it.
        node: &'static str,
        /// What for.
        usage: &'static str,
        /// The flag that changes it.
        flag: &'static str,
        /// A value for it.
        example: String,
    },
    /// A port that cannot be bound for another reason.
    #[error("cannot listen on port {port} ({node}): {source}")]
    Port {
        /// The port.
        port: u16,
        /// The node that needs it.
        node: &'static str,
        /// From the operating system.
        source: io::Error,
    },
    /// The members' ids come from their peer URLs, so these ports stay for as long as the data does.
    #[error(
        "the data in {} belongs to peer ports {made_with}, not {given}; leave --peer-ports out, or use another \
         --data-dir",
        folder.display()
    )]
    PeerPortsFixed {
        /// As given.
        folder: PathBuf,
        /// The ports that the data was made with.
        made_with: String,
        /// The ports asked for.
        given: String,
    },
    /// One of the nodes does not start.
    #[error("{node} does not start: {source}")]
    Start {
        /// Its name.
        node: &'static str,
        /// Why.
        source: StartError,
    },
    /// The nodes run, but no leader answers.
    #[error("no leader answers after {seconds} s; {} says why", log.display())]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// The nodes' log.
        log: PathBuf,
    },
    /// The running cluster said no; its words.
    #[error("{0}")]
    Refused(String),
    /// A file or folder does not behave.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// From the operating system.
        source: io::Error,
    },
    /// The control socket's path does not fit into an address.
    #[error(
        "the path {} is too long for a control socket (about 100 bytes); choose a shorter --data-dir, a relative one \
         perhaps",
        path.display()
    )]
    SocketPath {
        /// The socket.
        path: PathBuf,
    },
    /// The process that has the socket answers something else.
    #[error("the dev cluster on {} gave no proper answer: {wrong}", folder.display())]
    Answer {
        /// As given.
        folder: PathBuf,
        /// What came instead.
        wrong: String,
    },
    /// The log file.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Threads, runtimes, signals.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}
