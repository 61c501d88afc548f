//! Numbers and checksums in the model's files. These bytes are the model's own; records and the mark have production's.

use super::sectors::len_u64;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SEAL_BYTES: usize = 16;

/// Takes numbers off the front of bytes; None when they are at their end.
#[derive(Clone, Copy)]
pub(super) struct Taker<'a>(pub(super) &'a [u8]);

impl<'a> Taker<'a> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }

    pub(super) fn size(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// Bytes with their length before them.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.size()?;
        self.bytes(length)
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn put_size(out: &mut Vec<u8>, size: usize) {
    put_number(out, len_u64(size));
}

pub(super) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_size(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// A checksum that differs with the place (`seed`) that the bytes are written to.
pub(super) fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// `body` with its length and checksum before it.
pub(super) fn seal(seed: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEAL_BYTES + body.len());
    put_number(&mut out, checksum(seed ^ len_u64(body.len()), body));
    put_counted(&mut out, body);
    out
}

/// The body of what `seal` made; more may follow it.
pub(super) fn unseal(seed: u64, bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = Taker(bytes);
    let stored = rest.number()?;
    let body = rest.counted()?;
    (stored == checksum(seed ^ len_u64(body.len()), body)).then_some(body)
}
