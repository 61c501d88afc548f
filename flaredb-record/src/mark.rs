//! The durable mark: what this member has promised, kept outside the log, so that a log that lost something is not taken for
//! one that never had it.
//!
//! Two slots of [`SLOT_BYTES`], [`SLOT_DISTANCE`] bytes apart, written in turn: one that is torn or rots leaves the other.
//! Little-endian:
//! ```text
//! at size
//!  0    8  xxh3-64 over every byte from 8 on
//!  8    4  "FDmk"
//! 12    4  version, 1
//! 16    8  generation: rises by one with every writing; slot = generation % 2
//! 24   32  cluster id, member id, storage id, incarnation
//! 56    8  term
//! 64    8  0 or 1: voted in this term
//! 72    8  voted for
//! 80   24  acked: index, term, chain value (0: not known)
//! 104   .  zero
//! ```
//! What keeps it right is an order of writing, the same for every storage engine:
//! - the mark never says more than the log holds. So it is written *after* the log's batch is durable, and a crash between the
//!   two leaves nothing to explain: whatever is missing below the mark was lost by the disk;
//! - the one exception is an end of the log that falls (in Raft's order) because a leader replaced a tail that was not
//!   committed: then [`Mark::lowered`] is made durable *before* the batch;
//! - before a write that changed term or vote is reported as durable, the mark with them is (else the vote could be given
//!   twice); the mark of a mere append may reach the disk later, see [`Mark::after`].
//!
//! What it is not: a second log. It says how much must be there, not what.

use crate::record::CHAIN_START;
use crate::take::take;
use flaredb_raft::{EntryId, HardState};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a slot: what any disk writes at once.
pub const SLOT_BYTES: usize = 512;
/// From the start of the first slot to that of the second: two pages, so that no write touches both.
pub const SLOT_DISTANCE: u64 = 4096;
/// The file's length: both slots, each with its page.
pub const FILE_BYTES: u64 = 2 * SLOT_DISTANCE;

const MAGIC: [u8; 4] = *b"FDmk";
const VERSION: u32 = 1;
const CHECKSUM_BYTES: usize = 8;

/// `Mark::acked` when nobody can say what this member has acknowledged: no log reaches it.
pub const UNKNOWN: EntryId = EntryId { index: u64::MAX, term: u64::MAX };
/// `Mark::acked_chain` when the chain value is not known. Also the value that a chain starts from.
pub const CHAIN_UNKNOWN: u64 = CHAIN_START;

/// What a member has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose mark this is.
    pub cluster_id: u64,
    /// Whose mark this is.
    pub member_id: u64,
    /// Drawn when the data folder was made: tells this folder from one that took its place.
    pub storage_id: u64,
    /// Rises by one at each start: tells this folder from an earlier copy of itself.
    pub incarnation: u64,
    /// The highest term it has taken part in.
    pub term: u64,
    /// Its vote in that term.
    pub voted_for: Option<u64>,
    /// The end of the log as it was last made durable, or, while the log has not come back to it, as it was before it lost
    /// something. [`UNKNOWN`] if that is not known.
    pub acked: EntryId,
    /// The log's chain value at `acked`; [`CHAIN_UNKNOWN`] if not known.
    pub acked_chain: u64,
}

impl Mark {
    /// What must be durable as the mark before the log's end goes from `before` to `after`, if anything must. `chain`: the
    /// chain value that the log will have at `after`.
    ///
    /// An end that falls is right only where a leader of a later term replaced entries that were never committed; the member
    /// has promised no more than what it is given now. While the log has not come back to its mark, the promise stays.
    pub fn lowered(&self, before: EntryId, after: EntryId, chain: u64) -> Option<Self> {
        (before >= self.acked && after < self.acked).then_some(Self { acked: after, acked_chain: chain, ..*self })
    }

    /// The mark after a batch is durable that left the log with this hard state and end, and whether it must be durable
    /// before the batch is reported.
    pub fn after(&self, hard_state: &HardState, last: EntryId, chain: u64) -> (Self, bool) {
        assert!(hard_state.current_term >= self.term, "the term does not fall below the mark's");
        let promise = (hard_state.current_term, hard_state.voted_for);
        let mut mark = Self { term: promise.0, voted_for: promise.1, ..*self };
        if last >= self.acked {
            (mark.acked, mark.acked_chain) = (last, chain);
        }
        (mark, promise != (self.term, self.voted_for))
    }
}

