//! What a replica has counted since it started; for metrics and for tests.

/// Counts since the start of this replica. They only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries handed to the state machine.
    pub entries_applied: u64,
    /// Batches they were handed over in.
    pub apply_batches: u64,
    /// Applied entries whose context this version cannot read: without effect, on every node alike.
    pub entries_malformed: u64,
    /// Entries of this process whose client no longer waited when they were applied.
    pub outcomes_unclaimed: u64,
    /// Proposals handed to the peer, each attempt counted.
    pub proposals_handed_on: u64,
    /// Proposals held back because no leader would take them, each time counted.
    pub proposals_held: u64,
    /// Proposals refused because of a limit.
    pub proposals_refused: u64,
    /// Writes answered `LeaderLost`.
    pub proposals_lost: u64,
    /// Read indexes asked for; one serves many reads.
    pub read_indexes_asked: u64,
    /// Reads answered `ReadReady`.
    pub reads_ready: u64,
    /// Reads and writes that ran out of time.
    pub requests_timed_out: u64,
    /// Truncations of the log asked for.
    pub log_truncations: u64,
}
