//! The simulated world: one heap of things to happen, ordered by virtual time and then by the order in which they were put
//! there; taking one out may put others in. Nothing else moves time.
//!
//! `node` is one simulated process, `effects` the order in which it carries out what its replica asks for, `clients` the way of a
//! request there and back, `fault` what goes wrong, `meeting` disks that are replaced, `snapshot` transfers. This file has what they share.
#![expect(clippy::indexing_slicing, reason = "nodes and clients are numbered by the world, within their bounds")]

mod clients;
pub(crate) mod disk;
mod effects;
pub(crate) mod fault;
mod late;
mod lease;
mod meeting;
mod node;
mod snapshot;

use crate::faults::{FaultKind, Faults, Reduction};
use crate::marks::Marks;
use crate::network::Network;
use crate::observed::{Observed, Violation};
use crate::run::RunReport;
use crate::settings::Settings;
use crate::trace::Trace;
use crate::watch::Watch;
use crate::workload::Workload;
use fault::Partition;
use node::{Arrived, Node};
use snapshot::Transfer;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The node is gone: what was to follow does not.
#[derive(Debug)]
pub(crate) struct Gone;

/// Something that is to happen. `life`: of the process that it was meant for; another one does not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// A node's clock ticks.
    Tick { node: usize, life: u64 },
    /// A frame arrives.
    Frame { slot: usize },
    /// A node looks at what has piled up.
    Turn { node: usize, life: u64 },
    /// A node's log disk is done with what it was asked for.
    Synced { node: usize, life: u64 },
    /// A node's data store is flushed.
    Flushed { node: usize, life: u64 },
    /// A step of physical compaction.
    Compact { node: usize, life: u64 },
    /// A node learns that its connection to a peer broke.
    Unreachable { node: usize, peer: usize, life: u64 },
    /// A snapshot has been received whole.
    SnapshotArrives { transfer: usize },
    /// The sender of a snapshot learns what became of it.
    SnapshotReport { node: usize, peer: usize, delivered: bool, life: u64 },
    /// A process starts.
    Start { node: usize, life: u64 },
    /// A process goes on.
    Resume { node: usize, life: u64 },
    /// A process has its CPU back.
    SlowEnds { node: usize },
    /// A process looks for those it has not met.
    Meet { node: usize, life: u64 },
    /// A fault.
    Fault { kind: FaultKind, nth: u64 },
    /// A partition ends.
    PartitionEnds { partition: usize },
    /// A client sends its next request.
    ClientNext { client: usize },
    /// A request reaches its node.
    RequestArrives { client: usize, id: u64 },
    /// An answer reaches its client.
    AnswerArrives { client: usize, id: u64 },
    /// A client has waited long enough.
    ClientGivesUp { client: usize, id: u64 },
    /// The connection of a client broke.
    CutOff { client: usize, id: u64 },
}

impl Happening {
    /// Into the trace: what and whom.
    fn code(self) -> u64 {
        let code = |kind: u64, who: usize| (kind << 32) | u64::try_from(who).unwrap_or(u64::MAX);
        match self {
            Self::Tick { node, .. } => code(1, node),
            Self::Frame { slot } => code(2, slot),
            Self::Turn { node, .. } => code(3, node),
            Self::Synced { node, .. } => code(4, node),
            Self::Flushed { node, .. } => code(5, node),
            Self::Compact { node, .. } => code(6, node),
            Self::Unreachable { node, .. } => code(7, node),
            Self::SnapshotArrives { transfer } => code(8, transfer),
            Self::SnapshotReport { node, .. } => code(9, node),
            Self::Start { node, .. } => code(10, node),
            Self::Resume { node, .. } => code(11, node),
            Self::SlowEnds { node } => code(12, node),
            Self::Fault { nth, .. } => (13 << 32) | nth,
            Self::PartitionEnds { partition } => code(14, partition),
            Self::ClientNext { client } => code(15, client),
            Self::RequestArrives { client, .. } => code(16, client),
            Self::AnswerArrives { client, .. } => code(17, client),
            Self::ClientGivesUp { client, .. } => code(18, client),
            Self::CutOff { client, .. } => code(19, client),
            Self::Meet { node, .. } => code(20, node),
        }
    }
}

/// See the module.
pub struct World {
    pub(crate) settings: Settings,
    /// Virtual µs.
    pub(crate) now: u64,
    sequence: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    pub(crate) events: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) workload: Workload,
    pub(crate) faults: Faults,
    pub(crate) marks: Marks,
    pub(crate) trace: Trace,
    pub(crate) watch: Watch,
    partitions: Vec<Option<Partition>>,
    transfers: Vec<Option<Transfer>>,
    /// Once healed: the nodes that must make progress.
    pub(crate) core: Option<Vec<bool>>,
    /// The request of the world's own that is under way, and its answer.
    pub(crate) probing: Option<(u64, Option<crate::history::Outcome>)>,
    /// No fault before this.
    pub(crate) calm_until: u64,
    /// Clients send nothing new.
    pub(crate) quiet: bool,
}

