//! The settings of one run, all drawn from its seed: the size of the cluster, its timing, which faults exist and how often they
//! come. Each seed has a different set (a swarm), because faults that are always all on hide each other's effects.

use crate::faults::FaultKind;
use crate::prf::Draw;

/// Of one run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What everything is drawn from.
    pub seed: u64,
    /// 3 or 5.
    pub voters: u64,
    /// No faults at all: then every request must be answered, and nobody may lose leadership.
    pub fault_free: bool,
    /// Replicas.
    pub replica: ReplicaSettings,
    /// Links between nodes.
    pub network: NetworkSettings,
    /// Disks.
    pub disk: DiskSettings,
    /// Clients.
    pub workload: WorkloadSettings,
    /// Who serves reads by leases.
    pub leases: Leases,
    /// A clock is off by at most this, per million.
    pub drift_per_million: u64,
    /// Time a process takes for an input.
    pub cpu_us: u64,
    /// Mean time between faults of each kind; 0: none.
    pub every_us: [u64; FaultKind::ALL.len()],
    /// How long an outage takes: short and long ones.
    pub outage_us: (u64, u64),
    /// Of a hundred outages so many are long.
    pub long_outages: u64,
    /// Disks are damaged whether a good copy of what is committed is left or not: progress is required only as long as a
    /// majority is whole, honesty always.
    pub beyond_budget: bool,
}

/// Which processes are configured for lease reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leases {
    /// None.
    Off,
    /// All.
    All,
    /// Every other life of each.
    Some,
}

/// What replicas are configured with.
#[derive(Clone, Debug)]
pub struct ReplicaSettings {
    /// Length of a tick.
    pub tick_us: u64,
    /// See `flaredb_raft::Config`, as the others here.
    pub election_timeout_ticks: u32,
    /// …
    pub heartbeat_interval_ticks: u32,
    /// …
    pub append_bytes_max: u64,
    /// …
    pub inflight_max: usize,
    /// …
    pub uncommitted_bytes_max: u64,
    /// …
    pub apply_bytes_max: u64,
    /// …
    pub cache_bytes_max: u64,
    /// See `flaredb_replica::ReplicaConfig`, as the others below.
    pub request_timeout_ticks: u32,
    /// …
    pub snapshot_count: u64,
    /// …
    pub catch_up_entries: u64,
    /// …
    pub proposals_max: usize,
    /// Off: peers that are too far behind are sent snapshots.
    pub keep_log_for_all: bool,
    /// Applied entries after which the data store is flushed.
    pub flush_entries: u64,
    /// Rows of a step of physical compaction.
    pub compact_rows: usize,
    /// See `flaredb_replica::ReplicaConfig`.
    pub catch_up_bytes: u64,
}

/// Links. Rates are per million frames.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// Every frame takes this.
    pub delay_us: u64,
    /// And up to this more.
    pub jitter_us: u64,
    /// So many take up to `tail_us` more.
    pub tail: u64,
    /// See `tail`.
    pub tail_us: u64,
    /// Frames of a link arrive in the order sent, as on a TCP connection.
    pub ordered: bool,
    /// So many are lost.
    pub loss: u64,
    /// So many arrive twice.
    pub repeat: u64,
    /// So many are damaged.
    pub damage: u64,
    /// Frames that a sender sent before it was restarted do not arrive after the receiver heard its next life: what the
    /// transport's handshake sees to.
    pub gate_lives: bool,
}

/// Disks, in µs.
#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// A synced write takes this.
    pub sync_us: u64,
    /// And up to this more.
    pub jitter_us: u64,
    /// A flush of the data store takes up to this.
    pub flush_us: u64,
    /// Stalls last up to this.
    pub stall_us: u64,
}

/// Clients.
#[derive(Clone, Debug)]
pub struct WorkloadSettings {
    /// How many.
    pub clients: u64,
    /// Mean pause between an answer and the next request.
    pub think_us: u64,
    /// Keys they use.
    pub keys: u64,
    /// Weights of the operations: put, delete, range delete, transaction, compaction, linearizable read, serializable read.
    pub weights: [u64; 7],
    /// Of a million requests or answers so many are lost.
    pub loss: u64,
    /// Of a thousand requests so many are given up soon.
    pub impatient: u64,
    /// Now and then clients send as fast as they can.
    pub bursts: bool,
    /// Bytes a value is filled up to, at most.
    pub value_bytes: u64,
}

