//! One outgoing connection: dials one peer for as long as the node lives and writes what waits for it.
//!
//! Nothing but the answer to the greeting is ever read on it; reading serves to notice its end at once.

use super::{
    Link, PeerEvent, Shared,
    accept::{hex, unexpected},
    address::PeerAddress,
    frame,
    handshake::{self, Greeting, HandshakeError, Purpose, Received},
    socket,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    time::{Instant, sleep, timeout},
};

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lived so long was a good one: the next attempt starts with the shortest wait.
const GOOD_AFTER: Duration = Duration::from_secs(1);
/// A write buffer that a backlog has made larger than this is given back.
const BUFFER_KEEP_BYTES: usize = 1 << 20;

pub(super) async fn run(peer: u64, shared: Arc<Shared>) {
    let Some(link) = shared.peers.get(&peer) else { return };
    let mut backoff = Backoff::new(shared.local.incarnation ^ peer);
    loop {
        match timeout(shared.timing.connect_timeout, shared.connect(peer, link, Purpose::Messages)).await {
            Ok(Ok((stream, greeting))) => {
                if !shared.meet(&greeting).await {
                    sleep(backoff.next()).await;
                    continue;
                }
                let since = Instant::now();
                let node = &shared.local.name;
                tracing::info!(%node, peer = %link.name, member = %hex(peer), "peer connected");
                shared.gate.reset(peer);
                shared.roster.on_outgoing(peer, Some(&greeting));
                link.outbox.set_up();
                let reason = shared.write_frames(stream, link).await;
                link.outbox.set_down();
                shared.roster.on_outgoing(peer, None);
                shared.counters.connections_broken.add(1);
                tracing::info!(%node, peer = %link.name, member = %hex(peer), %reason, "peer disconnected");
                if shared.events.send(PeerEvent::Unreachable(peer)).await.is_err() {
                    return;
                }
                if since.elapsed() >= GOOD_AFTER {
                    backoff.reset();
                }
            }
            Ok(Err(error)) => shared.on_failed_dial(peer, link, &error),
            Err(_) => shared.on_failed_dial(peer, link, &HandshakeError::Io(io::ErrorKind::TimedOut.into())),
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = link.redial.notified() => {}
        }
    }
}

impl Shared {
    /// Dials and greets.
    pub(super) async fn connect(
        &self,
        peer: u64,
        link: &Link,
        purpose: Purpose,
    ) -> Result<(TcpStream, Greeting), HandshakeError> {
        let mut stream = dial(&link.addresses).await?;
        socket::prepare(&stream, self.timing.dead_after(purpose))?;
        stream.write_all(&handshake::encode(&self.local.greeting(peer, purpose), None)).await?;
        let greeting = match handshake::read(&mut stream).await? {
            Received::Greeting(greeting) => greeting,
            Received::OtherVersion(_) => return Err(HandshakeError::Refused(handshake::Refusal::Version)),
        };
        let local = &self.local;
        let expected = (local.cluster_id, local.region_id, peer, local.member_id, purpose);
        let found = (greeting.cluster_id, greeting.region_id, greeting.sender, greeting.target, greeting.purpose);
        if found != expected {
            return Err(HandshakeError::Garbage("another member answered than the one that was dialled"));
        }
        Ok((stream, greeting))
    }

    fn on_failed_dial(&self, peer: u64, link: &Link, error: &HandshakeError) {
        let cause = match error {
            HandshakeError::Io(_) => "dial",
            HandshakeError::Garbage(_) | HandshakeError::Refused(_) => {
                self.counters.handshakes_refused_by_peer.add(1);
                "greeting"
            }
        };
        if self.gate.pass(cause, peer) {
            let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
            tracing::warn!(
                node = %self.local.name, local_member = %hex(self.local.member_id), peer = %link.name, member = %hex(peer),
                addresses = addresses.join(","), %error, "cannot reach peer, will keep trying"
            );
        }
    }

    /// Writes until the connection ends; returns why it did.
    async fn write_frames(&self, stream: TcpStream, link: &Link) -> io::Error {
        let (mut reader, mut writer) = stream.into_split();
        let mut buffer = Vec::new();
        let mut probe = [0];
        loop {
            let messages = tokio::select! {
                read = reader.read(&mut probe) => return match read {
                    Ok(0) => io::Error::new(io::ErrorKind::ConnectionReset, "closed by the peer"),
                    Ok(_) => unexpected("bytes from a peer that has nothing to say on this connection"),
                    Err(error) => error,
                },
                () = link.regreet.notified() => return unexpected("this node has something new to say of itself"),
                messages = link.outbox.take() => messages,
            };
            let left_out = frame::encode(&messages, &mut buffer);
            self.counters.messages_unsendable.add(u64::try_from(left_out).unwrap_or(u64::MAX));
            if let Err(error) = write_all(&mut writer, &mut buffer).await {
                return error;
            }
        }
    }
}

/// One write for everything that waited, unless the socket is full.
async fn write_all(writer: &mut OwnedWriteHalf, buffer: &mut Vec<u8>) -> io::Result<()> {
    writer.write_all(buffer).await?;
    buffer.clear();
    buffer.shrink_to(BUFFER_KEEP_BYTES);
    Ok(())
}

/// The first address that answers. Names are looked up each time.
async fn dial(addresses: &[PeerAddress]) -> io::Result<TcpStream> {
    let mut last = unexpected("the peer has no address");
    for address in addresses {
        match TcpStream::connect(address.host_and_port()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Doubling waits with jitter, so that peers that lost each other together do not come back in step.
struct Backoff {
    wait: Duration,
    random: u64,
}

impl Backoff {
    fn new(seed: u64) -> Self {
        Self { wait: BACKOFF_MIN, random: seed | 1 }
    }

    fn reset(&mut self) {
        self.wait = BACKOFF_MIN;
    }

    /// Between half of the wait and all of it.
    fn next(&mut self) -> Duration {
        // Xorshift64: quality does not matter, independence of the peers does.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = self.wait / 2;
        let jitter = half.mul_f64(f64::from(u8::try_from(self.random >> 56).unwrap_or(0)) / 255.0);
        self.wait = (self.wait * 2).min(BACKOFF_MAX);
        half + jitter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_second_with_jitter() {
        let mut backoff = Backoff::new(42);
        let mut limit = BACKOFF_MIN;
        for _ in 0..12 {
            let wait = backoff.next();
            assert!(wait >= limit / 2 && wait <= limit, "{wait:?} of {limit:?}");
            limit = (limit * 2).min(BACKOFF_MAX);
        }
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_MIN);
    }
}
