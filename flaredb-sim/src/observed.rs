//! What the simulated world shows to the checkers, in the order in which it happens. Checkers see no internals of the world:
//! what is not in here they cannot know, and what is in here the world must say truthfully.

use crate::history::{Op, Outcome, Record};
use flaredb_kv::{AppliedState, Kv, MemoryStore};
use flaredb_raft::{EntryId, HardState, Message, PeerStatus, RaftLogEntry, SnapshotMeta, Write};
use std::fmt;

/// One observation. Node ids are 1..=n.
#[derive(Debug)]
pub enum Observed<'a> {
    /// A node is up and has read its disk (after what the judgement at start cut away).
    Started {
        /// Who.
        node: u64,
        /// Rises with every start of this node, also over a wiped disk.
        incarnation: u64,
        /// As read (terms and votes of the durable mark included).
        hard_state: HardState,
        /// Position the log was compacted to.
        compacted_to: EntryId,
        /// Everything in its durable log, in order, from `compacted_to` on.
        entries: &'a [RaftLogEntry],
        /// What its state machine holds durably.
        applied: AppliedState,
        /// It knows that it lost something: until its log has reached this (Raft's order) it must not vote. `u64::MAX` term
        /// while what it lost is not known yet (wiped disk, old backup).
        recovering: Option<EntryId>,
        /// Its disk was wiped or replaced by an old backup while it was down.
        disk_replaced: bool,
    },
    /// A node found its disk damaged in a way that it cannot be started from, and stays down.
    Halted {
        /// Who.
        node: u64,
        /// Its words.
        why: &'a str,
    },
    /// A node went down, all it had in memory is gone.
    Crashed {
        /// Who.
        node: u64,
    },
    /// A node's replica has taken in one input.
    Stepped {
        /// Who.
        node: u64,
        /// The peer before.
        before: &'a PeerStatus,
        /// And after.
        after: &'a PeerStatus,
    },
    /// The replica asks for this to be made durable.
    WriteAsked {
        /// Who.
        node: u64,
        /// What.
        write: &'a Write,
    },
    /// The disk says that it is durable; from here on it must survive every crash within the fault budget.
    WriteDurable {
        /// Who.
        node: u64,
        /// What.
        write: &'a Write,
    },
    /// A message leaves the node (whether it arrives is the network's business).
    Sent {
        /// `from` is the node.
        message: &'a Message,
    },
    /// A message is handed to the node's replica.
    Delivered {
        /// `to` is the node.
        message: &'a Message,
    },
    /// The state machine of a node has applied entries: `from + 1 ..= to.index`.
    Applied {
        /// Who.
        node: u64,
        /// Applied index before.
        from: u64,
        /// State after.
        to: AppliedState,
        /// The state machine itself, for those who want to hash or read it.
        kv: &'a Kv<MemoryStore>,
    },
    /// The log was cut below this entry.
    Truncated {
        /// Who.
        node: u64,
        /// The last entry that is gone.
        up_to: EntryId,
    },
    /// A snapshot replaced log and state.
    Installed {
        /// Who.
        node: u64,
        /// Its position.
        snapshot: &'a SnapshotMeta,
        /// The state it brought.
        kv: &'a Kv<MemoryStore>,
    },
    /// A client sent a request.
    Invoked {
        /// Numbers the requests of a run.
        id: u64,
        /// Who asks; one request at a time.
        client: u64,
        /// Through which node.
        node: u64,
        /// What.
        op: &'a Op,
    },
    /// A member has taken a client's request in, and has to answer it within so many of its own ticks.
    RequestTaken {
        /// Who.
        node: u64,
        /// The request's.
        id: u64,
        /// The timeout that it is configured with.
        within_ticks: u64,
    },
    /// The member answered it, whatever becomes of the answer on its way; or the client withdrew the request.
    RequestDone {
        /// Who.
        node: u64,
        /// The request's.
        id: u64,
    },
    /// The member's clock ticked, and the member has taken that in.
    Ticked {
        /// Who.
        node: u64,
    },
    /// At this moment a leader may serve reads by its lease.
    LeaseHeld {
        /// Who.
        node: u64,
        /// The term that it leads.
        term: u64,
    },
    /// The member has carried out all that followed from what it had taken in.
    TurnEnded {
        /// Who.
        node: u64,
    },
    /// A client has its answer, or has given up (`Unknown`).
    Answered {
        /// The request with its answer.
        record: &'a Record,
    },
    /// The faults are over: from now on progress is required of these nodes.
    Healed {
        /// The random quorum (or more) that is whole again.
        core: &'a [u64],
    },
    /// The run is over. `kvs` are the state machines of the nodes that are up, all caught up if `converged`.
    Ended {
        /// The world believes that all of `kvs` have applied the same index.
        converged: bool,
        /// Node and state machine.
        kvs: &'a [(u64, &'a Kv<MemoryStore>)],
    },
}

/// A broken rule. The run ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The checker's name, stable over versions: shrinking and the mutants' table go by it.
    pub rule: &'static str,
    /// What was seen, with nodes as `n1@term` and positions as `index@term`.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl Outcome {
    /// True if a client was told something definite.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown)
    }
}
