//! What the two databases are opened with, and why. The measurements behind the figures are in docs/storage.md.

use crate::layout::{DATA_CF, RAFT_LOG_CF, RAFT_STATE_CF};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    SliceTransform,
};
use std::time::Duration;

/// The extractor's name in the files: another name, and RocksDB reads their filters no more.
const ROW_PREFIX: &str = "flaredb.row_prefix.1";
/// Of a memtable's bytes: 28 bits for each 350 bytes, what a small put adds.
const MEMTABLE_BLOOM_RATIO: f64 = 0.01;

/// Flushed files that are merged into the next level at once. Each merge rewrites the level below as well, so that many small
/// files at a time cost less; what a search pays for them is little, as most are passed over by their filters.
const LEVEL_0_FILES: i32 = 8;

/// Values of rows from this size on are kept in files of their own (RocksDB's blob files), of which the tables hold only where.
/// Merges then do not rewrite them, and a large value is written once where it was written two times and more; what a read pays
/// for it, one more read, is little beside a value of this size.
const BLOB_BYTES_MIN: u64 = 2048;
/// The older half of the blob files is rewritten without what was deleted: as far as a merge meets rows of theirs, and on
/// purpose if half of it is deleted.
pub(crate) const BLOB_AGE_CUTOFF: f64 = 0.5;
const BLOB_GARBAGE_MAX: f64 = 0.5;

/// RocksDB's default.
const LEVELS: usize = 7;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Sizes of the log's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes after which [`crate::LogWriter`] takes the next WAL file and has the memtables flushed. Memory for the log's memtables is about
    /// 1.5 times this, twice that while a flush runs.
    pub wal_bytes: usize,
    /// Write two WAL files full of throw-away bytes at open, so that every later write overwrites blocks that exist and the
    /// sync leaves the file system's journal alone. Costs twice `wal_bytes` of writing at each start.
    pub prefill: bool,
    /// Blocks of the log kept in memory. Small: the core keeps recent entries itself, this is for lagging followers.
    pub block_cache_bytes: usize,
    /// A write that takes longer gets a line in the process's log.
    pub slow_write: Duration,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { wal_bytes: 32 * MIB, prefill: true, block_cache_bytes: 8 * MIB, slow_write: Duration::from_millis(500) }
    }
}

impl LogOptions {
    /// For several nodes in one process on a developer's machine: the same behaviour, little memory.
    pub fn small() -> Self {
        Self { wal_bytes: 4 * MIB, block_cache_bytes: MIB, ..Self::default() }
    }
}

/// Sizes of the state machine's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataOptions {
    /// Bytes of rows in memory before they are flushed. After a crash up to this much (and what a running flush holds) is
    /// applied again from the log, so it also bounds the restart time.
    pub memtable_bytes: usize,
    /// Uncompressed blocks, index and filter blocks kept in memory.
    pub block_cache_bytes: usize,
    /// Open SST files kept; -1 for all of them.
    pub open_files_max: i32,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self { memtable_bytes: 64 * MIB, block_cache_bytes: 96 * MIB, open_files_max: 1024 }
    }
}

impl DataOptions {
    /// For several nodes in one process on a developer's machine.
    pub fn small() -> Self {
        Self { memtable_bytes: 4 * MIB, block_cache_bytes: 4 * MIB, open_files_max: 64 }
    }
}

/// Options of the log's database. `create`: only true for a member whose log was never made.
pub(crate) fn log_db_options(options: &LogOptions, create: bool) -> Result<Options, rocksdb::Error> {
    // No fallocate: a recycled file has its blocks, and what is reserved past its end is cut off again at each switch.
    let mut db = common_db_options(create, "allow_fallocate=false")?;
    // PointInTime is the only mode that both allows recycling and stops at the first bad record.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    db.set_recycle_log_file_num(4);
    // A net only, never to be reached: LogWriter ends WAL files itself. RocksDB's own trigger reads the total without its lock
    // and now and then ends a file that has just begun; a short file is cut to its length and must grow again when reused.
    db.set_max_total_wal_size(u64::try_from(options.wal_bytes.saturating_mul(8)).unwrap_or(u64::MAX));
    // Names closed WAL files and their sizes in the MANIFEST: a lost or shortened one is an error, not a shorter log.
    db.set_track_and_verify_wals_in_manifest(true);
    db.set_manual_wal_flush(false);
    db.set_wal_bytes_per_sync(0);
    db.set_max_open_files(64);
    Ok(db)
}

