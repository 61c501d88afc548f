//! Which folder holds the state machine's rows, and how the state of a received snapshot takes its place.
//!
//! A snapshot is written to `incoming-<index>-<term>/`, a store of its own that nobody reads ([`Staging`]). When it is whole
//! and durable it waits there ([`Staged`]). To take the place of the state that there is
//! 1. its folder is renamed to `data-<index>-<term>/` ([`Staged::settle`]),
//! 2. the file `current-data` is replaced by one that names this folder ([`Settled::make_current`]): from here on the new
//!    state counts,
//! 3. the log is reset to the snapshot's position.
//!
//! A crash before 2 leaves the old state, and a folder that [`DataDir::remove_leftovers`] removes. After a crash between 2
//! and 3 the log still ends where the old state did; [`crate::RaftLog::open`] sees from `current-data` that the reset is
//! missing and makes up for it. The folders' names are never used again while a store may be open on them: RocksDB works with
//! paths, and the old store's last reader may go long after the switch.

use crate::data_dir::{read_optional, sync_dir, write_file};
use crate::data_store::holds_nothing;
use crate::layout::{CURRENT_DATA_FILE, DATA_DIR, INCOMING_PREFIX};
use crate::repair::set_aside;
use crate::suspect::Suspect;
use crate::{DataDir, DataOptions, DataStore, OpenError};
use bytes::Bytes;
use flaredb_kv::{Batch, Change, Kv, OrderedStore as _, StoreError};
use flaredb_raft::EntryId;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder in use, and the position of the snapshot that it began with (0@0: none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CurrentData {
    pub(crate) folder: String,
    pub(crate) base: EntryId,
}

/// What `current-data` says; without it the folder is `data/`, which began empty.
pub(crate) fn current(member: &Path) -> Result<CurrentData, OpenError> {
    let path = member.join(CURRENT_DATA_FILE);
    match read_optional(&path)? {
        None => Ok(CurrentData { folder: DATA_DIR.to_owned(), base: EntryId::default() }),
        Some(text) => parse(&text).ok_or_else(|| OpenError::Inconsistent {
            path,
            what: "the file that names the folder of the state machine's rows is damaged".to_owned(),
        }),
    }
}

fn text(base: EntryId) -> String {
    let body = format!("folder: {}\nindex: {}\nterm: {}\n", folder_name(base), base.index, base.term);
    let crc = crc32fast::hash(body.as_bytes());
    format!("{body}crc32: {crc:08x}\n")
}

fn parse(found: &str) -> Option<CurrentData> {
    let field = |name: &str| found.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let base = EntryId { index: field("index")?.parse().ok()?, term: field("term")?.parse().ok()? };
    // Everything in it follows from the position.
    (found == text(base)).then(|| CurrentData { folder: folder_name(base), base })
}

fn folder_name(base: EntryId) -> String {
    format!("{DATA_DIR}-{}-{}", base.index, base.term)
}

impl DataDir {
    /// Begins the store of a snapshot at this position. A second one at the same position is refused while the first lives.
    ///
    /// # Errors
    /// [`OpenError`] if the folder is there already or cannot be made.
    pub fn stage(&self, position: EntryId, options: &DataOptions) -> Result<Staging, OpenError> {
        let path = self.member_path().join(format!("{INCOMING_PREFIX}{}-{}", position.index, position.term));
        fs::create_dir(&path).map_err(|error| OpenError::io(&path, &error))?;
        let folder = Folder(Some(path.clone()));
        let store = DataStore::open_at(&path, self.lock(), Suspect::data(self.member_path()), options)
            .map_err(|error| OpenError::rocksdb(&path, &error))?;
        Ok(Staging { store, position, member: self.member_path().to_path_buf(), folder })
    }

    /// Removes snapshots that were not received whole or not put in place, and folders whose rows were replaced. To be called
    /// when nothing of this folder is open yet.
    ///
    /// # Errors
    /// [`OpenError`] if they cannot be removed.
    pub fn remove_leftovers(&self) -> Result<(), OpenError> {
        let member = self.member_path();
        let current = current(member)?.folder;
        // The rows of a snapshot that is in use, if it was the file that says so that got lost.
        let orphaned = !member.join(CURRENT_DATA_FILE).exists() && holds_nothing(&member.join(&current));
        let broken = |error: &std::io::Error| OpenError::io(member, error);
        for entry in fs::read_dir(member).map_err(|error| broken(&error))? {
            let name = entry.map_err(|error| broken(&error))?.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_data = name == DATA_DIR || name.strip_prefix(DATA_DIR).is_some_and(|rest| rest.starts_with('-'));
            if name.starts_with(INCOMING_PREFIX) || (is_data && name != current) {
                let path = member.join(name);
                if orphaned && is_data {
                    tracing::error!(path = %path.display(), "rows without the file {CURRENT_DATA_FILE} that names them are put aside");
                    set_aside(member, name, DATA_DIR)?;
                    continue;
                }
                tracing::info!(path = %path.display(), "removing what a snapshot left behind");
                fs::remove_dir_all(&path).map_err(|error| OpenError::io(&path, &error))?;
            }
        }
        Ok(())
    }
}

/// A folder that goes when this is dropped, unless it was given away.
#[derive(Debug)]
struct Folder(Option<PathBuf>);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a snapshot that is not needed could not be removed");
        }
    }
}

