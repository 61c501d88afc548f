//! The rows of the two column families: raft_log (index to record) and raft_state (tag to row), as tables and WAL give them.

use super::bytes::{Taker, put_number, seal, unseal};
use bytes::Bytes;
use flaredb_raft::{ConfState, EntryId, HardState};
use flaredb_record::record::CHAIN_START;
use std::collections::BTreeMap;

/// What the disk holds, before anybody has judged it.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) log: BTreeMap<u64, LogValue>,
    /// Or why the row cannot be had.
    pub(super) state: BTreeMap<u8, Result<Vec<u8>, String>>,
    /// The lowest index that was put or cut at the end; for the caller to reset.
    pub(super) touched_from: u64,
}

#[derive(Debug)]
pub(super) enum LogValue {
    Record(Bytes),
    /// It is known that there was a record, and why it cannot be had.
    Unreadable(String),
}

impl Rows {
    pub(super) fn put(&mut self, index: u64, record: &[u8]) {
        self.log.insert(index, LogValue::Record(Bytes::copy_from_slice(record)));
        self.touched_from = self.touched_from.min(index);
    }

    /// Removes all entries from `index` on.
    pub(super) fn cut_from(&mut self, index: u64) {
        self.touched_from = self.touched_from.min(index);
        drop(self.log.split_off(&index));
    }

    /// Removes all entries up to and including `index`.
    pub(super) fn cut_to(&mut self, index: u64) {
        self.log = self.log.split_off(&index.saturating_add(1));
    }
}

/// The last entry that is not in the log any more, and the chain value there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truncated {
    pub(super) id: EntryId,
    pub(super) chain: u64,
}

impl Default for Truncated {
    fn default() -> Self {
        Self { id: EntryId::default(), chain: CHAIN_START }
    }
}

/// A row of raft_state.
pub(super) trait StateRow: Sized {
    const TAG: u8;
    const NAME: &'static str;
    fn put(&self, out: &mut Vec<u8>);
    fn take(rest: &mut Taker<'_>) -> Option<Self>;

    fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        self.put(&mut fields);
        seal(u64::from(Self::TAG), &fields)
    }

    /// The error names the row.
    fn read(rows: &Rows) -> Result<Self, String> {
        let row = rows.state.get(&Self::TAG).ok_or_else(|| format!("raft_state {} is missing", Self::NAME))?;
        let row = row.as_ref().map_err(|why| format!("raft_state {} cannot be read: {why}", Self::NAME))?;
        let mut fields = unseal(u64::from(Self::TAG), row).map(Taker);
        let row = fields.as_mut().and_then(Self::take);
        row.ok_or_else(|| format!("raft_state {} is not what was written", Self::NAME))
    }
}

impl StateRow for HardState {
    const TAG: u8 = 1;
    const NAME: &'static str = "HardState";

    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.current_term);
        put_number(out, u64::from(self.voted_for.is_some()));
        put_number(out, self.voted_for.unwrap_or(0));
        put_number(out, self.commit_index);
    }

    fn take(rest: &mut Taker<'_>) -> Option<Self> {
        let current_term = rest.number()?;
        let voted = rest.number()?;
        let candidate = rest.number()?;
        Some(Self { current_term, voted_for: (voted != 0).then_some(candidate), commit_index: rest.number()? })
    }
}

impl StateRow for ConfState {
    const TAG: u8 = 2;
    const NAME: &'static str = "ConfState";

    fn put(&self, out: &mut Vec<u8>) {
        for voter in &self.voters {
            put_number(out, *voter);
        }
    }

    fn take(rest: &mut Taker<'_>) -> Option<Self> {
        let mut voters = Vec::new();
        while let Some(voter) = rest.number() {
            voters.push(voter);
        }
        Some(Self { voters })
    }
}

impl StateRow for Truncated {
    const TAG: u8 = 3;
    const NAME: &'static str = "TruncatedState";

    fn put(&self, out: &mut Vec<u8>) {
        for number in [self.id.index, self.id.term, self.chain] {
            put_number(out, number);
        }
    }

    fn take(rest: &mut Taker<'_>) -> Option<Self> {
        let id = EntryId { index: rest.number()?, term: rest.number()? };
        Some(Self { id, chain: rest.number()? })
    }
}
