//! The cells: what is measured, by which name, and what FlareDB must reach and aims at, as factors of etcd's figure (of another
//! reference's in the cells `core` and `log`).

use flaredb_load::work::Kind;
use serde::Serialize;

/// What a factor is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Measure {
    /// Operations a second: more is better.
    Rate,
    /// CPU of the servers for one operation.
    Cpu,
    /// The 99th percentile of latency.
    P99,
    /// A time in milliseconds.
    Time,
    /// Resident memory of a member.
    Memory,
    /// Nanoseconds for an entry in the Raft core alone.
    EntryTime,
    /// Instructions for the same.
    EntryInstructions,
    /// Batches made durable in a second, one after the other, by the median of their times: more is better.
    Batches,
    /// CPU of one operation at the end of the growth, as a factor of the same at its beginning: FlareDB's own.
    Growth,
}

impl Measure {
    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Self::Rate | Self::Batches)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rate => "op/s",
            Self::Cpu => "server CPU µs/op",
            Self::P99 => "p99 ms",
            Self::Time => "ms",
            Self::Memory => "MiB",
            Self::EntryTime => "ns/entry",
            Self::EntryInstructions => "instructions/entry",
            Self::Batches => "batches/s",
            Self::Growth => "× of CPU µs/op",
        }
    }
}

/// A factor of etcd's figure or another reference's (for `Growth`: of FlareDB's own at the beginning).
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) measure: Measure,
    /// What has to be reached.
    pub(crate) must: f64,
    /// What is aimed at.
    pub(crate) aim: f64,
}

const fn goal(measure: Measure, must: f64, aim: f64) -> Goal {
    Goal { measure, must, aim }
}

/// Load at a steady pace on fresh servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) kind: Kind,
    pub(crate) value_bytes: usize,
    /// 0: open loop.
    pub(crate) clients: usize,
    /// Keys that are put before, one value each.
    pub(crate) preload: u64,
    /// Keys that are chosen from.
    pub(crate) keys: u64,
    /// Puts in one call.
    pub(crate) weight: u64,
}

/// How a cell is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Rate(Rate),
    /// From few keys to many in steps, then a restart.
    Growth,
    /// kill -9 of the leader.
    Failover,
    /// The Raft core in memory beside raft-rs: a program of its own.
    Core,
    /// The Raft log on disk beside a bare write: a program of its own.
    Log,
}

/// A cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) how: How,
    pub(crate) goals: &'static [Goal],
    /// Part of a quick run.
    pub(crate) quick: bool,
}

/// Keys that reads choose from.
const READ_KEYS: u64 = 10_000;
/// Keys that puts choose from.
const PUT_KEYS: u64 = 100_000;
const SIXTH: f64 = 1.0 / 6.0;

const fn puts(value_bytes: usize, clients: usize) -> How {
    How::Rate(Rate { kind: Kind::Put, value_bytes, clients, preload: 0, keys: PUT_KEYS, weight: 1 })
}

const fn reads(kind: Kind, clients: usize) -> How {
    How::Rate(Rate { kind, value_bytes: 256, clients, preload: READ_KEYS, keys: READ_KEYS, weight: 1 })
}

const fn cell(name: &'static str, title: &'static str, how: How, goals: &'static [Goal]) -> Cell {
    Cell { name, title, how, goals, quick: false }
}

const fn quick(cell: Cell) -> Cell {
    Cell { quick: true, ..cell }
}

const LINEARIZABLE: Kind = Kind::Get { serializable: false };
const SERIALIZABLE: Kind = Kind::Get { serializable: true };
const PUT_GOALS: &[Goal] = &[goal(Measure::Rate, 4.0, 6.0), goal(Measure::Cpu, 0.25, SIXTH)];
const READ_GOALS: &[Goal] = &[goal(Measure::Rate, 3.0, 5.0)];
const MIXED_GOALS: &[Goal] = &[goal(Measure::Rate, 4.0, 6.0)];
const SCAN_GOALS: &[Goal] = &[goal(Measure::Rate, 3.0, 6.0)];

