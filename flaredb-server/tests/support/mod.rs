//! Real processes for tests: three `flaredb` servers on loopback, started with the flags that start etcd members, killed
//! with SIGKILL, restarted, and asked through real gRPC.
//!
//! Only processes that a test started are ended, by their own handle; all are gone when the test ends, however it ends.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

#[path = "../ports/mod.rs"]
mod ports;

use flaredb_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, PutRequest, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
    kv_client::KvClient, maintenance_client::MaintenanceClient,
};
pub use ports::free_port;
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

pub struct Member {
    pub name: String,
    pub client_port: u16,
    pub peer_port: u16,
    pub data_dir: PathBuf,
    child: Option<Child>,
}

/// Three servers. Dropping it kills them and removes their folders.
pub struct Cluster {
    pub members: Vec<Member>,
    extra_flags: Vec<String>,
    /// Each member has a disk of its own: an image with a file system, mounted where only it sees it.
    own_disks: bool,
    folder: tempfile::TempDir,
}

/// Mounts an image on a folder and becomes the program. In a mount namespace of its own: with the process both are gone.
const ON_ITS_DISK: &str = r#"mkdir -p "$2" && mount -o loop "$1" "$2" && shift 2 && exec "$@""#;

impl Cluster {
    pub fn start(extra_flags: &[&str]) -> Self {
        Self::prepare(3, extra_flags).begin()
    }

    /// `count` members on disks of this size. None, after saying so, where mounting is not permitted.
    pub fn start_on_disks(count: usize, extra_flags: &[&str], disk_mib: u64) -> Option<Self> {
        let mut cluster = Self::prepare(count, extra_flags);
        for index in 0..count {
            let image = cluster.image(index);
            std::fs::File::create(&image).expect("an image").set_len(disk_mib << 20).expect("its size");
            let made = Command::new("mkfs.ext4").args(["-q", "-m", "0", "-F"]).arg(&image).status();
            let mounts = Command::new("unshare")
                .args(["-m", "sh", "-c", ON_ITS_DISK, "sh"])
                .arg(&image)
                .arg(&cluster.members[index].data_dir)
                .arg("true")
                .stderr(Stdio::null())
                .status();
            if !made.is_ok_and(|status| status.success()) || !mounts.is_ok_and(|status| status.success()) {
                eprintln!(
                    "\n*** NOT TESTED: mounting a disk image is not permitted here (needs root, unshare and loop devices) ***\n"
                );
                return None;
            }
        }
        cluster.own_disks = true;
        Some(cluster.begin())
    }

