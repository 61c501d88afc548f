//! Which states were seen: a fixed open-addressing table of 64-bit fingerprints, with the place of the state it was reached
//! from. 12 bytes a slot. With 10^8 states the chance that any two share a fingerprint is 3 in 10,000.

/// A slot of the table.
pub(super) type Slot = u32;

#[derive(Debug)]
pub(super) struct Visited {
    /// 0: free.
    fingerprints: Vec<u64>,
    parents: Vec<Slot>,
    mask: u64,
}

impl Visited {
    /// Room for `states_max` at a load of at most three quarters.
    pub(super) fn new(states_max: u64) -> Self {
        let slots = (states_max + states_max / 3 + 16).next_power_of_two().min(1 << 31);
        let length = usize::try_from(slots).unwrap_or(usize::MAX);
        Self { fingerprints: vec![0; length], parents: vec![0; length], mask: slots - 1 }
    }

    /// The slot of a state that is new; None if it was seen before.
    pub(super) fn insert(&mut self, fingerprint: u64, parent: Slot) -> Option<Slot> {
        let fingerprint = fingerprint.max(1);
        let mut slot = fingerprint & self.mask;
        loop {
            let place = usize::try_from(slot).unwrap_or(usize::MAX);
            let found = self.fingerprints.get_mut(place)?;
            if *found == fingerprint {
                return None;
            }
            if *found == 0 {
                *found = fingerprint;
                *self.parents.get_mut(place)? = parent;
                return Slot::try_from(slot).ok();
            }
            slot = (slot + 1) & self.mask;
        }
    }

    /// The fingerprints on the way from the first state (whose slot is `root`, its own parent) to this one, the first left out.
    pub(super) fn way_to(&self, slot: Slot, root: Slot) -> Vec<u64> {
        let mut way = Vec::new();
        let mut slot = slot;
        while slot != root {
            let place = usize::try_from(slot).unwrap_or(usize::MAX);
            let (Some(fingerprint), Some(parent)) = (self.fingerprints.get(place), self.parents.get(place)) else {
                break;
            };
            way.push(*fingerprint);
            slot = *parent;
        }
        way.reverse();
        way
    }
}
