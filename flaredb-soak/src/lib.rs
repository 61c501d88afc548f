//! Three real servers under faults, judged from outside (docs/soak.md): FlareDB, or etcd 3.5 for comparison.
//!
//! - `enter`: into a network namespace of our own
//! - `network`: namespaces, iptables, proxies
//! - `disk`: the layer that loses, fails and blocks; power cuts; bit rot
//! - `cluster`: processes
//! - `workload`: clients
//! - `faults`: what, when, by a seed
//! - `judge`: progress, equal contents, the history checker of flaredb-sim
//! - `report`: text and JSON
//!
//! What it is not: deterministic. A seed gives the same faults and the same questions; the servers' threads do what they like.

pub mod cluster;
pub mod disk;
pub mod enter;
pub mod error;
pub mod events;
pub mod faults;
pub mod judge;
pub mod network;
pub mod options;
mod progress;
pub mod report;
pub mod workload;

use cluster::Cluster;
use disk::Syncs;
use error::{Result, SoakError, Why};
use events::Events;
use faults::process_lane::Lane;
use faults::{Kind, Needs, Schedule, network_lane};
use flaredb_sim::prf::Draw;
use network::{MEMBERS, Network};
use options::{Net, Options};
use report::Report;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use workload::choose::Chooser;
use workload::{Connection, Shared, client};

/// How long three new servers may take until each of them serves.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A run, from empty folders to the verdict. `net` is what [`enter::enter`] gave.
///
/// # Errors
/// The run cannot be made. What the servers do wrong is in the report.
pub async fn run(options: &Options, net: Net) -> Result<Report> {
    let seed = options.seed.unwrap_or_else(seed_of_the_clock);
    let program = server(options)?;
    let asked = options.kinds()?;

    let base = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&base).why(base.display())?;
    let mut folder = tempfile::Builder::new().prefix("flaredb-soak-").tempdir_in(&base).why("a folder for the run")?;
    folder.disable_cleanup(options.keep);

    let needs_layer = options.lying_disk || asked.iter().any(|kind| kind.needs() == Needs::Layer);
    let library =
        if needs_layer && disk::takes_libraries(&program) { Some(disk::compile(folder.path())?) } else { None };
    if options.lying_disk && library.is_none() {
        return Err(SoakError("--lying-disk: this server is statically linked, so it takes no disk layer".to_owned()));
    }
    let (mut network, places) = Network::make(net, seed).await?;
    let (kinds, left_out): (Vec<Kind>, Vec<Kind>) = asked
        .into_iter()
        .partition(|kind| network.offers(kind.needs()) && (kind.needs() != Needs::Layer || library.is_some()));
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().map(|kind| kind.name()).collect();
        eprintln!("flaredb-soak: left out, not possible with this server and --net: {}", names.join(", "));
    }

    let mut cluster = Cluster::new(&program, folder.path(), places.clone(), library.as_deref())?;
    for number in 0..MEMBERS {
        cluster.start(number)?;
    }
    let shared = Arc::new(Shared::new(Arc::new(Events::default()), places.clone()));
    ready(&mut cluster, &shared).await?;
    if options.lying_disk {
        cluster.usual(Syncs::Lie)?;
    }

    // The clients.
    let every = Duration::from_micros(1_000_000 * options.clients / options.rate.max(1));
    let mut clients = Vec::new();
    for number in 0..options.clients {
        let chooser = Chooser::new(seed, number, options.keys);
        clients.push(tokio::spawn(client(Arc::clone(&shared), chooser, number, every)));
    }
    let bar = tokio::spawn(progress::bar(Arc::clone(&shared), options.seconds));

    // The faults.
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let of_network = |kind: &Kind| kind.group() == "network";
    let schedule = |name: &str, kinds: Vec<Kind>| (!kinds.is_empty()).then(|| Schedule::new(seed, name, kinds));
    let network_schedule = schedule("network", kinds.iter().copied().filter(of_network).collect());
    let process_schedule = schedule("process", kinds.iter().copied().filter(|kind| !of_network(kind)).collect());
    let victim = *Draw::new(seed, "victim", 0).pick(&[0, 1, 2]);
    let lane = Lane { cluster: &mut cluster, places: &places, events: &shared.events, end, victim };
    let network_faults = async {
        match network_schedule {
            Some(schedule) => network_lane::run(&mut network, &places, schedule, &shared.events, end).await,
            None => Ok(()),
        }
    };
    tokio::try_join!(lane.run(process_schedule), network_faults)?;
    let faults_end = shared.events.now();

    // The end.
    shared.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.why("a client")?;
    }
    let mut verdict = judge::judge(&mut cluster, &shared, Duration::from_secs(options.patience)).await?;
    bar.abort();
    progress::clear();

    if verdict.lies_caught < verdict.lies_told {
        verdict.violations.push("checker: a falsified copy of this history was accepted".to_owned());
    }
    let events = shared.events.all();
    if !verdict.violations.is_empty() {
        folder.disable_cleanup(true);
        eprintln!("flaredb-soak: folders and logs are kept in {}", folder.path().display());
        let journal = folder.path().join("faults.json");
        std::fs::write(&journal, serde_json::to_vec_pretty(&events).why("faults")?).why(journal.display())?;
        let history = folder.path().join("history.txt");
        let lines: Vec<String> = shared.history().iter().map(|record| format!("{record:?}")).collect();
        std::fs::write(&history, lines.join("\n")).why(history.display())?;
    }
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind != "halted") {
        *faults.entry(event.kind.to_owned()).or_default() += 1;
    }
    let (longest_gap, gaps_over_1s) = report::gaps(&shared.history(), &events, faults_end);
    let halted = cluster.members.iter().filter(|member| member.halted).map(|member| member.name.clone()).collect();
    Ok(Report {
        server: program.display().to_string(),
        seed,
        seconds: options.seconds,
        net: format!("{net:?}").to_lowercase(),
        operations: u64::try_from(shared.sent()).unwrap_or(u64::MAX),
        writes: verdict.checked.writes,
        reads: verdict.checked.reads,
        unknown: verdict.checked.unknown,
        unknown_placed: verdict.checked.unknown_placed,
        undecided: verdict.checked.undecided,
        violations: u64::try_from(verdict.violations.len()).unwrap_or(u64::MAX),
        what: verdict.violations,
        lies_told: verdict.lies_told,
        lies_caught: verdict.lies_caught,
        faults_injected: faults.values().sum(),
        faults,
        longest_gap,
        gaps_over_1s,
        recovered_ms: verdict.recovered_ms,
        halted,
        again: again(options, seed, net),
    })
}

