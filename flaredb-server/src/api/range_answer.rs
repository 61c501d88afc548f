//! The answer to a Range as bytes, straight from the store's rows. The general way (convert.rs, then prost) builds a message
//! of a thousand parts first and measures each of them twice; for scans that was a tenth of their cost.
//!
//! Field numbers are those of rpc.proto and kv.proto. As in every proto3 message, what is zero or empty is left out.

use bytes::Bytes;
use flaredb_kv::{KeyValue, RangeResponse};
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

/// The answer, framed for gRPC.
///
/// # Errors
/// A status if it is larger than clients can count.
pub(super) fn encode(header: &ResponseHeader, range: &RangeResponse) -> Result<Bytes, Status> {
    let header_len = header.encoded_len();
    let lens: Vec<usize> = range.kvs.iter().map(key_value_len).collect();
    let kvs_len: usize = lens.iter().map(|len| 1 + encoded_len_varint(wide(*len)) + len).sum();
    let length = 1
        + encoded_len_varint(wide(header_len))
        + header_len
        + kvs_len
        + 2 * usize::from(range.more)
        + number_len(range.count);
    let mut out = unary::framed(length)?;
    put_length(&mut out, RANGE_HEADER, header_len);
    header.encode_raw(&mut out);
    for (kv, len) in range.kvs.iter().zip(lens) {
        put_length(&mut out, RANGE_KVS, len);
        put_key_value(&mut out, kv);
    }
    if range.more {
        out.extend_from_slice(&[RANGE_MORE, 1]);
    }
    put_number(&mut out, RANGE_COUNT, range.count);
    Ok(out.into())
}

fn key_value_len(kv: &KeyValue) -> usize {
    bytes_len(&kv.key)
        + number_len(kv.create_revision)
        + number_len(kv.mod_revision)
        + number_len(kv.version)
        + bytes_len(&kv.value)
        + number_len(kv.lease)
}

fn put_key_value(out: &mut Vec<u8>, kv: &KeyValue) {
    put_bytes(out, KV_KEY, &kv.key);
    put_number(out, KV_CREATE_REVISION, kv.create_revision);
    put_number(out, KV_MOD_REVISION, kv.mod_revision);
    put_number(out, KV_VERSION, kv.version);
    put_bytes(out, KV_VALUE, &kv.value);
    put_number(out, KV_LEASE, kv.lease);
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
            let direct = encode(&header, &range).unwrap();
            assert_eq!(direct, unary::encode(&convert::range_response(header, range)).unwrap(), "round {round}");
        }
        let nothing = encode(&ResponseHeader::default(), &RangeResponse::default()).unwrap();
        assert_eq!(nothing, &[0, 0, 0, 0, 2, RANGE_HEADER, 0][..]);
    }
}
