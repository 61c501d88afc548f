//! The peer port: accepts connections, judges their greetings, and turns frames into batches of messages.
//!
//! Everything here comes from outside and is not believed: it is bounded in memory and time, and what is wrong is counted
//! and closed. Nothing of it panics, nothing of it reaches the core except messages of admitted peers.

use super::{
    PeerEvent, Shared,
    frame::{self, FrameError},
    handshake::{self, Greeting, HandshakeError, Purpose, Received, Refusal},
    roster::Admission,
    socket,
};
use crate::counters::Counter;
use bytes::BytesMut;
use flaredb_raft::{Body, Message};
use flaredb_replica::wire;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

/// Connections in their handshake at once; members need one each.
const PENDING_MAX: usize = 64;
/// Space for reading is taken in blocks of this size; a block is filled to the end before the next one, because entries that
/// are kept as slices of it keep all of it.
const READ_BLOCK_BYTES: usize = 64 << 10;
const READ_SPARE_BYTES: usize = 4 << 10;
/// However long a frame says it is, space for it is taken in steps of this, as its bytes arrive.
const READ_STEP_BYTES: usize = 1 << 20;

pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let pending = Arc::new(Semaphore::new(PENDING_MAX));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.counters.accept_errors.add(1);
                if shared.gate.pass("accept", 0) {
                    tracing::warn!(node = %shared.local.name, %error, "the peer port cannot accept connections");
                }
                // As a rule file descriptors have run out: trying again at once would only spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = pending.clone().try_acquire_owned() else {
            shared.counters.connections_over_limit.add(1);
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let admitted = shared.greet(stream, address).await;
            drop(permit);
            match admitted {
                None => {}
                Some((stream, peer, Some(admission))) => shared.receive(stream, &peer, address, admission).await,
                Some((stream, peer, None)) => shared.receive_snapshot(stream, peer.sender).await,
            }
        });
    }
}

