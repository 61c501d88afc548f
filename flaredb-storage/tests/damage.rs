//! Disks that lose or change what they were given: after each damage the member starts with the right content, or recovers until
//! it has it again, or does not start. Never with wrong content, never below what it acknowledged as if nothing were missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use bytes::Bytes;
use common::{identity, options};
use flaredb_kv::{ApplyEntry, Command, CommandKind, Kv, PutRequest, RangeRequest};
use flaredb_raft::{EntryId, HardState, RaftLogEntry, RaftStorage as _, Write};
use flaredb_storage::{DataDir, DataOptions, DataStore, LogOptions, OpenError, Opened, Recovery};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir, tempdir_in};

const TRUNCATED: u64 = 20;
const FLUSHED: u64 = 60;
const APPLIED: u64 = 80;
const LAST: EntryId = EntryId { index: 120, term: 3 };
const HARD_STATE: HardState = HardState { current_term: 4, voted_for: Some(3), commit_index: 100 };

fn log_options() -> LogOptions {
    // Several WAL files and flushes in 120 entries.
    LogOptions { wal_bytes: 12 * 1024, ..options() }
}

fn open(path: &Path) -> Result<Opened, OpenError> {
    let dir = DataDir::open(path, &identity())?;
    dir.remove_leftovers()?;
    flaredb_storage::open(&dir, &log_options(), &DataOptions::small())
}

/// Some are large enough for files of their own.
fn value_len(index: u64) -> usize {
    if index % 10 == 5 { 2500 } else { 150 + (index as usize * 7) % 100 }
}

fn entry(index: u64) -> RaftLogEntry {
    let request = PutRequest {
        key: format!("key{index:03}").into(),
        value: vec![index as u8; value_len(index)].into(),
        ..PutRequest::default()
    };
    RaftLogEntry { index, term: 1 + index / 50, command: Command::Put(request).encode(), context: None }
}

fn apply(kv: &mut Kv<DataStore>, from: u64, to: u64) {
    let entries: Vec<_> = (from..=to)
        .map(entry)
        .map(|entry| ApplyEntry {
            index: entry.index,
            term: entry.term,
            command: Some((CommandKind::Put, entry.command)),
        })
        .collect();
    kv.apply(&entries, &mut Vec::new()).unwrap();
}

fn append(opened: &mut Opened, from: u64, to: u64, hard_state: HardState) {
    let entries = (from..=to).map(entry).collect();
    opened.writer.write(&Write { id: from, hard_state, entries, sync: true }).unwrap();
}

/// In memory where there is such a place: thousands of syncs that no test here depends on.
fn folder() -> TempDir {
    tempdir_in("/dev/shm").unwrap_or_else(|_| tempdir().unwrap())
}

/// What a kill leaves: the files as they are while the process has them open, at a moment when no merge changes them.
fn copied(from: &Path) -> TempDir {
    let listing = || {
        let mut all: Vec<_> = ["raft", "data"].iter().flat_map(|folder| files(from, folder, "")).collect();
        all.retain(|file| !file.file_name().unwrap().to_str().unwrap().starts_with("LOG"));
        all.into_iter().map(|file| (fs::metadata(&file).map_or(0, |file| file.len()), file)).collect::<Vec<_>>()
    };
    for _ in 0..200 {
        let (before, copy) = (listing(), folder());
        if copy_folder(&from.join("member"), &copy.path().join("member")).is_ok() && listing() == before {
            return copy;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} does not come to rest", from.display());
}

/// Not by a process of its own: between its fork and exec it would hold the locks of the tests beside this one.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let to = to.join(file.file_name());
        if file.file_type()?.is_dir() {
            copy_folder(&file.path(), &to)?;
        } else {
            fs::copy(file.path(), to)?;
        }
    }
    Ok(())
}

/// A member in the middle of its life, and the same one a while before.
struct Member {
    now: TempDir,
    /// Before the last 30 entries, the last vote and the last flush.
    earlier: TempDir,
    /// The mark when the last batch was in the log and its own mark not yet written.
    mark_before_last: Vec<u8>,
}

fn member() -> Member {
    let live = folder();
    let path = live.path();
    let mut opened = open(path).unwrap();
    let hard = |term, commit_index| HardState { current_term: term, voted_for: Some(1), commit_index };
    for from in (1..=90).step_by(3) {
        append(&mut opened, from, from + 2, hard(entry(from + 2).term, from - 1));
    }
    apply(&mut opened.kv, 1, 30);
    opened.kv.store().flusher().flush().unwrap();
    opened.writer.truncate_prefix(entry(TRUNCATED).id()).unwrap();
    let earlier = copied(path);
    for from in (91..=LAST.index - 3).step_by(3) {
        append(&mut opened, from, from + 2, hard(entry(from + 2).term, from - 1));
    }
    apply(&mut opened.kv, 31, FLUSHED);
    opened.kv.store().flusher().flush().unwrap();
    // Lost by every crash, and applied again.
    apply(&mut opened.kv, FLUSHED + 1, APPLIED);
    append(&mut opened, 1, 0, HARD_STATE);
    let mark_before_last = fs::read(path.join("member/mark")).unwrap();
    append(&mut opened, LAST.index - 2, LAST.index, HARD_STATE);
    assert_eq!(opened.writer.last(), LAST);
    // Flushes run in the background.
    let begun = Instant::now();
    while files(path, "raft", ".sst").len() < 2 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!files(path, "data", ".blob").is_empty(), "some values are in files of their own");
    Member { now: copied(path), earlier, mark_before_last }
}

