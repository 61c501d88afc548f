//! What this member tells of its own starts, and the file in which it remembers them and the others': `<member>/acquaintances`.
//!
//! The decisions are `flaredb_replica::acquaintance`'s. Here is that nothing is believed before it is durable: a start is in
//! the file before anybody is greeted, a greeting before its connection is used, and a former start counts as taken over when
//! that is in the file. A write that fails is final, as the log's: what a second try would find on the disk is not known.

use crate::disk;
use flaredb_raft::EntryId;
use flaredb_replica::acquaintance::{Acquaintances, Standing, StartId};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

const FILE: &str = "acquaintances";

/// A term and a position that a member vouches for; None while it does not know its own.
pub type Position = Option<(u64, EntryId)>;

/// The file could not be read or made durable. Final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct MemoryError {
    /// The file.
    pub path: PathBuf,
    /// What failed.
    pub what: String,
}

/// This member's lineage and memory. Shared by driver and transport.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    known: Acquaintances,
    position: Position,
    /// Nothing is written after it.
    failed: Option<MemoryError>,
}

impl Memory {
    /// Reads what is remembered in a member's folder, and makes this start durable in it.
    ///
    /// # Errors
    /// The operating system's. A damaged file is no error: it is said, and the memory begins anew. The others then ask this
    /// member to recover.
    pub fn open(folder: &Path, own: StartId) -> Result<Self, MemoryError> {
        let path = folder.join(FILE);
        let known = match fs::read(&path) {
            Ok(bytes) => decode(&bytes).unwrap_or_else(|| {
                let path = path.display();
                tracing::error!(%path, "what is remembered of the members' starts is damaged or of another version, it begins anew");
                Acquaintances::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Acquaintances::default(),
            Err(error) => return Err(MemoryError { path, what: error.to_string() }),
        };
        let state = State { known: known.clone(), position: None, failed: None };
        let memory = Self { folder: folder.to_path_buf(), state: Mutex::new(state) };
        let mut begun = known;
        begun.begin(own);
        memory.remember(&mut memory.lock(), begun)?;
        Ok(memory)
    }

    pub(super) fn known(&self) -> Acquaintances {
        self.lock().known.clone()
    }

    pub(super) fn position(&self) -> Position {
        self.lock().position
    }

    /// What greetings say from now on.
    pub(crate) fn set_position(&self, position: Position) {
        self.lock().position = position;
    }

    /// `member` has greeted `me`: it has shown itself, and what it remembers. Blocks until that is durable, if it is new. Tells
    /// what it remembers of this member.
    pub(super) fn meet(&self, (me, member): (u64, u64), told: &Acquaintances) -> Result<Standing, MemoryError> {
        let mut state = self.lock();
        let mut known = state.known.clone();
        let met = known.meet(member, told.lineage());
        if known.merge(me, told.others()) || met {
            self.remember(&mut state, known)?;
        }
        Ok(state.known.standing(told.heads_of(me)))
    }

    /// What these starts promised is this member's now, durably. Blocks until that is remembered.
    pub(crate) fn take_over(&self, former: &[StartId]) -> Result<(), MemoryError> {
        let mut state = self.lock();
        let mut known = state.known.clone();
        known.take_over(former);
        self.remember(&mut state, known)
    }

    fn remember(&self, state: &mut State, known: Acquaintances) -> Result<(), MemoryError> {
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if let Err(error) = save(&self.folder, &known) {
            let error = MemoryError { path: self.folder.join(FILE), what: error.to_string() };
            state.failed = Some(error.clone());
            return Err(error);
        }
        state.known = known;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode(bytes: &[u8]) -> Option<Acquaintances> {
    let (known, crc) = bytes.split_last_chunk::<4>()?;
    (crc32fast::hash(known) == u32::from_le_bytes(*crc)).then(|| Acquaintances::decode(known).ok())?
}

fn save(folder: &Path, known: &Acquaintances) -> io::Result<()> {
    let mut bytes = known.encode();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    disk::replace(folder, FILE, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage_of(own: u64) -> Acquaintances {
        let mut known = Acquaintances::default();
        known.begin(StartId(own));
        known
    }

    #[test]
    fn memory_survives_a_start_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path(), StartId(5)).unwrap();
        let mut told = lineage_of(6);
        told.meet(1, &[StartId(4)]);
        told.meet(3, &[StartId(7)]);
        let met = memory.meet((1, 2), &told).unwrap();
        assert_eq!(met, Standing::Replaced { former: vec![StartId(4)] });
        memory.take_over(&[StartId(4)]).unwrap();
        let again = Memory::open(folder.path(), StartId(8)).unwrap();
        assert_eq!(again.known().lineage(), [4, 5, 8].map(StartId));
        assert_eq!((again.known().heads_of(2), again.known().heads_of(3)), (&[StartId(6)][..], &[StartId(7)][..]));
        assert_eq!(again.meet((1, 2), &told).unwrap(), Standing::Known);
        let path = folder.path().join(FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(decode(&bad), None, "byte {at}");
            assert_eq!(decode(&good[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_failed_write_is_final() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path(), StartId(5)).unwrap();
        let in_the_way = folder.path().join("acquaintances.new");
        fs::create_dir(&in_the_way).unwrap();
        let error = memory.meet((1, 2), &lineage_of(6)).unwrap_err();
        assert!(error.to_string().contains("acquaintances"), "{error}");
        fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(memory.meet((1, 2), &lineage_of(6)), Err(error.clone()), "there is no second try");
        assert_eq!(memory.take_over(&[StartId(9)]), Err(error));
        assert!(Memory::open(folder.path(), StartId(7)).unwrap().known().heads_of(2).is_empty());
    }
}
