//! Nothing acknowledged is lost: real processes, kill -9, restart, and every acknowledged write is looked up on every node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod support;

use flaredb_proto::etcdserverpb::{RangeRequest, kv_client::KvClient};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use support::{Cluster, connect, get, put};

/// What one writer was told: key -> (value, revision).
type Acknowledged = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// Writes its own keys one after the other, through whichever member answers, until told to stop.
async fn writer(number: usize, endpoints: Vec<String>, stop: Arc<AtomicBool>) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    let mut at = number;
    let mut client = None;
    for sequence in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if client.is_none() {
            match connect(&endpoints[at % endpoints.len()]).await {
                Ok(channel) => client = Some(KvClient::new(channel)),
                Err(_) => {
                    at += 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            }
        }
        let key = format!("writer-{number}/{sequence:08}").into_bytes();
        let value = format!("value {number} {sequence}").into_bytes();
        match put(client.as_mut().expect("connected"), &key, &value).await {
            Ok(revision) => {
                acknowledged.insert(key, (value, revision));
            }
            // The outcome is unknown: this key may or may not exist. The next key goes to the next member.
            Err(_) => {
                client = None;
                at += 1;
            }
        }
    }
    acknowledged
}

/// Every acknowledged write is there, on every member, at the revision that was promised; no revision was promised twice.
async fn assert_nothing_lost(cluster: &Cluster, all: &Acknowledged) {
    let mut revisions = BTreeSet::new();
    for (key, (_, revision)) in all {
        assert!(
            revisions.insert(*revision),
            "revision {revision} was acknowledged twice, once for {}",
            String::from_utf8_lossy(key)
        );
    }
    for endpoint in cluster.endpoints() {
        let mut client = KvClient::new(connect(&endpoint).await.expect("connect")).max_decoding_message_size(1 << 30);
        let range = RangeRequest {
            key: b"writer-".to_vec().into(),
            range_end: b"writer.".to_vec().into(),
            ..RangeRequest::default()
        };
        let answer = client.range(range).await.expect("a linearizable range").into_inner();
        let found: BTreeMap<&[u8], (&[u8], i64)> =
            answer.kvs.iter().map(|kv| (&kv.key[..], (&kv.value[..], kv.mod_revision))).collect();
        for (key, (value, revision)) in all {
            assert_eq!(
                found.get(&key[..]),
                Some(&(&value[..], *revision)),
                "{endpoint}: acknowledged write of {} is missing or changed",
                String::from_utf8_lossy(key)
            );
        }
    }
}

async fn run_writers(
    cluster: &Cluster,
    count: usize,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<Acknowledged>> {
    (0..count).map(|number| tokio::spawn(writer(number, cluster.endpoints(), Arc::clone(stop)))).collect()
}

async fn collect(writers: Vec<tokio::task::JoinHandle<Acknowledged>>) -> Acknowledged {
    let mut all = Acknowledged::new();
    for writer in writers {
        all.extend(writer.await.expect("a writer does not panic"));
    }
    all
}

fn seconds(variable: &str, default: u64) -> Duration {
    Duration::from_secs(std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_leader_every_five_seconds_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start(&[]);
    cluster.wait_ready(Duration::from_secs(30)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = run_writers(&cluster, 8, &stop).await;

    let end = Instant::now() + seconds("FLAREDB_CRASH_SECONDS", 30);
    let mut kills = 0;
    while Instant::now() + Duration::from_secs(5) < end {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let leader = cluster.leader(Duration::from_secs(20)).await.expect("a leader within 20 s of the last kill");
        cluster.kill(leader);
        kills += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.restart(leader);
    }
    tokio::time::sleep(end.saturating_duration_since(Instant::now())).await;
    stop.store(true, Ordering::Relaxed);
    let all = collect(writers).await;

    cluster.wait_ready(Duration::from_secs(30)).await;
    assert_nothing_lost(&cluster, &all).await;
    cluster.assert_converged(Duration::from_secs(30)).await;
    println!("{kills} leaders killed, {} acknowledged writes, all present on all three members", all.len());
    assert!(kills >= 3 || std::env::var("FLAREDB_CRASH_SECONDS").is_ok(), "only {kills} kills: the test did not test");
    assert!(all.len() > 100, "only {} writes were acknowledged: the test did not test", all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_all_three_at_once_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start(&[]);
    cluster.wait_ready(Duration::from_secs(30)).await;
    let mut all = Acknowledged::new();
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..8)
            .map(|number| tokio::spawn(writer(round * 100 + number, cluster.endpoints(), Arc::clone(&stop))))
            .collect();
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.kill_all();
        stop.store(true, Ordering::Relaxed);
        all.extend(collect(writers).await);
        for member in 0..3 {
            cluster.restart(member);
        }
        cluster.wait_ready(Duration::from_secs(30)).await;
    }
    assert_nothing_lost(&cluster, &all).await;
    cluster.assert_converged(Duration::from_secs(30)).await;
    println!("three total power cuts, {} acknowledged writes, all present on all three members", all.len());
    assert!(all.len() > 100, "only {} writes were acknowledged: the test did not test", all.len());
}

/// The log is replayed after a restart of all three. `FLAREDB_RESTART_ENTRIES=200000` for the full size; the time is
/// printed, not asserted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_replayed_before_the_first_read_is_answered() {
    let entries: usize =
        std::env::var("FLAREDB_RESTART_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let mut cluster = Cluster::start(&["--snapshot-count", "10000000"]);
    cluster.wait_ready(Duration::from_secs(30)).await;
    let leader = cluster.leader(Duration::from_secs(10)).await.expect("a leader");
    let channel = connect(&cluster.endpoint(leader)).await.expect("connect");
    let clients = 200;
    let loaders: Vec<_> = (0..clients)
        .map(|number| {
            let mut client = KvClient::new(channel.clone());
            tokio::spawn(async move {
                for sequence in 0..entries / clients {
                    put(&mut client, format!("load-{number:03}-{sequence:06}").as_bytes(), &[b'x'; 256])
                        .await
                        .expect("put");
                }
            })
        })
        .collect();
    for loader in loaders {
        loader.await.expect("a loader does not panic");
    }
    cluster.kill_all();
    let start = Instant::now();
    for member in 0..3 {
        cluster.restart(member);
    }
    let last = format!("load-{:03}-{:06}", clients - 1, entries / clients - 1);
    let answer = loop {
        match get(&cluster.endpoint(leader), last.as_bytes()).await {
            Ok(answer) => break answer,
            Err(error) => {
                assert!(start.elapsed() < Duration::from_secs(60), "no linearizable read after restart: {error}")
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    println!(
        "{entries} entries: first linearizable read {:.2} s after the processes were started",
        start.elapsed().as_secs_f64()
    );
    assert_eq!(answer.kvs.len(), 1, "the last acknowledged key is there");
    cluster.assert_converged(Duration::from_secs(30)).await;
}
