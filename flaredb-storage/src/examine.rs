//! Reads the whole log as RocksDB gives it back and says what it is: an intact prefix, and the first thing wrong after it.
//!
//! RocksDB's recovery ends the log at the first bad record of a WAL file without a word, and passes on whatever else it cannot
//! see through. So every record is verified here: checksum, place, chain, term, no hole. What is right and what was lost is
//! not decided here but by `flaredb_record::judgement`, which also knows the mark.

use crate::layout::{LogKey, RAFT_LOG_CF, StateKey, log_key, parse_log_key, state_key};
use crate::log::{log_cf, state_cf};
use crate::record::{CHAIN_START, decode};
use crate::state_rows::{StateRow, TruncatedState};
use flaredb_raft::{ConfState, EntryId, HardState};
use flaredb_record::judgement::{Fault, Found};
use rocksdb::{DB, DBRawIterator, ReadOptions};

const SCAN_READAHEAD_BYTES: usize = 2 * 1024 * 1024;
/// How many unreadable records are stepped over from the end, in search of one that can be read.
const READABLE_SEARCH: usize = 10_000;

/// What the log's database holds.
#[derive(Clone, Debug)]
pub(crate) struct Examined {
    /// Rows that are missing or damaged, by key.
    pub(crate) rows: Vec<String>,
    pub(crate) hard_state: HardState,
    /// None: missing or damaged.
    pub(crate) conf_state: Option<ConfState>,
    pub(crate) truncated: TruncatedState,
    pub(crate) last: EntryId,
    pub(crate) last_chain: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) last_readable: EntryId,
    /// Neither row nor record: nothing was ever written, or everything is gone.
    pub(crate) empty: bool,
    /// The chain value of the entry asked for.
    pub(crate) chain_at_acked: Option<u64>,
    /// The term at the index asked for.
    pub(crate) term_at_applied: Option<u64>,
}

/// Entries that the judgement asks about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Questions {
    pub(crate) acked: Option<EntryId>,
    pub(crate) applied: Option<EntryId>,
}

impl Examined {
    /// A database that cannot even be opened.
    pub(crate) fn unreadable(what: String) -> Self {
        Self {
            rows: vec![what],
            hard_state: HardState::default(),
            conf_state: None,
            truncated: TruncatedState::default(),
            last: EntryId::default(),
            last_chain: CHAIN_START,
            fault: None,
            last_readable: EntryId::default(),
            empty: false,
            chain_at_acked: None,
            term_at_applied: None,
        }
    }

    /// For the judgement. Without a state machine the log is taken to fit it.
    pub(crate) fn found(&self, applied: Option<EntryId>) -> Found {
        Found {
            rows: self.rows.clone(),
            hard_state: self.hard_state,
            compacted_to: self.truncated.id,
            last: self.last,
            fault: self.fault.clone(),
            last_readable: self.last_readable,
            chain_at_acked: self.chain_at_acked,
            applied: applied.unwrap_or(self.truncated.id),
            term_at_applied: if applied.is_some() { self.term_at_applied } else { Some(self.truncated.id.term) },
        }
    }
}

/// Reads everything.
pub(crate) fn examine(db: &DB, region: u64, questions: Questions) -> Examined {
    let mut rows = Vec::new();
    let hard_state = row::<HardState>(db, region, &mut rows);
    let conf_state = row::<ConfState>(db, region, &mut rows);
    let truncated = row::<TruncatedState>(db, region, &mut rows);
    let mut scan = Scan::new(db, region, questions);
    let missing = hard_state.is_none() && conf_state.is_none() && truncated.is_none();
    let first = scan.first_index();
    match truncated {
        Some(truncated) => scan.run(truncated),
        None => {
            scan.fault = first.map(|index| Fault { index, what: format!("where {RAFT_LOG_CF} begins is not known") })
        }
    }
    let empty = missing && first.is_none() && scan.fault.is_none();
    let (last, last_chain) = scan.end;
    let last_readable = match &scan.fault {
        None => last,
        Some(fault) => {
            // A record that cannot be read was there, of no lower term than the one before it.
            let there = EntryId { index: fault.index, term: last.term };
            scan.last_readable().max(there).max(last)
        }
    };
    Examined {
        rows,
        hard_state: hard_state.unwrap_or_default(),
        conf_state,
        truncated: truncated.unwrap_or_default(),
        last,
        last_chain,
        fault: scan.fault,
        last_readable,
        empty,
        chain_at_acked: scan.chain_at_acked,
        term_at_applied: scan.term_at_applied,
    }
}

