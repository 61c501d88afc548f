//! From a data folder and settings to a replica that can take part: the part of a start that reads the disk.

use super::{REGION_ID, StartError};
use crate::{
    config::{NodeConfig, StorageProfile},
    driver::Lease,
    identity::ClusterIdentity,
    transport::Memory,
};
use flaredb_replica::{Replica, ReplicaConfig, acquaintance::StartId};
use flaredb_storage::{
    DataDir, DataOptions, DataStore, Identity, LogOptions, LogReader, LogWriter, OpenError, Recovery,
};
use std::{
    fs::File,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A request without an answer ends after this and two election timeouts: time to elect a leader and try again.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Entries that must be removable before the log is truncated. It follows each flush, which waits for many entries or for many
/// bytes: where entries are large, the log must not wait for their number.
const TRUNCATION_MIN: u64 = 1000;

/// What a node starts from.
pub(super) struct Opened {
    pub(super) dir: Arc<DataDir>,
    pub(super) data_options: DataOptions,
    /// Of the disk; below it puts are refused.
    pub(super) free_bytes_min: u64,
    pub(super) lease: Lease,
    pub(super) memory: Arc<Memory>,
    /// Whether the member may vote and lead.
    pub(super) recovery: Recovery,
    pub(super) replica: Replica<LogReader, DataStore>,
    pub(super) log_writer: LogWriter,
}

/// Opens the data folder and joins what is in it; refuses what does not fit together.
pub(super) fn open(config: &NodeConfig, cluster: &ClusterIdentity) -> Result<Opened, StartError> {
    let identity = Identity {
        cluster_id: cluster.cluster_id,
        member_id: cluster.member_id,
        region_id: REGION_ID,
        name: config.name.clone(),
        voters: cluster.members.iter().map(|member| member.id).collect(),
    };
    let (log_options, data_options) = match config.storage_profile {
        StorageProfile::Server => (LogOptions::default(), DataOptions::default()),
        StorageProfile::Small => (LogOptions::small(), DataOptions::small()),
    };
    let dir = Arc::new(DataDir::open(&config.data_dir, &identity)?);
    dir.remove_leftovers()?;
    let opened = flaredb_storage::open(&dir, &log_options, &data_options)?;
    if let Some(why) = &opened.why {
        tracing::error!(node = %config.name, why, "this member's disk has lost something");
    }
    // Before the transport starts: nobody may hear of a start that this folder could forget.
    let memory = Memory::open(dir.member_path(), draw_start_id()?)
        .map_err(|error| OpenError::Io { path: error.path, what: error.what })?;
    let pledge = if config.lease_reads { config.election_timeout } else { Duration::ZERO };
    let lease = Lease::open(dir.member_path(), pledge)?;
    let mut replica = replica_config(config, cluster.member_id);
    lease.configure(&mut replica.raft);
    let replica = Replica::new(replica, opened.log, opened.kv)?;
    // What the log's memtables flush at once, twice, and the rows' beside it.
    let free_bytes_min = u64::try_from(log_options.wal_bytes).unwrap_or(0).saturating_mul(4);
    let (memory, recovery, log_writer) = (Arc::new(memory), opened.recovery, opened.writer);
    Ok(Opened { dir, data_options, free_bytes_min, lease, memory, recovery, replica, log_writer })
}

fn replica_config(config: &NodeConfig, member_id: u64) -> ReplicaConfig {
    let mut raft = flaredb_raft::Config::new(member_id, REGION_ID);
    let tick = config.heartbeat_interval;
    raft.heartbeat_interval_ticks = 1;
    raft.election_timeout_ticks = ticks(config.election_timeout, tick).max(2);
    raft.write_stall_ticks = raft.election_timeout_ticks.saturating_mul(2);
    raft.incarnation = incarnation();
    // Members that start at the same moment must not draw the same timeouts.
    raft.seed = xxhash_rust::xxh3::xxh3_64(&[member_id.to_le_bytes(), raft.incarnation.to_le_bytes()].concat());
    let mut replica = ReplicaConfig::new(raft);
    replica.request_timeout_ticks = ticks(REQUEST_TIME + config.election_timeout * 2, tick);
    replica.read_retry_ticks = (ticks(config.election_timeout, tick) / 2).max(1);
    replica.snapshot_count = config.snapshot_count.min(TRUNCATION_MIN);
    // Someone who wants a short log wants a short tail too.
    replica.catch_up_entries = replica.catch_up_entries.min(config.snapshot_count);
    // A member that stays away for long is sent a snapshot.
    replica.keep_log_for_all = false;
    replica
}

/// Rounded up, at least one.
fn ticks(time: Duration, tick: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(tick.as_nanos().max(1))).unwrap_or(u32::MAX).max(1)
}

/// Never the same twice, also on copies of a folder and of a machine: from the operating system.
fn draw_start_id() -> Result<StartId, OpenError> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0; 8];
    let drawn = File::open(SOURCE).and_then(|mut source| source.read_exact(&mut bytes));
    drawn.map_err(|error| OpenError::Io { path: SOURCE.into(), what: error.to_string() })?;
    Ok(StartId(u64::from_le_bytes(bytes).max(1)))
}

/// Differs at every start, on this machine and others, and rises as long as the clock does.
fn incarnation() -> u64 {
    static STARTS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let starts = STARTS.fetch_add(1, Ordering::Relaxed);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).wrapping_add(u64::from(std::process::id())).wrapping_add(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_whole_ticks_and_never_none() {
        let ms = Duration::from_millis;
        assert_eq!(ticks(ms(1000), ms(100)), 10);
        assert_eq!(ticks(ms(1001), ms(100)), 11);
        assert_eq!(ticks(ms(1), ms(100)), 1);
        assert_eq!(ticks(Duration::MAX, ms(1)), u32::MAX);
    }

    #[test]
    fn every_start_has_an_incarnation_of_its_own() {
        let starts: std::collections::BTreeSet<u64> = (0..1000).map(|_| incarnation()).collect();
        assert_eq!(starts.len(), 1000);
    }
}
