//! Client connections before HTTP/2 sees them: accepted within a bound, timed until they have said hello, and cut when the
//! node must end.
//!
//! Three things a stranger could otherwise do: use up the process's file descriptors (on which the database's files
//! depend too), hold a connection without ever speaking, and keep a stopping node waiting.

use std::{
    fs,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Sleep,
};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::authority::AuthorityFix;

/// An HTTP/2 client begins with these many bytes, whatever it wants.
const PREFACE_BYTES: usize = 24;
/// After a failed accept (usually: out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Read at once from a connection whose requests are looked at.
const READ_BYTES: usize = 4096;
/// Open files assumed if the process's limit cannot be read.
const OPEN_FILES_ASSUMED: usize = 1024;

/// Accepts clients on all listeners of a node.
pub(super) struct Incoming {
    listeners: Vec<TcpListener>,
    /// The listener to ask first, so that a busy one does not starve the rest.
    next: usize,
    connections: Arc<AtomicUsize>,
    connections_max: usize,
    hello_time_max: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    cut: watch::Receiver<bool>,
}

impl Incoming {
    /// A client has `hello_time_max` for HTTP/2's preface. Connections end when `cut` becomes true or its sender is dropped.
    pub(super) fn new(
        listeners: Vec<TcpListener>,
        connections_max: usize,
        hello_time_max: Duration,
        cut: watch::Receiver<bool>,
    ) -> Self {
        Self { listeners, next: 0, connections: Arc::default(), connections_max, hello_time_max, pause: None, cut }
    }

    fn admit(&self, stream: TcpStream) -> Option<Connection> {
        let place = Place::take(&self.connections, self.connections_max)?;
        // Answers are small and waited for. A socket that refuses the option is broken and will say so on its first read.
        let _ = stream.set_nodelay(true);
        let mut cut = self.cut.clone();
        Some(Connection {
            stream,
            cut: Box::pin(async move {
                let _ = cut.wait_for(|cut| *cut).await;
            }),
            fix: AuthorityFix::new(),
            fixed: Vec::new(),
            hello: Some(Hello { missing: PREFACE_BYTES, deadline: Box::pin(tokio::time::sleep(self.hello_time_max)) }),
            _place: place,
        })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                std::task::ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            let count = this.listeners.len();
            let mut accepted = None;
            for offset in 0..count {
                let index = (this.next + offset) % count;
                let Some(listener) = this.listeners.get(index) else { continue };
                if let Poll::Ready(outcome) = listener.poll_accept(context) {
                    this.next = index + 1;
                    accepted = Some(outcome);
                    break;
                }
            }
            match accepted {
                None => return Poll::Pending,
                Some(Ok((stream, client))) => match this.admit(stream) {
                    Some(connection) => return Poll::Ready(Some(Ok(connection))),
                    None => tracing::warn!(%client, max = this.connections_max, "too many client connections: closed"),
                },
                Some(Err(error)) => {
                    tracing::warn!(%error, "accepting a client failed");
                    this.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// A quarter of the files that the process may open: `flaredb dev` runs three nodes in one process, and the rest is for
/// the database and the peers.
pub(super) fn connections_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    open_files_max(&limits).unwrap_or(OPEN_FILES_ASSUMED) / 4
}

/// The soft limit, from the text of /proc/<pid>/limits.
fn open_files_max(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

/// One of the bounded number of connections; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = Self(Arc::clone(taken));
        // `place` gives back what is counted here, also if it was one too many.
        (taken.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Hello {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

/// A client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    hello: Option<Hello>,
    fix: AuthorityFix,
    /// Read and set right, but not yet taken.
    fixed: Vec<u8>,
    _place: Place,
}

impl Connection {
    /// Reads what the socket has, with the authority set right while that may be needed.
    fn poll_fixed(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.fixed.is_empty() {
            if self.fix.is_pass_through() {
                return Pin::new(&mut self.stream).poll_read(context, buffer);
            }
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
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

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let outcome = this.poll_fixed(context, buffer);
        if let Some(hello) = &mut this.hello {
            hello.missing = hello.missing.saturating_sub(buffer.filled().len() - before);
            if hello.missing == 0 {
                this.hello = None;
            } else if outcome.is_pending() && hello.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        outcome
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_stream::StreamExt;

    use super::*;

    const HELLO_TIME_MAX: Duration = Duration::from_millis(50);

    async fn listen(connections_max: usize) -> (Incoming, std::net::SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, cut_receiver) = watch::channel(false);
        (Incoming::new(vec![listener], connections_max, HELLO_TIME_MAX, cut_receiver), address, cut)
    }

    #[test]
    fn the_limit_of_open_files_is_read_from_the_kernels_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units\n\
                     Max processes             95731                95731                processes\n\
                     Max open files            1024                 524288               files\n";
        assert_eq!(open_files_max(table), Some(1024));
        assert_eq!(
            open_files_max("Max open files            unlimited            unlimited            files\n"),
            Some(usize::MAX)
        );
        assert_eq!(open_files_max(""), None);
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_is_closed_and_its_place_is_free_after_another_ends() {
        let (mut incoming, address, _cut) = listen(1).await;
        let _first_client = TcpStream::connect(address).await.unwrap();
        let first = incoming.next().await.unwrap().unwrap();
        let mut second_client = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = incoming.next() => panic!("admitted one too many"),
            read = second_client.read_u8() => assert!(read.is_err(), "the second is closed"),
        }
        drop(first);
        let _third_client = TcpStream::connect(address).await.unwrap();
        assert!(incoming.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_client_that_never_says_hello_is_dropped() {
        let (mut incoming, address, _cut) = listen(8).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut connection = incoming.next().await.unwrap().unwrap();
        client.write_all(b"PRI * HTTP/2.0").await.unwrap();
        let mut bytes = Vec::new();
        let error = connection.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn after_the_hello_a_client_may_be_silent() {
        let (mut incoming, address, _cut) = listen(8).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut connection = incoming.next().await.unwrap().unwrap();
        client.write_all(&[7; PREFACE_BYTES]).await.unwrap();
        connection.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        let silence = tokio::time::timeout(HELLO_TIME_MAX * 3, connection.read_u8()).await;
        assert!(silence.is_err(), "still open: {silence:?}");
    }

    #[tokio::test]
    async fn a_cut_ends_a_connection_that_waits() {
        let (mut incoming, address, cut) = listen(8).await;
        let _client = TcpStream::connect(address).await.unwrap();
        let mut connection = incoming.next().await.unwrap().unwrap();
        let waiting = tokio::spawn(async move { connection.read_u8().await });
        tokio::task::yield_now().await;
        cut.send(true).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
