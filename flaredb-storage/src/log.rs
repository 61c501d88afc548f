//! Opening the Raft log: RocksDB, judgement by the mark, repair if it is called for, the mark of this start, and the WAL's
//! prefill, in this order.

use crate::data_dir::{DirLock, Made};
use crate::evidence::{Evidence, Promised};
use crate::examine::{Examined, Questions, examine};
use crate::layout::{MARK_FILE, RAFT_LOG_CF, RAFT_STATE_CF, StateKey, StateTag};
use crate::log_reader::LogReader;
use crate::log_writer::LogWriter;
use crate::mark_file::MarkFile;
use crate::options::{log_cf_descriptors, log_db_options};
use crate::record::CHAIN_START;
use crate::repair::{self, Rebuild};
use crate::suspect::Suspect;
use crate::wal_prefill::prefill;
use crate::{DataDir, LogOptions, OpenError, data_folder, log_reset};
use flaredb_raft::{ConfState, EntryId, HardState};
use flaredb_record::judgement::Judgement;
use flaredb_record::mark::{CHAIN_UNKNOWN, Mark};
use rocksdb::{ColumnFamily, DB};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// The log's database; opened into a reader and a writer.
#[derive(Debug)]
pub struct RaftLog;

impl RaftLog {
    /// Opens the log of `dir`'s member alone, as [`crate::open`] does with the state machine, but repairs nothing: a log that
    /// is not whole is refused. For tools and tests.
    ///
    /// # Errors
    /// [`OpenError::Inconsistent`] names the column family and the keys; the member must then not take part.
    pub fn open(dir: &DataDir, options: &LogOptions) -> Result<(LogReader, LogWriter), OpenError> {
        let opened = open_log(dir, options, None)?;
        Ok((opened.reader, opened.writer))
    }
}

/// Whether the member keeps what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It does.
    Complete,
    /// Its log is behind what it acknowledged: it must neither vote nor lead until the log's end is at least this.
    Until(EntryId),
    /// What it acknowledged is not known: it must say nothing until all other voters have said where they are. To be told to the
    /// core as `Event::Recover { until: None, .. }` before any message; when it is known, by `Event::Recover` and
    /// [`LogWriter::recover`].
    Unknown,
}

/// An open log and what opening it found.
#[derive(Debug)]
pub(crate) struct OpenedLog {
    pub(crate) reader: LogReader,
    pub(crate) writer: LogWriter,
    pub(crate) mark: Mark,
    pub(crate) recovery: Recovery,
    /// What was wrong.
    pub(crate) why: Option<String>,
}

/// `applied`: where the state machine is. Without it nothing is repaired.
pub(crate) fn open_log(dir: &DataDir, options: &LogOptions, applied: Option<EntryId>) -> Result<OpenedLog, OpenError> {
    open_once(dir, options, applied)?.or_else(|error| {
        // A merge has met damage that no reader meets, in rows that are deleted. With this note all others are copied into a new
        // database.
        Suspect::log(dir.member_path()).note(&error);
        open_once(dir, options, applied)?.map_err(|error| OpenError::rocksdb(dir.raft_path(), &error))
    })
}

/// The inner error: the log is all there, but its database cannot be written.
fn open_once(
    dir: &DataDir,
    options: &LogOptions,
    applied: Option<EntryId>,
) -> Result<Result<OpenedLog, rocksdb::Error>, OpenError> {
    let begun = Instant::now();
    let member = dir.member_path();
    repair::finish_interrupted(member)?;
    let opening = Opening { dir, options, applied, evidence: Evidence::read(dir)?, path: dir.raft_path() };
    if opening.evidence.made.log {
        repair::keep_before(member)?;
    }
    let settled = opening.settle()?;
    let verified = begun.elapsed();
    if options.prefill
        && let Err(error) = prefill(&settled.db, dir.identity().region_id, options.wal_bytes)
    {
        return Ok(Err(error));
    }
    let Settled { db, truncated, last, last_chain, marks, recovery, why } = settled;
    tracing::info!(
        path = %opening.path.display(),
        first = truncated.id.index.saturating_add(1),
        last = %last,
        storage = format_args!("{:016x}", marks.mark().storage_id),
        incarnation = marks.mark().incarnation,
        verify = ?verified,
        prefill = ?begun.elapsed().saturating_sub(verified),
        "raft log open"
    );
    let shared = Arc::new(Shared {
        db,
        region: dir.identity().region_id,
        recovery,
        bounds: RwLock::new(Bounds { truncated: truncated.id, last }),
        suspect: Suspect::log(member),
        _lock: dir.lock(),
    });
    let mark = *marks.mark();
    let writer = LogWriter::new(Arc::clone(&shared), options, marks, truncated, (last, last_chain));
    Ok(Ok(OpenedLog { reader: LogReader::new(shared), writer, mark, recovery, why }))
}

/// What is needed on the way.
struct Opening<'a> {
    dir: &'a DataDir,
    options: &'a LogOptions,
    applied: Option<EntryId>,
    evidence: Evidence,
    path: PathBuf,
}