fn files(path: &Path, folder: &str, part: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(path.join("member").join(folder)).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.is_file() && file.to_str().unwrap().contains(part));
    files.sort();
    files
}

fn wal(path: &Path) -> PathBuf {
    files(path, "raft", ".log").pop().unwrap()
}

/// What a start may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Whole,
    Mended,
    Recovering,
    Unknown,
    Refused,
}

/// Everything that must hold of a member that was let in, whatever happened to its disk.
fn check(opened: &Opened, what: &str) -> Outcome {
    let first = opened.log.first_index().unwrap();
    let last = opened.log.last();
    for read in opened.log.entries(first..last.index + 1, u64::MAX).unwrap() {
        assert_eq!(read, entry(read.index), "{what}: an entry is not what it was");
    }
    let applied = opened.kv.applied();
    assert!(applied.index + 1 >= first && applied.index <= last.index, "{what}: {applied:?} and {first}..={last}");
    let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() };
    let rows = opened.kv.reader().range(&all).unwrap().unwrap().kvs;
    assert_eq!(rows.len() as u64, applied.index, "{what}: rows and applied index");
    for (row, index) in rows.iter().zip(1..) {
        assert_eq!(row.key, Bytes::from(format!("key{index:03}")), "{what}");
        assert_eq!(row.value, vec![index as u8; value_len(index)], "{what}");
    }
    let hard = opened.log.initial_state().unwrap().hard_state;
    assert!(hard.commit_index <= last.index, "{what}: {hard:?}");
    if opened.recovery != Recovery::Unknown {
        assert_eq!((hard.current_term, hard.voted_for), (4, Some(3)), "{what}: the vote");
    }
    match opened.recovery {
        Recovery::Complete => {
            assert_eq!(last, LAST, "{what}: taken for whole");
            if opened.why.is_none() { Outcome::Whole } else { Outcome::Mended }
        }
        Recovery::Until(until) => {
            assert!(last < until && until >= LAST, "{what}: {last} until {until}");
            assert_eq!(opened.log.initial_state().unwrap().recover_until, Some(until));
            Outcome::Recovering
        }
        Recovery::Unknown => Outcome::Unknown,
    }
}

/// Starts a damaged member, twice, then lets a leader repair it, and starts it again.
fn start(path: &Path, what: &str) -> Outcome {
    let mut opened = match open(path) {
        Ok(opened) => opened,
        Err(error) => {
            let text = error.to_string();
            assert!(matches!(error, OpenError::Inconsistent { .. } | OpenError::Format { .. }), "{what}: {text}");
            assert!(text.contains("member"), "{what}: names what is wrong: {text}");
            return Outcome::Refused;
        }
    };
    let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() };
    let read = opened.kv.reader().range(&all);
    if let Err(error) = read {
        // A block of the rows that opening does not look at. The process ends, and the next start knows.
        assert!(path.join("member/suspect-data").exists(), "{what}: {error:?}");
        drop(opened);
        opened = open(path).unwrap_or_else(|error| panic!("{what}: after the read failed: {error}"));
        assert!(opened.why.as_ref().unwrap().contains("the state machine was damaged"), "{what}");
        assert!(path.join("member/data.damaged-1").exists(), "{what}");
    }
    let outcome = check(&opened, what);
    if outcome == Outcome::Whole {
        return outcome;
    }
    let (recovery, incarnation, storage_id) = (opened.recovery, opened.incarnation, opened.storage_id);
    drop(opened);
    opened = open(path).unwrap_or_else(|error| panic!("{what}: the second start: {error}"));
    check(&opened, what);
    assert_eq!(opened.recovery, recovery, "{what}: nothing was repaired since");
    assert_eq!((opened.incarnation, opened.storage_id), (incarnation + 1, storage_id), "{what}");
    if opened.recovery == Recovery::Unknown {
        opened.writer.recover(Some(LAST)).unwrap();
    }
    let last = opened.log.last().index;
    if last < LAST.index {
        append(&mut opened, last + 1, LAST.index, HARD_STATE);
    }
    drop(opened);
    let opened = open(path).unwrap_or_else(|error| panic!("{what}: after the repair: {error}"));
    assert_eq!(opened.recovery, Recovery::Complete, "{what}: {:?}", opened.why);
    assert_eq!(opened.why, None, "{what}");
    assert_eq!(opened.log.last(), LAST, "{what}");
    outcome
}

