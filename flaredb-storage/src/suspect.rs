//! A note that a database failed a read or write while it ran. Opening does not look at every block of a file, so without the
//! note a process could start, meet the damaged block again, and stop again.

use crate::OpenError;
use crate::data_dir::write_file;
use crate::layout::{SUSPECT_DATA_FILE, SUSPECT_RAFT_FILE};
use crate::repair::is_missing_file;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The note of one database.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    /// None: nothing is noted (a folder that is only looked at).
    member: Option<PathBuf>,
    name: &'static str,
}

impl Suspect {
    pub(crate) fn log(member: &Path) -> Self {
        Self { member: Some(member.to_path_buf()), name: SUSPECT_RAFT_FILE }
    }

    pub(crate) fn data(member: &Path) -> Self {
        Self { member: Some(member.to_path_buf()), name: SUSPECT_DATA_FILE }
    }

    pub(crate) fn nowhere() -> Self {
        Self { member: None, name: "" }
    }

    /// Notes the failure if it is one that a start can do something about. As well as it can: the disk may be gone.
    pub(crate) fn note(&self, error: &rocksdb::Error) {
        let Some(member) = self.member.as_ref().filter(|_| !self.is_noted()) else { return };
        // A missing table fails the open; that a file of large values is missing shows only when it is read.
        if error.kind() != rocksdb::ErrorKind::Corruption && !is_missing_file(error) {
            return;
        }
        tracing::error!(%error, "a file of this member's data is damaged; the next start repairs it");
        if let Err(failure) = write_file(member, self.name, &format!("{error}\n")) {
            tracing::warn!(%failure, "that could not be noted for the next start");
        }
    }

    pub(crate) fn is_noted(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.join(self.name).exists())
    }

    pub(crate) fn clear(&self) -> Result<(), OpenError> {
        let Some(path) = self.member.as_ref().map(|member| member.join(self.name)) else { return Ok(()) };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(OpenError::io(path, &error)),
            _ => Ok(()),
        }
    }
}
