//! The wire encoding: etcd's bytes are understood, ours are etcd's, and no bytes at all do harm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use bytes::Bytes;
use common::*;
use flaredb_kv::{
    Command, CommandKind, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KvError, Limits,
    PutRequest, RangeRequest, RequestOp, SortOrder, SortTarget, TXN_DEPTH_MAX, TxnRequest,
};

const KINDS: [CommandKind; 4] = [CommandKind::Put, CommandKind::DeleteRange, CommandKind::Txn, CommandKind::Compact];

#[test]
fn known_bytes_both_ways() {
    // Each line: written down by hand from rpc.proto's field numbers.
    let put = PutRequest { lease: 300, prev_kv: true, ignore_value: true, ignore_lease: true, ..common::put("k", "v") };
    let put_bytes = b"\x0a\x01k\x12\x01v\x18\xac\x02\x20\x01\x28\x01\x30\x01";
    assert_eq!((put.encode().as_ref(), PutRequest::decode(&bytes(put_bytes))), (&put_bytes[..], Ok(put)));

    let range = RangeRequest {
        key: bytes("k"),
        range_end: bytes("l"),
        limit: 1,
        revision: -1,
        sort_order: SortOrder::Descend,
        sort_target: SortTarget::Value,
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 2,
        max_mod_revision: 3,
        min_create_revision: 4,
        max_create_revision: 5,
    };
    let range_bytes = b"\x0a\x01k\x12\x01l\x18\x01\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\x02\x30\x04\x38\x01\x40\x01\x48\x01\x50\x02\x58\x03\x60\x04\x68\x05";
    assert_eq!((range.encode().as_ref(), RangeRequest::decode(&bytes(range_bytes))), (&range_bytes[..], Ok(range)));

    let delete = DeleteRangeRequest { prev_kv: true, ..common::delete("k", "l") };
    let delete_bytes = b"\x0a\x01k\x12\x01l\x18\x01";
    assert_eq!(
        (delete.encode().as_ref(), DeleteRangeRequest::decode(&bytes(delete_bytes))),
        (&delete_bytes[..], Ok(delete))
    );

    let compact = CompactRequest { revision: 5, physical: true };
    assert_eq!(
        (compact.encode().as_ref(), CompactRequest::decode(&bytes(b"\x08\x05\x10\x01"))),
        (&b"\x08\x05\x10\x01"[..], Ok(compact))
    );

    let request = txn(
        &[
            Compare {
                range_end: bytes("z"),
                ..compare("k", CompareResult::NotEqual, CompareTarget::Value(bytes("v")))
            },
            compare("k", CompareResult::Equal, CompareTarget::Version(0)),
        ],
        &[op_put("a", "b")],
        &[RequestOp::Txn(txn(&[], &[op_range("r", "")], &[op_delete("d", "")]))],
    );
    let request_bytes = b"\x0a\x0e\x08\x03\x10\x03\x1a\x01k\x3a\x01v\x82\x04\x01z\x0a\x05\x1a\x01k\x20\x00\
        \x12\x08\x12\x06\x0a\x01a\x12\x01b\
        \x1a\x10\x22\x0e\x12\x05\x0a\x03\x0a\x01r\x1a\x05\x1a\x03\x0a\x01d";
    assert_eq!(
        (request.encode().as_ref(), TxnRequest::decode(&bytes(request_bytes))),
        (&request_bytes[..], Ok(request))
    );
}

#[test]
fn decode_of_encode_is_the_same() {
    let seed = 0xdec0de;
    let mut random = Random(seed);
    for round in 0..20_000 {
        let command = any_command(&mut random);
        let encoded = command.encode();
        assert_eq!(command.encoded_len(), encoded.len());
        assert_eq!(Command::decode(command.kind(), &encoded), Ok(command), "seed {seed:#x}, round {round}");
        let range = any_range(&mut random);
        assert_eq!(RangeRequest::decode(&range.encode()), Ok(range));
    }
}

