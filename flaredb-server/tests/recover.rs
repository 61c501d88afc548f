//! A member whose disk was wiped, replaced or set back to an old copy: it never votes on what it has forgotten, and is made
//! whole by the others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod in_process;

use flaredb_server::node::{self, StartError};
use flaredb_storage::OpenError;
use in_process::{Cluster, put_surely, read, until};
use std::{fs, path::Path, process::Command, time::Duration};

async fn fill(cluster: &Cluster, through: usize, prefix: &str) {
    for i in 0..100 {
        put_surely(&cluster.handle(through), &format!("{prefix}{i}"), &i.to_string()).await;
    }
}

/// It is whole, votes, and stays so over another start.
async fn assert_recovered(cluster: &mut Cluster, member: usize) {
    until("the recovery", || (!cluster.handle(member).peer().recovering).then_some(())).await;
    put_surely(&cluster.handle(member), "recovered", "1").await;
    cluster.assert_equal_content().await;
    cluster.kill(member);
    cluster.restart(member);
    put_surely(&cluster.handle(member), "recovered", "2").await;
    cluster.assert_equal_content().await;
    // With another one down, its vote and its disk are needed.
    let down = (member + 1) % 3;
    cluster.kill(down);
    put_surely(&cluster.handle(member), "needed", "1").await;
    cluster.restart(down);
    cluster.assert_equal_content().await;
    assert!(!cluster.handle(member).peer().recovering);
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[tokio::test]
async fn a_wiped_member_comes_back_with_its_usual_settings() {
    for snapshot_count in [10_000, 20] {
        let mut cluster = Cluster::start_with(3, |config| config.snapshot_count = snapshot_count);
        let leader = cluster.leader().await;
        fill(&cluster, leader, "a").await;
        // A follower, then the leader.
        for wiped in [(leader + 1) % 3, leader] {
            until("all connections", || (0..3).all(|i| cluster.handle(i).status().connected.len() == 2).then_some(()))
                .await;
            cluster.kill(wiped);
            fs::remove_dir_all(&cluster.configs[wiped].data_dir).unwrap();
            fill(&cluster, cluster.running()[0], "b").await;
            cluster.restart(wiped);
            assert_eq!(read(&cluster.handle(wiped), "a99").await.as_deref(), Some("99"));
            assert_recovered(&mut cluster, wiped).await;
        }
    }
}

/// Two of three hold a write, one of them forgets it: the forgetful one must not elect the one that never had it.
#[tokio::test]
async fn a_wiped_member_and_one_that_lags_elect_nobody() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    until("all connections", || (0..3).all(|i| cluster.handle(i).status().connected.len() == 2).then_some(())).await;
    let (wiped, lagging) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(lagging);
    fill(&cluster, leader, "a").await;
    cluster.kill(wiped);
    cluster.kill(leader);
    fs::remove_dir_all(&cluster.configs[wiped].data_dir).unwrap();
    cluster.restart(wiped);
    cluster.restart(lagging);
    until("the recovery's begin", || cluster.handle(wiped).peer().recovering.then_some(())).await;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for i in [wiped, lagging] {
            let peer = cluster.handle(i).peer();
            assert!(peer.leader.is_none() && peer.commit_index < 100, "{peer:?}");
        }
        assert!(cluster.handle(wiped).peer().recovering);
    }
    // The one that knows comes back, and nothing is lost.
    cluster.restart(leader);
    for i in 0..3 {
        assert_eq!(read(&cluster.handle(i), "a99").await.as_deref(), Some("99"));
    }
    assert_recovered(&mut cluster, wiped).await;
}

#[tokio::test]
async fn an_old_backup_is_noticed_and_made_whole() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    fill(&cluster, leader, "a").await;
    let restored = (leader + 1) % 3;
    let data_dir = cluster.configs[restored].data_dir.clone();
    let backup = data_dir.with_extension("backup");
    cluster.kill(restored);
    copy(&data_dir, &backup);
    // The original goes on, is seen by the others, and makes promises that the copy knows nothing of.
    cluster.restart(restored);
    until("all connections", || (0..3).all(|i| cluster.handle(i).status().connected.len() == 2).then_some(())).await;
    fill(&cluster, restored, "b").await;
    cluster.kill(restored);
    fs::remove_dir_all(&data_dir).unwrap();
    fs::rename(&backup, &data_dir).unwrap();
    // Starts that nobody hears of make it no younger.
    let others: Vec<usize> = (0..3).filter(|i| *i != restored).collect();
    others.iter().for_each(|i| cluster.kill(*i));
    for _ in 0..5 {
        cluster.restart(restored);
        cluster.kill(restored);
    }
    others.iter().for_each(|i| cluster.restart(*i));
    cluster.restart(restored);
    until("the recovery", || (cluster.handle(restored).status().counters.recoveries.get() > 0).then_some(())).await;
    assert_eq!(read(&cluster.handle(restored), "b99").await.as_deref(), Some("99"));
    assert_recovered(&mut cluster, restored).await;
}

/// What was heard of another member must be durable before it is listened to; if that fails there is no second try.
#[tokio::test]
async fn a_member_that_cannot_remember_stops() {
    let mut cluster = Cluster::start(3);
    cluster.leader().await;
    until("all connections", || (0..3).all(|i| cluster.handle(i).status().connected.len() == 2).then_some(())).await;
    fs::create_dir(cluster.configs[0].data_dir.join("member/acquaintances.new")).unwrap();
    // Its next start is news.
    cluster.kill(1);
    cluster.restart(1);
    let failure = cluster.nodes[0].as_ref().unwrap().wait_failed().await;
    let text = failure.to_string();
    assert!(text.contains("member/acquaintances") && text.contains("the process must stop"), "{text}");
}

#[tokio::test]
async fn the_folders_of_two_members_cannot_be_swapped() {
    let mut cluster = Cluster::start(3);
    cluster.leader().await;
    cluster.kill(0);
    cluster.kill(1);
    let mut swapped = cluster.configs[0].clone();
    swapped.data_dir = cluster.configs[1].data_dir.clone();
    let refused = node::start(swapped).err().expect("it starts on another member's folder");
    assert!(matches!(refused, StartError::Open(OpenError::Identity { what: "member", .. })), "{refused}");
}
