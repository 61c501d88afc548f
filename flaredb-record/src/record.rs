//! One log record: an entry, the hash of the chain up to it, and a checksum over all of it.
//!
//! ```text
//! at size
//!  0    4  crc32 (IEEE) over the region id (8 bytes, big-endian) and every byte from 4 on
//!  4    1  version, 1
//!  5    3  zero
//!  8    8  chain: xxh3-64 of every byte from 16 on, seeded with the chain value of the entry before
//! 16    8  index
//! 24    8  term
//! 32    4  0 = no context, otherwise length of the context + 1
//! 36    .  context, then command
//! ```
//! The checksum finds a byte that changed. Index and region inside it find a record that is in the wrong place. The chain
//! finds a record that is right in itself but belongs to another history; two members' logs agree up to an index exactly if
//! their chain values there do. The chain covers only the entry, not version or checksum, so it survives a new record
//! format. It starts at 0, in a fresh log and after a snapshot.

use crate::take::take;
use bytes::Bytes;
use flaredb_raft::RaftLogEntry;
use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a record before context and command.
pub const HEADER_BYTES: usize = 36;
const VERSION: u8 = 1;
const CHAIN_FROM: usize = 16;

/// The chain value that the first entry after nothing, or after a snapshot, builds on.
pub const CHAIN_START: u64 = 0;

/// A record, still in the buffer it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    /// The hash of the log up to and including this entry.
    pub chain: u64,
    /// The entry's context.
    pub context: Option<&'a [u8]>,
    /// The entry's command.
    pub command: &'a [u8],
}

impl RecordView<'_> {
    /// The entry, sharing the memory of `buffer`, which this view must have been decoded from.
    pub fn to_entry(self, buffer: &Bytes) -> RaftLogEntry {
        RaftLogEntry {
            index: self.index,
            term: self.term,
            command: buffer.slice_ref(self.command),
            context: self.context.map(|context| buffer.slice_ref(context)),
        }
    }
}

/// Why a value is not the record it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// Shorter than any record.
    TooShort {
        /// Its length.
        bytes: usize,
    },
    /// A byte changed, or it is another region's.
    Checksum {
        /// What it says.
        stored: u32,
        /// What its bytes have.
        computed: u32,
    },
    /// Written by a newer program.
    Version {
        /// What it says.
        found: u8,
    },
    /// Another index's record.
    Place {
        /// The index in it.
        found: u64,
    },
    /// Whole, but its lengths contradict each other.
    ContextLength {
        /// The length field.
        length: u32,
    },
    /// Whole and in its place, but of another history than the record before it.
    Chain {
        /// What it says.
        stored: u64,
        /// What it and the record before it give.
        computed: u64,
    },
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { bytes } => write!(f, "has {bytes} bytes, a record has at least {HEADER_BYTES}"),
            Self::Checksum { stored, computed } => {
                write!(f, "says checksum {stored:08x}, its bytes have {computed:08x}")
            }
            Self::Version { found } => write!(f, "has record version {found}, this program reads {VERSION}"),
            Self::Place { found } => write!(f, "holds the record of index {found}"),
            Self::ContextLength { length } => {
                write!(f, "says that its context is longer than it is itself ({length} - 1)")
            }
            Self::Chain { stored, computed } => {
                write!(f, "says chain {stored:016x}, it and the entry before it give {computed:016x}")
            }
        }
    }
}

/// Replaces the content of `out` by the record of `entry` and returns its chain value.
pub fn encode(region: u64, previous_chain: u64, entry: &RaftLogEntry, out: &mut Vec<u8>) -> u64 {
    out.clear();
    out.extend_from_slice(&[0; CHAIN_FROM]);
    out.extend_from_slice(&entry.index.to_le_bytes());
    out.extend_from_slice(&entry.term.to_le_bytes());
    let context = entry.context.as_deref();
    let length = context.map_or(Some(0), |context| u32::try_from(context.len()).ok()?.checked_add(1));
    assert!(length.is_some(), "a context is shorter than 4 GiB");
    out.extend_from_slice(&length.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(context.unwrap_or(&[]));
    out.extend_from_slice(&entry.command);

    let chain = chain(previous_chain, out);
    let mut head = [0; CHAIN_FROM];
    if let Some(version) = head.get_mut(4) {
        *version = VERSION;
    }
    head.split_at_mut(8).1.copy_from_slice(&chain.to_le_bytes());
    replace_head(out, head);
    head.split_at_mut(4).0.copy_from_slice(&checksum(region, out).to_le_bytes());
    replace_head(out, head);
    chain
}

/// Reads what should be the record of `index`. `previous_chain` is checked if given.
///
/// # Errors
/// [`RecordFault`]: the bytes are not that record.
pub fn decode(
    region: u64,
    index: u64,
    previous_chain: Option<u64>,
    record: &[u8],
) -> Result<RecordView<'_>, RecordFault> {
    let view = parse(region, record)?;
    if view.index != index {
        return Err(RecordFault::Place { found: view.index });
    }
    if let Some(previous) = previous_chain {
        let computed = chain(previous, record);
        if computed != view.chain {
            return Err(RecordFault::Chain { stored: view.chain, computed });
        }
    }
    Ok(view)
}

