//! How long the disk takes, in virtual µs. The caller asks and waits; the disk itself knows no time.

use super::sectors::SimDisk;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// A write into the cache.
    Write,
    /// A sync.
    Sync,
}

/// A disk's speed. The default is that of a decent SSD without stalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Least and most time of a usual write, µs.
    pub write: (u64, u64),
    /// Least and most time of a usual sync, µs.
    pub sync: (u64, u64),
    /// Of a million syncs, so many take `slow` instead.
    pub slow_per_million: u64,
    /// Least and most time of a slow sync, µs.
    pub slow: (u64, u64),
    /// Of a million syncs, so many take `stall` instead.
    pub stall_per_million: u64,
    /// Least and most time of a stall, µs.
    pub stall: (u64, u64),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            write: (5, 20),
            sync: (100, 400),
            slow_per_million: 20_000,
            slow: (1_000, 20_000),
            stall_per_million: 0,
            stall: (1_000_000, 10_000_000),
        }
    }
}

impl SimDisk {
    /// Changes the disk's speed.
    pub fn set_timing(&self, timing: Timing) {
        self.platter().timing = timing;
    }

    /// How long the next operation of this kind takes, in µs.
    pub fn latency(&self, op: DiskOp) -> u64 {
        let platter = &mut *self.platter();
        let (timing, draw) = (platter.timing, &mut platter.draw);
        let (low, high) = match op {
            DiskOp::Write => timing.write,
            DiskOp::Sync if draw.hits(timing.stall_per_million) => timing.stall,
            DiskOp::Sync if draw.hits(timing.slow_per_million) => timing.slow,
            DiskOp::Sync => timing.sync,
        };
        draw.between(low, high)
    }
}
