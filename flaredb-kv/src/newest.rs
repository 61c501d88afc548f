//! A bounded memory of keys' newest rows, without their values: what a put or a comparison has to know of a key, so that it
//! need not search the store for it. Apply writes through it.
//!
//! It decides nothing: an answer from here is the one that the store and the batch would give, and what is not here is looked
//! up there. So its size is each member's own affair, and forgetting is always right. It is not used by readers, who may look
//! at the past.
//!
//! A table of buckets, each with a few places. A key belongs into one bucket; a full one gives up one of its places in turn.
//! Keys that a client chose to share a bucket only miss more often.

use std::fmt;

use crate::layout::{RowHeader, RowRevision};

/// Keys remembered unless the owner says otherwise. About 130 bytes each, with keys of 40 bytes.
pub(crate) const KEYS_MAX: usize = 128 * 1024;
/// Longer prefixes are not remembered, so that the memory stays bounded.
const PREFIX_BYTES_MAX: usize = 256;
/// Places of a bucket: one cache line of tags. With 8 a table three quarters full has no room for one key in 16, with 16 for one
/// in 50.
const PLACES: usize = 16;
/// Buckets of a table that begins.
const BUCKETS_MIN: usize = 16;
/// No key has this tag.
const NO_TAG: u32 = 0;

/// The newest live row of a key; None if the key does not exist.
pub(crate) type NewestRow = Option<(RowRevision, RowHeader)>;

/// The memory. Grows with use up to its bound.
pub(crate) struct NewestRows {
    /// A power of two; 0: nothing is remembered.
    buckets_max: usize,
    /// A part of the hash of each place's key, [`PLACES`] to a bucket, to look at few places closely.
    tags: Vec<u32>,
    places: Vec<Place>,
    used: usize,
    /// Which place of a full bucket goes next.
    hand: usize,
    /// The highest revision of what was forgotten since [`NewestRows::watch`].
    forgotten: i64,
}

#[derive(Clone, Debug, Default)]
struct Place {
    prefix: Box<[u8]>,
    row: NewestRow,
}

impl NewestRows {
    /// Remembers up to about `keys_max` keys; rounded up to a power of two. Zero: none.
    pub(crate) fn new(keys_max: usize) -> Self {
        let buckets_max = if keys_max == 0 { 0 } else { keys_max.div_ceil(PLACES).next_power_of_two() };
        let mut rows = Self { buckets_max, tags: Vec::new(), places: Vec::new(), used: 0, hand: 0, forgotten: 0 };
        rows.resize(buckets_max.min(BUCKETS_MIN));
        rows
    }

    /// What is known of the key with this prefix.
    pub(crate) fn get(&self, prefix: &[u8]) -> Option<NewestRow> {
        let at = self.find(prefix, hash(prefix))?;
        self.places.get(at).map(|place| place.row)
    }

    /// Remembers the key's newest row.
    pub(crate) fn put(&mut self, prefix: &[u8], row: NewestRow) {
        if prefix.len() > PREFIX_BYTES_MAX || self.buckets_max == 0 {
            self.note_forgotten(row);
            return;
        }
        let hash = hash(prefix);
        if let Some(place) = self.find(prefix, hash).and_then(|at| self.places.get_mut(at)) {
            place.row = row;
            return;
        }
        if self.used >= self.tags.len() / 4 * 3 && self.buckets() < self.buckets_max {
            self.grow();
        }
        self.insert(hash, Place { prefix: prefix.into(), row });
    }

    /// Forgets the key.
    pub(crate) fn forget(&mut self, prefix: &[u8]) {
        if let Some(at) = self.find(prefix, hash(prefix)) {
            let row = self.clear(at).row;
            self.note_forgotten(row);
        }
    }

    /// From here on what is forgotten is noted.
    pub(crate) fn watch(&mut self) {
        self.forgotten = 0;
    }

    /// True if every key that was put since [`NewestRows::watch`], with a row newer than `revision`, is remembered.
    pub(crate) fn knows_all_since(&self, revision: i64) -> bool {
        self.forgotten <= revision
    }

    /// A deletion's revision is not known, and counts as the highest.
    fn note_forgotten(&mut self, row: NewestRow) {
        self.forgotten = self.forgotten.max(row.map_or(i64::MAX, |(revision, _)| revision.main));
    }

    fn clear(&mut self, at: usize) -> Place {
        if let Some(tag) = self.tags.get_mut(at) {
            *tag = NO_TAG;
            self.used -= 1;
        }
        self.places.get_mut(at).map(std::mem::take).unwrap_or_default()
    }

    fn buckets(&self) -> usize {
        self.tags.len() / PLACES
    }

    fn resize(&mut self, buckets: usize) {
        self.tags.resize(buckets * PLACES, NO_TAG);
        self.places.resize(buckets * PLACES, Place::default());
    }

    /// Doubles the table. What was in one bucket is then in two.
    fn grow(&mut self) {
        let before = self.tags.len();
        self.resize(self.buckets() * 2);
        for at in 0..before {
            if self.tags.get(at).is_some_and(|tag| *tag != NO_TAG) {
                let place = self.clear(at);
                self.insert(hash(&place.prefix), place);
            }
        }
    }

    /// The first place of the hash's bucket.
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn bucket(&self, hash: u64) -> usize {
        (hash as usize & self.buckets().saturating_sub(1)) * PLACES
    }

