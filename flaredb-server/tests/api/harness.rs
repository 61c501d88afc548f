//! A node in this process for the API's tests: real Raft, real disk, real sockets.

use std::{net::SocketAddr, time::Duration};

use flaredb_proto::etcdserverpb::{RangeRequest, kv_client::KvClient};
use flaredb_server::{
    config::{NodeConfig, StorageProfile},
    node::{self, Node},
};
use tonic::transport::{Channel, Endpoint};

/// Largest request of the nodes started here, in bytes: etcd's default.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// Most operations of a transaction: etcd's default.
pub const TXN_OPS_MAX: usize = 128;

/// One node and its folder.
pub struct TestNode {
    pub address: SocketAddr,
    node: Node,
    _data: tempfile::TempDir,
}

impl TestNode {
    fn start(initial_cluster: &[&str], quota_backend_bytes: Option<u64>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let any_port = || vec!["127.0.0.1:0".parse().unwrap()];
        let config = NodeConfig {
            name: "n1".to_owned(),
            data_dir: data.path().to_owned(),
            listen_client: any_port(),
            advertise_client_urls: vec!["http://client.example:2379".to_owned()],
            listen_peer: any_port(),
            // Nobody listens there: the peers of a single node are never called.
            initial_cluster: initial_cluster
                .iter()
                .map(|name| ((*name).to_owned(), vec![format!("http://{name}.example:2380")]))
                .collect(),
            initial_cluster_token: "api-test".to_owned(),
            heartbeat_interval: Duration::from_millis(20),
            election_timeout: Duration::from_millis(200),
            lease_reads: false,
            snapshot_count: 10_000,
            quota_backend_bytes,
            max_request_bytes: REQUEST_BYTES_MAX,
            max_txn_ops: TXN_OPS_MAX,
            storage_profile: StorageProfile::Small,
        };
        let node = node::start(config).unwrap();
        let address = node.client_addrs()[0];
        Self { address, node, _data: data }
    }

    pub async fn connect(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.timeout(Duration::from_secs(20)).connect().await.unwrap()
    }

    /// A clean stop, as on SIGTERM.
    pub async fn stop(self) {
        let Self { node, _data, .. } = self;
        tokio::task::spawn_blocking(move || node.stop()).await.unwrap().unwrap();
    }
}

/// A cluster of one that leads and serves.
pub async fn start_single_node() -> TestNode {
    start_single_node_with_quota(None).await
}

/// The same with a quota, in bytes.
pub async fn start_single_node_with_quota(quota_backend_bytes: Option<u64>) -> TestNode {
    let node = TestNode::start(&["n1"], quota_backend_bytes);
    let mut client = KvClient::new(node.connect().await);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = client.range(RangeRequest { key: "ready?".into(), ..RangeRequest::default() }).await {
        assert!(tokio::time::Instant::now() < deadline, "the node is not ready: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node
}

/// A member of three whose peers are not there: it never has a leader.
pub async fn start_node_without_quorum() -> TestNode {
    TestNode::start(&["n1", "n2", "n3"], None)
}
