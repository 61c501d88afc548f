//! What every [`OrderedStore`] must do, as checks that panic where one does not: the memory store and RocksDB run the same.
//!
//! For tests only (feature `conformance`). It says nothing about durability: that needs crashes, which are the
//! implementation's own tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a suite of tests; it is compiled for nothing else")]

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Batch, Change, Cursor, OrderedStore, StoreReader};

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Runs the suite. `make` opens a fresh, empty store each time. Panics with a message at the first broken rule.
pub fn run<S: OrderedStore>(make: impl Fn() -> S) {
    an_empty_store_holds_nothing(make());
    what_is_put_is_found(make());
    the_last_change_of_a_batch_counts(make());
    keys_sort_as_bytes(make());
    bounds_are_kept(make());
    a_seek_lands_at_or_after_its_key(make());
    a_point_cursor_shows_the_rows_of_one_key(make());
    a_cursor_is_one_state(make());
    readers_see_later_writes(make());
    clones_read_on_other_threads(make());
    large_values_survive(make());
    random_batches_match_a_map(make());
}

fn an_empty_store_holds_nothing<S: OrderedStore>(mut store: S) {
    assert_eq!(get(&store, b"a"), None);
    assert_eq!(rows(&store, b"", b""), Rows::new());
    store.write(&Batch::default()).unwrap();
    let reader = store.reader();
    let mut cursor = reader.cursor(b"", b"").unwrap();
    cursor.seek(b"").unwrap();
    assert!(cursor.entry().is_none(), "past the end there is no entry");
    cursor.next().unwrap();
    assert!(cursor.entry().is_none(), "next past the end stays past the end");
}

fn what_is_put_is_found<S: OrderedStore>(mut store: S) {
    write(
        &mut store,
        &[put(b"a", b"1"), put(b"b", b""), put(b"", b"empty key"), put(&[0], b"zero"), put(&[255, 255], b"high")],
    );
    assert_eq!(get(&store, b"a"), Some(b"1".to_vec()));
    assert_eq!(get(&store, b"b"), Some(Vec::new()), "an empty value is a value");
    assert_eq!(get(&store, b""), Some(b"empty key".to_vec()));
    assert_eq!(get(&store, &[0]), Some(b"zero".to_vec()));
    assert_eq!(get(&store, &[255, 255]), Some(b"high".to_vec()));
    assert_eq!(get(&store, b"aa"), None);
    write(&mut store, &[put(b"a", b"2"), delete(b"b"), delete(b"never existed")]);
    assert_eq!(get(&store, b"a"), Some(b"2".to_vec()), "a put replaces");
    assert_eq!(get(&store, b"b"), None, "a deleted key is gone");
}

fn the_last_change_of_a_batch_counts<S: OrderedStore>(mut store: S) {
    write(
        &mut store,
        &[put(b"a", b"1"), delete(b"a"), put(b"b", b"1"), put(b"b", b"2"), delete(b"c"), put(b"c", b"3")],
    );
    assert_eq!(rows(&store, b"", b""), vec![row(b"b", b"2"), row(b"c", b"3")]);
}

fn keys_sort_as_bytes<S: OrderedStore>(mut store: S) {
    let keys: [&[u8]; 9] = [&[255], b"b", &[0, 255], b"a\0", b"a", &[0], &[0, 0], b"aa", &[128]];
    write(&mut store, &keys.map(|key| put(key, key)));
    let mut sorted = keys.map(|key| row(key, key)).to_vec();
    sorted.sort();
    assert_eq!(rows(&store, b"", b""), sorted, "keys sort as unsigned bytes, a prefix first");
}

fn bounds_are_kept<S: OrderedStore>(mut store: S) {
    write(&mut store, &[b"a", b"b", b"c", b"d"].map(|key| put(key, key)));
    let (a, b, c, d) = (row(b"a", b"a"), row(b"b", b"b"), row(b"c", b"c"), row(b"d", b"d"));
    assert_eq!(rows(&store, b"b", b"d"), vec![b.clone(), c.clone()], "start is inside, end is not");
    assert_eq!(rows(&store, b"", b"b"), vec![a], "an empty start is the beginning");
    assert_eq!(rows(&store, b"c", b""), vec![c, d], "an empty end is no bound");
    assert_eq!(rows(&store, b"bb", b"bz"), Rows::new());
    assert_eq!(rows(&store, b"b", b"b"), Rows::new(), "an empty range is empty");
    assert_eq!(rows(&store, b"d", b"a"), Rows::new(), "a reversed range is empty");
    let reader = store.reader();
    let mut cursor = reader.cursor(b"b", b"c").unwrap();
    cursor.seek(b"a").unwrap();
    assert_eq!(entry(&cursor), Some(b), "a seek before the start lands on the start");
    cursor.seek(b"c").unwrap();
    assert_eq!(entry(&cursor), None, "a seek at the end finds nothing");
    cursor.seek(b"z").unwrap();
    assert_eq!(entry(&cursor), None);
}

