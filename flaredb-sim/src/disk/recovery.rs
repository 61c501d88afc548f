//! Reads a disk as a start does, and changes nothing: tables, then the WALs, the log from end to end, the rows, the mark, and
//! what `flaredb-record` says to all of it.

use super::identity::{self, Identity};
use super::image::{self, Image};
use super::manifest::Manifest;
use super::mark_file::MarkFile;
use super::rows::{LogValue, Rows, StateRow, Truncated};
use super::sectors::SimDisk;
use super::{table, wal};
use flaredb_kv::MemoryStore;
use flaredb_raft::{ConfState, EntryId, HardState, RaftLogEntry};
use flaredb_record::judgement::{self, Fault, Judgement};
use flaredb_record::mark::CHAIN_UNKNOWN;
use flaredb_record::record::{CHAIN_START, decode};
use std::collections::VecDeque;

/// An entry as the engine keeps it in memory.
#[derive(Clone, Debug)]
pub(super) struct LogRow {
    pub(super) entry: RaftLogEntry,
    /// Hash of the log up to and including it.
    pub(super) chain: u64,
}

/// What a disk holds.
#[derive(Debug)]
pub(super) struct Found {
    /// False if the log's files are damaged so that nothing of it can be known.
    pub(super) opens: bool,
    pub(super) manifest: Manifest,
    /// The lowest index that the WALs touch; `u64::MAX` if none.
    pub(super) replayed_from: u64,
    /// Sequence of the frame that would come next.
    pub(super) sequence: u64,
    /// Default if it cannot be read.
    pub(super) hard_state: HardState,
    pub(super) conf_state: ConfState,
    /// What is in the log, or nothing at all if it cannot be known where it begins.
    pub(super) log: Log,
    /// A snapshot was installed, and the log is still to be reset to it: `log` is what it will be.
    pub(super) was_reset: bool,
    /// None if the rows are damaged: then they are as good as none.
    pub(super) image: Option<(Image, MemoryStore)>,
    /// None if it is damaged, or another disk's.
    pub(super) mark: Option<MarkFile>,
    pub(super) judgement: Judgement,
}

/// The log's intact prefix, and what is wrong after it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) truncated: Truncated,
    pub(super) rows: VecDeque<LogRow>,
    pub(super) last: EntryId,
    pub(super) last_chain: u64,
    /// What is wrong after the prefix, though something is there or after it.
    pub(super) fault: Option<Fault>,
    /// The highest position of an intact record.
    pub(super) last_readable: EntryId,
}

pub(super) fn wal_name(number: u64) -> &'static str {
    if number.is_multiple_of(2) { "wal-0" } else { "wal-1" }
}

/// None if the disk was never made. The error says why it is not this member's.
pub(super) fn read(disk: &SimDisk, identity: &Identity) -> Result<Option<Found>, String> {
    let Some(storage_id) = identity::read(disk, identity)? else { return Ok(None) };
    let mut damaged = Vec::new();
    // As RocksDB does not open a database of which a file is unfit: then there is no log as far as anybody can say.
    let stored = Stored::read(disk).map_err(|what| damaged.push(what)).ok();
    let opens = stored.is_some();
    let Stored { manifest, rows, replayed_from, sequence } = stored.unwrap_or_default();
    let (hard_state, conf_state, truncated) = (HardState::read(&rows), ConfState::read(&rows), Truncated::read(&rows));
    if opens {
        damaged.extend(
            [hard_state.as_ref().err(), conf_state.as_ref().err(), truncated.as_ref().err()]
                .into_iter()
                .flatten()
                .cloned(),
        );
    }
    let conf_state = conf_state.unwrap_or_else(|_| ConfState { voters: identity.voters.clone() });
    if conf_state.voters != identity.voters {
        return Err(format!("the log says voters {:?}, this process says {:?}", conf_state.voters, identity.voters));
    }
    let mut hard_state = hard_state.unwrap_or_default();
    let mut log = Log::read(identity.region_id, &rows, truncated.ok());
    let image = Image::read(disk).map_err(|what| damaged.push(what)).ok();
    let base = image.as_ref().map_or(EntryId::default(), |(image, _)| image.stamp.base);
    let was_reset = opens && base.index > log.truncated.id.index;
    if was_reset {
        log = Log::new(Truncated { id: base, chain: CHAIN_START });
        hard_state.commit_index = base.index;
        hard_state.current_term = hard_state.current_term.max(base.term);
    }
    let mark = MarkFile::read(disk).filter(|file| file.mark.storage_id == storage_id);
    let judgement = judge(damaged, &log, hard_state, image.as_ref().map(|(image, _)| image), mark.as_ref());
    Ok(Some(Found {
        opens,
        manifest,
        replayed_from,
        sequence,
        hard_state,
        conf_state,
        log,
        was_reset,
        image,
        mark,
        judgement,
    }))
}

/// Tables and WALs put together.
#[derive(Default)]
struct Stored {
    manifest: Manifest,
    rows: Rows,
    replayed_from: u64,
    sequence: u64,
}

