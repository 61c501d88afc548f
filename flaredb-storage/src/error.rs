//! What can go wrong between FlareDB and its disk, by what the caller can do about it.

use std::path::PathBuf;

/// The folder cannot be used. Nothing in it was changed, apart from what RocksDB itself does when it opens.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// Another process (or another node in this one) is using the folder.
    #[error("{path}: in use by another process; two members must not share a data folder")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Written by another version, or not by FlareDB at all.
    #[error("{path}: the data folder's format is {found:?}, this program reads {expected:?}")]
    Format {
        /// The file FORMAT.
        path: PathBuf,
        /// What it says; empty if it is missing though the folder is not.
        found: String,
        /// What this program writes.
        expected: String,
    },
    /// The folder belongs to someone else.
    #[error(
        "{path}: belongs to {what} {found:016x}, this process is {what} {expected:016x}; \
         check --data-dir, --name, --initial-cluster and --initial-cluster-token"
    )]
    Identity {
        /// The identity file.
        path: PathBuf,
        /// `cluster`, `member` or `region`.
        what: &'static str,
        /// The id in the folder.
        found: u64,
        /// The id this process was started with.
        expected: u64,
    },
    /// The folder is a real etcd's.
    #[error(
        "{path}: this is etcd's own data folder; FlareDB speaks etcd's API but does not read its files, give it a folder of its own"
    )]
    EtcdFolder {
        /// The file or folder that shows it.
        path: PathBuf,
    },
    /// A file stands where the folder should be.
    #[error("{path}: not a folder")]
    NotADirectory {
        /// What should be a folder.
        path: PathBuf,
    },
    /// The process may not read or write there.
    #[error("{path}: permission denied")]
    Permission {
        /// Where.
        path: PathBuf,
    },
    /// What is stored contradicts itself. The text names the keys. The member must not take part.
    #[error(
        "{path}: {what}. This member must not start from it: a vote or an acknowledged entry may be gone. Keep the folder \
             as it is and see docs/storage.md, \"When a member refuses to start\""
    )]
    Inconsistent {
        /// The database.
        path: PathBuf,
        /// Column family, keys, found and expected.
        what: String,
    },
    /// The operating system or RocksDB refused; the text is theirs.
    #[error("{path}: {what}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

impl OpenError {
    pub(crate) fn io(path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        let path = path.into();
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Permission { path },
            std::io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { path, what: error.to_string() },
        }
    }

    pub(crate) fn rocksdb(path: impl Into<PathBuf>, error: &rocksdb::Error) -> Self {
        let path = path.into();
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Inconsistent { path, what: error.to_string() },
            _ => Self::Io { path, what: error.to_string() },
        }
    }
}

/// A write or sync of the log failed. Final: what reached the disk is unknown and a second sync may lie about it, so the
/// writer refuses everything that follows with the same error, and the process must stop.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the raft log could not be written, the process must stop: {0}")]
pub struct LogError(pub String);
