//! A replica's settings: the peer's, plus what concerns clients and the log. All times are ticks.

/// Settings of a replica. [`ReplicaConfig::new`] gives the defaults of a server with a 100 ms tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// The peer's settings. `raft.incarnation` must differ at every start of this node: it tells the entries that this
    /// process proposed from those of its earlier lives.
    pub raft: flaredb_raft::Config,
    /// A proposal or read without an answer after this many ticks is answered `NoLeader` or `Timeout`.
    pub request_timeout_ticks: u32,
    /// An unanswered read index is asked again, under a new id, after this many ticks.
    pub read_retry_ticks: u32,
    /// So many entries must become removable before a truncation of the log is worth asking for.
    pub snapshot_count: u64,
    /// Entries kept below the flushed index for slow followers.
    pub catch_up_entries: u64,
    /// Fewer are kept if they have this many bytes already.
    pub catch_up_bytes: u64,
    /// Proposals are refused (`TooManyRequests`) while commit is ahead of applied by more than this, and was when the host had last
    /// drained every output: what only waits to be drained is no backlog.
    pub apply_lag_max: u64,
    /// Proposals waiting at once. Beyond it a new one is refused: `NoLeader` if none is known, else `TooManyRequests`.
    pub proposals_max: usize,
    /// Bytes of commands waiting at once, refused likewise.
    pub proposal_bytes_max: u64,
    /// Reads waiting at once; beyond it a new one is refused (`TooManyRequests`).
    pub reads_max: usize,
    /// Keep every entry that some voter does not hold yet. Must be on while a peer cannot be sent a snapshot.
    pub keep_log_for_all: bool,
}

impl ReplicaConfig {
    /// The defaults, around a peer's settings.
    pub fn new(raft: flaredb_raft::Config) -> Self {
        Self {
            raft,
            request_timeout_ticks: 70,
            read_retry_ticks: 5,
            snapshot_count: 10_000,
            catch_up_entries: 5_000,
            catch_up_bytes: 8 << 20,
            apply_lag_max: 5_000,
            proposals_max: 16_384,
            proposal_bytes_max: 128 << 20,
            reads_max: 65_536,
            keep_log_for_all: true,
        }
    }
}
