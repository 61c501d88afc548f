//! One turn: fresh servers, the keys the cell needs, a warm-up, a measurement.

use crate::cells::Rate;
use crate::cluster::{Cluster, System};
use crate::counters::{Counters, Disk, Memory};
use crate::options::Target;
use crate::results::Leg;
use flaredb_load::work::{Kind, Work};
use flaredb_load::{Edge, Engine, LoadError, Pace, Plan, Result, Workload};
use std::path::Path;
use std::time::Duration;

/// Puts in one transaction while keys are put before a measurement.
const FILL_BATCH: u64 = 50;
/// A value that no fill of ours takes as long as.
const FILL_LIMIT: Duration = Duration::from_secs(1800);

/// Where and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) disk: &'a Disk,
    pub(crate) target: Target,
    pub(crate) connections: usize,
    pub(crate) warmup: Duration,
    pub(crate) measure: Duration,
}

/// Connects as a client would: to each member, or to the leader.
pub(crate) fn connect(cluster: &Cluster, setting: &Setting<'_>) -> Result<Engine> {
    let mut addresses = cluster.addresses();
    if setting.target == Target::Leader {
        let leader = cluster.leader()?;
        addresses = vec![addresses[leader]];
    }
    Engine::connect(&addresses, setting.connections)
}

/// Puts the keys `from..to`, some at a time or one by one.
pub(crate) fn fill(engine: &mut Engine, clients: usize, work: &mut Work) -> Result<()> {
    let plan = Plan { pace: Pace::Closed { clients }, warmup: Duration::ZERO, measure: FILL_LIMIT };
    let outcome = engine.run(work, plan, &mut |_| {})?;
    match outcome.first_error {
        Some(error) => Err(LoadError(format!("{} puts failed while keys were put: {error}", outcome.errors))),
        None => Ok(()),
    }
}

/// A whole turn on keys below the name. `open_rate` is the rate of an open loop.
pub(crate) fn run(system: &System, name: &str, rate: &Rate, open_rate: f64, setting: &Setting<'_>) -> Result<Leg> {
    let cluster = Cluster::start(system, setting.folder)?;
    let clients = if rate.clients == 0 { 64 } else { rate.clients };
    let prefix = format!("{name}/");
    let mut engine = connect(&cluster, setting)?;
    if rate.preload > 0 {
        let kind = Kind::Fill { from: 0, batch: FILL_BATCH };
        fill(&mut engine, 8, &mut Work::new(kind, &prefix, rate.preload, rate.value_bytes))?;
    }
    let mut work = Work::new(rate.kind, &prefix, rate.keys, rate.value_bytes);
    let pace = if rate.clients == 0 { Pace::Open { rate: open_rate } } else { Pace::Closed { clients } };
    let mut leg = measure(system, &cluster, &mut engine, &mut work, pace, rate.weight, setting)?;
    let writes = matches!(rate.kind, Kind::Put | Kind::Cas | Kind::Txn { .. });
    // A batch holds at most one call of each client, and a flush at least one batch.
    let least = 0.9 / (clients as f64 * rate.weight as f64);
    leg.without_flush = writes && rate.clients > 0 && leg.flushes.is_some_and(|flushes| flushes < least);
    Ok(leg)
}

/// A measurement on servers that run.
pub(crate) fn measure(
    system: &System,
    cluster: &Cluster,
    engine: &mut Engine,
    work: &mut dyn Workload,
    pace: Pace,
    weight: u64,
    setting: &Setting<'_>,
) -> Result<Leg> {
    let pids = cluster.pids();
    let (mut before, mut after) = (Counters::default(), Counters::default());
    let plan = Plan { pace, warmup: setting.warmup, measure: setting.measure };
    let outcome = engine.run(work, plan, &mut |edge| {
        let now = Counters::read(&pids, setting.disk);
        match edge {
            Edge::Begin => before = now,
            Edge::End => after = now,
        }
    })?;
    if outcome.operations == 0 {
        let why = outcome.first_error.unwrap_or_else(|| "nothing was answered in time".to_owned());
        return Err(LoadError(format!("{}: no operation succeeded: {why}", system.name)));
    }
    let used = after.since(&before);
    let operations = outcome.operations * weight;
    let (count, seconds) = (operations as f64, outcome.elapsed.as_secs_f64());
    Ok(Leg {
        system: system.name,
        operations,
        errors: outcome.errors,
        first_error: outcome.first_error.clone(),
        seconds,
        rate: count / seconds,
        p50_ms: outcome.latency_ms(0.5),
        p99_ms: outcome.latency_ms(0.99),
        p999_ms: outcome.latency_ms(0.999),
        max_ms: outcome.latency_ms(1.0),
        server_cpu_us: used.servers.as_secs_f64() * 1e6 / count,
        flush_cpu_us: used.background.flushes.as_secs_f64() * 1e6 / count,
        merge_cpu_us: used.background.merges.as_secs_f64() * 1e6 / count,
        client_cpu_us: used.own.as_secs_f64() * 1e6 / count,
        client_core: used.own.as_secs_f64() / seconds,
        dirtied_bytes: used.dirtied as f64 / count,
        disk_bytes: used.disk.map(|disk| disk.written as f64 / count),
        flushes: used.disk.map(|disk| disk.flushes as f64 / count),
        switches: used.switches as f64 / count,
        memory: Memory::largest(&pids),
        connections: engine.connections(),
        without_flush: false,
    })
}
