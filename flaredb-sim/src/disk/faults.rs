//! What goes wrong with sectors that were durable: found by whoever reads them next, or by nobody.
//!
//! A fault can be taken back as long as nothing was written since: so a caller can look what it would destroy first.

#![expect(clippy::indexing_slicing, reason = "a sector that was chosen lies within its file")]

use super::sectors::{FileId, Platter, SECTOR, Sector, SimDisk, len_u64, sector_of};
use crate::prf::Draw;

/// A fault of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectorFault {
    /// A bit is not what was written.
    Rot,
    /// A write went to another sector of the file or of another file: that one has its content, the right one an older version.
    Misdirected,
    /// A write never reached the platter: an older version is there.
    Stale,
    /// Reading reports EIO, until it is written again.
    Unreadable,
}

/// All of them, to choose from.
pub const SECTOR_FAULTS: [SectorFault; 4] =
    [SectorFault::Rot, SectorFault::Misdirected, SectorFault::Stale, SectorFault::Unreadable];

/// A fault that was injected.
#[derive(Debug)]
pub struct Injected {
    /// Which, for a trace.
    pub what: String,
    before: Vec<(FileId, usize, Box<Sector>, bool)>,
}

type Place = (FileId, usize);

impl SimDisk {
    /// Injects a fault into one of the files whose names are `wanted`, at a place of `draw`'s choice. None if there is nothing
    /// that it could strike (no such file, or no older version of the sector).
    pub fn inject(&self, fault: SectorFault, wanted: impl Fn(&str) -> bool, draw: &mut Draw) -> Option<Injected> {
        let platter = &mut *self.platter();
        let places = platter.places(&wanted);
        if places.is_empty() {
            return None;
        }
        let (file, sector) = *draw.pick(&places);
        let name = format!("{} sector {sector}", platter.name_of(file));
        let mut before = vec![platter.keep(file, sector)];
        let what = match fault {
            SectorFault::Rot => {
                let bit = usize::try_from(draw.below(len_u64(SECTOR * 8))).unwrap_or(0);
                platter.durable_sector(file, sector)[bit / 8] ^= 1 << (bit % 8);
                format!("bit {bit} of {name} flipped")
            }
            SectorFault::Stale => {
                let older = platter.older(file, sector)?;
                platter.durable_sector(file, sector).copy_from_slice(&older[..]);
                format!("{name} has an older version")
            }
            SectorFault::Misdirected => {
                let (to_file, to_sector) = *draw.pick(&places);
                if (to_file, to_sector) == (file, sector) {
                    return None;
                }
                before.push(platter.keep(to_file, to_sector));
                let older = platter.older(file, sector)?;
                let mut content = Box::new([0; SECTOR]);
                content.copy_from_slice(platter.durable_sector(file, sector));
                platter.durable_sector(file, sector).copy_from_slice(&older[..]);
                platter.durable_sector(to_file, to_sector).copy_from_slice(&content[..]);
                format!("{name} went to {} sector {to_sector}", platter.name_of(to_file))
            }
            SectorFault::Unreadable => {
                platter.files.get_mut(&file)?.unreadable.insert(sector);
                format!("{name} cannot be read")
            }
        };
        Some(Injected { what, before })
    }

    /// Flips one bit of a file's durable content. False if there is no such byte.
    pub fn rot_at(&self, name: &str, offset: usize, bit: u8) -> bool {
        let platter = &mut *self.platter();
        let Some(file) = platter.durable_names.get(name).copied() else { return false };
        if platter.files.get(&file).is_none_or(|found| offset >= found.durable_len) {
            return false;
        }
        platter.durable_sector(file, offset / SECTOR)[offset % SECTOR] ^= 1 << (bit % 8);
        true
    }

    /// The sector that holds this byte of a file's durable content cannot be read until it is written again. False if there is
    /// no such byte.
    pub fn unreadable_at(&self, name: &str, offset: usize) -> bool {
        let platter = &mut *self.platter();
        let file = platter.durable_names.get(name).and_then(|file| platter.files.get_mut(file));
        match file.filter(|found| offset < found.durable_len) {
            Some(found) => {
                found.unreadable.insert(offset / SECTOR);
                true
            }
            None => false,
        }
    }

    /// Undoes a fault. Nothing must have been written to the disk since.
    pub fn take_back(&self, injected: Injected) {
        let platter = &mut *self.platter();
        for (file, sector, content, unreadable) in injected.before {
            platter.durable_sector(file, sector).copy_from_slice(&content[..]);
            if let Some(file) = platter.files.get_mut(&file).filter(|_| !unreadable) {
                file.unreadable.remove(&sector);
            }
        }
    }
}

impl Platter {
    /// All durable sectors of these files.
    fn places(&self, wanted: &impl Fn(&str) -> bool) -> Vec<Place> {
        let mut places = Vec::new();
        for (_, id) in self.durable_names.iter().filter(|(name, _)| wanted(name)) {
            let Some(file) = self.files.get(id) else { continue };
            places.extend((0..file.durable_len.min(file.content.len()).div_ceil(SECTOR)).map(|sector| (*id, sector)));
        }
        places
    }

    fn durable_sector(&mut self, file: FileId, sector: usize) -> &mut [u8] {
        let Some(file) = self.files.get_mut(&file) else { return &mut [] };
        match file.unsynced.get_mut(&sector) {
            Some(unsynced) => &mut unsynced.before[..],
            None => &mut file.content[sector * SECTOR..(sector + 1) * SECTOR],
        }
    }

    fn keep(&self, file: FileId, sector: usize) -> (FileId, usize, Box<Sector>, bool) {
        let mut kept = Box::new([0; SECTOR]);
        let mut unreadable = false;
        if let Some(found) = self.files.get(&file) {
            unreadable = found.unreadable.contains(&sector);
            match found.unsynced.get(&sector) {
                Some(unsynced) => kept.copy_from_slice(&unsynced.before[..]),
                None => kept.copy_from_slice(sector_of(&found.content, sector)),
            }
        }
        (file, sector, kept, unreadable)
    }

    fn older(&self, file: FileId, sector: usize) -> Option<Box<Sector>> {
        self.files.get(&file)?.older.get(&sector).cloned()
    }
}
