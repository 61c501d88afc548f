//! Snapshots, as far as the driver has to do with them: who is sent one, which ones wait here, and the switch to one.
//!
//! The rows travel outside (`transport`). What a received snapshot is good for is the core's to say: the driver announces it
//! with the message that a leader's announcement is, and does what the core asks for.
//!
//! The switch itself runs on the log thread, as one job: the core has no write out until it is over, so nothing else can get
//! between its steps (`flaredb_storage::Staged`).

use super::{
    Driver, Failure,
    housekeeping::{Compacting, Flushing},
};
use crate::transport::{Offer, Outgoing, Received, SnapshotError};
use flaredb_kv::{Kv, OrderedStore as _};
use flaredb_raft::{Body, EntryId, HardState, Message, PeerState, RaftStorage as _, SnapshotMeta};
use flaredb_replica::Input;
use flaredb_storage::{DataDir, DataOptions, DataStore, LogWriter, Staged};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How many received snapshots may wait to be installed; of more the oldest goes.
const STAGED_MAX: usize = 2;
/// A follower that was sent a snapshot gets so many election timeouts to take it in before entries behind it may go.
const GRACE_ELECTION_TIMEOUTS: u32 = 10;
/// The old state's readers have so long to finish.
const OLD_READERS_TIME_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub(super) struct Snapshots {
    sending: Vec<Sending>,
    staged: Vec<Staged>,
    /// The switch that runs on the log thread.
    installing: Option<EntryId>,
    /// Entries that may go from the log as soon as no follower needs them behind a snapshot.
    truncation: Option<EntryId>,
}

struct Sending {
    to: u64,
    term: u64,
    /// None once it was delivered.
    transfer: Option<Outgoing>,
    /// What was delivered, and until when its follower has to take it in.
    delivered: Option<(EntryId, Instant)>,
}

/// What the log thread does to put a snapshot in the place of the state.
pub(super) struct Switch {
    staged: Staged,
    snapshot: SnapshotMeta,
    hard_state: HardState,
    dir: Arc<DataDir>,
    options: DataOptions,
}

/// The state after the switch, and the folder of the one before.
pub(super) struct Switched {
    kv: Kv<DataStore>,
    before: PathBuf,
    snapshot: SnapshotMeta,
}

impl Switch {
    /// Blocks. A crash between any two lines leaves the old state or the new one. Any error is final.
    pub(super) fn run(self, writer: &mut LogWriter) -> Result<Switched, Failure> {
        let Self { staged, snapshot, hard_state, dir, options } = self;
        let before = staged.settle().and_then(flaredb_storage::Settled::make_current);
        let before = before.map_err(|error| Failure::Install(error.to_string()))?;
        writer.reset_to_snapshot(&snapshot, &hard_state)?;
        let store = DataStore::open(&dir, &options).map_err(|error| Failure::Install(error.to_string()))?;
        Ok(Switched { kv: Kv::open(store)?, before, snapshot })
    }
}

impl Driver {
    pub(super) fn on_snapshot_wanted(&mut self, to: u64, term: u64) {
        let conf_state = flaredb_raft::ConfState { voters: self.cluster.members.iter().map(|m| m.id).collect() };
        let reader = self.replica.kv().store().reader();
        let transfer = self.transport.send_snapshot(to, term, conf_state, reader);
        tracing::info!(
            node = %self.name, peer = self.member_name(to), term,
            "this peer needs entries that were truncated: it is sent a snapshot"
        );
        self.snapshots.sending.retain(|sending| sending.to != to);
        self.snapshots.sending.push(Sending { to, term, transfer: Some(transfer), delivered: None });
    }

    pub(super) fn on_snapshot_sent(
        &mut self,
        to: u64,
        id: u64,
        outcome: Result<EntryId, SnapshotError>,
    ) -> Result<(), Failure> {
        let is_this = |sending: &&mut Sending| sending.transfer.as_ref().is_some_and(|transfer| transfer.id == id);
        let Some(sending) = self.snapshots.sending.iter_mut().find(is_this) else { return Ok(()) };
        sending.transfer = None;
        let delivered = outcome.is_ok();
        let peer = self.member_name(to).to_owned();
        match outcome {
            Ok(position) => {
                let until = Instant::now() + self.election_timeout * GRACE_ELECTION_TIMEOUTS;
                if let Some(sending) = self.snapshots.sending.iter_mut().find(|sending| sending.to == to) {
                    sending.delivered = Some((position, until));
                }
                tracing::info!(node = %self.name, peer, snapshot = %position, "snapshot delivered");
            }
            Err(error) => {
                self.snapshots.sending.retain(|sending| sending.to != to);
                tracing::warn!(node = %self.name, peer, %error, "snapshot not delivered");
            }
        }
        Ok(self.replica.step(Input::SnapshotSent { to, delivered })?)
    }

    /// Stale offers are turned down before their rows travel.
    pub(super) fn on_snapshot_offered(&mut self, offer: Offer) {
        let status = self.replica.status();
        let is_staged = self.snapshots.staged.iter().any(|staged| staged.position() == offer.position);
        let wanted = offer.term >= status.term
            && offer.position.index > status.commit_index
            && self.snapshots.installing.is_none()
            && !is_staged;
        // The connection may be gone meanwhile.
        let _ = offer.wanted.send(wanted);
    }

