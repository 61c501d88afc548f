//! A node's clock: what it makes of virtual time. Replicas see ticks, and for lease reads a reading.
//!
//! It runs fast or slow by up to a tenth, jumps (a tick at once, or late), and freezes (ticks stop, everything else goes on).

use crate::prf::Draw;

/// Of one process.
#[derive(Debug)]
pub struct Clock {
    /// Length of a tick by this clock.
    tick_us: u64,
    /// What it shows at time 0.
    offset_us: u64,
    /// True time between two ticks.
    period_us: u64,
    frozen_until: u64,
    /// Added to the next tick's time, once.
    late_us: u64,
    /// The next tick comes at once.
    early: bool,
    /// When the next tick comes.
    due: u64,
}

impl Clock {
    /// A clock whose ticks of `tick_us` are off by at most `drift_per_million`.
    pub fn new(tick_us: u64, drift_per_million: u64, draw: &mut Draw) -> Self {
        let drift = draw.between(0, 2 * drift_per_million);
        let period_us = (tick_us * (1_000_000 - drift_per_million + drift) / 1_000_000).max(1);
        // Clocks of different nodes have nothing to do with each other.
        let offset_us = draw.below(1 << 40);
        Self { tick_us, offset_us, period_us, frozen_until: 0, late_us: 0, early: false, due: 0 }
    }

    /// True time between two ticks, if nothing is wrong.
    pub fn period_us(&self) -> u64 {
        self.period_us
    }

    /// What it shows, in µs. This does not jump or stand still: it is the monotonic clock, and those faults are the timers'.
    pub fn reading(&self, now: u64) -> u64 {
        // Virtual time stays far below 2^40 µs, two weeks.
        self.offset_us + now * self.tick_us / self.period_us
    }

    /// When the tick after the one at `now` comes.
    pub fn next_tick(&mut self, now: u64) -> u64 {
        let regular = now + if std::mem::take(&mut self.early) { 1 } else { self.period_us };
        self.due = regular.max(self.frozen_until) + std::mem::take(&mut self.late_us);
        self.due
    }

    /// Until when it does not tick, if that is longer than usual: faults that end do not bring the next tick.
    pub fn stands_still(&self, now: u64) -> Option<u64> {
        Some(self.due).filter(|due| *due > now + self.period_us)
    }

    /// No ticks until then.
    pub fn freeze(&mut self, until: u64) {
        self.frozen_until = self.frozen_until.max(until);
    }

    /// The clock was set forward: what was to come later is due now.
    pub fn jump_forward(&mut self) {
        self.early = true;
    }

    /// The clock was set back: the next tick comes later.
    pub fn jump_backward(&mut self, by_us: u64) {
        self.late_us = by_us;
    }

    /// Faults end.
    pub fn heal(&mut self) {
        self.frozen_until = 0;
        self.late_us = 0;
    }
}