fn row<R: StateRow>(db: &DB, region: u64, faults: &mut Vec<String>) -> Option<R> {
    let key = StateKey { region, tag: R::TAG };
    let read = match db.get_pinned_cf(state_cf(db), state_key(region, R::TAG)) {
        Ok(Some(value)) => R::decode(region, &value),
        Ok(None) => Err(format!("{key} is missing")),
        Err(error) => Err(format!("{key}: {error}")),
    };
    read.map_err(|what| faults.push(what)).ok()
}

/// Bounds of a scan over one region, and what it needs to be fast.
pub(crate) fn region_bounds(region: u64) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(log_key(region, 0));
    // INDEX_END's key is never put, so excluding it hides nothing.
    options.set_iterate_upper_bound(log_key(region, u64::MAX));
    options.set_readahead_size(SCAN_READAHEAD_BYTES);
    options.fill_cache(false);
    options
}

struct Scan<'a> {
    rows: DBRawIterator<'a>,
    region: u64,
    questions: Questions,
    /// The intact prefix's end and its chain value.
    end: (EntryId, u64),
    fault: Option<Fault>,
    chain_at_acked: Option<u64>,
    term_at_applied: Option<u64>,
}

impl<'a> Scan<'a> {
    fn new(db: &'a DB, region: u64, questions: Questions) -> Self {
        let rows = db.raw_iterator_cf_opt(log_cf(db), region_bounds(region));
        let end = (EntryId::default(), CHAIN_START);
        Self { rows, region, questions, end, fault: None, chain_at_acked: None, term_at_applied: None }
    }

    /// The first key there is. What cannot be read counts as index 1.
    fn first_index(&mut self) -> Option<u64> {
        self.rows.seek(log_key(self.region, 0));
        match self.rows.key() {
            Some(key) => Some(parse_log_key(key).map_or(1, |(_, index)| index)),
            None => self.rows.status().is_err().then_some(1),
        }
    }

    /// Every record: checksum, place, chain, term, no hole; up to the first fault.
    fn run(&mut self, truncated: TruncatedState) {
        self.end = (truncated.id, truncated.chain);
        self.answer();
        self.rows.seek(log_key(self.region, 0));
        loop {
            let next = self.end.0.index.saturating_add(1);
            match self.record(truncated.id) {
                Ok(Some(end)) => self.end = end,
                Ok(None) => return,
                Err(what) => {
                    self.fault = Some(Fault { index: next, what });
                    return;
                }
            }
            self.answer();
            self.rows.next();
        }
    }

    /// The record under the cursor, if it is the one that must follow.
    fn record(&self, truncated: EntryId) -> Result<Option<(EntryId, u64)>, String> {
        let (last, chain) = self.end;
        let expected = LogKey { region: self.region, index: last.index.saturating_add(1) };
        let Some((key, value)) = self.rows.item() else {
            return self.rows.status().map(|()| None).map_err(|error| format!("{RAFT_LOG_CF} after {last}: {error}"));
        };
        let Some((_, index)) = parse_log_key(key) else {
            return Err(format!("{RAFT_LOG_CF} has a key of {} bytes", key.len()));
        };
        if index != expected.index {
            let found = LogKey { region: self.region, index };
            return Err(if index <= truncated.index {
                format!("{found} is there, though the log was truncated up to {truncated}")
            } else {
                format!("{expected} is missing, the next record is {found}")
            });
        }
        let view = decode(self.region, index, Some(chain), value).map_err(|fault| format!("{expected} {fault}"))?;
        if view.term < last.term {
            return Err(format!("{expected} has term {}, the entry before it has {}", view.term, last.term));
        }
        Ok(Some((EntryId { index, term: view.term }, view.chain)))
    }

    fn answer(&mut self) {
        let (id, chain) = self.end;
        if self.questions.acked == Some(id) {
            self.chain_at_acked = Some(chain);
        }
        if self.questions.applied.is_some_and(|applied| applied.index == id.index) {
            self.term_at_applied = Some(id.term);
        }
    }

    /// From the end backwards: the last record that is whole in itself.
    fn last_readable(&mut self) -> EntryId {
        self.rows.seek_to_last();
        for _ in 0..READABLE_SEARCH {
            let Some((key, value)) = self.rows.item() else { break };
            if let Some((_, index)) = parse_log_key(key)
                && let Ok(view) = decode(self.region, index, None, value)
            {
                return EntryId { index, term: view.term };
            }
            self.rows.prev();
        }
        EntryId::default()
    }
}
