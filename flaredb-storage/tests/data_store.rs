//! The state machine's store on RocksDB: the shared conformance suite, and what a crash leaves.
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
use common::{child, child_path, identity};
use flaredb_kv::{Batch, Change, Cursor as _, OrderedStore, StoreError, StoreReader as _};
use flaredb_storage::{DataDir, DataOptions, DataReader, DataStore, OpenError};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use tempfile::{TempDir, tempdir};

fn open(path: &Path) -> DataStore {
    DataStore::open(&DataDir::open(path, &identity()).unwrap(), &DataOptions::small()).unwrap()
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
    Change::Put(key.into(), value.into())
}

fn delete(key: &'static str) -> Change {
    Change::Delete(key.into())
}

fn rows(reader: &DataReader, start: &str, end: &str, seek: &str) -> Vec<(String, String)> {
    let mut cursor = reader.cursor(start.as_bytes(), end.as_bytes()).unwrap();
    assert_eq!(cursor.entry(), None, "positioned nowhere before the first seek");
    cursor.seek(seek.as_bytes()).unwrap();
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.entry() {
        rows.push((String::from_utf8(key.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap()));
        cursor.next().unwrap();
    }
    cursor.next().unwrap();
    assert_eq!(cursor.entry(), None, "past the end stays past the end");
    rows
}

fn row(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// Keeps the folder for as long as the store.
struct TempStore {
    store: DataStore,
    _dir: TempDir,
}

impl OrderedStore for TempStore {
    type Reader = DataReader;

    fn reader(&self) -> DataReader {
        self.store.reader()
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.store.write(batch)
    }
}

#[test]
fn the_conformance_suite_passes() {
    flaredb_kv::conformance::run(|| {
        let dir = tempdir().unwrap();
        TempStore { store: open(dir.path()), _dir: dir }
    });
}

#[test]
fn a_batch_is_applied_in_order_and_read_in_bounds() {
    let dir = tempdir().unwrap();
    let mut store = open(dir.path());
    let reader = store.reader();
    let changes =
        vec![put("b", "1"), put("a", "1"), put("c", "1"), delete("a"), put("b", "2"), put("d", ""), put("a\0", "x")];
    store.write(&Batch { changes }).unwrap();
    assert_eq!(reader.get(b"b").unwrap(), Some(Bytes::from_static(b"2")));
    assert_eq!((reader.get(b"a").unwrap(), reader.get(b"d").unwrap()), (None, Some(Bytes::new())));
    let every = [row("a\0", "x"), row("b", "2"), row("c", "1"), row("d", "")];
    assert_eq!(rows(&reader, "", "", ""), every);
    assert_eq!(rows(&reader, "b", "d", ""), every[1..3], "a seek before the bounds begins at them");
    assert_eq!(rows(&reader, "a", "d", "bb"), every[2..3]);
    assert_eq!(rows(&reader, "a", "c", "c"), []);
    assert_eq!(rows(&reader, "a", "c", "x"), []);
    assert_eq!(rows(&reader, "x", "a", "x"), [], "crossed bounds hold nothing");
}

/// Files with filters, and one that was written before there were any rows of most keys.
#[test]
fn a_point_cursor_finds_each_key_in_files_and_memory() {
    let dir = tempdir().unwrap();
    let mut store = open(dir.path());
    let row_key = |key: usize, version: u8| -> Vec<u8> {
        let mut row = format!("ukey{key}").into_bytes();
        row.extend_from_slice(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff - version, 0, 0, 0, 0]);
        row
    };
    for version in 0..5_u8 {
        // Key k has a version in every file but those that it is a multiple of.
        let here = (0..2000).filter(|key| key % (usize::from(version) + 2) != 0);
        store.write(&Batch { changes: here.map(|key| put(row_key(key, version), vec![version])).collect() }).unwrap();
        if version < 4 {
            store.flusher().flush().unwrap();
        }
    }
    let reader = store.reader();
    let mut point = reader.point_cursor().unwrap();
    let mut all = reader.cursor(b"", b"").unwrap();
    for key in 0..2000 {
        let newest = (0..5_u8).rev().find(|version| key % (usize::from(*version) + 2) != 0);
        let prefix = format!("ukey{key}\0\0").into_bytes();
        point.seek(&prefix).unwrap();
        let found = point.entry().filter(|(row, _)| row.starts_with(&prefix));
        assert_eq!(found.map(|(_, value)| value[0]), newest, "key {key}");
        all.seek(&prefix).unwrap();
        let by_scan = all.entry().filter(|(row, _)| row.starts_with(&prefix));
        assert_eq!(by_scan, found, "key {key}");
    }
}

#[test]
fn a_cursor_keeps_its_view() {
    let dir = tempdir().unwrap();
    let mut store = open(dir.path());
    store.write(&Batch { changes: vec![put("a", "1"), put("b", "1")] }).unwrap();
    let reader = store.reader();
    let mut cursor = reader.cursor(b"", b"").unwrap();
    store.write(&Batch { changes: vec![delete("a"), put("b", "2"), put("c", "2")] }).unwrap();
    store.flusher().flush().unwrap();
    cursor.seek(b"a").unwrap();
    assert_eq!(cursor.entry(), Some((&b"a"[..], &b"1"[..])));
    cursor.next().unwrap();
    assert_eq!(cursor.entry(), Some((&b"b"[..], &b"1"[..])));
    cursor.next().unwrap();
    assert_eq!(cursor.entry(), None);
    assert_eq!(reader.get(b"c").unwrap(), Some(Bytes::from_static(b"2")));
}

/// A drop writes nothing: what was flushed is there, what was not is gone, and no batch is torn.
#[test]
fn a_drop_without_flush_is_a_crash() {
    let dir = tempdir().unwrap();
    let mut store = open(dir.path());
    store.write(&Batch { changes: vec![put("a", "1"), put("applied", "1")] }).unwrap();
    store.flusher().flush().unwrap();
    store.write(&Batch { changes: vec![put("b", "2"), put("applied", "2")] }).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(rows(&store.reader(), "", "", ""), [row("a", "1"), row("applied", "1")]);
}

#[test]
fn the_folder_is_free_when_the_last_handle_is_gone() {
    let dir = tempdir().unwrap();
    let data_dir = DataDir::open(dir.path(), &identity()).unwrap();
    let store = DataStore::open(&data_dir, &DataOptions::small()).unwrap();
    let (reader, flusher) = (store.reader(), store.flusher());
    drop((data_dir, store, reader));
    assert!(matches!(DataDir::open(dir.path(), &identity()), Err(OpenError::Locked { .. })));
    drop(flusher);
    open(dir.path());
}

#[test]
fn sizes_follow_the_rows() {
    let dir = tempdir().unwrap();
    let mut store = open(dir.path());
    let empty = store.sizes().unwrap();
    let noise: Vec<u8> = (0..1_000_000_u32).flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    store.write(&Batch { changes: vec![put("noise", noise)] }).unwrap();
    for flushed in [false, true] {
        let sizes = store.sizes().unwrap();
        assert!(sizes.in_use <= sizes.total, "{sizes:?}");
        assert!((3_000_000..6_000_000).contains(&(sizes.total - empty.total)), "flushed {flushed}: {sizes:?}");
        assert_eq!(sizes, store.reader().sizes().unwrap());
        store.flusher().flush().unwrap();
    }
}

#[test]
fn reclaiming_gives_back_what_deleted_rows_took() {
    let dir = tempdir().unwrap();
    let mut store = open(dir.path());
    let noise: Vec<u8> = (0..500_000_u32).flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    for key in ["a", "b", "c"] {
        store.write(&Batch { changes: vec![put(key, noise.clone())] }).unwrap();
        store.flusher().flush().unwrap();
    }
    store.write(&Batch { changes: vec![delete("a"), delete("c")] }).unwrap();
    assert!(store.sizes().unwrap().total > 5_000_000, "tombstones alone free nothing");
    store.flusher().reclaim();
    let sizes = store.sizes().unwrap();
    assert!((1_900_000..3_000_000).contains(&sizes.total), "{sizes:?}");
    assert_eq!(store.reader().get(b"b").unwrap().unwrap(), noise);
    assert_eq!(store.reader().get(b"a").unwrap(), None);
}

/// Bytes of the store's files with this ending.
fn file_bytes(path: &Path, ending: &str) -> u64 {
    let files = fs::read_dir(path.join("member/data")).unwrap().map(|file| file.unwrap());
    let files = files.filter(|file| file.path().extension().is_some_and(|found| found == ending));
    files.map(|file| file.metadata().unwrap().len()).sum()
}

/// A merge does not rewrite them, sizes count them, and what was deleted of them is given back.
#[test]
fn large_values_are_in_files_of_their_own() {
    let dir = tempdir().unwrap();
    let mut store = open(dir.path());
    let noise: Vec<u8> = (0..20_000_u32).flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let (value, small) = (|at: usize| noise[at..at + 4096].to_vec(), |at: usize| noise[at..at + 500].to_vec());
    let (large_key, small_key) = (|at: usize| format!("large{at:04}"), |at: usize| format!("small{at:04}"));
    for round in 0..4 {
        for at in (round..400).step_by(4) {
            let changes = vec![put(large_key(at), value(at)), put(small_key(at), small(at))];
            store.write(&Batch { changes }).unwrap();
        }
        store.flusher().flush().unwrap();
    }
    let large = 400 * 4096;
    let (tables, values) = (file_bytes(dir.path(), "sst"), file_bytes(dir.path(), "blob"));
    assert!((large..large * 11 / 10).contains(&values), "{values} bytes of large values");
    assert!((200_000..400_000).contains(&tables), "{tables} bytes of everything else");
    let sizes = store.sizes().unwrap();
    assert!((values + tables / 2..values + tables * 2).contains(&sizes.total), "{sizes:?}");

    // Every file loses three of four values.
    for at in (0..400).filter(|at| at / 4 % 4 > 0) {
        store.write(&Batch { changes: vec![Change::Delete(large_key(at).into())] }).unwrap();
    }
    store.flusher().flush().unwrap();
    store.flusher().reclaim();
    let kept = store.sizes().unwrap();
    assert!((large / 4..large / 4 + 500_000).contains(&kept.total), "{kept:?}");
    assert!(kept.in_use <= kept.total, "{kept:?}");
    drop(store);
    let store = open(dir.path());
    let reader = store.reader();
    for at in 0..400 {
        let expected = (at / 4 % 4 == 0).then(|| Bytes::from(value(at)));
        assert_eq!(reader.get(large_key(at).as_bytes()).unwrap(), expected);
        assert_eq!(reader.get(small_key(at).as_bytes()).unwrap().unwrap(), small(at));
    }
    let mut cursor = reader.cursor(b"large", b"largf").unwrap();
    cursor.seek(b"large").unwrap();
    for at in (0..400).filter(|at| at / 4 % 4 == 0) {
        assert_eq!(cursor.entry().unwrap(), (large_key(at).as_bytes(), &*value(at)));
        cursor.next().unwrap();
    }
    assert_eq!(cursor.entry(), None);
    // What the last rewriting left over goes when nothing needs it.
    assert!(file_bytes(dir.path(), "blob") < large / 4 + 100_000);
}

#[test]
fn readers_and_flushers_may_outlive_the_store_but_reads_end_with_it() {
    let dir = tempdir().unwrap();
    let mut store = open(dir.path());
    store.write(&Batch { changes: vec![put("a", "1"), put("b", "2")] }).unwrap();
    let (reader, flusher) = (store.reader(), store.flusher());
    let mut under_way = reader.cursor(b"", b"").unwrap();
    under_way.seek(b"").unwrap();
    drop(store);
    flusher.reclaim();
    // A long read would hold up the end of the node.
    let closed = StoreError("the data store is closed".to_owned());
    assert_eq!(under_way.next(), Err(closed.clone()));
    assert_eq!(reader.cursor(b"", b"").unwrap().seek(b""), Err(closed.clone()));
    assert_eq!(reader.get(b"a"), Err(closed));
}

/// Each batch: its number, and a row of its own; flushed now and then, as memtables fill.
#[test]
fn filling_child() {
    let Some(path) = child_path() else { return };
    let mut store = open(&path);
    let from = store.reader().get(b"applied").unwrap().map_or(0, |row| u64::from_le_bytes(row[..].try_into().unwrap()));
    for number in from + 1.. {
        let key = Bytes::from([&b"row"[..], &number.to_be_bytes()].concat());
        let applied = put("applied", number.to_le_bytes().to_vec());
        store.write(&Batch { changes: vec![put(key, vec![number as u8; 5000]), applied] }).unwrap();
        if number % 1000 == 0 {
            println!("\nat {number}");
        }
    }
}

/// After a kill the rows are those of some batch: all up to the applied number, none after it.
#[test]
fn a_killed_process_leaves_the_state_after_some_batch() {
    let dir = tempdir().unwrap();
    let mut before = 0;
    for kill in 1..=3 {
        let mut filling =
            child("filling_child", dir.path()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(filling.stdout.take().unwrap()).lines().map_while(Result::ok);
        for (seen, _) in lines.filter(|line| line.starts_with("at ")).enumerate() {
            if seen == 2 + kill {
                filling.kill().unwrap();
            }
        }
        filling.wait().unwrap();
        let store = open(dir.path());
        let reader = store.reader();
        let applied = u64::from_le_bytes(reader.get(b"applied").unwrap().unwrap()[..].try_into().unwrap());
        assert!(applied > before, "memtables of 4 MiB were flushed on the way");
        let mut cursor = reader.cursor(b"row", b"").unwrap();
        cursor.seek(b"row").unwrap();
        let mut number = 0_u64;
        while let Some((key, value)) = cursor.entry() {
            number += 1;
            assert_eq!(key, [&b"row"[..], &number.to_be_bytes()].concat());
            assert_eq!(value, vec![number as u8; 5000]);
            cursor.next().unwrap();
        }
        assert_eq!(number, applied, "rows and applied number are one instant");
        before = applied;
    }
}
