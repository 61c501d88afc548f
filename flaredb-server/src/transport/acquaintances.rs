//! What this member remembers of the others' disks, and what it tells of its own: how a disk that was replaced, wiped or
//! restored from an old backup is noticed before it votes.
//!
//! Each data folder has a random storage id, and an incarnation that rises by one at every start. Every member keeps, durably,
//! the last pair it saw of each other one, and says in its greeting what it keeps. Who is told of another id than its own, or
//! of a higher incarnation, holds less than it once promised ([`Standing::Replaced`]). It must have noted that durably before
//! its new pair is accepted in the place of the old one: else a crash in between would make it forget.

use flaredb_raft::EntryId;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

const FILE: &str = "acquaintances";
const MAGIC: &[u8; 8] = b"FLRACQ1\n";
const RECORD_BYTES: usize = 24;

/// What a member's disk is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Drawn when the data folder was made. Never 0.
    pub storage_id: u64,
    /// Rises by one at every start on it.
    pub incarnation: u64,
}

/// What another member's memory says of this one's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It remembers nothing: this member is new to it.
    First,
    /// It is the disk that it remembers.
    Known,
    /// It is another disk, or an older state of it: what was promised on the other one is gone.
    Replaced,
}

/// Members and their disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquaintances(pub(super) BTreeMap<u64, Credentials>);

impl Acquaintances {
    /// What these say of a member that is this disk.
    pub fn standing(&self, member: u64, now: Credentials) -> Standing {
        match self.0.get(&member) {
            None => Standing::First,
            Some(known) if known.storage_id == now.storage_id && known.incarnation <= now.incarnation => {
                Standing::Known
            }
            Some(_) => Standing::Replaced,
        }
    }

    /// A member has said who it is. `aware`: it knows, durably, that it must recover. True if anything has changed.
    fn meet(&mut self, member: u64, now: Credentials, aware: bool) -> bool {
        let accepted = aware || self.standing(member, now) != Standing::Replaced;
        accepted && self.0.insert(member, now) != Some(now)
    }

