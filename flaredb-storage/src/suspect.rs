//! A note that a database failed a read or write while it ran. Opening does not look at every block of a file, so without the
//! note a process could start, meet the damaged block again, and stop again.

use crate::OpenError;
use crate::data_dir::write_file;
use crate::layout::{SUSPECT_DATA_FILE, SUSPECT_RAFT_FILE};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The note of one database.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    member: PathBuf,
    name: &'static str,
}

impl Suspect {
    pub(crate) fn log(member: &Path) -> Self {
        Self { member: member.to_path_buf(), name: SUSPECT_RAFT_FILE }
    }

    pub(crate) fn data(member: &Path) -> Self {
        Self { member: member.to_path_buf(), name: SUSPECT_DATA_FILE }
    }

    /// Notes the failure if it is one that a start can do something about. As well as it can: the disk may be gone.
    pub(crate) fn note(&self, error: &rocksdb::Error) {
        if error.kind() != rocksdb::ErrorKind::Corruption || self.is_noted() {
            return;
        }
        tracing::error!(%error, "a file of this member's data is damaged; the next start repairs it");
        if let Err(failure) = write_file(&self.member, self.name, &format!("{error}\n")) {
            tracing::warn!(%failure, "that could not be noted for the next start");
        }
    }

    pub(crate) fn is_noted(&self) -> bool {
        self.member.join(self.name).exists()
    }

    pub(crate) fn clear(&self) -> Result<(), OpenError> {
        let path = self.member.join(self.name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(OpenError::io(path, &error)),
            _ => Ok(()),
        }
    }
}