fn a_seek_lands_at_or_after_its_key<S: OrderedStore>(mut store: S) {
    write(&mut store, &[b"b", b"d", b"f"].map(|key| put(key, key)));
    let reader = store.reader();
    let mut cursor = reader.cursor(b"", b"").unwrap();
    for (target, found) in
        [(b"a", Some(b"b")), (b"b", Some(b"b")), (b"e", Some(b"f")), (b"g", None), (b"c", Some(b"d"))]
    {
        cursor.seek(target).unwrap();
        assert_eq!(entry(&cursor), found.map(|key| row(key, key)), "seek to {}", target.escape_ascii());
    }
    cursor.next().unwrap();
    assert_eq!(entry(&cursor), Some(row(b"f", b"f")), "a step after a seek");
    cursor.seek(b"a").unwrap();
    assert_eq!(entry(&cursor), Some(row(b"b", b"b")), "seeks go backwards too");
}

fn a_point_cursor_shows_the_rows_of_one_key<S: OrderedStore>(mut store: S) {
    // User rows as the layout has them: two of key k, one of key k 00, one of kk.
    let keys: [&[u8]; 4] =
        [b"uk\0\0aaaaaaaaaaaa", b"uk\0\0bbbbbbbbbbbb", b"uk\0\xff\0\0aaaaaaaaaaaa", b"ukk\0\0\0\0\0\0\0\0\0\0\0\0\0\0"];
    write(&mut store, &keys.map(|key| put(key, key)));
    let reader = store.reader();
    let mut cursor = reader.point_cursor().unwrap();
    for (target, key) in [b"uk\0\0".as_slice(), b"uk\0\0b", b"uk\0\xff\0\0", b"ukk\0\0"].into_iter().zip(keys) {
        cursor.seek(target).unwrap();
        assert_eq!(entry(&cursor), Some(row(key, key)), "seek to {}", target.escape_ascii());
    }
    cursor.seek(b"uk\0\0").unwrap();
    cursor.next().unwrap();
    assert_eq!(entry(&cursor), Some(row(keys[1], keys[1])), "a step to the next row of the key");
    for absent in [b"uj\0\0".as_slice(), b"uk\0\xff\0\xff\0\0", b"ukkk\0\0"] {
        cursor.seek(absent).unwrap();
        let there = entry(&cursor);
        assert!(there.is_none_or(|(key, _)| !key.starts_with(absent)), "nothing with this prefix is there");
    }
}

fn a_cursor_is_one_state<S: OrderedStore>(mut store: S) {
    write(&mut store, &[put(b"a", b"1"), put(b"b", b"1"), put(b"c", b"1")]);
    let reader = store.reader();
    let mut cursor = reader.cursor(b"", b"").unwrap();
    cursor.seek(b"a").unwrap();
    write(&mut store, &[put(b"a", b"2"), delete(b"b"), put(b"bb", b"2"), put(b"c", b"2")]);
    assert_eq!(entry(&cursor), Some(row(b"a", b"1")));
    cursor.next().unwrap();
    assert_eq!(entry(&cursor), Some(row(b"b", b"1")), "a key deleted later is still there");
    cursor.next().unwrap();
    assert_eq!(entry(&cursor), Some(row(b"c", b"1")), "a key written later is not");
    cursor.seek(b"a").unwrap();
    assert_eq!(entry(&cursor), Some(row(b"a", b"1")), "a second seek sees the same state");
    drop(cursor);
    assert_eq!(rows(&store, b"", b""), vec![row(b"a", b"2"), row(b"bb", b"2"), row(b"c", b"2")]);
}

