//! Nodes as a whole, in one process: replication, loss of the leader, restart, stop and kill.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod in_process;

use flaredb_server::{driver::RequestError, node};
use in_process::{Cluster, PATIENCE, put, put_surely, read, until};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_put_on_any_node_is_read_on_every_node() {
    let cluster = Cluster::start(3);
    for i in 0..3 {
        put_surely(&cluster.handle(i), &format!("key{i}"), &format!("value{i}")).await;
        for reader in 0..3 {
            assert_eq!(read(&cluster.handle(reader), &format!("key{i}")).await, Some(format!("value{i}")));
        }
    }
    cluster.assert_equal_content().await;
    let status = cluster.handle(0).status();
    assert_eq!(status.members.len(), 3);
    assert!(status.members.iter().all(|member| !member.client_urls.is_empty()), "{:?}", status.members);
}

#[tokio::test]
async fn writes_go_on_without_the_leader_and_it_catches_up() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    for i in 0..20 {
        put_surely(&cluster.handle(i % 3), &format!("before{i}"), "1").await;
    }
    cluster.kill(leader);
    let other = cluster.running()[0];
    for i in 0..20 {
        put_surely(&cluster.handle(other), &format!("without{i}"), "2").await;
    }
    cluster.restart(leader);
    put_surely(&cluster.handle(leader), "after", "3").await;
    assert_eq!(read(&cluster.handle(leader), "without19").await.as_deref(), Some("2"));
    assert_eq!(read(&cluster.handle(other), "after").await.as_deref(), Some("3"));
    cluster.assert_equal_content().await;
}

#[tokio::test]
async fn killed_all_at_once_they_come_back_with_everything_acknowledged() {
    let mut cluster = Cluster::start(3);
    for i in 0..50 {
        put_surely(&cluster.handle(i % 3), &format!("key{i}"), &i.to_string()).await;
    }
    for i in 0..3 {
        cluster.kill(i);
    }
    for i in 0..3 {
        cluster.restart(i);
    }
    for i in 0..50 {
        assert_eq!(read(&cluster.handle(i % 3), &format!("key{i}")).await, Some(i.to_string()));
    }
    cluster.assert_equal_content().await;
}

