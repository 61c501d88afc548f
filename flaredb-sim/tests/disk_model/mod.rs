//! A member with a model disk, and beside it everything that its disk may hold after a crash.

use bytes::Bytes;
use flaredb_kv::{AppliedState, Batch, Change, MemoryStore, OrderedStore, StoreReader};
use flaredb_raft::{ConfState, EntryId, HardState, RaftLogEntry, SnapshotMeta, Write};
use flaredb_record::mark::UNKNOWN;
use flaredb_sim::disk::{CrashMode, DiskError, Identity, LogOptions, ModelLog, OpenError, Opened, SimDisk};
use flaredb_sim::prf::Draw;
use std::collections::BTreeMap;

/// A log and a state machine's position as a plain value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) hard: HardState,
    pub(crate) compacted_to: EntryId,
    pub(crate) entries: Vec<RaftLogEntry>,
    pub(crate) applied: AppliedState,
}

impl Plain {
    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.compacted_to, RaftLogEntry::id)
    }

    /// None if it was compacted away or is past the end.
    pub(crate) fn id_at(&self, index: u64) -> Option<EntryId> {
        if index == self.compacted_to.index {
            return Some(self.compacted_to);
        }
        let place = index.checked_sub(self.compacted_to.index + 1)?;
        self.entries.get(place as usize).map(RaftLogEntry::id)
    }

    /// A peer starts from the highest of these.
    pub(crate) fn committed(&self) -> u64 {
        self.hard.commit_index.max(self.compacted_to.index).max(self.applied.index)
    }

    fn write(&mut self, write: &Write) {
        self.hard = write.hard_state;
        if let Some(first) = write.entries.first() {
            self.entries.truncate((first.index - self.compacted_to.index - 1) as usize);
            self.entries.extend(write.entries.iter().cloned());
        }
    }

    fn truncate(&mut self, up_to: EntryId) {
        self.entries.retain(|entry| entry.index > up_to.index);
        self.compacted_to = up_to;
    }

    fn reset(&mut self, to: EntryId, hard: HardState) {
        self.entries.clear();
        (self.compacted_to, self.hard) = (to, hard);
    }
}

pub(crate) struct Member {
    pub(crate) seed: u64,
    pub(crate) disk: SimDisk,
    pub(crate) options: LogOptions,
    /// None while the process is dead.
    pub(crate) log: Option<ModelLog>,
    /// States in the order of writing: the first is durable, the last is what the process sees.
    pub(crate) states: Vec<Plain>,
    pub(crate) incarnation: u64,
    /// Every entry that was made, with what stood before it.
    seen: BTreeMap<(u64, u64), (RaftLogEntry, EntryId)>,
    next_write: u64,
}

pub(crate) fn identity() -> Identity {
    Identity { cluster_id: 9, member_id: 2, region_id: 1, voters: vec![1, 2, 3] }
}

pub(crate) fn other_identity() -> Identity {
    Identity { member_id: 3, ..identity() }
}

pub(crate) fn member_options(draw: &mut Draw) -> LogOptions {
    LogOptions { wal_bytes: *draw.pick(&[700, 5000, 9000, 20_000]), tables_max: *draw.pick(&[1, 2, 4]) }
}

pub(crate) fn entry(index: u64, term: u64, bytes: u64) -> RaftLogEntry {
    let content = format!("{index}@{term} ").into_bytes();
    let command: Vec<u8> = content.iter().copied().cycle().take(bytes as usize).collect();
    let context = index.is_multiple_of(2).then(|| Bytes::from(format!("c{term}")));
    RaftLogEntry { index, term, command: Bytes::from(command), context }
}

/// Rows that tell which state they are of.
pub(crate) fn store(index: u64) -> MemoryStore {
    let mut store = MemoryStore::new();
    let row = Change::Put(Bytes::from_static(b"at"), Bytes::from(index.to_string()));
    store.write(&Batch { changes: vec![row] }).unwrap();
    store
}

pub(crate) fn applied_state(id: EntryId) -> AppliedState {
    AppliedState { index: id.index, term: id.term, revision: id.index as i64 + 1, compact_revision: -1 }
}