const SECOND: u64 = 1_000_000;
/// Of a hundred seeds with faults so many lose more than can be borne.
const BEYOND_BUDGET: u64 = 6;

impl Settings {
    /// Those of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed, "settings", 0);
        let fault_free = draw.below(100) < 20;
        let voters = *draw.pick(&[3, 3, 3, 3, 5]);
        let mut settings = Self {
            seed,
            voters,
            fault_free,
            replica: ReplicaSettings::draw(&mut Draw::new(seed, "replica settings", 0)),
            network: NetworkSettings::draw(&mut Draw::new(seed, "network settings", 0), fault_free),
            disk: DiskSettings::draw(&mut Draw::new(seed, "disk settings", 0)),
            workload: WorkloadSettings::draw(&mut Draw::new(seed, "workload settings", 0), fault_free),
            leases: *Draw::new(seed, "leases", 0).pick(&[Leases::Off, Leases::Off, Leases::All, Leases::Some]),
            drift_per_million: *draw.pick(&[0, 10_000, 100_000]),
            cpu_us: *draw.pick(&[5, 20, 100]),
            every_us: [0; FaultKind::ALL.len()],
            outage_us: (draw.between(SECOND / 10, 2 * SECOND), draw.between(5 * SECOND, 40 * SECOND)),
            long_outages: *draw.pick(&[0, 10, 30, 60]),
            beyond_budget: false,
        };
        if !fault_free {
            settings.draw_faults(&mut Draw::new(seed, "fault settings", 0));
            settings.draw_beyond_budget(&mut Draw::new(seed, "beyond budget", 0));
        }
        settings
    }

    /// Each kind is there in about half of the seeds, at a rate of its own.
    fn draw_faults(&mut self, draw: &mut Draw) {
        for (kind, every) in FaultKind::ALL.into_iter().zip(&mut self.every_us) {
            let (chance, rates): (u64, &[u64]) = match kind {
                FaultKind::Crash => (70, &[2, 5, 10, 20]),
                FaultKind::CrashAll => (20, &[30, 60]),
                FaultKind::Pause => (40, &[5, 15, 30]),
                FaultKind::SlowCpu => (25, &[10, 30]),
                FaultKind::Partition => (55, &[5, 10, 25]),
                FaultKind::Clog => (35, &[3, 10]),
                FaultKind::Reset => (45, &[2, 8, 20]),
                FaultKind::LossStorm => (25, &[5, 20]),
                FaultKind::DiskStall => (35, &[8, 20]),
                FaultKind::ClockFreeze => (20, &[10, 30]),
                FaultKind::ClockJump => (25, &[4, 15]),
                FaultKind::Transfer => (30, &[5, 20]),
                FaultKind::Replay => (35, &[1, 4]),
                FaultKind::DiskError => (20, &[20, 60]),
                FaultKind::DiskFull => (10, &[60]),
                FaultKind::DiskRot => (25, &[15, 40]),
                FaultKind::DiskWiped => (20, &[25, 60]),
                FaultKind::DiskOldBackup => (20, &[25, 60]),
                FaultKind::FrameLoss | FaultKind::FrameRepeat | FaultKind::FrameDamage | FaultKind::ClientLoss => {
                    (0, &[0])
                }
            };
            let there = draw.below(100) < chance;
            let rate = *draw.pick(rates);
            *every = if there { rate * SECOND } else { 0 };
        }
    }

    /// One seed in twenty-odd goes beyond the budget, and is damaged often enough to get there.
    fn draw_beyond_budget(&mut self, draw: &mut Draw) {
        self.beyond_budget = draw.below(100) < BEYOND_BUDGET;
        let rate = *draw.pick(&[4, 8, 15]) * SECOND;
        let wanted = *draw.pick(&[FaultKind::DiskRot, FaultKind::DiskRot, FaultKind::DiskWiped]);
        if self.beyond_budget {
            let every = FaultKind::ALL.iter().zip(&mut self.every_us).find(|(kind, _)| **kind == wanted);
            if let Some((_, every)) = every {
                *every = rate;
            }
        }
    }

    /// Mean time between faults of this kind; 0: none.
    pub fn every_us(&self, kind: FaultKind) -> u64 {
        FaultKind::ALL.iter().zip(self.every_us).find(|(other, _)| **other == kind).map_or(0, |(_, every)| every)
    }

    /// The longest that an election timeout can be.
    pub fn election_timeout_max_us(&self) -> u64 {
        let ticks = u64::from(self.replica.election_timeout_ticks) * 2;
        ticks * self.replica.tick_us * (1_000_000 + self.drift_per_million) / 1_000_000
    }
}

