//! A member that was away while the others' logs were truncated comes back by a snapshot: whole, whatever happens meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod in_process;

use flaredb_server::{counters::Counters, driver::NodeHandle};
use in_process::{Cluster, put_surely, read, until};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const SNAPSHOT_COUNT: u64 = 50;

fn start() -> Cluster {
    if std::env::var_os("FLAREDB_TEST_LOG").is_some() {
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_test_writer().try_init();
    }
    Cluster::start_with(3, |config| config.snapshot_count = SNAPSHOT_COUNT)
}

fn counters(cluster: &Cluster, node: usize) -> Arc<Counters> {
    cluster.handle(node).status().counters
}

/// Values that do not compress, written by several clients at once.
async fn fill(handle: &NodeHandle, prefix: &str, values: usize, bytes: usize) {
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (handle, prefix) = (handle.clone(), prefix.to_owned());
            tokio::spawn(async move {
                let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ writer as u64;
                for i in (writer..values).step_by(16) {
                    let value: String = (0..bytes)
                        .map(|_| {
                            state =
                                state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                            char::from(33 + ((state >> 40) % 94) as u8)
                        })
                        .collect();
                    put_surely(&handle, &format!("{prefix}{i:06}"), &value).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Kills a follower and lets the others go on until its place in their logs is gone. Returns it. They are started again,
/// because they keep recent entries in memory, and send those as long as they have them.
async fn leave_one_behind(cluster: &mut Cluster, prefix: &str) -> usize {
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    let applied = cluster.handle(away).applied().index;
    cluster.kill(away);
    fill(&cluster.handle(leader), prefix, 6 * SNAPSHOT_COUNT as usize, 100).await;
    for i in cluster.running() {
        let path = cluster.configs[i].data_dir.clone();
        until("truncated logs", || (truncations(cluster, i) > 0).then_some(())).await;
        assert!(path.exists() && cluster.handle(i).applied().index > applied + 5 * SNAPSHOT_COUNT);
    }
    for i in cluster.running() {
        cluster.kill(i);
        cluster.restart(i);
        cluster.leader().await;
    }
    away
}

fn truncations(cluster: &Cluster, node: usize) -> u64 {
    cluster.handle(node).status().replica.log_truncations
}

fn folders(data_dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(data_dir.join("member"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("data") || name.starts_with("incoming"))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_member_that_was_away_for_long_comes_back_by_a_snapshot() {
    let mut cluster = start();
    let leader = cluster.leader().await;
    put_surely(&cluster.handle(leader), "before", "1").await;
    for round in 0..3 {
        let away = leave_one_behind(&mut cluster, &format!("round{round}-")).await;
        cluster.restart(away);
        let back = cluster.handle(away);
        until("the snapshot", || (counters(&cluster, away).snapshots_installed.get() > 0).then_some(())).await;
        // It takes writes and reads, and follows on.
        put_surely(&back, "after", &round.to_string()).await;
        assert_eq!(read(&back, "before").await.as_deref(), Some("1"));
        assert_eq!(read(&back, "after").await, Some(round.to_string()));
        cluster.assert_equal_content().await;
        let data_dir = cluster.configs[away].data_dir.clone();
        until("the old state's removal", || {
            let found = folders(&data_dir);
            (found.len() == 1 && found[0].starts_with("data-")).then_some(())
        })
        .await;
        // And it is there after a crash.
        cluster.kill(away);
        cluster.restart(away);
        assert_eq!(read(&cluster.handle(away), "after").await, Some(round.to_string()));
        cluster.assert_equal_content().await;
    }
}

#[tokio::test]
async fn a_reader_of_the_old_state_keeps_it_until_it_is_done() {
    let mut cluster = start();
    let leader = cluster.leader().await;
    put_surely(&cluster.handle(leader), "k", "old").await;
    let away = leave_one_behind(&mut cluster, "x").await;
    // It starts alone, as the others do not answer it while they are down.
    for i in cluster.running() {
        cluster.kill(i);
    }
    cluster.restart(away);
    let reader = cluster.handle(away).serializable_reader().unwrap();
    let before = reader.applied();
    for i in 0..3 {
        if i != away {
            cluster.restart(i);
        }
    }
    until("the snapshot", || (counters(&cluster, away).snapshots_installed.get() > 0).then_some(())).await;
    let hash = reader.hash(0).unwrap().unwrap();
    assert_eq!((hash.revision, reader.applied()), (before.revision, before));
    drop(reader);
    cluster.assert_equal_content().await;
    let data_dir = cluster.configs[away].data_dir.clone();
    until("the old state's removal", || (folders(&data_dir).len() == 1).then_some(())).await;
}

/// Kills the receiver at every stage that can be told apart from outside, and at moments in between.
#[tokio::test]
async fn a_receiver_that_dies_at_any_moment_starts_from_the_old_state_or_the_new_one() {
    let mut cluster = start();
    let leader = cluster.leader().await;
    fill(&cluster.handle(leader), "ballast", 200, 10_000).await;
    for round in 0..12_u32 {
        let away = leave_one_behind(&mut cluster, &format!("round{round}-")).await;
        cluster.restart(away);
        let data_dir = cluster.configs[away].data_dir.clone();
        let counters = counters(&cluster, away);
        let began = Instant::now();
        until("the moment", || {
            let found = folders(&data_dir);
            let reached = match round % 6 {
                0 => found.iter().any(|name| name.starts_with("incoming")),
                1 => counters.snapshots_received.get() > 0,
                2 => found.iter().filter(|name| name.starts_with("data")).count() > 1,
                3 => counters.snapshots_installed.get() > 0,
                // Anywhere.
                _ => began.elapsed() > Duration::from_millis(u64::from(round) * 40),
            };
            reached.then_some(())
        })
        .await;
        cluster.kill(away);
        cluster.restart(away);
        put_surely(&cluster.handle(away), "after", &round.to_string()).await;
        cluster.assert_equal_content().await;
        until("no leftovers", || (folders(&data_dir).len() == 1).then_some(())).await;
    }
}

#[tokio::test]
async fn a_leader_that_dies_in_the_middle_is_followed_by_another_that_sends() {
    let mut cluster = start();
    let leader = cluster.leader().await;
    fill(&cluster.handle(leader), "ballast", 300, 100_000).await;
    let away = leave_one_behind(&mut cluster, "x").await;
    let leader = cluster.leader().await;
    cluster.restart(away);
    let data_dir = cluster.configs[away].data_dir.clone();
    until("the transfer", || folders(&data_dir).iter().any(|name| name.starts_with("incoming")).then_some(())).await;
    cluster.kill(leader);
    put_surely(&cluster.handle(away), "after", "1").await;
    assert_eq!(read(&cluster.handle(away), "after").await.as_deref(), Some("1"));
    assert!(counters(&cluster, away).snapshots_installed.get() > 0);
    cluster.restart(leader);
    cluster.assert_equal_content().await;
}

#[tokio::test]
async fn a_leadership_that_ends_ends_its_transfers() {
    let mut cluster = start();
    let leader = cluster.leader().await;
    fill(&cluster.handle(leader), "ballast", 300, 100_000).await;
    let away = leave_one_behind(&mut cluster, "x").await;
    let leader = cluster.leader().await;
    cluster.restart(away);
    let data_dir = cluster.configs[away].data_dir.clone();
    until("the transfer", || folders(&data_dir).iter().any(|name| name.starts_with("incoming")).then_some(())).await;
    let other = 3 - leader - away;
    let other_id = cluster.handle(other).peer().id;
    cluster.handle(leader).transfer_leadership(Some(other_id)).unwrap();
    until("the other leader", || (cluster.handle(other).peer().leader == Some(other_id)).then_some(())).await;
    put_surely(&cluster.handle(away), "after", "1").await;
    cluster.assert_equal_content().await;
    assert!(counters(&cluster, away).snapshots_installed.get() > 0);
}

/// 100 MB on their way, while clients write: nobody's term changes, and writes are answered as ever.
#[tokio::test]
async fn a_large_snapshot_disturbs_neither_leadership_nor_clients() {
    let mut cluster = start();
    let leader = cluster.leader().await;
    fill(&cluster.handle(leader), "ballast", 1000, 100_000).await;
    let away = leave_one_behind(&mut cluster, "x").await;
    let leader = cluster.leader().await;
    let term = cluster.handle(leader).peer().term;
    cluster.restart(away);
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut writes = 0;
    while counters(&cluster, away).snapshots_installed.get() == 0 {
        assert!(began.elapsed() < in_process::PATIENCE, "no snapshot came");
        let began = Instant::now();
        put_surely(&cluster.handle(leader), "meanwhile", &writes.to_string()).await;
        slowest = slowest.max(began.elapsed());
        writes += 1;
    }
    println!("{writes} writes in {:?} beside the transfer, the slowest took {slowest:?}", began.elapsed());
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert_eq!(cluster.handle(leader).peer().term, term, "the leadership was disturbed");
    cluster.assert_equal_content().await;
    assert_eq!(counters(&cluster, away).snapshots_installed.get(), 1, "one transfer was enough");
}