/// The slot that a generation is written to: 0 or 1.
pub fn slot_of(generation: u64) -> u64 {
    generation % 2
}

/// The bytes of a slot.
pub fn encode(generation: u64, mark: &Mark) -> [u8; SLOT_BYTES] {
    let mut body = Vec::with_capacity(SLOT_BYTES);
    body.extend_from_slice(&MAGIC);
    body.extend_from_slice(&VERSION.to_le_bytes());
    for number in [
        generation,
        mark.cluster_id,
        mark.member_id,
        mark.storage_id,
        mark.incarnation,
        mark.term,
        u64::from(mark.voted_for.is_some()),
        mark.voted_for.unwrap_or(0),
        mark.acked.index,
        mark.acked.term,
        mark.acked_chain,
    ] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.resize(SLOT_BYTES - CHECKSUM_BYTES, 0);
    let mut slot = [0; SLOT_BYTES];
    let (head, tail) = slot.split_at_mut(CHECKSUM_BYTES);
    head.copy_from_slice(&xxh3_64(&body).to_le_bytes());
    tail.copy_from_slice(&body);
    slot
}

/// The generation and mark in a slot; None if it does not hold one.
pub fn decode(slot: &[u8]) -> Option<(u64, Mark)> {
    let mut rest = slot.get(..SLOT_BYTES)?;
    let checksum = u64::from_le_bytes(take(&mut rest)?);
    if checksum != xxh3_64(rest) || take(&mut rest)? != MAGIC || u32::from_le_bytes(take(&mut rest)?) != VERSION {
        return None;
    }
    let mut number = || take(&mut rest).map(u64::from_le_bytes);
    let generation = number()?;
    let mark = Mark {
        cluster_id: number()?,
        member_id: number()?,
        storage_id: number()?,
        incarnation: number()?,
        term: number()?,
        voted_for: match (number()?, number()?) {
            (0, _) => None,
            (1, candidate) => Some(candidate),
            _ => return None,
        },
        acked: EntryId { index: number()?, term: number()? },
        acked_chain: number()?,
    };
    Some((generation, mark))
}

