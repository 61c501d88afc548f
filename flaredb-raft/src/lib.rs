//! FlareDB's consensus core: Raft as a pure function of events.
//!
//! A [`Peer`] takes part in one region's group of voters. It does no I/O, has no clock and no threads: the host feeds it
//! [`Event`]s (a tick, a message, a proposal, "this write is durable") and does what the [`Effects`] say (write, send, apply),
//! in the order that `Effects` describes. The same events give the same effects, always; so disks, networks and crashes can be
//! simulated, and one bug found is found for good.
//!
//! What it is: elections with pre-vote and check-quorum, pipelined and batched replication, commit, ReadIndex reads,
//! leadership transfer, snapshots, proposals forwarded from followers at most once. What it is not: a log on disk
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
//! let voters = [1, 2, 3];
//! let mut peers = voters
//!     .iter()
//!     .map(|id| Peer::new(Config::new(*id, 1), MemoryStorage::new(&voters), 0))
//!     .collect::<Result<Vec<_>, _>>()?;
//! let mut network: VecDeque<Message> = VecDeque::new();
//! let mut applied: Vec<(u64, Bytes)> = Vec::new();
//!
//! // Does what a peer asks for. `Effects` is taken apart without `..`: a new effect would not compile until it is handled.
//! let mut run = |peer: &mut Peer<MemoryStorage>, network: &mut VecDeque<Message>| -> Result<(), Error> {
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
//!             applied.push((peer.status().id, entry.command));
//!             peer.step(Event::Applied { index: entry.index })?;
//!         }
//!     }
//!     Ok(())
//! };
//!
//! // The first peer is asked to campaign; messages travel until there are none left.
//! peers[0].step(Event::Campaign)?;
//! run(&mut peers[0], &mut network)?;
//! let mut deliver = |peers: &mut Vec<Peer<MemoryStorage>>, network: &mut VecDeque<Message>| -> Result<(), Error> {
//!     while let Some(message) = network.pop_front() {
//!         let peer = &mut peers[message.to as usize - 1];
//!         peer.step(Event::Receive(message))?;
//!         run(peer, network)?;
//!     }
//!     Ok(())
//! };
//! deliver(&mut peers, &mut network)?;
//! assert_eq!(peers[0].status().state, PeerState::Leader);
//!
//! // A proposal made at a follower reaches the leader, is replicated, committed, and applied by all three.
//! peers[2].step(Event::Propose { ticket: 1, command: Bytes::from("put x"), context: None })?;
//! peers[2].step(Event::Tick)?;
//! network.extend(peers[2].take_effects().send_now);
//! deliver(&mut peers, &mut network)?;
//! assert_eq!(applied.iter().filter(|(_, command)| command == "put x").count(), 3);
//! # Ok::<(), Error>(())
//! ```
#![no_std]
extern crate alloc;

mod config;
mod counters;
mod effects;
mod election;
mod entry;
mod event;
mod follower;
mod forward;
mod leader;
mod log;
mod memory_storage;
mod message;
mod num;
mod output;
mod peer;
mod prng;
mod quorum;
mod read_index;
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
