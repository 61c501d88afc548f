//! The codec of raft messages: nothing is lost, nothing malformed is accepted, nothing panics or allocates out of proportion.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod prng;

use bytes::Bytes;
use flaredb_raft::{
    AppendResult, Body, ConfState, EntryId, ForwardedProposal, Message, RaftLogEntry, RefuseReason, SnapshotMeta,
};
use flaredb_replica::wire::{WireError, decode_messages, encode_messages};
use prng::Prng;

impl Prng {
    fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Small, large and boundary values alike.
    fn integer(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(4),
            1 => self.next() >> self.below(64),
            2 => u64::MAX - self.below(2),
            _ => (1_u64 << self.below(64)).wrapping_sub(self.below(2)),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let length = if self.below(10) == 0 { self.below(3000) } else { self.below(40) };
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn context(&mut self) -> Option<Bytes> {
        self.flip().then(|| self.bytes())
    }

    fn id(&mut self) -> EntryId {
        EntryId { index: self.integer(), term: self.integer() }
    }

    fn integers(&mut self) -> Vec<u64> {
        (0..self.below(6)).map(|_| self.integer()).collect()
    }

    fn entries(&mut self) -> Vec<RaftLogEntry> {
        (0..self.below(6))
            .map(|_| RaftLogEntry {
                index: self.integer(),
                term: self.integer(),
                command: self.bytes(),
                context: self.context(),
            })
            .collect()
    }

    fn proposals(&mut self) -> Vec<ForwardedProposal> {
        (0..self.below(6))
            .map(|_| ForwardedProposal { ticket: self.integer(), command: self.bytes(), context: self.context() })
            .collect()
    }

    fn body(&mut self, kind: u64) -> Body {
        match kind {
            0 => Body::PreVote { last: self.id() },
            1 => Body::PreVoteResponse { granted: self.flip() },
            2 => Body::RequestVote { last: self.id(), transfer: self.flip() },
            3 => Body::RequestVoteResponse { granted: self.flip() },
            4 => Body::AppendEntries {
                prev: self.id(),
                commit_index: self.integer(),
                round: self.integer(),
                entries: self.entries(),
            },
            5 => Body::AppendEntriesResponse {
                round: self.integer(),
                result: match self.below(3) {
                    0 => AppendResult::Accepted { match_index: self.integer() },
                    1 => AppendResult::Rejected { prev_index: self.integer(), hint: self.id() },
                    _ => AppendResult::Lost { last: self.id() },
                },
            },
            6 => Body::InstallSnapshot {
                snapshot: SnapshotMeta { last: self.id(), conf_state: ConfState { voters: self.integers() } },
            },
            7 => Body::TimeoutNow,
            8 => Body::ReadIndex { id: self.integer() },
            9 => Body::ReadIndexResponse { id: self.integer(), index: self.flip().then(|| self.integer()) },
            10 => Body::Propose { seq: self.integer(), proposals: self.proposals() },
            11 => Body::ProposeRefused {
                tickets: self.integers(),
                reason: [RefuseReason::NoLeader, RefuseReason::TooManyUncommitted, RefuseReason::Transferring]
                    [self.below(3) as usize],
            },
            12 => Body::Pledge { round: self.integer(), for_us: self.integer() },
            _ => unreachable!("there are {BODY_KINDS} kinds"),
        }
    }

    fn message(&mut self, kind: u64) -> Message {
        Message {
            from: self.integer(),
            to: self.integer(),
            region_id: self.integer(),
            term: self.integer(),
            body: self.body(kind),
        }
    }

    fn messages(&mut self) -> Vec<Message> {
        (0..self.below(5))
            .map(|_| self.below(BODY_KINDS))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|k| self.message(k))
            .collect()
    }
}

const BODY_KINDS: u64 = 13;

fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_messages(messages, &mut out);
    out
}

