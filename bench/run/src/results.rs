//! What a run gave, as it goes into results.json.

use crate::cells::{Goal, Measure};
use crate::counters::Memory;
use serde::Serialize;

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    /// Seconds since 1970 when it began.
    pub(crate) began: u64,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) systems: Vec<Version>,
    /// A short run: its figures are not worth quoting.
    pub(crate) quick: bool,
    /// Before the first cell and after the last one.
    pub(crate) references: Vec<References>,
    pub(crate) cells: Vec<CellResult>,
}

/// Where it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) disk: String,
    /// Load average before the first cell: others that ran beside.
    pub(crate) load_before: String,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) binary: String,
}

/// What the machine gives without any server. Times in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct References {
    pub(crate) sync_prefilled: Spread,
    pub(crate) sync_growing: Spread,
    pub(crate) sync_prefilled_three: Spread,
    pub(crate) sync_growing_three: Spread,
    pub(crate) ping_pong: Spread,
    /// Flushes of the disk in a second without any of ours.
    pub(crate) flushes_idle: Option<u64>,
    /// Bytes written to the disk in that second.
    pub(crate) written_idle: Option<u64>,
    /// Flushes of the disk for each of our syncs of the growing file: far from 1, flushes say nothing here.
    pub(crate) flushes_per_sync: Option<f64>,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// One turn of one system in one cell.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Leg {
    pub(crate) system: &'static str,
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) rate: f64,
    /// Latencies of a call in milliseconds.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// Microseconds for one operation: the three servers together, and this program.
    pub(crate) server_cpu_us: f64,
    /// Of the servers': what RocksDB's threads used that flush, and those that merge files. Of others it is 0.
    pub(crate) flush_cpu_us: f64,
    pub(crate) merge_cpu_us: f64,
    pub(crate) client_cpu_us: f64,
    /// Share of one core that this program used: near 1 it is the load generator that was measured.
    pub(crate) client_core: f64,
    /// For one operation, by the kernel's account of the servers: pages that they made dirty, whole folios.
    pub(crate) dirtied_bytes: f64,
    /// For one operation, by the disk's account: whoever wrote them.
    pub(crate) disk_bytes: Option<f64>,
    pub(crate) flushes: Option<f64>,
    pub(crate) switches: f64,
    /// Of the largest member.
    pub(crate) memory: Memory,
    pub(crate) connections: usize,
    /// It acknowledged puts with fewer flushes than the fullest batches would need.
    pub(crate) without_flush: bool,
}

/// A cell with what was measured and how that compares.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CellResult {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Of a cell with a pace: calls a second, for an open loop.
    pub(crate) open_rate: Option<f64>,
    pub(crate) legs: Vec<Leg>,
    /// Of cells that are not about a pace.
    pub(crate) figures: Vec<Figure>,
    /// Of the growth.
    pub(crate) steps: Vec<GrowthStep>,
    /// What another program measured.
    pub(crate) lines: Vec<Line>,
    pub(crate) comparisons: Vec<Comparison>,
    /// Cores that others used while another program measured.
    pub(crate) others_cores: Option<f64>,
    /// What is missing to measure it, which is not a failure.
    pub(crate) missing: Option<String>,
    /// Why it could not be measured.
    pub(crate) failure: Option<String>,
}

/// A system with so many keys.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct GrowthStep {
    pub(crate) system: &'static str,
    pub(crate) keys: u64,
    /// Puts a second on the way here.
    pub(crate) growing_rate: f64,
    /// Of the largest member, on arrival.
    pub(crate) memory: Memory,
    /// Puts to, and linearizable gets of, random keys among these.
    pub(crate) put: Leg,
    pub(crate) get: Leg,
}

/// A figure that another program measured, or why it did not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) measure: String,
    pub(crate) case: String,
    pub(crate) system: String,
    pub(crate) value: Result<f64, String>,
}

/// A figure with a name.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) system: &'static str,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// If it is the median of several.
    pub(crate) all: Vec<f64>,
}

/// FlareDB's figure beside etcd's, or beside that of whoever the title names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) title: String,
    pub(crate) measure: Measure,
    /// Not a number if it was not measured.
    pub(crate) flaredb: f64,
    /// etcd's or another reference's, or for growth FlareDB's own at the beginning.
    pub(crate) other: Option<f64>,
    pub(crate) ratio: Option<f64>,
    /// Lowest and highest ratio of a pair of turns.
    pub(crate) ratio_range: Option<(f64, f64)>,
    pub(crate) goal: Option<Goal>,
    pub(crate) verdict: Verdict,
    /// In the place of a verdict: why there is none.
    pub(crate) note: Option<String>,
}

/// How a ratio stands to its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Verdict {
    /// What is aimed at is reached.
    Aim,
    /// What must be reached is.
    Pass,
    /// It is not.
    Short,
    /// There is nothing to reach, or nothing to compare with.
    None,
}

impl Comparison {
    pub(crate) fn new(title: String, measure: Measure, flaredb: f64, other: Option<f64>, goal: Option<Goal>) -> Self {
        let ratio = other.filter(|other| *other > 0.0).map(|other| flaredb / other);
        let verdict = match (ratio, goal) {
            (Some(ratio), Some(goal)) => {
                let reaches = |wanted: f64| if measure.more_is_better() { ratio >= wanted } else { ratio <= wanted };
                match (reaches(goal.aim), reaches(goal.must)) {
                    (true, _) => Verdict::Aim,
                    (false, true) => Verdict::Pass,
                    (false, false) => Verdict::Short,
                }
            }
            _ => Verdict::None,
        };
        Self { title, measure, flaredb, other, ratio, ratio_range: None, goal, verdict, note: None }
    }

    /// A row of something that was not measured.
    pub(crate) fn missing(title: String, measure: Measure, goal: Option<Goal>, why: String) -> Self {
        Self { note: Some(format!("not measured: {why}")), ..Self::new(title, measure, f64::NAN, None, goal) }
    }
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Aim => "aim",
            Self::Pass => "pass",
            Self::Short => "short",
            Self::None => "",
        }
    }
}

/// The middle one, or the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
