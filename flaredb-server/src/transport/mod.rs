//! Between the nodes: plain TCP on the peer port, one connection for each pair and direction.
//!
//! Every node dials every other one and writes only its own messages on that connection. Frames carry batches of
//! `flaredb_replica::wire`. What it is not: reliable. Messages may be lost, never damaged, never misattributed, and in order
//! as long as one connection lives; the core needs no more.

mod accept;
mod address;
mod dial;
mod frame;
mod handshake;
mod log_gate;
mod memory;
mod outbox;
mod roster;
mod snapshot_receive;
mod snapshot_send;
mod snapshot_wire;
mod socket;

pub use address::{AddressError, PeerAddress};
pub use frame::FRAME_BYTES_MAX;
pub use handshake::{Greeting, HandshakeError, PROTOCOL_VERSION, Purpose, Refusal};
pub use memory::{Memory, MemoryError, Position};
pub use roster::Roster;
pub use snapshot_receive::{Offer, Received};
pub use snapshot_send::{Outgoing, SnapshotError};

use crate::counters::Counters;
use flaredb_raft::{EntryId, Message};
use flaredb_replica::acquaintance::Standing;
use flaredb_storage::{DataDir, DataOptions};
use log_gate::LogGate;
use outbox::Outbox;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
};

/// This node, as its greetings introduce it.
#[derive(Clone, Debug)]
pub struct Local {
    /// From `--initial-cluster` and the token.
    pub cluster_id: u64,
    /// The replicated region.
    pub region_id: u64,
    /// This node's member id.
    pub member_id: u64,
    /// Differs at every start of this node.
    pub incarnation: u64,
    /// This node's name.
    pub name: String,
    /// Where clients reach this node.
    pub client_urls: Vec<String>,
    /// What it tells of its disk, and remembers of the others'.
    pub memory: Arc<Memory>,
}

/// A peer to talk to.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its member id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it listens; tried in order.
    pub addresses: Vec<PeerAddress>,
}

/// Time limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For an incoming connection's greeting, from accept to answer.
    pub handshake_timeout: Duration,
    /// For dialling and the handshake together.
    pub connect_timeout: Duration,
    /// A peer that acknowledges no byte for so long is gone.
    pub dead_after: Duration,
}

impl Timing {
    /// Follows the election timeout: a dead connection must not outlive two elections by much.
    pub fn new(election_timeout: Duration) -> Self {
        let dead_after = (election_timeout * 2).clamp(Duration::from_secs(1), Duration::from_secs(10));
        // An address that does not answer must not keep a peer waiting that has come back meanwhile.
        let connect_timeout = election_timeout.clamp(Duration::from_secs(1), Duration::from_secs(5));
        Self { handshake_timeout: Duration::from_secs(2), connect_timeout, dead_after }
    }
}

/// A receiver of a snapshot waits for its disk now and then.
const SNAPSHOT_DEAD_AFTER: Duration = Duration::from_secs(30);

impl Timing {
    fn dead_after(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Messages => self.dead_after,
            Purpose::Snapshot => SNAPSHOT_DEAD_AFTER,
        }
    }
}

/// Where received snapshots are stored.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    /// This member's.
    pub dir: Arc<DataDir>,
    /// Of the stores beside the live one.
    pub options: DataOptions,
    /// A snapshot must not fill the disk: the member's log lives on it too.
    pub free_bytes_min: u64,
}

/// What the transport tells the driver.
#[derive(Debug)]
pub enum PeerEvent {
    /// Everything that one read brought, in order; senders and targets are checked.
    Messages(Vec<Message>),
    /// A peer has greeted; nothing of its connection comes before this.
    Met {
        /// The peer.
        peer: u64,
        /// What it remembers of this member's starts.
        standing: Standing,
        /// Its term, and the position that it vouches for.
        position: Position,
    },
    /// The outgoing connection to this peer broke; what was on its way may be lost.
    Unreachable(u64),
    /// What was heard of a peer could not be made durable. Final.
    MemoryFailed(MemoryError),
    /// A member wants to send a snapshot.
    SnapshotOffered(Offer),
    /// It came, whole.
    SnapshotReceived(Received),
    /// A snapshot was delivered, or not.
    SnapshotSent {
        /// The receiver.
        to: u64,
        /// Of [`Outgoing`].
        id: u64,
        /// Its position.
        outcome: Result<EntryId, SnapshotError>,
    },
}