#[test]
fn every_kind_of_message_comes_back_as_it_was() {
    for seed in 0..2000 {
        let mut prng = Prng(seed);
        for kind in 0..BODY_KINDS {
            let message = prng.message(kind);
            let bytes = encoded(std::slice::from_ref(&message));
            assert_eq!(decode_messages(bytes.into()), Ok(vec![message]), "seed {seed} kind {kind}");
        }
        let batch = prng.messages();
        assert_eq!(decode_messages(encoded(&batch).into()), Ok(batch), "seed {seed}");
    }
}

#[test]
fn encoding_appends_to_what_the_buffer_holds() {
    let messages = Prng(7).messages();
    let mut out = b"frame header".to_vec();
    encode_messages(&messages, &mut out);
    assert_eq!(out[..12], *b"frame header");
    assert_eq!(out[12..], encoded(&messages));
}

#[test]
fn no_proper_prefix_of_a_payload_is_accepted() {
    for seed in 0..300 {
        let mut prng = Prng(seed);
        let kind = prng.below(BODY_KINDS);
        let bytes = Bytes::from(encoded(&[prng.message(kind)]));
        for length in 0..bytes.len() {
            let error = decode_messages(bytes.slice(..length)).expect_err("cut off");
            assert!(
                matches!(error, WireError::Truncated { .. } | WireError::TooLong { .. }),
                "seed {seed} length {length}: {error}"
            );
        }
    }
}

#[test]
fn bytes_after_the_last_message_are_refused() {
    let mut bytes = encoded(&Prng(3).messages());
    bytes.push(0);
    assert_eq!(decode_messages(bytes.into()), Err(WireError::TrailingBytes { left: 1 }));
}

#[test]
fn garbage_never_panics_and_what_is_accepted_encodes_back_to_itself() {
    let mut accepted = 0;
    for seed in 0..200_000 {
        let mut prng = Prng(seed);
        // Small bytes make small counts and known tags, so that garbage gets past the first field.
        let small = prng.flip();
        let bytes: Vec<u8> =
            (0..prng.below(48)).map(|_| if small { prng.below(14) as u8 } else { prng.next() as u8 }).collect();
        if let Ok(messages) = decode_messages(bytes.clone().into()) {
            accepted += 1;
            assert_eq!(encoded(&messages), bytes, "seed {seed}");
        }
    }
    assert!(accepted > 100, "the garbage is too wild to test anything: {accepted} accepted");
}

#[test]
fn a_damaged_payload_never_panics_and_what_is_accepted_encodes_back_to_itself() {
    for seed in 0..20_000 {
        let mut prng = Prng(seed);
        let mut bytes = encoded(&prng.messages());
        for _ in 0..=prng.below(3) {
            let at = prng.below(bytes.len() as u64) as usize;
            match prng.below(3) {
                0 => bytes[at] = prng.next() as u8,
                1 => bytes.insert(at, prng.next() as u8),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        if let Ok(messages) = decode_messages(bytes.clone().into()) {
            assert_eq!(encoded(&messages), bytes, "seed {seed}");
        }
    }
}

#[test]
fn a_count_that_the_payload_cannot_hold_is_refused_before_anything_is_allocated() {
    // Count u64::MAX, and a count that would fit the address space: both stand before one byte of content.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00];
    assert_eq!(decode_messages(Bytes::copy_from_slice(&huge)), Err(WireError::TooLong { claimed: u64::MAX, at: 0 }));
    assert_eq!(
        decode_messages(Bytes::from_static(&[0xff, 0xff, 0xff, 0x7f, 0])),
        Err(WireError::TooLong { claimed: (1 << 28) - 1, at: 0 })
    );
    // One message of five bytes, with an AppendEntries that claims more entries than could follow.
    let entries = Bytes::from_static(&[1, 1, 2, 1, 1, 5, 0, 0, 0, 0, 2, 1, 1, 0, 0]);
    assert_eq!(decode_messages(entries), Err(WireError::TooLong { claimed: 2, at: 10 }));
    // A command longer than the payload.
    let command = Bytes::from_static(&[1, 1, 2, 1, 1, 5, 0, 0, 0, 0, 1, 1, 1, 9, 0]);
    assert_eq!(decode_messages(command), Err(WireError::TooLong { claimed: 9, at: 13 }));
}

#[test]
fn integers_in_a_longer_form_or_beyond_64_bits_are_refused() {
    let longer = Bytes::from_static(&[0x80, 0x00]);
    assert_eq!(decode_messages(longer), Err(WireError::MalformedInteger { at: 0 }));
    let eleven = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]);
    assert_eq!(decode_messages(eleven), Err(WireError::MalformedInteger { at: 0 }));
    let bit_65 = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]);
    assert_eq!(decode_messages(bit_65), Err(WireError::MalformedInteger { at: 0 }));
}

