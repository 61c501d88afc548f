//! Key ranges as etcd's API writes them: a key and a `range_end`, where the shape of `range_end` has the meaning.

/// What is asked for: `key` alone when `range_end` is empty, else `key <= k < range_end`. A `range_end` of one zero
/// byte means "to the end of the key space".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub key: Vec<u8>,
    /// Where to stop, exclusive; empty for a single key.
    pub range_end: Vec<u8>,
}

impl KeyRange {
    /// Exactly one key.
    pub fn single(key: Vec<u8>) -> Self {
        KeyRange { key, range_end: Vec::new() }
    }

    /// All keys in `[key, end)`.
    pub fn until(key: Vec<u8>, range_end: Vec<u8>) -> Self {
        KeyRange { key, range_end }
    }

    /// All keys that begin with `prefix`; the empty prefix means every key.
    pub fn prefix(prefix: Vec<u8>) -> Self {
        if prefix.is_empty() {
            return KeyRange::from_key(prefix);
        }
        let range_end = prefix_end(&prefix);
        KeyRange { key: prefix, range_end }
    }

    /// All keys from `key` on; the empty key means every key (the API does not take an empty key, its smallest is
    /// one zero byte).
    pub fn from_key(key: Vec<u8>) -> Self {
        let key = if key.is_empty() { vec![0] } else { key };
        KeyRange { key, range_end: vec![0] }
    }
}

/// The smallest key after all keys that begin with `prefix`: the last byte below 0xff goes up by one and the rest is
/// cut. A prefix of 0xff bytes only has no such key: its range runs to the end of the key space, one zero byte.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last.saturating_add(1));
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_next_key_after_the_prefix() {
        let table: [(&[u8], &[u8]); 7] = [
            (b"a", b"b"),
            (b"foo", b"fop"),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\x00", b"\x01"),
            (b"\xff", b"\0"),
            (b"\xff\xff\xff", b"\0"),
        ];
        for (prefix, end) in table {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
    }

    #[test]
    fn the_empty_key_means_everything() {
        let everything = KeyRange::until(vec![0], vec![0]);
        assert_eq!(KeyRange::prefix(Vec::new()), everything);
        assert_eq!(KeyRange::from_key(Vec::new()), everything);
        assert_eq!(KeyRange::from_key(b"b".to_vec()), KeyRange::until(b"b".to_vec(), vec![0]));
        assert_eq!(KeyRange::single(b"b".to_vec()), KeyRange::until(b"b".to_vec(), Vec::new()));
    }
}
