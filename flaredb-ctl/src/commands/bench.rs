//! `bench`: makes load on the endpoints and says what a client sees of it. Not a comparison of systems (`make bench` is
//! one), and nothing about what a call costs the servers.
//!
//! The load itself is flaredb-load's: it blocks this thread, on which nothing else has to go on meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use flaredb_load::work::{self, Kind, Work};
use flaredb_load::{Answer, Bucket, Edge, Engine, LoadError, Method, Outcome, Pace, Plan, Workload, own_cpu};
use flaredb_proto::etcdserverpb::kv_client::KvClient;
use flaredb_proto::etcdserverpb::{DeleteRangeRequest, RangeRequest};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::TcpStream;

use crate::cli::{BenchArgs, BenchWorkload};
use crate::client::Client;
use crate::diagnosis::first_cause;
use crate::error::{Error, Failure};
use crate::output::{self, Format};

/// Puts in a transaction of `txn`, keys in a range of `scan`, if nothing else is said.
const PUTS: u64 = 16;
const SCAN_KEYS: u64 = 100;
/// What one transaction may hold; far more than a server takes.
const TXN_BYTES: usize = 64 << 20;
/// Beyond it a connection could run out of stream numbers (2^30).
const LONGEST: Duration = Duration::from_secs(3600);
/// The keys that reads need are put so many at a time and so many bytes at a time, each well below a server's limits.
const FILL_PUTS: u64 = 50;
const FILL_BYTES: usize = 256 << 10;
const FILL_CLIENTS: usize = 8;
/// So often the engine waits for all answers while keys are put: servers that are silent are noticed.
const FILL_TURN: Duration = Duration::from_secs(5);
/// Keys deleted by one call: a delete is applied in one piece on every member.
const DELETE_KEYS: u64 = 1_000;
/// How often a delete without a definite answer is sent. It does the same the second time, and load may have cost the
/// cluster its leader.
const DELETE_TRIES: u32 = 4;
const DELETE_PAUSE: Duration = Duration::from_millis(500);
/// Beyond this part of a core the generator is what is measured.
const BUSY_CORE: f64 = 0.9;

/// What a run gave, as it is printed.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) kind: Kind,
    /// Clients of a closed loop.
    pub(crate) clients: usize,
    /// Calls a second of an open loop.
    pub(crate) asked_rate: Option<u32>,
    pub(crate) endpoints: usize,
    /// To each endpoint.
    pub(crate) connections: usize,
    pub(crate) keys: u64,
    pub(crate) value_size: usize,
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) seconds: f64,
    /// Operations a second.
    pub(crate) rate: f64,
    pub(crate) latency: Latency,
    /// The generator's own CPU time for an operation, in microseconds.
    pub(crate) cpu_us: f64,
    /// The same as a part of a core.
    pub(crate) core: f64,
    pub(crate) buckets: Vec<Bucket>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Report {
    fn new(args: &BenchArgs, kind: Kind, endpoints: usize, outcome: &Outcome, cpu: Duration) -> Self {
        let seconds = outcome.elapsed.as_secs_f64();
        Report {
            kind,
            clients: args.clients,
            asked_rate: args.rate,
            endpoints,
            connections: args.connections,
            keys: args.keys,
            value_size: args.value_size,
            operations: outcome.operations,
            errors: outcome.errors,
            first_error: outcome.first_error.clone(),
            seconds,
            rate: outcome.rate(),
            latency: Latency {
                p50: outcome.latency_ms(0.5),
                p90: outcome.latency_ms(0.9),
                p99: outcome.latency_ms(0.99),
                p999: outcome.latency_ms(0.999),
                max: outcome.latency_ms(1.0),
            },
            cpu_us: outcome.share_us(cpu),
            core: cpu.as_secs_f64() / seconds,
            buckets: outcome.buckets(),
        }
    }

    /// The workload's name, as it is typed.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Put => "put",
            Kind::Get { .. } => "get",
            Kind::Mixed => "mixed",
            Kind::Cas => "cas",
            Kind::Txn { .. } => "txn",
            Kind::Scan { .. } => "scan",
            Kind::Page { .. } | Kind::Nothing | Kind::Fill { .. } => "other",
        }
    }

    /// Whether the generator itself was the limit.
    pub(crate) fn is_bounded_by_itself(&self) -> bool {
        self.core > BUSY_CORE
    }
}