#[test]
fn keys_and_values_are_slices_of_the_input() {
    let input = put("key", "value").encode();
    let within = |slice: &Bytes| input.as_ptr_range().contains(&slice.as_ptr());
    let decoded = PutRequest::decode(&input).unwrap();
    assert!(within(&decoded.key) && within(&decoded.value));
    let input = txn(&[], &[op_put("key", "value")], &[]).encode();
    let decoded = TxnRequest::decode(&input).unwrap();
    let [RequestOp::Put(put)] = decoded.success.as_slice() else { panic!() };
    assert!(input.as_ptr_range().contains(&put.value.as_ptr()));
}

#[test]
fn repeated_scalars_and_members_of_a_oneof_last_one_wins() {
    assert_eq!(PutRequest::decode(&bytes(b"\x0a\x01a\x0a\x01b\x18\x01\x18\x00")), Ok(put("b", "")));
    // A put with key a, then a range with key b: the range stands alone.
    let op = b"\x12\x0a\x12\x03\x0a\x01a\x0a\x03\x0a\x01b";
    assert_eq!(TxnRequest::decode(&bytes(op)), Ok(txn(&[], &[op_range("b", "")], &[])));
    // Two puts: the second replaces the first whole, value too.
    let op = b"\x12\x0d\x12\x06\x0a\x01a\x12\x01v\x12\x03\x0a\x01b";
    assert_eq!(TxnRequest::decode(&bytes(op)), Ok(txn(&[], &[op_put("b", "")], &[])));
    // Version 1, then mod revision 2, with target mod; then with target version, whose member was replaced: zero.
    let decode = |target: u8| {
        TxnRequest::decode(&bytes([b"\x0a\x09\x10", &[target][..], b"\x1a\x01a\x20\x01\x30\x02"].concat()))
    };
    let expected = |target| Ok(txn(&[compare("a", CompareResult::Equal, target)], &[], &[]));
    assert_eq!(decode(2), expected(CompareTarget::Mod(2)));
    assert_eq!(decode(0), expected(CompareTarget::Version(0)));
    assert_eq!(decode(3), expected(CompareTarget::Value(Bytes::new())));
}

#[test]
fn unknown_fields_of_every_wire_type_are_skipped() {
    let unknown: [&[u8]; 6] = [
        b"\xf8\x01\x96\x01",                         // 31: varint
        b"\xf9\x01\x01\x02\x03\x04\x05\x06\x07\x08", // 31: 64 bits
        b"\xfa\x01\x03abc",                          // 31: bytes
        b"\xfd\x01\x01\x02\x03\x04",                 // 31: 32 bits
        b"\xfb\x01\x08\x01\xfc\x01",                 // 31: a group with a varint
        b"\xfb\x01\x0b\x0a\x01z\x0c\xfc\x01",        // 31: a group within a group
    ];
    for field in unknown {
        let input = [field, b"\x0a\x01k", field, b"\x12\x01v", field].concat();
        assert_eq!(PutRequest::decode(&bytes(&input)), Ok(put("k", "v")), "{}", field.escape_ascii());
        for cut in 1..field.len() {
            let input = [b"\x0a\x01k", &field[..cut]].concat();
            assert_eq!(PutRequest::decode(&bytes(&input)), Err(KvError::Malformed));
        }
    }
}

#[test]
fn malformed_bytes_are_refused() {
    let cases: [&[u8]; 14] = [
        b"\x0a",                                             // a length that is missing
        b"\x0a\x02k",                                        // longer than the message
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k",    // longer than any memory
        b"\x08\x01",                                         // a key that is a number
        b"\x1a\x01a",                                        // a lease that is bytes
        b"\x25\x00\x00\x00\x00",                             // a flag of 32 bits
        b"\x00\x01",                                         // field 0
        b"\x80\x80\x80\x80\x10\x01",                         // a field number of 30 bits
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",     // 65 bits
        b"\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", // 11 bytes
        b"\xfe\x01",                                         // wire type 6
        b"\xff\x01",                                         // wire type 7
        b"\xfc\x01",                                         // the end of a group that was not begun
        b"\xfb\x01\x0c",                                     // the end of another group
    ];
    for case in cases {
        assert_eq!(PutRequest::decode(&bytes(case)), Err(KvError::Malformed), "{}", case.escape_ascii());
    }
    let beyond_its_message = b"\x12\x05\x12\x03\x0a\x04a\x12\x05\x12\x03\x0a\x01b";
    assert_eq!(
        TxnRequest::decode(&bytes(beyond_its_message)),
        Err(KvError::Malformed),
        "a key that reaches into the next op"
    );
    let groups = [b"\xfb\x01".repeat(100_000), b"\xfc\x01".repeat(100_000)].concat();
    assert_eq!(PutRequest::decode(&bytes(&groups)), Err(KvError::Malformed), "groups within groups have an end");
}