impl Stored {
    fn read(disk: &SimDisk) -> Result<Self, String> {
        let manifest = Manifest::read(disk)?;
        let mut rows = Rows::default();
        for number in &manifest.tables {
            table::read(disk, *number, &mut rows)?;
        }
        let mut sequence = manifest.sequence;
        rows.touched_from = u64::MAX;
        for number in [manifest.oldest_wal, manifest.oldest_wal + 1] {
            let name = wal_name(number);
            let file = disk.find(name).ok_or_else(|| format!("{name} is missing"))?;
            let content = disk.read(file, 0, disk.len(file)).map_err(|error| error.to_string())?;
            wal::replay(&content, number, &mut sequence, &mut rows);
        }
        Ok(Self { replayed_from: rows.touched_from, manifest, rows, sequence })
    }
}

fn judge(
    rows: Vec<String>,
    log: &Log,
    hard_state: HardState,
    image: Option<&Image>,
    mark: Option<&MarkFile>,
) -> Judgement {
    let mark = mark.map(|file| &file.mark);
    let applied = image::applied(image);
    let found = judgement::Found {
        rows,
        hard_state,
        compacted_to: log.truncated.id,
        last: log.last,
        fault: log.fault.clone(),
        last_readable: log.last_readable,
        chain_at_acked: mark.and_then(|mark| log.chain_at(mark.acked)),
        applied,
        term_at_applied: log.at(applied.index).map(|(id, _)| id.term),
    };
    judgement::judge(&found, mark)
}

impl Log {
    pub(super) fn new(truncated: Truncated) -> Self {
        let Truncated { id: last, chain: last_chain } = truncated;
        Self { truncated, rows: VecDeque::new(), last, last_chain, fault: None, last_readable: last }
    }

    /// Every record: checksum, place, chain, term, no hole.
    fn read(region: u64, rows: &Rows, truncated: Option<Truncated>) -> Self {
        let mut log = Self::new(truncated.unwrap_or_default());
        if let Some((index, _)) = rows.log.first_key_value().filter(|_| truncated.is_none()) {
            log.fault = Some(Fault { index: *index, what: "where raft_log begins is not known".to_owned() });
        }
        for (index, value) in &rows.log {
            if log.fault.is_none() {
                match log.check(region, *index, value) {
                    Ok(row) => log.push(row),
                    Err(what) => {
                        let index = log.last.index + 1;
                        // Something was there, of no lower term than the entry before it.
                        log.last_readable = EntryId { index, term: log.last.term };
                        log.fault = Some(Fault { index, what });
                    }
                }
            }
            if log.fault.is_some() {
                log.note_beyond(region, *index, value);
            }
        }
        log
    }

    /// After the fault: how far the log once reached.
    fn note_beyond(&mut self, region: u64, index: u64, value: &LogValue) {
        let term = match value {
            LogValue::Record(record) => decode(region, index, None, record).map(|view| view.term).ok(),
            // It was whole when its table was written; terms do not fall.
            LogValue::Unreadable(_) => Some(self.last_readable.term),
        };
        let reached = term.map(|term| EntryId { index, term });
        self.last_readable = self.last_readable.max(reached.unwrap_or_default());
    }

    fn check(&self, region: u64, index: u64, value: &LogValue) -> Result<LogRow, String> {
        let expected = self.last.index + 1;
        if index != expected {
            return Err(format!("raft_log {expected} is missing, the next record is {index}"));
        }
        let record = match value {
            LogValue::Record(record) => record,
            LogValue::Unreadable(why) => return Err(format!("raft_log {index} cannot be read: {why}")),
        };
        let view = decode(region, index, Some(self.last_chain), record);
        let view = view.map_err(|fault| format!("raft_log {index} {fault}"))?;
        if view.term < self.last.term {
            return Err(format!("raft_log {index} has term {}, the entry before it {}", view.term, self.last.term));
        }
        Ok(LogRow { chain: view.chain, entry: view.to_entry(record) })
    }

    fn push(&mut self, row: LogRow) {
        (self.last, self.last_chain) = (row.entry.id(), row.chain);
        self.last_readable = self.last;
        self.rows.push_back(row);
    }

    /// Entry and chain value at this index, if the intact prefix says.
    fn at(&self, index: u64) -> Option<(EntryId, u64)> {
        let Truncated { id, chain } = self.truncated;
        match index.checked_sub(id.index)? {
            0 => Some((id, chain)),
            after => {
                let place = usize::try_from(after - 1).ok()?;
                self.rows.get(place).map(|row| (row.entry.id(), row.chain))
            }
        }
    }

    fn chain_at(&self, wanted: EntryId) -> Option<u64> {
        let (found, chain) = self.at(wanted.index)?;
        (found == wanted && chain != CHAIN_UNKNOWN).then_some(chain)
    }

    /// Keeps what is up to `index` and forgets what is wrong after it.
    pub(super) fn keep_to(&mut self, index: u64) {
        while self.rows.pop_back_if(|row| row.entry.index > index).is_some() {}
        (self.last, self.last_chain) =
            self.rows.back().map_or((self.truncated.id, self.truncated.chain), |row| (row.entry.id(), row.chain));
        self.fault = None;
    }
}