fn again(options: &Options, seed: u64, net: Net) -> String {
    let mut line =
        format!("flaredb-soak --seed {seed} --seconds {} --net {}", options.seconds, format!("{net:?}").to_lowercase());
    line.push_str(&format!(
        " --faults {} --clients {} --rate {} --keys {}",
        options.faults, options.clients, options.rate, options.keys
    ));
    if let Some(etcd) = &options.etcd {
        line.push_str(&format!(" --etcd {}", etcd.display()));
    }
    if options.lying_disk {
        line.push_str(" --lying-disk");
    }
    line
}

/// The program under test.
fn server(options: &Options) -> Result<PathBuf> {
    let beside = std::env::current_exe().why("this program's path")?.with_file_name("flaredb");
    let path = options.etcd.clone().or_else(|| options.server.clone()).unwrap_or(beside);
    if path.is_file() {
        return path.canonicalize().why(path.display());
    }
    Err(SoakError(format!(
        "{}: no server there; build it (cargo build --release -p flaredb-server) or name it with --server or FLAREDB_BIN",
        path.display()
    )))
}

fn seed_of_the_clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros() % 1_000_000_000).unwrap_or(0)
}

/// Waits until a linearizable read works through each member: nothing is written before the clients begin.
async fn ready(cluster: &mut Cluster, shared: &Shared) -> Result<()> {
    use flaredb_sim::history::{Op, Outcome};
    let end = Instant::now() + READY_WITHIN;
    for number in 0..MEMBERS {
        let mut link = Connection::new(shared, number);
        loop {
            let read = flaredb_kv::RangeRequest { key: "soak/".into(), ..Default::default() };
            if let Some(Outcome::Read { result: Ok(_), .. }) = shared.ask(&mut link, Op::Read(read)).await {
                break;
            }
            cluster.look()?;
            if Instant::now() > end || !cluster.runs(number) {
                let member = cluster.member(number)?;
                let tail = cluster::tail(&member.log);
                return Err(SoakError(format!("{} does not become ready: {tail}", member.name)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
