//! What a peer's own host tells it. Only the host makes these; nothing that came from the network can become one.

use crate::{EntryId, Message};
use bytes::Bytes;

/// An event of this node. Names of the form `…Done`, `…Sent` report what an earlier effect asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// One unit of time has passed.
    Tick,
    /// The host's clock shows `now`: read after everything that was stepped before this. Only for lease reads; the best place is
    /// right before the effects are taken.
    Clock {
        /// µs since any moment, but never less than before. It must count the time during which the machine was suspended.
        now: u64,
    },
    /// A message arrived. It may be stale, repeated, reordered or from a confused peer: it is dropped, never trusted blindly.
    Receive(Message),
    /// A client's command. On the leader it is appended, on a follower forwarded; if neither is possible it comes back in
    /// `Effects::refused` with the same `ticket`, and is then certain never to take effect.
    Propose {
        /// The host's name for it, in case it is refused.
        ticket: u64,
        /// What the state machine applies; empty commands are the no-ops' alone.
        command: Bytes,
        /// Travels with the command, opaque.
        context: Option<Bytes>,
    },
    /// A linearizable read wants an index. Answered once in `Effects::reads_ready` or `Effects::reads_failed`.
    ReadIndex {
        /// The host's name for it.
        id: u64,
    },
    /// The write with this id is durable, all of it.
    WriteDone {
        /// `Write::id`.
        id: u64,
    },
    /// The state machine has applied everything up to `index`.
    Applied {
        /// At most what was handed out.
        index: u64,
    },
    /// The state of `Effects::install` is in place, durable, log and hard state included.
    SnapshotInstalled {
        /// The snapshot's position.
        last: EntryId,
    },
    /// The host has finished (or given up) sending the snapshot to this peer.
    SnapshotSent {
        /// `SendSnapshot::to`.
        to: u64,
        /// False if it has to be tried again.
        delivered: bool,
    },
    /// The transport lost its connection to this peer: a leader falls back to probing it, a follower whose leader it is soon asks
    /// whether it could lead.
    Unreachable {
        /// The other side.
        peer: u64,
    },
    /// Hand leadership to `to`. Ignored when not leader.
    TransferLeadership {
        /// A voter.
        to: u64,
    },
    /// Campaign now (tests and operators).
    Campaign,
    /// This peer has promised more than its disk holds (R15): it takes part, but neither votes nor leads until its durable log
    /// reaches `until`. A leader steps down. For what is known at start already there is `InitialState::recover_until`.
    Recover {
        /// The highest position it can have acknowledged, in Raft's order. None: not known yet; the peer then hears and says
        /// nothing until a second `Recover` tells it.
        until: Option<EntryId>,
        /// Its term is raised to at least this, durably, and no vote is given in this term: one may have been given before.
        term: u64,
    },
}
