//! Cluster stories in plain text: `tests/golden/<topic>/<claim>`. Each file shows one situation; its name is the claim, its
//! first line the reason. `UPDATE_GOLDENFILES=1 cargo test --test golden` records what happens; what is recorded has to be read.
//!
//! Commands (`n1: propose a` and `propose n1 a` are the same):
//! ```text
//! cluster [peers="1,2,3"] [voters="1,2,3"] [key=value of Config ..]   a fresh cluster; without it there is one of three
//! elect n1               n1 campaigns, everything is delivered, it must have won
//! campaign n1            its election timeout has passed
//! tick n1 [count]        time passes for one node; `tick all 5`: for all, delivering in between
//! propose n1 a b c       proposals that arrive together
//! read n1 7              a linearizable read named 7
//! transfer n1 to=n2      n1 hands leadership over
//! settle                 deliver everything, until nothing is in flight
//! deliver [from=n1] [to=n2] [type=AppendEntries]   what is in flight now and fits, printed
//! drop, dup, network     the same filters: lose it, repeat it, show it
//! isolate n1, cut n1 n2 (one way), heal            links
//! slow n1, fast n1, done n1                        disk: writes wait until `done`
//! crash n1, restart n1, flush n1                   what was not durable is lost; flush: what is applied survives
//! lose n1 3, wipe n1     n1 crashes, its disk loses everything after 3, or is replaced by an empty one
//! copy n1, restore n1     keep a copy of the disk; n1 crashes, and its disk is that copy
//! ask n1 n2              n1, with a new disk, asks n2 what it vouches for; when all were asked it knows what it promised
//! recover n1 5@2         n1 is told at run time that it promised this much
//! compact n1 5           flush, then remove the log up to 5
//! unreachable n1 n2      n1's transport lost its connection to n2
//! status, log, disk, progress, counters [n1 ..]    look
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod cluster;

use cluster::{Cluster, Packet, kind, show_entry, show_hard_state, show_packet};
use flaredb_raft::{Config, EntryId, Event, PeerState, RaftStorage};
use goldenscript::{Argument, Command, Context};
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

struct Script(Cluster);

/// `n2` or `2`.
fn node(text: &str) -> Result<u64, Box<dyn Error>> {
    Ok(text.trim_start_matches('n').parse()?)
}

struct Filter {
    from: Option<u64>,
    to: Option<u64>,
    kind: Option<String>,
}

impl Filter {
    fn fits(&self, packet: &Packet) -> bool {
        self.from.is_none_or(|from| from == packet.from)
            && self.to.is_none_or(|to| to == packet.to)
            && self.kind.as_ref().is_none_or(|name| *name == kind(packet))
    }
}

impl Script {
    fn new() -> Self {
        Self(Cluster::of_three())
    }

    /// Takes every packet that fits out of the queue, oldest first. Packets sent meanwhile are not looked at.
    fn each(&mut self, filter: &Filter, mut act: impl FnMut(&mut Cluster, usize)) {
        let cluster = &mut self.0;
        let mut later = cluster.network.len();
        let mut place = 0;
        while place < later {
            if filter.fits(&cluster.network[place]) {
                act(cluster, place);
                later -= 1;
            } else {
                place += 1;
            }
        }
    }

    fn nodes(&self, names: &[&str]) -> Result<Vec<u64>, Box<dyn Error>> {
        match names {
            [] | ["all"] => Ok(self.0.nodes.keys().copied().collect()),
            names => names.iter().map(|name| node(name)).collect(),
        }
    }

