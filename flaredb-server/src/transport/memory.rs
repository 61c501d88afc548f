//! What this member tells of its own disk, and the file in which it remembers the others': `<member>/acquaintances`.
//!
//! The decisions are `flaredb_replica::acquaintance`'s. Here is that nothing is believed before it is durable: a greeting is
//! remembered before its connection is used, and a former disk counts as taken over when that is in the file.

use flaredb_raft::EntryId;
use flaredb_replica::acquaintance::{Acquaintances, Credentials, Standing};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

const FILE: &str = "acquaintances";

/// A term and a position that a member vouches for; None while it does not know its own.
pub type Position = Option<(u64, EntryId)>;

/// This member's own credentials and memory. Shared by driver and transport.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    own: Credentials,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    known: Acquaintances,
    position: Position,
}

impl Memory {
    /// Reads what is remembered in a member's folder.
    ///
    /// # Errors
    /// The operating system's. A damaged file is no error: it is said, and the memory begins anew.
    pub fn open(folder: &Path, own: Credentials) -> io::Result<Self> {
        let path = folder.join(FILE);
        let known = match fs::read(&path) {
            Ok(bytes) => decode(&bytes).unwrap_or_else(|| {
                let path = path.display();
                tracing::error!(%path, "what is remembered of the other members' disks is damaged, it begins anew");
                Acquaintances::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Acquaintances::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { folder: folder.to_path_buf(), own, state: Mutex::new(State { known, position: None }) })
    }

    pub(super) fn own(&self) -> Credentials {
        self.own
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
    /// what it remembers of this member, and as whom.
    pub(super) fn meet(
        &self,
        (me, member): (u64, u64),
        shown: Credentials,
        told: &Acquaintances,
    ) -> io::Result<(Standing, Option<Credentials>)> {
        let mut state = self.lock();
        let mut known = state.known.clone();
        let met = known.meet(member, shown, &told.taken_over().collect::<Vec<_>>());
        if known.merge(me, told.others()) || met {
            save(&self.folder, &known)?;
            state.known = known;
        }
        let former = told.of(me);
        Ok((state.known.standing(self.own, former), former))
    }

    /// What was promised on these disks is this member's now, durably. Blocks until that is remembered.
    pub(crate) fn take_over(&self, former: &[Credentials]) -> io::Result<()> {
        let mut state = self.lock();
        let mut known = state.known.clone();
        for credentials in former {
            known.take_over(*credentials);
        }
        save(&self.folder, &known)?;
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

/// The whole new content or the whole old one, whatever happens.
fn save(folder: &Path, known: &Acquaintances) -> io::Result<()> {
    let mut bytes = known.encode();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let beside = folder.join(format!("{FILE}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_survives_a_start_and_damage_is_noticed() {
        let disk = |storage_id, incarnation| Credentials { storage_id, incarnation };
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path(), disk(5, 5)).unwrap();
        let mut told = Acquaintances::default();
        told.meet(1, disk(4, 4), &[]);
        told.meet(3, disk(7, 7), &[]);
        let met = memory.meet((1, 2), disk(6, 6), &told).unwrap();
        assert_eq!(met, (Standing::Replaced, Some(disk(4, 4))));
        memory.take_over(&[disk(4, 4)]).unwrap();
        let again = Memory::open(folder.path(), disk(5, 6)).unwrap();
        assert_eq!(again.known(), memory.known());
        assert_eq!((again.known().of(2), again.known().of(3)), (Some(disk(6, 6)), Some(disk(7, 7))));
        assert_eq!(again.meet((1, 2), disk(6, 6), &told).unwrap().0, Standing::Known);
        let path = folder.path().join(FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(decode(&bad), None, "byte {at}");
            assert_eq!(decode(&good[..at]), None, "cut at {at}");
        }
    }
}
