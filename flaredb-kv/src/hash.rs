//! A hash over the content at a revision, for comparing members (etcd's HashKV).
//!
//! It covers what a compaction at the compact revision leaves, whether the rows are physically gone or not: of each key every
//! row above the compact revision, and the newest row up to it if that is live. A tombstone at the compact revision does
//! not count (etcd's choice too). Metadata, such as the applied index, is not content.

use xxhash_rust::xxh3::Xxh3;

use crate::{
    Cursor, StoreError, StoreReader,
    layout::{self, USER_END, USER_START},
};

pub(crate) fn content_hash(reader: &impl StoreReader, revision: i64, compact_revision: i64) -> Result<u32, StoreError> {
    let mut hasher = Xxh3::new();
    let mut cursor = reader.cursor(USER_START, USER_END)?;
    cursor.seek(USER_START)?;
    // The key whose newest row up to the compact revision was passed: its other rows are compacted.
    let mut passed: Vec<u8> = Vec::new();
    while let Some((key, row)) = cursor.entry() {
        let (prefix, at) = layout::split_user_row(key)?;
        let kept = if at.main > compact_revision {
            at.main <= revision
        } else if passed == prefix {
            false
        } else {
            passed.clear();
            passed.extend_from_slice(prefix);
            !layout::is_tombstone(row)
        };
        if kept {
            add(&mut hasher, key);
            add(&mut hasher, row);
        }
        cursor.next()?;
    }
    let [a, b, c, d, e, f, g, h] = hasher.digest().to_be_bytes();
    Ok(u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h]))
}

/// The length goes in front, so that no two sequences of rows look alike.
fn add(hasher: &mut Xxh3, bytes: &[u8]) {
    hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(bytes);
}
