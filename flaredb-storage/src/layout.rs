//! The table of keys and bytes: everything that FlareDB itself puts on the disk is named here, and drawn in docs/storage.md.
//!
//! ```text
//! <path>/member/            0700
//!   LOCK                    empty; held with flock while a process uses the folder
//!   FORMAT                  the text FORMAT below; written when the folder is made
//!   identity                text: cluster, member, region, whether the log was ever made; checksum in the last line
//!   raft/                   RocksDB: column families raft_log, raft_state (and RocksDB's own empty `default`)
//!   data/                   RocksDB: column family data (and the empty `default`)
//!   current-data            text: which folder holds the rows, once that is not data/ (data_folder.rs); checksum in the last line
//!   data-<index>-<term>/    in the place of data/, once the member has taken in a snapshot
//!   incoming-<index>-<term>/  a snapshot that is being received
//!   mark                    what this member has promised, outside the log: two slots (flaredb-record, mark.rs)
//!   raft.before/            hard links to raft/ while it is being opened: what was there before RocksDB touched it
//!   raft.repaired/          a repaired log that is being made; raft.replaced/ what it takes the place of
//!   *.damaged-<n>           evidence: what was found damaged and replaced. Never read, never removed by this program
//!   suspect-raft, -data     text: RocksDB found a damaged file while it ran (suspect.rs)
//!
//! raft_log     region u64 BE | index u64 BE   ->  record (record.rs)
//! raft_state   region u64 BE | tag u8         ->  row (state_rows.rs)
//!                              1 HardState, 2 ConfState, 3 TruncatedState, 255 never written, see wal_prefill.rs
//! data         the state machine's rows, bytes to bytes (flaredb-kv)
//! ```
//! Keys are big-endian, so that their byte order is their order. Numbers in values are little-endian.

use std::fmt;

/// Content of the file FORMAT. The number rises when an older version could misread what a newer one wrote.
pub const FORMAT: &str = "flaredb-data 1\n";

/// Column family of the log's records.
pub const RAFT_LOG_CF: &str = "raft_log";
/// Column family of hard state, configuration and truncation point.
pub const RAFT_STATE_CF: &str = "raft_state";
/// Column family of the state machine's rows.
pub const DATA_CF: &str = "data";

pub(crate) const MEMBER_DIR: &str = "member";
pub(crate) const LOCK_FILE: &str = "LOCK";
pub(crate) const FORMAT_FILE: &str = "FORMAT";
pub(crate) const IDENTITY_FILE: &str = "identity";
pub(crate) const RAFT_DIR: &str = "raft";
pub(crate) const DATA_DIR: &str = "data";
pub(crate) const MARK_FILE: &str = "mark";
pub(crate) const SUSPECT_DATA_FILE: &str = "suspect-data";
pub(crate) const SUSPECT_RAFT_FILE: &str = "suspect-raft";
pub(crate) const CURRENT_DATA_FILE: &str = "current-data";
pub(crate) const INCOMING_PREFIX: &str = "incoming-";
/// Folders that etcd keeps under `member/`; their presence means that the folder is etcd's.
pub(crate) const ETCD_DIRS: [&str; 2] = ["wal", "snap"];

/// No entry ever has this index: its key closes the region's range, and only tombstones are ever written to it.
pub(crate) const INDEX_END: u64 = u64::MAX;

/// The rows of raft_state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateTag {
    HardState,
    ConfState,
    TruncatedState,
    /// Only ever deleted: a tombstone makes the memtable non-empty, so that a flush switches the WAL.
    Prefill,
}

impl StateTag {
    fn byte(self) -> u8 {
        match self {
            Self::HardState => 1,
            Self::ConfState => 2,
            Self::TruncatedState => 3,
            Self::Prefill => 255,
        }
    }
}

pub(crate) fn log_key(region: u64, index: u64) -> [u8; 16] {
    let mut key = [0; 16];
    let (head, tail) = key.split_at_mut(8);
    head.copy_from_slice(&region.to_be_bytes());
    tail.copy_from_slice(&index.to_be_bytes());
    key
}

pub(crate) fn state_key(region: u64, tag: StateTag) -> [u8; 9] {
    let mut key = [tag.byte(); 9];
    let (head, _tag) = key.split_at_mut(8);
    head.copy_from_slice(&region.to_be_bytes());
    key
}

/// (region, index) of a raft_log key; None if it is not one.
pub(crate) fn parse_log_key(key: &[u8]) -> Option<(u64, u64)> {
    let (region, rest) = key.split_first_chunk::<8>()?;
    let index: &[u8; 8] = rest.try_into().ok()?;
    Some((u64::from_be_bytes(*region), u64::from_be_bytes(*index)))
}

/// A raft_log key as every message prints it: `raft_log 1/42`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogKey {
    pub(crate) region: u64,
    pub(crate) index: u64,
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RAFT_LOG_CF} {}/{}", self.region, self.index)
    }
}

/// A raft_state key as every message prints it: `raft_state 1/HardState`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateKey {
    pub(crate) region: u64,
    pub(crate) tag: StateTag,
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RAFT_STATE_CF} {}/{:?}", self.region, self.tag)
    }
}

/// Takes a fixed number of bytes off the front; None if there are fewer.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_region_then_index() {
        let mut keys = [log_key(2, 1), log_key(1, 256), log_key(1, 255), log_key(1, u64::MAX), log_key(0, 9)];
        keys.sort_unstable();
        let parsed: Vec<_> = keys.iter().map(|key| parse_log_key(key).unwrap()).collect();
        assert_eq!(parsed, [(0, 9), (1, 255), (1, 256), (1, u64::MAX), (2, 1)]);
    }

    /// The bytes on the disk of released versions: a change here is a change of FORMAT.
    #[test]
    fn keys_are_these_bytes() {
        assert_eq!(log_key(1, 258), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(state_key(3, StateTag::ConfState), [0, 0, 0, 0, 0, 0, 0, 3, 2]);
        assert_eq!(StateKey { region: 3, tag: StateTag::HardState }.to_string(), "raft_state 3/HardState");
        assert_eq!(parse_log_key(&[0; 15]), None);
        assert_eq!(parse_log_key(&[0; 17]), None);
    }
}