impl Member {
    pub(crate) fn new(seed: u64, options: LogOptions) -> Self {
        let disk = SimDisk::new(seed, 2);
        let opened = ModelLog::open(&disk, &identity(), options).unwrap();
        assert!(opened.fresh && opened.repaired.is_none() && opened.recover_until.is_none());
        assert_eq!((opened.incarnation, opened.applied.index), (1, 0));
        let state = Plain {
            hard: HardState::default(),
            compacted_to: EntryId::default(),
            entries: Vec::new(),
            applied: opened.applied,
        };
        let states = vec![state];
        Self {
            seed,
            disk,
            options,
            log: Some(opened.log),
            states,
            incarnation: 1,
            seen: BTreeMap::new(),
            next_write: 1,
        }
    }

    pub(crate) fn now(&self) -> &Plain {
        self.states.last().unwrap()
    }

    pub(crate) fn log(&self) -> &ModelLog {
        self.log.as_ref().unwrap()
    }

    fn becomes(&mut self, state: Plain) {
        self.states.push(state);
    }

    /// What the process sees is durable.
    pub(crate) fn settled(&mut self) {
        let now = self.states.pop().unwrap();
        self.states = vec![now];
    }

    /// One operation, perhaps with the power cut or an error in the middle. Any error means that the process dies.
    pub(crate) fn random_step(&mut self, draw: &mut Draw) -> Result<(), DiskError> {
        if draw.hits(60_000) {
            self.disk.cut_power_after(draw.below(12));
        }
        if draw.hits(10_000) {
            self.disk.fail_next_sync();
        }
        if draw.hits(10_000) {
            self.disk.fail_next_write();
        }
        match draw.below(20) {
            0..=9 => self.append(draw),
            10..=11 => self.vote(draw),
            12 => self.commit_only(draw),
            13..=15 => self.save_image(draw),
            16..=17 => self.truncate(draw),
            18 => self.install(draw),
            _ => self.begin_and_die(draw),
        }
    }

    /// Appends, or replaces a tail that is not committed.
    pub(crate) fn random_write(&mut self, draw: &mut Draw) -> Write {
        let now = self.now().clone();
        let mut hard = now.hard;
        if draw.hits(200_000) {
            hard = HardState { current_term: hard.current_term + draw.between(1, 3), voted_for: None, ..hard };
        }
        hard.current_term = hard.current_term.max(1);
        let last = now.last();
        let committed = now.committed();
        let from = if draw.hits(250_000) { draw.between(committed + 1, last.index + 1) } else { last.index + 1 };
        let mut before = now.id_at(from - 1).unwrap();
        let mut entries = Vec::new();
        for index in from..from + draw.between(1, 4) {
            let least = before.term.max(1);
            let mut term = draw.between(least, hard.current_term);
            let bytes = if draw.hits(50_000) { draw.below(12_000) } else { draw.below(400) };
            // As Raft has it: two entries of one position are one entry, with one log before it.
            while self.seen.get(&(index, term)).is_some_and(|(_, known)| *known != before) {
                term += 1;
            }
            if term > hard.current_term {
                (hard.current_term, hard.voted_for) = (term, None);
            }
            let (made, _) = self.seen.entry((index, term)).or_insert_with(|| (entry(index, term, bytes), before));
            before = made.id();
            entries.push(made.clone());
        }
        let end = entries.last().unwrap().index;
        hard.commit_index = draw.between(committed, end);
        self.next_write += 1;
        Write { id: self.next_write, hard_state: hard, entries, sync: true }
    }

    /// Takes an entry that a test made itself.
    pub(crate) fn known(&mut self, entry: RaftLogEntry) -> RaftLogEntry {
        let before = self.now().last();
        self.seen.insert((entry.index, entry.term), (entry.clone(), before));
        entry
    }

    pub(crate) fn append(&mut self, draw: &mut Draw) -> Result<(), DiskError> {
        let write = self.random_write(draw);
        self.write(&write)
    }

    pub(crate) fn write(&mut self, write: &Write) -> Result<(), DiskError> {
        let mut next = self.now().clone();
        next.write(write);
        self.becomes(next);
        self.log().begin_write(write)?;
        self.log().sync()?;
        if write.sync {
            self.settled();
        }
        Ok(())
    }

    fn vote(&mut self, draw: &mut Draw) -> Result<(), DiskError> {
        let hard = self.now().hard;
        let hard_state = HardState {
            current_term: hard.current_term + draw.between(1, 2),
            voted_for: draw.hits(700_000).then(|| draw.between(1, 3)),
            ..hard
        };
        self.next_write += 1;
        self.write(&Write { id: self.next_write, hard_state, entries: Vec::new(), sync: true })
    }