#[test]
fn unknown_tags_are_refused_by_name() {
    let error = |bytes: &'static [u8]| decode_messages(Bytes::from_static(bytes)).expect_err("unknown tag");
    assert_eq!(error(&[1, 1, 2, 1, 1, 0]), WireError::UnknownTag { what: "message", tag: 0, at: 5 });
    assert_eq!(error(&[1, 1, 2, 1, 1, 14]), WireError::UnknownTag { what: "message", tag: 14, at: 5 });
    assert_eq!(error(&[1, 1, 2, 1, 1, 2, 2]), WireError::UnknownTag { what: "boolean", tag: 2, at: 6 });
    assert_eq!(error(&[1, 1, 2, 1, 1, 6, 0, 4]), WireError::UnknownTag { what: "append result", tag: 4, at: 7 });
    assert_eq!(error(&[1, 1, 2, 1, 1, 12, 0, 4]), WireError::UnknownTag { what: "refusal", tag: 4, at: 7 });
}

#[test]
fn commands_and_contexts_are_slices_of_the_received_payload() {
    let entry = RaftLogEntry {
        index: 5,
        term: 2,
        command: Bytes::from_static(b"command"),
        context: Some(Bytes::from_static(b"context")),
    };
    let prev = EntryId { index: 4, term: 2 };
    let body = Body::AppendEntries { prev, commit_index: 4, round: 1, entries: vec![entry] };
    let payload = Bytes::from(encoded(&[Message { from: 1, to: 2, region_id: 1, term: 2, body }]));
    let messages = decode_messages(payload.clone()).unwrap();
    let Body::AppendEntries { entries, .. } = &messages[0].body else { panic!("another body") };
    for slice in [&entries[0].command, entries[0].context.as_ref().unwrap()] {
        assert!(payload.as_ptr_range().contains(&slice.as_ptr()), "copied");
    }
}

#[test]
fn an_empty_context_is_not_an_absent_one() {
    let with = |context| {
        let proposal = ForwardedProposal { ticket: 1, command: Bytes::new(), context };
        let body = Body::Propose { seq: 1, proposals: vec![proposal] };
        vec![Message { from: 1, to: 2, region_id: 1, term: 2, body }]
    };
    for context in [None, Some(Bytes::new())] {
        let messages = with(context);
        assert_eq!(decode_messages(encoded(&messages).into()), Ok(messages));
    }
}

#[test]
fn the_layout_is_what_it_was() {
    // A change here breaks running clusters during an upgrade: raise the transport's version with it.
    let entry = RaftLogEntry {
        index: 300,
        term: 2,
        command: Bytes::from_static(b"c"),
        context: Some(Bytes::from_static(b"x")),
    };
    let prev = EntryId { index: 299, term: 2 };
    let body = Body::AppendEntries { prev, commit_index: 298, round: 7, entries: vec![entry] };
    let bytes = encoded(&[Message { from: 1, to: 2, region_id: 3, term: 4, body }]);
    let expected = [1, 1, 2, 3, 4, 5, 0xab, 2, 2, 0xaa, 2, 7, 1, 0xac, 2, 2, 1, b'c', 2, b'x'];
    assert_eq!(bytes, expected);
}