/// A log that can be started from.
struct Settled {
    db: DB,
    truncated: crate::state_rows::TruncatedState,
    last: EntryId,
    last_chain: u64,
    marks: MarkFile,
    recovery: Recovery,
    why: Option<String>,
}

impl Opening<'_> {
    fn settle(&self) -> Result<Settled, OpenError> {
        let made = self.evidence.made;
        let (db, examined) = match self.open_db(!made.log) {
            Ok(db) => {
                self.finish_install(&db)?;
                let examined = self.examine(&db);
                (Some(db), examined)
            }
            Err(error) if made.log && self.applied.is_some() && repair::is_damage(&error) => {
                (None, Examined::unreadable(format!("{}: {error}", self.path.display())))
            }
            Err(error) => return Err(OpenError::rocksdb(&self.path, &error)),
        };
        if let (Some(db), true, false) = (&db, examined.empty, made.log) {
            // A new member's first batch.
            repair::make_rows(db, self.dir)?;
        }
        let examined = match &db {
            Some(db) if examined.empty && !made.log => self.examine(db),
            _ => examined,
        };
        self.check_voters(&examined)?;
        match self.evidence.judge(&examined.found(self.applied)) {
            Judgement::Whole => self.whole(db, examined),
            Judgement::Halt { why } => Err(self.inconsistent(why)),
            Judgement::Repair { why, .. } if self.applied.is_none() => Err(self.inconsistent(why)),
            Judgement::Repair { hard_state, restart_at, until, why, .. } => {
                self.repair(db, &examined, &Plan { hard_state, restart_at, until, why })
            }
        }
    }

    fn whole(&self, db: Option<DB>, examined: Examined) -> Result<Settled, OpenError> {
        let hard = examined.hard_state;
        let marks = self.start_mark(&Promised {
            term: hard.current_term,
            voted_for: hard.voted_for,
            acked: Some(examined.last),
            acked_chain: examined.last_chain,
        })?;
        let suspect = Suspect::log(self.dir.member_path());
        let db = match db {
            Some(db) if !suspect.is_noted() => db,
            db => {
                // Its records are whole, but a file of it is not: a read or write of the last process failed.
                tracing::error!(path = %self.path.display(), "the log's database failed before; its records are whole and are copied into a new one");
                repair::keep_as_evidence(self.dir.member_path())?;
                self.rebuild(db, &examined, hard, None)?
            }
        };
        suspect.clear()?;
        repair::forget_before(self.dir.member_path())?;
        let Examined { truncated, last, last_chain, .. } = examined;
        Ok(Settled { db, truncated, last, last_chain, marks, recovery: Recovery::Complete, why: None })
    }

    fn repair(&self, db: Option<DB>, examined: &Examined, plan: &Plan) -> Result<Settled, OpenError> {
        let member = self.dir.member_path();
        let end = plan.restart_at.unwrap_or(examined.last);
        let recovery = match plan.until {
            None => Recovery::Unknown,
            Some(until) if until > end => Recovery::Until(until),
            Some(_) => Recovery::Complete,
        };
        self.say(examined, plan, recovery);
        let chain = if plan.restart_at.is_some() { CHAIN_START } else { examined.last_chain };
        let (acked, acked_chain) = match recovery {
            Recovery::Complete => (Some(end), chain),
            // Not the old value: a snapshot on the way back makes the chain begin anew.
            Recovery::Until(until) => (Some(until), CHAIN_UNKNOWN),
            Recovery::Unknown => (None, CHAIN_UNKNOWN),
        };
        // The promise before anything changes: a crash from here on leads back to here.
        let HardState { current_term, voted_for, .. } = plan.hard_state;
        let marks = self.start_mark(&Promised { term: current_term, voted_for, acked, acked_chain })?;
        repair::keep_as_evidence(member)?;
        let suspect = Suspect::log(member);
        let mendable = plan.restart_at.is_none() && examined.fault.is_none() && !suspect.is_noted();
        let db = match db {
            Some(db) if mendable => match repair::mend_rows(&db, self.dir, &plan.hard_state) {
                Ok(()) => db,
                // A merge has met damage that no reader meets: see open_log.
                Err(OpenError::Inconsistent { .. }) => self.rebuild(Some(db), examined, plan.hard_state, None)?,
                Err(error) => return Err(error),
            },
            db => self.rebuild(db, examined, plan.hard_state, plan.restart_at)?,
        };
        suspect.clear()?;
        let after = self.examine(&db);
        if after.fault.is_some() || !after.rows.is_empty() || after.last != end {
            return Err(self.inconsistent(format!("the repaired log is not what it should be: {after:?}")));
        }
        let Examined { truncated, last, last_chain, .. } = after;
        Ok(Settled { db, truncated, last, last_chain, marks, recovery, why: Some(plan.why.clone()) })
    }

    fn rebuild(
        &self,
        db: Option<DB>,
        examined: &Examined,
        hard_state: HardState,
        restart_at: Option<EntryId>,
    ) -> Result<DB, OpenError> {
        Rebuild { dir: self.dir, options: self.options, examined, hard_state, restart_at }.run(db)?;
        self.open_db(false).map_err(|error| OpenError::rocksdb(&self.path, &error))
    }

    fn open_db(&self, create: bool) -> Result<DB, rocksdb::Error> {
        let options = log_db_options(self.options, create)?;
        DB::open_cf_descriptors(&options, &self.path, log_cf_descriptors(self.options))
    }

    fn examine(&self, db: &DB) -> Examined {
        let questions = Questions { acked: self.evidence.acked(), applied: self.applied };
        examine(db, self.dir.identity().region_id, questions)
    }

    /// A snapshot was put in place and the log not yet reset to it. Not if the snapshot's rows are not there any more.
    fn finish_install(&self, db: &DB) -> Result<(), OpenError> {
        let member = self.dir.member_path();
        let base = data_folder::current(member)?.base;
        if self.applied.is_some_and(|applied| applied.index < base.index) {
            return Ok(());
        }
        log_reset::finish(db, &self.path, member, self.dir.identity().region_id)
    }

    /// Durable when this returns, and only then the folder says that there is a mark.
    fn start_mark(&self, promised: &Promised) -> Result<MarkFile, OpenError> {
        let member = self.dir.member_path();
        let mark = self.evidence.next_mark(self.dir.identity(), promised)?;
        if self.evidence.lost().is_some() && member.join(MARK_FILE).exists() {
            repair::set_aside(member, MARK_FILE, MARK_FILE)?;
        }
        let marks = MarkFile::start(member, self.evidence.generation(), mark)?;
        let made = Made { log: true, storage_id: Some(mark.storage_id) };
        if made != self.evidence.made {
            self.dir.set_made(made)?;
        }
        Ok(marks)
    }

    fn say(&self, examined: &Examined, plan: &Plan, recovery: Recovery) {
        let end = plan.restart_at.unwrap_or(examined.last);
        let done = match plan.restart_at {
            Some(at) => format!("the log is emptied and goes on after {at}, where the state machine is"),
            None => format!("the log is kept up to {end}"),
        };
        let next = match recovery {
            Recovery::Complete => {
                "nothing that was acknowledged is missing, the member takes part as before".to_owned()
            }
            Recovery::Until(until) => {
                format!("the member follows, and neither votes nor leads, until its log has come back to {until}")
            }
            Recovery::Unknown => {
                "the member follows, and neither votes nor leads, until all other voters have said where they are"
                    .to_owned()
            }
        };
        tracing::error!(path = %self.path.display(), why = plan.why, done, next, "the disk lost something of this member's log");
    }

    fn check_voters(&self, examined: &Examined) -> Result<(), OpenError> {
        let Some(ConfState { voters }) = &examined.conf_state else { return Ok(()) };
        let mut expected = self.dir.identity().voters.clone();
        expected.sort_unstable();
        if *voters == expected {
            return Ok(());
        }
        let hex = |ids: &[u64]| ids.iter().map(|id| format!("{id:016x}")).collect::<Vec<_>>().join(" ");
        let key = StateKey { region: self.dir.identity().region_id, tag: StateTag::ConfState };
        let what = format!("{key} says voters {}, this process was started with {}", hex(voters), hex(&expected));
        Err(self.inconsistent(what))
    }

    fn inconsistent(&self, what: String) -> OpenError {
        OpenError::Inconsistent { path: self.path.clone(), what }
    }
}

