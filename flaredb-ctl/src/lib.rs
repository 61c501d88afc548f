//! flarectl, FlareDB's command line, as a library, so that its parts can be tested without a process.
//!
//! It speaks the etcd v3 API and nothing else, so it works against an etcd server too. Output goes to stdout in one
//! piece after the command has finished; errors go to stderr; the exit code tells them apart ([`error::Error`]).

pub mod cli;
pub mod client;
pub mod commands;
pub mod diagnosis;
pub mod endpoint;
pub mod error;
pub mod key_range;
pub mod output;
pub mod txn_parser;
pub mod values;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::error::Error;

/// Runs one command line (the first argument is the program's name) and returns the process's exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return clap_exit(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(&[], Err(Error::Other(format!("cannot start: {error}")))),
    };
    let mut out = Vec::new();
    let result = runtime.block_on(commands::run(cli, &mut out));
    // A name server that does not answer holds a thread of the runtime; the user has the answer and shall not wait.
    runtime.shutdown_background();
    finish(&out, result)
}

/// Help and version go to stdout with code 0, usage errors to stderr with code 2.
fn clap_exit(error: &clap::Error) -> ExitCode {
    // A reader that went away (`flarectl --help | head -1`) is no error of ours.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Writes what the command printed, then the error if there is one. A command can have both: `status` prints its
/// table and still fails when a member is down.
fn finish(out: &[u8], result: Result<(), Error>) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(out).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        // The reader has seen enough (`flarectl get --prefix a | head`).
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "Error: cannot write to stdout: {error}");
            return ExitCode::from(1);
        }
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "Error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