impl Shared {
    /// The handshake. None if the connection was closed; no admission if it is for a snapshot.
    async fn greet(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(TcpStream, Greeting, Option<Admission>)> {
        let counters = &self.counters;
        match timeout(self.timing.handshake_timeout, self.exchange(&mut stream)).await {
            Ok(Ok(Ok((peer, admission)))) => Some((stream, peer, admission)),
            Ok(Ok(Err((refusal, greeting)))) => {
                self.on_refusal(refusal, greeting.as_ref(), address);
                None
            }
            Ok(Err(HandshakeError::Garbage(what))) => {
                self.count_stranger(&counters.handshakes_garbage, what, address);
                None
            }
            Ok(Err(HandshakeError::Refused(_))) => {
                self.count_stranger(&counters.handshakes_garbage, "a refusal for a greeting", address);
                None
            }
            Ok(Err(HandshakeError::Io(_))) => {
                self.count_stranger(&counters.handshakes_incomplete, "it ended in its handshake", address);
                None
            }
            Err(_) => {
                self.count_stranger(&counters.handshakes_incomplete, "its handshake took too long", address);
                None
            }
        }
    }

    async fn exchange(
        &self,
        stream: &mut TcpStream,
    ) -> Result<Result<(Greeting, Option<Admission>), (Refusal, Option<Greeting>)>, HandshakeError> {
        socket::prepare(stream, self.timing.dead_after)?;
        let (verdict, greeting) = match handshake::read(stream).await? {
            Received::OtherVersion(_) => (Err(Refusal::Version), None),
            Received::Greeting(greeting) => (self.judge(&greeting), Some(greeting)),
        };
        let verdict = verdict.and_then(|()| match &greeting {
            Some(greeting) => self.admit(greeting),
            None => Err(Refusal::Version),
        });
        let (to, purpose) =
            greeting.as_ref().map_or((0, Purpose::Messages), |greeting| (greeting.sender, greeting.purpose));
        let answer = handshake::encode(&self.local.greeting(to, purpose), verdict.as_ref().err().copied());
        stream.write_all(&answer).await?;
        Ok(match (verdict, greeting) {
            (Ok(admission), Some(greeting)) => Ok((greeting, admission)),
            (Ok(_), None) => Err((Refusal::Version, None)),
            (Err(refusal), greeting) => Err((refusal, greeting)),
        })
    }

    /// Whether the sender of this greeting is a peer that means this node.
    fn judge(&self, greeting: &Greeting) -> Result<(), Refusal> {
        let local = &self.local;
        if greeting.cluster_id != local.cluster_id {
            Err(Refusal::Cluster)
        } else if greeting.region_id != local.region_id {
            Err(Refusal::Region)
        } else if greeting.target != local.member_id {
            Err(Refusal::Target)
        } else if !self.peers.contains_key(&greeting.sender) {
            Err(Refusal::Sender)
        } else {
            Ok(())
        }
    }

    /// A connection for messages takes the place of the one there is; one for a snapshot stands beside it.
    fn admit(&self, greeting: &Greeting) -> Result<Option<Admission>, Refusal> {
        if greeting.purpose == Purpose::Snapshot {
            return Ok(None);
        }
        let (admission, replaced) = self.roster.admit(greeting).ok_or(Refusal::Superseded)?;
        if replaced {
            self.counters.connections_replaced.add(1);
        }
        Ok(Some(admission))
    }

    fn on_refusal(&self, refusal: Refusal, greeting: Option<&Greeting>, address: SocketAddr) {
        let counters = &self.counters;
        let (counter, cause) = match refusal {
            Refusal::Version => (&counters.handshakes_wrong_version, "version"),
            Refusal::Cluster => (&counters.handshakes_wrong_cluster, "cluster"),
            Refusal::Region => (&counters.handshakes_wrong_region, "region"),
            Refusal::Target => (&counters.handshakes_wrong_target, "target"),
            Refusal::Sender => (&counters.handshakes_unknown_sender, "sender"),
            Refusal::Superseded => (&counters.handshakes_superseded, "superseded"),
        };
        counter.add(1);
        let sender = greeting.map_or(0, |greeting| greeting.sender);
        let known = if self.peers.contains_key(&sender) { sender } else { 0 };
        if self.gate.pass(cause, known) {
            let (theirs, target) = greeting.map_or((0, 0), |greeting| (greeting.cluster_id, greeting.target));
            tracing::warn!(
                node = %self.local.name, member = %hex(self.local.member_id), cluster = %hex(self.local.cluster_id),
                %address, their_member = %hex(sender), their_target = %hex(target), their_cluster = %hex(theirs),
                "peer connection refused: {refusal}"
            );
        }
    }

    fn count_stranger(&self, counter: &Counter, cause: &'static str, address: SocketAddr) {
        counter.add(1);
        if self.gate.pass(cause, 0) {
            tracing::warn!(node = %self.local.name, %address, "connection to the peer port closed: {cause}");
        }
    }

    /// Reads frames until the connection ends.
    async fn receive(&self, mut stream: TcpStream, peer: &Greeting, address: SocketAddr, mut admission: Admission) {
        if !self.meet(peer).await {
            return;
        }
        // A peer that dials is there: no need to wait out the backoff towards it.
        if let Some(link) = self.peers.get(&peer.sender) {
            link.redial.notify_one();
        }
        tracing::debug!(node = %self.local.name, peer = %peer.name, %address, "peer dialled in");
        let reason = tokio::select! {
            () = admission.taken_over() => "a later connection took over".to_owned(),
            reason = self.read_frames(&mut stream, peer.sender) => reason,
        };
        drop(admission);
        tracing::debug!(node = %self.local.name, peer = %peer.name, %address, reason, "peer's incoming connection ended");
    }

    async fn read_frames(&self, stream: &mut TcpStream, from: u64) -> String {
        let mut received = BytesMut::new();
        loop {
            if received.capacity() - received.len() < READ_SPARE_BYTES {
                received.reserve(READ_BLOCK_BYTES.max(frame::missing(&received).min(READ_STEP_BYTES)));
            }
            match stream.read_buf(&mut received).await {
                Ok(0) => return "closed by the peer".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
            let (batch, broken) = self.decode_whole_frames(&mut received, from);
            if !batch.is_empty() && self.events.send(PeerEvent::Messages(batch)).await.is_err() {
                return "this node stops".to_owned();
            }
            if let Some(reason) = broken {
                if self.gate.pass("frame", from) {
                    tracing::warn!(node = %self.local.name, member = %hex(from), "peer connection closed: {reason}");
                }
                return reason;
            }
        }
    }

    /// All whole frames that are there, as one batch; and why the connection must be closed after them, if it must.
    fn decode_whole_frames(&self, received: &mut BytesMut, from: u64) -> (Vec<Message>, Option<String>) {
        let mut batch = Vec::new();
        loop {
            let payload = match frame::next(received) {
                Ok(Some(payload)) => payload,
                Ok(None) => return (batch, None),
                Err(error) => {
                    match error {
                        FrameError::Oversized(_) => self.counters.frames_oversized.add(1),
                        FrameError::Corrupt => self.counters.frames_corrupt.add(1),
                    }
                    return (batch, Some(error.to_string()));
                }
            };
            match wire::decode_messages(payload) {
                Ok(messages) => batch.extend(messages.into_iter().filter(|message| self.is_welcome(message, from))),
                Err(error) => {
                    self.counters.frames_malformed.add(1);
                    return (batch, Some(error.to_string()));
                }
            }
        }
    }

    fn is_welcome(&self, message: &Message, from: u64) -> bool {
        let Message { from: sender, to, region_id, .. } = *message;
        if (sender, to, region_id) != (from, self.local.member_id, self.local.region_id) {
            self.counters.messages_misaddressed.add(1);
            return false;
        }
        if matches!(message.body, Body::InstallSnapshot { .. }) {
            self.counters.messages_unsupported.add(1);
            return false;
        }
        true
    }
}

/// Ids as etcd's tools print them.
pub(super) fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// For the dialler, which treats everything unexpected as the end of its connection.
pub(super) fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
