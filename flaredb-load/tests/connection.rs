//! The client's side of HTTP/2 against a server whose every byte is written here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_load::{Answer, Connection, Method};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn next_frame(socket: &mut TcpStream) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    socket.read_exact(&mut payload).unwrap();
    (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}

/// Reads frames until one of this kind.
fn await_frame(socket: &mut TcpStream, kind: u8) -> (u8, u32, Vec<u8>) {
    loop {
        let (of, flags, stream, payload) = next_frame(socket);
        if of == kind {
            return (flags, stream, payload);
        }
    }
}

/// A server that greets with these settings and then does what the test says.
fn server(settings: &'static [u8], then: impl FnOnce(&mut TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut preface = [0; 24];
        socket.read_exact(&mut preface).unwrap();
        assert!(preface.starts_with(b"PRI * HTTP/2.0"));
        socket.write_all(&frame(4, 0, 0, settings)).unwrap();
        then(&mut socket);
    });
    (address, thread)
}

fn answers(connection: &mut Connection, count: usize) -> Vec<(u64, Answer)> {
    let mut done = Vec::new();
    while done.len() < count && connection.broken().is_none() {
        connection.flush();
        connection.read(&mut done);
    }
    done
}

/// :status 200, and grpc-status as a literal that no table keeps.
const HEADERS: &[u8] = &[0x88];
const TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";

#[test]
fn answers_come_padded_in_pieces_and_out_of_order() {
    let (address, thread) = server(&[], |socket| {
        let (_, first, _) = await_frame(socket, 1);
        let (_, second, _) = await_frame(socket, 1);
        assert_eq!((first, second), (1, 3));
        // The second call: headers in two frames, a message in two, one of them padded.
        let mut bytes = frame(1, 0, 3, &[]);
        bytes.extend(frame(9, 4, 3, HEADERS));
        bytes.extend(frame(0, 0, 3, &[0, 0, 0]));
        bytes.extend(frame(0, 8, 3, &[2, 0, 3, b'a', b'b', b'c', 0, 0]));
        bytes.extend(frame(1, 5, 3, TRAILERS));
        // A ping in between, then the first call with trailers alone.
        bytes.extend(frame(6, 0, 0, &[1, 2, 3, 4, 5, 6, 7, 8]));
        bytes.extend(frame(1, 5, 1, b"\x88\x00\x0bgrpc-status\x0214\x00\x0cgrpc-message\x04gone"));
        // Byte by byte, so that every frame is cut everywhere.
        for byte in bytes {
            socket.write_all(&[byte]).unwrap();
        }
        let (flags, _, payload) = await_frame(socket, 6);
        assert_eq!((flags, payload), (1, vec![1, 2, 3, 4, 5, 6, 7, 8]), "the ping is answered");
    });
    let mut connection = Connection::open(address, PATIENCE).unwrap();
    connection.submit(Method::Put, b"one", 10);
    connection.submit(Method::Range, b"two", 20);
    let done = answers(&mut connection, 2);
    assert_eq!((done[0].0, done[0].1.status, done[0].1.head.as_slice(), done[0].1.length), (20, 0, &b"abc"[..], 3));
    assert_eq!((done[1].0, done[1].1.status, done[1].1.message.as_deref()), (10, 14, Some("gone")));
    connection.flush();
    thread.join().unwrap();
}

#[test]
fn what_the_server_allows_is_obeyed() {
    // MAX_CONCURRENT_STREAMS 2.
    let (address, thread) = server(&[0, 3, 0, 0, 0, 2], |socket| {
        let mut received = 0;
        // Two streams of 30,005 bytes each fit into the connection's window of 65,535.
        while received < 60_010 {
            received += await_frame(socket, 0).2.len();
        }
        let end = |socket: &mut TcpStream, stream| {
            socket.write_all(&frame(1, 5, stream, TRAILERS)).unwrap();
        };
        // A stream is free, but there is no window for the third.
        end(socket, 1);
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut head = [0; 9];
        let more = socket.read(&mut head);
        assert!(more.is_err() || head[3] != 1, "no third call yet: {head:?}");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&frame(8, 0, 0, &30_000u32.to_be_bytes())).unwrap();
        let (_, third, _) = await_frame(socket, 1);
        assert_eq!(third, 5);
        let mut received = 0;
        while received < 30_005 {
            received += await_frame(socket, 0).2.len();
        }
        end(socket, 3);
        end(socket, 5);
    });
    let mut connection = Connection::open(address, PATIENCE).unwrap();
    let message = vec![7; 30_000];
    for tag in 0..3 {
        connection.submit(Method::Txn, &message, tag);
    }
    let done = answers(&mut connection, 3);
    assert!(done.iter().all(|(_, answer)| answer.status == 0), "{done:?}");
    thread.join().unwrap();
}