/// The newer of two slots that holds a mark; None if neither does.
pub fn decode_both(slot0: &[u8], slot1: &[u8]) -> Option<(u64, Mark)> {
    let (first, second) = (decode(slot0), decode(slot1));
    match (first, second) {
        (Some(first), Some(second)) => Some(if first.0 >= second.0 { first } else { second }),
        (found, None) | (None, found) => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            cluster_id: 0xc1,
            member_id: 2,
            storage_id: 0x1234_5678_9abc_def0,
            incarnation: 3,
            term: 7,
            voted_for: Some(1),
            acked: EntryId { index: 90, term: 6 },
            acked_chain: 0xfeed,
        }
    }

    fn at(index: u64, term: u64) -> EntryId {
        EntryId { index, term }
    }

    #[test]
    fn what_is_written_is_read() {
        for mark in [
            mark(),
            Mark { voted_for: None, acked: UNKNOWN, ..mark() },
            Mark { voted_for: Some(0), acked: at(0, 0), acked_chain: 0, ..mark() },
        ] {
            assert_eq!(decode(&encode(u64::MAX, &mark)), Some((u64::MAX, mark)));
        }
    }

    #[test]
    fn no_bit_may_change_and_nothing_be_missing() {
        let good = encode(9, &mark());
        for byte in 0..SLOT_BYTES {
            for bit in 0..8 {
                let mut bad = good;
                bad[byte] ^= 1 << bit;
                assert_eq!(decode(&bad), None, "byte {byte} bit {bit}");
            }
            assert_eq!(decode(&good[..byte]), None, "cut at {byte}");
            // Torn anywhere between two writings.
            let mut torn = encode(10, &Mark { term: 8, voted_for: None, ..mark() });
            torn[byte..].copy_from_slice(&good[byte..]);
            let found = decode(&torn);
            assert!(found.is_none_or(|(generation, _)| generation == 9 || generation == 10), "torn at {byte}");
            assert!(found.is_none_or(|(generation, found)| (generation == 9) == (found == mark())));
        }
        for empty in [[0; SLOT_BYTES], [0xff; SLOT_BYTES]] {
            assert_eq!(decode(&empty), None);
        }
    }

    #[test]
    fn the_newer_slot_counts_and_a_bad_one_leaves_the_other() {
        let (old, new) = (mark(), Mark { incarnation: 4, ..mark() });
        let (old_slot, new_slot, bad) = (encode(4, &old), encode(5, &new), [7; SLOT_BYTES]);
        assert_eq!((slot_of(4), slot_of(5)), (0, 1));
        assert_eq!(decode_both(&old_slot, &new_slot), Some((5, new)));
        assert_eq!(decode_both(&new_slot, &old_slot), Some((5, new)));
        assert_eq!(decode_both(&bad, &old_slot), Some((4, old)));
        assert_eq!(decode_both(&old_slot, &[]), Some((4, old)));
        assert_eq!(decode_both(&bad, &bad), None);
    }

    #[test]
    fn a_mark_follows_its_log() {
        let hard = |term, voted_for| HardState { current_term: term, voted_for, commit_index: 0 };
        let (next, sync) = mark().after(&hard(7, Some(1)), at(95, 7), 5);
        assert_eq!((next.acked, next.acked_chain, sync), (at(95, 7), 5, false));
        let (next, sync) = mark().after(&hard(8, None), at(90, 6), 0xfeed);
        assert_eq!((next, sync), (Mark { term: 8, voted_for: None, ..mark() }, true));
        let (next, sync) = Mark { voted_for: None, ..mark() }.after(&hard(7, Some(3)), at(90, 6), 0xfeed);
        assert_eq!((next.voted_for, sync), (Some(3), true));
    }

    /// A tail that was never committed may go; the promise of a log that lost something stays until it is kept again.
    #[test]
    fn a_mark_falls_only_with_a_log_that_kept_its_promise() {
        assert_eq!(mark().lowered(at(90, 6), at(91, 6), 1), None);
        assert_eq!(mark().lowered(at(90, 6), at(85, 7), 1), None, "shorter, but of a later term");
        let lower = mark().lowered(at(90, 6), at(90, 5), 1).unwrap();
        assert_eq!(lower, Mark { acked: at(90, 5), acked_chain: 1, ..mark() });
        assert_eq!(mark().lowered(at(60, 5), at(55, 5), 1), None, "on its way back");
        let hard = HardState { current_term: 7, voted_for: Some(1), commit_index: 0 };
        let (still, _) = mark().after(&hard, at(60, 5), 1);
        assert_eq!(still, mark());
        let (back, _) = mark().after(&hard, at(90, 6), 77);
        assert_eq!((back.acked, back.acked_chain), (at(90, 6), 77));
        let unknown = Mark { acked: UNKNOWN, ..mark() };
        assert_eq!(unknown.after(&hard, at(1 << 40, 7), 1).0.acked, UNKNOWN);
    }

    #[test]
    #[should_panic(expected = "does not fall")]
    fn a_term_below_the_marks_is_our_bug() {
        mark().after(&HardState { current_term: 6, voted_for: None, commit_index: 0 }, at(90, 6), 1);
    }

    /// The bytes on the disk of released versions: a change here needs a new version number.
    #[test]
    fn a_slot_is_these_bytes() {
        let slot = encode(9, &mark());
        let hex: String = slot[8..104].iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "46446d6b01000000",
            "0900000000000000",
            "c100000000000000",
            "0200000000000000",
            "f0debc9a78563412",
            "0300000000000000",
            "0700000000000000",
            "0100000000000000",
            "0100000000000000",
            "5a00000000000000",
            "0600000000000000",
            "edfe000000000000",
        ];
        assert_eq!(hex, expected.concat());
        assert!(slot[104..].iter().all(|byte| *byte == 0));
    }
}
