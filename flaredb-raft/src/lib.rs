//! FlareDB's consensus core: Raft as a pure function of events.
//!
//! A [`Peer`] takes part in one region's group of voters. It does no I/O, has no clock and no threads: the host feeds it
//! [`Event`]s (a tick, a message, a proposal, "this write is durable") and does what the [`Effects`] say (write, send, apply),
//! in the order that `Effects` describes. The same events give the same effects, always; so disks, networks and crashes can be
//! simulated, and one bug found is found for good.
//!
//! What it is: elections with pre-vote and check-quorum, pipelined and batched replication, commit, ReadIndex reads,
//! leadership transfer, lease reads as an option, snapshots, proposals forwarded from followers at most once. What it is not: a log on disk
//! ([`RaftStorage`] is only read), a state machine, a transport; and the set of voters is fixed.
//! `docs/raft.md` tells where each part of the paper is and what differs from it.
//!
//! # Three peers in one process
//!
//! ```
//! use bytes::Bytes;
//! use flaredb_raft::{Config, Effects, Event, MemoryStorage, Message, Peer, PeerState};
//! use std::collections::VecDeque;
//!
//! type Error = Box<dyn std::error::Error>;
//!
//! /// Does what a peer asks for. `Effects` is taken apart without `..`: a new effect would not compile until it is handled.
//! fn run(peer: &mut Peer<MemoryStorage>, network: &mut VecDeque<Message>, applied: &mut Vec<Bytes>) -> Result<(), Error> {
//!     while peer.has_effects() {
//!         let Effects {
//!             write,
//!             send_now,
//!             send_after_write,
//!             apply,
//!             reads_ready: _,
//!             reads_failed: _,
//!             refused: _,
//!             install: _,
//!             send_snapshot: _,
//!             leadership: _,
//!         } = peer.take_effects();
//!         network.extend(send_now);
//!         if let Some(write) = write {
//!             peer.storage().apply_write(&write); // a real host syncs here
//!             peer.step(Event::WriteDone { id: write.id })?;
//!         }
//!         network.extend(send_after_write);
//!         for entry in apply {
//!             applied.push(entry.command);
//!             peer.step(Event::Applied { index: entry.index })?;
//!         }
//!     }
//!     Ok(())
//! }
//!
//! let voters = [1, 2, 3];
//! let mut peers = voters
//!     .iter()
//!     .map(|id| Peer::new(Config::new(*id, 1), MemoryStorage::new(&voters), 0))
//!     .collect::<Result<Vec<_>, _>>()?;
//! let mut network = VecDeque::new();
//! let mut applied = Vec::new();
//!
//! // One peer is asked to campaign, and another gets a proposal as soon as it knows a leader to forward it to.
//! peers[0].step(Event::Campaign)?;
//! run(&mut peers[0], &mut network, &mut applied)?;
//! let mut proposed = false;
//! while let Some(message) = network.pop_front() {
//!     let peer = &mut peers[message.to as usize - 1];
//!     peer.step(Event::Receive(message))?;
//!     if peer.status().id == 3 && peer.status().leader.is_some() && !proposed {
//!         peer.step(Event::Propose { ticket: 1, command: Bytes::from("put x"), context: None })?;
//!         proposed = true;
//!     }
//!     run(peer, &mut network, &mut applied)?;
//! }
//! assert_eq!(peers[0].status().state, PeerState::Leader);
//! assert_eq!(applied.iter().filter(|command| *command == "put x").count(), 3, "applied by all three");
//! # Ok::<(), Error>(())
//! ```
#![no_std]
extern crate alloc;

/// True where a bug is put back on purpose (crate `flaredb-mutants`); the constant `false` in every normal build.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        flaredb_mutants::on(flaredb_mutants::Mutant::$name)
    };
}
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        crate::no_mutant(stringify!($name))
    };
}

#[cfg(not(feature = "mutants"))]
const fn no_mutant(_name: &str) -> bool {
    false
}

mod config;
mod counters;
mod effects;
mod election;
mod entry;
mod event;
mod fingerprint;
mod follower;
mod forward;
mod leader;
mod lease;
mod log;
mod memory_storage;
mod message;
mod num;
mod output;
mod peer;
mod prng;
mod quorum;
mod read_index;
mod recovery;
mod replication;
mod role;
mod start;
mod state;
mod storage;

pub use config::Config;
pub use counters::Counters;
pub use effects::{Effects, LeadershipChange, ReadReady, RefuseReason, Refused, SendSnapshot, Write};
pub use entry::{EntryId, RaftLogEntry};
pub use event::Event;
pub use memory_storage::MemoryStorage;
pub use message::{AppendResult, Body, ForwardedProposal, Message};
pub use peer::Peer;
pub use replication::ReplicationState;
pub use start::StartError;
pub use state::{ConfState, HardState, PeerState, PeerStatus, SnapshotMeta};
pub use storage::{InitialState, RaftStorage, StorageError};
