//! `--lease-reads` on real processes: a leader that nobody answers any more serves linearizable reads until its lease ends, and only with
//! that option; afterwards the others go on, and the old leader's reads are as fresh as theirs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod support;

use flaredb_proto::etcdserverpb::kv_client::KvClient;
use std::time::{Duration, Instant};
use support::{Cluster, connect, get, put};

const PATIENCE: Duration = Duration::from_secs(60);

/// Puts again until a majority takes it.
async fn put_at(cluster: &Cluster, member: usize, value: &[u8]) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = match connect(&cluster.endpoint(member)).await {
            Ok(channel) => put(&mut KvClient::new(channel), b"key", value).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < end, "{error}\n{}", cluster.log_tail(member)),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Kills the two that follow; returns who leads, and who did not.
async fn leave_the_leader_alone(cluster: &mut Cluster, lease_reads: bool) -> (usize, [usize; 2]) {
    cluster.wait_ready(PATIENCE).await;
    let leader = cluster.leader(PATIENCE).await.expect("a leader");
    put_at(cluster, leader, b"first").await;
    // A lease begins with the first heartbeat after an election.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        let noted = cluster.data_dir_of(other).join("member/pledge").is_file();
        assert_eq!(noted, lease_reads, "what a member pledges outlives its process");
        cluster.kill(other);
    }
    (leader, others)
}

#[tokio::test]
async fn a_leader_without_followers_serves_reads_while_its_lease_lasts_and_not_for_ever() {
    // A long lease (nine elevenths of five seconds), so that a slow machine reads within it.
    let mut cluster = Cluster::start(&["--lease-reads", "--election-timeout=5s"]);
    let (leader, others) = leave_the_leader_alone(&mut cluster, true).await;
    let answer = get(&cluster.endpoint(leader), b"key").await.expect("by its lease");
    assert_eq!(&answer.kvs[0].value[..], b"first", "{}", cluster.log_tail(leader));
    // The others come back, the old leader goes: pledges end, and the two elect one of them and write.
    for other in others {
        cluster.restart(other);
    }
    cluster.kill(leader);
    put_at(&cluster, others[0], b"second").await;
    cluster.restart(leader);
    cluster.wait_ready(PATIENCE).await;
    for member in 0..3 {
        let answer = get(&cluster.endpoint(member), b"key").await.expect("a majority is there");
        assert_eq!(&answer.kvs[0].value[..], b"second", "n{} {}", member + 1, cluster.log_tail(member));
    }
}

#[tokio::test]
async fn without_the_option_a_leader_without_followers_serves_no_linearizable_read() {
    let mut cluster = Cluster::start(&["--election-timeout=5s"]);
    let (leader, _) = leave_the_leader_alone(&mut cluster, false).await;
    let endpoint = cluster.endpoint(leader);
    let answer = tokio::time::timeout(Duration::from_secs(2), get(&endpoint, b"key")).await;
    assert!(!matches!(answer, Ok(Ok(_))), "nobody confirmed that it still leads");
}
