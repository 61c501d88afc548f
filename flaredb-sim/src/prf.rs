//! Keyed randomness: each place that needs a random choice (a link, a disk, a client) has a stream of its own, and each value is
//! a function of (seed, stream, how many were drawn from it). Removing one fault therefore does not shift the choices made
//! elsewhere, which is what makes a failing run shrink.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One stream of choices.
#[derive(Clone, Debug)]
pub struct Draw {
    key: u64,
    count: u64,
}

impl Draw {
    /// The stream named `name` of `who` (a node, a link, a client) under this seed.
    pub fn new(seed: u64, name: &str, who: u64) -> Self {
        Self { key: xxh3_64_with_seed(name.as_bytes(), mix(seed) ^ mix(who.wrapping_add(0x9E37_79B9))), count: 0 }
    }

    /// The next value.
    pub fn value(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        mix(self.key ^ mix(self.count))
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        self.value() % bound
    }

    /// Of the closed range.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "a range has a first and a last number");
        low + self.below((high - low).saturating_add(1))
    }

    /// True once in a million times `per_million`.
    pub fn hits(&mut self, per_million: u64) -> bool {
        per_million > 0 && self.below(1_000_000) < per_million
    }

    /// One of these, which are not none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let count = u64::try_from(of.len()).unwrap_or(u64::MAX);
        let at = usize::try_from(self.below(count)).unwrap_or(0);
        of.get(at).unwrap_or_else(|| unreachable!("below the length"))
    }
}

/// SplitMix64's finalizer: a bijection without fixed structure.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Draw;

    #[test]
    fn streams_do_not_know_of_each_other() {
        let mut one = Draw::new(7, "link", 1);
        let first: Vec<u64> = (0..10).map(|_| one.value()).collect();
        let mut other = Draw::new(7, "link", 2);
        let _ = other.value();
        let mut again = Draw::new(7, "link", 1);
        assert_eq!(first, (0..10).map(|_| again.value()).collect::<Vec<_>>());
        assert_ne!(first, (0..10).map(|_| other.value()).collect::<Vec<_>>());
    }
}
