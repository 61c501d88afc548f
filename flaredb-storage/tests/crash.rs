//! Processes that are killed, and disks that refuse: what was acknowledged is there afterwards.
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
use common::{child, child_path, entries, identity, open, write};
use flaredb_raft::{RaftLogEntry, RaftStorage};
use flaredb_storage::{DataDir, LogOptions, LogReader, LogWriter, RaftLog};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::tempdir;

/// The command at (index, term) in every run, so that a reader can tell what must be there.
fn command(index: u64, term: u64) -> Bytes {
    let size = (index.wrapping_mul(0x9e37_79b9).wrapping_add(term) % 3000) as usize;
    Bytes::from([format!("{index}@{term}").as_bytes(), &vec![index as u8; size]].concat())
}

fn batch(from: u64, count: u64, term: u64) -> Vec<RaftLogEntry> {
    (from..from + count)
        .map(|index| RaftLogEntry { index, term, command: command(index, term), context: None })
        .collect()
}

fn open_small(path: &Path) -> (LogReader, LogWriter) {
    // Small enough that kills fall on WAL switches, flushes and compactions too.
    let options = LogOptions { wal_bytes: 512 * 1024, ..LogOptions::small() };
    RaftLog::open(&DataDir::open(path, &identity()).unwrap(), &options).unwrap()
}

/// Appends, overwrites its own tail, and truncates its prefix, for ever. Each line it prints is an acknowledgement.
#[test]
fn writing_child() {
    let Some(path) = child_path() else { return };
    let (reader, mut writer) = open_small(&path);
    let mut term = reader.initial_state().unwrap().hard_state.current_term + 1;
    println!("\nopen {}", writer.last());
    for round in 0_u64.. {
        let last = writer.last().index;
        // Every seventh batch replaces the three entries before it, under a new term.
        let from = if round % 7 == 6 { last.saturating_sub(2).max(reader.first_index().unwrap()) } else { last + 1 };
        if from <= last {
            term += 1;
        }
        writer.write(&write(term, reader.snapshot().unwrap().last.index, batch(from, 1 + round % 5, term))).unwrap();
        println!("acked {} {} {from}", writer.last().index, term);
        if round % 97 == 96 {
            let up_to = writer.last().index - 20;
            let up_to = reader.entries(up_to..up_to + 1, 1).unwrap()[0].id();
            writer.truncate_prefix(up_to).unwrap();
            println!("truncated {}", up_to.index);
        }
    }
}

/// What the acknowledgements so far say must be in the log.
#[derive(Debug, Default)]
struct Expected {
    /// Term of each index, from 1.
    terms: Vec<u64>,
    truncated: u64,
}

#[test]
fn acknowledged_batches_survive_kill_9() {
    let dir = tempdir().unwrap();
    let mut expected = Expected::default();
    for kill in 0..12_u64 {
        // Rising numbers that share no factor with the child's rounds: kills fall into every phase.
        let acknowledgements = 40 + kill * 67;
        let mut writing =
            child("writing_child", dir.path()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(writing.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = 0;
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "acked" => {
                    expected.terms.resize(number(3) as usize - 1, 0);
                    expected.terms.resize(number(1) as usize, number(2));
                    seen += 1;
                }
                "truncated" => expected.truncated = number(1),
                _ => {}
            }
            // Keeps reading what the child had said before it died: that counts as acknowledged too.
            if seen == acknowledgements {
                writing.kill().unwrap();
            }
        }
        writing.wait().unwrap();

        let (reader, _writer) = open_small(dir.path());
        let (first, last) = (reader.first_index().unwrap(), reader.last_index().unwrap());
        assert!(first > expected.truncated, "kill {kill}: truncated {} came back", expected.truncated);
        let read = reader.entries(first..last + 1, u64::MAX).unwrap();
        // One write may have been durable without its acknowledgement: it may extend or replace the tail, by a higher term
        // than any acknowledged one. Below that everything is as acknowledged.
        let acknowledged_term = expected.terms.last().copied().unwrap_or(0);
        let unacknowledged =
            read.iter().position(|entry| expected.terms.get(entry.index as usize - 1) != Some(&entry.term));
        if let Some(at) = unacknowledged {
            let index = read[at].index;
            assert!(
                index as usize > expected.terms.len() || read[at].term > acknowledged_term,
                "kill {kill}: acknowledged entry {index} is of term {}, not {:?}",
                read[at].term,
                expected.terms.get(index as usize - 1)
            );
            assert!(last + 1 - index <= 5, "kill {kill}: one batch at most was unacknowledged, {index}..={last} were");
        } else {
            assert_eq!(last as usize, expected.terms.len(), "kill {kill}: the acknowledged end is the end");
        }
        for entry in &read {
            assert_eq!(entry.command, command(entry.index, entry.term), "kill {kill}: {}", entry.id());
        }
        // The next child starts from what is there.
        expected.terms.truncate((first - 1) as usize);
        expected.terms.resize((first - 1) as usize, 0);
        expected.terms.extend(read.iter().map(|entry| entry.term));
    }
}