/// https is refused here in words of its own: other commands may learn TLS before the load generator does.
pub(super) fn refuse_tls(endpoints: &str) -> Result<(), Error> {
    match endpoints.split(',').map(str::trim).find(|endpoint| endpoint.starts_with("https://")) {
        Some(endpoint) => Err(Error::Usage(format!(
            "{endpoint}: TLS is not supported by bench, and https neither; use the server's http client URL"
        ))),
        None => Ok(()),
    }
}

pub(super) async fn bench(client: &Client, format: &Format, args: &BenchArgs, out: &mut Vec<u8>) -> Result<(), Error> {
    let kind = kind(args)?;
    let addresses = reach(client, &args.prefix).await?;
    // Hidden when stderr is no terminal.
    let bar = ProgressBar::new(args.keys);
    let mut written = 0;
    let measured = measure(client, args, kind, &addresses, &bar, &mut written).await;
    let removed = if args.keep { Ok(()) } else { remove(client, &args.prefix, written, &bar).await };
    bar.finish_and_clear();
    let removed =
        removed.map_err(|error| format!("the keys below {} were not all deleted at the end: {error}", args.prefix));
    match (measured, removed) {
        (Ok(report), removed) => {
            output::bench(out, format, &report);
            removed.map_err(Error::Other)
        }
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => Err(Error::Other(format!("{error}\n{left}"))),
    }
}

/// What the flags ask for, if they go together.
fn kind(args: &BenchArgs) -> Result<Kind, Error> {
    let (puts, scan_keys) = (args.puts.unwrap_or(PUTS), args.scan_keys.unwrap_or(SCAN_KEYS));
    let is = |workload| args.workload == workload;
    let (txn, scan) = (is(BenchWorkload::Txn), is(BenchWorkload::Scan));
    let txn_bytes = usize::try_from(puts).unwrap_or(usize::MAX).saturating_mul(args.value_size);
    let rules = [
        (!args.serializable || is(BenchWorkload::Get), "--serializable goes with get only"),
        (args.puts.is_none() || txn, "--puts goes with txn only"),
        (args.scan_keys.is_none() || scan, "--scan-keys goes with scan only"),
        (!txn || puts <= args.keys, "--puts is above --keys: a transaction puts a key once"),
        (!txn || txn_bytes <= TXN_BYTES, "--puts values of --value-size are more than 64 MiB in one transaction"),
        (!scan || scan_keys <= args.keys, "--scan-keys is above --keys"),
        (!args.prefix.is_empty(), "--prefix is empty: keys below it are overwritten and deleted"),
        (!args.duration.is_zero() && args.duration <= LONGEST, "--duration has to be above 0 and at most 1h"),
        (args.warmup <= LONGEST, "--warmup has to be at most 1h"),
    ];
    if let Some((_, broken)) = rules.iter().find(|(holds, _)| !holds) {
        return Err(Error::Usage((*broken).to_owned()));
    }
    Ok(match args.workload {
        BenchWorkload::Put => Kind::Put,
        BenchWorkload::Get => Kind::Get { serializable: args.serializable },
        BenchWorkload::Mixed => Kind::Mixed,
        BenchWorkload::Cas => Kind::Cas,
        BenchWorkload::Txn => Kind::Txn { puts },
        BenchWorkload::Scan => Kind::Scan { keys: scan_keys },
    })
}