impl ReplicaSettings {
    fn draw(draw: &mut Draw) -> Self {
        let keep_log_for_all = draw.below(3) == 0;
        Self {
            tick_us: *draw.pick(&[100_000, 100_000, 50_000]),
            election_timeout_ticks: *draw.pick(&[10, 10, 5, 15]),
            heartbeat_interval_ticks: *draw.pick(&[1, 1, 2, 3]),
            append_bytes_max: *draw.pick(&[1 << 20, 4096, 300, 1]),
            inflight_max: *draw.pick(&[64, 8, 2, 1]),
            uncommitted_bytes_max: *draw.pick(&[64 << 20, 64 << 20, 4000, 1500]),
            apply_bytes_max: *draw.pick(&[4 << 20, 4 << 20, 1000, 1]),
            cache_bytes_max: *draw.pick(&[32 << 20, 2000, 200]),
            request_timeout_ticks: *draw.pick(&[70, 70, 30]),
            snapshot_count: *draw.pick(&[1, 10, 10, 50, 1000]),
            catch_up_entries: *draw.pick(&[0, 0, 5, 100]),
            proposals_max: *draw.pick(&[16_384, 16_384, 3]),
            keep_log_for_all,
            flush_entries: *draw.pick(&[5, 30, 200]),
            compact_rows: *draw.pick(&[1, 16, 256]),
            catch_up_bytes: *draw.pick(&[8 << 20, 8 << 20, 2000, 200]),
        }
    }
}

impl NetworkSettings {
    fn draw(draw: &mut Draw, fault_free: bool) -> Self {
        let (delay_us, jitter_us) = *draw.pick(&[(50, 100), (200, 800), (1_000, 4_000), (20_000, 20_000)]);
        let calm = fault_free || draw.below(3) == 0;
        let mut rate = |rates: &[u64]| if calm { 0 } else { *draw.pick(rates) };
        Self {
            delay_us,
            jitter_us,
            tail: rate(&[0, 1_000, 20_000]),
            tail_us: rate(&[100_000, 1_000_000, 5_000_000]),
            loss: rate(&[0, 1_000, 20_000, 100_000, 300_000]),
            repeat: rate(&[0, 1_000, 50_000, 300_000]),
            damage: rate(&[0, 0, 1_000, 20_000]),
            ordered: calm || draw.below(2) == 0,
            gate_lives: draw.below(2) == 0,
        }
    }
}

impl DiskSettings {
    fn draw(draw: &mut Draw) -> Self {
        let (sync_us, jitter_us) = *draw.pick(&[(100, 200), (1_000, 2_000), (8_000, 8_000)]);
        Self {
            sync_us,
            jitter_us,
            flush_us: *draw.pick(&[5_000, 100_000, 2_000_000]),
            stall_us: *draw.pick(&[500_000, 3_000_000, 10_000_000]),
        }
    }
}

impl WorkloadSettings {
    fn draw(draw: &mut Draw, fault_free: bool) -> Self {
        let mut weight = |often: u64| if draw.below(5) == 0 { 0 } else { draw.between(1, often) };
        let weights = [weight(10) + 1, weight(4), weight(2), weight(8), weight(2), weight(8) + 1, weight(4)];
        Self {
            clients: draw.between(2, 6),
            think_us: *draw.pick(&[100_000, 300_000, 1_000_000]),
            keys: *draw.pick(&[2, 6, 20]),
            weights,
            loss: if fault_free { 0 } else { *draw.pick(&[0, 0, 10_000, 50_000]) },
            impatient: if fault_free { 0 } else { *draw.pick(&[0, 0, 20, 200]) },
            bursts: draw.below(2) == 0,
            value_bytes: *draw.pick(&[0, 20, 200]),
        }
    }
}
