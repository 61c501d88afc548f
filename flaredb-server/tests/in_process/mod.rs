//! Nodes in this process, for tests: free ports, temporary folders, bounded waiting.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part of this")]

#[path = "../ports/mod.rs"]
mod ports;

use flaredb_kv::{Command, CommandKind, PutRequest, RangeRequest, Response};
use flaredb_server::{
    config::{NodeConfig, StorageProfile},
    driver::{NodeHandle, RequestError},
    node::{self, Node, StartError},
};
pub use ports::free_port;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Long enough for a machine that is busy with something else; no test waits so long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Several nodes of one cluster.
pub struct Cluster {
    pub nodes: Vec<Option<Node>>,
    pub configs: Vec<NodeConfig>,
    _dirs: TempDir,
}

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Settings of `count` nodes of one cluster, with their data below `dirs`.
pub fn configs(count: usize, dirs: &TempDir, token: &str) -> Vec<NodeConfig> {
    let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
    let name = |i: usize| format!("n{}", i + 1);
    let initial_cluster: Vec<_> =
        ports.iter().enumerate().map(|(i, port)| (name(i), vec![format!("http://127.0.0.1:{port}")])).collect();
    (0..count)
        .map(|i| {
            let client_port = free_port();
            NodeConfig {
                name: name(i),
                data_dir: dirs.path().join(name(i)),
                listen_client: vec![local(client_port)],
                advertise_client_urls: vec![format!("http://127.0.0.1:{client_port}")],
                listen_peer: vec![local(ports[i])],
                initial_cluster: initial_cluster.clone(),
                initial_cluster_token: token.to_owned(),
                heartbeat_interval: Duration::from_millis(100),
                election_timeout: Duration::from_millis(1000),
                lease_reads: false,
                snapshot_count: 10_000,
                quota_backend_bytes: None,
                max_request_bytes: 1_572_864,
                max_txn_ops: 128,
                storage_profile: StorageProfile::Small,
            }
        })
        .collect()
}

impl Cluster {
    /// Starts all nodes; other ports are tried when someone else was quicker.
    pub fn start(count: usize) -> Self {
        Self::start_with(count, |_| {})
    }

    pub fn start_with(count: usize, change: impl Fn(&mut NodeConfig)) -> Self {
        for _ in 0..20 {
            let dirs = TempDir::new().unwrap();
            let mut configs = configs(count, &dirs, "test");
            configs.iter_mut().for_each(&change);
            let started: Result<Vec<_>, _> = configs.iter().map(|config| node::start(config.clone())).collect();
            match started {
                Ok(nodes) => return Self { nodes: nodes.into_iter().map(Some).collect(), configs, _dirs: dirs },
                Err(StartError::Listen { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("no free ports");
    }

    pub fn handle(&self, i: usize) -> NodeHandle {
        self.nodes[i].as_ref().unwrap().handle()
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| self.nodes[*i].is_some()).collect()
    }

    /// The node that leads and that all running nodes follow.
    pub async fn leader(&self) -> usize {
        until("a leader that all running nodes follow", || {
            let running = self.running();
            let leader = self.handle(running[0]).peer().leader?;
            let agreed = running.iter().all(|i| self.handle(*i).peer().leader == Some(leader));
            running.into_iter().find(|i| agreed && self.handle(*i).peer().id == leader)
        })
        .await
    }

    pub fn kill(&mut self, i: usize) {
        self.nodes[i].take().unwrap().kill();
    }

    pub fn restart(&mut self, i: usize) {
        assert!(self.nodes[i].is_none());
        self.nodes[i] = Some(node::start(self.configs[i].clone()).unwrap());
    }

    /// Waits until all running nodes have applied the same entries, then compares their content.
    pub async fn assert_equal_content(&self) {
        until("equal applied indexes", || {
            let applied: Vec<_> = self.running().into_iter().map(|i| self.handle(i).applied()).collect();
            let commit = self.running().into_iter().map(|i| self.handle(i).peer().commit_index).max();
            (applied.windows(2).all(|pair| pair[0] == pair[1]) && Some(applied[0].index) == commit).then_some(())
        })
        .await;
        let hashes: Vec<_> = self
            .running()
            .into_iter()
            .map(|i| self.handle(i).serializable_reader().unwrap().hash(0).unwrap().unwrap())
            .collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
    }
}

/// Looks again and again until there is something, for a bounded time.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn put(handle: &NodeHandle, key: &str, value: &str) -> Result<Response, RequestError> {
    let request = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
    handle.propose(CommandKind::Put, Command::Put(request).encode()).await
}

/// Puts until it is acknowledged; other outcomes are possible while leaders change.
pub async fn put_surely(handle: &NodeHandle, key: &str, value: &str) -> Response {
    let began = Instant::now();
    loop {
        match put(handle, key, value).await {
            Ok(response) => return response,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{key}: {error}"),
        }
    }
}

/// A linearizable read.
pub async fn read(handle: &NodeHandle, key: &str) -> Option<String> {
    let began = Instant::now();
    let reader = loop {
        match handle.linearizable_reader().await {
            Ok(reader) => break reader,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{key}: {error}"),
        }
    };
    let range = reader.range(&RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }).unwrap().unwrap();
    range.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}
