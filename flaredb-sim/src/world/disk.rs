//! A node's durable things as the world sees them: the log, the flushed image of the state machine.

use crate::prf::Draw;
use flaredb_kv::MemoryStore;
use flaredb_raft::{EntryId, HardState, MemoryStorage, RaftLogEntry, RaftStorage, SnapshotMeta, Write};

/// What replicas read their log from.
pub(crate) type Log = MemoryStorage;

/// Why the disk did not do it; the process ends.
#[derive(Debug)]
pub(crate) struct DiskFailure(pub(crate) String);

/// What a start finds.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) hard_state: HardState,
    pub(crate) compacted_to: EntryId,
    pub(crate) entries: Vec<RaftLogEntry>,
    pub(crate) image: MemoryStore,
    pub(crate) recovering: Option<EntryId>,
}

/// Survives crashes.
#[derive(Debug)]
pub(crate) struct NodeDisk {
    log: MemoryStorage,
    image: MemoryStore,
    writing: Option<Write>,
    draw: Draw,
}

impl NodeDisk {
    pub(crate) fn new(seed: u64, id: u64, voters: &[u64]) -> Self {
        let log = MemoryStorage::new(voters);
        Self { log, image: MemoryStore::new(), writing: None, draw: Draw::new(seed, "disk crash", id) }
    }

    pub(crate) fn open(&mut self) -> Result<Opened, String> {
        let snapshot = self.log.snapshot().map_err(|error| error.to_string())?;
        Ok(Opened {
            log: self.log.clone(),
            hard_state: self.log.hard_state(),
            compacted_to: snapshot.last,
            entries: self.log.all_entries(),
            image: self.image.clone(),
            recovering: None,
        })
    }

    pub(crate) fn begin_write(&mut self, write: Write) -> Result<(), DiskFailure> {
        assert!(self.writing.is_none(), "one write at a time");
        self.writing = Some(write);
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<Option<Write>, DiskFailure> {
        let write = self.writing.take();
        if let Some(write) = &write {
            self.log.apply_write(write);
        }
        Ok(write)
    }

    pub(crate) fn truncate(&mut self, up_to: EntryId) -> Result<(), DiskFailure> {
        self.log.compact(up_to.index);
        Ok(())
    }

    pub(crate) fn save_image(&mut self, image: MemoryStore) -> Result<(), DiskFailure> {
        self.image = image;
        Ok(())
    }

    pub(crate) fn install(&mut self, snapshot: &SnapshotMeta, image: MemoryStore) -> Result<(), DiskFailure> {
        self.image = image;
        self.log.install_snapshot(snapshot);
        Ok(())
    }

    /// The process is gone, and perhaps the machine's power. Returns whether a write that was under way is durable.
    pub(crate) fn crash(&mut self) -> Option<bool> {
        let write = self.writing.take()?;
        let kept = self.draw.below(2) == 0;
        if kept {
            self.log.apply_write(&write);
        }
        Some(kept)
    }
}
