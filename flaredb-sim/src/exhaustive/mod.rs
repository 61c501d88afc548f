//! The exhaustive model: every order of deliveries, timeouts, disk writes and crashes that three real peers can see within
//! small bounds, breadth first, so that the first violation found is one of the shortest.
//!
//! The peers are `flaredb_raft::Peer` itself, over a disk by value (`disk`). What one peer does with one event depends on
//! nothing else, so each (peer state, event) is run once and remembered (`tables`); a state of the whole is then a few
//! numbers (`state`), and exploring ten million of them takes minutes.
//!
//! The network never forgets: what was sent once may arrive at any time, in any order, any number of times, or never. So any
//! number of lost, repeated and reordered messages is covered, and a state needs no record of what has arrived already.
//!
//! Three reductions, each of which loses no violation of a safety rule:
//! - *A delivery that changes nothing and says nothing new is no step.*
//! - *Answers of a term that their receiver's disk has left behind are forgotten.* The core drops them in every later state.
//! - *The first to campaign is n1.* Until then the peers differ in nothing but their names.
//!
//! What it is not: it leaves out snapshots, reads, forwarded proposals and transfers, and time is only "an election timeout
//! has passed" and "a heartbeat is due". Those are the simulator's.

mod disk;
mod explore;
mod node;
mod state;
mod story;
mod tables;
mod visited;

pub use explore::run;

use crate::observed::Violation;

/// What is bounded, and by how much. The cluster has three peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Highest term; at most 3.
    pub terms: u64,
    /// Nothing is proposed once the leader's log is so long (no-ops included); at most 6.
    pub entries: u64,
    /// Proposals in total.
    pub proposals: u8,
    /// Election timeouts in total.
    pub campaigns: u8,
    /// Heartbeats in total.
    pub heartbeats: u8,
    /// Crashes in total; the peer comes back at once. The write that is out then is lost or not: both are tried.
    pub crashes: u8,
    /// Where it begins.
    pub from: Start,
    /// Stop after so many distinct states; 12 bytes of memory each are taken at the start.
    pub states_max: u64,
    /// A rule that is broken on purpose, to see that the model can fail.
    pub sabotage: Sabotage,
}

impl Default for Options {
    /// The bounds of the release figure: 2 terms, 3 entries, 1 crash, any losses and repetitions.
    fn default() -> Self {
        Self {
            terms: 2,
            entries: 3,
            proposals: 1,
            campaigns: 3,
            heartbeats: 1,
            crashes: 1,
            from: Start::Fresh,
            states_max: 30_000_000,
            sabotage: Sabotage::None,
        }
    }
}

/// Where a model begins. Every start is reached by steps of the model itself, which are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Three empty disks.
    #[default]
    Fresh,
    /// n1 has won term 1, and everything that was sent for it has arrived.
    Elected,
}

/// What can be broken on purpose, outside of the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// A crash takes a synced vote with it.
    VoteLostAtCrash,
    /// A crash takes the last synced entry with it.
    EntryLostAtCrash,
    /// What must wait for a write leaves beside it; the model looks for what comes of it.
    SentBesideWrite,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Different states seen, all of them checked.
    pub states: u64,
    /// Steps between them that were tried.
    pub steps: u64,
    /// Steps from the start to the farthest state.
    pub depth: u64,
    /// Different states of a single peer.
    pub peer_states: u64,
    /// (peer state, event) pairs that the core was really run with.
    pub peer_steps: u64,
    /// Different messages.
    pub messages: u64,
    /// Leaders were elected, and entries committed, in so many of the states: the model is worth something.
    pub states_with_commit: u64,
    /// Nothing is left within the bounds; otherwise it stopped at `states_max`.
    pub complete: bool,
    /// The first violation, with the steps that lead to it.
    pub failure: Option<Failure>,
}

/// A broken rule and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What.
    pub violation: Violation,
    /// One line a step.
    pub story: Vec<String>,
}

/// How far it has come, for a progress line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps from the start of the states at hand.
    pub depth: u64,
    /// Different states so far.
    pub states: u64,
    /// Of these, seen and not yet continued.
    pub open: u64,
}
