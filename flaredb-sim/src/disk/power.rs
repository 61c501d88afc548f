//! What a power cut does to a [`SimDisk`], when it comes, and the errors that writes and syncs are told to report.
//!
//! Every sector and every change of a name that was not synced has its own fate, whatever the order in which it was written:
//! that is what a disk with a cache may do.

#![expect(clippy::indexing_slicing, reason = "an un-synced sector lies within the file's content")]

use super::sectors::{DiskError, File, NameChange, Platter, SECTOR, SimDisk, Unsynced, len_u64};
use crate::prf::Draw;

/// What may become of bytes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// A sector is there as it was written, or it is not there at all.
    DropOnly,
    /// Or it is torn at any byte, or garbage stands where something was written.
    Corrupt,
    /// Or garbage stands in the whole sector, also where synced bytes were: more than the disk's promise allows, so that it
    /// counts as a latent fault.
    LoseSectors,
}

/// Whether the disk works.
#[derive(Clone, Debug, Default)]
pub(super) struct Power {
    off: bool,
    cut_after: Option<u64>,
    pub(super) fail_write: bool,
    pub(super) fail_sync: bool,
    crashes: u64,
}

impl Power {
    /// Before anything that changes the disk.
    pub(super) fn step(&mut self) -> Result<(), DiskError> {
        self.check()?;
        match &mut self.cut_after {
            None => Ok(()),
            Some(0) => {
                self.off = true;
                Err(DiskError::PowerCut)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), DiskError> {
        if self.off { Err(DiskError::PowerCut) } else { Ok(()) }
    }

    pub(super) fn restore(&mut self) {
        (self.off, self.cut_after, self.fail_write, self.fail_sync) = (false, None, false, false);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
    Torn,
    Garbage,
}

impl SimDisk {
    /// Cuts the power after this many further steps (writes, syncs, changes of names): so a crash falls inside of whatever is
    /// under way then. `crash` is to be called when [`DiskError::PowerCut`] comes back.
    pub fn cut_power_after(&self, steps: u64) {
        self.platter().power.cut_after = Some(steps);
    }

    /// The next write reports EIO.
    pub fn fail_next_write(&self) {
        self.platter().power.fail_write = true;
    }

    /// The next sync reports EIO.
    pub fn fail_next_sync(&self) {
        self.platter().power.fail_sync = true;
    }

    /// True after a power cut, until `crash`.
    pub fn is_off(&self) -> bool {
        self.platter().power.check().is_err()
    }

    /// Takes back what was planned: the power stays on, writes and syncs succeed.
    pub fn forget_planned(&self) {
        self.platter().power.restore();
    }

    /// The machine loses its power and has it again. (A process that dies alone loses nothing that it wrote: nothing is to be
    /// called for that.)
    pub fn crash(&self, mode: CrashMode) {
        let platter = &mut *self.platter();
        platter.power.restore();
        platter.power.crashes += 1;
        // A disk that was just about to write everything, or that had hardly begun, is as likely as one in between.
        let kept_percent = 25 * Fates::new(platter, u64::MAX, 0).draw.below(5);
        let names = std::mem::take(&mut platter.unsynced_names);
        let mut fates = Fates::new(platter, u64::MAX, 1);
        for change in names {
            if fates.draw.below(100) < kept_percent {
                NameChange::apply(change, &mut platter.durable_names);
            }
        }
        platter.names = platter.durable_names.clone();
        platter.drop_nameless();
        let mut files = std::mem::take(&mut platter.files);
        for (id, file) in &mut files {
            if file.unsynced.is_empty() && file.len == file.durable_len {
                continue;
            }
            let mut length = Fates::new(platter, id.0, u64::MAX);
            if length.draw.below(100) >= kept_percent {
                file.len = file.durable_len;
            }
            file.durable_len = file.len;
            for (sector, unsynced) in std::mem::take(&mut file.unsynced) {
                Fates::new(platter, id.0, len_u64(sector)).decide(file, sector, unsynced, mode, kept_percent);
            }
            file.cut_to_length();
        }
        platter.files = files;
        platter.drop_nameless();
    }
}

/// The stream of choices for one sector in one crash.
struct Fates {
    draw: Draw,
}

impl Fates {
    fn new(platter: &Platter, file: u64, sector: u64) -> Self {
        let Platter { seed, who, .. } = platter;
        let mut place = Draw::new(file, "sector", sector);
        Self { draw: Draw::new(seed ^ place.value(), "crash", who ^ platter.power.crashes.rotate_left(32)) }
    }

    fn decide(mut self, file: &mut File, sector: usize, unsynced: Unsynced, mode: CrashMode, kept_percent: u64) {
        let draw = &mut self.draw;
        let Unsynced { before, from, to, lost } = unsynced;
        let fate = if lost {
            Fate::Dropped
        } else if draw.below(100) < kept_percent {
            Fate::Kept
        } else if mode == CrashMode::DropOnly {
            Fate::Dropped
        } else {
            *draw.pick(&[Fate::Dropped, Fate::Dropped, Fate::Torn, Fate::Garbage])
        };
        let base = sector * SECTOR;
        let content = &mut file.content[base..base + SECTOR];
        match fate {
            Fate::Kept => {}
            Fate::Dropped => content.copy_from_slice(&before[..]),
            Fate::Torn => {
                let cut = from + usize::try_from(draw.below(len_u64(to - from) + 1)).unwrap_or(0);
                if draw.hits(500_000) {
                    content[cut..].copy_from_slice(&before[cut..]);
                } else {
                    content[..cut].copy_from_slice(&before[..cut]);
                }
            }
            Fate::Garbage => {
                let range = if mode == CrashMode::LoseSectors { 0..SECTOR } else { from..to };
                for bytes in content[range].chunks_mut(8) {
                    let garbage = draw.value().to_le_bytes();
                    bytes.copy_from_slice(&garbage[..bytes.len()]);
                }
            }
        }
    }
}

impl File {
    fn cut_to_length(&mut self) {
        let sectors = self.len.div_ceil(SECTOR);
        self.content.truncate(sectors * SECTOR);
        self.older.retain(|sector, _| *sector < sectors);
        self.unreadable.retain(|sector| *sector < sectors);
    }
}
