//! A client's socket as HTTP/2 sees it: timed until the client has said hello, read with old clients' authority set right,
//! and written once a turn.
//!
//! HTTP/2 flushes after every larger answer. Here its writes only gather; [`Gathered::poll_write`] takes them to the socket when
//! the connection's turn is over, so that a turn with many answers costs one system call.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Sleep,
};

use super::{authority::AuthorityFix, incoming::Place};

/// An HTTP/2 client begins with these many bytes, whatever it wants.
const PREFACE_BYTES: usize = 24;
/// Read at once from a connection whose requests are looked at.
const READ_BYTES: usize = 4096;
/// Gathered bytes beyond which HTTP/2 has to wait for the socket. Answers are already in memory then: this bounds the copy.
const GATHERED_BYTES_MAX: usize = 256 * 1024;
/// A buffer that was made larger than this by a large answer is given back.
const GATHERED_BYTES_KEPT: usize = 64 * 1024;

/// Splits a client's connection into what HTTP/2 reads and writes, and the end that really writes.
pub(super) fn split(stream: TcpStream, hello_time_max: Duration, place: Place) -> (Socket, Gathered) {
    let (reader, writer) = stream.into_split();
    let out = Arc::new(Mutex::new(Out::default()));
    let socket = Socket {
        reader,
        out: Arc::clone(&out),
        hello: Some(Hello { missing: PREFACE_BYTES, deadline: Box::pin(tokio::time::sleep(hello_time_max)) }),
        fix: AuthorityFix::new(),
        fixed: Vec::new(),
        _place: place,
    };
    (socket, Gathered { writer, out })
}

/// What waits to be written.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// So many of them are written.
    written: usize,
    /// HTTP/2 waits for room.
    full: bool,
    /// Bytes that the client has sent so far: a sign of life.
    heard: u64,
}

struct Hello {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

/// HTTP/2's side.
pub(super) struct Socket {
    reader: OwnedReadHalf,
    out: Arc<Mutex<Out>>,
    hello: Option<Hello>,
    fix: AuthorityFix,
    /// Read and set right, but not yet taken.
    fixed: Vec<u8>,
    _place: Place,
}

/// The socket's side; belongs to the task that drives HTTP/2, so that both wake the same one.
pub(super) struct Gathered {
    writer: OwnedWriteHalf,
    out: Arc<Mutex<Out>>,
}

fn lock(out: &Mutex<Out>) -> MutexGuard<'_, Out> {
    // One task has both sides; nothing in it panics half way.
    out.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gathered {
    /// Takes to the socket what has gathered. Ready(true): all of it is written, and HTTP/2 waits for that room.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut out = lock(&self.out);
        while let Some(rest) = out.bytes.get(out.written..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.writer).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.written += count;
        }
        out.bytes.clear();
        out.bytes.shrink_to(GATHERED_BYTES_KEPT);
        out.written = 0;
        Poll::Ready(Ok(std::mem::take(&mut out.full)))
    }

    /// Grows whenever the client sends something.
    pub(super) fn heard(&self) -> u64 {
        lock(&self.out).heard
    }
}

impl Socket {
    /// Reads what the socket has, with the authority set right while that may be needed.
    fn poll_fixed(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.fixed.is_empty() {
            if self.fix.is_pass_through() {
                return Pin::new(&mut self.reader).poll_read(context, buffer);
            }
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.reader).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                self.fix.finish(&mut self.fixed);
                // Then the next turn reads the end again.
            }
            self.fix.feed(read.filled(), &mut self.fixed);
        }
        let count = self.fixed.len().min(buffer.remaining());
        buffer.put_slice(self.fixed.get(..count).unwrap_or_default());
        self.fixed.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = this.poll_fixed(context, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            let mut out = lock(&this.out);
            out.heard = out.heard.wrapping_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
        if let Some(hello) = &mut this.hello {
            hello.missing = hello.missing.saturating_sub(count);
            if hello.missing == 0 {
                this.hello = None;
            } else if outcome.is_pending() && hello.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        outcome
    }
}

impl AsyncWrite for Socket {
    /// Pending without a waker of its own: the task that drives HTTP/2 writes what has gathered and then turns to it again.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut out = lock(&self.out);
        let room = GATHERED_BYTES_MAX.saturating_sub(out.bytes.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if taken.is_empty() && !bytes.is_empty() {
            out.full = true;
            return Poll::Pending;
        }
        out.bytes.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The socket is closed by whoever drives HTTP/2, after the last bytes are written.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const HELLO_TIME_MAX: Duration = Duration::from_millis(50);

    async fn connected() -> (TcpStream, Socket, Gathered) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (socket, gathered) = split(stream, HELLO_TIME_MAX, Place::take(&Arc::default(), 1).unwrap());
        (client, socket, gathered)
    }

    #[tokio::test]
    async fn a_client_that_never_says_hello_is_dropped() {
        let (mut client, mut socket, _gathered) = connected().await;
        client.write_all(b"PRI * HTTP/2.0").await.unwrap();
        let mut bytes = Vec::new();
        let error = socket.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn after_the_hello_a_client_may_be_silent() {
        let (mut client, mut socket, gathered) = connected().await;
        client.write_all(&[7; PREFACE_BYTES]).await.unwrap();
        socket.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        let silence = tokio::time::timeout(HELLO_TIME_MAX * 3, socket.read_u8()).await;
        assert!(silence.is_err(), "still open: {silence:?}");
        assert_eq!(gathered.heard(), 24);
    }

    #[tokio::test]
    async fn what_is_written_gathers_until_it_is_taken_to_the_socket() {
        let (mut client, mut socket, mut gathered) = connected().await;
        socket.write_all(b"one ").await.unwrap();
        socket.flush().await.unwrap();
        socket.write_all(b"two").await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(client.try_read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!poll_fn(|context| gathered.poll_write(context)).await.unwrap());
        let count = client.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"one two");
    }

    #[tokio::test]
    async fn a_full_buffer_makes_http2_wait_until_it_is_written() {
        let (mut client, mut socket, mut gathered) = connected().await;
        let bytes = vec![5; GATHERED_BYTES_MAX + 1];
        let write = |socket: &mut Socket, bytes: &[u8]| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            Pin::new(socket).poll_write(&mut context, bytes).map(Result::unwrap)
        };
        assert_eq!(write(&mut socket, &bytes), Poll::Ready(GATHERED_BYTES_MAX));
        assert_eq!(write(&mut socket, &bytes[GATHERED_BYTES_MAX..]), Poll::Pending);
        let reading = tokio::spawn(async move {
            let mut read = vec![0; GATHERED_BYTES_MAX];
            client.read_exact(&mut read).await.unwrap();
            read
        });
        assert!(poll_fn(|context| gathered.poll_write(context)).await.unwrap(), "somebody waits for the room");
        assert_eq!(write(&mut socket, &bytes[GATHERED_BYTES_MAX..]), Poll::Ready(1));
        assert_eq!(reading.await.unwrap(), bytes[..GATHERED_BYTES_MAX]);
    }
}
