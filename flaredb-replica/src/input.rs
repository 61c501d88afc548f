//! What the host tells the replica.

use bytes::Bytes;
use flaredb_kv::CommandKind;
use flaredb_raft::{EntryId, Message};

/// One thing that happened. Tickets are the host's: any number that is not waiting already.
#[derive(Clone, Debug)]
pub enum Input {
    /// One unit of time has passed. Every timeout counts these.
    Tick,
    /// The host's clock, read after everything that was stepped before: see [`flaredb_raft::Event::Clock`]. Only for lease reads.
    Clock {
        /// In µs.
        now: u64,
    },
    /// A message from another peer, as [`wire::decode_messages`](crate::wire::decode_messages) gave it.
    Receive(Message),
    /// A write, already checked against the limits.
    Propose {
        /// Comes back with the answer.
        ticket: u64,
        /// What the command is.
        kind: CommandKind,
        /// The client's request message, unchanged.
        command: Bytes,
    },
    /// A linearizable read; answered `ReadReady` once the state machine has applied what the read must see.
    Read {
        /// Comes back with the answer.
        ticket: u64,
    },
    /// The client has gone; forget the ticket. An answer that is under way already may still come out.
    Cancel {
        /// A ticket, waiting or not.
        ticket: u64,
    },
    /// The write with this id is durable, all of it.
    WriteDone {
        /// From `Output::write`.
        id: u64,
    },
    /// The data store has flushed everything up to this applied index to disk: the log may be truncated up to there.
    Flushed {
        /// At most the applied index.
        applied_index: u64,
    },
    /// The state of `Output::install` is in place, durable, and `Replica::kv_mut` shows it.
    SnapshotInstalled {
        /// The snapshot's position.
        last: EntryId,
    },
    /// The host has finished (or given up) sending a snapshot.
    SnapshotSent {
        /// To this peer.
        to: u64,
        /// False if it was given up.
        delivered: bool,
    },
    /// The transport lost its connection to this peer.
    Unreachable {
        /// The peer's id.
        peer: u64,
    },
    /// Hand leadership over. Ignored when not leader.
    TransferLeadership {
        /// The peer that is to lead.
        to: u64,
    },
    /// This node once acknowledged more than its disk holds, or may have: it neither votes nor leads until it has caught up
    /// (R15 in `docs/raft.md`). What is found at start goes into the log's `InitialState`; this is for what other nodes tell.
    Recover {
        /// What it promised. None: not known yet; it then hears and says nothing until it is told.
        until: Option<EntryId>,
        /// Its term is raised to at least this, and no vote is given in it.
        term: u64,
    },
    /// Campaign without waiting for the election timeout. Harmless where a leader is heard: pre-votes are refused there.
    Campaign,
}
