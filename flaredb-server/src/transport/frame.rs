//! Frames on a peer connection: length u32 LE, crc32 u32 LE over length and payload, payload. The payload is a batch of
//! messages in `flaredb_replica::wire`, or, on a connection for a snapshot, a part of it (`snapshot_wire.rs`).

use bytes::{Buf, Bytes, BytesMut};
use flaredb_raft::{Body, Message, RaftLogEntry};
use flaredb_replica::wire;

/// Payload bytes of a frame. The largest message is an AppendEntries with `append_bytes_max` (1 MiB) of entries or with one
/// entry of any size; requests are limited to a few MiB, so that this leaves room for an unusual configuration, while a
/// confused length cannot ask for more memory than one such frame. The buffer grows with what arrived, not with what was
/// announced.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// A frame is closed once it holds about so many bytes, so that the receiver can start before all of a backlog is there.
const FRAME_BYTES_TARGET: usize = 1 << 20;

const HEAD_BYTES: usize = 8;

/// Why what follows on this connection cannot be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is over the limit")]
    Oversized(usize),
    #[error("a frame has a wrong checksum")]
    Corrupt,
}

/// Appends the messages to `out` as frames. Returns how many were left out because a frame could not hold them.
pub(crate) fn encode(messages: &[Message], out: &mut Vec<u8>) -> usize {
    let mut left_out = 0;
    let mut rest = messages;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|message| {
            let before = bytes;
            bytes += size(message);
            before < FRAME_BYTES_TARGET
        });
        let (batch, after) = rest.split_at(fitting.count());
        rest = after;
        if !encode_frame(batch, out) {
            left_out += batch.len();
        }
    }
    left_out
}

/// False, and nothing appended, if the batch is over the limit.
fn encode_frame(batch: &[Message], out: &mut Vec<u8>) -> bool {
    encode_payload(out, |out| wire::encode_messages(batch, out))
}

/// Appends what `payload` appends as one frame. False, and nothing appended, if it is over the limit.
pub(crate) fn encode_payload(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    payload(out);
    let (_, frame) = out.split_at_mut(start);
    let Some((head, payload)) = frame.split_first_chunk_mut::<HEAD_BYTES>() else { return false };
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= FRAME_BYTES_MAX);
    let Some(length) = length else {
        out.truncate(start);
        return false;
    };
    let (length, crc) = (length.to_le_bytes(), checksum(length.to_le_bytes(), payload).to_le_bytes());
    for (to, from) in head.iter_mut().zip(length.into_iter().chain(crc)) {
        *to = from;
    }
    true
}

/// About how many bytes a message takes, in a frame and in a queue.
pub(crate) fn size(message: &Message) -> usize {
    let payload: u64 = match &message.body {
        Body::AppendEntries { entries, .. } => entries.iter().map(RaftLogEntry::size).sum(),
        Body::Propose { proposals, .. } => proposals
            .iter()
            .map(|proposal| proposal.command.len() + proposal.context.as_ref().map_or(0, Bytes::len) + 24)
            .map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX))
            .sum(),
        _ => 0,
    };
    usize::try_from(payload).unwrap_or(usize::MAX).saturating_add(64)
}

/// Takes the next whole frame's payload out of `received`, or tells that there is none yet.
pub(crate) fn next(received: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some((&[l0, l1, l2, l3, c0, c1, c2, c3], rest)) = received.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let length_bytes = [l0, l1, l2, l3];
    let length = usize::try_from(u32::from_le_bytes(length_bytes)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::Oversized(length));
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    if checksum(length_bytes, payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(FrameError::Corrupt);
    }
    received.advance(HEAD_BYTES);
    Ok(Some(received.split_to(length).freeze()))
}

/// Bytes still missing of the frame at the front; 0 if not even its head is there.
pub(crate) fn missing(received: &BytesMut) -> usize {
    let Some((&[l0, l1, l2, l3, ..], rest)) = received.split_first_chunk::<HEAD_BYTES>() else { return 0 };
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    length.min(FRAME_BYTES_MAX).saturating_sub(rest.len())
}

/// Over the length too, so that a damaged length cannot cut a valid payload out of the stream.
fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flaredb_raft::EntryId;

    fn append(entries: u64, bytes: usize) -> Message {
        let command = Bytes::from(vec![7; bytes]);
        let entries = (1..=entries)
            .map(|i| RaftLogEntry { index: i, term: 1, command: command.clone(), context: None })
            .collect();
        let body = Body::AppendEntries { prev: EntryId::default(), commit_index: 0, round: 1, entries };
        Message { from: 1, to: 2, region_id: 1, term: 1, body }
    }

    fn decode_all(bytes: &[u8]) -> Vec<Vec<Message>> {
        let mut received = BytesMut::from(bytes);
        let mut batches = Vec::new();
        while let Some(payload) = next(&mut received).unwrap() {
            batches.push(wire::decode_messages(payload).unwrap());
        }
        assert!(received.is_empty());
        batches
    }

    #[test]
    fn small_messages_share_a_frame_and_a_backlog_is_split() {
        let small = vec![append(1, 100); 50];
        let mut bytes = Vec::new();
        assert_eq!(encode(&small, &mut bytes), 0);
        assert_eq!(decode_all(&bytes), vec![small]);

        let large = vec![append(4, 200_000); 5];
        let mut bytes = Vec::new();
        assert_eq!(encode(&large, &mut bytes), 0);
        let batches = decode_all(&bytes);
        assert!(batches.len() > 1);
        assert_eq!(batches.concat(), large);
    }

    #[test]
    fn a_message_over_the_limit_is_left_out_and_the_next_one_goes() {
        let messages = [append(1, FRAME_BYTES_MAX), append(1, 1)];
        let mut bytes = Vec::new();
        assert_eq!(encode(&messages, &mut bytes), 1);
        assert_eq!(decode_all(&bytes), vec![vec![append(1, 1)]]);
    }

    #[test]
    fn a_frame_is_taken_only_whole_and_its_commands_are_not_copied() {
        let mut bytes = Vec::new();
        encode(&[append(1, 5000)], &mut bytes);
        for length in 0..bytes.len() {
            let mut received = BytesMut::from(&bytes[..length]);
            assert_eq!(next(&mut received), Ok(None));
            let want = if length < HEAD_BYTES { 0 } else { bytes.len() - length };
            assert_eq!(missing(&received), want);
        }
        let mut received = BytesMut::from(&bytes[..]);
        let payload = next(&mut received).unwrap().unwrap();
        let within = payload.as_ptr_range();
        let messages = wire::decode_messages(payload).unwrap();
        let Body::AppendEntries { entries, .. } = &messages[0].body else { panic!() };
        assert!(within.contains(&entries[0].command.as_ptr()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut good = Vec::new();
        encode(&[append(2, 10)], &mut good);
        for bit in 0..good.len() * 8 {
            let mut bad = BytesMut::from(&good[..]);
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(next(&mut bad), Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn an_oversized_length_is_refused_before_its_bytes_arrive() {
        let mut received = BytesMut::from(&[0xff; 8][..]);
        assert!(matches!(next(&mut received), Err(FrameError::Oversized(_))));
    }
}