/// All of them, in the order in which they are measured.
pub(crate) const CELLS: &[Cell] = &[
    quick(cell("put-1", "puts 256 B, 1 client", puts(256, 1), &[goal(Measure::Rate, 2.5, 4.0)])),
    cell("put-16", "puts 256 B, 16 clients", puts(256, 16), &[]),
    cell("put-64", "puts 256 B, 64 clients", puts(256, 64), PUT_GOALS),
    quick(cell("put-256", "puts 256 B, 256 clients", puts(256, 256), PUT_GOALS)),
    cell("put4k-64", "puts 4 KiB, 64 clients", puts(4096, 64), &[goal(Measure::Rate, 3.0, 5.0)]),
    cell("get-1", "linearizable gets, 1 client", reads(LINEARIZABLE, 1), &[]),
    quick(cell("get-64", "linearizable gets, 64 clients", reads(LINEARIZABLE, 64), READ_GOALS)),
    cell("get-256", "linearizable gets, 256 clients", reads(LINEARIZABLE, 256), READ_GOALS),
    quick(cell("sget-64", "serializable gets, 64 clients", reads(SERIALIZABLE, 64), &[goal(Measure::Rate, 2.5, 4.0)])),
    cell("mixed-64", "mixed 50/50, 64 clients", reads(Kind::Mixed, 64), MIXED_GOALS),
    quick(cell(
        "cas-64",
        "compare and set, 64 clients",
        How::Rate(Rate { kind: Kind::Cas, value_bytes: 256, clients: 64, preload: 0, keys: 64, weight: 1 }),
        MIXED_GOALS,
    )),
    quick(cell(
        "txn16-64",
        "puts in txns of 16, 64 clients",
        How::Rate(Rate {
            kind: Kind::Txn { puts: 16 },
            value_bytes: 256,
            clients: 64,
            preload: 0,
            keys: PUT_KEYS,
            weight: 16,
        }),
        &[goal(Measure::Rate, 6.0, 10.0)],
    )),
    cell("scan100-16", "scans of 100 keys, 16 clients", reads(Kind::Scan { keys: 100 }, 16), SCAN_GOALS),
    cell("page100-16", "first 100 keys of some 5,000, 16 clients", reads(Kind::Page { keys: 100 }, 16), &[]),
    cell("scan10k-4", "scans of 10,000 keys, 4 clients", reads(Kind::Scan { keys: 10_000 }, 4), SCAN_GOALS),
    cell("null-64", "calls of no method, 64 clients", reads_nothing(64), &[]),
    cell("open", "puts 256 B at half of etcd's best rate", puts(256, 0), &[goal(Measure::P99, 0.4, 0.2)]),
    cell(
        "growth",
        "growth, memory, restart",
        How::Growth,
        &[
            goal(Measure::Memory, 0.4, 0.2),
            goal(Measure::Growth, 1.5, 1.2),
            goal(Measure::Growth, 1.5, 1.2),
            goal(Measure::Time, 0.5, 0.25),
        ],
    ),
    cell(
        "failover",
        "kill -9 of the leader to the first acknowledged put, median",
        How::Failover,
        &[goal(Measure::Time, 0.9, 0.0)],
    ),
    cell(
        "core",
        "Raft core, three peers in memory",
        How::Core,
        &[goal(Measure::EntryTime, 0.25, 0.125), goal(Measure::EntryInstructions, 0.25, 0.125)],
    ),
    cell("log", "log append and sync, one batch after the other", How::Log, &[goal(Measure::Batches, 0.85, 0.95)]),
];

const fn reads_nothing(clients: usize) -> How {
    How::Rate(Rate { kind: Kind::Nothing, value_bytes: 0, clients, preload: 0, keys: 1, weight: 1 })
}
