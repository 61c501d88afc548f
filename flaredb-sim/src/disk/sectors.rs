//! A disk with its page cache: files of bytes over sectors, of which a crash keeps what was synced and chews on the rest.
//!
//! Programs see the cache: what was written is read back at once, also after a process died. A file's content and length
//! become durable with `sync`, its name with `sync_names`. What a power cut does is in `power.rs`, what else can go wrong with a
//! sector in `faults.rs`. It knows no files' meaning, and no time.

#![expect(clippy::indexing_slicing, reason = "a file's content is whole sectors, and grows before it is written to")]

use super::power::Power;
use crate::prf::Draw;
use flaredb_kv::{AppliedState, MemoryStore};
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Bytes that the disk writes at once.
pub const SECTOR: usize = 4096;

pub(super) type Sector = [u8; SECTOR];

/// An older version of a sector is replaced at every so many syncs of the file.
const OLDER_EVERY: u64 = 4;

/// How many boxes of a sector's size are kept for the next write.
const SPARE_MAX: usize = 64;

/// Why the disk did not do it. Everything but `Full` is final for the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// EIO on a write. Part of it may be in the cache.
    #[error("{0}: write failed")]
    Write(String),
    /// EIO on a sync. What was to be synced may be gone, and a second sync would say that all is well.
    #[error("{0}: sync failed")]
    Sync(String),
    /// EIO on a read.
    #[error("{file}: sector {sector} cannot be read")]
    Read {
        /// Its name.
        file: String,
        /// Counted from the start of the file.
        sector: usize,
    },
    /// ENOSPC; nothing was written.
    #[error("{0}: no space left")]
    Full(String),
    /// There is no such file.
    #[error("{0}: no such file")]
    Missing(String),
    /// What is read back while the process runs is not what was written.
    #[error("{0}")]
    Corrupt(String),
    /// The power is off: the step that was under way did not happen, and nothing happens before `crash`.
    #[error("power cut")]
    PowerCut,
}

/// Names a file for as long as it exists, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(super) u64);

/// A member's disk. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct SimDisk(Rc<RefCell<Platter>>);

/// Everything on a disk, as it was: to be put back by [`SimDisk::restore`].
#[derive(Clone, Debug)]
pub struct Backup(Platter);

#[derive(Clone, Debug)]
pub(super) struct Platter {
    pub(super) seed: u64,
    pub(super) who: u64,
    pub(super) files: BTreeMap<FileId, File>,
    /// As programs see them.
    pub(super) names: BTreeMap<String, FileId>,
    pub(super) durable_names: BTreeMap<String, FileId>,
    pub(super) unsynced_names: Vec<NameChange>,
    next_file: u64,
    capacity: usize,
    pub(super) used: usize,
    pub(super) power: Power,
    pub(super) draw: Draw,
    pub(super) timing: super::timing::Timing,
    spare: Vec<Box<Sector>>,
    /// The rows that stamps stand for, by generation (`image.rs`).
    pub(super) images: BTreeMap<u64, (AppliedState, MemoryStore)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// Whole sectors, as programs see them.
    pub(super) content: Vec<u8>,
    pub(super) len: usize,
    pub(super) durable_len: usize,
    /// What was written since the last sync, by sector.
    pub(super) unsynced: BTreeMap<usize, Unsynced>,
    pub(super) syncs: u64,
    /// An older durable version of a sector.
    pub(super) older: BTreeMap<usize, Box<Sector>>,
    /// Sectors that cannot be read.
    pub(super) unreadable: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Unsynced {
    /// What is durable.
    pub(super) before: Box<Sector>,
    /// The bytes written lie in `from..to`.
    pub(super) from: usize,
    pub(super) to: usize,
    /// A sync of it has failed: further syncs skip it without a word.
    pub(super) lost: bool,
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Linked(String, FileId),
    Unlinked(String),
    Renamed(String, String, FileId),
}

impl NameChange {
    pub(super) fn apply(self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Linked(name, file) => {
                names.insert(name, file);
            }
            Self::Unlinked(name) => {
                names.remove(&name);
            }
            Self::Renamed(from, to, file) => {
                names.remove(&from);
                names.insert(to, file);
            }
        }
    }
}

impl SimDisk {
    /// The empty disk of node `who`, without a limit to its size.
    pub fn new(seed: u64, who: u64) -> Self {
        Self(Rc::new(RefCell::new(Platter {
            seed,
            who,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            next_file: 0,
            capacity: usize::MAX,
            used: 0,
            power: Power::default(),
            draw: Draw::new(seed, "disk", who),
            timing: super::timing::Timing::default(),
            spare: Vec::new(),
            images: BTreeMap::new(),
        })))
    }

