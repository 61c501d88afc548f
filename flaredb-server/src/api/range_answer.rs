//! The answer to a Range as bytes, straight from the store's rows. The general way (convert.rs, then prost) builds a message
//! of a thousand parts first and measures each of them twice; for scans that was a tenth of their cost, and copying each row
//! into memory of its own another.
//!
//! Field numbers are those of rpc.proto and kv.proto. As in every proto3 message, what is zero or empty is left out.

use bytes::Bytes;
use flaredb_kv::{RangeRow, RangeSummary};
use flaredb_proto::etcdserverpb::ResponseHeader;
use prost::{Message, encoding::encoded_len_varint};
use tonic::Status;

use super::unary;

/// The tag of a field of bytes or of a message. All field numbers are below 16: a tag is one byte.
const fn with_length(number: u8) -> u8 {
    number << 3 | 2
}

/// The tag of a field of a number.
const fn varint(number: u8) -> u8 {
    number << 3
}

const RANGE_HEADER: u8 = with_length(1);
const RANGE_KVS: u8 = with_length(2);
const RANGE_MORE: u8 = varint(3);
const RANGE_COUNT: u8 = varint(4);
const KV_KEY: u8 = with_length(1);
const KV_CREATE_REVISION: u8 = varint(2);
const KV_MOD_REVISION: u8 = varint(3);
const KV_VERSION: u8 = varint(4);
const KV_VALUE: u8 = with_length(5);
const KV_LEASE: u8 = varint(6);

/// The answer being written.
pub(super) struct RangeAnswer {
    /// With room for the frame's head; complete only as far as an answer may go.
    out: Vec<u8>,
    /// What the whole would take.
    bytes: usize,
}

impl RangeAnswer {
    pub(super) fn new(header: &ResponseHeader) -> Self {
        let mut out = vec![0; unary::HEAD_BYTES];
        put_length(&mut out, RANGE_HEADER, header.encoded_len());
        header.encode_raw(&mut out);
        Self { bytes: out.len(), out }
    }

    /// Adds the next row.
    pub(super) fn row(&mut self, row: &RangeRow<'_>) {
        let length = row_len(row);
        let bytes = 1 + encoded_len_varint(wide(length)) + length;
        self.bytes = self.bytes.saturating_add(bytes);
        // What nobody can be sent takes no memory.
        if self.bytes <= unary::HEAD_BYTES + unary::SEND_BYTES_MAX {
            put_length(&mut self.out, RANGE_KVS, length);
            put_row(&mut self.out, row);
        }
    }

    /// The answer, framed for gRPC.
    ///
    /// # Errors
    /// A status if it is larger than clients can count.
    pub(super) fn finish(mut self, summary: &RangeSummary) -> Result<Bytes, Status> {
        let written = self.out.len();
        if summary.more {
            self.out.extend_from_slice(&[RANGE_MORE, 1]);
        }
        put_number(&mut self.out, RANGE_COUNT, summary.count);
        let bytes = self.bytes + (self.out.len() - written);
        let head = unary::head(bytes - unary::HEAD_BYTES)?;
        for (to, from) in self.out.iter_mut().zip(head) {
            *to = from;
        }
        Ok(self.out.into())
    }
}

fn row_len(row: &RangeRow<'_>) -> usize {
    bytes_len(row.key)
        + number_len(row.create_revision)
        + number_len(row.mod_revision)
        + number_len(row.version)
        + bytes_len(row.value)
        + number_len(row.lease)
}

fn put_row(out: &mut Vec<u8>, row: &RangeRow<'_>) {
    put_bytes(out, KV_KEY, row.key);
    put_number(out, KV_CREATE_REVISION, row.create_revision);
    put_number(out, KV_MOD_REVISION, row.mod_revision);
    put_number(out, KV_VERSION, row.version);
    put_bytes(out, KV_VALUE, row.value);
    put_number(out, KV_LEASE, row.lease);
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { 1 + encoded_len_varint(wide(bytes.len())) + bytes.len() }
}

fn number_len(number: i64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number.cast_unsigned()) }
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_length(out, tag, bytes.len());
        out.extend_from_slice(bytes);
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        out.push(tag);
        put_varint(out, number.cast_unsigned());
    }
}

fn put_length(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    put_varint(out, wide(length));
}

fn put_varint(out: &mut Vec<u8>, mut rest: u64) {
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// Lengths of what is in memory.
fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use flaredb_kv::{KeyValue, RangeResponse};

    use super::{super::convert, *};

    /// Zeros, small ones, large ones and negative ones, where each may stand.
    fn number(state: &mut u64) -> i64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = (*state >> 58) & 63;
        (*state >> 1 >> bits).cast_signed() * if *state & 1 == 0 { 1 } else { -1 }
    }

    fn bytes(state: &mut u64, max: u64) -> Bytes {
        let length = number(state).unsigned_abs() % max;
        Bytes::from(vec![length.to_le_bytes()[0]; usize::try_from(length).unwrap()])
    }

    #[test]
    fn it_is_what_the_general_way_makes() {
        let mut state = 11;
        for round in 0..2000 {
            let kvs = (0..round % 7)
                .map(|_| KeyValue {
                    key: bytes(&mut state, 200),
                    create_revision: number(&mut state),
                    mod_revision: number(&mut state),
                    version: number(&mut state),
                    value: bytes(&mut state, 20_000),
                    lease: number(&mut state) * (round % 2),
                })
                .collect();
            let range = RangeResponse { kvs, more: round % 3 == 0, count: number(&mut state) };
            let header = ResponseHeader {
                cluster_id: number(&mut state).cast_unsigned(),
                member_id: number(&mut state).cast_unsigned(),
                revision: number(&mut state),
                raft_term: number(&mut state).cast_unsigned() * u64::from(round % 5 > 0),
            };
            let mut direct = RangeAnswer::new(&header);
            range.kvs.iter().for_each(|kv| direct.row(&kv.into()));
            let direct = direct.finish(&RangeSummary { more: range.more, count: range.count }).unwrap();
            assert_eq!(direct, unary::encode(&convert::range_response(header, range)).unwrap(), "round {round}");
        }
        let nothing = RangeAnswer::new(&ResponseHeader::default()).finish(&RangeSummary::default()).unwrap();
        assert_eq!(nothing, &[0, 0, 0, 0, 2, RANGE_HEADER, 0][..]);
    }

    #[test]
    fn what_is_too_large_is_refused_and_takes_no_memory() {
        let row = RangeRow { key: b"key", create_revision: 1, mod_revision: 1, version: 1, value: b"value", lease: 0 };
        let answer = |bytes| {
            let mut answer = RangeAnswer::new(&ResponseHeader::default());
            answer.bytes += bytes;
            let before = answer.out.len();
            answer.row(&row);
            (answer.out.len() - before, answer.finish(&RangeSummary::default()))
        };
        // The header's field, two bytes, is a part of the message; the row takes 20.
        let (taken, fits) = answer(unary::SEND_BYTES_MAX - 22);
        assert_eq!((taken, fits.is_ok()), (20, true));
        let (taken, refused) = answer(unary::SEND_BYTES_MAX - 21);
        assert_eq!((taken, refused.unwrap_err().code()), (0, tonic::Code::OutOfRange));
    }
}