    fn look(&self, what: &str, id: u64) -> String {
        let node = &self.0.nodes[&id];
        let Some(peer) = &node.peer else { return format!("n{id}: down") };
        match what {
            "status" => {
                let status = peer.status();
                let state = match status.state {
                    PeerState::Leader => "leader".to_string(),
                    PeerState::Candidate => "candidate".to_string(),
                    PeerState::Follower => match status.leader {
                        Some(leader) => format!("follower of n{leader}"),
                        None => "follower".to_string(),
                    },
                };
                let recovering = if status.recovering { ", recovering" } else { "" };
                format!(
                    "n{id}@{}: {state}, last {}, persisted {}, commit {}, applied {}{recovering}",
                    status.term,
                    peer.last(),
                    status.persisted_index,
                    status.commit_index,
                    status.last_applied
                )
            }
            "log" => {
                let first = node.disk.first_index().unwrap();
                let positions = (first..=peer.last().index).map(|index| match peer.term_of(index).unwrap() {
                    Some(term) => format!("{index}@{term}"),
                    None => format!("{index}@?"),
                });
                format!("n{id}: {}", positions.collect::<Vec<_>>().join(" "))
            }
            "disk" => {
                let entries: Vec<_> = node.disk.all_entries().iter().map(show_entry).collect();
                let snapshot = node.disk.snapshot().unwrap().last;
                format!(
                    "n{id}: {}, snapshot {snapshot}, log [{}]",
                    show_hard_state(&node.disk.hard_state()),
                    entries.join(", ")
                )
            }
            "progress" => {
                let followers = peer.progress().map(|(id, state)| {
                    let pending = if state.pending { ", pending" } else { "" };
                    format!("n{id} match {} next {}{pending}", state.match_index, state.next_index)
                });
                format!("n{id}: {}", followers.collect::<Vec<_>>().join("; "))
            }
            _ => {
                let text = format!("{:?}", peer.counters());
                let counted = text.trim_start_matches("Counters { ").trim_end_matches(" }").split(", ");
                let counted: Vec<_> = counted.filter(|part| !part.ends_with(": 0")).collect();
                format!(
                    "n{id}: {}",
                    if counted.is_empty() { "nothing dropped".to_string() } else { counted.join(", ") }
                )
            }
        }
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let mut words: Vec<&str> = context.prefix.iter().map(String::as_str).collect();
        let mut filter = Filter { from: None, to: None, kind: None };
        let mut settings = Vec::new();
        for argument in &command.args {
            match argument {
                Argument::Positional(word) => words.push(word),
                Argument::KeyValue(key, value) => match key.as_str() {
                    "from" => filter.from = Some(node(value)?),
                    "to" => filter.to = Some(node(value)?),
                    "type" => filter.kind = Some(value.clone()),
                    _ => settings.push((key.as_str(), value.as_str())),
                },
                _ => return Err("unknown argument".into()),
            }
        }
        let first = || node(words.first().ok_or("which node?")?);
        match command.name.as_str() {
            "cluster" => self.0 = cluster_of(&settings)?,
            "elect" => self.0.elect(first()?),
            "campaign" => self.0.step(first()?, Event::Campaign),
            "tick" => {
                let count: u64 = words.get(1).map_or(Ok(1), |count| count.parse())?;
                for _ in 0..count {
                    match words.first() {
                        Some(&"all") => self.0.tick_all(),
                        _ => self.0.tick(first()?),
                    }
                }
            }
            "propose" => {
                let commands: Vec<String> = words[1..].iter().map(|word| (*word).to_string()).collect();
                self.0.propose_together(first()?, &commands);
            }
            "read" => self.0.read_as(first()?, words.get(1).ok_or("which read?")?.parse()?),
            "clock" => {
                let now = words.get(1).ok_or("what does it show?")?.parse()?;
                match words.first() {
                    Some(&"all") => {
                        for id in self.0.nodes.keys().copied().collect::<Vec<_>>() {
                            self.0.step(id, Event::Clock { now });
                        }
                    }
                    _ => self.0.step(first()?, Event::Clock { now }),
                }
            }
            "transfer" => self.0.step(first()?, Event::TransferLeadership { to: filter.to.ok_or("to whom?")? }),
            "settle" => self.0.settle(),
            "deliver" => self.each(&filter, |cluster, place| {
                cluster.say(show_packet(&cluster.network[place]));
                cluster.deliver(place);
            }),
            "drop" => self.each(&filter, |cluster, place| {
                cluster.say(format!("lost: {}", show_packet(&cluster.network[place])));
                cluster.drop_packet(place);
            }),
            "dup" => {
                let fitting: Vec<Packet> =
                    self.0.network.iter().filter(|packet| filter.fits(packet)).cloned().collect();
                for packet in fitting {
                    self.0.say(format!("twice: {}", show_packet(&packet)));
                    self.0.network.push_back(packet);
                }
            }
            "network" => {
                let fitting: Vec<String> = self.0.network.iter().filter(|p| filter.fits(p)).map(show_packet).collect();
                let fitting = if fitting.is_empty() { vec!["nothing is in flight".to_string()] } else { fitting };
                self.0.trace.extend(fitting);
            }
            "isolate" => self.0.isolate(first()?),
            "cut" => drop(self.0.cut.insert((first()?, node(words.get(1).ok_or("to whom?")?)?))),
            "heal" => self.0.heal(),
            "slow" => self.0.nodes.get_mut(&first()?).ok_or("no such node")?.slow = true,
            "fast" => {
                let id = first()?;
                while self.0.finish_write(id) || self.0.finish_install(id) {}
                self.0.nodes.get_mut(&id).ok_or("no such node")?.slow = false;
            }
            "done" => {
                let id = first()?;
                if !self.0.finish_write(id) && !self.0.finish_install(id) {
                    return Err("nothing is being written".into());
                }
            }
            "crash" => self.0.crash(first()?),
            "restart" => {
                let id = first()?;
                if self.0.is_up(id) {
                    self.0.crash(id);
                }
                self.0.start(id);
                let line = self.look("status", id);
                self.0.say(line);
            }
            "flush" => self.0.flush(first()?),
            "lose" => self.0.lose(first()?, words.get(1).ok_or("after which?")?.parse()?),
            "wipe" => self.0.wipe(first()?),
            "copy" => self.0.copy_disk(first()?),
            "restore" => self.0.restore(first()?),
            "ask" => {
                for other in &words[1..] {
                    if !self.0.ask(first()?, node(other)?) {
                        self.0.say(format!("{other} does not tell"));
                    }
                }
            }
            "recover" => {
                let (index, term) = words.get(1).and_then(|at| at.split_once('@')).ok_or("until where?")?;
                let until = EntryId { index: index.parse()?, term: term.parse()? };
                self.0.step(first()?, Event::Recover { until: Some(until), term: 0 });
            }
            "compact" => self.0.compact(first()?, words.get(1).ok_or("up to where?")?.parse()?),
            "unreachable" => {
                let peer = node(words.get(1).ok_or("which peer?")?)?;
                self.0.step(first()?, Event::Unreachable { peer });
            }
            what @ ("status" | "log" | "disk" | "progress" | "counters") => {
                for id in self.nodes(&words)? {
                    let line = self.look(what, id);
                    self.0.say(line);
                }
            }
            name => return Err(format!("there is no command {name}").into()),
        }
        let mut output = String::new();
        for line in self.0.trace.drain(..) {
            writeln!(output, "{line}")?;
        }
        Ok(output)
    }