#[test]
fn nothing_is_wrong_with_what_a_kill_leaves() {
    let member = member();
    assert_eq!(start(member.now.path(), "now"), Outcome::Whole);
    let opened = open(member.now.path()).unwrap();
    assert_eq!(opened.incarnation, 3);
    assert_eq!(opened.kv.applied().index, FLUSHED);
    let leftover: Vec<_> =
        fs::read_dir(member.now.path().join("member")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(leftover.iter().all(|name| !name.to_str().unwrap().contains('.')), "{leftover:?}");
}

/// The end of the newest WAL file, cut anywhere: what was acknowledged is missed, what was not is not.
#[test]
fn a_wal_that_ends_early() {
    let member = member();
    let mut bytes = fs::read(wal(member.now.path())).unwrap();
    // What follows is of the file's earlier use: a put of the hard state ends the last batch.
    let command = entry(LAST.index).command;
    let end = bytes.windows(command.len()).rposition(|bytes| bytes == command).unwrap() + command.len() + 43;
    bytes.truncate(end);
    let (mut whole, mut recovering) = (0, 0);
    // Every byte of the last batch's end, then strides.
    for back in (0..24).chain((24..1100).step_by(71)).chain((1100..bytes.len()).step_by(1997)) {
        for acknowledged in [true, false] {
            if !acknowledged && back > 600 {
                continue;
            }
            let copy = copied(member.now.path());
            fs::write(wal(copy.path()), &bytes[..bytes.len() - back]).unwrap();
            if !acknowledged {
                fs::write(copy.path().join("member/mark"), &member.mark_before_last).unwrap();
            }
            let opened = open(copy.path()).unwrap();
            let last = opened.log.last();
            let what = format!("cut by {back}, acknowledged {acknowledged}: {last} {:?}", opened.recovery);
            if acknowledged || last == LAST {
                let outcome = check(&opened, &what);
                assert_eq!(outcome == Outcome::Whole, back == 0, "{what}");
            } else {
                assert_eq!(opened.recovery, Recovery::Complete, "{what}");
                assert!(opened.why.is_none() && last == entry(LAST.index - 3).id(), "{what}");
            }
            whole += usize::from(opened.recovery == Recovery::Complete);
            recovering += usize::from(matches!(opened.recovery, Recovery::Until(_)));
        }
    }
    assert!(whole > 20 && recovering > 30, "{whole} {recovering}");
}

fn flip(bytes: &mut [u8], at: usize) {
    bytes[at] ^= 0x40;
}

fn zero(bytes: &mut [u8], at: usize) {
    let end = (at + 4096).min(bytes.len());
    bytes[at..end].fill(0);
}

/// Every file of both databases: a bit, a page of zeroes, at places all over it.
#[test]
fn rot_anywhere_in_a_database() {
    let member = member();
    let mut outcomes: BTreeMap<(String, Outcome), u32> = BTreeMap::new();
    for folder in ["raft", "data"] {
        for part in [".log", ".sst", ".blob", "MANIFEST", "CURRENT"] {
            if (folder, part) == ("data", ".log") {
                continue;
            }
            for file in files(member.now.path(), folder, part) {
                let bytes = fs::read(&file).unwrap();
                if bytes.is_empty() {
                    continue;
                }
                let flips = (0..4).map(|part| part * (bytes.len() - 1) / 3).map(|at| (at, true));
                let zeroes = [(bytes.len() / 2 / 4096 * 4096, false)];
                for (at, is_flip) in flips.chain(zeroes) {
                    let mut rotten = bytes.clone();
                    if is_flip {
                        flip(&mut rotten, at)
                    } else {
                        zero(&mut rotten, at)
                    }
                    if rotten == bytes {
                        continue;
                    }
                    let copy = copied(member.now.path());
                    let name = file.strip_prefix(member.now.path()).unwrap();
                    fs::write(copy.path().join(name), &rotten).unwrap();
                    let outcome = start(copy.path(), &format!("{} at {at}, flip {is_flip}", name.display()));
                    *outcomes.entry((format!("{folder} {part}"), outcome)).or_default() += 1;
                }
            }
        }
    }
    println!("{outcomes:#?}");
    let count =
        |outcome| outcomes.iter().filter(|((_, found), _)| *found == outcome).map(|(_, count)| count).sum::<u32>();
    assert!(count(Outcome::Recovering) > 10 && count(Outcome::Refused) == 0 && count(Outcome::Unknown) == 0);
}

#[test]
fn a_missing_file() {
    let member = member();
    for folder in ["raft", "data"] {
        for part in [".log", ".sst", ".blob", "MANIFEST", "CURRENT"] {
            for file in files(member.now.path(), folder, part) {
                let copy = copied(member.now.path());
                let name = file.strip_prefix(member.now.path()).unwrap();
                fs::remove_file(copy.path().join(name)).unwrap();
                let outcome = start(copy.path(), &format!("{} is missing", name.display()));
                assert!(outcome <= Outcome::Recovering, "{}: {outcome:?}", name.display());
            }
        }
        let copy = copied(member.now.path());
        fs::remove_dir_all(copy.path().join("member").join(folder)).unwrap();
        let outcome = start(copy.path(), &format!("{folder} is missing"));
        assert_eq!(outcome, Outcome::Recovering, "{folder}");
    }
    for file in ["identity", "FORMAT"] {
        let copy = copied(member.now.path());
        fs::remove_file(copy.path().join("member").join(file)).unwrap();
        assert_eq!(start(copy.path(), &format!("{file} is missing")), Outcome::Refused);
    }
}

#[test]
fn swapped_files() {
    let member = member();
    let mut all = files(member.now.path(), "raft", "");
    all.extend(files(member.now.path(), "data", ""));
    all.retain(|file| [".sst", ".blob", ".log", "MANIFEST"].iter().any(|part| file.to_str().unwrap().contains(part)));
    for (at, one) in all.iter().enumerate() {
        for other in &all[at + 1..] {
            let same_kind = one.extension() == other.extension();
            let (first, second) = (fs::read(one).unwrap(), fs::read(other).unwrap());
            if !same_kind || first == second {
                continue;
            }
            let copy = copied(member.now.path());
            let place = |file: &Path| copy.path().join(file.strip_prefix(member.now.path()).unwrap());
            fs::write(place(one), &second).unwrap();
            fs::write(place(other), &first).unwrap();
            start(copy.path(), &format!("{} and {} are swapped", one.display(), other.display()));
        }
    }
}

/// One file, or one folder, from an hour ago.
#[test]
fn files_from_an_earlier_copy() {
    let member = member();
    for folder in ["raft", "data"] {
        for old in files(member.earlier.path(), folder, "") {
            let name = old.strip_prefix(member.earlier.path()).unwrap();
            let copy = copied(member.now.path());
            if fs::read(copy.path().join(name)).ok() == fs::read(&old).ok() {
                continue;
            }
            fs::copy(&old, copy.path().join(name)).unwrap();
            start(copy.path(), &format!("an earlier {}", name.display()));
        }
        let copy = copied(member.now.path());
        let whole = copy.path().join("member").join(folder);
        fs::remove_dir_all(&whole).unwrap();
        let from = member.earlier.path().join("member").join(folder);
        copy_folder(&from, &whole).unwrap();
        let outcome = start(copy.path(), &format!("an earlier {folder}"));
        // Rows that the log still reaches are just applied again.
        assert_eq!(outcome, if folder == "raft" { Outcome::Recovering } else { Outcome::Whole });
    }
    // The mark alone: it lags behind the log, as it may after a power cut.
    let copy = copied(member.now.path());
    fs::copy(member.earlier.path().join("member/mark"), copy.path().join("member/mark")).unwrap();
    assert_eq!(start(copy.path(), "an earlier mark"), Outcome::Whole);
}

/// The first tests of a damaged log: what is left, what is kept aside, and what is said.
#[test]
fn what_was_damaged_is_kept_and_what_is_intact_is_used() {
    let member = member();
    let copy = copied(member.now.path());
    let file = wal(copy.path());
    let mut bytes = fs::read(&file).unwrap();
    // Of the record before the last one.
    let at = bytes.windows(6).position(|part| part == b"key119").unwrap();
    flip(&mut bytes, at);
    fs::write(&file, &bytes).unwrap();
    let opened = open(copy.path()).unwrap();
    let why = opened.why.clone().unwrap();
    assert!(why.contains("the mark says that 120@3 was durable"), "{why}");
    let last = opened.log.last().index;
    assert!((FLUSHED..LAST.index).contains(&last), "the intact part is kept: {last}");
    let kept = copy.path().join("member/raft.damaged-1").join(file.file_name().unwrap());
    assert_eq!(fs::read(kept).unwrap(), bytes, "as it was before it was opened");
    // A machine that is cut off in the middle of a repair goes on with it.
    drop(opened);
    let raft = copy.path().join("member/raft");
    fs::rename(&raft, copy.path().join("member/raft.repaired")).unwrap();
    assert_eq!(open(copy.path()).unwrap().log.last().index, last);
    fs::create_dir(copy.path().join("member/raft.repaired")).unwrap();
    assert_eq!(open(copy.path()).unwrap().log.last().index, last);
    assert!(!copy.path().join("member/raft.repaired").exists());
}
