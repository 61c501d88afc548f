//! The log as the peer reads it. Writes do not pass through here: they leave as `Effects::write`.

use crate::{ConfState, EntryId, HardState, RaftLogEntry, SnapshotMeta};
use alloc::{string::String, vec::Vec};
use core::{fmt, ops::Range};

/// Read access to what is durable. A peer asks it only for entries that it no longer has in memory.
pub trait RaftStorage {
    /// Hard state and configuration, at start.
    fn initial_state(&self) -> Result<InitialState, StorageError>;
    /// Entries of the range, at least the first one, then as many as fit into `bytes_max`.
    fn entries(&self, range: Range<u64>, bytes_max: u64) -> Result<Vec<RaftLogEntry>, StorageError>;
    /// The term of the entry at `index`; also answered for first_index - 1.
    fn term_of(&self, index: u64) -> Result<u64, StorageError>;
    /// First index that is still in the log (1 in a fresh log; snapshot.last.index + 1 after compaction).
    fn first_index(&self) -> Result<u64, StorageError>;
    /// Last index in the log; first_index - 1 if it is empty.
    fn last_index(&self) -> Result<u64, StorageError>;
    /// The position that the log was compacted to, with the configuration there.
    fn snapshot(&self) -> Result<SnapshotMeta, StorageError>;
}

/// What a peer loads before it takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialState {
    /// Default in a fresh log.
    pub hard_state: HardState,
    /// Written when the cluster was made.
    pub conf_state: ConfState,
    /// What this log once held and acknowledged, if it holds less now: the peer neither votes nor leads until its durable log
    /// reaches this position again (R15). None for a whole log.
    pub recover_until: Option<EntryId>,
}

/// Why the log could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// The index was compacted away; `first` is the first one left.
    Compacted {
        /// What was asked for.
        index: u64,
        /// The first index in the log.
        first: u64,
    },
    /// The index is past the end of the log.
    Unavailable {
        /// What was asked for.
        index: u64,
        /// The end of the log.
        last: EntryId,
    },
    /// The disk is broken or its content is wrong; final for the process. The text names the keys.
    Broken(String),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted { index, first } => {
                write!(f, "entry {index} was compacted away, the log starts at {first}")
            }
            Self::Unavailable { index, last } => write!(f, "entry {index} is past the end of the log at {last}"),
            Self::Broken(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for StorageError {}
