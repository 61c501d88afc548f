//! The process of `flaredb dev`: starts the nodes, says when they are ready, tells of important events in one line
//! each, obeys orders from other terminals, and stops the nodes when asked to.
//!
//! One thread, one queue: orders, signals and the regular look at the nodes never overlap.

use super::{
    DevError,
    args::{CLIENT_PORTS, DevArgs},
    cluster::DevCluster,
    control::{self, Order, Reply, Request},
    folder::{DevFolder, Ports},
};
use crate::{
    logging::{self, LogConfig, LogFormat, LogOutput},
    signals,
};
use std::{
    io::Write,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};
use tokio::runtime::{self, Runtime};

/// Between two looks at the nodes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks while they start.
const READY_INTERVAL: Duration = Duration::from_millis(10);
/// Something is wrong if no leader answers by then.
const READY_TIME_MAX: Duration = Duration::from_secs(60);

/// What this process waits for.
enum Event {
    Order(Order),
    Signal(&'static str),
}

/// How it comes to an end.
enum End {
    Signal(&'static str),
    Order(Order),
}

pub(super) fn run(args: &DevArgs) -> Result<(), DevError> {
    let begun = Instant::now();
    let folder = DevFolder::open(&args.data_dir)?;
    let ports = folder.ports(args)?;
    let log = folder.log();
    logging::init(&LogConfig {
        level: tracing::Level::INFO,
        format: Some(LogFormat::Text),
        outputs: vec![LogOutput::File(log.clone())],
    })?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, events) = mpsc::channel();
    let signal_sender = sender.clone();
    signals::watch(true, move |name| {
        // The receiver lives as long as the process has something to stop.
        let _ = signal_sender.send(Event::Signal(name));
    })?;
    let mut cluster = DevCluster::start(&folder, ports)?;
    // From here on other terminals find this process; before, there is nothing to ask it.
    let control = control::listen(folder.path(), sender, Event::Order)?;

    let end = serve(&mut cluster, &events, &runtime, &Announcement { begun, ports, folder: folder.path(), log: &log });
    for (name, failure) in cluster.stop() {
        say(&format!("  {name} did not stop cleanly: {failure}"));
    }
    drop(control);
    let text = format!("stopped; data is kept in {}", folder.path().display());
    match end? {
        End::Signal(name) => say(&format!("  {name}: {text}")),
        End::Order(order) => {
            say(&format!("  {text}"));
            order.answer(&Reply::Done { text });
        }
    }
    Ok(())
}

/// What the line of readiness is made of.
struct Announcement<'a> {
    begun: Instant,
    ports: Ports,
    folder: &'a Path,
    log: &'a Path,
}

/// Until somebody wants it to end.
fn serve(
    cluster: &mut DevCluster,
    events: &mpsc::Receiver<Event>,
    runtime: &Runtime,
    announcement: &Announcement<'_>,
) -> Result<End, DevError> {
    let mut watch: Option<LeaderWatch> = None;
    loop {
        let interval = if watch.is_some() { LOOK_INTERVAL } else { READY_INTERVAL };
        match events.recv_timeout(interval) {
            Ok(Event::Signal(name)) => return Ok(End::Signal(name)),
            Ok(Event::Order(order)) if order.request == Request::Stop => return Ok(End::Order(order)),
            Ok(Event::Order(order)) => obey(cluster, order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Signal("all who could ask have gone")),
        }
        for (name, failure) in cluster.take_failed(runtime) {
            say(&format!("  {name} had to stop: {failure}"));
        }
        match &mut watch {
            Some(watch) => watch.look(cluster),
            None if cluster.ready(runtime) => {
                let leader = cluster.leader();
                announce(announcement, leader);
                watch = Some(LeaderWatch { leader, lost: None });
            }
            None if announcement.begun.elapsed() > READY_TIME_MAX => {
                let (seconds, log) = (READY_TIME_MAX.as_secs(), announcement.log.to_owned());
                return Err(DevError::NotReady { seconds, log });
            }
            None => {}
        }
    }
}

fn obey(cluster: &mut DevCluster, order: Order) {
    let done = match &order.request {
        Request::Kill { node } => cluster.kill(node),
        Request::Start { node } => cluster.revive(node),
        Request::Status | Request::Stop => return order.answer(&Reply::Nodes { nodes: cluster.reports() }),
    };
    let reply = match done {
        Ok(text) => {
            say(&format!("  {text}"));
            Reply::Done { text }
        }
        Err(text) => Reply::Refused { text },
    };
    order.answer(&reply);
}

fn announce(announcement: &Announcement<'_>, leader: Option<(&str, u64)>) {
    let elapsed = announcement.begun.elapsed();
    let tenths = elapsed.as_millis() / 100;
    let (name, term) = leader.unwrap_or(("unknown", 0));
    say(&format!(
        "  ready in {}.{} s   leader {name} (term {term})   data {}",
        tenths / 10,
        tenths % 10,
        announcement.folder.display()
    ));
    let endpoints = if announcement.ports.client == CLIENT_PORTS {
        String::new()
    } else {
        let urls = announcement.ports.client.map(|port| format!("http://127.0.0.1:{port}"));
        format!("--endpoints {} ", urls.join(","))
    };
    say(&format!("  try:  flarectl {endpoints}put hello world      (etcdctl works too; Ctrl-C stops, data is kept)"));
}

/// Tells when leadership changes.
struct LeaderWatch {
    leader: Option<(&'static str, u64)>,
    /// Since when there is none.
    lost: Option<Instant>,
}

impl LeaderWatch {
    fn look(&mut self, cluster: &DevCluster) {
        let leader = cluster.leader();
        if leader == self.leader {
            return;
        }
        self.leader = leader;
        match leader {
            None => self.lost = Some(Instant::now()),
            Some((name, term)) => {
                let after = self.lost.take().map_or_else(String::new, |lost| {
                    let tenths = lost.elapsed().as_millis() / 100;
                    format!(", after {}.{} s without one", tenths / 10, tenths % 10)
                });
                say(&format!("  leader {name} (term {term}){after}"));
            }
        }
    }
}

/// A line on the terminal. One that is gone must not stop the nodes.
pub(super) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