    fn image(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("{}.img", self.members[index].name))
    }

    /// A member's data folder as seen from here: its disk is mounted for it alone.
    pub fn data_dir_of(&self, index: usize) -> PathBuf {
        let member = &self.members[index];
        let pid = member.child.as_ref().expect("the member runs").id();
        PathBuf::from(format!("/proc/{pid}/root{}", member.data_dir.display()))
    }

    fn prepare(count: usize, extra_flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let members = (1..=count)
            .map(|number| Member {
                name: format!("n{number}"),
                client_port: free_port(),
                peer_port: free_port(),
                data_dir: folder.path().join(format!("n{number}")),
                child: None,
            })
            .collect();
        let extra_flags = extra_flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { members, extra_flags, own_disks: false, folder }
    }

    fn begin(mut self) -> Self {
        for member in 0..self.members.len() {
            self.restart(member);
        }
        self
    }

    fn initial_cluster(&self) -> String {
        let entries: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer_port))
            .collect();
        entries.join(",")
    }

    /// Starts the process of a member that is down, on the folder it had.
    pub fn restart(&mut self, index: usize) {
        let initial_cluster = self.initial_cluster();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{}.log", self.members[index].name)))
            .expect("log file");
        let image = self.image(index);
        let member = &mut self.members[index];
        assert!(member.child.is_none(), "{} runs already", member.name);
        let program = env!("CARGO_BIN_EXE_flaredb");
        let mut command = if self.own_disks {
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", ON_ITS_DISK, "sh"]).arg(image).arg(&member.data_dir).arg(program);
            command
        } else {
            Command::new(program)
        };
        let client_url = format!("http://127.0.0.1:{}", member.client_port);
        let peer_url = format!("http://127.0.0.1:{}", member.peer_port);
        let child = command
            .args(["--name", &member.name])
            .arg("--data-dir")
            .arg(&member.data_dir)
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &initial_cluster, "--initial-cluster-state", "new"])
            .args(["--initial-cluster-token", "test-cluster", "--logger", "zap", "--log-outputs", "stderr"])
            .args(&self.extra_flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("flaredb starts");
        member.child = Some(child);
    }

    /// kill -9, and wait until the process is gone.
    pub fn kill(&mut self, index: usize) {
        let mut child = self.members[index].child.take().expect("the member runs");
        child.kill().expect("SIGKILL");
        child.wait().expect("the process ends");
    }

    /// kill -9 to all before the first is waited for: as close together as a power cut.
    pub fn kill_all(&mut self) {
        let mut children: Vec<Child> = self.members.iter_mut().filter_map(|member| member.child.take()).collect();
        for child in &mut children {
            child.kill().expect("SIGKILL");
        }
        for child in &mut children {
            child.wait().expect("the process ends");
        }
    }

    pub fn endpoint(&self, index: usize) -> String {
        format!("http://127.0.0.1:{}", self.members[index].client_port)
    }

    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|index| self.endpoint(index)).collect()
    }

    /// The member that all reachable members call leader, or None after `patience`.
    pub async fn leader(&self, patience: Duration) -> Option<usize> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            for index in 0..self.members.len() {
                if let Ok(status) = status(&self.endpoint(index)).await
                    && let Some(header) = &status.header
                    && status.leader != 0
                    && header.member_id == status.leader
                {
                    return Some(index);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Waits until a linearizable read works at every member.
    pub async fn wait_ready(&self, patience: Duration) {
        let end = Instant::now() + patience;
        for index in 0..self.members.len() {
            loop {
                match get(&self.endpoint(index), b"ready?").await {
                    Ok(_) => break,
                    Err(error) if Instant::now() > end => {
                        panic!("{} is not ready: {error}\n{}", self.members[index].name, self.log_tail(index))
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
    }

    /// Waits until all three have applied the same index and checks that their contents hash alike.
    pub async fn assert_converged(&self, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            let mut applied = Vec::new();
            for index in 0..self.members.len() {
                if let Ok(status) = status(&self.endpoint(index)).await {
                    applied.push(status.raft_applied_index);
                }
            }
            if applied.len() == self.members.len() && applied.iter().all(|index| *index == applied[0]) {
                break;
            }
            assert!(Instant::now() < end, "the members' applied indices stay apart: {applied:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut hashes = Vec::new();
        for index in 0..self.members.len() {
            let answer = hash(&self.endpoint(index)).await.expect("HashKV");
            hashes.push((answer.header.expect("header").revision, answer.compact_revision, answer.hash));
        }
        assert!(
            hashes.iter().all(|hash| *hash == hashes[0]),
            "contents differ (revision, compacted, hash): {hashes:?}"
        );
    }

    /// The end of a member's log, for a failure's message.
    pub fn log_tail(&self, index: usize) -> String {
        let path = self.folder.path().join(format!("{}.log", self.members[index].name));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// One connection, bounded in every wait.
pub async fn connect(endpoint: &str) -> Result<Channel, Status> {
    Endpoint::from_shared(endpoint.to_owned())
        .expect("an endpoint")
        .connect_timeout(Duration::from_secs(1))
        .timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))
}

pub async fn put(client: &mut KvClient<Channel>, key: &[u8], value: &[u8]) -> Result<i64, Status> {
    let request = PutRequest { key: key.to_vec().into(), value: value.to_vec().into(), ..PutRequest::default() };
    let answer = client.put(request).await?.into_inner();
    Ok(answer.header.ok_or_else(|| Status::internal("no header"))?.revision)
}

/// A linearizable read of one key at one member.
pub async fn get(endpoint: &str, key: &[u8]) -> Result<RangeResponse, Status> {
    let mut client = KvClient::new(connect(endpoint).await?);
    Ok(client.range(RangeRequest { key: key.to_vec().into(), ..RangeRequest::default() }).await?.into_inner())
}

pub async fn status(endpoint: &str) -> Result<StatusResponse, Status> {
    let mut client = MaintenanceClient::new(connect(endpoint).await?);
    Ok(client.status(StatusRequest::default()).await?.into_inner())
}

pub async fn hash(endpoint: &str) -> Result<HashKvResponse, Status> {
    let mut client = MaintenanceClient::new(connect(endpoint).await?);
    Ok(client.hash_kv(HashKvRequest::default()).await?.into_inner())
}