fn parse(region: u64, record: &[u8]) -> Result<RecordView<'_>, RecordFault> {
    let too_short = RecordFault::TooShort { bytes: record.len() };
    let mut rest = record;
    let stored = u32::from_le_bytes(take(&mut rest).ok_or(too_short)?);
    let [version] = take(&mut rest).ok_or(too_short)?;
    let _zero: [u8; 3] = take(&mut rest).ok_or(too_short)?;
    let chain = u64::from_le_bytes(take(&mut rest).ok_or(too_short)?);
    let index = u64::from_le_bytes(take(&mut rest).ok_or(too_short)?);
    let term = u64::from_le_bytes(take(&mut rest).ok_or(too_short)?);
    let length = u32::from_le_bytes(take(&mut rest).ok_or(too_short)?);
    let computed = checksum(region, record);
    if stored != computed {
        return Err(RecordFault::Checksum { stored, computed });
    }
    if version != VERSION {
        return Err(RecordFault::Version { found: version });
    }
    let (context, command) = match length.checked_sub(1) {
        None => (None, rest),
        Some(bytes) => {
            let fault = RecordFault::ContextLength { length };
            let (context, command) =
                usize::try_from(bytes).ok().and_then(|at| rest.split_at_checked(at)).ok_or(fault)?;
            (Some(context), command)
        }
    };
    Ok(RecordView { index, term, chain, context, command })
}

fn checksum(region: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&region.to_be_bytes());
    hasher.update(record.get(4..).unwrap_or(&[]));
    hasher.finalize()
}

fn chain(previous: u64, record: &[u8]) -> u64 {
    xxh3_64_with_seed(record.get(CHAIN_FROM..).unwrap_or(&[]), previous)
}

fn replace_head(out: &mut [u8], head: [u8; CHAIN_FROM]) {
    if let Some(place) = out.first_chunk_mut() {
        *place = head;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(context: Option<&'static [u8]>) -> RaftLogEntry {
        RaftLogEntry {
            index: 7,
            term: 3,
            command: Bytes::from_static(b"command"),
            context: context.map(Bytes::from_static),
        }
    }

    fn encoded(region: u64, previous: u64, entry: &RaftLogEntry) -> Bytes {
        let mut out = vec![1, 2, 3];
        encode(region, previous, entry, &mut out);
        Bytes::from(out)
    }

    #[test]
    fn every_kind_of_context_comes_back() {
        for context in [None, Some(&b""[..]), Some(&b"ctx"[..])] {
            let entry = entry(context);
            let bytes = encoded(1, 42, &entry);
            let view = decode(1, 7, Some(42), &bytes).unwrap();
            assert_eq!(view.to_entry(&bytes), entry);
            assert_eq!(bytes.len(), HEADER_BYTES + context.map_or(0, <[u8]>::len) + 7);
        }
    }

    #[test]
    fn no_byte_may_change() {
        let bytes = encoded(1, 42, &entry(Some(b"ctx")));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                assert!(
                    matches!(decode(1, 7, None, &flipped), Err(RecordFault::Checksum { .. })),
                    "byte {at} bit {bit}"
                );
            }
            assert!(decode(1, 7, None, &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_record_out_of_place_is_found() {
        let bytes = encoded(1, 42, &entry(None));
        assert_eq!(decode(1, 8, None, &bytes), Err(RecordFault::Place { found: 7 }));
        assert!(matches!(decode(2, 7, None, &bytes), Err(RecordFault::Checksum { .. })));
        assert!(matches!(decode(1, 7, Some(43), &bytes), Err(RecordFault::Chain { .. })));
    }

    #[test]
    fn a_newer_version_and_a_lying_length_are_refused_though_the_checksum_is_right() {
        let seal = |mut record: Vec<u8>| {
            let crc = checksum(1, &record);
            record[..4].copy_from_slice(&crc.to_le_bytes());
            record
        };
        let mut newer = encoded(1, 42, &entry(None)).to_vec();
        newer[4] = 2;
        assert_eq!(decode(1, 7, None, &seal(newer)), Err(RecordFault::Version { found: 2 }));
        let mut lying = encoded(1, 42, &entry(None)).to_vec();
        lying[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(1, 7, None, &seal(lying)), Err(RecordFault::ContextLength { length: u32::MAX }));
    }

    /// The chain tells context from command and "no context" from "empty context".
    #[test]
    fn chain_covers_every_field() {
        let base = entry(Some(b"ab"));
        let others = [
            RaftLogEntry { index: 8, ..base.clone() },
            RaftLogEntry { term: 4, ..base.clone() },
            RaftLogEntry {
                command: Bytes::from_static(b"bcommand"),
                context: Some(Bytes::from_static(b"a")),
                ..base.clone()
            },
            entry(None),
            entry(Some(b"")),
        ];
        let mut out = Vec::new();
        let mut chains = vec![encode(1, 42, &base, &mut out), encode(1, 43, &base, &mut out)];
        chains.extend(others.iter().map(|other| encode(1, 42, other, &mut out)));
        let count = chains.len();
        chains.sort_unstable();
        chains.dedup();
        assert_eq!(chains.len(), count);
        // The same entry has the same chain in every region: members compare it.
        assert_eq!(encode(1, 42, &base, &mut out), encode(2, 42, &base, &mut out));
    }

    /// The bytes on the disk of released versions: a change here is a change of FORMAT.
    #[test]
    fn a_record_is_these_bytes() {
        let bytes = encoded(1, 0, &entry(Some(b"ctx")));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (crc_to_chain, rest) = hex.split_at(32);
        assert_eq!(rest, "0700000000000000030000000000000004000000637478636f6d6d616e64");
        assert_eq!(crc_to_chain, "cc81d88301000000e52d3cd1167f0738");
    }
}
