//! Looking into a folder without changing it: what `flaredb inspect` prints.
//!
//! Takes the folder's lock, so that no node runs meanwhile, and opens both databases read-only (RocksDB's own log goes to a
//! folder that is removed again). Finds the same faults as a start does, and says beforehand what that start would do.

use crate::data_dir::DataDir;
use crate::data_folder;
use crate::data_store::DataStore;
use crate::evidence::Evidence;
use crate::examine::{Questions, examine, region_bounds};
use crate::layout::{MARK_FILE, RAFT_LOG_CF, SUSPECT_DATA_FILE, SUSPECT_RAFT_FILE, log_key, parse_log_key};
use crate::log::log_cf;
use crate::mark_file::{self, StoredMark};
use crate::options::{log_cf_descriptors, log_db_options};
use crate::record::decode;
use crate::{DataOptions, LogOptions, OpenError};
use bytes::Bytes;
use flaredb_kv::Kv;
use flaredb_raft::{EntryId, RaftLogEntry};
use flaredb_record::judgement::Judgement;
use flaredb_record::mark::UNKNOWN;
use rocksdb::DB;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What: `identity`, `mark`, `raft_log` and so on.
    pub check: &'static str,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What is there, or what is wrong, with its key.
    pub found: String,
    /// What to do if it is not.
    pub advice: &'static str,
}

const START_REPAIRS: &str = "start the member: it keeps what is damaged aside and is repaired by the others";
const KEEP: &str = "do not start this member; keep the folder, see docs/storage.md, \"When a member refuses to start\"";

/// A folder that is being looked into.
#[derive(Debug)]
pub struct Inspection {
    dir: DataDir,
    /// Where RocksDB writes what it always writes.
    scratch: Scratch,
}