#[test]
fn unknown_enum_values() {
    assert_eq!(RangeRequest::decode(&bytes(b"\x28\x03")), Err(KvError::InvalidSortOption));
    assert_eq!(RangeRequest::decode(&bytes(b"\x30\x05")), Err(KvError::InvalidSortOption));
    assert_eq!(
        RangeRequest::decode(&bytes(b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
        Err(KvError::InvalidSortOption)
    );
    let wide = RangeRequest::decode(&bytes(b"\x28\x81\x80\x80\x80\x10")).unwrap();
    assert_eq!(wide.sort_order, SortOrder::Ascend, "only the lower 32 bits count, as everywhere in protobuf");
    assert_eq!(TxnRequest::decode(&bytes(b"\x0a\x02\x08\x04")), Err(KvError::Malformed));
    assert_eq!(TxnRequest::decode(&bytes(b"\x0a\x02\x10\x05")), Err(KvError::Malformed));
}

#[test]
fn an_operation_with_nothing_in_it_is_refused_as_in_etcd() {
    let limits = Limits::default();
    let empty = TxnRequest::decode(&bytes(b"\x12\x00")).unwrap();
    assert_eq!(empty, txn(&[], &[RequestOp::Nothing], &[]));
    assert_eq!(empty.encode(), bytes(b"\x12\x00"));
    assert_eq!(empty.check(&limits), Err(KvError::KeyNotFound));
    assert_eq!(txn(&[], &[], &[RequestOp::Nothing]).check(&limits), Err(KvError::KeyNotFound));
    assert!(!empty.is_read_only() && !empty.is_serializable());
    let after_a_fault = txn(&[], &[op_put("", ""), RequestOp::Nothing], &[]);
    assert_eq!(after_a_fault.check(&limits), Err(KvError::EmptyKey), "the first fault counts");
    assert_eq!(TxnRequest::decode(&bytes(b"\x1a\x02\xf8\x01")), Err(KvError::Malformed));
}

#[test]
fn nesting_has_a_limit() {
    let nest =
        |depth: usize| (1..depth).fold(TxnRequest::default(), |inner, _| txn(&[], &[RequestOp::Txn(inner)], &[]));
    let deepest = nest(TXN_DEPTH_MAX);
    assert_eq!(TxnRequest::decode(&deepest.encode()), Ok(deepest));
    assert_eq!(TxnRequest::decode(&nest(TXN_DEPTH_MAX + 1).encode()), Err(KvError::TooManyOps));
    // Far deeper, made by hand from the inside out: our encoder recurses, and a decoder that did would crash here.
    let mut input = Vec::new();
    for _ in 0..20_000 {
        for tag in [0x22, 0x12] {
            let mut head = vec![tag];
            let mut length = input.len();
            while length >= 0x80 {
                head.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            head.push(length as u8);
            input.splice(0..0, head);
        }
    }
    assert_eq!(TxnRequest::decode(&Bytes::from(input)), Err(KvError::TooManyOps));
}

#[test]
fn every_prefix_of_a_request_decodes_or_is_refused() {
    let mut random = Random(0xcafe);
    for _ in 0..300 {
        let command = any_command(&mut random);
        let encoded = command.encode();
        for cut in 0..encoded.len() {
            let prefix = encoded.slice(..cut);
            // Cut between two fields a prefix is a shorter request; never is it the same one.
            assert_ne!(Command::decode(command.kind(), &prefix).as_ref(), Ok(&command));
        }
    }
}

#[test]
fn random_and_damaged_bytes_do_no_harm() {
    let seed = 0xbad;
    let mut random = Random(seed);
    let mut decoded = 0;
    for _ in 0..100_000 {
        let bytes: Vec<u8> = if random.one_in(2) {
            (0..random.below(40)).map(|_| random.next() as u8).collect()
        } else {
            let mut bytes = any_command(&mut random).encode().to_vec();
            for _ in 0..=random.below(3) {
                if !bytes.is_empty() {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] = random.next() as u8;
                }
            }
            bytes
        };
        let bytes = Bytes::from(bytes);
        for kind in KINDS {
            if let Ok(command) = Command::decode(kind, &bytes) {
                decoded += 1;
                assert_eq!(Command::decode(kind, &command.encode()), Ok(command), "seed {seed:#x}: {bytes:?}");
            }
        }
        let _ = RangeRequest::decode(&bytes);
    }
    assert!(decoded > 1_000, "damage that is still a request occurs: {decoded}");
}

#[test]
fn command_kinds_and_their_numbers() {
    for (kind, number) in KINDS.into_iter().zip(1u8..) {
        assert_eq!((CommandKind::try_from(number), u8::from(kind)), (Ok(kind), number));
    }
    for number in [0, 5, 255] {
        assert_eq!(CommandKind::try_from(number), Err(KvError::Malformed));
    }
}

fn any_bytes(random: &mut Random) -> Bytes {
    let length = if random.one_in(20) { 100 + random.below(200) } else { random.below(5) };
    (0..length).map(|_| random.next() as u8).collect()
}

fn any_int(random: &mut Random) -> i64 {
    match random.below(4) {
        0 => 0,
        1 => random.below(1000) as i64,
        2 => -(random.below(1000) as i64),
        _ => random.next() as i64,
    }
}

fn any_range(random: &mut Random) -> RangeRequest {
    RangeRequest {
        key: any_bytes(random),
        range_end: any_bytes(random),
        limit: any_int(random),
        revision: any_int(random),
        sort_order: *random.pick(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]),
        sort_target: *random.pick(&[
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ]),
        serializable: random.one_in(2),
        keys_only: random.one_in(2),
        count_only: random.one_in(2),
        min_mod_revision: any_int(random),
        max_mod_revision: any_int(random),
        min_create_revision: any_int(random),
        max_create_revision: any_int(random),
    }
}

fn any_put(random: &mut Random) -> PutRequest {
    PutRequest {
        key: any_bytes(random),
        value: any_bytes(random),
        lease: any_int(random),
        prev_kv: random.one_in(2),
        ignore_value: random.one_in(2),
        ignore_lease: random.one_in(2),
    }
}

fn any_delete(random: &mut Random) -> DeleteRangeRequest {
    DeleteRangeRequest { key: any_bytes(random), range_end: any_bytes(random), prev_kv: random.one_in(2) }
}

fn any_compare(random: &mut Random) -> Compare {
    Compare {
        result: *random.pick(&[
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]),
        target: match random.below(5) {
            0 => CompareTarget::Version(any_int(random)),
            1 => CompareTarget::Create(any_int(random)),
            2 => CompareTarget::Mod(any_int(random)),
            3 => CompareTarget::Value(any_bytes(random)),
            _ => CompareTarget::Lease(any_int(random)),
        },
        key: any_bytes(random),
        range_end: any_bytes(random),
    }
}

fn any_txn(random: &mut Random, depth: u64) -> TxnRequest {
    let ops = |random: &mut Random| -> Vec<RequestOp> {
        (0..random.below(4))
            .map(|_| match random.below(if depth < 4 { 4 } else { 3 }) {
                0 => RequestOp::Put(any_put(random)),
                1 => RequestOp::DeleteRange(any_delete(random)),
                2 => RequestOp::Range(any_range(random)),
                _ => RequestOp::Txn(any_txn(random, depth + 1)),
            })
            .collect()
    };
    let (success, failure) = (ops(random), ops(random));
    TxnRequest { compare: (0..random.below(3)).map(|_| any_compare(random)).collect(), success, failure }
}

fn any_command(random: &mut Random) -> Command {
    match random.below(5) {
        0 => Command::Put(any_put(random)),
        1 => Command::DeleteRange(any_delete(random)),
        2 => Command::Compact(CompactRequest { revision: any_int(random), physical: random.one_in(2) }),
        _ => Command::Txn(any_txn(random, 1)),
    }
}