/// What the judgement asks for.
struct Plan {
    hard_state: HardState,
    restart_at: Option<EntryId>,
    until: Option<EntryId>,
    why: String,
}

/// What reader and writer share. The database is closed, and the folder unlocked, when the last of them is dropped.
pub(crate) struct Shared {
    // Before the lock: fields are dropped in this order.
    pub(crate) db: DB,
    pub(crate) region: u64,
    pub(crate) recovery: Recovery,
    bounds: RwLock<Bounds>,
    pub(crate) suspect: Suspect,
    _lock: Arc<DirLock>,
}

/// What is durable: moved by the writer when a write has returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) truncated: EntryId,
    pub(crate) last: EntryId,
}

impl Shared {
    pub(crate) fn bounds(&self) -> Bounds {
        *self.bounds.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        *self.bounds.write().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    pub(crate) fn log_cf(&self) -> &ColumnFamily {
        log_cf(&self.db)
    }

    pub(crate) fn state_cf(&self) -> &ColumnFamily {
        state_cf(&self.db)
    }
}

#[expect(clippy::expect_used, reason = "the database was opened with this column family")]
pub(crate) fn log_cf(db: &DB) -> &ColumnFamily {
    db.cf_handle(RAFT_LOG_CF).expect("the raft database has raft_log")
}

#[expect(clippy::expect_used, reason = "the database was opened with this column family")]
pub(crate) fn state_cf(db: &DB) -> &ColumnFamily {
    db.cf_handle(RAFT_STATE_CF).expect("the raft database has raft_state")
}