#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Only RocksDB's own log is in it; what cannot be removed does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Inspection {
    /// Locks the folder of a member that does not run.
    ///
    /// # Errors
    /// [`OpenError`]: in use, not FlareDB's, or no identity can be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let dir = DataDir::inspect(path)?;
        let scratch = std::env::temp_dir().join(format!("flaredb-inspect-{}", std::process::id()));
        fs::create_dir_all(&scratch).map_err(|error| OpenError::io(&scratch, &error))?;
        Ok(Self { dir, scratch: Scratch(scratch) })
    }

    /// Checks everything, in the order in which a start does. `progress` hears what is being read and how many rows of it so
    /// far, with the number expected if it is known.
    ///
    /// # Errors
    /// [`OpenError`] if the disk cannot be read at all.
    pub fn check(&self, progress: &mut dyn FnMut(&'static str, u64, Option<u64>)) -> Result<Vec<Finding>, OpenError> {
        let mut findings = Vec::new();
        let identity = self.dir.identity();
        findings
            .push(ok("identity", format!("cluster {:016x}, member {:016x}", identity.cluster_id, identity.member_id)));
        findings.push(self.mark()?);
        for (file, check) in [(SUSPECT_RAFT_FILE, "raft notes"), (SUSPECT_DATA_FILE, "data notes")] {
            let noted = fs::read_to_string(self.dir.member_path().join(file));
            findings.push(match noted {
                Err(_) => ok(check, "nothing was found damaged while it ran".to_owned()),
                Ok(text) => bad(check, format!("{file}: {}", text.trim_end()), START_REPAIRS),
            });
        }
        let applied = self.state(&mut findings, progress);
        self.log(applied, &mut findings, progress)?;
        let kept = self.kept()?;
        if !kept.is_empty() {
            findings.push(ok("evidence", format!("of earlier damage, not in use: {}", kept.join(" "))));
        }
        Ok(findings)
    }

    /// Reads entries, whatever is between them. `each` gets a record or what is wrong with it.
    ///
    /// # Errors
    /// [`OpenError`] if the log's database cannot be opened.
    pub fn entries(
        &self,
        range: &RangeInclusive<u64>,
        each: &mut dyn FnMut(u64, Result<RaftLogEntry, String>),
    ) -> Result<(), OpenError> {
        let path = self.dir.raft_path();
        let region = self.dir.identity().region_id;
        let db = self.open_log().map_err(|error| OpenError::rocksdb(&path, &error))?;
        let mut rows = db.raw_iterator_cf_opt(log_cf(&db), region_bounds(region));
        rows.seek(log_key(region, *range.start()));
        while let Some((key, value)) = rows.item() {
            let index = parse_log_key(key).map_or(0, |(_, index)| index);
            if index > *range.end() {
                break;
            }
            let buffer = Bytes::copy_from_slice(value);
            let entry = decode(region, index, None, &buffer).map(|view| view.to_entry(&buffer));
            each(index, entry.map_err(|fault| fault.to_string()));
            rows.next();
        }
        rows.status().map_err(|error| OpenError::rocksdb(&path, &error))
    }

    fn mark(&self) -> Result<Finding, OpenError> {
        let stored = mark_file::read(self.dir.member_path())?;
        let made = self.dir.made()?;
        Ok(match stored {
            StoredMark::Read { mark, slots: 2, .. } => {
                let acked = if mark.acked == UNKNOWN { "not known".to_owned() } else { mark.acked.to_string() };
                ok(
                    MARK_FILE,
                    format!(
                        "storage {:016x}, incarnation {}, term {}, acknowledged {acked}",
                        mark.storage_id, mark.incarnation, mark.term
                    ),
                )
            }
            StoredMark::Read { .. } => bad(MARK_FILE, "one of its two slots is damaged".to_owned(), START_REPAIRS),
            StoredMark::Missing | StoredMark::Damaged if made.storage_id.is_none() || !made.log => {
                ok(MARK_FILE, "none was made yet; the next start makes it".to_owned())
            }
            StoredMark::Missing => bad(MARK_FILE, format!("{MARK_FILE} is missing"), START_REPAIRS),
            StoredMark::Damaged => bad(MARK_FILE, format!("{MARK_FILE} is damaged in both slots"), START_REPAIRS),
        })
    }

    /// The state machine's rows; where it is, if they are whole.
    fn state(
        &self,
        findings: &mut Vec<Finding>,
        progress: &mut dyn FnMut(&'static str, u64, Option<u64>),
    ) -> Option<EntryId> {
        let path = match data_folder::current(self.dir.member_path()) {
            Ok(current) => self.dir.member_path().join(current.folder),
            Err(error) => {
                findings.push(bad("data folder", error.to_string(), KEEP));
                return None;
            }
        };
        let opened = DataStore::open_read_only(&path, self.dir.lock(), &DataOptions::small(), &self.scratch.0);
        let read = opened.map_err(|error| error.to_string()).and_then(|store| {
            let expected = store.rows_expected();
            let rows = store
                .verify(&mut |rows| progress("state machine", rows, expected))
                .map_err(|error| error.to_string())?;
            let kv = Kv::open(store).map_err(|error| error.to_string())?;
            // Every row's meaning, as far as a hash over the content needs it.
            kv.reader().hash(0).map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            Ok((rows, kv.applied()))
        });
        match read {
            Ok((rows, applied)) => {
                let at = EntryId { index: applied.index, term: applied.term };
                findings.push(ok(
                    "state machine",
                    format!("{rows} rows are whole; applied {at}, revision {}", applied.revision),
                ));
                Some(at)
            }
            Err(error) => {
                findings.push(bad("state machine", format!("{}: {error}", path.display()), START_REPAIRS));
                None
            }
        }
    }

    fn log(
        &self,
        applied: Option<EntryId>,
        findings: &mut Vec<Finding>,
        progress: &mut dyn FnMut(&'static str, u64, Option<u64>),
    ) -> Result<(), OpenError> {
        let evidence = Evidence::read(&self.dir)?;
        let db = match self.open_log() {
            Ok(db) => db,
            Err(error) => {
                let what = format!("{}: {error}", self.dir.raft_path().display());
                findings.push(bad("raft database", what, START_REPAIRS));
                return Ok(());
            }
        };
        progress(RAFT_LOG_CF, 0, None);
        // A state machine that is damaged begins empty.
        let applied = applied.unwrap_or_default();
        let questions = Questions { acked: evidence.acked(), applied: Some(applied) };
        let examined = examine(&db, self.dir.identity().region_id, questions);
        progress(RAFT_LOG_CF, examined.last.index.saturating_sub(examined.truncated.id.index), None);
        findings.push(if examined.rows.is_empty() {
            let hard = examined.hard_state;
            ok("raft_state", format!("term {}, commit index {}", hard.current_term, hard.commit_index))
        } else {
            bad("raft_state", examined.rows.join("; "), START_REPAIRS)
        });
        findings.push(match &examined.fault {
            None => ok(
                RAFT_LOG_CF,
                format!("whole from {} to {}", examined.truncated.id.index.saturating_add(1), examined.last),
            ),
            Some(fault) => bad(
                RAFT_LOG_CF,
                format!("{}; the records up to {} are whole", fault.what, examined.last),
                START_REPAIRS,
            ),
        });
        findings.push(match evidence.judge(&examined.found(Some(applied))) {
            Judgement::Whole => ok(
                "promise",
                "log, state machine and mark are of one history; nothing acknowledged is missing".to_owned(),
            ),
            Judgement::Repair { why, until, .. } => {
                let until = until.map_or_else(|| "what the other voters know".to_owned(), |until| until.to_string());
                bad(
                    "promise",
                    format!("{why}; it would neither vote nor lead before it is back at {until}"),
                    START_REPAIRS,
                )
            }
            Judgement::Halt { why } => bad("promise", why, KEEP),
        });
        Ok(())
    }

    fn open_log(&self) -> Result<DB, rocksdb::Error> {
        let sizes = LogOptions::small();
        let mut options = log_db_options(&sizes, false)?;
        options.set_db_log_dir(&self.scratch.0);
        DB::open_cf_descriptors_read_only(&options, self.dir.raft_path(), log_cf_descriptors(&sizes), false)
    }

    fn kept(&self) -> Result<Vec<String>, OpenError> {
        let member = self.dir.member_path();
        let entries = fs::read_dir(member).map_err(|error| OpenError::io(member, &error))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut kept: Vec<String> = names.filter(|name| name.contains(".damaged-")).collect();
        kept.sort();
        Ok(kept)
    }
}

fn ok(check: &'static str, found: String) -> Finding {
    Finding { check, ok: true, found, advice: "" }
}

fn bad(check: &'static str, found: String, advice: &'static str) -> Finding {
    Finding { check, ok: false, found, advice }
}
