//! The rows of raft_state: hard state, configuration, and the point the log was truncated to.
//!
//! ```text
//! at size
//!  0    4  crc32 (IEEE) over the row's key and every byte from 4 on
//!  4    1  version, 1
//!  5    .  HardState:      term u64 | 0 or 1: voted u8 | voted for u64 | commit index u64
//!          ConfState:      number of voters u32 | voter u64, rising
//!          TruncatedState: index u64 | term u64 | chain u64
//! ```

use crate::layout::{StateKey, StateTag, state_key, take};
use crate::record::CHAIN_START;
use flaredb_raft::{ConfState, EntryId, HardState};

const VERSION: u8 = 1;

/// The last entry that is no longer in the log, and the chain value that the first entry left builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TruncatedState {
    pub(crate) id: EntryId,
    pub(crate) chain: u64,
}

impl Default for TruncatedState {
    fn default() -> Self {
        Self { id: EntryId::default(), chain: CHAIN_START }
    }
}

/// A row of raft_state.
pub(crate) trait StateRow: Sized {
    const TAG: StateTag;
    fn put_fields(&self, out: &mut Vec<u8>);
    /// None if the bytes are not these fields.
    fn take_fields(rest: &mut &[u8]) -> Option<Self>;

    fn encode(&self, region: u64) -> Vec<u8> {
        let mut row = vec![0, 0, 0, 0, VERSION];
        self.put_fields(&mut row);
        let crc = checksum(region, Self::TAG, &row).to_le_bytes();
        if let Some(place) = row.first_chunk_mut() {
            *place = crc;
        }
        row
    }

    /// The error names the key and what is wrong with its value.
    fn decode(region: u64, row: &[u8]) -> Result<Self, String> {
        let key = StateKey { region, tag: Self::TAG };
        let mut rest = row;
        let (Some(stored), Some([version])) = (take::<4>(&mut rest), take::<1>(&mut rest)) else {
            return Err(format!("{key} has only {} bytes", row.len()));
        };
        let (stored, computed) = (u32::from_le_bytes(stored), checksum(region, Self::TAG, row));
        if stored != computed {
            return Err(format!("{key} says checksum {stored:08x}, its bytes have {computed:08x}"));
        }
        if version != VERSION {
            return Err(format!("{key} has row version {version}, this program reads {VERSION}"));
        }
        let fields = Self::take_fields(&mut rest).filter(|_| rest.is_empty());
        fields.ok_or_else(|| format!("{key} does not hold the fields of its kind ({} bytes)", row.len()))
    }
}

impl StateRow for HardState {
    const TAG: StateTag = StateTag::HardState;

    fn put_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.current_term.to_le_bytes());
        out.push(u8::from(self.voted_for.is_some()));
        out.extend_from_slice(&self.voted_for.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.commit_index.to_le_bytes());
    }

    fn take_fields(rest: &mut &[u8]) -> Option<Self> {
        let current_term = u64::from_le_bytes(take(rest)?);
        let [voted] = take(rest)?;
        let candidate = u64::from_le_bytes(take(rest)?);
        let commit_index = u64::from_le_bytes(take(rest)?);
        let voted_for = match voted {
            0 => None,
            1 => Some(candidate),
            _ => return None,
        };
        Some(Self { current_term, voted_for, commit_index })
    }
}

impl StateRow for ConfState {
    const TAG: StateTag = StateTag::ConfState;

    fn put_fields(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.voters.len());
        assert!(count.is_ok(), "a configuration has fewer than 2^32 voters");
        out.extend_from_slice(&count.unwrap_or(0).to_le_bytes());
        for voter in &self.voters {
            out.extend_from_slice(&voter.to_le_bytes());
        }
    }

    fn take_fields(rest: &mut &[u8]) -> Option<Self> {
        let count = u32::from_le_bytes(take(rest)?);
        let voters = (0..count).map(|_| take(rest).map(u64::from_le_bytes)).collect::<Option<Vec<_>>>()?;
        voters.is_sorted_by(|a, b| a < b).then_some(Self { voters })
    }
}

impl StateRow for TruncatedState {
    const TAG: StateTag = StateTag::TruncatedState;

    fn put_fields(&self, out: &mut Vec<u8>) {
        for number in [self.id.index, self.id.term, self.chain] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn take_fields(rest: &mut &[u8]) -> Option<Self> {
        let index = u64::from_le_bytes(take(rest)?);
        let term = u64::from_le_bytes(take(rest)?);
        let chain = u64::from_le_bytes(take(rest)?);
        Some(Self { id: EntryId { index, term }, chain })
    }
}

fn checksum(region: u64, tag: StateTag, row: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&state_key(region, tag));
    hasher.update(row.get(4..).unwrap_or(&[]));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let hard = HardState { current_term: 7, voted_for: Some(0), commit_index: 9 };
        assert_eq!(HardState::decode(1, &hard.encode(1)), Ok(hard));
        assert_eq!(HardState::decode(1, &HardState::default().encode(1)), Ok(HardState::default()));
        let conf = ConfState { voters: vec![1, 2, u64::MAX] };
        assert_eq!(ConfState::decode(1, &conf.encode(1)), Ok(conf));
        let truncated = TruncatedState { id: EntryId { index: 1, term: 2 }, chain: 3 };
        assert_eq!(TruncatedState::decode(1, &truncated.encode(1)), Ok(truncated));
    }

    #[test]
    fn no_byte_may_change_and_no_row_stand_for_another() {
        let row = HardState { current_term: 7, voted_for: None, commit_index: 9 }.encode(1);
        for at in 0..row.len() {
            let mut flipped = row.clone();
            flipped[at] ^= 0x10;
            assert!(HardState::decode(1, &flipped).is_err(), "byte {at}");
            assert!(HardState::decode(1, &row[..at]).is_err(), "cut at {at}");
        }
        assert!(HardState::decode(2, &row).is_err(), "another region's row");
        assert!(ConfState::decode(1, &row).is_err(), "another kind's row");
    }

    #[test]
    fn unsorted_or_repeated_voters_are_refused() {
        assert!(ConfState::decode(1, &ConfState { voters: vec![2, 1] }.encode(1)).is_err());
        assert!(ConfState::decode(1, &ConfState { voters: vec![1, 1] }.encode(1)).is_err());
    }
}