    pub(super) fn platter(&self) -> RefMut<'_, Platter> {
        self.0.borrow_mut()
    }

    /// Makes an empty file, which takes the name from any that has it.
    pub fn create(&self, name: &str) -> Result<FileId, DiskError> {
        let platter = &mut *self.platter();
        platter.power.step()?;
        let file = FileId(platter.next_file);
        platter.next_file += 1;
        platter.files.insert(file, File::default());
        platter.change_name(NameChange::Linked(name.to_owned(), file));
        Ok(file)
    }

    /// The file of this name.
    pub fn find(&self, name: &str) -> Option<FileId> {
        self.platter().names.get(name).copied()
    }

    /// All names there are, sorted.
    pub fn list(&self) -> Vec<String> {
        self.platter().names.keys().cloned().collect()
    }

    /// Atomically, as POSIX has it; durable with `sync_names`.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let platter = &mut *self.platter();
        platter.power.step()?;
        let file = *platter.names.get(from).ok_or_else(|| DiskError::Missing(from.to_owned()))?;
        platter.change_name(NameChange::Renamed(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    /// Removes the name, and the file once that is durable.
    pub fn delete(&self, name: &str) -> Result<(), DiskError> {
        let platter = &mut *self.platter();
        platter.power.step()?;
        platter.change_name(NameChange::Unlinked(name.to_owned()));
        Ok(())
    }

    /// Makes creations, renames and deletions durable.
    pub fn sync_names(&self) -> Result<(), DiskError> {
        let platter = &mut *self.platter();
        platter.power.step()?;
        for change in std::mem::take(&mut platter.unsynced_names) {
            change.apply(&mut platter.durable_names);
        }
        platter.drop_nameless();
        Ok(())
    }

    /// Puts bytes into the cache, growing the file if they reach past its end.
    pub fn write(&self, file: FileId, offset: usize, bytes: &[u8]) -> Result<(), DiskError> {
        let platter = &mut *self.platter();
        platter.power.step()?;
        if std::mem::take(&mut platter.power.fail_write) {
            // A part of it may have come through.
            let part = platter.draw.below(len_u64(bytes.len()) + 1);
            platter.put(file, offset, bytes.get(..usize::try_from(part).unwrap_or(0)).unwrap_or(bytes))?;
            return Err(DiskError::Write(platter.name_of(file)));
        }
        platter.put(file, offset, bytes)
    }

    /// Reads what programs see. The range must lie within the file.
    pub fn read(&self, file: FileId, offset: usize, length: usize) -> Result<Vec<u8>, DiskError> {
        let platter = &*self.platter();
        platter.power.check()?;
        let name = || platter.name_of(file);
        let found = platter.files.get(&file).ok_or_else(|| DiskError::Missing(name()))?;
        let end = offset + length;
        if let Some(sector) = found.unreadable.range(offset / SECTOR..end.div_ceil(SECTOR)).next() {
            return Err(DiskError::Read { file: name(), sector: *sector });
        }
        let range = found.content.get(offset..end).filter(|_| end <= found.len);
        range.map(<[u8]>::to_vec).ok_or_else(|| DiskError::Corrupt(format!("{} ends before {end}", name())))
    }

    /// The file's length in bytes.
    pub fn len(&self, file: FileId) -> usize {
        self.platter().files.get(&file).map_or(0, |found| found.len)
    }

    /// Cuts the file, or grows it by zeros.
    pub fn set_len(&self, file: FileId, len: usize) -> Result<(), DiskError> {
        let platter = &mut *self.platter();
        platter.power.step()?;
        let old = platter.files.get(&file).map_or(0, |found| found.len);
        if len != old {
            // What is cut away reads as zeros should the old length survive a crash.
            let zeros = vec![0; old.abs_diff(len)];
            platter.put(file, old.min(len), &zeros)?;
        }
        if let Some(found) = platter.files.get_mut(&file) {
            found.len = len;
        }
        Ok(())
    }

    /// Makes the file's content and length durable.
    pub fn sync(&self, file: FileId) -> Result<(), DiskError> {
        let platter = &mut *self.platter();
        platter.power.step()?;
        if std::mem::take(&mut platter.power.fail_sync) {
            platter.lose_unsynced(file);
            return Err(DiskError::Sync(platter.name_of(file)));
        }
        let Some(found) = platter.files.get_mut(&file) else { return Ok(()) };
        found.durable_len = found.len;
        found.syncs += 1;
        for (sector, unsynced) in std::mem::take(&mut found.unsynced) {
            if unsynced.lost {
                found.unsynced.insert(sector, unsynced);
                continue;
            }
            if !found.unreadable.is_empty() {
                found.unreadable.remove(&sector);
            }
            // Of a sector that is written again and again, as the end of a log is, the version kept is not always the last.
            let replaced = if found.syncs.is_multiple_of(OLDER_EVERY) || !found.older.contains_key(&sector) {
                found.older.insert(sector, unsynced.before)
            } else {
                Some(unsynced.before)
            };
            if let Some(replaced) = replaced.filter(|_| platter.spare.len() < SPARE_MAX) {
                platter.spare.push(replaced);
            }
        }
        Ok(())
    }

    /// Sectors that the files may take together.
    pub fn set_capacity(&self, sectors: usize) {
        self.platter().capacity = sectors;
    }

    /// Sectors that the files take together.
    pub fn used(&self) -> usize {
        self.platter().used
    }

    /// True if no further sector can be had.
    pub fn is_full(&self) -> bool {
        let platter = self.platter();
        platter.used >= platter.capacity
    }

    /// Another, empty disk in its place.
    pub fn wipe(&self) {
        let platter = &mut *self.platter();
        platter.files.clear();
        platter.names.clear();
        platter.durable_names.clear();
        platter.unsynced_names.clear();
        platter.images.clear();
        platter.used = 0;
        platter.power.restore();
    }

    /// A copy of the files, as programs see them.
    pub fn backup(&self) -> Backup {
        Backup(self.platter().clone())
    }

    /// Puts the files of a backup in place of what is here. Random choices go on where they were.
    pub fn restore(&self, backup: &Backup) {
        let platter = &mut *self.platter();
        let Backup(old) = backup.clone();
        platter.files = old.files;
        platter.names = old.names;
        platter.images = old.images;
        platter.used = old.used;
        platter.unsynced_names.clear();
        platter.durable_names = platter.names.clone();
        for file in platter.files.values_mut() {
            file.unsynced.clear();
            file.durable_len = file.len;
        }
        platter.next_file = platter.next_file.max(old.next_file);
        platter.drop_nameless();
        platter.power.restore();
    }
}

impl Platter {
    fn change_name(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    /// Frees the files that have no name, neither in the cache nor on the disk.
    pub(super) fn drop_nameless(&mut self) {
        let named: BTreeSet<FileId> = self.names.values().chain(self.durable_names.values()).copied().collect();
        self.files.retain(|file, _| named.contains(file));
        self.used = self.files.values().map(File::sectors).sum();
    }

    pub(super) fn name_of(&self, file: FileId) -> String {
        let named = self.names.iter().find(|(_, id)| **id == file);
        named.map_or_else(|| format!("file {}", file.0), |(name, _)| name.clone())
    }

    fn put(&mut self, file: FileId, offset: usize, bytes: &[u8]) -> Result<(), DiskError> {
        let end = offset + bytes.len();
        let (sectors, name) = (end.div_ceil(SECTOR), |platter: &Self| platter.name_of(file));
        let Some(found) = self.files.get_mut(&file) else { return Err(DiskError::Missing(name(self))) };
        if sectors > found.sectors() {
            let more = sectors - found.sectors();
            if self.used + more > self.capacity {
                return Err(DiskError::Full(name(self)));
            }
            self.used += more;
            found.content.resize(sectors * SECTOR, 0);
        }
        let spare = &mut self.spare;
        let mut at = offset;
        while at < end {
            let (sector, from) = (at / SECTOR, at % SECTOR);
            let to = SECTOR.min(from + end - at);
            let old = sector_of(&found.content, sector);
            let unsynced = found.unsynced.entry(sector).or_insert_with(|| {
                let mut before = spare.pop().unwrap_or_else(|| Box::new([0; SECTOR]));
                before.copy_from_slice(old);
                Unsynced { before, from, to, lost: false }
            });
            // The whole page goes out again, so it is not lost any more.
            unsynced.lost = false;
            (unsynced.from, unsynced.to) = (unsynced.from.min(from), unsynced.to.max(to));
            at += to - from;
        }
        found.content[offset..end].copy_from_slice(bytes);
        found.len = found.len.max(end);
        Ok(())
    }

    /// What a failed sync leaves: of some sectors the disk keeps the old version, while programs go on reading the new one and
    /// further syncs pass them over; the others are un-synced as before.
    fn lose_unsynced(&mut self, file: FileId) {
        let Some(found) = self.files.get_mut(&file) else { return };
        for unsynced in found.unsynced.values_mut() {
            unsynced.lost = self.draw.hits(500_000);
        }
    }
}

impl File {
    pub(super) fn sectors(&self) -> usize {
        self.content.len() / SECTOR
    }
}

pub(super) fn sector_of(content: &[u8], sector: usize) -> &[u8] {
    &content[sector * SECTOR..(sector + 1) * SECTOR]
}

pub(super) fn len_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
