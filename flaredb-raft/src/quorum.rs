//! What a majority agrees on. Computed from the voters of the ConfState and from nothing else.

use crate::num::to_usize;

/// How many of `voters` are a majority.
pub(crate) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The greatest number that a majority has reached, given each voter's number. Sorts `values`; 0 if there are none.
pub(crate) fn reached_by_majority(values: &mut [u64]) -> u64 {
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(majority(values.len()) - 1).copied().unwrap_or(0)
}

/// True if `count` votes decide an election among `voters`.
pub(crate) fn is_majority(count: u64, voters: usize) -> bool {
    if mutant!(ElectedByMinority) {
        return to_usize(count) + 1 >= majority(voters);
    }
    to_usize(count) >= majority(voters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;
    use alloc::vec::Vec;

    /// B10: the sorted pick equals the plain definition, for random vectors of every size up to 9.
    #[test]
    fn a_majority_has_reached_it_and_no_more() {
        let mut prng = Prng::new(10);
        for _ in 0..50_000 {
            let count = 1 + to_usize(prng.below(9));
            let values: Vec<u64> = (0..count).map(|_| prng.below(12)).collect();
            let picked = reached_by_majority(&mut values.clone());
            let reached = |n: u64| values.iter().filter(|v| **v >= n).count() > count / 2;
            assert!(reached(picked), "{values:?}: {picked} is not reached by a majority");
            assert!(!reached(picked + 1), "{values:?}: more than {picked} is reached by a majority");
        }
    }

    #[test]
    fn majorities_of_small_clusters() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
        assert!(!is_majority(1, 3) && is_majority(2, 3));
    }
}
