//! Random runs: a cluster of three under lost, repeated and reordered messages, partitions, slow disks, crashes that lose what
//! was not durable, disks that lose what was durable or are replaced, compaction and transfers, with the cluster-wide checker
//! on. Then everything heals and progress is required. A failure prints the seed; `RAFT_SEED=n cargo test --test random` runs
//! that one alone, `RAFT_SEEDS=n` the first n.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod cluster;
mod prng;

use cluster::{Cluster, Payload};
use flaredb_raft::{Event, PeerState};
use prng::Random;
use std::panic::AssertUnwindSafe;

impl Random {
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a run exercised, so that a test can require that the runs are worth something.
#[derive(Default, Debug)]
struct Coverage {
    applied: u64,
    terms: u64,
    snapshots: u64,
    crashes: u64,
    reads: u64,
    forwarded: u64,
    losses: u64,
    wipes: u64,
    old_copies: u64,
    recovered: u64,
}

fn run(seed: u64, steps: u64) -> Coverage {
    let mut random = Random(seed);
    let mut coverage = Coverage::default();
    // Each seed draws its own faults (swarm testing): all of them at once hide each other.
    let loss = [0, 0, 3, 15][random.below(4) as usize];
    let duplicates = [0, 5, 20][random.below(3) as usize];
    let reorder = random.chance(50);
    let crashes = random.chance(60);
    let partitions = random.chance(60);
    let slow_disks = random.chance(60);
    let compaction = random.chance(60);
    let losses = crashes && random.chance(60);
    let small = random.chance(50);
    let mut cluster = Cluster::new(&[1, 2, 3], &[1, 2, 3], |config| {
        config.seed = seed.wrapping_mul(31).wrapping_add(config.id);
        if small {
            config.append_bytes_max = 60;
            config.apply_bytes_max = 40;
            config.inflight_max = 2;
            config.cache_bytes_max = 100;
            config.uncommitted_bytes_max = 300;
        }
    });
    let mut proposed = 0_u64;
    for _ in 0..steps {
        cluster.trace.clear();
        let before = cluster.nodes.values().filter(|node| node.owed.is_some()).count();
        let id = 1 + random.below(3);
        match random.below(100) {
            0..30 if cluster.is_up(id) => cluster.tick(id),
            30..75 => {
                // A burst, so that rounds complete between ticks.
                for _ in 0..1 + random.below(6) {
                    if cluster.network.is_empty() {
                        break;
                    }
                    let place = if reorder && random.chance(30) {
                        random.below(cluster.network.len() as u64) as usize
                    } else {
                        0
                    };
                    if random.chance(loss) {
                        cluster.drop_packet(place);
                        continue;
                    }
                    if random.chance(duplicates) && matches!(cluster.network[place].payload, Payload::Message(_)) {
                        let copy = cluster.network[place].clone();
                        cluster.network.push_back(copy);
                    }
                    cluster.deliver(place);
                }
            }
            75..84 => {
                let target = if random.chance(60) { cluster.leader().unwrap_or(id) } else { id };
                if cluster.is_up(target) {
                    let commands: Vec<String> =
                        (0..1 + random.below(4)).map(|n| format!("{seed}/{}", proposed + n)).collect();
                    proposed += commands.len() as u64;
                    coverage.forwarded += u64::from(cluster.status(target).state == PeerState::Follower);
                    cluster.propose_together(target, &commands);
                }
            }
            84..88 if cluster.is_up(id) => {
                cluster.read(id);
                coverage.reads += 1;
            }
            88..93 => {
                let finished = cluster.is_up(id) && (cluster.finish_write(id) || cluster.finish_install(id));
                if !finished && slow_disks {
                    let slow = random.chance(50);
                    cluster.nodes.get_mut(&id).unwrap().slow = slow;
                }
            }
            93..95 if crashes => {
                // A member that lost something relies on the others, so only one at a time does.
                let whole = cluster.nodes.values().all(|node| node.owed.is_none());
                if losses && whole && random.chance(40) {
                    if random.chance(50) {
                        if cluster.nodes[&id].copy.is_some() && random.chance(50) {
                            cluster.restore(id);
                            coverage.old_copies += 1;
                        } else {
                            cluster.wipe(id);
                            coverage.wipes += 1;
                        }
                    } else {
                        let end = cluster.nodes[&id].disk.last().index;
                        cluster.lose(id, end.saturating_sub(random.below(8)));
                        coverage.losses += 1;
                    }
                } else if cluster.is_up(id) {
                    if random.chance(20) {
                        cluster.copy_disk(id);
                    }
                    cluster.crash(id);
                    coverage.crashes += 1;
                } else {
                    cluster.start(id);
                }
            }
            95..96 if partitions => {
                if cluster.cut.is_empty() {
                    match random.below(3) {
                        0 => cluster.isolate(id),
                        _ => drop(cluster.cut.insert((id, 1 + random.below(3)))),
                    }
                } else {
                    cluster.heal();
                }
            }
            96..98 if compaction && cluster.is_up(id) => {
                let applied = cluster.status(id).last_applied;
                cluster.compact(id, applied.saturating_sub(random.below(4)));
            }
            98 if cluster.is_up(id) => cluster.step(id, Event::TransferLeadership { to: 1 + random.below(3) }),
            99 if cluster.is_up(id) => match random.below(3) {
                0 => cluster.step(id, Event::Campaign),
                1 => cluster.step(id, Event::Unreachable { peer: 1 + random.below(3) }),
                _ => cluster.flush(id),
            },
            _ => {}
        }
        if random.chance(10) {
            cluster.ask(id, 1 + random.below(3));
        }
        let recovering = cluster.nodes.values().filter(|node| node.owed.is_some()).count();
        coverage.recovered += u64::from(recovering < before);
        coverage.snapshots += cluster.trace.iter().filter(|line| line.contains("installs snapshot")).count() as u64;
    }
    heal(&mut cluster, seed);
    cluster.checker.check_applied_once();
    coverage.applied = cluster.status(1).last_applied;
    coverage.terms = cluster.status(1).term;
    coverage
}

/// I45: within 10 election timeouts after the faults end there is one leader, a fresh write and a fresh read succeed from every
/// node, all have applied the same, and every read was answered.
fn heal(cluster: &mut Cluster, seed: u64) {
    cluster.heal();
    for id in 1..=3 {
        let node = cluster.nodes.get_mut(&id).unwrap();
        node.slow = false;
        if cluster.is_up(id) {
            while cluster.finish_write(id) || cluster.finish_install(id) {}
            cluster.step(id, Event::Campaign);
        } else {
            cluster.start(id);
        }
    }
    for (id, other) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
        cluster.ask(id, other);
    }
    cluster.settle();
    for _ in 0..100 {
        cluster.tick_all();
    }
    let statuses: Vec<_> = (1..=3).map(|id| (cluster.status(id), cluster.peer(id).promise())).collect();
    let leader = cluster.leader().unwrap_or_else(|| panic!("a leader is elected: {statuses:#?}"));
    for id in 1..=3 {
        assert_eq!(cluster.status(id).leader, Some(leader), "n{id} follows the leader");
        cluster.propose(id, &format!("{seed}/healed by {id}"));
    }
    cluster.settle();
    let reads: Vec<u64> = (1..=3).map(|id| cluster.read(id)).collect();
    cluster.settle();
    cluster.tick_all();
    cluster.tick_all();
    let last = cluster.status(leader).last_index;
    if std::env::var("RAFT_SEED").is_ok() {
        println!("{}", cluster.trace[cluster.trace.len().saturating_sub(400)..].join("\n"));
        for id in 1..=3 {
            let peer = cluster.peer(id);
            println!("{:?}\n{:?}\n{:?}", peer.status(), peer.counters(), peer.progress().collect::<Vec<_>>());
        }
    }
    for id in 1..=3 {
        let status = cluster.status(id);
        assert_eq!((status.last_applied, status.commit_index), (last, last), "n{id} has applied everything");
        assert_eq!(cluster.nodes[&id].history, cluster.nodes[&leader].history, "n{id} has the leader's state");
        assert!(!status.recovering && cluster.nodes[&id].owed.is_none(), "n{id} is a voter like any other again");
        let healed = format!("{seed}/healed by {id}");
        assert!(
            cluster.nodes[&id].history.iter().any(|entry| entry.command == healed),
            "the write of n{id} took effect"
        );
    }
    for read in reads {
        assert_eq!(cluster.reads_answered.get(&read), Some(&Some(last)), "a fresh read is answered");
    }
    for id in 1..=3 {
        assert_eq!(cluster.peer(id).waiting_reads(), 0, "no read is left waiting at n{id}");
    }
}

