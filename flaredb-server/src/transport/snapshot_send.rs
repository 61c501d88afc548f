//! Sends the state machine's rows to a peer that needs them, over a connection of its own: messages and heartbeats never wait
//! behind it.
//!
//! The rows come from one cursor, so they are the state after one batch, and the applied row among them says which. They are
//! read on a blocking thread, two chunks ahead at most, and sent no faster than [`BYTES_PER_SECOND`].

use super::{
    PeerEvent, Shared, Transport,
    frame::encode_payload,
    handshake::{HandshakeError, Purpose},
    snapshot_receive::{ReadError, read_part},
    snapshot_wire::{self, CHUNK_BYTES, End, Header, Part, Verdict},
};
use bytes::BytesMut;
use flaredb_kv::{Cursor as _, StoreError};
use flaredb_raft::{ConfState, EntryId, SnapshotMeta};
use flaredb_storage::DataReader;
use std::{io, sync::atomic::Ordering, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use xxhash_rust::xxh3::Xxh3;

/// Leaves most of a gigabit link, and of a disk, to what clients wait for.
const BYTES_PER_SECOND: u32 = 32 << 20;
/// Chunks read ahead of the connection.
const CHUNKS_AHEAD: usize = 2;
/// A receiver that takes no chunk for so long is gone.
const CHUNK_TIME_MAX: Duration = Duration::from_secs(30);
/// After the last chunk the receiver makes everything durable.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// A snapshot on its way. Dropped, it is given up and nothing is reported.
#[derive(Debug)]
pub struct Outgoing {
    /// Comes back in [`PeerEvent::SnapshotSent`].
    pub id: u64,
    _abort: oneshot::Sender<()>,
}

/// Why a snapshot was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The receiver cannot be reached, or will not talk.
    #[error(transparent)]
    Connect(#[from] HandshakeError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The receiver did not take it.
    #[error("{0}")]
    NotTaken(String),
    /// This node's rows cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug of ours.
    #[error("{0}")]
    Ended(String),
}

impl Transport {
    /// Begins to send the rows that `reader` shows; the leader's `term` and the voters go with them. How it went comes as an
    /// event. Must be called within the node's runtime.
    pub fn send_snapshot(&self, to: u64, term: u64, conf_state: ConfState, reader: DataReader) -> Outgoing {
        let (abort, aborted) = oneshot::channel::<()>();
        let id = self.shared.transfers.fetch_add(1, Ordering::Relaxed);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                _ = aborted => return,
                outcome = shared.send_snapshot(to, term, conf_state, reader) => outcome,
            };
            match &outcome {
                Ok(_) => shared.counters.snapshots_sent.add(1),
                Err(_) => shared.counters.snapshots_not_delivered.add(1),
            }
            // Nobody listens if the node stops.
            let _ = shared.events.send(PeerEvent::SnapshotSent { to, id, outcome }).await;
        });
        Outgoing { id, _abort: abort }
    }
}

impl Shared {
    async fn send_snapshot(
        &self,
        to: u64,
        term: u64,
        conf_state: ConfState,
        reader: DataReader,
    ) -> Result<EntryId, SnapshotError> {
        let Some(link) = self.peers.get(&to) else { return Err(SnapshotError::Ended("an unknown peer".to_owned())) };
        let connect = self.connect(to, link, Purpose::Snapshot);
        let (mut stream, _) = timeout(self.timing.connect_timeout, connect)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let (parts, parts_receiver) = mpsc::channel(CHUNKS_AHEAD);
        let reading = tokio::task::spawn_blocking(move || read_rows(&reader, term, conf_state, &parts));
        let written = write_parts(&mut stream, parts_receiver).await;
        let read = reading.await.map_err(|error| SnapshotError::Ended(error.to_string()))?;
        match written {
            Ok(Verdict::Taken) => read?.ok_or_else(|| SnapshotError::Ended("taken before it was sent".to_owned())),
            Ok(verdict) => Err(SnapshotError::NotTaken(verdict.to_string())),
            // A store that fails ends the connection in the middle: that is the reason then.
            Err(error) => read.map_err(SnapshotError::Store).and(Err(error)),
        }
    }
}

/// Sends everything and waits for the verdict, which may come early.
async fn write_parts(stream: &mut TcpStream, mut parts: mpsc::Receiver<Vec<u8>>) -> Result<Verdict, SnapshotError> {
    let (mut reader, mut writer) = stream.split();
    let mut received = BytesMut::new();
    let mut due = Instant::now();
    loop {
        let part = tokio::select! {
            early = read_part(&mut reader, &mut received) => return verdict(early),
            part = parts.recv() => part,
        };
        let Some(part) = part else { break };
        let written = timeout(CHUNK_TIME_MAX, writer.write_all(&part)).await;
        if let Err(error) = written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            // A receiver that refuses says so before it closes.
            return match timeout(Duration::from_secs(1), read_part(&mut reader, &mut received)).await {
                Ok(Ok(answer)) => verdict(Ok(answer)),
                _ => Err(error.into()),
            };
        }
        let bytes = u32::try_from(part.len()).unwrap_or(u32::MAX);
        due = due.max(Instant::now()) + Duration::from_secs(1).mul_f64(f64::from(bytes) / f64::from(BYTES_PER_SECOND));
        sleep_until(due).await;
    }
    let answer = timeout(ANSWER_TIME_MAX, read_part(&mut reader, &mut received)).await;
    verdict(answer.unwrap_or_else(|_| Err(ReadError::Io(io::ErrorKind::TimedOut.into()))))
}

fn verdict(answer: Result<Part, ReadError>) -> Result<Verdict, SnapshotError> {
    match answer {
        Ok(Part::Answer(verdict)) => Ok(verdict),
        Ok(_) | Err(ReadError::Damaged) => {
            Err(SnapshotError::NotTaken("the receiver answered with nonsense".to_owned()))
        }
        Err(ReadError::Io(error)) => Err(error.into()),
    }
}

/// Reads everything into frames; blocks while the connection takes them. None if nobody takes them any more.
fn read_rows(
    reader: &DataReader,
    term: u64,
    conf_state: ConfState,
    parts: &mpsc::Sender<Vec<u8>>,
) -> Result<Option<EntryId>, StoreError> {
    let mut cursor = reader.scan();
    let applied = flaredb_kv::applied_at(&mut cursor)?;
    let last = EntryId { index: applied.index, term: applied.term };
    let header = Header { term, snapshot: SnapshotMeta { last, conf_state } };
    let send = |payload: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        encode_payload(&mut frame, |out| payload(out)) && parts.blocking_send(frame).is_ok()
    };
    if !send(&mut |out| header.encode(out)) {
        return Ok(None);
    }
    let mut hasher = Xxh3::new();
    let mut end = End { rows: 0, hash: 0 };
    let mut chunk = Vec::new();
    cursor.seek(&[])?;
    loop {
        let row = cursor.entry();
        let is_full = chunk.len() >= CHUNK_BYTES || row.is_none();
        if is_full && !chunk.is_empty() {
            hasher.update(&chunk);
            let sent = send(&mut |out| {
                snapshot_wire::begin_rows(out);
                out.append(&mut chunk);
            });
            if !sent {
                return Ok(None);
            }
        }
        let Some((key, value)) = row else { break };
        if !snapshot_wire::push_row(key, value, &mut chunk) {
            return Err(StoreError("a row is too large to be sent".to_owned()));
        }
        end.rows += 1;
        cursor.next()?;
    }
    end.hash = hasher.digest();
    Ok(send(&mut |out| end.encode(out)).then_some(last))
}