#[test]
fn a_connection_that_breaks_answers_every_call() {
    let (address, thread) = server(&[], |socket| {
        await_frame(socket, 1);
    });
    let mut connection = Connection::open(address, PATIENCE).unwrap();
    connection.submit(Method::Put, b"x", 1);
    connection.submit(Method::Put, b"y", 2);
    let done = answers(&mut connection, 2);
    assert_eq!(done.iter().map(|(tag, answer)| (*tag, answer.status)).collect::<Vec<_>>(), [(1, 14), (2, 14)]);
    assert!(connection.broken().is_some());
    thread.join().unwrap();
}

#[test]
fn who_does_not_speak_http2_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let error = Connection::open(address, PATIENCE).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    thread.join().unwrap();
}

/// Reads DATA of a stream until so many bytes of it are there; what it says about its end, and the bytes.
fn await_data(socket: &mut TcpStream, stream: u32, count: usize) -> (u8, Vec<u8>) {
    let mut all = Vec::new();
    loop {
        let (flags, of, payload) = await_frame(socket, 0);
        assert_eq!(of, stream);
        all.extend(payload);
        if all.len() >= count {
            return (flags, all);
        }
    }
}

#[test]
fn a_message_beyond_every_window_goes_in_parts() {
    let (address, thread) = server(&[], |socket| {
        let (_, mut all) = await_data(socket, 1, 65_535);
        assert_eq!(all.len(), 65_535, "as much as the windows hold");
        // The connection's window alone is of no use, and neither is one for another stream.
        for (stream, more) in [(0, 100_000u32), (3, 100_000), (1, 30_000)] {
            socket.write_all(&frame(8, 0, stream, &more.to_be_bytes())).unwrap();
        }
        all.extend(await_data(socket, 1, 30_000).1);
        assert_eq!(all.len(), 95_535);
        // New streams may send 10,000 bytes more from now on, and so may this one.
        socket.write_all(&frame(4, 0, 0, &[0, 4, 0, 1, 0x27, 0x0f])).unwrap();
        let (flags, rest) = await_data(socket, 1, 100_005 - all.len());
        all.extend(rest);
        assert_eq!((flags, all.len()), (1, 100_005));
        assert_eq!(all[..5], [0, 0, 1, 0x86, 0xa0]);
        assert!(all[5..].iter().all(|byte| *byte == 7));
        // Only then comes the next call.
        assert_eq!(await_data(socket, 3, 8).1[5..], *b"two");
        for stream in [1, 3] {
            socket.write_all(&frame(1, 5, stream, TRAILERS)).unwrap();
        }
    });
    let mut connection = Connection::open(address, PATIENCE).unwrap();
    connection.submit(Method::Put, &vec![7; 100_000], 1);
    connection.submit(Method::Put, b"two", 2);
    let done = answers(&mut connection, 2);
    assert_eq!(done.iter().map(|(tag, answer)| (*tag, answer.status)).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
    thread.join().unwrap();
}

#[test]
fn what_is_answered_before_it_was_sent_is_cancelled() {
    let (address, thread) = server(&[], |socket| {
        await_data(socket, 1, 65_535);
        socket.write_all(&frame(1, 5, 1, b"\x88\x00\x0bgrpc-status\x018")).unwrap();
        assert_eq!(await_frame(socket, 3), (0, 1, vec![0, 0, 0, 8]));
        // The connection's window is all used.
        socket.write_all(&frame(8, 0, 0, &1_000u32.to_be_bytes())).unwrap();
        assert_eq!(await_data(socket, 3, 8).1[5..], *b"two");
        socket.write_all(&frame(1, 5, 3, TRAILERS)).unwrap();
    });
    let mut connection = Connection::open(address, PATIENCE).unwrap();
    connection.submit(Method::Put, &vec![7; 100_000], 1);
    connection.submit(Method::Put, b"two", 2);
    let done = answers(&mut connection, 2);
    assert_eq!(done.iter().map(|(tag, answer)| (*tag, answer.status)).collect::<Vec<_>>(), [(1, 8), (2, 0)]);
    thread.join().unwrap();
}
