//! `flaredb inspect` on whole and damaged folders.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_kv::{Command as Request, PutRequest};
use flaredb_raft::{HardState, RaftLogEntry, Write};
use flaredb_storage::{DataDir, DataOptions, Identity, LogOptions, Recovery};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::{TempDir, tempdir};

fn inspect(words: &[&str], path: &Path) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_flaredb"))
        .arg("inspect")
        .args(words)
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("flaredb runs");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

fn identity() -> Identity {
    Identity { cluster_id: 0xc1, member_id: 2, region_id: 1, name: "n2".into(), voters: vec![1, 2, 3] }
}

fn put(index: u64) -> RaftLogEntry {
    let request =
        PutRequest { key: format!("key\n{index}").into(), value: vec![7; 500].into(), ..PutRequest::default() };
    let context = [&[1, 1][..], &2_u64.to_le_bytes(), &9_u64.to_le_bytes(), &index.to_le_bytes()].concat();
    RaftLogEntry { index, term: 1, command: Request::Put(request).encode(), context: Some(context.into()) }
}

fn open(path: &Path) -> flaredb_storage::Opened {
    let dir = DataDir::open(path, &identity()).unwrap();
    let log = LogOptions { prefill: false, ..LogOptions::small() };
    flaredb_storage::open(&dir, &log, &DataOptions::small()).unwrap()
}

/// Entries 1 to 20, each in a batch of its own; the first is a no-op.
fn member() -> TempDir {
    let dir = tempdir().unwrap();
    let mut opened = open(dir.path());
    for index in 1..=20 {
        let mut entry = put(index);
        if index == 1 {
            (entry.command, entry.context) = (bytes::Bytes::new(), None);
        }
        let hard_state = HardState { current_term: 1, voted_for: Some(2), commit_index: 0 };
        opened.writer.write(&Write { id: index, hard_state, entries: vec![entry], sync: true }).unwrap();
    }
    dir
}

/// Every file with its content: inspecting must not change one.
fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(content(&entry.path()));
        } else {
            all.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    all
}

#[test]
fn a_whole_folder() {
    let dir = member();
    let before = content(dir.path());
    let (output, text) = inspect(&["integrity"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for words in ["identity", "raft_log", "whole from 1 to 20@1", "state machine", "acknowledged 20@1", "promise"] {
        assert!(text.contains(words), "{words} is missing:\n{text}");
    }
    let (output, text) = inspect(&["integrity", "--json"], dir.path());
    assert_eq!(output.status.code(), Some(0));
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["ok"], true);
    assert!(document["checks"].as_array().unwrap().len() >= 7, "{text}");

    let (output, text) = inspect(&["log", "--from", "1", "--to", "3"], dir.path());
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].contains("INDEX") && lines[1].contains("no-op"), "{text}");
    assert!(lines[2].contains("put") && lines[2].contains("2/9/2"), "{text}");
    assert!(lines[2].contains("key\\n2  value of 500 bytes"), "{text}");
    let (_, text) = inspect(&["log", "--json", "--from", "20"], dir.path());
    let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&entry["index"], &entry["term"], &entry["kind"]), (&20.into(), &1.into(), &"put".into()));
    assert_eq!(content(dir.path()), before, "nothing is changed");
}

#[test]
fn a_damaged_folder_says_what_a_start_would_do() {
    let dir = member();
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.path().join("member/raft")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let wal = files.pop().unwrap();
    let mut bytes = fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&wal, bytes).unwrap();
    let before = content(dir.path());
    let (output, text) = inspect(&["integrity"], dir.path());
    assert_eq!(output.status.code(), Some(1), "{text}");
    for words in ["BAD", "the mark says that 20@1 was durable", "neither vote nor lead", "start the member"] {
        assert!(text.contains(words), "{words} is missing:\n{text}");
    }
    let (output, text) = inspect(&["integrity", "--json"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("\"ok\":false"), "{text}");
    assert_eq!(content(dir.path()), before, "nothing is changed");
    // And that is what the start does.
    let opened = open(dir.path());
    assert!(matches!(opened.recovery, Recovery::Until(_)), "{:?}", opened.recovery);
    drop(opened);
    let (_, text) = inspect(&["integrity"], dir.path());
    assert!(text.contains("raft.damaged-1"), "{text}");

    fs::write(dir.path().join("member/mark"), vec![0; 8192]).unwrap();
    let (output, text) = inspect(&["integrity"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("damaged in both slots"), "{text}");
    fs::write(dir.path().join("member/data/CURRENT"), "nonsense").unwrap();
    let (output, text) = inspect(&["integrity"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("member/data"), "{text}");
}

#[test]
fn what_cannot_be_looked_into() {
    let dir = member();
    let running = open(dir.path());
    let (output, _) = inspect(&["integrity"], dir.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("flaredb: ") && said.contains("in use by another process"), "{said}");
    drop(running);
    let empty = tempdir().unwrap();
    let (output, _) = inspect(&["log"], empty.path());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "nothing is made");
}
