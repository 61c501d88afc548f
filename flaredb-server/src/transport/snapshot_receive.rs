//! Receives a snapshot: rows go to a store of their own beside the live one, on a blocking thread, until all are there and
//! durable. Then the driver is told, and the core decides what becomes of it.
//!
//! Whatever is wrong with it, it is dropped, counted, and its folder removed; the live state is not touched. One at a time
//! is taken from each peer: a later one takes over.

use super::{
    PeerEvent, Shared, SnapshotStore,
    accept::hex,
    frame,
    snapshot_wire::{self, End, Header, Part, Verdict},
};
use crate::disk;
use bytes::{Bytes, BytesMut};
use flaredb_raft::{EntryId, SnapshotMeta};
use flaredb_storage::Staged;
use std::{
    io,
    sync::PoisonError,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use xxhash_rust::xxh3::Xxh3;

/// Chunks that wait for the disk; beyond them the connection waits.
const CHUNKS_AHEAD: usize = 2;
/// A sender that is silent for so long is gone.
const PART_TIME_MAX: Duration = Duration::from_secs(30);
/// For all of it. A member that needs longer needs another way to get its data.
const TIME_MAX: Duration = Duration::from_secs(4 * 3600);
/// Space is taken in steps of this, as the bytes arrive.
const READ_STEP_BYTES: usize = 1 << 20;
/// Free space is looked at after so many chunks.
const CHUNKS_PER_LOOK: u32 = 16;

/// A snapshot that is whole and durable here.
#[derive(Debug)]
pub struct Received {
    /// The member that sent it, as leader of `term`.
    pub from: u64,
    /// See `from`.
    pub term: u64,
    /// Where it stands.
    pub snapshot: SnapshotMeta,
    /// Its rows.
    pub staged: Staged,
}

/// An offer of a snapshot, for the driver to judge.
#[derive(Debug)]
pub struct Offer {
    /// The term that the sender leads in.
    pub term: u64,
    /// The entry up to which everything is applied in it.
    pub position: EntryId,
    /// True: send it.
    pub wanted: oneshot::Sender<bool>,
}

pub(super) enum ReadError {
    Io(io::Error),
    Damaged,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The next part. Loses nothing when it is dropped while waiting.
pub(super) async fn read_part<R: AsyncRead + Unpin>(
    stream: &mut R,
    received: &mut BytesMut,
) -> Result<Part, ReadError> {
    loop {
        match frame::next(received) {
            Ok(Some(payload)) => return snapshot_wire::decode(payload).ok_or(ReadError::Damaged),
            Ok(None) => {}
            Err(_) => return Err(ReadError::Damaged),
        }
        received.reserve(frame::missing(received).clamp(READ_STEP_BYTES / 16, READ_STEP_BYTES));
        if stream.read_buf(received).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// What goes to the writing thread.
enum Step {
    Rows(Bytes),
    End(End),
}

impl Shared {
    /// Serves a connection for a snapshot until its end.
    pub(super) async fn receive_snapshot(&self, mut stream: TcpStream, from: u64) {
        let mut turn = self.begin_receiving(from);
        let received = timeout(TIME_MAX, self.take_snapshot(&mut stream, from));
        let began = Instant::now();
        let outcome = tokio::select! {
            // Nothing is ever sent: the sender was dropped.
            _ = turn.changed() => Err("a later one took over"),
            outcome = received => outcome.unwrap_or(Err("it took too long")),
        };
        let node = &self.local.name;
        match outcome {
            Ok(position) => {
                self.counters.snapshots_received.add(1);
                let took = began.elapsed();
                tracing::info!(%node, member = %hex(from), snapshot = %position, ?took, "snapshot received");
            }
            Err(reason) if self.gate.pass("snapshot", from) => {
                tracing::warn!(%node, member = %hex(from), reason, "snapshot not taken");
            }
            Err(_) => {}
        }
    }

    fn begin_receiving(&self, from: u64) -> watch::Receiver<()> {
        let (turn, ended) = watch::channel(());
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner).insert(from, turn);
        ended
    }

    async fn take_snapshot(&self, stream: &mut TcpStream, from: u64) -> Result<EntryId, &'static str> {
        let (verdict, outcome) = match self.stage_snapshot(stream, from).await {
            Ok(received) => {
                let position = received.snapshot.last;
                match self.events.send(PeerEvent::SnapshotReceived(received)).await {
                    Ok(()) => (Verdict::Taken, Ok(position)),
                    Err(_) => return Err("this node stops"),
                }
            }
            Err(Some(verdict)) => {
                match verdict {
                    Verdict::NotWanted => self.counters.snapshots_not_wanted.add(1),
                    Verdict::Taken | Verdict::Damaged => self.counters.snapshots_damaged.add(1),
                    Verdict::NotStored => self.counters.snapshots_not_stored.add(1),
                }
                let reason = match verdict {
                    Verdict::NotWanted => "it is not needed here",
                    Verdict::Taken | Verdict::Damaged => "it arrived damaged",
                    Verdict::NotStored => "it could not be stored",
                };
                (verdict, Err(reason))
            }
            Err(None) => {
                self.counters.snapshots_incomplete.add(1);
                return Err("the connection ended");
            }
        };
        let mut answer = Vec::new();
        frame::encode_payload(&mut answer, |out| verdict.encode(out));
        // The sender may be gone; then its core asks again.
        let _ = timeout(PART_TIME_MAX, stream.write_all(&answer)).await;
        outcome
    }

    /// None: the connection ended, and nobody is left to answer to.
    async fn stage_snapshot(&self, stream: &mut TcpStream, from: u64) -> Result<Received, Option<Verdict>> {
        let mut buffer = BytesMut::new();
        let Part::Header(Header { term, snapshot }) = next(stream, &mut buffer).await? else {
            return Err(Some(Verdict::Damaged));
        };
        let position = snapshot.last;
        let (wanted, answer) = oneshot::channel();
        // If the node stops the sender is dropped, and nothing is wanted any more.
        let _ = self.events.send(PeerEvent::SnapshotOffered(Offer { term, position, wanted })).await;
        if !answer.await.unwrap_or(false) {
            return Err(Some(Verdict::NotWanted));
        }
        let (steps, steps_receiver) = mpsc::channel(CHUNKS_AHEAD);
        let store = self.snapshots.clone();
        let writing = tokio::task::spawn_blocking(move || write(&store, position, steps_receiver));
        let fed = feed(stream, &mut buffer, steps).await;
        // Awaited in any case: its folder is gone then, and the same snapshot can come again.
        let written = writing.await;
        fed?;
        match written {
            Ok(Ok(staged)) => Ok(Received { from, term, snapshot, staged }),
            Ok(Err(verdict)) => Err(Some(verdict)),
            Err(error) => {
                tracing::error!(node = %self.local.name, %error, "storing a snapshot ended in a bug");
                Err(Some(Verdict::NotStored))
            }
        }
    }
}

/// Passes on what comes, up to the end, or until the writer has given up (it says why).
async fn feed(stream: &mut TcpStream, buffer: &mut BytesMut, steps: mpsc::Sender<Step>) -> Result<(), Option<Verdict>> {
    loop {
        let part = tokio::select! {
            part = next(stream, buffer) => part?,
            () = steps.closed() => return Ok(()),
        };
        let step = match part {
            Part::Rows(rows) => Step::Rows(rows),
            Part::End(end) => Step::End(end),
            Part::Header(_) | Part::Answer(_) => return Err(Some(Verdict::Damaged)),
        };
        let is_end = matches!(step, Step::End(_));
        if steps.send(step).await.is_err() || is_end {
            return Ok(());
        }
    }
}

async fn next(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Part, Option<Verdict>> {
    match timeout(PART_TIME_MAX, read_part(stream, buffer)).await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(ReadError::Damaged)) => Err(Some(Verdict::Damaged)),
        Ok(Err(ReadError::Io(_))) | Err(_) => Err(None),
    }
}

/// Blocks. Everything is removed again unless the end comes and is right.
fn write(store: &SnapshotStore, position: EntryId, mut steps: mpsc::Receiver<Step>) -> Result<Staged, Verdict> {
    let not_stored = |what: &dyn std::fmt::Display| {
        tracing::warn!(snapshot = %position, error = %what, "a snapshot cannot be stored");
        Verdict::NotStored
    };
    let mut staging = store.dir.stage(position, &store.options).map_err(|error| not_stored(&error))?;
    let mut hasher = Xxh3::new();
    let (mut found, mut chunks) = (End { rows: 0, hash: 0 }, 0_u32);
    while let Some(step) = steps.blocking_recv() {
        let rows = match step {
            Step::Rows(rows) => rows,
            Step::End(end) => {
                found.hash = hasher.digest();
                if found != end {
                    return Err(Verdict::Damaged);
                }
                return staging.finish().map_err(|error| not_stored(&error));
            }
        };
        if chunks.is_multiple_of(CHUNKS_PER_LOOK) {
            let free = disk::free_bytes(store.dir.member_path()).map_err(|error| not_stored(&error))?;
            if free < store.free_bytes_min {
                return Err(not_stored(&"too little free space"));
            }
        }
        chunks = chunks.wrapping_add(1);
        hasher.update(&rows);
        let rows = snapshot_wire::rows(rows).ok_or(Verdict::Damaged)?;
        found.rows += u64::try_from(rows.len()).unwrap_or(u64::MAX);
        staging.put(rows).map_err(|error| not_stored(&error))?;
    }
    // The connection ended before the end came.
    Err(Verdict::Damaged)
}
