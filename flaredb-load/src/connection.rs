//! One HTTP/2 connection of a gRPC client (RFC 9113): calls are written as a HEADERS and a DATA frame each, many in flight; what
//! comes back is collected by stream. Flow control is obeyed for what is sent; what is received never has to wait.

use crate::call::{Answer, KEPT_BYTES, Method, UNAVAILABLE};
use crate::hpack::{Decoder, Encoder, Fields};
use crate::{LoadError, Result};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest payload of a frame, both ways: what holds without a word.
const FRAME_BYTES: usize = 16_384;
const HEAD_BYTES: usize = 9;
const WINDOW_DEFAULT: i64 = 65_535;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The connection's receive window is topped up after this many bytes.
const TOP_UP_BYTES: u32 = 1 << 29;
const INPUT_BYTES: usize = 256 << 10;
/// gRPC's prefix of a message: a flag and its length.
const PREFIX_BYTES: usize = 5;
/// RST_STREAM's code for an end of our own will.
const CANCEL: u32 = 8;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    /// END_STREAM, and ACK of SETTINGS and PING.
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
    pub(super) const PRIORITY: u8 = 0x20;
}

mod setting {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// A call in flight.
#[derive(Debug)]
struct Call {
    tag: u64,
    head: Vec<u8>,
    /// Bytes of DATA so far, with the prefix.
    seen: usize,
    fields: Fields,
}

/// A message that the windows do not take whole, on its way in parts.
#[derive(Debug)]
struct Partial {
    stream: u32,
    /// How much the stream still takes.
    window: i64,
    bytes: Vec<u8>,
    sent: usize,
}

/// A connection. It breaks as a whole: every call in flight is then answered with UNAVAILABLE.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    address: SocketAddr,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
    encoder: Encoder,
    decoder: Decoder,
    /// Calls by stream: the first has number `oldest`, each next one two more.
    calls: VecDeque<Option<Call>>,
    oldest: u32,
    open: usize,
    streams_max: usize,
    /// How much may be sent: on the connection, and on a new stream.
    window: i64,
    stream_window: i64,
    /// Calls that wait for the window or for a stream.
    waiting: VecDeque<(Method, Vec<u8>, u64)>,
    /// At most one at a time; the others wait for its end.
    partial: Option<Partial>,
    /// Received since the last top-up.
    received: u32,
    /// A header block whose CONTINUATION is still to come: its stream, whether it ends it, the bytes so far.
    block: Option<(u32, bool, Vec<u8>)>,
    /// Why it is of no use any more.
    broken: Option<String>,
    /// Empty buffers for the heads of answers.
    pub(crate) spare: Vec<Vec<u8>>,
}

fn put_frame_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = (length as u32).to_be_bytes();
    let stream = stream.to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags, stream[0], stream[1], stream[2], stream[3]]);
}

