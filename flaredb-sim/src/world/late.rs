//! What comes late: appends of leaders of earlier terms, just when their receiver has gone on to another term and may know no
//! leader yet. This is when an old append that is taken does harm; replays at random times meet it rarely.
//!
//! Only in runs that have replays or long delays; each is a replay named by its receiver and the term.
#![expect(clippy::indexing_slicing, reason = "nodes are numbered by the world")]

use super::{Happening, World, id_of};
use crate::faults::FaultKind;
use crate::marks::Mark;
use crate::prf::Draw;

impl World {
    /// A node has gone on to this term.
    pub(crate) fn late_appends(&mut self, at: usize, term: u64) {
        let late = self.settings.every_us(FaultKind::Replay) > 0 || self.settings.network.tail > 0;
        if !late || self.core.as_ref().is_some_and(|core| core[at]) {
            return;
        }
        let mut draw = Draw::new(self.settings.seed, "late appends", (id_of(at) << 48) ^ term);
        if draw.below(2) > 0 || !self.faults.allows(FaultKind::Replay, id_of(at), term) {
            return;
        }
        for from in (0..self.nodes.len()).filter(|from| *from != at) {
            let number = self.network.link(from, at);
            for _ in 0..draw.below(3) {
                let within = *draw.pick(&[1_000, 20_000, 300_000, 2_000_000]);
                let after = draw.below(within);
                if let Some(slot) = self.network.late_append(number, &mut draw) {
                    self.marks.hit(Mark::AppendComesLate);
                    self.schedule(after, Happening::Frame { slot });
                }
            }
        }
    }
}
