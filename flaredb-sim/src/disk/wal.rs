//! The write-ahead log: frames in a file that is used again and again.
//!
//! ```text
//! checksum u64 | length u64 | WAL number u64 | sequence u64 | changes
//! ```
//! The file is not emptied for its next use. What remains of the last one is told from what was written since by the WAL's
//! number, as RocksDB's recyclable records are. Replay stops at the first frame that is not whole or not the next one, without a
//! word: a torn tail and a rotten one look alike here. Telling them apart is the durable mark's affair.

#![expect(clippy::indexing_slicing, reason = "a frame has its header from `clear` on")]

use super::bytes::{Taker, checksum, put_counted, put_number};
use super::rows::{Rows, StateRow};
use super::sectors::len_u64;

const HEADER: usize = 32;
const CHECKED_FROM: usize = 8;

const PUT_LOG: u8 = 1;
const PUT_STATE: u8 = 2;
const CUT_FROM: u8 = 3;
const CUT_TO: u8 = 4;

/// A batch on its way into the WAL. Kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; HEADER]);
    }

    pub(super) fn put_log(&mut self, index: u64, record: &[u8]) {
        self.bytes.push(PUT_LOG);
        put_number(&mut self.bytes, index);
        put_counted(&mut self.bytes, record);
    }

    pub(super) fn put_state<R: StateRow>(&mut self, row: &R) {
        self.bytes.push(PUT_STATE);
        self.bytes.push(R::TAG);
        put_counted(&mut self.bytes, &row.encode());
    }

    /// Removes all entries from `index` on.
    pub(super) fn cut_from(&mut self, index: u64) {
        self.bytes.push(CUT_FROM);
        put_number(&mut self.bytes, index);
    }

    /// Removes all entries up to and including `index`.
    pub(super) fn cut_to(&mut self, index: u64) {
        self.bytes.push(CUT_TO);
        put_number(&mut self.bytes, index);
    }

    /// The bytes for the WAL of this number.
    pub(super) fn finish(&mut self, wal: u64, sequence: u64) -> &[u8] {
        let length = len_u64(self.bytes.len() - HEADER);
        for (place, number) in [length, wal, sequence].into_iter().enumerate() {
            let at = CHECKED_FROM + 8 * place;
            self.bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(0, &self.bytes[CHECKED_FROM..]);
        self.bytes[..CHECKED_FROM].copy_from_slice(&sum.to_le_bytes());
        &self.bytes
    }
}

/// Applies the whole frames of WAL number `wal`, in order, as long as each is the next one. Returns how many there were.
pub(super) fn replay(content: &[u8], wal: u64, next_sequence: &mut u64, rows: &mut Rows) -> u64 {
    let mut rest = Taker(content);
    let mut frames = 0;
    while let Some(changes) = next_frame(&mut rest, wal, *next_sequence) {
        let mut changes = Taker(changes);
        while !changes.0.is_empty() {
            assert!(apply(&mut changes, rows).is_some(), "a frame with the right checksum holds what was written");
        }
        *next_sequence += 1;
        frames += 1;
    }
    frames
}

fn next_frame<'a>(rest: &mut Taker<'a>, wal: u64, sequence: u64) -> Option<&'a [u8]> {
    let start = *rest;
    let stored = rest.number()?;
    let length = rest.size()?;
    if rest.number()? != wal || rest.number()? != sequence {
        return None;
    }
    let changes = rest.bytes(length)?;
    let checked = start.0.get(CHECKED_FROM..HEADER + length)?;
    (checksum(0, checked) == stored).then_some(changes)
}

fn apply(changes: &mut Taker<'_>, rows: &mut Rows) -> Option<()> {
    match *changes.bytes(1)? {
        [PUT_LOG] => {
            let index = changes.number()?;
            rows.put(index, changes.counted()?);
        }
        [PUT_STATE] => {
            let [tag] = *changes.bytes(1)? else { return None };
            rows.state.insert(tag, Ok(changes.counted()?.to_vec()));
        }
        [CUT_FROM] => rows.cut_from(changes.number()?),
        [CUT_TO] => rows.cut_to(changes.number()?),
        _ => return None,
    }
    Some(())
}