impl World {
    /// The world of these settings, everybody about to start.
    pub fn new(settings: Settings, reduction: Reduction, told: bool) -> Self {
        let voters = usize::try_from(settings.voters).unwrap_or(3);
        let clients = settings.workload.clients.min(reduction.clients_max.unwrap_or(u64::MAX));
        let mut world = Self {
            now: 0,
            sequence: 0,
            heap: BinaryHeap::with_capacity(256),
            events: 0,
            nodes: (0..voters).map(|at| Node::new(at, &settings)).collect(),
            network: Network::new(&settings.network, settings.seed, voters),
            workload: Workload::new(&settings.workload, settings.seed, voters),
            faults: Faults::new(reduction),
            marks: Marks::default(),
            trace: Trace::new(told),
            watch: Watch::new(&settings),
            partitions: Vec::new(),
            transfers: Vec::new(),
            core: None,
            probing: None,
            calm_until: 0,
            quiet: false,
            settings,
        };
        for node in 0..voters {
            world.schedule(u64::try_from(node).unwrap_or(0), Happening::Start { node, life: 0 });
        }
        for client in 0..usize::try_from(clients).unwrap_or(1) {
            let pause = world.workload.pause_us(client);
            world.schedule(pause, Happening::ClientNext { client });
        }
        for kind in FaultKind::ALL {
            world.schedule_fault(kind, 0);
        }
        world
    }

    /// Puts it on the heap, `after` µs from now.
    pub(crate) fn schedule(&mut self, after: u64, what: Happening) {
        self.schedule_at(self.now.saturating_add(after), what);
    }

    pub(crate) fn schedule_at(&mut self, at: u64, what: Happening) {
        self.sequence += 1;
        self.heap.push(Reverse((at.max(self.now), self.sequence, what)));
    }

    /// The next thing happens. False if nothing is left to happen.
    pub(crate) fn next(&mut self) -> bool {
        let Some(Reverse((at, _, what))) = self.heap.pop() else { return false };
        self.now = at;
        self.events += 1;
        self.trace.add(at);
        self.trace.add(what.code());
        self.happens(what);
        true
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::Tick { node, life } => {
                if self.is_alive(node, life) {
                    let at = self.nodes[node].clock.next_tick(self.now);
                    self.schedule_at(at, Happening::Tick { node, life });
                    self.arrives(node, Arrived::Tick);
                }
            }
            Happening::Frame { slot } => self.on_frame(slot),
            Happening::Turn { node, life } => {
                if self.is_alive(node, life) {
                    self.nodes[node].turn_scheduled = false;
                    self.turn(node);
                }
            }
            Happening::Synced { node, life } => self.arrives_if_alive(node, life, Arrived::Synced),
            Happening::Flushed { node, life } => self.arrives_if_alive(node, life, Arrived::Flushed),
            Happening::Compact { node, life } => self.arrives_if_alive(node, life, Arrived::Compact),
            Happening::Unreachable { node, peer, life } => {
                self.arrives_if_alive(node, life, Arrived::Unreachable { peer });
            }
            Happening::SnapshotArrives { transfer } => self.on_snapshot_arrives(transfer),
            Happening::SnapshotReport { node, peer, delivered, life } => {
                self.arrives_if_alive(node, life, Arrived::SnapshotReport { peer, delivered });
            }
            Happening::Start { node, life } => {
                if self.nodes[node].life == life && !self.nodes[node].is_up() {
                    self.start(node);
                }
            }
            Happening::Resume { node, life } => {
                if self.is_alive(node, life) {
                    self.resume(node);
                }
            }
            Happening::SlowEnds { node } => self.nodes[node].slow = 1,
            Happening::Meet { node, life } => {
                if self.is_alive(node, life) {
                    self.on_meet(node, life);
                }
            }
            Happening::Fault { kind, nth } => self.on_fault(kind, nth),
            Happening::PartitionEnds { partition } => self.end_partition(partition),
            Happening::ClientNext { client } => self.on_client_next(client),
            Happening::RequestArrives { client, id } => self.on_request_arrives(client, id),
            Happening::AnswerArrives { client, id } => self.on_answer_arrives(client, id),
            Happening::ClientGivesUp { client, id } => self.on_client_gives_up(client, id),
            Happening::CutOff { client, id } => self.on_cut_off(client, id),
        }
    }

    fn is_alive(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].is_up()
    }

    fn arrives_if_alive(&mut self, node: usize, life: u64, what: Arrived) {
        if self.is_alive(node, life) {
            self.arrives(node, what);
        }
    }

    /// Shows it to the checkers.
    pub(crate) fn see(&mut self, observed: &Observed<'_>) {
        self.watch.see(self.now, observed);
    }

    /// What came of it.
    pub(crate) fn report(&mut self, seed: u64) -> RunReport {
        for node in &self.nodes {
            if let Some(replica) = &node.replica {
                node::count_marks(&mut self.marks, replica);
            }
        }
        RunReport {
            seed,
            events: self.events,
            virtual_us: self.now,
            violation: self.watch.violation().cloned(),
            marks: self.marks.clone(),
            trace_hash: self.trace.hash(),
            decided: self.watch.is_decided(),
            workload: self.workload.figures,
            requests: self.workload.requests(),
            faults: self.faults.happened().keys().copied().collect(),
            story: self.trace.lines().to_vec(),
        }
    }

    /// The rule that was broken, if one was.
    pub fn violation(&self) -> Option<&Violation> {
        self.watch.violation()
    }
}

/// The id that peers go by.
pub(crate) fn id_of(node: usize) -> u64 {
    u64::try_from(node).unwrap_or(u64::MAX).saturating_add(1)
}

/// The node with this id. Only of ids that the world itself gave.
pub(crate) fn node_of(id: u64) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX).saturating_sub(1)
}
