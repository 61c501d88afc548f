//! The driver: one task that feeds a replica with everything that happens and carries out what it asks for.
//!
//! On waking it takes everything that waits, steps it in, and drains the outputs: batches come from this shape alone. It
//! never waits for a disk; the log thread and the flush report back like everything else. What it is not: it knows no
//! keys, no terms and no votes. The order of effects is `effects.rs`.

mod cold_start;
mod effects;
mod handle;
mod housekeeping;
mod lease;
mod log_thread;
mod quota;
mod recovery;
mod shared;
mod snapshots;
mod space;

pub use handle::{NodeHandle, RequestError};
pub(crate) use lease::Lease;
pub(crate) use shared::{Fixed, Shared};
pub use shared::{MemberView, NodeStatus};

use crate::{
    identity::ClusterIdentity,
    transport::{Memory, MemoryError, PeerEvent, Transport},
};
use cold_start::ColdStart;
use flaredb_kv::{CompactProgress, StoreError};
use flaredb_raft::{Message, PeerState};
use flaredb_replica::{Input, Replica, ReplicaError};
use flaredb_storage::{DataDir, DataOptions, DataStore, LogError, LogReader, LogWriter, Recovery};
use handle::{REQUESTS_MAX, ReadOutcome, Request, WriteOutcome};
use housekeeping::{Compacting, Flushing};
use log_thread::{LogReport, LogThread};
use quota::{Quota, QuotaChange};
use recovery::Recovering;
use snapshots::Snapshots;
use space::{Space, SpaceChange};
use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver},
        oneshot,
    },
    time::{MissedTickBehavior, interval},
};

/// Inputs taken per turn, so that outputs are never far behind.
const REQUESTS_PER_TURN: usize = 4096;
const PEER_EVENTS_PER_TURN: usize = 64;
/// With so many requests under way the connections get a turn before the outputs are taken: what they read then joins the same
/// batch, and a batch costs three syncs and seven messages whatever is in it.
const CROWD: usize = 8;
/// A turn that takes longer lets the rest of the node run before it goes on (long replays, large catch-ups).
const TURN_TIME_MAX: Duration = Duration::from_millis(5);
/// Sizes are read about so often.
const SIZES_EVERY: Duration = Duration::from_secs(1);

/// Why a node cannot go on. Nothing of it is retried: the process ends and says this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A write or sync of the log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What was heard of the other members could not be made durable.
    #[error(
        "what is remembered of the members' starts cannot be made durable, the process must stop: {0}; look at the disk, then \
         start this member again"
    )]
    Memory(#[from] MemoryError),
    /// The state machine's store failed.
    #[error("the data store failed, the process must stop: {0}")]
    Store(#[from] StoreError),
    /// The replica's data cannot be read or does not fit together.
    #[error("{0}")]
    Replica(String),
    /// A snapshot could not take the place of this member's state.
    #[error("installing a snapshot failed, the process must stop: {0}")]
    Install(String),
    /// The client port cannot be served any more.
    #[error("client port: {0}")]
    ClientPort(String),
    /// A bug: a part of the node ended or panicked.
    #[error("a part of the node ended unexpectedly: {0}")]
    Ended(String),
}

impl From<ReplicaError> for Failure {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Store(error) => Self::Store(error),
            error => Self::Replica(error.to_string()),
        }
    }
}

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) cluster: Arc<ClusterIdentity>,
    pub(crate) replica: Replica<LogReader, DataStore>,
    pub(crate) log_writer: LogWriter,
    pub(crate) transport: Transport,
    pub(crate) lease: Lease,
    pub(crate) memory: Arc<Memory>,
    /// What the storage found at start.
    pub(crate) recovery: Recovery,
    pub(crate) peer_events: mpsc::Receiver<PeerEvent>,
    pub(crate) requests: Requests,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tick: Duration,
    pub(crate) election_timeout: Duration,
    /// Where a received snapshot is made this member's state.
    pub(crate) dir: Arc<DataDir>,
    pub(crate) data_options: DataOptions,
    /// Of the disk; below it puts are refused.
    pub(crate) free_bytes_min: u64,
    /// Applied entries after which the data store is flushed.
    pub(crate) flush_entries: u64,
}

