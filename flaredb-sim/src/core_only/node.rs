//! A node: the peer while it is up, its disk, the write that is out, and a state machine that is one hash over all that was
//! applied.

use flaredb_raft::{EntryId, MemoryStorage, Message, Peer, RaftLogEntry, SnapshotMeta, Write};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(super) struct Node {
    pub(super) id: u64,
    pub(super) peer: Option<Peer<MemoryStorage>>,
    pub(super) disk: MemoryStorage,
    /// Out, with what waits for it.
    pub(super) writing: Option<(Write, Vec<Message>)>,
    pub(super) installing: Option<SnapshotMeta>,
    /// Received whole, not installed.
    pub(super) staged: BTreeMap<EntryId, Applied>,
    pub(super) applied: Applied,
    /// What of the state machine survives a crash.
    pub(super) flushed: Applied,
    /// Rises at each start: what was under way in the node before it means nothing.
    pub(super) incarnation: u64,
    pub(super) commit_seen: u64,
}

/// How far a state machine has come, and its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) last: EntryId,
    pub(super) hash: u64,
}

impl Applied {
    pub(super) fn apply(&mut self, entry: &RaftLogEntry) {
        let position = self.hash ^ entry.index.rotate_left(32) ^ entry.term;
        self.hash = xxh3_64_with_seed(&entry.command, position);
        self.last = entry.id();
    }
}

impl Node {
    pub(super) fn new(id: u64, voters: &[u64]) -> Self {
        Self {
            id,
            peer: None,
            disk: MemoryStorage::new(voters),
            writing: None,
            installing: None,
            staged: BTreeMap::new(),
            applied: Applied::default(),
            flushed: Applied::default(),
            incarnation: 0,
            commit_seen: 0,
        }
    }

    /// Everything that is not durable is gone.
    pub(super) fn crash(&mut self) {
        self.peer = None;
        self.writing = None;
        self.installing = None;
        self.staged.clear();
        self.applied = self.flushed;
        self.incarnation += 1;
        self.commit_seen = 0;
    }

    /// The state machine is flushed, and the log compacted up to `keep` entries before it.
    pub(super) fn compact(&mut self, keep: u64) {
        let reported = self.peer.as_ref().map_or(0, |peer| peer.status().last_applied);
        self.flushed = self.applied;
        self.disk.compact(reported.saturating_sub(keep));
    }
}