    fn commit_only(&mut self, draw: &mut Draw) -> Result<(), DiskError> {
        let hard = self.now().hard;
        let low = self.now().committed();
        let commit_index = draw.between(low, self.now().last().index);
        self.next_write += 1;
        let hard_state = HardState { commit_index, ..hard };
        self.write(&Write { id: self.next_write, hard_state, entries: Vec::new(), sync: false })
    }

    fn save_image(&mut self, draw: &mut Draw) -> Result<(), DiskError> {
        let now = self.now().clone();
        let index = draw.between(now.applied.index.max(now.compacted_to.index), now.committed());
        let applied = applied_state(now.id_at(index).unwrap());
        self.becomes(Plain { applied, ..now });
        self.log().save_image(applied, store(index))?;
        self.log().sync_image()?;
        // The rows are durable; of the log's unsynced commit index nothing is known.
        for state in &mut self.states {
            state.applied = applied;
        }
        Ok(())
    }

    fn truncate(&mut self, draw: &mut Draw) -> Result<(), DiskError> {
        let now = self.now().clone();
        let up_to = draw.between(now.compacted_to.index, now.applied.index.max(now.compacted_to.index));
        let Some(id) = now.id_at(up_to).filter(|id| id.index > now.compacted_to.index) else { return Ok(()) };
        let mut next = now;
        next.truncate(id);
        self.becomes(next);
        self.log().truncate(id)?;
        self.settled();
        Ok(())
    }

    /// A snapshot from a leader: past the end, or in the place of a tail.
    fn install(&mut self, draw: &mut Draw) -> Result<(), DiskError> {
        let now = self.now().clone();
        let low = now.committed() + 1;
        let index = draw.between(low, low + 20);
        let least = now.id_at(low - 1).unwrap().term.max(1);
        let hard = HardState { current_term: now.hard.current_term.max(least), ..now.hard };
        // The term is durable before a snapshot of it is taken in.
        self.next_write += 1;
        self.write(&Write { id: self.next_write, hard_state: hard, entries: Vec::new(), sync: true })?;
        let id = EntryId { index, term: draw.between(least, hard.current_term) };
        self.install_at(id)
    }

    pub(crate) fn install_at(&mut self, id: EntryId) -> Result<(), DiskError> {
        let hard = HardState { commit_index: id.index, ..self.now().hard };
        let meta = SnapshotMeta { last: id, conf_state: ConfState { voters: identity().voters } };
        let mut next = self.now().clone();
        next.reset(id, hard);
        next.applied = applied_state(id);
        self.becomes(next);
        self.log().install_image(&meta, applied_state(id), store(id.index))?;
        self.log().reset_to_snapshot(&meta, hard)?;
        self.settled();
        Ok(())
    }

    fn begin_and_die(&mut self, draw: &mut Draw) -> Result<(), DiskError> {
        let write = self.random_write(draw);
        let mut next = self.now().clone();
        next.write(&write);
        self.becomes(next);
        self.log().begin_write(&write)?;
        Err(DiskError::PowerCut)
    }

    /// Opens the disk again, with crashes in the middle of it now and then.
    pub(crate) fn open(&mut self, draw: &mut Draw, modes: &[CrashMode]) -> Result<Opened, OpenError> {
        self.log = None;
        loop {
            let cut = draw.hits(150_000);
            if cut {
                self.disk.cut_power_after(draw.below(25));
            }
            match ModelLog::open(&self.disk, &identity(), self.options) {
                Err(OpenError::Disk(DiskError::PowerCut)) => self.disk.crash(*draw.pick(modes)),
                Err(OpenError::Disk(_)) => {}
                other => {
                    if cut {
                        self.disk.cut_power_after(1 << 40);
                    }
                    return other;
                }
            }
        }
    }

