//! The table of keys: every row that the state machine keeps in its store, byte by byte. Nothing else makes or reads them.
//!
//! ```text
//! key                                                     value
//! 'm' "applied"                                           index u64 ‖ term u64 ‖ revision i64 ‖ compact revision i64
//! 'm' "compaction"                                        finished i64 ‖ target i64 ‖ next main i64 ‖ next sub u32
//! 'r' ‖ main u64 ‖ sub u32                                kind u8 ‖ replaced main u64 ‖ replaced sub u32 ‖ user key
//! 'u' ‖ escaped user key ‖ 00 00 ‖ !main u64 ‖ !sub u32   01 ‖ create revision i64 ‖ version i64 ‖ lease i64 ‖ value
//!                                                         00                                            (a tombstone)
//! ```
//!
//! All integers are big-endian. In an escaped user key each byte 00 is written 00 FF, so that 00 00 ends it, no key is the
//! beginning of another, and rows sort as user keys do; `!` (all bits flipped) makes the newest row of a key come first.
//! The row under 'r' says what a revision changed: kind 01 put, 00 delete; "replaced" is the live row of the same key that
//! this change took the place of (main 0: none). Compaction removes exactly that row, without searching.
//! docs/storage.md draws the same table.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{AppliedState, StoreError};

pub(crate) const APPLIED_KEY: &[u8] = b"mapplied";
pub(crate) const COMPACTION_KEY: &[u8] = b"mcompaction";
/// Bounds of all user rows.
pub(crate) const USER_START: &[u8] = b"u";
pub(crate) const USER_END: &[u8] = b"v";
/// Bounds of the revision index.
pub(crate) const INDEX_END: &[u8] = b"s";

const INDEX: u8 = b'r';
const USER: u8 = b'u';
const TOMBSTONE: u8 = 0;
const LIVE: u8 = 1;
/// Main and sub revision at the end of a user row's key.
const REVISION_LEN: usize = 12;

/// Which change: the transaction's revision, and the change's place within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowRevision {
    pub(crate) main: i64,
    pub(crate) sub: u32,
}

/// What a live row says beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowHeader {
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// A row of the revision index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexRow<'a> {
    pub(crate) tombstone: bool,
    pub(crate) replaced: Option<RowRevision>,
    pub(crate) user_key: &'a [u8],
}

/// How far the removal of compacted rows has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompactionState {
    /// All rows up to this revision that had to go are gone.
    pub(crate) finished: i64,
    /// The revision that `next` belongs to.
    pub(crate) target: i64,
    /// Index rows before this one are done.
    pub(crate) next: RowRevision,
}

impl Default for CompactionState {
    fn default() -> Self {
        Self { finished: NOT_COMPACTED, target: NOT_COMPACTED, next: RowRevision::default() }
    }
}

/// The compact revision of a store that was never compacted, as etcd reports it.
pub(crate) const NOT_COMPACTED: i64 = -1;

/// Appends what all rows of a user key begin with.
pub(crate) fn push_user_prefix(user_key: &[u8], out: &mut Vec<u8>) {
    out.push(USER);
    if user_key.contains(&0) {
        for byte in user_key {
            out.push(*byte);
            if *byte == 0 {
                out.push(0xff);
            }
        }
    } else {
        out.extend_from_slice(user_key);
    }
    out.extend_from_slice(&[0, 0]);
}

pub(crate) fn user_prefix(user_key: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(user_key.len() + 3 + REVISION_LEN);
    push_user_prefix(user_key, &mut prefix);
    prefix
}

/// The first byte string after all rows that begin with `prefix`, which ends in the terminator 00 00.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    let last = end.last_mut();
    assert!(last.as_deref() == Some(&0), "a user row's prefix ends in 00 00");
    if let Some(last) = last {
        *last = 1;
    }
    end
}

/// Appends the revision part of a user row's key.
pub(crate) fn push_revision(revision: RowRevision, out: &mut Vec<u8>) {
    out.extend_from_slice(&(!revision.main.cast_unsigned()).to_be_bytes());
    out.extend_from_slice(&(!revision.sub).to_be_bytes());
}

