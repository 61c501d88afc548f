//! A node's disk as the world uses it: the model disk and, while the process lives, the log on it. It carries through the
//! multi-step sequences in the order in which production does them; the model disk may cut the power between any two steps.

use crate::disk::{CrashMode, DiskError, Identity, LogOptions, ModelLog, OpenError, Opened, SimDisk};
use crate::prf::Draw;
use flaredb_kv::{AppliedState, MemoryStore};
use flaredb_raft::{EntryId, RaftStorage, SnapshotMeta, Write};

/// What replicas read their log from.
pub(crate) type Log = ModelLog;

/// How a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Alone: what it has written is in the machine's cache.
    Killed,
    /// With the machine: what is not synced has a fate of its own.
    PowerCut,
}

/// Survives crashes.
#[derive(Debug)]
pub(crate) struct NodeDisk {
    pub(crate) sim: SimDisk,
    identity: Identity,
    options: LogOptions,
    log: Option<ModelLog>,
    writing: Option<Write>,
    draw: Draw,
}

impl NodeDisk {
    pub(crate) fn new(seed: u64, id: u64, voters: &[u64]) -> Self {
        let mut draw = Draw::new(seed, "disk use", id);
        let mut sizes = Draw::new(seed, "log options", 0);
        let options =
            LogOptions { wal_bytes: *sizes.pick(&[2 << 10, 16 << 10, 64 << 10]), tables_max: *sizes.pick(&[1, 2, 4]) };
        let sim = SimDisk::new(draw.value(), id);
        let identity = Identity { cluster_id: 1, member_id: id, region_id: 1, voters: voters.to_vec() };
        Self { sim, identity, options, log: None, writing: None, draw }
    }

    pub(crate) fn open(&mut self) -> Result<Opened, OpenError> {
        let opened = ModelLog::open(&self.sim, &self.identity, self.options)?;
        self.log = Some(opened.log.clone());
        Ok(opened)
    }

    fn log(&self) -> &ModelLog {
        match &self.log {
            Some(log) => log,
            None => unreachable!("only a process that runs uses its disk"),
        }
    }

    pub(crate) fn begin_write(&mut self, write: Write) -> Result<(), DiskError> {
        self.log().begin_write(&write)?;
        self.writing = Some(write);
        Ok(())
    }

    /// The write that was begun, durable now.
    pub(crate) fn sync(&mut self) -> Result<Option<Write>, DiskError> {
        self.log().sync()?;
        Ok(self.writing.take())
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    pub(crate) fn truncate(&mut self, up_to: EntryId) -> Result<(), DiskError> {
        self.log().truncate(up_to)
    }

    /// Notes what has to be there before this member votes. None: not known.
    pub(crate) fn recover_until(&mut self, until: Option<EntryId>) -> Result<(), DiskError> {
        self.log().recover_until(until)
    }

    /// Begins to make an image durable.
    pub(crate) fn save_image(&mut self, applied: AppliedState, image: MemoryStore) -> Result<(), DiskError> {
        self.log().save_image(applied, image)
    }

    /// The image that was begun last counts now.
    pub(crate) fn sync_image(&mut self) -> Result<(), DiskError> {
        self.log().sync_image()
    }

    /// Puts a snapshot's rows in place.
    pub(crate) fn install_image(
        &mut self,
        snapshot: &SnapshotMeta,
        applied: AppliedState,
        image: MemoryStore,
    ) -> Result<(), DiskError> {
        self.log().install_image(snapshot, applied, image)
    }

    /// Then lets the log begin after it. Term and vote stay.
    pub(crate) fn reset_log(&mut self, snapshot: &SnapshotMeta) -> Result<(), DiskError> {
        let state = self.log().initial_state().map_err(|error| DiskError::Corrupt(error.to_string()))?;
        let hard_state = flaredb_raft::HardState { commit_index: snapshot.last.index, ..state.hard_state };
        self.log().reset_to_snapshot(snapshot, hard_state)
    }

    /// The process is gone.
    pub(crate) fn crash(&mut self, death: Death) {
        self.log = None;
        self.writing = None;
        if death == Death::PowerCut {
            let mode = *self.draw.pick(&[CrashMode::DropOnly, CrashMode::Corrupt]);
            self.sim.crash(mode);
        }
    }
}