/// The addresses behind the endpoints. Each has to serve a linearizable read, which finds strangers and members without
/// a leader before any load, and leaves a member that was behind with all that was acknowledged before.
async fn reach(client: &Client, prefix: &str) -> Result<Vec<SocketAddr>, Error> {
    let mut addresses = Vec::new();
    for endpoint in &client.endpoints {
        let request = RangeRequest { key: prefix.to_owned().into(), count_only: true, ..RangeRequest::default() };
        let only = client.only(endpoint.clone());
        only.read(async |channel| KvClient::new(channel).range(request.clone()).await).await?;
        // A name may have several addresses; the one that takes a connection is the right one.
        let connecting = TcpStream::connect(endpoint.to_string());
        let address = match tokio::time::timeout(client.dial_timeout, connecting).await {
            Ok(stream) => stream.and_then(|stream| stream.peer_addr()).map_err(|error| first_cause(&error)),
            Err(_) => Err(format!("no connection within {:?}", client.dial_timeout)),
        };
        let unreachable = |cause| Error::Unavailable(vec![Failure { endpoint: endpoint.to_string(), cause }]);
        addresses.push(address.map_err(unreachable)?);
    }
    Ok(addresses)
}

/// The load. `written` becomes the number of keys that may have been written, also when it fails.
async fn measure(
    client: &Client,
    args: &BenchArgs,
    kind: Kind,
    addresses: &[SocketAddr],
    bar: &ProgressBar,
    written: &mut u64,
) -> Result<Report, Error> {
    let mut engine = Engine::connect(addresses, args.connections).map_err(broke_off)?;
    let reads = matches!(kind, Kind::Get { .. } | Kind::Mixed | Kind::Scan { .. });
    if reads {
        *written = args.keys;
        fill(&mut engine, args, bar)?;
    }
    if args.serializable {
        // A key that a member does not have yet would count as an error.
        reach(client, &args.prefix).await?;
    }
    let mut work = Work::new(kind, &args.prefix, args.keys, args.value_size);
    let pace = match args.rate {
        Some(rate) => Pace::Open { rate: f64::from(rate) },
        None => Pace::Closed { clients: args.clients },
    };
    let plan = Plan { pace, warmup: args.warmup, measure: args.duration };
    show(bar, "{msg}", format!("measuring for {:?} after a warm-up of {:?}", args.duration, args.warmup));
    let (mut begin, mut used) = (Duration::ZERO, Duration::ZERO);
    let outcome = engine.run(&mut work, plan, &mut |edge| match edge {
        Edge::Begin => begin = own_cpu(),
        Edge::End => used = own_cpu().saturating_sub(begin),
    });
    if !reads {
        *written = work.named();
    }
    let outcome = outcome.map_err(broke_off)?;
    if outcome.operations == 0 {
        let why = outcome.first_error.unwrap_or_else(|| "nothing was answered in time".to_owned());
        return Err(Error::Other(format!("no call succeeded: {why}")));
    }
    Ok(Report::new(args, kind, addresses.len(), &outcome, used))
}

fn broke_off(error: LoadError) -> Error {
    Error::Other(error.0)
}

fn show(bar: &ProgressBar, template: &str, message: String) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar.tick();
}

/// Puts every key once.
fn fill(engine: &mut Engine, args: &BenchArgs, bar: &ProgressBar) -> Result<(), Error> {
    // 64: what a key's number and protobuf add.
    let put_bytes = args.value_size.saturating_add(args.prefix.len()).saturating_add(64);
    let batch = u64::try_from(FILL_BYTES / put_bytes).unwrap_or(FILL_PUTS).clamp(1, FILL_PUTS);
    let work = Work::new(Kind::Fill { from: 0, batch }, &args.prefix, args.keys, args.value_size);
    let mut fill = Fill { work, batch, unanswered: args.keys.div_ceil(batch), bar };
    show(bar, "{msg} [{bar:30}] {pos}/{len}", "putting the keys".to_owned());
    while fill.unanswered > 0 {
        let pace = Pace::Closed { clients: FILL_CLIENTS };
        let plan = Plan { pace, warmup: Duration::ZERO, measure: FILL_TURN };
        let outcome = engine.run(&mut fill, plan, &mut |_| {}).map_err(broke_off)?;
        if let Some(error) = outcome.first_error {
            return Err(Error::Other(format!("the keys to read could not be put: {error}")));
        }
    }
    Ok(())
}

