//! Opening a disk: makes a new one, or goes on from what is there as the judgement says, in an order in which any step may be
//! the last before a crash.

use super::engine::{Engine, LogOptions, ModelLog, Wal};
use super::identity::{self, Identity};
use super::image::Image;
use super::manifest::{Flush, Manifest};
use super::mark_file::MarkFile;
use super::recovery::{self, Found, Log, wal_name};
use super::rows::Truncated;
use super::sectors::{DiskError, SimDisk};
use super::table::TableBuilder;
use flaredb_kv::{AppliedState, MemoryStore};
use flaredb_raft::{ConfState, EntryId, HardState};
use flaredb_record::judgement::Judgement;
use flaredb_record::mark::{self, Mark};
use flaredb_record::record::CHAIN_START;
use std::cell::RefCell;
use std::rc::Rc;

/// A log that may be used.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: ModelLog,
    /// Term and vote as promised.
    pub hard_state: HardState,
    /// Position that the log was compacted to.
    pub compacted_to: EntryId,
    /// How far the state machine on the disk has come.
    pub applied: AppliedState,
    /// The state machine's rows.
    pub store: MemoryStore,
    /// The member lost something: it must not vote before its log's end has reached this. [`mark::UNKNOWN`] if it is not
    /// known how much.
    pub recover_until: Option<EntryId>,
    /// Drawn when the disk was made.
    pub storage_id: u64,
    /// Rises by one at each opening.
    pub incarnation: u64,
    /// The disk was empty.
    pub fresh: bool,
    /// Why something was repaired, if it was.
    pub repaired: Option<String>,
}

/// Why a disk was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It must not be used.
    #[error("{why}")]
    Halt {
        /// What contradicts what.
        why: String,
    },
    /// The disk failed on the way; the process ends, and may be started again.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ModelLog {
    /// Opens the disk of this member.
    pub fn open(disk: &SimDisk, identity: &Identity, options: LogOptions) -> Result<Opened, OpenError> {
        if disk.is_off() {
            return Err(DiskError::PowerCut.into());
        }
        let halt = |why| OpenError::Halt { why };
        match recovery::read(disk, identity).map_err(halt)? {
            Some(found) => go_on(disk, identity, options, found, false),
            None => {
                make(disk, identity, options)?;
                let found = recovery::read(disk, identity).map_err(halt)?;
                let found = found.ok_or_else(|| halt("a new disk has no identity".to_owned()))?;
                go_on(disk, identity, options, found, true)
            }
        }
    }
}

/// A new member's files; the identity comes last and makes them count.
fn make(disk: &SimDisk, identity: &Identity, options: LogOptions) -> Result<(), DiskError> {
    for leftover in disk.list() {
        disk.delete(&leftover)?;
    }
    make_wals(disk, options)?;
    Image::create(disk)?;
    let storage_id = disk.platter().draw.value();
    MarkFile::create(disk, new_mark(identity, storage_id))?;
    let voters = ConfState { voters: identity.voters.clone() };
    let mut table = TableBuilder::new(0, 0, 0);
    table.states(&HardState::default(), &voters, &Truncated::default());
    finish(disk, Flush::new(&Manifest::default(), table.finish(), true, 0, 0))?;
    identity::write(disk, identity, storage_id)
}

/// Empty, of full length: written over from the first byte on.
fn make_wals(disk: &SimDisk, options: LogOptions) -> Result<(), DiskError> {
    for number in [0, 1] {
        let file = disk.create(wal_name(number))?;
        disk.write(file, 0, &vec![0; options.wal_bytes])?;
        disk.sync(file)?;
    }
    disk.sync_names()
}

fn new_mark(identity: &Identity, storage_id: u64) -> Mark {
    Mark {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        storage_id,
        incarnation: 0,
        term: 0,
        voted_for: None,
        acked: EntryId::default(),
        acked_chain: CHAIN_START,
    }
}

fn finish(disk: &SimDisk, mut flush: Flush) -> Result<Manifest, DiskError> {
    while !flush.advance(disk)? {}
    Ok(flush.after)
}

/// What the judgement makes of the log.
struct Plan {
    hard_state: HardState,
    log: Log,
    /// Below this the member is recovering.
    until: EntryId,
    /// Something that is on the disk must not be there any more.
    rewrites: bool,
    why: Option<String>,
}

