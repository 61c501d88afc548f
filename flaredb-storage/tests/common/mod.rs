//! Shared by the tests: a member's folder, entries, and the raw database beneath.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use bytes::Bytes;
use flaredb_raft::{HardState, RaftLogEntry, RaftStorage, Write};
use flaredb_storage::{
    DataDir, Identity, LogOptions, LogReader, LogWriter, OpenError, RAFT_LOG_CF, RAFT_STATE_CF, RaftLog,
};
use rocksdb::{DB, Options};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const REGION: u64 = 1;

pub fn identity() -> Identity {
    Identity { cluster_id: 0xc1, member_id: 2, region_id: REGION, name: "n2".into(), voters: vec![3, 1, 2] }
}

/// No prefill: most tests do not care, and it costs writing.
pub fn options() -> LogOptions {
    LogOptions { wal_bytes: 1024 * 1024, prefill: false, ..LogOptions::small() }
}

pub fn open(path: &Path) -> Result<(LogReader, LogWriter), OpenError> {
    RaftLog::open(&DataDir::open(path, &identity())?, &options())
}

pub fn entry(index: u64, term: u64, command: &str) -> RaftLogEntry {
    let context = index.is_multiple_of(2).then(|| Bytes::from(format!("ctx{index}")));
    RaftLogEntry { index, term, command: Bytes::from(command.to_owned()), context }
}

/// Entries `from..=to` of one term; the command says index and term.
pub fn entries(from: u64, to: u64, term: u64) -> Vec<RaftLogEntry> {
    (from..=to).map(|index| entry(index, term, &format!("{index}@{term}"))).collect()
}

pub fn write(term: u64, commit_index: u64, entries: Vec<RaftLogEntry>) -> Write {
    let hard_state = HardState { current_term: term, voted_for: Some(2), commit_index };
    Write { id: 1, hard_state, entries, sync: true }
}

pub fn all(reader: &LogReader) -> Vec<RaftLogEntry> {
    reader.entries(reader.first_index().unwrap()..reader.last_index().unwrap() + 1, u64::MAX).unwrap()
}

pub fn raft_dir(path: &Path) -> PathBuf {
    path.join("member/raft")
}

/// The log's database as RocksDB sees it, to break it with.
pub fn raw(path: &Path) -> DB {
    DB::open_cf(&Options::default(), raft_dir(path), ["default", RAFT_LOG_CF, RAFT_STATE_CF]).unwrap()
}

pub fn log_key(index: u64) -> Vec<u8> {
    [REGION.to_be_bytes(), index.to_be_bytes()].concat()
}

pub fn state_key(tag: u8) -> Vec<u8> {
    [&REGION.to_be_bytes()[..], &[tag]].concat()
}

/// This test binary again, running one test with these variables: how the tests get a process to kill.
pub fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("FLAREDB_TEST_CHILD", path);
    command
}

/// The folder, if this process is such a child.
pub fn child_path() -> Option<PathBuf> {
    std::env::var_os("FLAREDB_TEST_CHILD").map(PathBuf::from)
}