#[test]
fn random_runs_keep_every_rule_and_recover() {
    let only: Option<u64> = std::env::var("RAFT_SEED").ok().map(|text| text.parse().unwrap());
    let count = if cfg!(debug_assertions) { 60 } else { 1_000 };
    let count = std::env::var("RAFT_SEEDS").map_or(count, |text| text.parse().unwrap());
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    let mut total = Coverage::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| run(seed, 2_000)));
        let Ok(coverage) = result else { panic!("seed {seed} failed: RAFT_SEED={seed} runs it alone") };
        total.applied += coverage.applied;
        total.terms += coverage.terms;
        total.snapshots += coverage.snapshots;
        total.crashes += coverage.crashes;
        total.reads += coverage.reads;
        total.forwarded += coverage.forwarded;
        total.losses += coverage.losses;
        total.wipes += coverage.wipes;
        total.old_copies += coverage.old_copies;
        total.recovered += coverage.recovered;
    }
    println!("{count} runs: {total:?}");
    if count > 1 {
        let rich = total.applied > 50 * count
            && total.terms > 2 * count
            && total.snapshots > count / 4
            && total.crashes > count
            && total.losses > count / 4
            && total.wipes > count / 8
            && total.old_copies > count / 20
            && total.recovered > count / 3;
        assert!(rich, "the runs exercise too little: {total:?}");
    }
}