#[tokio::test]
async fn concurrent_writers_on_all_nodes_end_with_equal_content() {
    let cluster = Cluster::start(3);
    cluster.leader().await;
    let writers: Vec<_> = (0..60)
        .map(|writer| {
            let handle = cluster.handle(writer % 3);
            tokio::spawn(async move {
                for i in 0..20 {
                    put_surely(&handle, &format!("w{writer}-{i}"), "v").await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    cluster.assert_equal_content().await;
    assert_eq!(cluster.handle(0).applied().revision, 1 + 60 * 20, "every put took effect exactly once");
}

#[tokio::test]
async fn the_log_is_truncated_and_a_restarted_node_still_catches_up() {
    let mut cluster = Cluster::start_with(3, |config| config.snapshot_count = 50);
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    for i in 0..200 {
        put_surely(&cluster.handle(leader), &format!("key{}", i % 7), &i.to_string()).await;
    }
    until("truncated logs", || (0..3).all(|i| cluster.handle(i).status().replica.log_truncations > 0).then_some(()))
        .await;
    cluster.kill(away);
    for i in 200..500 {
        put_surely(&cluster.handle(leader), &format!("key{}", i % 7), &i.to_string()).await;
    }
    cluster.restart(away);
    cluster.assert_equal_content().await;
}

#[tokio::test]
async fn a_node_alone_serves_and_keeps_its_data() {
    let mut cluster = Cluster::start(1);
    put_surely(&cluster.handle(0), "k", "1").await;
    let handle = cluster.handle(0);
    cluster.nodes[0].take().unwrap().stop().unwrap();
    assert_eq!(put(&handle, "k", "2").await, Err(RequestError::Stopped));
    assert_eq!(handle.linearizable_reader().await.map(|_| ()), Err(RequestError::Stopped));
    assert_eq!(handle.serializable_reader().map(|_| ()), Err(RequestError::Stopped));
    // With that handle still alive.
    cluster.restart(0);
    assert_eq!(read(&cluster.handle(0), "k").await.as_deref(), Some("1"));
    cluster.kill(0);
    cluster.restart(0);
    assert_eq!(read(&cluster.handle(0), "k").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_without_an_election_timeout() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    put_surely(&cluster.handle(leader), "k", "1").await;
    let term = cluster.handle(leader).peer().term;
    let stopped = cluster.nodes[leader].take().unwrap();
    let others = cluster.running();
    tokio::task::spawn_blocking(move || stopped.stop()).await.unwrap().unwrap();
    // The successor was there before the leader was gone: nobody had to time out.
    assert!(others.iter().any(|i| cluster.handle(*i).peer().leader == Some(cluster.handle(*i).peer().id)));
    let new = cluster.leader().await;
    assert_eq!(cluster.handle(new).peer().term, term + 1);
    assert_eq!(read(&cluster.handle(new), "k").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn without_a_majority_a_write_ends_in_bounded_time() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    cluster.kill((leader + 1) % 3);
    cluster.kill((leader + 2) % 3);
    let outcome = tokio::time::timeout(PATIENCE, put(&cluster.handle(leader), "k", "1")).await.unwrap();
    let expected = [RequestError::NoLeader, RequestError::LeaderLost, RequestError::Timeout];
    assert!(expected.contains(outcome.as_ref().unwrap_err()), "{outcome:?}");
    let read = tokio::time::timeout(PATIENCE, cluster.handle(leader).linearizable_reader()).await.unwrap();
    assert!(read.is_err());
    assert!(cluster.handle(leader).serializable_reader().is_ok());
}

#[tokio::test]
async fn clients_that_stop_waiting_leave_nothing_behind() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    cluster.kill((leader + 1) % 3);
    cluster.kill((leader + 2) % 3);
    let handle = cluster.handle(leader);
    for i in 0..500 {
        let key = format!("k{i}");
        let _ = tokio::time::timeout(Duration::from_micros(100), put(&handle, &key, "v")).await;
    }
    for i in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.restart(i);
    }
    put_surely(&handle, "last", "v").await;
    cluster.assert_equal_content().await;
}

#[tokio::test]
async fn leadership_goes_where_it_is_sent() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let target = (leader + 1) % 3;
    let target_id = cluster.handle(target).peer().id;
    put_surely(&cluster.handle(leader), "k", "v").await;
    cluster.handle(leader).transfer_leadership(Some(target_id)).unwrap();
    until("the new leader", || (cluster.handle(leader).peer().leader == Some(target_id)).then_some(())).await;
    assert_eq!(cluster.leader().await, target);
}

#[tokio::test]
async fn an_empty_cluster_names_no_leader_before_there_is_one() {
    // One of three: no majority, so no leader for as long as it runs.
    let dirs = tempfile::TempDir::new().unwrap();
    let configs = in_process::configs(3, &dirs, "test");
    let node = node::start(configs[0].clone()).unwrap();
    assert_eq!(node.handle().peer().leader, None);
    assert!(node.handle().status().connected.is_empty());
    node.stop().unwrap();
}

/// Not a test but a measurement: `cargo test --release -p flaredb-server --test node -- --ignored --nocapture idle`
#[tokio::test]
#[ignore = "takes 20 s and depends on the machine"]
async fn idle_cpu_of_three_nodes() {
    let cluster = Cluster::start(3);
    cluster.leader().await;
    put_surely(&cluster.handle(0), "k", "v").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cpu_time();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let used = cpu_time() - before;
    println!("three idle nodes used {used:?} of CPU in 15 s: {:.2} % of a core", used.as_secs_f64() / 15.0 * 100.0);
}

/// Not a test but a measurement, as above with `puts`.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "depends on the machine"]
async fn puts_per_second_of_three_nodes() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    for clients in [1, 16, 256] {
        let (puts, began, cpu) = (4000 / clients, Instant::now(), cpu_time());
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let handle = cluster.handle(leader);
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for i in 0..puts {
                        let began = Instant::now();
                        put(&handle, &format!("c{client}-{i}"), &"v".repeat(256)).await.unwrap();
                        times.push(began.elapsed());
                    }
                    times
                })
            })
            .collect();
        let count = clients.len();
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await.unwrap());
        }
        let (wall, cpu) = (began.elapsed(), cpu_time() - cpu);
        times.sort();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        let per_second = times.len() as f64 / wall.as_secs_f64();
        let cpu = cpu.as_micros() / times.len() as u128;
        println!("{count} clients, no gRPC: {per_second:.0} puts/s, p50 {p50:?}, p99 {p99:?}, {cpu} us of CPU a put");
    }
}

/// User and system time of this process; clock ticks are 10 ms on Linux.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
