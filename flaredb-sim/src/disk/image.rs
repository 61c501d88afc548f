//! The state machine's rows as they stand on the disk: some state after a batch, older than or as old as what is applied in
//! memory. A crash falls back to it and the log is replayed from there.
//!
//! One file with two slots, used in turn: the slot's body is written and synced, then its stamp, which makes it count. The rows
//! themselves are kept as a copy-on-write clone beside the disk; body and stamp stand for them, so that whatever strikes their
//! sectors strikes the rows. A damaged body under a good stamp is damage and never an older state.

use super::bytes::{Taker, checksum, put_number, seal, unseal};
use super::sectors::{DiskError, FileId, SECTOR, SimDisk};
use flaredb_kv::{AppliedState, MemoryStore};
use flaredb_raft::EntryId;

pub(super) const NAME: &str = "rows";
const SEED: u64 = 0x726f_7773;
const BODY_SECTORS: usize = 3;
const SLOT_BYTES: usize = (1 + BODY_SECTORS) * SECTOR;
/// Older states are kept for this long, counted in newer ones: a stale stamp may name one.
const KEPT: u64 = 4;

/// What a slot's stamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    generation: u64,
    pub(super) applied: AppliedState,
    /// Position of the snapshot that the rows come from; 0@0 if from none.
    pub(super) base: EntryId,
}

/// Write access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    file: FileId,
    /// The durable state.
    pub(super) stamp: Stamp,
    /// Written and not yet made to count.
    next: Option<Stamp>,
}

impl Image {
    /// The empty state of a new member; counts when its name is synced.
    pub(super) fn create(disk: &SimDisk) -> Result<(), DiskError> {
        let file = disk.create(NAME)?;
        disk.write(file, 0, &[0; 2 * SLOT_BYTES])?;
        let applied = AppliedState { index: 0, term: 0, revision: 1, compact_revision: -1 };
        let stamp = Stamp { generation: 0, applied, base: EntryId::default() };
        let mut image = Self { file, stamp, next: None };
        image.save(disk, applied, EntryId::default(), MemoryStore::new())?;
        image.sync(disk)
    }

    /// Writes the rows beside the durable ones.
    pub(super) fn save(
        &mut self,
        disk: &SimDisk,
        applied: AppliedState,
        base: EntryId,
        store: MemoryStore,
    ) -> Result<(), DiskError> {
        let stamp = Stamp { generation: self.stamp.generation + 1, applied, base };
        disk.write(self.file, stamp.slot() + SECTOR, &body(stamp.generation))?;
        disk.keep_rows(stamp.generation, applied, store);
        self.next = Some(stamp);
        Ok(())
    }

    /// Makes them durable, then makes them count.
    pub(super) fn sync(&mut self, disk: &SimDisk) -> Result<(), DiskError> {
        let Some(stamp) = self.next else { return Ok(()) };
        disk.sync(self.file)?;
        disk.write(self.file, stamp.slot(), &stamp.encode())?;
        disk.sync(self.file)?;
        (self.stamp, self.next) = (stamp, None);
        Ok(())
    }

    /// A new, empty state machine in place of a damaged one.
    pub(super) fn recreate(disk: &SimDisk) -> Result<Self, DiskError> {
        Self::create(disk)?;
        disk.sync_names()?;
        Self::read(disk).map(|(image, _)| image).map_err(DiskError::Corrupt)
    }

    /// What the disk holds. The error says what is damaged.
    pub(super) fn read(disk: &SimDisk) -> Result<(Self, MemoryStore), String> {
        let file = disk.find(NAME).ok_or("the state machine's rows are missing")?;
        let mut stamps = Vec::new();
        for slot in [0, SLOT_BYTES] {
            let content = disk.read(file, slot, SECTOR).map_err(|error| error.to_string())?;
            stamps.extend(Stamp::decode(&content).filter(|stamp| stamp.slot() == slot));
        }
        let stamp =
            stamps.into_iter().max_by_key(|stamp| stamp.generation).ok_or("the state machine's rows are damaged")?;
        let found = disk.read(file, stamp.slot() + SECTOR, SLOT_BYTES - SECTOR).map_err(|error| error.to_string())?;
        let damaged = || format!("the state machine's rows at {} are damaged", stamp.applied.index);
        if found != body(stamp.generation) {
            return Err(damaged());
        }
        let store = disk.kept_rows(stamp.generation, stamp.applied).ok_or_else(damaged)?;
        Ok((Self { file, stamp, next: None }, store))
    }
}

/// How far the rows have come; 0@0 if there are none.
pub(super) fn applied(image: Option<&Image>) -> EntryId {
    image.map_or(EntryId::default(), |image| {
        let AppliedState { index, term, .. } = image.stamp.applied;
        EntryId { index, term }
    })
}

impl Stamp {
    fn slot(&self) -> usize {
        if self.generation.is_multiple_of(2) { 0 } else { SLOT_BYTES }
    }

    fn encode(&self) -> Vec<u8> {
        let Self { generation, applied, base } = self;
        let (revision, compacted) = (applied.revision.cast_unsigned(), applied.compact_revision.cast_unsigned());
        let mut out = Vec::new();
        for number in [*generation, applied.index, applied.term, revision, compacted, base.index, base.term] {
            put_number(&mut out, number);
        }
        seal(SEED, &out)
    }

    fn decode(sector: &[u8]) -> Option<Self> {
        let mut rest = Taker(unseal(SEED, sector)?);
        let generation = rest.number()?;
        let (index, term) = (rest.number()?, rest.number()?);
        let (revision, compact_revision) = (rest.number()?.cast_signed(), rest.number()?.cast_signed());
        let base = EntryId { index: rest.number()?, term: rest.number()? };
        Some(Self { generation, applied: AppliedState { index, term, revision, compact_revision }, base })
    }
}

/// Bytes that are like no other generation's, in any sector.
fn body(generation: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT_BYTES - SECTOR);
    let mut number = checksum(generation, b"rows");
    while out.len() < SLOT_BYTES - SECTOR {
        number = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17) ^ generation;
        put_number(&mut out, number);
    }
    out
}

impl SimDisk {
    fn keep_rows(&self, generation: u64, applied: AppliedState, store: MemoryStore) {
        let images = &mut self.platter().images;
        images.insert(generation, (applied, store));
        images.retain(|kept, _| kept + KEPT > generation);
    }

    fn kept_rows(&self, generation: u64, applied: AppliedState) -> Option<MemoryStore> {
        let platter = self.platter();
        platter.images.get(&generation).filter(|(found, _)| *found == applied).map(|(_, store)| store.clone())
    }
}
