//! One client's HTTP/2 connection: takes its calls in, lets them run, and writes their answers, all in one task.
//!
//! A turn of the task hands over the answers that are ready, takes every call that has arrived, and ends in one write to the
//! socket. What a call means is `call.rs`. Dropping the task ends the connection and its calls.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::{Ping, PingPong, server};
use tokio::time::{Instant, Sleep};

use super::{
    call::{self, Services},
    socket::{Gathered, Socket},
};

/// Calls at once on one connection. etcd has no bound; a client beyond it waits, it is not refused.
const STREAMS_MAX: u32 = 4096;
/// HTTP/2 flow control, per stream and per connection: requests of usual sizes arrive without waiting for this server.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// Of one request's header fields, decoded.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Calls that are taken back before this task has seen them, in one turn. More is an attack, and ends the connection; a program that
/// gives up all it asked for is none.
const TAKEN_BACK_UNSEEN_MAX: usize = 1024;
/// What is left to be written when a connection ends (as a rule why it ends) has so long.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// How clients are noticed that are gone without a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// A client that is silent for so long is asked whether it still lives,
    pub(super) silence: Duration,
    /// and has so long to answer.
    pub(super) answer: Duration,
}

/// Why a connection is over. Nobody but the client is concerned, and it sees it too.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Protocol(#[from] h2::Error),
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error("the client does not answer")]
    Silent,
}

/// Serves the connection until the client ends it, or until `stopping` resolves and the calls under way are answered.
pub(super) async fn serve(
    socket: Socket,
    mut gathered: Gathered,
    services: Arc<Services>,
    patience: Patience,
    stopping: impl Future<Output = ()>,
) {
    let outcome = run(socket, &mut gathered, services, patience, stopping).await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "a client's connection ended");
    }
    // HTTP/2 is gone; its last frames (GOAWAY, as a rule) may still be here. Dropping the writer closes the socket.
    let farewell = poll_fn(|context| gathered.poll_write(context));
    let _ = tokio::time::timeout(FAREWELL_TIME_MAX, farewell).await;
}

async fn run(
    socket: Socket,
    gathered: &mut Gathered,
    services: Arc<Services>,
    patience: Patience,
    stopping: impl Future<Output = ()>,
) -> Result<(), Ended> {
    let mut handshake = pin!(
        server::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_pending_accept_reset_streams(TAKEN_BACK_UNSEEN_MAX)
            .handshake::<_, Bytes>(socket)
    );
    let mut http2: server::Connection<Socket, Bytes> = poll_fn(|context| {
        let outcome = handshake.as_mut().poll(context);
        write(gathered, context)?;
        outcome.map_err(Ended::from)
    })
    .await?;
    let mut keepalive = KeepAlive::new(http2.ping_pong(), patience);
    let mut calls = FuturesUnordered::new();
    let mut stopping = pin!(stopping);
    let mut stops = false;
    poll_fn(|context| {
        if !stops && stopping.as_mut().poll(context).is_ready() {
            stops = true;
            http2.graceful_shutdown();
        }
        loop {
            // Answers that are ready, before HTTP/2 is asked to write.
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(context) {}
            loop {
                match http2.poll_accept(context) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        calls.push(call::serve(Arc::clone(&services), request, respond));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => break,
                }
            }
            // A new call begins at its first poll. What is answered at once is written in the next turn, for which HTTP/2
            // has woken this task then.
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(context) {}
            if !write(gathered, context)? {
                break;
            }
        }
        keepalive.poll(context, gathered)
    })
    .await
}

/// True if HTTP/2 has to be asked again, because it waited for the room that this has made.
fn write(gathered: &mut Gathered, context: &mut Context<'_>) -> Result<bool, Ended> {
    match gathered.poll_write(context) {
        Poll::Ready(Ok(waited)) => Ok(waited),
        Poll::Ready(Err(error)) => Err(error.into()),
        Poll::Pending => Ok(false),
    }
}

/// Notices clients that are gone without a word.
struct KeepAlive {
    pings: Option<PingPong>,
    patience: Patience,
    timer: Pin<Box<Sleep>>,
    heard: u64,
    asked: bool,
}

impl KeepAlive {
    fn new(pings: Option<PingPong>, patience: Patience) -> Self {
        Self { pings, patience, timer: Box::pin(tokio::time::sleep(patience.silence)), heard: 0, asked: false }
    }

    /// Ready only with the end of the connection.
    fn poll(&mut self, context: &mut Context<'_>, gathered: &Gathered) -> Poll<Result<(), Ended>> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        if self.asked && pings.poll_pong(context)?.is_ready() {
            self.asked = false;
            self.timer.as_mut().reset(Instant::now() + self.patience.silence);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if self.asked {
                return Poll::Ready(Err(Ended::Silent));
            }
            let heard = gathered.heard();
            let wait = if heard == self.heard {
                pings.send_ping(Ping::opaque())?;
                self.asked = true;
                // So that this task hears of the answer.
                let _ = pings.poll_pong(context)?;
                self.patience.answer
            } else {
                self.patience.silence
            };
            self.heard = heard;
            self.timer.as_mut().reset(Instant::now() + wait);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        task::JoinHandle,
        time::{sleep, timeout},
    };

    use super::{
        super::{incoming::Place, socket},
        *,
    };

    const LONG: Duration = Duration::from_secs(20);

    async fn connected(patience: Patience) -> (TcpStream, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (socket, gathered) = socket::split(stream, LONG, Place::take(&Arc::default(), 1).unwrap());
        let services = Arc::new(Services::none());
        let served = tokio::spawn(serve(socket, gathered, services, patience, std::future::pending::<()>()));
        (client, served)
    }

    #[tokio::test]
    async fn a_client_that_answers_pings_may_be_idle() {
        let silence = Duration::from_millis(10);
        let (client, served) = connected(Patience { silence, answer: LONG }).await;
        let (_requests, connection) = h2::client::handshake(client).await.unwrap();
        let connection = tokio::spawn(connection);
        sleep(silence * 20).await;
        assert!(!served.is_finished(), "the client answers");
        connection.abort();
        timeout(LONG, served).await.expect("the end of the socket ends it").unwrap();
    }

    #[tokio::test]
    async fn a_client_that_does_not_answer_is_asked_and_then_given_up() {
        let patience = Patience { silence: Duration::from_millis(20), answer: Duration::from_millis(20) };
        let (mut client, served) = connected(patience).await;
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        timeout(LONG, served).await.expect("it is given up").unwrap();
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).await.unwrap();
        // A PING frame: 8 bytes, type 6, no flags, the connection's stream.
        assert!(sent.windows(9).any(|head| head == [0, 0, 8, 6, 0, 0, 0, 0, 0]), "it was asked: {sent:?}");
    }
}
