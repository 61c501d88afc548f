//! Log entries and their positions.

use crate::num::to_u64;
use bytes::Bytes;
use core::fmt;

/// One entry of the replicated log.
///
/// Indices are strictly increasing by one. `command` is empty for the no-op that a leader appends at the start of its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RaftLogEntry {
    /// From 1 on, without holes.
    pub index: u64,
    /// The term of the leader that appended it; never falls along the log.
    pub term: u64,
    /// What the state machine applies; exactly the bytes that were proposed.
    pub command: Bytes,
    /// The proposer's mark (request identity and kind); opaque to the core.
    pub context: Option<Bytes>,
}

impl RaftLogEntry {
    /// Where it stands.
    pub fn id(&self) -> EntryId {
        EntryId { index: self.index, term: self.term }
    }

    /// Bytes this entry is counted with in every byte limit: payload plus a fixed share for its header.
    pub fn size(&self) -> u64 {
        entry_size(&self.command, self.context.as_ref())
    }
}

/// `RaftLogEntry::size` of an entry that does not exist yet.
pub(crate) fn entry_size(command: &Bytes, context: Option<&Bytes>) -> u64 {
    to_u64(command.len() + context.map_or(0, Bytes::len)) + 24
}

/// A log position, printed `index@term`. Orders as Raft's "more up to date" does: by term, then by index (paper §5.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// 0 is the position before the first entry.
    pub index: u64,
    /// 0 only at index 0.
    pub term: u64,
}

impl PartialOrd for EntryId {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EntryId {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.term, self.index).cmp(&(other.term, other.index))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
