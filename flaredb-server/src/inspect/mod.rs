//! `flaredb inspect`: looking into the folder of a member that does not run. Changes nothing.
//!
//! What it is not: a repair. What it finds wrong, the next start repairs with the help of the other members, or refuses.

mod args;
mod integrity;
mod log;

pub use args::{InspectArgs, InspectWhat};

use std::io;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was looked at is as it must be.
    Sound,
    /// Something is not.
    Damaged,
}

/// Does what the words say; output goes to `out`.
///
/// # Errors
/// One line, if the folder could not be looked into at all.
pub fn run(args: &InspectArgs, out: &mut dyn io::Write) -> Result<Verdict, String> {
    let result = match &args.what {
        InspectWhat::Integrity { data_dir, json } => integrity::run(data_dir, *json, out),
        InspectWhat::Log { data_dir, from, to, json } => log::run(data_dir, *from..=*to, *json, out),
    };
    match result {
        // `flaredb inspect log | head` is no error.
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Verdict::Sound),
        Err(Failure::Write(error)) => Err(format!("cannot write the output: {error}")),
        Err(Failure::Open(error)) => Err(error.to_string()),
        Ok(verdict) => Ok(verdict),
    }
}

enum Failure {
    Open(flaredb_storage::OpenError),
    Write(io::Error),
}

impl From<flaredb_storage::OpenError> for Failure {
    fn from(error: flaredb_storage::OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}