/// Writes until the disk refuses, then says what the writer says the second time.
#[test]
fn refused_child() {
    let Some(path) = child_path() else { return };
    let (_, mut writer) = open(&path).unwrap();
    let error = loop {
        match writer.write(&write(1, 0, entries(writer.last().index + 1, writer.last().index + 50, 1))) {
            Ok(()) => println!("\nacked {}", writer.last().index),
            Err(error) => break error,
        }
    };
    let sizes = |path: &Path| {
        let files = fs::read_dir(path.join("member/raft")).unwrap().map(|file| file.unwrap());
        let mut sizes: Vec<_> = files.map(|file| (file.file_name(), file.metadata().unwrap().len())).collect();
        sizes.sort();
        sizes
    };
    let before = sizes(&path);
    let again = writer.write(&write(2, 0, vec![]));
    assert_eq!(again, Err(error.clone()));
    assert_eq!(writer.truncate_prefix(entries(1, 1, 1)[0].id()), Err(error.clone()));
    assert_eq!(before, sizes(&path), "a failed writer leaves the disk alone");
    println!("\nrefused {error}");
}

/// The disk's refusal is made by a limit on file sizes: the write fails in the middle of a record.
#[test]
fn a_failed_write_is_final_and_loses_nothing_acknowledged() {
    let dir = tempdir().unwrap();
    let refused = child("refused_child", dir.path());
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 300; exec \"$@\"", "sh"])
        .arg(refused.get_program())
        .args(refused.get_args());
    let output = limited.env("FLAREDB_TEST_CHILD", dir.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("refused the raft log could not be written, the process must stop:"), "{said}");
    let acknowledged =
        said.lines().filter_map(|line| line.strip_prefix("acked ")?.parse::<u64>().ok()).next_back().unwrap();

    let (reader, mut writer) = open(dir.path()).unwrap();
    let last = reader.last_index().unwrap();
    assert!(last == acknowledged || last == acknowledged + 50, "{last} of {acknowledged}");
    assert_eq!(common::all(&reader), entries(1, last, 1));
    writer.write(&write(1, 0, entries(last + 1, last + 9, 1))).unwrap();
}

/// A torn tail is no damage: whatever the last record's write left behind, the node starts and has all before it.
#[test]
fn a_torn_last_record_does_not_keep_the_node_down() {
    let dir = tempdir().unwrap();
    let whole = dir.path().join("whole");
    let (reader, mut writer) = open(&whole).unwrap();
    for index in 1..=2 {
        writer.write(&write(1, 0, batch(index, 1, 1))).unwrap();
    }
    // The third was never acknowledged: its mark comes after it.
    let mark = fs::read(whole.join("member/mark")).unwrap();
    writer.write(&write(1, 0, batch(3, 1, 1))).unwrap();
    let newest = |path: &Path| {
        let files = fs::read_dir(path.join("member/raft")).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|name| name == "log")).max().unwrap()
    };
    let bytes = fs::read(newest(&whole)).unwrap();
    // Copied while open: what a crash leaves.
    let copy = |name: &str| {
        let to = dir.path().join(name);
        assert!(Command::new("cp").arg("-r").arg(&whole).arg(&to).status().unwrap().success());
        to
    };
    let (mut whole_seen, mut cut_seen) = (0, 0);
    for step in 0..60 {
        let cut = bytes.len() - step * 37 % 2400;
        for zeroes in [0, 4096] {
            let to = copy("torn");
            fs::write(newest(&to), [&bytes[..cut], &vec![0; zeroes]].concat()).unwrap();
            fs::write(to.join("member/mark"), &mark).unwrap();
            let (torn, _) = open(&to).unwrap();
            let last = torn.last_index().unwrap();
            assert_eq!(common::all(&torn), batch(1, last, 1));
            if cut == bytes.len() {
                assert_eq!(last, 3);
                whole_seen += 1;
            } else {
                assert!(last < 3, "cut at {cut} of {}", bytes.len());
                cut_seen += 1;
            }
            drop(torn);
            fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(whole_seen > 0 && cut_seen > 0);
    drop((reader, writer));
}