/// The receiving end of the handles.
pub(crate) struct Requests(mpsc::Receiver<Request>);

/// Makes the handle of a node that is about to start.
pub(crate) fn handle(shared: Arc<Shared>) -> (NodeHandle, Requests) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    (NodeHandle::new(shared, sender), Requests(receiver))
}

/// See the module.
pub(crate) struct Driver {
    name: String,
    cluster: Arc<ClusterIdentity>,
    replica: Replica<LogReader, DataStore>,
    log: LogThread,
    log_reports: UnboundedReceiver<LogReport>,
    transport: Transport,
    peer_events: mpsc::Receiver<PeerEvent>,
    requests: mpsc::Receiver<Request>,
    shared: Arc<Shared>,
    tick: Duration,

    waiting: HashMap<u64, Waiter>,
    /// The write that is out, and what may be sent when it is durable.
    after_write: Option<(u64, Vec<Message>)>,
    flushing: Flushing,
    compacting: Compacting,
    quota: Quota,
    space: Space,
    cold_start: ColdStart,
    snapshots: Snapshots,
    recovering: Recovering,
    lease: Lease,
    memory: Arc<Memory>,
    dir: Arc<DataDir>,
    data_options: DataOptions,
    flush_entries: u64,
    election_timeout: Duration,
    published_index: u64,
    sizes_at: Instant,
    /// The last turn was cut short.
    more: bool,
    was_ready: bool,
}

enum Waiter {
    Write(oneshot::Sender<WriteOutcome>),
    Read(oneshot::Sender<ReadOutcome>),
}