fn readers_see_later_writes<S: OrderedStore>(mut store: S) {
    let reader = store.reader();
    write(&mut store, &[put(b"a", b"1")]);
    assert_eq!(reader.get(b"a").unwrap().as_deref(), Some(b"1".as_slice()), "get sees the latest content");
    let mut cursor = reader.cursor(b"", b"").unwrap();
    cursor.seek(b"").unwrap();
    assert_eq!(entry(&cursor), Some(row(b"a", b"1")), "a new cursor too");
}

/// A writer and readers side by side: whatever state a cursor shows, it is that of a whole batch.
fn clones_read_on_other_threads<S: OrderedStore>(mut store: S) {
    const BATCHES: u64 = 200;
    let keys: [&[u8]; 3] = [b"x", b"y", b"z"];
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let reader = store.reader();
            std::thread::spawn(move || {
                let mut last = 0;
                while last < BATCHES {
                    let mut seen = Vec::new();
                    let mut cursor = reader.cursor(b"", b"").unwrap();
                    cursor.seek(b"").unwrap();
                    while let Some((_, value)) = cursor.entry() {
                        seen.push(u64::from_be_bytes(value.try_into().unwrap()));
                        cursor.next().unwrap();
                    }
                    let now = seen.first().copied().unwrap_or(0);
                    assert!(seen.is_empty() || seen == [now; 3], "a cursor shows whole batches: {seen:?}");
                    assert!(now >= last, "and never goes back");
                    last = now;
                }
            })
        })
        .collect();
    for batch in 1..=BATCHES {
        write(&mut store, &keys.map(|key| put(key, &batch.to_be_bytes())));
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

fn large_values_survive<S: OrderedStore>(mut store: S) {
    let large: Vec<u8> = (0..1_500_000u32).map(|i| i.to_be_bytes()).map(|[_, a, b, c]| a ^ b ^ c).collect();
    let key = vec![7; 10_000];
    write(&mut store, &[put(&key, &large)]);
    assert!(get(&store, &key).as_deref() == Some(large.as_slice()), "a value of 1.5 MB comes back as it was");
}

fn random_batches_match_a_map<S: OrderedStore>(mut store: S) {
    const SEED: u64 = 0x5eed;
    let mut state = SEED;
    let mut random = move |below: u64| {
        // splitmix64: small, and good enough to pick keys.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for round in 0..400 {
        let mut changes = Vec::new();
        for _ in 0..random(8) {
            let length = random(4);
            let key: Vec<u8> = (0..length)
                .map(|_| [0, 1, b'a', 255].get(usize::try_from(random(4)).unwrap()).copied().unwrap())
                .collect();
            if random(3) == 0 {
                model.remove(&key);
                changes.push(delete(&key));
            } else {
                let value = random(u64::MAX).to_be_bytes();
                model.insert(key.clone(), value.to_vec());
                changes.push(put(&key, &value));
            }
        }
        write(&mut store, &changes);
        let bound = |random: &mut dyn FnMut(u64) -> u64| -> Vec<u8> {
            (0..random(3)).map(|_| if random(2) == 0 { 1 } else { b'a' }).collect()
        };
        let (start, end) = (bound(&mut random), bound(&mut random));
        let expected: Rows = model
            .iter()
            .filter(|(key, _)| **key >= start && (end.is_empty() || **key < end))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(rows(&store, &start, &end), expected, "seed {SEED:#x}, round {round}, {start:?}..{end:?}");
    }
}

fn put(key: &[u8], value: &[u8]) -> Change {
    Change::Put(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
}

fn delete(key: &[u8]) -> Change {
    Change::Delete(Bytes::copy_from_slice(key))
}

fn row(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), value.to_vec())
}

fn write(store: &mut impl OrderedStore, changes: &[Change]) {
    store.write(&Batch { changes: changes.to_vec() }).unwrap();
}

fn get(store: &impl OrderedStore, key: &[u8]) -> Option<Vec<u8>> {
    store.reader().get(key).unwrap().map(|value| value.to_vec())
}

fn entry(cursor: &impl Cursor) -> Option<(Vec<u8>, Vec<u8>)> {
    cursor.entry().map(|(key, value)| row(key, value))
}

fn rows(store: &impl OrderedStore, start: &[u8], end: &[u8]) -> Rows {
    let reader = store.reader();
    let mut cursor = reader.cursor(start, end).unwrap();
    cursor.seek(start).unwrap();
    let mut rows = Rows::new();
    while let Some(row) = entry(&cursor) {
        rows.push(row);
        cursor.next().unwrap();
    }
    rows
}
