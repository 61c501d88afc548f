//! What a peer's own host tells it. Only the host makes these; nothing that came from the network can become one.

use crate::{EntryId, Message};
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// One unit of time has passed.
    Tick,
    /// A message arrived. It may be stale, repeated, reordered or from a confused peer: it is dropped, never trusted blindly.
    Receive(Message),
    /// A client's command. On the leader it is appended, on a follower forwarded; if neither is possible it comes back in
    /// `Effects::refused` with the same `ticket`, and is then certain never to take effect.
    Propose { ticket: u64, command: Bytes, context: Option<Bytes> },
    /// A linearizable read wants an index. Answered once in `Effects::reads_ready` or `Effects::reads_failed`.
    ReadIndex { id: u64 },
    /// The write with this id is durable, all of it.
    WriteDone { id: u64 },
    /// The state machine has applied everything up to `index`.
    Applied { index: u64 },
    /// The state of `Effects::install` is in place, durable, log and hard state included.
    SnapshotInstalled { last: EntryId },
    /// The host has finished (or given up) sending the snapshot to this peer.
    SnapshotSent { to: u64, delivered: bool },
    /// The transport lost its connection to this peer; fall back to probing it.
    Unreachable { peer: u64 },
    /// Hand leadership to `to`. Ignored when not leader.
    TransferLeadership { to: u64 },
    /// Campaign now (tests and operators).
    Campaign,
}
