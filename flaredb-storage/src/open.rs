//! Opening a member's folder: state machine, then log, judged together and repaired if they must be.
//!
//! The order is the point. Where the state machine is decides what can be done about a log that lost something: it goes on
//! from there. A state machine that is damaged is put aside and begins empty: from the log, if that reaches back to the
//! beginning, otherwise from a snapshot of another member.

use crate::data_store::{DataStore, holds_nothing};
use crate::layout::{CURRENT_DATA_FILE, DATA_DIR};
use crate::log::{Recovery, open_log};
use crate::repair::{is_damage, set_aside};
use crate::suspect::Suspect;
use crate::{DataDir, DataOptions, LogOptions, LogReader, LogWriter, OpenError, data_folder};
use flaredb_kv::Kv;
use flaredb_raft::EntryId;
use std::fs;

/// A member's folder, ready to take part.
#[derive(Debug)]
pub struct Opened {
    /// The log as the core reads it.
    pub log: LogReader,
    /// The log's writer, for the log thread.
    pub writer: LogWriter,
    /// The state machine.
    pub kv: Kv<DataStore>,
    /// Drawn when this folder was made, and again when it lost its mark. Not 0.
    pub storage_id: u64,
    /// Of this start: one more than that of the last.
    pub incarnation: u64,
    /// Whether the member may vote and lead.
    pub recovery: Recovery,
    /// What was wrong with the folder; None if nothing was.
    pub why: Option<String>,
}

/// Opens the folder, repairing what the other members can make good.
///
/// # Errors
/// [`OpenError::Inconsistent`] for what no repair makes right; the rest as everywhere.
pub fn open(dir: &DataDir, log: &LogOptions, data: &DataOptions) -> Result<Opened, OpenError> {
    let (kv, damage) = open_state(dir, data)?;
    let applied = kv.applied();
    let opened = open_log(dir, log, Some(EntryId { index: applied.index, term: applied.term }))?;
    let why: Vec<String> = damage.into_iter().chain(opened.why).collect();
    Ok(Opened {
        log: opened.reader,
        writer: opened.writer,
        kv,
        storage_id: opened.mark.storage_id,
        incarnation: opened.mark.incarnation,
        recovery: opened.recovery,
        why: (!why.is_empty()).then(|| why.join("; ")),
    })
}

/// The state machine; an empty one, and why, if what is there cannot be used.
fn open_state(dir: &DataDir, options: &DataOptions) -> Result<(Kv<DataStore>, Option<String>), OpenError> {
    let suspect = Suspect::data(dir.member_path());
    match try_open(dir, options, suspect.is_noted()) {
        Ok(kv) => {
            suspect.clear()?;
            Ok((kv, None))
        }
        Err(Failure::Final(error)) => Err(error),
        Err(Failure::Damage(what)) => {
            let path = dir.data_path()?;
            let kept = put_aside(dir)?;
            tracing::error!(
                path = %path.display(),
                why = what,
                done = kept,
                next = "the state machine begins empty, from the log or from a snapshot of another member",
                "this member's state machine is damaged"
            );
            suspect.clear()?;
            match try_open(dir, options, false) {
                Ok(kv) => Ok((kv, Some(format!("the state machine was damaged: {what}")))),
                Err(Failure::Final(error)) => Err(error),
                Err(Failure::Damage(what)) => Err(OpenError::Inconsistent { path, what }),
            }
        }
    }
}

enum Failure {
    Damage(String),
    Final(OpenError),
}

fn try_open(dir: &DataDir, options: &DataOptions, verify: bool) -> Result<Kv<DataStore>, Failure> {
    let path = dir.data_path().map_err(Failure::Final)?;
    if path.file_name().is_some_and(|name| name != DATA_DIR) && holds_nothing(&path) {
        return Err(Failure::Damage(format!("{CURRENT_DATA_FILE} names a folder that is empty")));
    }
    let store = DataStore::try_open(dir, &path, options).map_err(|error| {
        if is_damage(&error) {
            Failure::Damage(error.to_string())
        } else {
            Failure::Final(OpenError::rocksdb(&path, &error))
        }
    })?;
    if verify {
        tracing::warn!(path = %path.display(), "a read of the state machine failed before; reading all of it");
        store.verify(&mut |_| {}).map_err(|error| Failure::Damage(error.to_string()))?;
    }
    // What the rows say of themselves, where RocksDB finds nothing wrong with them.
    Kv::open(store).map_err(|error| Failure::Damage(error.to_string()))
}

/// Renames the folder of the rows, and lets the next one be `data/` again. In this order: the name alone would lead to an
/// empty folder, the folder alone to one that counts as left over.
fn put_aside(dir: &DataDir) -> Result<String, OpenError> {
    let member = dir.member_path();
    let folder = data_folder::current(member)?.folder;
    let kept = set_aside(member, &folder, DATA_DIR)?;
    if member.join(CURRENT_DATA_FILE).exists() {
        set_aside(member, CURRENT_DATA_FILE, CURRENT_DATA_FILE)?;
    }
    let empty = dir.data_path()?;
    fs::create_dir(&empty).map_err(|error| OpenError::io(&empty, &error))?;
    Ok(kept.map_or_else(|| "removed".to_owned(), |path| format!("kept as {}", path.display())))
}