    pub(super) fn on_snapshot_received(&mut self, received: Received) -> Result<(), Failure> {
        let Received { from, term, snapshot, staged } = received;
        // Of those that wait the core takes the newest.
        self.snapshots.staged.push(staged);
        self.snapshots.staged.sort_by_key(|staged| std::cmp::Reverse(staged.position().index));
        if self.snapshots.staged.len() > STAGED_MAX {
            discard(self.snapshots.staged.split_off(STAGED_MAX));
        }
        let body = Body::InstallSnapshot { snapshot };
        let message = Message { from, to: self.cluster.member_id, region_id: crate::node::REGION_ID, term, body };
        Ok(self.replica.step(Input::Receive(message))?)
    }

    /// The core wants this snapshot in the place of everything.
    pub(super) fn on_install(&mut self, snapshot: SnapshotMeta) -> Result<(), Failure> {
        let at = self.snapshots.staged.iter().position(|staged| staged.position() == snapshot.last);
        let Some(at) = at else {
            return Err(Failure::Install(format!("the snapshot at {} is not here", snapshot.last)));
        };
        let staged = self.snapshots.staged.remove(at);
        let stored = self.replica.peer().storage().initial_state().map_err(flaredb_replica::ReplicaError::Log)?;
        // Term and vote are promises and stay; what the snapshot holds is committed.
        let hard_state = HardState { commit_index: snapshot.last.index, ..stored.hard_state };
        tracing::info!(node = %self.name, snapshot = %snapshot.last, "a snapshot takes the place of this member's state");
        self.snapshots.installing = Some(snapshot.last);
        let (dir, options) = (Arc::clone(&self.dir), self.data_options.clone());
        self.log.switch(Switch { staged, snapshot, hard_state, dir, options });
        Ok(())
    }

    pub(super) fn on_switched(&mut self, switched: Switched) -> Result<(), Failure> {
        let Switched { kv, before, snapshot } = switched;
        assert!(self.snapshots.installing.take() == Some(snapshot.last), "one switch at a time");
        self.flushing = Flushing::new(kv.store().flusher(), self.flush_entries, snapshot.last.index);
        self.quota.set_store(kv.store().flusher());
        self.compacting = Compacting::new();
        let old = std::mem::replace(self.replica.kv_mut(), kv);
        self.replica.step(Input::SnapshotInstalled { last: snapshot.last })?;
        self.publish_reader();
        self.publish_sizes();
        self.shared.counters().snapshots_installed.add(1);
        tracing::info!(node = %self.name, snapshot = %snapshot.last, "snapshot installed");
        tokio::spawn(retire(old, before));
        Ok(())
    }

    /// Each tick: transfers of a leadership that is over end, and what nobody needs any more goes.
    pub(super) fn tend_snapshots(&mut self) {
        let status = self.replica.status();
        let peer = self.replica.peer();
        let now = Instant::now();
        self.snapshots.sending.retain(|sending| {
            let is_mine = status.state == PeerState::Leader && status.term == sending.term;
            let is_over = sending.delivered.is_some_and(|(position, until)| {
                let matched = peer.progress().find(|(id, _)| *id == sending.to).map(|(_, voter)| voter.match_index);
                now >= until || matched.is_none_or(|matched| matched >= position.index)
            });
            is_mine && !is_over
        });
        let is_old = |staged: &mut Staged| staged.position().index <= status.commit_index;
        let old: Vec<Staged> = self.snapshots.staged.extract_if(.., is_old).collect();
        if !old.is_empty() {
            discard(old);
        }
        self.release_truncation();
    }

    /// Entries go from the log, but not while a follower that is sent a snapshot needs what follows it.
    pub(super) fn truncate_log(&mut self, up_to: EntryId) {
        self.snapshots.truncation = Some(up_to);
        self.release_truncation();
    }

    fn release_truncation(&mut self) {
        if self.snapshots.sending.is_empty()
            && self.snapshots.installing.is_none()
            && let Some(up_to) = self.snapshots.truncation.take()
        {
            self.log.truncate(up_to);
        }
    }
}

/// Removing files may take a while.
fn discard(staged: Vec<Staged>) {
    tokio::task::spawn_blocking(move || drop(staged));
}

/// Lets the old state's readers finish, then removes it. Dropped with the runtime, it leaves the folder to the next start.
async fn retire(old: Kv<DataStore>, folder: PathBuf) {
    let until = Instant::now() + OLD_READERS_TIME_MAX;
    while old.store().is_shared() && Instant::now() < until {
        sleep(Duration::from_millis(50)).await;
    }
    let removed = tokio::task::spawn_blocking(move || {
        // Readers that are left fail cleanly from here on. RocksDB closes with the last of them, and works with paths until
        // then: the folder goes only after it.
        let shared = old.store().is_shared();
        drop(old);
        if shared { Ok(()) } else { std::fs::remove_dir_all(&folder) }
    });
    if let Ok(Err(error)) = removed.await {
        tracing::warn!(%error, "the state before the snapshot could not be removed; the next start tries again");
    }
}