    fn end_script(&mut self) -> Result<(), Box<dyn Error>> {
        self.0.checker.check_applied_once();
        Ok(())
    }
}

fn cluster_of(settings: &[(&str, &str)]) -> Result<Cluster, Box<dyn Error>> {
    let ids = |key: &str| -> Result<Option<Vec<u64>>, Box<dyn Error>> {
        let found = settings.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| value.split(',').map(node).collect()).transpose()
    };
    let peers = ids("peers")?.unwrap_or(vec![1, 2, 3]);
    let voters = ids("voters")?.unwrap_or(peers.clone());
    let known = [
        "peers",
        "voters",
        "append_bytes_max",
        "inflight_max",
        "uncommitted_bytes_max",
        "apply_bytes_max",
        "cache_bytes_max",
        "lease_us",
    ];
    if let Some((key, _)) = settings.iter().find(|(key, _)| !known.contains(key)) {
        return Err(format!("there is no setting {key}").into());
    }
    let number =
        |key: &str| settings.iter().find(|(name, _)| *name == key).map(|(_, value)| value.parse::<u64>().unwrap());
    Ok(Cluster::new(&peers, &voters, |config: &mut Config| {
        config.append_bytes_max = number("append_bytes_max").unwrap_or(config.append_bytes_max);
        config.inflight_max = number("inflight_max").map_or(config.inflight_max, |n| n as usize);
        config.uncommitted_bytes_max = number("uncommitted_bytes_max").unwrap_or(config.uncommitted_bytes_max);
        config.apply_bytes_max = number("apply_bytes_max").unwrap_or(config.apply_bytes_max);
        config.cache_bytes_max = number("cache_bytes_max").unwrap_or(config.cache_bytes_max);
        config.lease_us = number("lease_us").unwrap_or(config.lease_us);
    }))
}

/// Asked when the test runs, not when it is compiled: clones that share a target folder share compiled tests.
fn golden_root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests")).join("tests/golden")
}

/// Runs every script of a folder; a failing one is named, the others run all the same.
fn run_folder(name: &str) {
    let folder = golden_root().join(name);
    let mut scripts: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "{name} has scripts");
    let mut failed = Vec::new();
    for path in scripts {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{path:?} opens with the reason");
        let run = || goldenscript::run(&mut Script::new(), &path);
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{}: {error}", path.display())),
            Err(_) => failed.push(format!("{}: differs or panicked, see above", path.display())),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

macro_rules! folders {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            run_folder(stringify!($name));
        })*

        #[test]
        fn every_folder_is_run() {
            let root = golden_root();
            let mut found: Vec<String> =
                std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

folders!(elections, failover, forwarding, partitions, reads, recovery, replication, restart, snapshot, stall, transfer);