impl Driver {
    /// Starts the log thread. Must be called within the node's runtime.
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts {
            cluster,
            replica,
            log_writer,
            transport,
            lease,
            memory,
            recovery,
            peer_events,
            requests,
            shared,
            tick,
            election_timeout,
            dir,
            data_options,
            free_bytes_min,
            flush_entries,
        } = parts;
        let name = cluster.members.iter().find(|member| member.id == cluster.member_id);
        let name = name.map_or_else(String::new, |member| member.name.clone());
        let rank = cluster.members.iter().position(|member| member.id == cluster.member_id).unwrap_or_default();
        let cold_start = ColdStart::new(rank, cluster.members.len());
        let (log, log_reports) = LogThread::start(&name, log_writer)?;
        let applied_index = replica.kv().applied().index;
        let flushing = Flushing::new(replica.kv().store().flusher(), flush_entries, applied_index);
        let space = Space::new(dir.member_path().to_path_buf(), free_bytes_min);
        let quota = Quota::new(shared.quota(), dir.member_path().to_path_buf(), replica.kv().store().flusher());
        let mut driver = Self {
            name,
            cluster,
            replica,
            log,
            log_reports,
            transport,
            peer_events,
            requests: requests.0,
            shared,
            tick,
            waiting: HashMap::new(),
            after_write: None,
            flushing,
            compacting: Compacting::new(),
            quota,
            space,
            cold_start,
            snapshots: Snapshots::default(),
            recovering: Recovering::default(),
            lease,
            memory,
            dir,
            data_options,
            flush_entries,
            election_timeout,
            published_index: applied_index,
            sizes_at: Instant::now(),
            more: false,
            was_ready: false,
        };
        driver.begin_as_opened(recovery).map_err(io::Error::other)?;
        driver.publish_recovery();
        driver.publish_sizes();
        Ok(driver)
    }

    /// Runs until `stop` resolves, then makes everything applied durable. Dropped instead, it is a crash.
    ///
    /// # Errors
    /// [`Failure`] is final.
    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Result<(), Failure> {
        let mut ticks = interval(self.tick);
        // Time that was not there (a paused machine, a slow turn) does not come back as a burst of ticks.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let compact_revision = self.replica.kv().applied().compact_revision;
            tokio::select! {
                biased;
                _ = &mut stop => return Ok(self.flushing.finish().await?),
                _ = ticks.tick() => self.on_tick()?,
                report = self.log_reports.recv() => self.on_log_report(report)?,
                event = self.peer_events.recv() => {
                    let event = event.ok_or_else(|| Failure::Ended("the peer transport".to_owned()))?;
                    self.on_peer_event(event)?;
                }
                Some(request) = self.requests.recv() => self.on_request(request)?,
                flushed = self.flushing.done() => self.replica.step(Input::Flushed { applied_index: flushed? })?,
                () = tokio::task::yield_now(), if self.more => {}
                () = self.compacting.due(), if self.compacting.is_pending(compact_revision) => self.compact()?,
                () = self.quota.reclaimed() => self.publish_sizes(),
                () = self.space.set_aside() => {}
            }
            self.take_what_waits()?;
            if self.waiting.len() >= CROWD {
                tokio::task::yield_now().await;
                self.take_what_waits()?;
            }
            self.read_clock()?;
            self.take_outputs()?;
        }
    }

    fn take_what_waits(&mut self) -> Result<(), Failure> {
        while let Ok(report) = self.log_reports.try_recv() {
            self.on_log_report(Some(report))?;
        }
        for _ in 0..PEER_EVENTS_PER_TURN {
            let Ok(event) = self.peer_events.try_recv() else { break };
            self.on_peer_event(event)?;
        }
        for _ in 0..REQUESTS_PER_TURN {
            let Ok(request) = self.requests.try_recv() else { break };
            self.on_request(request)?;
        }
        Ok(())
    }

    fn take_outputs(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        self.more = false;
        while self.replica.has_output() {
            let output = self.replica.take_output()?;
            self.on_output(output)?;
            if began.elapsed() > TURN_TIME_MAX {
                self.more = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// After everything that has arrived was stepped in: a lease answers the reads among it.
    fn read_clock(&mut self) -> Result<(), Failure> {
        let Some(now) = self.lease.reading() else { return Ok(()) };
        Ok(self.replica.step(Input::Clock { now })?)
    }

    fn on_tick(&mut self) -> Result<(), Failure> {
        self.tend_snapshots();
        self.maybe_note_what_was_told();
        self.maybe_take_over();
        if self.sizes_at.elapsed() >= SIZES_EVERY {
            self.publish_sizes();
        }
        // A lease counts from the reading before a heartbeat.
        self.read_clock()?;
        self.replica.step(Input::Tick)?;
        let is_pledged = self.replica.peer().is_pledged();
        self.lease.on_tick(is_pledged);
        if !is_pledged && self.cold_start.on_tick(self.replica.status().leader, || self.shared.connected().len() + 1) {
            self.replica.step(Input::Campaign)?;
        }
        Ok(())
    }

    fn on_log_report(&mut self, report: Option<LogReport>) -> Result<(), Failure> {
        let id = match report {
            Some(LogReport::Written { id, wal_ends_soon }) => {
                self.flushing.on_wal(wal_ends_soon);
                id
            }
            Some(LogReport::Switched(switched)) => return self.on_switched(*switched),
            Some(LogReport::Noted) => return Ok(()),
            Some(LogReport::Failed(failure)) => return Err(failure),
            None => return Err(Failure::Ended("the log thread".to_owned())),
        };
        let (out, messages) = self.after_write.take().unzip();
        assert!(out == Some(id), "the write that is durable is the write that was out");
        if let Some(messages) = messages.filter(|messages| !messages.is_empty()) {
            self.transport.send(messages);
        }
        Ok(self.replica.step(Input::WriteDone { id })?)
    }

    fn on_peer_event(&mut self, event: PeerEvent) -> Result<(), Failure> {
        match event {
            PeerEvent::Messages(messages) => {
                for message in messages {
                    self.replica.step(Input::Receive(message))?;
                }
            }
            PeerEvent::Unreachable(peer) => self.replica.step(Input::Unreachable { peer })?,
            PeerEvent::Met { peer, standing, position } => self.on_met(peer, standing, position)?,
            PeerEvent::MemoryFailed(error) => return Err(Failure::Memory(error)),
            PeerEvent::SnapshotOffered(offer) => self.on_snapshot_offered(offer),
            PeerEvent::SnapshotReceived(received) => self.on_snapshot_received(received)?,
            PeerEvent::SnapshotSent { to, id, outcome } => self.on_snapshot_sent(to, id, outcome)?,
        }
        Ok(())
    }

    fn on_request(&mut self, request: Request) -> Result<(), Failure> {
        let input = match request {
            Request::Propose { ticket, kind, command, outcome } => {
                self.shared.release_request_bytes(u64::try_from(command.len()).unwrap_or(u64::MAX));
                if outcome.is_closed() {
                    return Ok(());
                }
                self.waiting.insert(ticket, Waiter::Write(outcome));
                Input::Propose { ticket, kind, command }
            }
            Request::Read { ticket, outcome } => {
                if outcome.is_closed() {
                    return Ok(());
                }
                self.waiting.insert(ticket, Waiter::Read(outcome));
                Input::Read { ticket }
            }
            Request::Cancel { ticket } => {
                if self.waiting.remove(&ticket).is_none() {
                    return Ok(());
                }
                Input::Cancel { ticket }
            }
            Request::Transfer { to } => {
                let Some(to) = to.or_else(|| self.best_successor()) else { return Ok(()) };
                Input::TransferLeadership { to }
            }
        };
        Ok(self.replica.step(input)?)
    }

    /// The follower that is furthest along, of those that are there.
    fn best_successor(&self) -> Option<u64> {
        if self.replica.status().state != PeerState::Leader {
            return None;
        }
        let connected = self.shared.connected();
        let there = self.replica.peer().progress().filter(|(id, _)| connected.contains(id));
        there.max_by_key(|(_, progress)| progress.match_index).map(|(id, _)| id)
    }

    fn compact(&mut self) -> Result<(), Failure> {
        let began = tokio::time::Instant::now();
        match self.replica.kv_mut().compact_step(self.compacting.rows())? {
            CompactProgress::Done => {
                self.compacting.on_done(self.replica.kv().applied().compact_revision);
                self.quota.on_rows_removed();
            }
            CompactProgress::More { rows } => self.compacting.on_step(rows, began),
        }
        Ok(())
    }

    fn publish_sizes(&mut self) {
        self.sizes_at = Instant::now();
        let mut size = u64::MAX;
        match self.replica.kv().store().sizes() {
            Ok(sizes) => {
                size = sizes.total;
                let change = self.quota.on_size(sizes.total);
                self.shared.publish_sizes(sizes);
                if let Some(change) = change {
                    self.on_quota(change, sizes.total);
                }
            }
            Err(error) => tracing::warn!(node = %self.name, %error, "the data store does not know its size"),
        }
        self.look_at_space(size);
        self.shared.publish_no_space(self.quota.is_exceeded() || self.space.is_low());
    }

    /// `size`: of the data.
    fn look_at_space(&mut self, size: u64) {
        let look = self.space.look();
        // Rewriting the data needs up to its size before it gives anything back.
        self.quota.set_squeezed(self.space.is_low() && matches!(look, Ok((_, free)) if free >= size));
        match look {
            Ok((Some(SpaceChange::Began), free)) => tracing::warn!(
                node = %self.name, free,
                "the disk is nearly full: puts are refused; make room on it, or delete keys and compact"
            ),
            Ok((Some(SpaceChange::Ended), free)) => {
                tracing::info!(node = %self.name, free, "there is room on the disk again: puts are served");
            }
            Ok((None, _)) => {}
            Err(error) => tracing::warn!(node = %self.name, %error, "the disk's free space is not known"),
        }
    }

    fn on_quota(&self, change: QuotaChange, size: u64) {
        let quota = self.shared.quota();
        match change {
            QuotaChange::Began => tracing::warn!(
                node = %self.name, size, quota,
                "the data is larger than --quota-backend-bytes: puts are refused; delete keys and compact, or raise the quota"
            ),
            QuotaChange::Ended => {
                tracing::info!(node = %self.name, size, quota, "the data is within --quota-backend-bytes again: puts are served");
            }
        }
    }

    fn member_name(&self, id: u64) -> &str {
        self.cluster.members.iter().find(|member| member.id == id).map_or("unknown", |member| &member.name)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Handles may outlive the node; its data must not stay open for them.
        self.shared.close();
    }
}