/// The key under which a seek finds the newest row at or below `main` of the user key with this prefix.
pub(crate) fn push_newest_at(main: i64, out: &mut Vec<u8>) {
    push_revision(RowRevision { main, sub: u32::MAX }, out);
}

/// The key of a row: a user key's prefix, which becomes part of it, and the revision.
pub(crate) fn user_row_key(prefix: Vec<u8>, revision: RowRevision) -> Bytes {
    let mut key = prefix;
    push_revision(revision, &mut key);
    Bytes::from(key)
}

/// A user row's key as prefix (what all rows of the user key share) and revision.
pub(crate) fn split_user_row(key: &[u8]) -> Result<(&[u8], RowRevision), StoreError> {
    let damaged = || damaged("user row", key);
    let (prefix, revision) = key.split_last_chunk::<REVISION_LEN>().ok_or_else(damaged)?;
    let mut fields = Fields(revision);
    let main = (!fields.u64().ok_or_else(damaged)?).cast_signed();
    let sub = !fields.u32().ok_or_else(damaged)?;
    if main < 0 || prefix.first() != Some(&USER) || !prefix.ends_with(&[0, 0]) {
        return Err(damaged());
    }
    Ok((prefix, RowRevision { main, sub }))
}

/// What all rows of the same user key begin with, and no others; of any other row its whole key. For stores that keep an
/// index of prefixes: see [`crate::StoreReader::point_cursor`]. The prefix of a prefix is itself.
pub fn row_prefix(key: &[u8]) -> &[u8] {
    if key.first() != Some(&USER) {
        return key;
    }
    let mut from = 1;
    // To the first 00 that is not followed by FF.
    while let Some(zero) = key.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) {
        let end = from + zero + 2;
        match key.get(..end) {
            Some(prefix) if prefix.last() != Some(&0xff) => return prefix,
            _ => from = end,
        }
    }
    key
}

/// True for the key of a user row, among keys that this crate made: only these share prefixes.
pub fn is_user_row(key: &[u8]) -> bool {
    key.first() == Some(&USER)
}

/// The user key that a row's prefix stands for.
pub(crate) fn user_key(prefix: &[u8]) -> Result<Cow<'_, [u8]>, StoreError> {
    let damaged = || damaged("user row", prefix);
    let escaped = prefix.strip_prefix(&[USER]).and_then(|rest| rest.strip_suffix(&[0, 0])).ok_or_else(damaged)?;
    if !escaped.contains(&0) {
        return Ok(Cow::Borrowed(escaped));
    }
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return Err(damaged());
        }
    }
    Ok(Cow::Owned(key))
}

pub(crate) fn live_row(header: RowHeader, value: &[u8]) -> Bytes {
    let mut row = Vec::with_capacity(25 + value.len());
    row.push(LIVE);
    row.extend_from_slice(&header.create_revision.to_be_bytes());
    row.extend_from_slice(&header.version.to_be_bytes());
    row.extend_from_slice(&header.lease.to_be_bytes());
    row.extend_from_slice(value);
    Bytes::from(row)
}

pub(crate) fn tombstone_row() -> Bytes {
    Bytes::from_static(&[TOMBSTONE])
}

/// True if this user row's value says that the key was deleted.
pub(crate) fn is_tombstone(row: &[u8]) -> bool {
    row.first() == Some(&TOMBSTONE)
}

/// A user row's value: None for a tombstone. `key` is only for the message.
pub(crate) fn parse_user_row<'a>(key: &[u8], row: &'a [u8]) -> Result<Option<(RowHeader, &'a [u8])>, StoreError> {
    match row.split_first() {
        Some((&TOMBSTONE, [])) => return Ok(None),
        Some((&LIVE, rest)) => {
            let mut fields = Fields(rest);
            if let (Some(create_revision), Some(version), Some(lease)) = (fields.i64(), fields.i64(), fields.i64()) {
                return Ok(Some((RowHeader { create_revision, version, lease }, fields.0)));
            }
        }
        _ => {}
    }
    Err(damaged("value of user row", key))
}

