//! What reaches the peer port from outside the cluster, or from a confused member: it is closed or dropped, counted, and
//! the cluster goes on. The bytes are written by hand, after the layout in `transport/handshake.rs` and `frame.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod in_process;

use flaredb_raft::{Body, ConfState, EntryId, Message, SnapshotMeta};
use flaredb_replica::wire;
use flaredb_server::{counters::Counters, node::REGION_ID};
use in_process::{Cluster, PATIENCE, put_surely, read, until};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A greeting, field by field.
#[derive(Clone)]
struct Greeting {
    magic: [u8; 4],
    version: u16,
    cluster_id: u64,
    region_id: u64,
    sender: u64,
    target: u64,
    incarnation: u64,
    /// 0: messages, 1: a snapshot.
    purpose: u8,
}

impl Greeting {
    /// What node `from` would say to node `to`.
    fn between(cluster: &Cluster, from: usize, to: usize) -> Self {
        let id = |i: usize| cluster.handle(i).peer().id;
        Self {
            magic: *b"FLRP",
            version: 4,
            cluster_id: cluster.handle(to).status().cluster.cluster_id,
            region_id: REGION_ID,
            sender: id(from),
            target: id(to),
            // Newer than the real one.
            incarnation: u64::MAX,
            purpose: 0,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for field in [self.cluster_id, self.region_id, self.sender, self.target, self.incarnation] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        // No position; of no other it knows anything, and its own start is one that nobody knows.
        body.push(self.purpose);
        body.extend_from_slice(&[0; 1 + 3 * 8]);
        body.extend_from_slice(&[12, 0, 2, 0, 1, 0]);
        body.extend_from_slice(&0x5707_a6e1_u64.to_le_bytes());
        body.extend_from_slice(&[2, 0, b'x', b'y', 0]);
        let mut bytes = self.magic.to_vec();
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&(body.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }
}

async fn dial(cluster: &Cluster, node: usize) -> TcpStream {
    TcpStream::connect(cluster.nodes[node].as_ref().unwrap().peer_addrs()[0]).await.unwrap()
}

/// Sends a greeting and returns the verdict of the answer.
async fn greet(stream: &mut TcpStream, greeting: &Greeting) -> io::Result<u8> {
    stream.write_all(&greeting.encode()).await?;
    let mut head = [0; 13];
    stream.read_exact(&mut head).await?;
    assert_eq!(head[..4], *b"FLRP");
    let mut body = vec![0; usize::from(u16::from_le_bytes([head[7], head[8]]))];
    stream.read_exact(&mut body).await?;
    Ok(head[6])
}

/// Waits until the other side has closed.
async fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection stays open");
    assert!(rest.is_empty(), "{rest:?}");
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    [&length, &hasher.finalize().to_le_bytes(), payload].concat()
}

fn frame_of(message: Message) -> Vec<u8> {
    let mut payload = Vec::new();
    wire::encode_messages(&[message], &mut payload);
    frame(&payload)
}

fn counters(cluster: &Cluster, node: usize) -> Arc<Counters> {
    cluster.handle(node).status().counters
}

/// Every node takes a write and reads it; nobody's leadership or term was touched.
async fn assert_unharmed(cluster: &Cluster, term: u64) {
    for i in 0..3 {
        put_surely(&cluster.handle(i), "alive", &i.to_string()).await;
        assert_eq!(read(&cluster.handle(i), "alive").await, Some(i.to_string()));
    }
    cluster.assert_equal_content().await;
    assert_eq!(cluster.handle(0).peer().term, term);
}

async fn start() -> (Cluster, u64) {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    put_surely(&cluster.handle(leader), "first", "1").await;
    until("all connections", || (0..3).all(|i| cluster.handle(i).status().connected.len() == 2).then_some(())).await;
    let term = cluster.handle(leader).peer().term;
    (cluster, term)
}

#[tokio::test]
async fn garbage_is_closed_and_counted() {
    let (cluster, term) = start().await;
    let longer = Greeting { magic: *b"flrp", ..Greeting::between(&cluster, 1, 0) }.encode();
    let mut bad_crc = Greeting::between(&cluster, 1, 0).encode();
    *bad_crc.last_mut().unwrap() ^= 1;
    let mut too_long = Greeting::between(&cluster, 1, 0).encode();
    (too_long[7], too_long[8]) = (0xff, 0xff);
    let tls: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let inputs: [&[u8]; 6] = [b"GET / HTTP/1.1\r\n\r\n", tls, &[0; 4096], &longer, &bad_crc, &too_long];
    for (i, input) in inputs.iter().enumerate() {
        let mut stream = dial(&cluster, 0).await;
        stream.write_all(input).await.unwrap();
        assert_closed(&mut stream).await;
        assert_eq!(counters(&cluster, 0).handshakes_garbage.get(), i as u64 + 1);
    }
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn a_wrong_greeting_is_answered_with_its_reason() {
    let (cluster, term) = start().await;
    let right = Greeting::between(&cluster, 1, 0);
    let counters = counters(&cluster, 0);
    let stranger = right.cluster_id ^ 1;
    let cases = [
        (Greeting { version: 1, ..right.clone() }, 1, &counters.handshakes_wrong_version),
        (Greeting { cluster_id: stranger, ..right.clone() }, 2, &counters.handshakes_wrong_cluster),
        (Greeting { region_id: 2, ..right.clone() }, 3, &counters.handshakes_wrong_region),
        (Greeting { target: right.sender, ..right.clone() }, 4, &counters.handshakes_wrong_target),
        (Greeting { sender: stranger, ..right.clone() }, 5, &counters.handshakes_unknown_sender),
        (Greeting { incarnation: 1, ..right.clone() }, 6, &counters.handshakes_superseded),
    ];
    for (greeting, verdict, counter) in cases {
        let before = counter.get();
        let mut stream = dial(&cluster, 0).await;
        assert_eq!(greet(&mut stream, &greeting).await.unwrap(), verdict);
        assert_closed(&mut stream).await;
        assert_eq!(counter.get(), before + 1);
    }
    // Not even this node itself may be its own peer.
    let mut stream = dial(&cluster, 0).await;
    let myself = Greeting { sender: right.target, ..right };
    assert_eq!(greet(&mut stream, &myself).await.unwrap(), 5);
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn half_a_greeting_does_not_hold_a_connection() {
    let (cluster, term) = start().await;
    let greeting = Greeting::between(&cluster, 1, 0).encode();
    for length in [0, 3, 4, 12, 13, greeting.len() - 1] {
        let before = counters(&cluster, 0).handshakes_incomplete.get();
        let mut stream = dial(&cluster, 0).await;
        stream.write_all(&greeting[..length]).await.unwrap();
        if length == 12 {
            // Gone in the middle, without waiting.
            drop(stream);
        } else {
            assert_closed(&mut stream).await;
        }
        until("the count", || (counters(&cluster, 0).handshakes_incomplete.get() == before + 1).then_some(())).await;
    }
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn connections_in_their_handshake_are_bounded() {
    let (cluster, term) = start().await;
    let counters = counters(&cluster, 0);
    let mut held = Vec::new();
    while counters.connections_over_limit.get() == 0 {
        held.push(dial(&cluster, 0).await);
        tokio::task::yield_now().await;
        assert!(held.len() < 10_000);
    }
    // The members are connected already, and whoever comes new waits no longer than a handshake may take.
    assert_unharmed(&cluster, term).await;
    until("the end of the handshakes", || (counters.handshakes_incomplete.get() >= 64).then_some(())).await;
    let mut stream = dial(&cluster, 0).await;
    let stranger = Greeting { sender: 1, ..Greeting::between(&cluster, 1, 0) };
    assert_eq!(greet(&mut stream, &stranger).await.unwrap(), 5);
}

#[tokio::test]
async fn a_broken_frame_ends_its_connection_and_nothing_else() {
    let (cluster, term) = start().await;
    let leader = cluster.leader().await;
    let (from, to) = ((leader + 1) % 3, (leader + 2) % 3);
    let counters = counters(&cluster, to);
    let oversized = [&(65u32 << 20).to_le_bytes()[..], &[0; 4]].concat();
    let mut corrupt = frame(&[0]);
    corrupt[4] ^= 0x10;
    let malformed = frame(&[0xff; 100]);
    let cases = [
        (oversized, &counters.frames_oversized),
        (corrupt, &counters.frames_corrupt),
        (malformed, &counters.frames_malformed),
    ];
    for (bytes, counter) in cases {
        let mut stream = dial(&cluster, to).await;
        assert_eq!(greet(&mut stream, &Greeting::between(&cluster, from, to)).await.unwrap(), 0);
        stream.write_all(&bytes).await.unwrap();
        assert_closed(&mut stream).await;
        assert_eq!(counter.get(), 1);
    }
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn a_message_with_other_ids_than_its_connection_never_reaches_the_core() {
    let (cluster, term) = start().await;
    let leader = cluster.leader().await;
    let (from, to) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = |i: usize| cluster.handle(i).peer().id;
    let counters = counters(&cluster, to);
    let mut stream = dial(&cluster, to).await;
    assert_eq!(greet(&mut stream, &Greeting::between(&cluster, from, to)).await.unwrap(), 0);
    // Each would depose the leader at once if it were believed.
    let message = |from, to, region_id| {
        let body = Body::AppendEntries { prev: EntryId::default(), commit_index: 0, round: 1, entries: Vec::new() };
        Message { from, to, region_id, term: term + 100, body }
    };
    let wrong = [
        message(id(leader), id(to), REGION_ID),
        message(id(from), id(leader), REGION_ID),
        message(id(from), id(to), REGION_ID + 1),
        message(12345, id(to), REGION_ID),
    ];
    for (i, wrong) in wrong.into_iter().enumerate() {
        stream.write_all(&frame_of(wrong)).await.unwrap();
        until("the count", || (counters.messages_misaddressed.get() == i as u64 + 1).then_some(())).await;
    }
    let snapshot = SnapshotMeta { last: EntryId { index: 1000, term }, conf_state: ConfState::default() };
    let body = Body::InstallSnapshot { snapshot };
    let install = Message { from: id(from), to: id(to), region_id: REGION_ID, term, body };
    stream.write_all(&frame_of(install)).await.unwrap();
    until("the count", || (counters.messages_unsupported.get() == 1).then_some(())).await;
    // While this connection lives, the member it claims to be is fenced; then it comes back by itself.
    drop(stream);
    until("the real member", || (cluster.handle(from).status().connected.len() == 2).then_some(())).await;
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn random_frames_do_not_harm_a_node() {
    let (cluster, term) = start().await;
    let leader = cluster.leader().await;
    let (from, to) = ((leader + 1) % 3, (leader + 2) % 3);
    let seed = u64::from(std::process::id()) << 32 | 0x9e37;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for _ in 0..200 {
        let mut stream = dial(&cluster, to).await;
        assert_eq!(greet(&mut stream, &Greeting::between(&cluster, from, to)).await.unwrap(), 0);
        let length = (random() % 200) as usize;
        // A valid checksum over nonsense that often begins like a message of this very connection.
        let mut payload: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        if let Some(count) = payload.first_mut() {
            *count %= 3;
        }
        stream.write_all(&frame(&payload)).await.unwrap();
        stream.shutdown().await.unwrap();
        // Nothing is ever answered, whether it was understood or not.
        assert_closed(&mut stream).await;
    }
    until("the real member", || (cluster.handle(from).status().connected.len() == 2).then_some(())).await;
    assert_unharmed(&cluster, term).await;
    assert!(
        timeout(Duration::from_millis(1), cluster.nodes[to].as_ref().unwrap().wait_failed()).await.is_err(),
        "the node has failed"
    );
}

/// The parts of a snapshot, after `transport/snapshot_wire.rs`.
mod parts {
    pub(super) fn header(term: u64, index: u64, last_term: u64, voters: &[u64]) -> Vec<u8> {
        let mut part = vec![1];
        for number in [term, index, last_term] {
            part.extend_from_slice(&number.to_le_bytes());
        }
        part.extend_from_slice(&(voters.len() as u16).to_le_bytes());
        for voter in voters {
            part.extend_from_slice(&voter.to_le_bytes());
        }
        part
    }

    pub(super) fn rows(rows: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut part = vec![2];
        for (key, value) in rows {
            part.extend_from_slice(&(key.len() as u32).to_le_bytes());
            part.extend_from_slice(&(value.len() as u32).to_le_bytes());
            part.extend_from_slice(key);
            part.extend_from_slice(value);
        }
        part
    }

    pub(super) fn end(rows: u64, hash: u64) -> Vec<u8> {
        [&[3][..], &rows.to_le_bytes(), &hash.to_le_bytes()].concat()
    }
}

#[tokio::test]
async fn a_snapshot_that_is_damaged_stale_or_something_else_is_dropped() {
    let (cluster, term) = start().await;
    let leader = cluster.leader().await;
    let (from, to) = ((leader + 1) % 3, (leader + 2) % 3);
    let counters = counters(&cluster, to);
    let member = cluster.configs[to].data_dir.join("member");
    let voters: Vec<u64> = cluster.handle(to).status().members.iter().map(|member| member.id).collect();
    let header = |term, index| frame(&parts::header(term, index, term, &voters));
    let good = header(term, 1_000_000);
    let rows = parts::rows(&[(b"k", b"v"), (b"l", b"w")]);
    let hash = xxhash_rust::xxh3::xxh3_64(&rows[1..]);
    let rows = frame(&rows);
    let mut flipped = rows.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let (taken, not_wanted, damaged, not_stored) = (0, 1, 2, 3);
    // What it is, what is sent, and the verdict.
    type Case = (&'static str, Vec<Vec<u8>>, Option<u8>);
    let cases: [Case; 12] = [
        ("no header", vec![rows.clone()], Some(damaged)),
        ("two headers", vec![good.clone(), good.clone()], Some(damaged)),
        ("an unknown part", vec![good.clone(), frame(&[9])], Some(damaged)),
        ("an oversized part", vec![good.clone(), vec![0xff; 8]], Some(damaged)),
        ("a flipped bit", vec![good.clone(), flipped], Some(damaged)),
        ("malformed rows", vec![good.clone(), frame(&[2, 255, 255, 255, 255, 0])], Some(damaged)),
        ("a chunk is missing", vec![good.clone(), frame(&parts::end(2, hash))], Some(damaged)),
        (
            "a chunk came twice",
            vec![good.clone(), rows.clone(), rows.clone(), frame(&parts::end(2, hash))],
            Some(damaged),
        ),
        ("another hash", vec![good.clone(), rows.clone(), frame(&parts::end(2, hash ^ 1))], Some(damaged)),
        (
            "whole, but no state machine at its position",
            vec![good.clone(), rows.clone(), frame(&parts::end(2, hash))],
            Some(not_stored),
        ),
        ("an old one", vec![header(term, 1)], Some(not_wanted)),
        ("of an old leader", vec![header(term - 1, 1_000_000)], Some(not_wanted)),
    ];
    for (what, input, verdict) in cases {
        let mut stream = dial(&cluster, to).await;
        let greeting = Greeting { purpose: 1, ..Greeting::between(&cluster, from, to) };
        assert_eq!(greet(&mut stream, &greeting).await.unwrap(), 0);
        for part in input {
            // It may have been refused already.
            let _ = stream.write_all(&part).await;
        }
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection stays open");
        assert_eq!(answer.get(8..), verdict.map(|verdict| [4, verdict]).as_ref().map(|part| &part[..]), "{what}");
        assert_ne!(verdict, Some(taken));
    }
    // One that ends in the middle.
    let mut stream = dial(&cluster, to).await;
    let greeting = Greeting { purpose: 1, ..Greeting::between(&cluster, from, to) };
    assert_eq!(greet(&mut stream, &greeting).await.unwrap(), 0);
    stream.write_all(&[&good[..], &rows].concat()).await.unwrap();
    drop(stream);
    until("the end", || (counters.snapshots_incomplete.get() == 1).then_some(())).await;
    assert_eq!((counters.snapshots_damaged.get(), counters.snapshots_not_stored.get()), (9, 1));
    assert_eq!((counters.snapshots_not_wanted.get(), counters.snapshots_received.get()), (2, 0));
    until("no leftovers", || {
        let names = std::fs::read_dir(&member).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.into_iter().all(|name| !name.starts_with("incoming")).then_some(())
    })
    .await;
    // Beside all that the real member was connected all the time.
    assert_eq!(counters.connections_replaced.get(), 0);
    assert_unharmed(&cluster, term).await;
}
