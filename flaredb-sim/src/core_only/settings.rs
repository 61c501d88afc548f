//! Which faults a run has, and how many: drawn per seed (swarm testing), because all of them at once hide each other.

use crate::prf::Draw;
use flaredb_raft::Config;

/// A tick, in units of virtual time.
pub(super) const TICK: u64 = 1_000;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) nodes: u64,
    /// Of a million messages.
    pub(super) loss: u64,
    pub(super) duplicates: u64,
    /// Messages that take up to ten ticks.
    pub(super) late: u64,
    pub(super) delay_max: u64,
    /// Of a million events.
    pub(super) cuts: u64,
    pub(super) crashes: u64,
    pub(super) stalls: u64,
    pub(super) compactions: u64,
    pub(super) transfers: u64,
    /// Time between proposals.
    pub(super) proposal_gap: u64,
    small: bool,
}

impl Settings {
    pub(super) fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed, "settings", 0);
        let mut some = |of: &[u64]| *draw.pick(of);
        Self {
            nodes: some(&[3, 3, 3, 5]),
            loss: some(&[0, 0, 20_000, 150_000]),
            duplicates: some(&[0, 10_000, 100_000]),
            late: some(&[0, 5_000, 50_000]),
            delay_max: some(&[100, 400, 1_500]),
            cuts: some(&[0, 100, 500]),
            crashes: some(&[0, 100, 1_000]),
            stalls: some(&[0, 1_000, 20_000]),
            compactions: some(&[0, 200, 5_000]),
            transfers: some(&[0, 20, 200]),
            proposal_gap: some(&[100, 300, 2_000]),
            small: some(&[0, 1]) == 1,
        }
    }

    pub(super) fn config(&self, seed: u64, id: u64, incarnation: u64) -> Config {
        let config = Config { seed: seed ^ (incarnation << 32), incarnation, ..Config::new(id, 1) };
        if !self.small {
            return config;
        }
        Config {
            append_bytes_max: 100,
            apply_bytes_max: 60,
            inflight_max: 2,
            cache_bytes_max: 300,
            uncommitted_bytes_max: 2_000,
            ..config
        }
    }

    /// After the faults.
    pub(super) fn heal(&mut self) {
        (self.loss, self.duplicates, self.late) = (0, 0, 0);
        (self.cuts, self.crashes, self.stalls, self.transfers) = (0, 0, 0, 0);
        self.delay_max = self.delay_max.min(400);
    }
}
