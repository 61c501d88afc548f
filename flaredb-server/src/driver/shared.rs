//! What the driver publishes for the handles: the latest reader, the peer's status, sizes. Replaced after every batch.

use crate::{
    counters::Counters,
    identity::{ClusterIdentity, Member},
    transport::Roster,
};
use flaredb_kv::{AppliedState, KvReader};
use flaredb_raft::PeerStatus;
use flaredb_storage::{DataReader, Sizes};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The peer, as the specification names it.
    pub peer: PeerStatus,
    /// Who belongs to the cluster, and which of them this is.
    pub cluster: Arc<ClusterIdentity>,
    /// The members as clients see them; the others' client URLs are empty until they were heard of.
    pub members: Vec<MemberView>,
    /// How far the state machine has come.
    pub applied: AppliedState,
    /// Bytes of the state machine, on disk and in memory; at most a second old.
    pub db_size: u64,
    /// Of these, bytes that are not overwritten or deleted; an estimate.
    pub db_size_in_use: u64,
    /// Bytes; None = no limit.
    pub quota: Option<u64>,
    /// The quota is exceeded or the disk nearly full, and this node refuses puts.
    pub no_space: bool,
    /// FlareDB's own version.
    pub version: &'static str,
    /// Ids of the peers that this node has an outgoing connection to.
    pub connected: Vec<u64>,
    /// Drops and mismatches since the start.
    pub counters: Arc<Counters>,
    /// What the replica has counted since the start.
    pub replica: flaredb_replica::Counters,
}

/// A member as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its member id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// What never changes while a node runs.
pub(crate) struct Fixed {
    pub(crate) cluster: Arc<ClusterIdentity>,
    /// This node's.
    pub(crate) client_urls: Vec<String>,
    pub(crate) quota: Option<u64>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) counters: Arc<Counters>,
}

pub(crate) struct Shared {
    fixed: Fixed,
    published: Mutex<Published>,
    tickets: AtomicU64,
    request_bytes: AtomicU64,
    no_space: AtomicBool,
}

/// The latest state. Held under the lock for as long as it takes to copy some words.
struct Published {
    peer: PeerStatus,
    replica: flaredb_replica::Counters,
    applied: AppliedState,
    sizes: Sizes,
    /// None once the node has stopped: a handle must not keep the data open.
    reader: Option<KvReader<DataReader>>,
}

impl Shared {
    pub(crate) fn new(fixed: Fixed, peer: PeerStatus, reader: KvReader<DataReader>) -> Self {
        let published = Published {
            peer,
            replica: flaredb_replica::Counters::default(),
            applied: reader.applied(),
            sizes: Sizes::default(),
            reader: Some(reader),
        };
        Self {
            fixed,
            published: Mutex::new(published),
            tickets: AtomicU64::new(1),
            request_bytes: AtomicU64::new(0),
            no_space: AtomicBool::new(false),
        }
    }

    /// `reader`: if the state machine has moved.
    pub(super) fn publish(
        &self,
        peer: PeerStatus,
        replica: flaredb_replica::Counters,
        reader: Option<KvReader<DataReader>>,
    ) {
        let mut published = self.lock();
        published.peer = peer;
        published.replica = replica;
        let Some(reader) = reader else { return };
        published.applied = reader.applied();
        let old = published.reader.replace(reader);
        // The old one may be the last of its kind; that is nothing to do under the lock.
        drop(published);
        drop(old);
    }

    pub(super) fn publish_sizes(&self, sizes: Sizes) {
        self.lock().sizes = sizes;
    }

    pub(super) fn publish_no_space(&self, no_space: bool) {
        self.no_space.store(no_space, Ordering::Relaxed);
    }

    /// Asked by every put: no lock.
    pub(super) fn has_no_space(&self) -> bool {
        self.no_space.load(Ordering::Relaxed)
    }

    pub(super) fn quota(&self) -> Option<u64> {
        self.fixed.quota
    }

    /// Lets go of the data. Nobody can read from here on.
    pub(crate) fn close(&self) {
        let reader = self.lock().reader.take();
        drop(reader);
    }

    pub(super) fn reader(&self) -> Option<KvReader<DataReader>> {
        self.lock().reader.clone()
    }

    pub(crate) fn peer(&self) -> PeerStatus {
        self.lock().peer
    }

    pub(super) fn applied(&self) -> AppliedState {
        self.lock().applied
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.fixed.counters
    }

    pub(super) fn connected(&self) -> Vec<u64> {
        self.fixed.roster.connected()
    }

    pub(super) fn status(&self) -> NodeStatus {
        let Fixed { cluster, client_urls, quota, roster, counters } = &self.fixed;
        let members = cluster.members.iter().map(|Member { id, name, peer_urls }| MemberView {
            id: *id,
            name: name.clone(),
            peer_urls: peer_urls.clone(),
            client_urls: if *id == cluster.member_id { client_urls.clone() } else { roster.client_urls(*id) },
        });
        let members = members.collect();
        let published = self.lock();
        NodeStatus {
            peer: published.peer,
            cluster: Arc::clone(cluster),
            members,
            applied: published.applied,
            db_size: published.sizes.total,
            db_size_in_use: published.sizes.in_use,
            quota: *quota,
            no_space: self.has_no_space(),
            version: env!("CARGO_PKG_VERSION"),
            connected: roster.connected(),
            counters: Arc::clone(counters),
            replica: published.replica,
        }
    }

    pub(super) fn next_ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// False if more than `max` bytes would wait for the driver; one request is always let in.
    pub(super) fn reserve_request_bytes(&self, bytes: u64, max: u64) -> bool {
        let before = self.request_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(bytes) <= max;
        if !fits {
            self.release_request_bytes(bytes);
        }
        fits
    }

    pub(super) fn release_request_bytes(&self, bytes: u64) {
        self.request_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
