//! The three nodes of a dev cluster: which of them run, who leads, and how one is killed and started again.

use super::{
    DevError,
    args::NODES,
    folder::{DevFolder, Ports, list},
    status::{NodeReport, UpReport},
};
use crate::{
    config::{NodeConfig, StorageProfile},
    driver::Failure,
    node::{self, Node},
};
use flaredb_raft::PeerState;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
    time::Duration,
};
use tokio::runtime::Runtime;

/// On one machine a lost leader is replaced in about a second; a busy laptop still sends heartbeats in time.
const HEARTBEAT: Duration = Duration::from_millis(50);
const ELECTION: Duration = Duration::from_millis(500);
/// For one try of a read while the cluster forms.
const READ_TRY: Duration = Duration::from_millis(500);

/// Three nodes, some of which may be down.
pub(super) struct DevCluster {
    nodes: Vec<DevNode>,
}

struct DevNode {
    name: &'static str,
    config: NodeConfig,
    running: Option<Node>,
}

impl DevCluster {
    /// Starts all three on the folder's data.
    pub(super) fn start(folder: &DevFolder, ports: Ports) -> Result<Self, DevError> {
        check_ports(ports)?;
        let mut nodes = Vec::new();
        for config in configs(folder, ports) {
            let (name, config) = config;
            let running = Some(start_node(name, &config)?);
            nodes.push(DevNode { name, config, running });
        }
        Ok(Self { nodes })
    }

    /// Who leads, in which term; the latest if a deposed one does not know yet.
    pub(super) fn leader(&self) -> Option<(&'static str, u64)> {
        let up = self.nodes.iter().filter_map(|node| Some((node.name, node.running.as_ref()?.handle().peer())));
        up.filter(|(_, peer)| peer.state == PeerState::Leader)
            .map(|(name, peer)| (name, peer.term))
            .max_by_key(|(_, term)| *term)
    }

    /// Whether every running node serves: one linearizable read on each.
    pub(super) fn ready(&self, runtime: &Runtime) -> bool {
        self.leader().is_some()
            && self.nodes.iter().filter_map(|node| node.running.as_ref()).all(|node| {
                let handle = node.handle();
                let read = async { tokio::time::timeout(READ_TRY, handle.linearizable_reader()).await };
                matches!(runtime.block_on(read), Ok(Ok(_)))
            })
    }

    /// Kills a node, or whichever leads. The answer is what to tell the operator.
    pub(super) fn kill(&mut self, target: &str) -> Result<String, String> {
        let leader = self.leader().map(|(name, _)| name);
        let name = match (target, leader) {
            ("leader", Some(name)) => name,
            ("leader", None) => return Err(format!("there is no leader right now ({} of 3 nodes are up)", self.up())),
            (name, _) => name,
        };
        let node = self.find(name)?;
        let Some(running) = node.running.take() else {
            return Err(format!("{name} is down already; start it with `flaredb dev start {name}`"));
        };
        running.kill();
        let was_leader = if leader == Some(name) { " (it was the leader)" } else { "" };
        let warning = match self.up() {
            2 => "",
            _ => "; most nodes are down now: no reads and writes until another one is started",
        };
        Ok(format!("{name} killed{was_leader}{warning}"))
    }

    /// Starts a node that is down. The answer is what to tell the operator.
    pub(super) fn revive(&mut self, name: &str) -> Result<String, String> {
        let node = self.find(name)?;
        if node.running.is_some() {
            return Err(format!("{name} is up already"));
        }
        node.running = Some(start_node(node.name, &node.config).map_err(|error| error.to_string())?);
        Ok(format!("{name} started"))
    }

