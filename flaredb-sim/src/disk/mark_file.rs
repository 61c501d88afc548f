//! The durable mark on the disk: two slots, of which one always holds a mark that was synced.
//!
//! That takes care with generations, since a generation's parity is its slot: while the mark written last is not synced, the next
//! one must go over it and not over the other slot. Else two marks in the cache could both be torn by one crash.

use super::sectors::{DiskError, FileId, SimDisk};
use flaredb_record::mark::{self, FILE_BYTES, Mark, SLOT_BYTES, SLOT_DISTANCE};

const NAME: &str = "mark";
/// Marks of mere appends that may be in the cache only.
const UNSYNCED_MAX: u32 = 64;

/// Write access.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarkFile {
    file: FileId,
    generation: u64,
    pub(super) mark: Mark,
    unsynced: u32,
}

impl MarkFile {
    /// A new file with this mark; its name is not synced yet.
    pub(super) fn create(disk: &SimDisk, mark: Mark) -> Result<Self, DiskError> {
        let file = disk.create(NAME)?;
        disk.write(file, 0, &vec![0; usize::try_from(FILE_BYTES).unwrap_or(0)])?;
        disk.sync(file)?;
        let mut new = Self { file, generation: 0, mark, unsynced: 0 };
        new.write(disk, mark)?;
        new.sync(disk)?;
        Ok(new)
    }

    /// None if neither slot holds a mark.
    pub(super) fn read(disk: &SimDisk) -> Option<Self> {
        let file = disk.find(NAME)?;
        // A slot that cannot be read is as good as one that was torn.
        let slot = |slot| disk.read(file, offset(slot), SLOT_BYTES).unwrap_or_default();
        let (generation, mark) = mark::decode_both(&slot(0), &slot(1))?;
        // After a process died alone, it may be that the newest mark is in the cache only.
        Some(Self { file, generation, mark, unsynced: 1 })
    }

    /// Puts the mark into the cache, unless it is there.
    pub(super) fn write(&mut self, disk: &SimDisk, mark: Mark) -> Result<(), DiskError> {
        let generation = self.generation + if self.unsynced == 0 { 1 } else { 2 };
        disk.write(self.file, offset(mark::slot_of(generation)), &mark::encode(generation, &mark))?;
        (self.generation, self.mark) = (generation, mark);
        self.unsynced += 1;
        Ok(())
    }

    /// Makes the mark durable.
    pub(super) fn sync(&mut self, disk: &SimDisk) -> Result<(), DiskError> {
        if self.unsynced > 0 {
            disk.sync(self.file)?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Writes the mark if it is another; makes it durable if it `must` be, or if many were not.
    pub(super) fn put(&mut self, disk: &SimDisk, mark: Mark, must: bool) -> Result<(), DiskError> {
        if mark != self.mark {
            self.write(disk, mark)?;
        }
        if must || self.unsynced > UNSYNCED_MAX { self.sync(disk) } else { Ok(()) }
    }
}

fn offset(slot: u64) -> usize {
    usize::try_from(slot * SLOT_DISTANCE).unwrap_or(0)
}