    /// What another member remembers: for members that this one has never met, and for later starts of the same disks.
    fn hear(&mut self, others: &Self, not_of: [u64; 2]) -> bool {
        let mut changed = false;
        for (member, told) in others.0.iter().filter(|(member, _)| !not_of.contains(member)) {
            let known = self.0.entry(*member).or_insert(Credentials { storage_id: told.storage_id, incarnation: 0 });
            if known.storage_id == told.storage_id && known.incarnation < told.incarnation {
                known.incarnation = told.incarnation;
                changed = true;
            }
        }
        changed
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (member, Credentials { storage_id, incarnation }) in &self.0 {
            for number in [member, storage_id, incarnation] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (rest, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(rest) != u32::from_le_bytes(*crc) {
            return None;
        }
        let records = rest.strip_prefix(MAGIC)?.chunks(RECORD_BYTES);
        let records = records.map(|record| {
            let (member, record) = record.split_first_chunk()?;
            let (storage_id, record) = record.split_first_chunk()?;
            let incarnation = u64::from_le_bytes(record.try_into().ok()?);
            let credentials = Credentials { storage_id: u64::from_le_bytes(*storage_id), incarnation };
            Some((u64::from_le_bytes(*member), credentials))
        });
        records.collect::<Option<_>>().map(Self)
    }
}

/// A term and a position that a member vouches for; None while it does not know its own.
pub(crate) type Position = Option<(u64, EntryId)>;

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
    aware: bool,
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
            Ok(bytes) => Acquaintances::decode(&bytes).unwrap_or_else(|| {
                tracing::error!(path = %path.display(), "what is remembered of the other members' disks is damaged, it begins anew");
                Acquaintances::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Acquaintances::default(),
            Err(error) => return Err(error),
        };
        let state = State { known, aware: false, position: None };
        Ok(Self { folder: folder.to_path_buf(), own, state: Mutex::new(state) })
    }

    pub(super) fn own(&self) -> Credentials {
        self.own
    }

    pub(super) fn known(&self) -> Acquaintances {
        self.lock().known.clone()
    }

    pub(crate) fn is_aware(&self) -> bool {
        self.lock().aware
    }

    /// That this member must recover is on its disk.
    pub(crate) fn set_aware(&self) {
        self.lock().aware = true;
    }

    pub(super) fn position(&self) -> Position {
        self.lock().position
    }

    /// What greetings say from now on.
    pub(crate) fn set_position(&self, position: Position) {
        self.lock().position = position;
    }

    /// A member has said who it is and what it remembers. Blocks until that is durable, if it is new.
    pub(super) fn meet(
        &self,
        (me, member): (u64, u64),
        credentials: Credentials,
        aware: bool,
        heard: &Acquaintances,
    ) -> io::Result<()> {
        let mut state = self.lock();
        let mut known = state.known.clone();
        let met = known.meet(member, credentials, aware);
        if known.hear(heard, [me, member]) || met {
            save(&self.folder, &known.encode())?;
            state.known = known;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole new content or the whole old one, whatever happens.
fn save(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{FILE}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(storage_id: u64, incarnation: u64) -> Credentials {
        Credentials { storage_id, incarnation }
    }

    #[test]
    fn another_disk_and_an_older_state_of_the_same_are_told_apart_from_a_later_start() {
        let mut known = Acquaintances::default();
        assert_eq!(known.standing(7, disk(1, 1)), Standing::First);
        assert!(known.meet(7, disk(1, 5), false));
        for (now, standing) in [
            (disk(1, 5), Standing::Known),
            (disk(1, 6), Standing::Known),
            (disk(1, 4), Standing::Replaced),
            (disk(2, 9), Standing::Replaced),
        ] {
            assert_eq!(known.standing(7, now), standing, "{now:?}");
        }
    }

    #[test]
    fn a_replaced_disk_is_taken_over_only_once_it_knows() {
        let mut known = Acquaintances::default();
        known.meet(7, disk(1, 5), false);
        assert!(!known.meet(7, disk(2, 1), false));
        assert_eq!(known.standing(7, disk(2, 1)), Standing::Replaced);
        assert!(known.meet(7, disk(2, 1), true));
        assert_eq!(known.standing(7, disk(2, 2)), Standing::Known);
        assert!(!known.meet(7, disk(2, 1), true), "nothing new");
    }

    #[test]
    fn hearsay_adds_and_never_contradicts() {
        let mut known = Acquaintances::default();
        known.meet(7, disk(1, 5), false);
        let mut heard = Acquaintances::default();
        for (member, credentials) in [(1, disk(9, 9)), (2, disk(9, 9)), (7, disk(3, 8)), (8, disk(4, 4))] {
            heard.meet(member, credentials, false);
        }
        assert!(known.hear(&heard, [1, 2]));
        assert_eq!(known.0, BTreeMap::from([(7, disk(1, 5)), (8, disk(4, 4))]));
        assert!(!known.hear(&heard, [1, 2]));
    }

    #[test]
    fn memory_survives_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::open(folder.path(), disk(5, 5)).unwrap();
        memory
            .meet((1, 2), disk(6, 6), false, &Acquaintances(BTreeMap::from([(3, disk(7, 7)), (1, disk(5, 4))])))
            .unwrap();
        let again = Memory::open(folder.path(), disk(5, 6)).unwrap();
        assert_eq!(again.known().0, BTreeMap::from([(2, disk(6, 6)), (3, disk(7, 7))]));
        let good = again.known().encode();
        assert_eq!(Acquaintances::decode(&good), Some(again.known()));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(Acquaintances::decode(&bad), None, "byte {at}");
            assert_eq!(Acquaintances::decode(&good[..at]), None, "cut at {at}");
        }
    }
}
