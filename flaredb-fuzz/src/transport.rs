//! The transport's codecs: frames and the greeting of a handshake.
//!
//! They are private to the server, which links RocksDB. Their files need neither, so they are compiled in from where they are.

use bytes::BytesMut;
use flaredb_replica::acquaintance::Acquaintances;
use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

#[path = "../../flaredb-server/src/transport/frame.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server's own file, private there")]
mod frame;
#[path = "../../flaredb-server/src/transport/handshake.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server's own file, private there")]
mod handshake;

#[path = "../../flaredb-server/src/transport/snapshot_wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server's own file, private there")]
mod snapshot_wire;

/// Frames out of a stream that arrives in pieces. The first byte says where the stream is cut, and whether the first frame's
/// length and checksum are put right.
pub(crate) fn peer_frames(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    let mut stream = rest.to_vec();
    if mode & 1 != 0
        && let Some((head, payload)) = stream.split_first_chunk_mut::<8>()
    {
        let length = u32::try_from(payload.len()).unwrap_or(0).to_le_bytes();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&length);
        hasher.update(payload);
        let [l0, l1, l2, l3] = length;
        let [c0, c1, c2, c3] = hasher.finalize().to_le_bytes();
        *head = [l0, l1, l2, l3, c0, c1, c2, c3];
    }
    let whole = take_frames(&stream, stream.len());
    let cut = stream.len() * usize::from(mode >> 1) / 128;
    assert!(whole == take_frames(&stream, cut), "where a stream is cut changes nothing");
    if mode & 1 != 0 && stream.len() >= 8 {
        assert!(whole.len() == 1 && whole.iter().flatten().eq(stream.iter().skip(8)), "a right frame is taken whole");
    }
    for payload in whole {
        let Ok(messages) = flaredb_replica::wire::decode_messages(payload.into()) else { continue };
        let mut out = Vec::new();
        assert!(frame::encode(&messages, &mut out) == 0, "what came in one frame fits into frames");
        let mut again = Vec::new();
        for payload in take_frames(&out, out.len()) {
            again.extend(flaredb_replica::wire::decode_messages(payload.into()).unwrap_or_default());
        }
        assert!(again == messages, "messages come back as they were");
    }
}

/// All frames of the stream, which arrives in two pieces. Ends at the first frame that is wrong.
fn take_frames(stream: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let (first, second) = stream.split_at(cut.min(stream.len()));
    let mut received = BytesMut::new();
    let mut frames = Vec::new();
    for piece in [first, second] {
        received.extend_from_slice(piece);
        loop {
            match frame::next(&mut received) {
                Ok(Some(payload)) => frames.push(payload.to_vec()),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
        let missing = frame::missing(&received);
        assert!(missing <= frame::FRAME_BYTES_MAX, "no more is asked for than a frame may have");
        assert!(missing > 0 || received.len() < 8, "a frame that is there is taken");
    }
    frames
}

/// A greeting, with or without its checksum put right.
pub(crate) fn greeting(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    let mut bytes = rest.to_vec();
    if mode & 1 != 0
        && let Some((head, body)) = bytes.split_first_chunk_mut::<13>()
    {
        let [l0, l1] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_le_bytes();
        let [v0, v1] = handshake::PROTOCOL_VERSION.to_le_bytes();
        let [c0, c1, c2, c3] = crc32fast::hash(body).to_le_bytes();
        *head = [b'F', b'L', b'R', b'P', v0, v1, 0, l0, l1, c0, c1, c2, c3];
    }
    let Ok(handshake::Received::Greeting(greeting)) = read(&bytes) else { return };
    // URLs beyond its own limits are left out by the encoder, which is not the reader's business.
    if greeting.client_urls.len() > 16 || greeting.client_urls.iter().any(|url| url.len() > 255) {
        return;
    }
    let again = handshake::encode(&greeting, None);
    assert!(
        matches!(read(&again), Ok(handshake::Received::Greeting(read)) if read == greeting),
        "a greeting comes back as it was"
    );
}

/// A part of a snapshot: what is accepted encodes back to itself.
pub(crate) fn snapshot_parts(data: &[u8]) {
    use snapshot_wire::{Part, begin_rows, push_row};
    let Some(part) = snapshot_wire::decode(bytes::Bytes::copy_from_slice(data)) else { return };
    let mut again = Vec::new();
    match part {
        Part::Header(header) => header.encode(&mut again),
        Part::End(end) => end.encode(&mut again),
        Part::Answer(verdict) => verdict.encode(&mut again),
        Part::Rows(payload) => {
            let Some(rows) = snapshot_wire::rows(payload) else { return };
            begin_rows(&mut again);
            for (key, value) in rows {
                assert!(push_row(&key, &value, &mut again), "what came in one frame fits into one");
            }
        }
    }
    assert!(again == data, "a part that is accepted encodes back to itself");
}

/// One of each part.
pub(crate) fn seeds_of_snapshot_parts() -> Vec<Vec<u8>> {
    use snapshot_wire::{End, Header, Verdict, begin_rows, push_row};
    let last = flaredb_raft::EntryId { index: 9, term: 2 };
    let conf_state = flaredb_raft::ConfState { voters: vec![1, 2, 3] };
    let mut seeds = vec![Vec::new(); 5];
    if let [header, rows, end, taken, damaged] = seeds.as_mut_slice() {
        Header { term: 3, snapshot: flaredb_raft::SnapshotMeta { last, conf_state } }.encode(header);
        begin_rows(rows);
        push_row(b"key", b"value", rows);
        push_row(b"", b"", rows);
        End { rows: 2, hash: 7 }.encode(end);
        Verdict::Taken.encode(taken);
        Verdict::Damaged.encode(damaged);
    }
    seeds
}

/// Runs the reader on a stream that has all of it.
fn read(mut bytes: &[u8]) -> Result<handshake::Received, handshake::HandshakeError> {
    let mut future = pin!(handshake::read(&mut bytes));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("a slice is always ready"),
    }
}

/// Real frames and greetings, with the mode byte in front.
pub(crate) fn seeds_of_frames(batches: &[Vec<flaredb_raft::Message>]) -> Vec<Vec<u8>> {
    let frame = |mode: u8, batch: &Vec<flaredb_raft::Message>| {
        let mut out = vec![mode];
        frame::encode(batch, &mut out);
        out
    };
    batches.iter().flat_map(|batch| [frame(0, batch), frame(65, batch)]).collect()
}

/// See [`seeds_of_frames`].
pub(crate) fn seeds_of_greetings() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![1; 14]];
    for known in crate::seeds::of("acquaintances") {
        let Ok(acquaintances) = Acquaintances::decode(&known) else { continue };
        let position = acquaintances.others().next().map(|_| (7, flaredb_raft::EntryId { index: 8, term: 6 }));
        let greeting = handshake::Greeting {
            cluster_id: 1,
            region_id: 2,
            sender: 3,
            target: 4,
            incarnation: 5,
            purpose: if position.is_some() { handshake::Purpose::Messages } else { handshake::Purpose::Snapshot },
            position,
            acquaintances,
            name: "n1".to_owned(),
            client_urls: vec!["http://a:1".to_owned()],
        };
        let bytes = handshake::encode(&greeting, None);
        seeds.push([&[0], bytes.as_slice()].concat());
        seeds.push([&[1], bytes.as_slice()].concat());
    }
    for refusal in 0..8_u8 {
        seeds.push([&[0][..], b"FLRP", &[3, 0, refusal, 0, 0, 0, 0, 0, 0]].concat());
    }
    seeds
}
