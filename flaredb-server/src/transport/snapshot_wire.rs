//! A snapshot on the wire: the frames that follow the handshake of a connection for a snapshot.
//!
//! ```text
//! header = 1 u8, term u64, position (index u64, term u64), count u16, voters u64
//! rows   = 2 u8, then rows: key length u32, value length u32, key, value
//! end    = 3 u8, rows u64, hash u64: xxh3-64 over everything that followed the 2 in the frames before, in order
//! answer = 4 u8, verdict u8 (the receiver's, the only frame in that direction)
//! ```
//! Integers are little-endian. `term` is the one that the sender leads in. Each frame has its own checksum; the end's hash
//! and count show that no frame is missing and that they came in order.

use bytes::{Buf, Bytes};
use flaredb_raft::{ConfState, EntryId, SnapshotMeta};

/// A rows frame is closed once it holds so many bytes.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

const HEADER: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;
const ANSWER: u8 = 4;

/// What a connection for a snapshot begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) term: u64,
    pub(crate) snapshot: SnapshotMeta,
}

/// What it ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) rows: u64,
    pub(crate) hash: u64,
}

/// One frame's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Header(Header),
    /// See [`Rows`].
    Rows(Bytes),
    End(End),
    Answer(Verdict),
}

/// What the receiver says in the end, or as soon as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Verdict {
    #[error("taken")]
    Taken,
    /// It has all of it already, or has heard of a newer leader.
    #[error("the receiver does not need it")]
    NotWanted,
    #[error("it arrived damaged")]
    Damaged,
    #[error("the receiver could not store it")]
    NotStored,
}

impl Verdict {
    const ALL: [Self; 4] = [Self::Taken, Self::NotWanted, Self::Damaged, Self::NotStored];

    fn code(self) -> u8 {
        match self {
            Self::Taken => 0,
            Self::NotWanted => 1,
            Self::Damaged => 2,
            Self::NotStored => 3,
        }
    }
}

impl Header {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let SnapshotMeta { last, conf_state } = &self.snapshot;
        out.push(HEADER);
        for number in [self.term, last.index, last.term] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let count = u16::try_from(conf_state.voters.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for voter in &conf_state.voters {
            out.extend_from_slice(&voter.to_le_bytes());
        }
    }
}

impl End {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(END);
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.hash.to_le_bytes());
    }
}

impl Verdict {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[ANSWER, self.code()]);
    }
}

/// Begins a rows frame's payload.
pub(crate) fn begin_rows(out: &mut Vec<u8>) {
    out.push(ROWS);
}

/// Appends a row to a rows frame's payload. False, and nothing appended, if key or value has 4 GiB.
pub(crate) fn push_row(key: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
    let (Ok(key_bytes), Ok(value_bytes)) = (u32::try_from(key.len()), u32::try_from(value.len())) else { return false };
    out.extend_from_slice(&key_bytes.to_le_bytes());
    out.extend_from_slice(&value_bytes.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    true
}

/// Reads a frame's payload; None for anything that this version does not write.
pub(crate) fn decode(mut payload: Bytes) -> Option<Part> {
    let part = match payload.try_get_u8().ok()? {
        HEADER => {
            let term = payload.try_get_u64_le().ok()?;
            let last = EntryId { index: payload.try_get_u64_le().ok()?, term: payload.try_get_u64_le().ok()? };
            let count = payload.try_get_u16_le().ok()?;
            let voters = (0..count).map(|_| payload.try_get_u64_le().ok()).collect::<Option<Vec<_>>>()?;
            Part::Header(Header { term, snapshot: SnapshotMeta { last, conf_state: ConfState { voters } } })
        }
        ROWS => return Some(Part::Rows(payload)),
        END => Part::End(End { rows: payload.try_get_u64_le().ok()?, hash: payload.try_get_u64_le().ok()? }),
        ANSWER => {
            let code = payload.try_get_u8().ok()?;
            Part::Answer(Verdict::ALL.into_iter().find(|verdict| verdict.code() == code)?)
        }
        _ => return None,
    };
    payload.is_empty().then_some(part)
}

/// The rows of a rows frame, as slices of it; None if it is malformed.
pub(crate) fn rows(mut payload: Bytes) -> Option<Vec<(Bytes, Bytes)>> {
    let mut rows = Vec::new();
    while !payload.is_empty() {
        let key_bytes = usize::try_from(payload.try_get_u32_le().ok()?).ok()?;
        let value_bytes = usize::try_from(payload.try_get_u32_le().ok()?).ok()?;
        if payload.len() < key_bytes.checked_add(value_bytes)? {
            return None;
        }
        let key = payload.split_to(key_bytes);
        rows.push((key, payload.split_to(value_bytes)));
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<(Part, Vec<u8>)> {
        let conf_state = ConfState { voters: vec![1, 2, u64::MAX] };
        let header = Header { term: 9, snapshot: SnapshotMeta { last: EntryId { index: 7, term: 3 }, conf_state } };
        let end = End { rows: 2, hash: u64::MAX };
        let mut encoded = Vec::new();
        let mut out = Vec::new();
        header.encode(&mut out);
        encoded.push((Part::Header(header), std::mem::take(&mut out)));
        end.encode(&mut out);
        encoded.push((Part::End(end), std::mem::take(&mut out)));
        for verdict in Verdict::ALL {
            verdict.encode(&mut out);
            encoded.push((Part::Answer(verdict), std::mem::take(&mut out)));
        }
        encoded
    }

    #[test]
    fn parts_come_back_and_nothing_shorter_or_longer_does() {
        for (part, bytes) in parts() {
            assert_eq!(decode(Bytes::from(bytes.clone())), Some(part));
            for length in 0..bytes.len() {
                assert_eq!(decode(Bytes::copy_from_slice(&bytes[..length])), None);
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decode(Bytes::from(longer)), None);
        }
        assert_eq!(decode(Bytes::from_static(&[9])), None);
        assert_eq!(decode(Bytes::from_static(&[ANSWER, 200])), None);
    }

    #[test]
    fn rows_come_back_and_a_cut_is_noticed() {
        let mut out = Vec::new();
        let wanted: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"", b""), (b"key", &[7; 300])];
        for (key, value) in wanted {
            assert!(push_row(key, value, &mut out));
        }
        let found = rows(Bytes::from(out.clone())).unwrap();
        assert!(found.iter().map(|(key, value)| (&key[..], &value[..])).eq(wanted));
        let ends = [0, 10, 18, out.len()];
        for length in 0..out.len() {
            assert_eq!(rows(Bytes::copy_from_slice(&out[..length])).is_some(), ends.contains(&length), "{length}");
        }
        assert_eq!(rows(Bytes::from_static(&[0xff; 8])), None, "lengths that are not there");
    }
}
