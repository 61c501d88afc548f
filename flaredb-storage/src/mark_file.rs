//! The file `mark`: what this member has promised, in two slots outside the log (flaredb-record, `mark.rs`).
//!
//! Written by the log thread beside the log. What must be durable before something leaves is synced at once; the mark of an
//! append only reaches the page cache (a killed process loses nothing) and is synced at the latest with the first batch after
//! [`LAZY_SYNC_AFTER`] or [`LAZY_SYNC_BYTES`]. A power cut can take it back by that much: then the end of the log that was
//! acknowledged in this time is not guarded against rot that happens in the same cut, everything before it is.

use crate::data_dir::sync_dir;
use crate::layout::MARK_FILE;
use crate::{LogError, OpenError};
use flaredb_raft::HardState;
use flaredb_record::mark::{self, FILE_BYTES, Mark, SLOT_BYTES, SLOT_DISTANCE, slot_of};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A sync of the mark costs about what a sync of the log does: at most one in this time.
const LAZY_SYNC_AFTER: Duration = Duration::from_millis(200);
/// Or in this many bytes of the log.
const LAZY_SYNC_BYTES: usize = 8 * 1024 * 1024;

/// What the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredMark {
    /// There is no such file.
    Missing,
    /// Neither slot can be read.
    Damaged,
    /// The newer of the slots that can be read. `slots`: how many can.
    Read { generation: u64, mark: Mark, slots: usize },
}

/// Reads the mark of a member's folder.
pub(crate) fn read(member: &Path) -> Result<StoredMark, OpenError> {
    let path = member.join(MARK_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(StoredMark::Missing),
        Err(error) => return Err(OpenError::io(path, &error)),
    };
    let slots = [0, SLOT_DISTANCE].map(|at| {
        let mut slot = [0; SLOT_BYTES];
        // A slot that the disk does not give back is as good as a torn one: the other may be whole.
        file.read_exact_at(&mut slot, at).map_or([0; SLOT_BYTES], |()| slot)
    });
    let readable = slots.iter().filter(|slot| mark::decode(*slot).is_some()).count();
    let [first, second] = &slots;
    Ok(match mark::decode_both(first, second) {
        Some((generation, mark)) => StoredMark::Read { generation, mark, slots: readable },
        None => StoredMark::Damaged,
    })
}

/// The mark being kept. One writer: the owner of the log's writer.
#[derive(Debug)]
pub(crate) struct MarkFile {
    path: PathBuf,
    file: File,
    generation: u64,
    mark: Mark,
    /// Since when, and for how many bytes of the log, the file is ahead of the disk.
    unsynced: Option<(Instant, usize)>,
}

impl MarkFile {
    /// Writes this mark to both slots, durably; makes the file if it is not there. `generation`: the last one that was used.
    pub(crate) fn start(member: &Path, generation: u64, mark: Mark) -> Result<Self, OpenError> {
        let path = member.join(MARK_FILE);
        let broken = |error: &std::io::Error| OpenError::io(&path, error);
        if !path.exists() {
            // Beside its place first: a name without content would be a damaged mark.
            let beside = member.join(format!("{MARK_FILE}.new"));
            let made = (|| {
                let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
                let distance = usize::try_from(SLOT_DISTANCE).unwrap_or(0);
                let mut bytes = vec![0; usize::try_from(FILE_BYTES).unwrap_or(0)];
                for generation in [generation, generation.saturating_add(1)] {
                    let at = if slot_of(generation) == 0 { 0 } else { distance };
                    if let Some(slot) = bytes.get_mut(at..at.saturating_add(SLOT_BYTES)) {
                        slot.copy_from_slice(&mark::encode(generation, &mark));
                    }
                }
                file.write_all_at(&bytes, 0)?;
                file.sync_all()?;
                fs::rename(&beside, &path)
            })();
            made.map_err(|error| broken(&error))?;
            sync_dir(member)?;
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(|error| broken(&error))?;
        let mut marks = Self { path: path.clone(), file, generation, mark, unsynced: None };
        // One after the other, each durable before the next: a torn one leaves the other.
        for _ in 0..2 {
            let written = marks.put(mark).and_then(|()| marks.file.sync_all());
            written.map_err(|error| broken(&error))?;
        }
        Ok(marks)
    }

    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Writes the mark and makes it durable. Does nothing if it is what was written last and durable.
    pub(crate) fn write_synced(&mut self, mark: Mark) -> Result<(), LogError> {
        if mark != self.mark {
            self.put(mark).map_err(|error| self.failed(&error))?;
            self.unsynced = Some((Instant::now(), 0));
        }
        self.sync()
    }

    /// Follows a batch of so many bytes that is durable in the log.
    pub(crate) fn follow(
        &mut self,
        hard_state: &HardState,
        last: flaredb_raft::EntryId,
        chain: u64,
        bytes: usize,
    ) -> Result<(), LogError> {
        let (mark, must_sync) = self.mark.after(hard_state, last, chain);
        if mark != self.mark {
            self.put(mark).map_err(|error| self.failed(&error))?;
        }
        let (since, unsynced) = self.unsynced.unwrap_or_else(|| (Instant::now(), 0));
        let unsynced = unsynced.saturating_add(bytes);
        self.unsynced = Some((since, unsynced));
        if must_sync || unsynced >= LAZY_SYNC_BYTES || since.elapsed() >= LAZY_SYNC_AFTER {
            self.sync()?;
        }
        Ok(())
    }

    /// The log failed: the disk is left alone.
    pub(crate) fn abandon(&mut self) {
        self.unsynced = None;
    }

    /// True if a power cut would take the mark back.
    pub(crate) fn is_ahead(&self) -> bool {
        self.unsynced.is_some()
    }

    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        if self.unsynced.is_some() {
            self.file.sync_data().map_err(|error| self.failed(&error))?;
            self.unsynced = None;
        }
        Ok(())
    }

    /// Into the slot that does not hold the newest durable one: never are both at the mercy of one power cut.
    fn put(&mut self, mark: Mark) -> std::io::Result<()> {
        let generation = self.generation.saturating_add(if self.unsynced.is_some() { 2 } else { 1 });
        let at = slot_of(generation).saturating_mul(SLOT_DISTANCE);
        self.file.write_all_at(&mark::encode(generation, &mark), at)?;
        (self.generation, self.mark) = (generation, mark);
        Ok(())
    }

    fn failed(&self, error: &std::io::Error) -> LogError {
        LogError(format!("{}: {error}", self.path.display()))
    }
}

impl Drop for MarkFile {
    /// An orderly end leaves nothing to the kernel's own time. If it fails, the mark is as after a crash.
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "the mark could not be synced at the end");
        }
    }
}