pub(crate) fn index_key(revision: RowRevision) -> Bytes {
    let mut key = Vec::with_capacity(1 + REVISION_LEN);
    key.push(INDEX);
    key.extend_from_slice(&revision.main.to_be_bytes());
    key.extend_from_slice(&revision.sub.to_be_bytes());
    Bytes::from(key)
}

pub(crate) fn parse_index_key(key: &[u8]) -> Result<RowRevision, StoreError> {
    if let Some((&INDEX, rest)) = key.split_first() {
        let mut fields = Fields(rest);
        if let (Some(main), Some(sub), []) = (fields.i64(), fields.u32(), fields.0) {
            return Ok(RowRevision { main, sub });
        }
    }
    Err(damaged("revision index row", key))
}

pub(crate) fn index_row(row: &IndexRow<'_>) -> Bytes {
    let replaced = row.replaced.unwrap_or_default();
    let mut value = Vec::with_capacity(1 + REVISION_LEN + row.user_key.len());
    value.push(if row.tombstone { TOMBSTONE } else { LIVE });
    value.extend_from_slice(&replaced.main.to_be_bytes());
    value.extend_from_slice(&replaced.sub.to_be_bytes());
    value.extend_from_slice(row.user_key);
    Bytes::from(value)
}

pub(crate) fn parse_index_row<'a>(key: &[u8], value: &'a [u8]) -> Result<IndexRow<'a>, StoreError> {
    if let Some((&kind @ (TOMBSTONE | LIVE), rest)) = value.split_first() {
        let mut fields = Fields(rest);
        if let (Some(main), Some(sub)) = (fields.i64(), fields.u32()) {
            let replaced = (main != 0).then_some(RowRevision { main, sub });
            return Ok(IndexRow { tombstone: kind == TOMBSTONE, replaced, user_key: fields.0 });
        }
    }
    Err(damaged("value of revision index row", key))
}

pub(crate) fn applied_row(applied: &AppliedState) -> Bytes {
    let mut row = Vec::with_capacity(32);
    row.extend_from_slice(&applied.index.to_be_bytes());
    row.extend_from_slice(&applied.term.to_be_bytes());
    row.extend_from_slice(&applied.revision.to_be_bytes());
    row.extend_from_slice(&applied.compact_revision.to_be_bytes());
    Bytes::from(row)
}

pub(crate) fn parse_applied_row(row: &[u8]) -> Result<AppliedState, StoreError> {
    let mut fields = Fields(row);
    match (fields.u64(), fields.u64(), fields.i64(), fields.i64(), fields.0) {
        (Some(index), Some(term), Some(revision), Some(compact_revision), []) => {
            Ok(AppliedState { index, term, revision, compact_revision })
        }
        _ => Err(damaged("value of row", APPLIED_KEY)),
    }
}

pub(crate) fn compaction_row(state: &CompactionState) -> Bytes {
    let mut row = Vec::with_capacity(28);
    row.extend_from_slice(&state.finished.to_be_bytes());
    row.extend_from_slice(&state.target.to_be_bytes());
    row.extend_from_slice(&state.next.main.to_be_bytes());
    row.extend_from_slice(&state.next.sub.to_be_bytes());
    Bytes::from(row)
}

pub(crate) fn parse_compaction_row(row: &[u8]) -> Result<CompactionState, StoreError> {
    let mut fields = Fields(row);
    match (fields.i64(), fields.i64(), fields.i64(), fields.u32(), fields.0) {
        (Some(finished), Some(target), Some(main), Some(sub), []) => {
            Ok(CompactionState { finished, target, next: RowRevision { main, sub } })
        }
        _ => Err(damaged("value of row", COMPACTION_KEY)),
    }
}

/// The store holds something that this crate never wrote there.
fn damaged(what: &str, key: &[u8]) -> StoreError {
    StoreError(format!("state machine: damaged {what} {}", key.escape_ascii()))
}

/// Takes big-endian integers off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*first))
    }

    fn i64(&mut self) -> Option<i64> {
        self.u64().map(u64::cast_signed)
    }

    fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }
}