fn word(bytes: &[u8]) -> u32 {
    bytes.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

impl Connection {
    /// Connects and waits for the server's settings. The socket blocks, with `patience` for each read.
    ///
    /// # Errors
    /// Nobody listens there, or what listens does not speak HTTP/2.
    pub fn open(address: SocketAddr, patience: Duration) -> Result<Self> {
        let why = |what: &str, error: std::io::Error| LoadError(format!("{address}: {what}: {error}"));
        let socket = TcpStream::connect_timeout(&address, patience).map_err(|error| why("connect", error))?;
        socket.set_nodelay(true).map_err(|error| why("TCP_NODELAY", error))?;
        socket.set_read_timeout(Some(patience)).map_err(|error| why("read timeout", error))?;
        let mut connection = Self {
            socket,
            address,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            output: Vec::with_capacity(64 << 10),
            written: 0,
            encoder: Encoder::new(&address.to_string(), 4096),
            decoder: Decoder::new(),
            calls: VecDeque::new(),
            oldest: 1,
            open: 0,
            // Until the settings are here, nothing is sent.
            streams_max: 0,
            window: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            waiting: VecDeque::new(),
            partial: None,
            received: 0,
            block: None,
            broken: None,
            spare: Vec::new(),
        };
        connection.greet();
        connection.flush();
        let (mut nothing, begun) = (Vec::new(), Instant::now());
        while connection.streams_max == 0 {
            connection.read(&mut nothing);
            if let Some(broken) = &connection.broken {
                return Err(LoadError(format!("{address}: {broken}")));
            }
            if begun.elapsed() > patience && connection.streams_max == 0 {
                return Err(LoadError(format!("{address}: no HTTP/2 settings within {patience:?}")));
            }
        }
        Ok(connection)
    }

    fn greet(&mut self) {
        self.output.extend_from_slice(PREFACE);
        put_frame_head(&mut self.output, 12, kind::SETTINGS, 0, 0);
        for (name, value) in [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, WINDOW_MAX)] {
            self.output.extend_from_slice(&name.to_be_bytes());
            self.output.extend_from_slice(&value.to_be_bytes());
        }
        put_frame_head(&mut self.output, 4, kind::WINDOW_UPDATE, 0, 0);
        self.output.extend_from_slice(&(WINDOW_MAX - 65_535).to_be_bytes());
    }

    /// The socket, to wait for.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whom it talks to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on a read waits for this long at most.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait_at_most(&self, patience: Duration) -> Result<()> {
        let address = self.address;
        self.socket.set_read_timeout(Some(patience)).map_err(|error| LoadError(format!("{address}: {error}")))
    }

    /// Why it is of no use any more, if so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Whether bytes wait for the socket.
    pub(crate) fn is_blocked(&self) -> bool {
        self.written < self.output.len()
    }

    /// Begins a call. What comes back carries `tag`.
    pub fn submit(&mut self, method: Method, message: &[u8], tag: u64) {
        let first = self.waiting.is_empty() && self.partial.is_none();
        if first && self.open < self.streams_max && self.fits(message) {
            self.write_call(method, message, tag);
        } else {
            self.waiting.push_back((method, message.to_vec(), tag));
            self.write_waiting();
        }
    }

    fn fits(&self, message: &[u8]) -> bool {
        let bytes = (message.len() + PREFIX_BYTES) as i64;
        bytes <= self.window && bytes <= self.stream_window
    }

    /// Whether waiting would not help: it is more than a new stream takes, or nothing is open whose end could give back
    /// some of the connection's window.
    fn never_fits(&self, message: &[u8]) -> bool {
        (message.len() + PREFIX_BYTES) as i64 > self.stream_window || self.open == 0
    }

    /// Writes the headers of a call; gives its stream.
    fn open_call(&mut self, method: Method, tag: u64) -> u32 {
        let stream = self.oldest + 2 * self.calls.len() as u32;
        let at = self.output.len();
        put_frame_head(&mut self.output, 0, kind::HEADERS, flag::END_HEADERS, stream);
        self.encoder.encode(method, &mut self.output);
        let block = self.output.len() - at - HEAD_BYTES;
        self.output[at + 1..at + 3].copy_from_slice(&(block as u16).to_be_bytes());
        self.open += 1;
        let head = self.spare.pop().unwrap_or_default();
        self.calls.push_back(Some(Call { tag, head, seen: 0, fields: Fields::default() }));
        stream
    }

    fn write_call(&mut self, method: Method, message: &[u8], tag: u64) {
        let stream = self.open_call(method, tag);
        let total = message.len() + PREFIX_BYTES;
        let first = total.min(FRAME_BYTES);
        let end = |left: usize| if left == 0 { flag::END_STREAM } else { 0 };
        put_frame_head(&mut self.output, first, kind::DATA, end(total - first), stream);
        self.output.push(0);
        self.output.extend_from_slice(&(message.len() as u32).to_be_bytes());
        let (now, mut rest) = message.split_at(first - PREFIX_BYTES);
        self.output.extend_from_slice(now);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(FRAME_BYTES));
            put_frame_head(&mut self.output, part.len(), kind::DATA, end(after.len()), stream);
            self.output.extend_from_slice(part);
            rest = after;
        }
        self.window -= total as i64;
    }

    /// Sends of the message that goes in parts what fits now; whether all of it is sent.
    fn write_part(&mut self) -> bool {
        let Some(partial) = &mut self.partial else { return true };
        loop {
            let rest = &partial.bytes[partial.sent..];
            let room = self.window.min(partial.window).clamp(0, FRAME_BYTES as i64) as usize;
            let part = &rest[..rest.len().min(room)];
            if part.is_empty() {
                return false;
            }
            let ends = part.len() == rest.len();
            let flags = if ends { flag::END_STREAM } else { 0 };
            put_frame_head(&mut self.output, part.len(), kind::DATA, flags, partial.stream);
            self.output.extend_from_slice(part);
            self.window -= part.len() as i64;
            partial.window -= part.len() as i64;
            partial.sent += part.len();
            if ends {
                self.partial = None;
                return true;
            }
        }
    }

    /// Sends what waits, as much as the socket takes.
    pub fn flush(&mut self) {
        while self.written < self.output.len() && self.broken.is_none() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(0) => self.broken = Some("closed by the server".to_owned()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.broken = Some(format!("write: {error}")),
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
    }

    /// Reads what is there and appends the calls that ended to `done`. If the connection breaks, all of them end.
    pub fn read(&mut self, done: &mut Vec<(u64, Answer)>) {
        loop {
            let room = self.input.len() - self.filled;
            match self.socket.read(&mut self.input[self.filled..]) {
                Ok(0) => self.broken = Some("closed by the server".to_owned()),
                Ok(bytes) => {
                    self.filled += bytes;
                    self.take_frames(done);
                    if bytes == room && self.broken.is_none() {
                        continue;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => self.broken = Some(format!("read: {error}")),
            }
            break;
        }
        if self.broken.is_some() {
            self.end_all(done);
        } else {
            self.write_waiting();
        }
    }

    fn write_waiting(&mut self) {
        while self.write_part() && self.open < self.streams_max {
            let Some((_, message, _)) = self.waiting.front() else { break };
            let fits = self.fits(message);
            if !fits && !self.never_fits(message) {
                break;
            }
            let Some((method, message, tag)) = self.waiting.pop_front() else { break };
            if fits {
                self.write_call(method, &message, tag);
                continue;
            }
            let mut bytes = vec![0];
            bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&message);
            let stream = self.open_call(method, tag);
            self.partial = Some(Partial { stream, window: self.stream_window, bytes, sent: 0 });
        }
    }

    fn end_all(&mut self, done: &mut Vec<(u64, Answer)>) {
        let message = self.broken.clone();
        let waiting = self.waiting.drain(..).map(|(_, _, tag)| tag);
        for tag in self.calls.drain(..).flatten().map(|call| call.tag).chain(waiting) {
            let (message, head) = (message.clone(), Vec::new());
            done.push((tag, Answer { status: UNAVAILABLE, message, head, length: 0 }));
        }
        self.open = 0;
        self.partial = None;
    }

    fn take_frames(&mut self, done: &mut Vec<(u64, Answer)>) {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while self.broken.is_none() {
            let Some(head) = input[at..self.filled].get(..HEAD_BYTES) else { break };
            let length = (word(head) >> 8) as usize;
            let (kind, flags, stream) = (head[3], head[4], word(&head[5..]) & WINDOW_MAX);
            if length > FRAME_BYTES {
                self.broken = Some(format!("a frame of {length} bytes"));
                break;
            }
            let Some(payload) = input[at + HEAD_BYTES..self.filled].get(..length) else { break };
            at += HEAD_BYTES + length;
            if let Err(what) = self.take_frame(kind, flags, stream, payload, done) {
                self.broken = Some(what);
            }
        }
        self.input = input;
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
    }

    fn take_frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        done: &mut Vec<(u64, Answer)>,
    ) -> std::result::Result<(), String> {
        match kind {
            kind::DATA => {
                self.top_up(payload.len() as u32);
                let data = unpadded(flags, payload).ok_or("bad padding")?;
                if let Some(call) = self.call(stream) {
                    call.take(data);
                }
                if flags & flag::END_STREAM != 0 {
                    self.end(stream, None, done);
                }
            }
            kind::HEADERS => {
                let mut block = unpadded(flags, payload).ok_or("bad padding")?;
                if flags & flag::PRIORITY != 0 {
                    block = block.get(5..).ok_or("a HEADERS frame that is too short")?;
                }
                let ends = flags & flag::END_STREAM != 0;
                if flags & flag::END_HEADERS == 0 {
                    self.block = Some((stream, ends, block.to_vec()));
                } else {
                    self.take_block(stream, ends, block, done)?;
                }
            }
            kind::CONTINUATION => {
                let (stream, ends, mut block) = self.block.take().ok_or("a CONTINUATION of nothing")?;
                block.extend_from_slice(payload);
                if flags & flag::END_HEADERS == 0 {
                    self.block = Some((stream, ends, block));
                } else {
                    self.take_block(stream, ends, &block, done)?;
                }
            }
            kind::RST_STREAM => self.end(stream, Some(format!("stream reset, code {}", word(payload))), done),
            kind::SETTINGS if flags & flag::ACK == 0 => self.take_settings(payload)?,
            kind::PING if flags & flag::ACK == 0 => {
                put_frame_head(&mut self.output, payload.len(), kind::PING, flag::ACK, 0);
                self.output.extend_from_slice(payload);
            }
            kind::GOAWAY => {
                let code = payload.get(4..).map_or(0, word);
                return Err(format!("the server closes the connection (GOAWAY, code {code})"));
            }
            // Of the streams only the one that sends in parts has something left to send.
            kind::WINDOW_UPDATE => {
                let more = i64::from(word(payload) & WINDOW_MAX);
                if stream == 0 {
                    self.window += more;
                } else if let Some(partial) = self.partial.as_mut().filter(|partial| partial.stream == stream) {
                    partial.window += more;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_settings(&mut self, payload: &[u8]) -> std::result::Result<(), String> {
        let first = self.streams_max == 0;
        if first {
            self.streams_max = usize::MAX;
        }
        for entry in payload.chunks_exact(6) {
            let (name, value) = (u16::from_be_bytes([entry[0], entry[1]]), word(&entry[2..]));
            match name {
                setting::HEADER_TABLE_SIZE if first => {
                    self.encoder = Encoder::new(&self.address.to_string(), value as usize);
                }
                setting::HEADER_TABLE_SIZE if value < 4096 => return Err("a header table that shrinks".to_owned()),
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value.max(1) as usize,
                setting::INITIAL_WINDOW_SIZE => {
                    let more = i64::from(value) - self.stream_window;
                    self.stream_window += more;
                    if let Some(partial) = &mut self.partial {
                        partial.window += more;
                    }
                }
                _ => {}
            }
        }
        put_frame_head(&mut self.output, 0, kind::SETTINGS, flag::ACK, 0);
        Ok(())
    }

    /// Counts what was received and gives the server back the room for it.
    fn top_up(&mut self, bytes: u32) {
        self.received += bytes;
        if self.received >= TOP_UP_BYTES {
            put_frame_head(&mut self.output, 4, kind::WINDOW_UPDATE, 0, 0);
            self.output.extend_from_slice(&self.received.to_be_bytes());
            self.received = 0;
        }
    }

    fn position(&self, stream: u32) -> Option<usize> {
        (stream % 2 == 1).then(|| stream.checked_sub(self.oldest)).flatten().map(|after| after as usize / 2)
    }

    fn call(&mut self, stream: u32) -> Option<&mut Call> {
        let position = self.position(stream)?;
        self.calls.get_mut(position)?.as_mut()
    }

    fn take_block(
        &mut self,
        stream: u32,
        ends: bool,
        block: &[u8],
        done: &mut Vec<(u64, Answer)>,
    ) -> std::result::Result<(), String> {
        let fields = self.decoder.decode(block).map_err(|_| "a damaged header block")?;
        if let Some(call) = self.call(stream) {
            call.fields.http_status = fields.http_status.or(call.fields.http_status);
            call.fields.grpc_status = fields.grpc_status.or(call.fields.grpc_status);
            call.fields.grpc_message = fields.grpc_message.or(call.fields.grpc_message.take());
        }
        if ends {
            self.end(stream, None, done);
        }
        Ok(())
    }

    fn end(&mut self, stream: u32, failure: Option<String>, done: &mut Vec<(u64, Answer)>) {
        let Some(call) = self.position(stream).and_then(|at| self.calls.get_mut(at)).and_then(Option::take) else {
            return;
        };
        self.open -= 1;
        if self.partial.as_ref().is_some_and(|partial| partial.stream == stream) {
            self.partial = None;
            // Answered before all was sent. A stream that was reset is not reset again.
            if failure.is_none() {
                put_frame_head(&mut self.output, 4, kind::RST_STREAM, 0, stream);
                self.output.extend_from_slice(&CANCEL.to_be_bytes());
            }
        }
        while let Some(None) = self.calls.front() {
            self.calls.pop_front();
            self.oldest += 2;
        }
        let (status, message) = match (failure, call.fields.grpc_status) {
            (Some(failure), _) => (UNAVAILABLE, Some(failure)),
            (None, Some(status)) => (status, call.fields.grpc_message),
            (None, None) => (UNAVAILABLE, Some(format!("HTTP status {:?} without gRPC's", call.fields.http_status))),
        };
        let length = call.seen.saturating_sub(PREFIX_BYTES);
        done.push((call.tag, Answer { status, message, head: call.head, length }));
    }
}

impl Call {
    fn take(&mut self, data: &[u8]) {
        let message = data.get(PREFIX_BYTES.saturating_sub(self.seen)..).unwrap_or_default();
        let room = KEPT_BYTES - self.head.len();
        self.head.extend_from_slice(&message[..message.len().min(room)]);
        self.seen += data.len();
    }
}

fn unpadded(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if flags & flag::PADDED == 0 {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// One call on a connection of its own.
///
/// # Errors
/// Nobody answers within `patience`.
pub fn ask(address: SocketAddr, method: Method, message: &[u8], patience: Duration) -> Result<Answer> {
    let begun = Instant::now();
    let mut connection = Connection::open(address, patience)?;
    connection.submit(method, message, 0);
    let mut done = Vec::new();
    while done.is_empty() {
        connection.flush();
        connection.read(&mut done);
        if begun.elapsed() > patience && done.is_empty() {
            return Err(LoadError(format!("{address}: no answer to {} within {patience:?}", method.path())));
        }
    }
    done.pop().map(|(_, answer)| answer).ok_or_else(|| LoadError(format!("{address}: no answer")))
}