fn plan(found_log: Log, hard_state: HardState, judgement: Judgement) -> Result<Plan, OpenError> {
    let mut log = found_log;
    match judgement {
        Judgement::Halt { why } => Err(OpenError::Halt { why }),
        Judgement::Whole => {
            let rewrites = log.fault.is_some();
            log.keep_to(u64::MAX);
            Ok(Plan { hard_state, until: log.last, log, rewrites, why: None })
        }
        Judgement::Repair { hard_state, keep_to, restart_at, until, why } => {
            match restart_at {
                Some(id) => log = Log::new(Truncated { id, chain: CHAIN_START }),
                None => log.keep_to(keep_to),
            }
            let until = until.unwrap_or(mark::UNKNOWN);
            Ok(Plan { hard_state, log, until, rewrites: true, why: Some(why) })
        }
    }
}

fn go_on(
    disk: &SimDisk,
    identity: &Identity,
    options: LogOptions,
    found: Found,
    fresh: bool,
) -> Result<Opened, OpenError> {
    let Found { opens, manifest, replayed_from, sequence, conf_state, was_reset, image, mark, .. } = found;
    let plan = plan(found.log, found.hard_state, found.judgement)?;
    let mut mark = match mark {
        Some(mark) => mark,
        None => {
            // Nobody knows what this disk has promised, and under which incarnation: it takes part as another one.
            let storage_id = disk.platter().draw.value();
            let mark = MarkFile::create(disk, Mark { acked: mark::UNKNOWN, ..new_mark(identity, storage_id) })?;
            disk.sync_names()?;
            identity::write(disk, identity, storage_id)?;
            mark
        }
    };
    // The promise first: whatever follows, the next start knows of it.
    if plan.why.is_some() {
        mark.sync(disk)?;
        let promised = promise(&mark.mark, &plan);
        mark.put(disk, promised, true)?;
    }
    manifest.tidy(disk)?;
    let (image, store) = match image {
        Some(found) => found,
        None => (Image::recreate(disk)?, MemoryStore::new()),
    };
    if !opens {
        make_wals(disk, options)?;
    }
    let Plan { hard_state, log, until: _, rewrites, why } = plan;
    let merges = rewrites || was_reset || manifest.tables.len() >= options.tables_max;
    let wal = manifest.oldest_wal + 2;
    let mut engine = Engine {
        disk: disk.clone(),
        identity: identity.clone(),
        options,
        manifest,
        flush: None,
        // Always another WAL: after a frame that the crash took, others may stand that it left.
        wal: Wal { number: wal, used: 0, before_unsynced: false, unsynced: false },
        sequence,
        hard_state,
        conf_state,
        truncated: log.truncated,
        rows: log.rows,
        touched_from: if merges { 0 } else { replayed_from },
        image,
        pending: None,
        mark,
        frame: super::wal::Frame::default(),
        record: Vec::new(),
        failed: None,
    };
    let content = engine.table();
    engine.manifest = finish(disk, Flush::new(&engine.manifest, content, merges, wal, sequence))?;
    engine.touched_from = u64::MAX;

    engine.begin_incarnation()?;
    Ok(Opened {
        hard_state,
        compacted_to: engine.truncated.id,
        applied: engine.image.stamp.applied,
        store,
        recover_until: engine.missing_until(),
        storage_id: engine.mark.mark.storage_id,
        incarnation: engine.mark.mark.incarnation,
        log: ModelLog(Rc::new(RefCell::new(engine))),
        fresh,
        repaired: why,
    })
}

/// The mark of a member that lost something.
fn promise(mark: &Mark, plan: &Plan) -> Mark {
    let HardState { current_term: term, voted_for, .. } = plan.hard_state;
    // Not the old value, as in flaredb-storage: where too little is left, the way back makes the chain begin anew.
    let acked_chain = if plan.until == plan.log.last { plan.log.last_chain } else { mark::CHAIN_UNKNOWN };
    Mark { term, voted_for, acked: plan.until, acked_chain, ..*mark }
}

impl Engine {
    /// The log stands as it will be used: so does the mark from here on.
    fn begin_incarnation(&mut self) -> Result<(), DiskError> {
        // The newest mark may be in the cache only, and the next one goes over the other slot.
        self.mark.sync(&self.disk)?;
        let (end, chain) = self.end();
        let (mark, _) = self.mark.mark.after(&self.hard_state, end, chain);
        let mark = Mark { incarnation: mark.incarnation + 1, ..mark };
        // Both slots, one after the other: from here on either may rot.
        for _ in 0..2 {
            self.mark.write(&self.disk, mark)?;
            self.mark.sync(&self.disk)?;
        }
        Ok(())
    }
}