    /// Nodes that stopped by themselves since the last call; they count as down from here on.
    pub(super) fn take_failed(&mut self, runtime: &Runtime) -> Vec<(&'static str, Failure)> {
        let mut failed = Vec::new();
        for node in &mut self.nodes {
            let failure = node.running.as_ref().and_then(|running| {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        failure = running.wait_failed() => Some(failure),
                        () = std::future::ready(()) => None,
                    }
                })
            });
            if let Some(failure) = failure {
                node.running = None;
                failed.push((node.name, failure));
            }
        }
        failed
    }

    pub(super) fn reports(&self) -> Vec<NodeReport> {
        self.nodes.iter().map(DevNode::report).collect()
    }

    /// Stops all that run, side by side: the last one has nobody to hand leadership to.
    pub(super) fn stop(self) -> Vec<(&'static str, Failure)> {
        thread::scope(|scope| {
            let running = self.nodes.into_iter().filter_map(|node| Some((node.name, node.running?)));
            let stopping: Vec<_> = running.map(|(name, node)| (name, scope.spawn(move || node.stop()))).collect();
            let ended = stopping.into_iter().filter_map(|(name, thread)| match thread.join() {
                Ok(stopped) => Some((name, stopped.err()?)),
                Err(_) => Some((name, Failure::Ended("its stop panicked".into()))),
            });
            ended.collect()
        })
    }

    fn up(&self) -> usize {
        self.nodes.iter().filter(|node| node.running.is_some()).count()
    }

    fn find(&mut self, name: &str) -> Result<&mut DevNode, String> {
        let found = self.nodes.iter_mut().find(|node| node.name == name);
        found.ok_or_else(|| format!("no node is called {name:?}; there are {}", NODES.join(", ")))
    }
}

impl DevNode {
    fn report(&self) -> NodeReport {
        let up = self.running.as_ref().map(|running| {
            let status = running.handle().status();
            let role = match status.peer.state {
                PeerState::Leader => "leader",
                PeerState::Follower => "follower",
                PeerState::Candidate => "candidate",
            };
            UpReport {
                role: role.into(),
                term: status.peer.term,
                commit: status.peer.commit_index,
                applied: status.applied.index,
                last_index: status.peer.last_index,
                data_bytes: status.db_size,
            }
        });
        let client_url = self.config.advertise_client_urls.first().cloned().unwrap_or_default();
        NodeReport { name: self.name.into(), client_url, up }
    }
}

fn start_node(name: &'static str, config: &NodeConfig) -> Result<Node, DevError> {
    node::start(config.clone()).map_err(|source| DevError::Start { node: name, source })
}

fn configs(folder: &DevFolder, ports: Ports) -> Vec<(&'static str, NodeConfig)> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let address = |port: u16| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let members: Vec<(String, Vec<String>)> =
        NODES.iter().zip(ports.peer).map(|(name, port)| ((*name).to_owned(), vec![url(port)])).collect();
    let each = NODES.iter().zip(ports.client).zip(ports.peer);
    each.map(|((name, client), peer)| {
        let config = NodeConfig {
            name: (*name).to_owned(),
            data_dir: folder.node(name),
            listen_client: vec![address(client)],
            advertise_client_urls: vec![url(client)],
            listen_peer: vec![address(peer)],
            initial_cluster: members.clone(),
            initial_cluster_token: "flaredb-dev".into(),
            heartbeat_interval: HEARTBEAT,
            election_timeout: ELECTION,
            lease_reads: false,
            snapshot_count: 10_000,
            quota_backend_bytes: None,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            storage_profile: StorageProfile::Small,
        };
        (*name, config)
    })
    .collect()
}

/// Asks for all six ports at once, before a node touches its data: the answer names the one that is taken.
fn check_ports(ports: Ports) -> Result<(), DevError> {
    let mut held = Vec::new();
    for (all, usage, flag) in
        [(ports.client, "for clients", "--client-ports"), (ports.peer, "between the nodes", "--peer-ports")]
    {
        for (node, port) in NODES.iter().zip(all) {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => held.push(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let other = |port: u16| if port < 50_000 { port + 10_000 } else { port - 10_000 };
                    return Err(DevError::PortInUse { port, node, usage, flag, example: list(all.map(other)) });
                }
                Err(source) => return Err(DevError::Port { port, node, source }),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_node_and_a_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let ports = Ports { client: [free(), port, free()], peer: [1, 2, 3] };
        let error = check_ports(ports).unwrap_err().to_string();
        let expected =
            format!("port {port} (n2, for clients) is in use, perhaps by etcd or another `flaredb dev`; stop that");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.contains("as in: flaredb dev --client-ports "), "{error}");
        let twice = Ports { client: [free(), free(), free()], peer: [free(), port, port] };
        assert!(check_ports(twice).unwrap_err().to_string().contains("(n2, between the nodes) is in use"));
    }
}
