//! The core alone under faults: three or five real peers, a log in memory that loses what was not durable, a state machine that
//! is one hash, a network that loses, repeats, reorders and cuts. Fast, so that rare interleavings come up; the whole stack
//! runs in the big simulator.
//!
//! A run is a function of its seed. Faults last for the first nine tenths of its events; then everything heals, and progress
//! is required.

mod node;
mod rules;
mod settings;
mod world;

use crate::observed::Violation;

/// What came out of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of which run.
    pub seed: u64,
    /// Messages, ticks, finished writes, proposals and faults that were handled.
    pub events: u64,
    /// The same for the same seed, on every machine and in every build.
    pub trace_hash: u64,
    /// The first broken rule; the run ends with it.
    pub violation: Option<Violation>,
    /// What the run was worth.
    pub coverage: Coverage,
}

/// How much of everything happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Highest index that was committed.
    pub committed: u64,
    /// Leaders that were elected.
    pub leaders: u64,
    /// Peers that lost what they had in memory.
    pub crashes: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Partitions and one-way cuts.
    pub cuts: u64,
    /// Reads that were answered with an index.
    pub reads: u64,
}

/// Runs one seed for about so many events, or until a rule is broken. A panic of the core is a broken rule too.
pub fn run_seed(seed: u64, events: u64) -> Report {
    world::World::new(seed, events).run()
}
