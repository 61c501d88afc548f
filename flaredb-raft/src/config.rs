//! A peer's settings. All times are ticks; all sizes are bytes.

/// Settings of one peer. `Config::new` gives the defaults of a server with a 100 ms tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This peer. Never 0.
    pub id: u64,
    /// The region it takes part in; messages of others are dropped.
    pub region_id: u64,
    /// A follower that hears nothing campaigns after this many ticks, plus a random 0..same number.
    pub election_timeout_ticks: u32,
    /// A leader sends at least this often; must be less than the election timeout.
    pub heartbeat_interval_ticks: u32,
    /// Upper bound of entry bytes in one AppendEntries; at least one entry is always sent.
    pub append_bytes_max: u64,
    /// Unacknowledged AppendEntries per follower, by count and by bytes.
    pub inflight_max: usize,
    /// See `inflight_max`; at least one append is always sent.
    pub inflight_bytes_max: u64,
    /// A leader refuses proposals beyond this many bytes of uncommitted entries.
    pub uncommitted_bytes_max: u64,
    /// Bytes of committed entries handed out per Effects, at least one entry; four times that may wait to be reported applied.
    pub apply_bytes_max: u64,
    /// Recent entries kept in memory, so that replication and apply do not read the disk.
    pub cache_bytes_max: u64,
    /// A write that is out for longer than this many ticks has stalled: a leader hands over and, an election timeout later,
    /// steps down; others do not campaign.
    pub write_stall_ticks: u32,
    /// Lease reads: for so many µs of the host's clock a peer that hears a leader gives no vote, and a leader's lease is nine
    /// elevenths of it. 0: off. Else the host must step `Event::Clock`, and elections after a silent leader take that much longer;
    /// an election timeout is a good value. A leader counts only on peers that pledge at least its own.
    pub lease_us: u64,
    /// What the last life of this peer may have pledged, µs, if it was started with another `lease_us`. Needs `Event::Clock` as well.
    pub former_lease_us: u64,
    /// Seed of the randomized election timeout.
    pub seed: u64,
    /// Differs at every start of this peer; makes read ids unique over restarts.
    pub incarnation: u64,
}

impl Config {
    /// The defaults of a server with a 100 ms tick: elections after 1 to 2 s, a heartbeat every 100 ms, and two
    /// election timeouts for a write.
    pub fn new(id: u64, region_id: u64) -> Self {
        Self {
            id,
            region_id,
            election_timeout_ticks: 10,
            heartbeat_interval_ticks: 1,
            append_bytes_max: 1 << 20,
            inflight_max: 64,
            inflight_bytes_max: 8 << 20,
            uncommitted_bytes_max: 64 << 20,
            apply_bytes_max: 4 << 20,
            cache_bytes_max: 32 << 20,
            write_stall_ticks: 20,
            lease_us: 0,
            former_lease_us: 0,
            seed: id,
            incarnation: 0,
        }
    }
}