/// The sending side, owned by the driver. The tasks behind it end with the runtime.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    local: Local,
    peers: BTreeMap<u64, Link>,
    timing: Timing,
    roster: Arc<Roster>,
    counters: Arc<Counters>,
    gate: LogGate,
    snapshots: SnapshotStore,
    /// Who sends a snapshot right now; dropped when a later one takes over.
    receiving: Mutex<BTreeMap<u64, watch::Sender<()>>>,
    transfers: AtomicU64,
    events: mpsc::Sender<PeerEvent>,
}

struct Link {
    name: String,
    addresses: Vec<PeerAddress>,
    outbox: Outbox,
    /// The peer has dialled in: it is up, do not wait.
    redial: Notify,
    /// The peer is to be greeted anew.
    regreet: Notify,
}

/// Batches of messages that may wait for the driver; beyond it the connections' readers wait, and TCP with them.
const EVENTS_MAX: usize = 256;

impl Transport {
    /// Starts dialling every peer and serving the listeners. Must be called within the node's runtime.
    pub fn start(
        local: Local,
        peers: Vec<Remote>,
        listeners: Vec<TcpListener>,
        timing: Timing,
        roster: Arc<Roster>,
        counters: Arc<Counters>,
        snapshots: SnapshotStore,
    ) -> (Self, mpsc::Receiver<PeerEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let peers = peers
            .into_iter()
            .map(|Remote { id, name, addresses }| {
                assert!(id != local.member_id, "a node is not its own peer");
                (
                    id,
                    Link {
                        name,
                        addresses,
                        outbox: Outbox::new(counters.clone()),
                        redial: Notify::new(),
                        regreet: Notify::new(),
                    },
                )
            })
            .collect();
        let shared = Arc::new(Shared {
            local,
            peers,
            timing,
            roster,
            counters,
            gate: LogGate::default(),
            snapshots,
            receiving: Mutex::default(),
            transfers: AtomicU64::new(0),
            events,
        });
        for listener in listeners {
            tokio::spawn(accept::run(listener, shared.clone()));
        }
        for peer in shared.peers.keys() {
            tokio::spawn(dial::run(*peer, shared.clone()));
        }
        (Self { shared }, receiver)
    }

    /// Connects to every peer anew, because what greetings say has changed.
    pub fn greet_anew(&self) {
        for link in self.shared.peers.values() {
            link.regreet.notify_one();
        }
    }

    /// Ends the driver, as a failed write of the log does.
    pub(crate) async fn memory_failed(&self, error: MemoryError) {
        // Nobody listens: the node is going down.
        let _ = self.shared.events.send(PeerEvent::MemoryFailed(error)).await;
    }

    /// Queues the messages and wakes each peer's writer once. Never blocks; drops when a queue is full.
    pub fn send(&self, messages: Vec<Message>) {
        let mut woken: Vec<u64> = Vec::new();
        for message in messages {
            let to = message.to;
            match self.shared.peers.get(&to) {
                Some(link) => {
                    link.outbox.push(message);
                    if !woken.contains(&to) {
                        woken.push(to);
                    }
                }
                None => self.shared.counters.messages_unsendable.add(1),
            }
        }
        for link in woken.iter().filter_map(|to| self.shared.peers.get(to)) {
            link.outbox.wake();
        }
    }
}

impl Shared {
    /// A greeting was heard, from either side: it is remembered, durably, before the connection is used, and the driver told
    /// before it can hear anything else from it. False: the node stops, or its disk does not work.
    async fn meet(&self, greeting: &Greeting) -> bool {
        let Local { member_id, memory, .. } = &self.local;
        let (peer, memory) = (greeting.sender, Arc::clone(memory));
        let (ids, told) = ((*member_id, peer), greeting.acquaintances.clone());
        let remembered = tokio::task::spawn_blocking(move || memory.meet(ids, &told));
        let standing = match remembered.await {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => {
                // Nobody listens: the node is going down.
                let _ = self.events.send(PeerEvent::MemoryFailed(error)).await;
                return false;
            }
            Err(_) => return false,
        };
        self.events.send(PeerEvent::Met { peer, standing, position: greeting.position }).await.is_ok()
    }
}

impl Local {
    fn greeting(&self, target: u64, purpose: Purpose) -> Greeting {
        let Self { cluster_id, region_id, member_id, incarnation, name, client_urls, memory } = self.clone();
        Greeting {
            cluster_id,
            region_id,
            sender: member_id,
            target,
            incarnation,
            purpose,
            position: memory.position(),
            acquaintances: memory.known(),
            name,
            client_urls,
        }
    }
}