/// A fill that shows how far it is.
struct Fill<'a> {
    work: Work,
    batch: u64,
    unanswered: u64,
    bar: &'a ProgressBar,
}

impl Workload for Fill<'_> {
    fn next(&mut self, client: usize, message: &mut Vec<u8>) -> Option<Method> {
        self.work.next(client, message)
    }

    fn answered(&mut self, client: usize, answer: &Answer) -> Result<(), String> {
        self.work.answered(client, answer)?;
        self.unanswered = self.unanswered.saturating_sub(1);
        self.bar.inc(self.batch);
        Ok(())
    }
}

/// Deletes the keys that may have been written and no other, some at a time.
async fn remove(client: &Client, prefix: &str, written: u64, bar: &ProgressBar) -> Result<(), Error> {
    show(bar, "{msg}", "deleting the keys".to_owned());
    let mut from = 0;
    while from < written {
        let to = written.min(from.saturating_add(DELETE_KEYS));
        let (key, range_end) = (work::key(prefix, from).into(), work::key(prefix, to).into());
        let request = DeleteRangeRequest { key, range_end, prev_kv: false };
        let mut tries = 1;
        loop {
            let request = request.clone();
            match client.write(async |channel| KvClient::new(channel).delete_range(request).await).await {
                Ok(_) => break,
                Err(Error::Unavailable(_) | Error::OutcomeUnknown(_)) if tries < DELETE_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(DELETE_PAUSE).await;
        }
        from = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn kind_of(flags: &[&str]) -> Result<Kind, String> {
        let cli = Cli::try_parse_from(["flarectl", "bench"].iter().chain(flags)).map_err(|error| error.to_string())?;
        let Command::Bench(args) = cli.command else { return Err("another command".to_owned()) };
        kind(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn workloads_and_their_flags() {
        assert_eq!(kind_of(&["put"]), Ok(Kind::Put));
        assert_eq!(kind_of(&["get"]), Ok(Kind::Get { serializable: false }));
        assert_eq!(kind_of(&["get", "--serializable"]), Ok(Kind::Get { serializable: true }));
        assert_eq!(kind_of(&["mixed"]), Ok(Kind::Mixed));
        assert_eq!(kind_of(&["cas", "--rate", "100"]), Ok(Kind::Cas));
        assert_eq!(kind_of(&["txn"]), Ok(Kind::Txn { puts: PUTS }));
        assert_eq!(kind_of(&["txn", "--puts", "3", "--keys", "3"]), Ok(Kind::Txn { puts: 3 }));
        assert_eq!(kind_of(&["scan", "--scan-keys", "7"]), Ok(Kind::Scan { keys: 7 }));
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        let table: [(&[&str], &str); 14] = [
            (&[], "required"),
            (&["nothing"], "possible values: put, get, mixed, cas, txn, scan"),
            (&["put", "--serializable"], "--serializable goes with get only"),
            (&["put", "--puts", "2"], "--puts goes with txn only"),
            (&["put", "--scan-keys", "2"], "--scan-keys goes with scan only"),
            (&["txn", "--keys", "15"], "--puts is above --keys"),
            (&["txn", "--puts", "100", "--value-size", "1000000"], "more than 64 MiB"),
            (&["scan", "--keys", "99"], "--scan-keys is above --keys"),
            (&["put", "--prefix", ""], "--prefix is empty"),
            (&["put", "--duration", "0"], "--duration has to be above 0"),
            (&["put", "--warmup", "2h"], "--warmup has to be at most 1h"),
            (&["put", "--clients", "0"], "0 is not in 1..=10000"),
            (&["put", "--rate", "0"], "0 is not in 1..=1000000"),
            (&["put", "--rate", "5", "--clients", "5"], "cannot be used with"),
        ];
        for (flags, why) in table {
            let refused = kind_of(flags).unwrap_err();
            assert!(refused.contains(why), "{flags:?}: {refused}");
        }
    }
}