/// Column families of the log's database.
pub(crate) fn log_cf_descriptors(options: &LogOptions) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    // Large enough never to fill before the WAL does: the memtable needs at most 1.4 times a record's WAL bytes.
    let mut log = cf_options(&table_options(&cache, 16 * KIB), options.wal_bytes.saturating_mul(2));
    log.set_compression_type(DBCompressionType::None);
    // The log is never held up by its own compaction. What compaction does here is drop truncated entries: the more files it
    // takes, the more of what is in them has been truncated.
    log.set_level_zero_file_num_compaction_trigger(8);
    log.set_level_zero_slowdown_writes_trigger(100_000);
    log.set_level_zero_stop_writes_trigger(100_000);
    log.set_soft_pending_compaction_bytes_limit(0);
    log.set_hard_pending_compaction_bytes_limit(0);
    log.set_max_write_buffer_number(4);
    let mut state = cf_options(&table_options(&cache, 4 * KIB), options.wal_bytes.saturating_mul(2));
    state.set_compression_type(DBCompressionType::None);
    state.set_level_zero_slowdown_writes_trigger(100_000);
    state.set_level_zero_stop_writes_trigger(100_000);
    state.set_max_write_buffer_number(4);
    vec![ColumnFamilyDescriptor::new(RAFT_LOG_CF, log), ColumnFamilyDescriptor::new(RAFT_STATE_CF, state)]
}

/// Options of the state machine's database.
pub(crate) fn data_db_options(options: &DataOptions, create: bool) -> Result<Options, rocksdb::Error> {
    let mut db = common_db_options(create, "")?;
    db.set_max_open_files(options.open_files_max);
    db.set_bytes_per_sync(1024 * 1024);
    Ok(db)
}

/// The state machine's column family. One only: its flush is then atomic, rows and applied index together.
///
/// A current value is found by seeking to `key | falling revision`. Bloom filters over what a user key's rows begin with say
/// which files and memtables need not be looked at. Only [`flaredb_kv::StoreReader::point_cursor`] asks them: every other
/// cursor must be opened with total order.
pub(crate) fn data_cf_descriptor(options: &DataOptions) -> ColumnFamilyDescriptor {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let mut table = table_options(&cache, 8 * KIB);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    let mut data = cf_options(&table, options.memtable_bytes);
    data.set_prefix_extractor(SliceTransform::create(
        ROW_PREFIX,
        flaredb_kv::row_prefix,
        Some(flaredb_kv::is_user_row),
    ));
    data.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
    data.set_compression_per_level(&compression());
    data.set_enable_blob_files(true);
    data.set_min_blob_size(BLOB_BYTES_MIN);
    data.set_blob_compression_type(DBCompressionType::None);
    data.set_blob_cache(&cache);
    data.set_enable_blob_gc(true);
    data.set_blob_gc_age_cutoff(BLOB_AGE_CUTOFF);
    data.set_blob_gc_force_threshold(BLOB_GARBAGE_MAX);
    data.set_max_write_buffer_number(3);
    data.set_level_zero_file_num_compaction_trigger(LEVEL_0_FILES);
    data.set_level_zero_slowdown_writes_trigger(3 * LEVEL_0_FILES);
    data.set_level_zero_stop_writes_trigger(5 * LEVEL_0_FILES);
    ColumnFamilyDescriptor::new(DATA_CF, data)
}

/// Files of level 0 are short-lived and soon rewritten: compressing them costs half of a flush.
fn compression() -> [DBCompressionType; LEVELS] {
    let mut levels = [DBCompressionType::Lz4; LEVELS];
    levels[0] = DBCompressionType::None;
    levels
}

/// `more`: options that have no setter of their own in the binding, as RocksDB spells them.
fn common_db_options(create: bool, more: &str) -> Result<Options, rocksdb::Error> {
    // A close writes nothing, as a crash does; an error stays an error, without resumption behind our back.
    let text = format!("avoid_flush_during_shutdown=true;max_bgerror_resume_count=0;{more}");
    let mut db = Options::default().get_options_from_string(text)?;
    db.create_if_missing(create);
    db.create_missing_column_families(create);
    // One writer per database: the machinery for several only costs.
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_write_thread_adaptive_yield(false);
    db.set_max_background_jobs(2);
    db.set_max_manifest_file_size(4 * MIB);
    db.set_manifest_preallocation_size(64 * KIB);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_skip_stats_update_on_db_open(true);
    db.set_log_level(LogLevel::Warn);
    db.set_keep_log_file_num(2);
    db.set_max_log_file_size(MIB);
    Ok(db)
}

fn table_options(cache: &Cache, block_bytes: usize) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(block_bytes);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}

fn cf_options(table: &BlockBasedOptions, memtable_bytes: usize) -> Options {
    let mut cf = Options::default();
    cf.set_block_based_table_factory(table);
    cf.set_write_buffer_size(memtable_bytes);
    cf.set_arena_block_size((memtable_bytes / 16).clamp(64 * KIB, MIB));
    cf
}
