//! Disks that run full or stop answering. Real servers on disk images of their own, mounted where nobody else sees them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod support;

use flaredb_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use support::{Cluster, connect, get, put, status};
use tonic::Code;

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const PATIENCE: Duration = Duration::from_secs(60);

/// Free bytes of the disk under a folder, as `df` sees them.
fn free_bytes(folder: &Path) -> u64 {
    let stat = rustix::fs::statvfs(folder).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Someone else's file: leaves only so much of the disk.
fn fill_up_to(folder: &Path, leave: u64) -> PathBuf {
    let path = folder.join(format!("ballast-{leave}"));
    let mut file = File::create(&path).unwrap();
    let block = vec![0x5a; 1 << 20];
    while free_bytes(folder) > leave {
        let length = (free_bytes(folder) - leave).min(1 << 20) as usize;
        if file.write_all(&block[..length]).is_err() {
            break;
        }
    }
    path
}

#[tokio::test]
async fn a_full_disk_refuses_puts_and_nothing_else_until_there_is_room() {
    let Some(mut cluster) = Cluster::start_on_disks(1, &[], 640) else { return };
    cluster.wait_ready(PATIENCE).await;
    let channel = connect(&cluster.endpoint(0)).await.unwrap();
    let mut client = KvClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel);
    for i in 0..100 {
        put(&mut client, format!("key{i}").as_bytes(), &[b'x'; 1000]).await.unwrap();
    }
    let folder = cluster.data_dir_of(0);

    // Nearly full, then full to the last byte, also of what was set aside.
    let mut ballast = Vec::new();
    for (round, leave) in [100 << 20, 30 << 20, 0].into_iter().enumerate() {
        ballast.push(fill_up_to(&folder, leave));
        let began = Instant::now();
        let refusal = loop {
            if let Err(refusal) = put(&mut client, b"late", b"v").await {
                break refusal;
            }
            assert!(began.elapsed() < PATIENCE, "puts are served with {} bytes free", free_bytes(&folder));
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!((refusal.code(), refusal.message()), (Code::ResourceExhausted, NO_SPACE));
        let alarms = maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner().alarms;
        assert!(alarms.len() == 1 && alarms[0].alarm == i32::from(AlarmType::Nospace), "{alarms:?}");
        assert!(!status(&cluster.endpoint(0)).await.unwrap().errors.is_empty());
        // Reads, deletions and compactions are served.
        assert_eq!(get(&cluster.endpoint(0), format!("key{}", round + 50).as_bytes()).await.unwrap().kvs.len(), 1);
        let delete = DeleteRangeRequest { key: format!("key{round}").into(), ..DeleteRangeRequest::default() };
        let deleted = client.delete_range(delete).await.unwrap().into_inner();
        assert_eq!(deleted.deleted, 1);
        let revision = deleted.header.unwrap().revision;
        client.compact(CompactionRequest { revision, physical: false }).await.unwrap();
        if round == 1 {
            let reserve = folder.join("member/reserve");
            let began = Instant::now();
            while reserve.exists() {
                assert!(began.elapsed() < PATIENCE, "the reserve is still there, {} bytes free", free_bytes(&folder));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;

    for path in ballast {
        std::fs::remove_file(path).unwrap();
    }
    let began = Instant::now();
    while let Err(refusal) = put(&mut client, b"after", b"v").await {
        assert_eq!(refusal.message(), NO_SPACE, "{}", cluster.log_tail(0));
        assert!(began.elapsed() < PATIENCE, "still refused with {} bytes free", free_bytes(&folder));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner().alarms.is_empty());
    assert!(folder.join("member/reserve").exists(), "space is set aside again");
    // And all of it is there after a crash.
    cluster.kill(0);
    cluster.restart(0);
    cluster.wait_ready(PATIENCE).await;
    assert_eq!(get(&cluster.endpoint(0), b"after").await.unwrap().kvs.len(), 1);
    assert_eq!(get(&cluster.endpoint(0), b"key1").await.unwrap().kvs.len(), 0);
}

/// Stops all writes to a file system until dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(folder: PathBuf) -> Self {
        assert!(Command::new("fsfreeze").arg("-f").arg(&folder).status().unwrap().success());
        Self(folder)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_leader_whose_disk_stalls_is_followed_by_another() {
    let Some(cluster) = Cluster::start_on_disks(3, &[], 640) else { return };
    cluster.wait_ready(PATIENCE).await;
    let leader = cluster.leader(PATIENCE).await.unwrap();
    let other = (leader + 1) % 3;
    let mut client = KvClient::new(connect(&cluster.endpoint(leader)).await.unwrap());
    put(&mut client, b"before", b"1").await.unwrap();
    let frozen = Frozen::new(cluster.data_dir_of(leader));
    let began = Instant::now();
    // Its own clients get an answer too, whatever it is.
    let answer = put(&mut client, b"stalled", b"1").await;
    println!("the put at the stalled leader: {answer:?} after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(15));
    let mut others = KvClient::new(connect(&cluster.endpoint(other)).await.unwrap());
    while put(&mut others, b"meanwhile", b"1").await.is_err() {
        assert!(began.elapsed() < PATIENCE, "{}", cluster.log_tail(leader));
    }
    while status(&cluster.endpoint(other)).await.unwrap().leader == status_id(&cluster, leader).await {
        assert!(began.elapsed() < PATIENCE, "it still leads\n{}", cluster.log_tail(leader));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("another leads {:?} after the disk stalled", began.elapsed());
    put(&mut others, b"then", b"1").await.unwrap();
    drop(frozen);
    cluster.wait_ready(PATIENCE).await;
    cluster.assert_converged(PATIENCE).await;
    assert_eq!(get(&cluster.endpoint(leader), b"then").await.unwrap().kvs.len(), 1);
}

async fn status_id(cluster: &Cluster, index: usize) -> u64 {
    status(&cluster.endpoint(index)).await.unwrap().header.unwrap().member_id
}
