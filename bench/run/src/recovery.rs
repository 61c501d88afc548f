//! The cells that are not about a pace: growth and memory, a restart of all three, the end of a leader.

use crate::cluster::{Cluster, System};
use crate::counters::Memory;
use crate::leg::{self, Setting, connect, fill};
use crate::results::{Figure, GrowthStep, median};
use flaredb_load::work::{self, Kind, Work};
use flaredb_load::{Connection, LoadError, Method, Pace, Result, call};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Keys of the small database.
pub(crate) const FEW_KEYS: u64 = 10_000;
/// Where a growing database is measured on its way, besides at its end.
const STEPS: [u64; 6] = [FEW_KEYS, 30_000, 100_000, 300_000, 1_000_000, 3_000_000];
const VALUE_BYTES: usize = 256;
/// Of the keys of a growing database.
const PREFIX: &str = "growth/";
/// Restarts of which the median counts.
const RESTARTS: usize = 3;
/// How long the first answer may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two calls to the same server while the first answer is waited for.
const EVERY: Duration = Duration::from_millis(2);
/// Rest between two failovers, once all serve again.
const SETTLE: Duration = Duration::from_millis(1000);

/// What the growth cell says about one number of keys.
pub(crate) fn named(what: &str, keys: u64) -> String {
    format!("{what}, {keys} keys")
}

/// Numbers of keys at which a database is measured that grows to `many`.
fn steps(many: u64) -> Vec<u64> {
    STEPS.into_iter().filter(|step| *step < many).chain([many]).collect()
}

/// From few keys to many in steps, then kill -9 of all three and a start.
pub(crate) fn growth(
    system: &System,
    many: u64,
    setting: &Setting<'_>,
    say: &dyn Fn(&str),
    measured: &mut Vec<GrowthStep>,
) -> Result<Figure> {
    let mut cluster = Cluster::start(system, setting.folder)?;
    let mut engine = connect(&cluster, setting)?;
    let mut from = 0;
    for keys in steps(many) {
        say(&format!("{}: growing to {keys} keys", system.name));
        let begun = Instant::now();
        fill(&mut engine, 256, &mut Work::new(Kind::Fill { from, batch: 1 }, PREFIX, keys, VALUE_BYTES))?;
        let growing_rate = (keys - from) as f64 / begun.elapsed().as_secs_f64();
        from = keys;
        let memory = Memory::largest(&cluster.pids());
        let mut load = |kind: Kind| {
            let mut work = Work::new(kind, PREFIX, keys, VALUE_BYTES);
            leg::measure(system, &cluster, &mut engine, &mut work, Pace::Closed { clients: 64 }, 1, setting)
        };
        let put = load(Kind::Put)?;
        let get = load(Kind::Get { serializable: false })?;
        measured.push(GrowthStep { system: system.name, keys, growing_rate, memory, put, get });
    }
    drop(engine);
    let mut read = Vec::new();
    call::get_request(&mut read, &work::key(PREFIX, 0), false);
    let mut times = Vec::new();
    for turn in 1..=RESTARTS {
        say(&format!("{}: restart {turn} of {RESTARTS}", system.name));
        cluster.kill(&[0, 1, 2]);
        let begun = Instant::now();
        (0..3).try_for_each(|member| cluster.start_member(member))?;
        let nobody = cluster.addresses().into_iter().map(|address| (address, None)).collect();
        let least = VALUE_BYTES;
        times.push(first_answer(nobody, Method::Range, &read, least, begun)?.as_secs_f64() * 1e3);
        cluster.wait_until_it_serves()?;
    }
    let what = named("restart to first linearizable read", many);
    Ok(Figure { system: system.name, what, unit: "ms", value: median(&times), all: times })
}

/// Kills the leader some times.
pub(crate) fn failover(system: &System, kills: usize, setting: &Setting<'_>, say: &dyn Fn(&str)) -> Result<Vec<f64>> {
    let mut cluster = Cluster::start(system, setting.folder)?;
    let mut put = Vec::new();
    call::put_request(&mut put, b"failover", &[b'x'; VALUE_BYTES]);
    let mut times = Vec::new();
    for kill in 1..=kills {
        say(&format!("{}: kill {kill} of {kills}", system.name));
        std::thread::sleep(SETTLE);
        let leader = cluster.leader()?;
        let mut others = Vec::new();
        for (number, address) in cluster.addresses().into_iter().enumerate() {
            if number != leader {
                others.push((address, Some(Connection::open(address, Duration::from_secs(5))?)));
            }
        }
        let begun = Instant::now();
        cluster.kill(&[leader]);
        times.push(first_answer(others, Method::Put, &put, 0, begun)?.as_secs_f64() * 1e3);
        cluster.start_member(leader)?;
        cluster.wait_until_it_serves()?;
    }
    Ok(times)
}

/// Asks all of these servers again and again, each time anew, whether or not the call before was answered; gives the time from
/// `begun` to the first good answer of at least `least` bytes. Every call is made after `begun`.
fn first_answer(
    servers: Vec<(SocketAddr, Option<Connection>)>,
    method: Method,
    message: &[u8],
    least: usize,
    begun: Instant,
) -> Result<Duration> {
    let found = AtomicBool::new(false);
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for (address, connection) in servers {
            let (tell, found) = (tell.clone(), &found);
            scope.spawn(move || {
                if let Some(at) = ask_until(address, connection, method, message, least, found, begun) {
                    found.store(true, Ordering::Relaxed);
                    // The receiver lives until all threads have ended.
                    let _ = tell.send(at);
                }
            });
        }
    });
    drop(tell);
    let first = told.iter().min().ok_or_else(|| LoadError(format!("no good answer within {LIMIT:?}")))?;
    Ok(first - begun)
}

fn ask_until(
    address: SocketAddr,
    mut connection: Option<Connection>,
    method: Method,
    message: &[u8],
    least: usize,
    found: &AtomicBool,
    begun: Instant,
) -> Option<Instant> {
    let mut done = Vec::new();
    let mut asked = None;
    while !found.load(Ordering::Relaxed) && begun.elapsed() < LIMIT {
        let Some(open) = &mut connection else {
            match Connection::open(address, Duration::from_secs(1)) {
                Ok(open) => connection = Some(open),
                Err(_) => std::thread::sleep(EVERY),
            }
            continue;
        };
        if open.wait_at_most(Duration::from_micros(500)).is_err() {
            connection = None;
            continue;
        }
        if asked.is_none_or(|at: Instant| at.elapsed() >= EVERY) {
            asked = Some(Instant::now());
            open.submit(method, message, 0);
            open.flush();
        }
        open.read(&mut done);
        if done.drain(..).any(|(_, answer)| answer.status == 0 && answer.length >= least) {
            return Some(Instant::now());
        }
        if open.broken().is_some() {
            connection = None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growth_begins_with_few_keys_and_ends_where_it_should() {
        assert_eq!(steps(1_000_000), [10_000, 30_000, 100_000, 300_000, 1_000_000]);
        assert_eq!(steps(30_000), [10_000, 30_000]);
        assert_eq!(steps(40_000), [10_000, 30_000, 40_000]);
    }
}