    /// Opens it, and finds one of the states that it may be in, and nothing to repair.
    pub(crate) fn reopen(&mut self, draw: &mut Draw, modes: &[CrashMode]) {
        let seed = self.seed;
        let opened = self.open(draw, modes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(opened.repaired, None, "seed {seed}");
        assert_eq!(opened.recover_until, None, "seed {seed}");
        assert!(opened.incarnation > self.incarnation, "seed {seed}");
        let found = self.adopt(opened);
        // The rows are synced on their own: they may be ahead of a commit index that was not, and go with any log that
        // reaches them.
        let log = self.states.iter().any(|state| Plain { applied: found.applied, ..state.clone() } == found);
        let rows = self.states.iter().any(|state| state.applied == found.applied);
        let (from, to) = (found.compacted_to.index, found.last().index);
        let fits = (from..=to).contains(&found.applied.index);
        assert!(log && rows && fits, "seed {seed}: {found:#?}\nis none of\n{:#?}", self.states);
        self.states = vec![found];
    }

    /// Takes what was opened as this member's log; returns its content.
    pub(crate) fn adopt(&mut self, opened: Opened) -> Plain {
        let found = Plain {
            hard: opened.hard_state,
            compacted_to: opened.compacted_to,
            entries: opened.log.all_entries(),
            applied: opened.applied,
        };
        let row = opened.store.reader().get(b"at").unwrap();
        let rows_at = row.map_or(0, |row| String::from_utf8_lossy(&row).parse().unwrap());
        assert_eq!(rows_at, opened.applied.index, "seed {}: the rows are those of the applied index", self.seed);
        self.incarnation = opened.incarnation;
        self.log = Some(opened.log);
        found
    }

    /// Whatever was destroyed: no entry is there that was not written so, after the same entries.
    pub(crate) fn check_truth(&self, found: &Plain) {
        let seed = self.seed;
        let mut before = found.compacted_to;
        for entry in &found.entries {
            let known = self.seen.get(&(entry.index, entry.term));
            assert_eq!(
                known,
                Some(&(entry.clone(), before)),
                "seed {seed}: {} was never written like this",
                entry.id()
            );
            before = entry.id();
        }
        assert!(found.hard.current_term >= before.term, "seed {seed}");
        assert!(found.hard.commit_index <= before.index, "seed {seed}");
    }

    /// One fault: what is gone is known to be gone, and so are term and vote.
    pub(crate) fn check_detected(&self, durable: &Plain, found: &Plain, recover_until: Option<EntryId>) {
        let seed = self.seed;
        let missing = recover_until.unwrap_or_default();
        if found.last() < durable.last() {
            assert!(missing >= durable.last(), "seed {seed}: {} is gone without a word", durable.last());
        }
        let (was, is) = (durable.hard, found.hard);
        if missing != UNKNOWN {
            assert!(is.current_term >= was.current_term, "seed {seed}: the term fell");
            assert!(
                is.current_term > was.current_term || is.voted_for == was.voted_for,
                "seed {seed}: the vote is another"
            );
        }
    }

    /// What a leader that has all of `durable` does for a member that lost something.
    pub(crate) fn heal(&mut self, durable: &Plain, found: Plain, recover_until: Option<EntryId>) {
        let seed = self.seed;
        if recover_until == Some(UNKNOWN) {
            self.log().recover_until(Some(durable.last())).unwrap();
        }
        self.states = vec![found];
        let term = self.now().hard.current_term.max(durable.hard.current_term);
        let same = |index: u64| durable.id_at(index).is_some() && durable.id_at(index) == self.now().id_at(index);
        let (low, high) = (self.now().compacted_to.index, self.now().last().index);
        let common = (low..=high).rev().find(|index| same(*index));
        self.next_write += 1;
        let hard_state = HardState { current_term: term, ..self.now().hard };
        let voted_for = hard_state.voted_for.filter(|_| term == self.now().hard.current_term);
        let hard_state = HardState { voted_for, ..hard_state };
        self.write(&Write { id: self.next_write, hard_state, entries: Vec::new(), sync: true }).unwrap();
        let common = common.unwrap_or_else(|| {
            let snapshot = durable.id_at(durable.committed()).unwrap();
            if snapshot.index > low {
                self.install_at(snapshot).unwrap();
            }
            snapshot.index.max(low)
        });
        let entries: Vec<_> = durable.entries.iter().filter(|entry| entry.index > common).cloned().collect();
        if !entries.is_empty() && self.now().last() != durable.last() {
            let hard_state = self.now().hard;
            self.next_write += 1;
            self.write(&Write { id: self.next_write, hard_state, entries, sync: true }).unwrap();
        }
        assert!(self.log().last() >= durable.last(), "seed {seed}");
    }
}