    fn find(&self, prefix: &[u8], hash: u64) -> Option<usize> {
        let first = self.bucket(hash);
        let tags = self.tags.get(first..first + PLACES)?;
        let wanted = tag(hash);
        let hit = |(offset, tag): (usize, &u32)| {
            let at = first + offset;
            let same = *tag == wanted && self.places.get(at).is_some_and(|place| *place.prefix == *prefix);
            same.then_some(at)
        };
        tags.iter().enumerate().find_map(hit)
    }

    /// Puts a key that is not there into a free place of its bucket, or into another's.
    fn insert(&mut self, hash: u64, new: Place) {
        let first = self.bucket(hash);
        let free = self.tags.iter().skip(first).take(PLACES).position(|tag| *tag == NO_TAG);
        if free.is_some() {
            self.used += 1;
        } else {
            self.hand = (self.hand + 1) % PLACES;
        }
        let at = first + free.unwrap_or(self.hand);
        if let (Some(old), Some(place)) = (self.tags.get_mut(at), self.places.get_mut(at)) {
            *old = tag(hash);
            let gone = std::mem::replace(place, new);
            if free.is_none() {
                self.note_forgotten(gone.row);
            }
        }
    }
}

impl fmt::Debug for NewestRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewestRows({} of {})", self.used, self.buckets_max * PLACES)
    }
}

/// The upper half, never [`NO_TAG`].
#[expect(clippy::as_conversions, reason = "a shift by 32 leaves 32 bits")]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

/// Eight bytes at a time, multiplied and folded. The same everywhere and always: which keys are forgotten must not differ from
/// run to run.
fn hash(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word).wrapping_mul(u128::from(ODD));
        fold(product)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = words.iter().fold(ODD, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    hash = mix(hash, u64::from_le_bytes(last));
    mix(hash, u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "both halves are used")]
fn fold(product: u128) -> u64 {
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{NewestRow, NewestRows, PLACES, PREFIX_BYTES_MAX};
    use crate::layout::{RowHeader, RowRevision};

    fn row(main: i64) -> NewestRow {
        (main % 5 != 0)
            .then_some((RowRevision { main, sub: 0 }, RowHeader { create_revision: 1, version: main, lease: 0 }))
    }

    fn key(number: u64) -> Vec<u8> {
        format!("ukey{number}\0\0").into_bytes()
    }

    /// Against a map: what it knows is right, whatever it has forgotten.
    fn compare_with_a_map(keys_max: usize, keys: u64) -> usize {
        let mut rows = NewestRows::new(keys_max);
        let mut map = BTreeMap::new();
        let (mut state, mut hits) = (7_u64, 0);
        for step in 0..20_000_i64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = key((state >> 33) % keys);
            if state >> 61 == 0 {
                rows.forget(&key);
                map.remove(&key);
                assert_eq!(rows.get(&key), None);
            } else {
                rows.put(&key, row(step));
                map.insert(key.clone(), row(step));
                assert_eq!(rows.get(&key), (keys_max > 0).then(|| row(step)));
            }
        }
        for (key, row) in &map {
            if let Some(known) = rows.get(key) {
                assert_eq!(known, *row);
                hits += 1;
            }
        }
        assert_eq!(rows.used, hits, "nothing is there twice, and nothing that was forgotten");
        assert!(rows.tags.len() <= keys_max.next_power_of_two().max(PLACES));
        hits
    }

    #[test]
    fn what_it_knows_is_what_was_put_last() {
        assert_eq!(compare_with_a_map(0, 100), 0);
        assert_eq!(compare_with_a_map(1, 100), PLACES);
        assert!(compare_with_a_map(64, 1000) > 50);
    }

    #[test]
    fn a_table_with_room_forgets_nearly_nothing_while_it_grows() {
        assert!(compare_with_a_map(4096, 1500) > 1200, "some 1,300 of them are there at the end");
    }

    #[test]
    fn what_it_forgets_of_the_watched_is_noted() {
        let mut rows = NewestRows::new(PLACES);
        let full = 16;
        for number in 0..full {
            rows.put(&key(number), row(1));
        }
        rows.watch();
        for number in full..2 * full {
            rows.put(&key(number), row(11));
        }
        assert!(rows.knows_all_since(1), "only rows from before had to go");
        rows.put(&key(2 * full), row(11));
        assert!(!rows.knows_all_since(1));
        rows.watch();
        rows.forget(&key(2 * full));
        assert!(rows.knows_all_since(11) && !rows.knows_all_since(10));
        rows.put(&key(3 * full), row(5));
        rows.forget(&key(3 * full));
        assert!(!rows.knows_all_since(i64::MAX - 1), "a deletion's revision is not known");
        rows.watch();
        rows.put(&[b'u'; PREFIX_BYTES_MAX + 1], row(12));
        assert!(!rows.knows_all_since(11), "it never was remembered");
    }

    #[test]
    fn long_keys_are_not_remembered() {
        let mut rows = NewestRows::new(100);
        rows.put(&[b'u'; PREFIX_BYTES_MAX + 1], row(1));
        assert_eq!(rows.used, 0);
        rows.put(&[b'u'; PREFIX_BYTES_MAX], row(1));
        assert_eq!(rows.get(&[b'u'; PREFIX_BYTES_MAX]), Some(row(1)));
    }
}