/// A snapshot that is being received. Dropped, it is gone.
#[derive(Debug)]
pub struct Staging {
    // Before the folder: fields are dropped in this order.
    store: DataStore,
    position: EntryId,
    member: PathBuf,
    folder: Folder,
}

impl Staging {
    /// Adds rows. Not durable before [`Staging::finish`].
    ///
    /// # Errors
    /// [`StoreError`]: this snapshot is of no use any more. The member's own state is not touched.
    pub fn put(&mut self, rows: Vec<(Bytes, Bytes)>) -> Result<(), StoreError> {
        let changes = rows.into_iter().map(|(key, value)| Change::Put(key, value)).collect();
        self.store.write(&Batch { changes })
    }

    /// All rows are there: checks that they are a state machine at this snapshot's position, and makes them durable. Blocks
    /// for as long as the disk takes.
    ///
    /// # Errors
    /// As [`Staging::put`].
    pub fn finish(self) -> Result<Staged, StoreError> {
        let Self { store, position, member, folder } = self;
        let kv = Kv::open(store)?;
        let applied = kv.applied();
        let found = EntryId { index: applied.index, term: applied.term };
        if found != position {
            return Err(StoreError(format!("the snapshot's rows are those at {found}, not at {position}")));
        }
        kv.store().flusher().flush()?;
        drop(kv);
        Ok(Staged { position, member, folder })
    }
}

/// A snapshot that is whole and durable beside the state that counts. Dropped, it is gone.
#[derive(Debug)]
pub struct Staged {
    position: EntryId,
    member: PathBuf,
    folder: Folder,
}

impl Staged {
    /// The entry up to which everything was applied in it.
    pub fn position(&self) -> EntryId {
        self.position
    }

    /// Gives the folder its lasting name.
    ///
    /// # Errors
    /// [`OpenError`]: the old state still counts.
    pub fn settle(mut self) -> Result<Settled, OpenError> {
        let Some(from) = self.folder.0.take() else { unreachable!("a staged snapshot has its folder") };
        let to = self.member.join(folder_name(self.position));
        let moved = fs::rename(&from, &to);
        self.folder.0 = Some(if moved.is_ok() { to.clone() } else { from });
        moved.map_err(|error| OpenError::io(&to, &error))?;
        sync_dir(&self.member)?;
        Ok(Settled(self))
    }
}

/// As [`Staged`], with its lasting name.
#[derive(Debug)]
pub struct Settled(Staged);

impl Settled {
    /// From now on this is the member's state: [`DataStore::open`] opens it. The log must be reset to its position before
    /// anything else is written there; [`crate::RaftLog::open`] sees to it if that did not happen. Returns the folder of the
    /// state before it, which is the caller's to remove when nobody reads it any more.
    ///
    /// # Errors
    /// [`OpenError`]: which of the two states counts is not known; final for the process.
    pub fn make_current(self) -> Result<PathBuf, OpenError> {
        let Staged { position, member, mut folder } = self.0;
        let before = member.join(current(&member)?.folder);
        // Not to be removed any more, also if it is not known whether the next line took effect.
        folder.0 = None;
        write_file(&member, CURRENT_DATA_FILE, &text(position))?;
        Ok(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_not() {
        let base = EntryId { index: 17, term: 3 };
        let good = text(base);
        assert_eq!(parse(&good), Some(CurrentData { folder: "data-17-3".to_owned(), base }));
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            assert_eq!(parse(&String::from_utf8_lossy(&bad)), None, "byte {at}");
            assert_eq!(parse(&good[..at]), None, "cut at {at}");
        }
    }
}
