//! A node: opens the data folder, binds its ports, and runs driver, peer transport and client API on a thread of its own.
//!
//! Several nodes can live in one process (`flaredb dev`, tests): nothing here is global.

mod open;

use crate::{
    api,
    config::NodeConfig,
    counters::Counters,
    driver::{self, Driver, Failure, Fixed, Lease, NodeHandle, Parts, Requests, Shared},
    identity::{ClusterIdentity, Member},
    transport::{AddressError, Local, Memory, PeerAddress, Remote, Roster, SnapshotStore, Timing, Transport},
};
use flaredb_kv::{Limits, StoreError};
use flaredb_replica::{Replica, ReplicaError};
use flaredb_storage::{DataDir, DataOptions, DataStore, LogReader, LogWriter, OpenError, Recovery};
use open::{Opened, open};
use std::{
    any::Any,
    io,
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// The one region there is.
pub const REGION_ID: u64 = 1;
/// Threads beside the node's own: for large reads, a flush, a reclaim, snapshots in both directions, the removal of an old
/// state, and looking up the peers' names.
const BLOCKING_THREADS_MAX: usize = api::LONG_READS_MAX + 10;
/// A clean stop waits so long for another leader.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(2);

/// Why a node does not start. The texts say what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error("{0}")]
    Config(String),
    /// A peer URL that cannot be dialled.
    #[error("--initial-cluster: {0}")]
    PeerUrl(#[from] AddressError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({flag}): {error}")]
    Listen {
        /// The flag that gave the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state machine cannot be read.
    #[error("data store: {0}")]
    Store(#[from] StoreError),
    /// The log cannot be read.
    #[error("raft log: {0}")]
    Log(#[from] flaredb_raft::StorageError),
    /// Log and state machine do not fit together.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The operating system gives no thread, or no runtime.
    #[error("cannot start the node's threads: {0}")]
    Threads(#[source] io::Error),
}

/// A running node. Dropped, it ends like `kill`.
pub struct Node {
    handle: NodeHandle,
    client_addrs: Vec<SocketAddr>,
    peer_addrs: Vec<SocketAddr>,
    control: mpsc::UnboundedSender<Control>,
    failed: watch::Receiver<Option<Failure>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Stop,
    Kill,
}

/// Starts a node. Returns when its ports are bound and what is on its disk has been read and found right; it looks for
/// its peers and a leader afterwards. Blocks for the time that takes.
///
/// # Errors
/// [`StartError`]; nothing keeps running then and no port stays bound.
pub fn start(config: NodeConfig) -> Result<Node, StartError> {
    let cluster = ClusterIdentity::new(&config.name, &config.initial_cluster, &config.initial_cluster_token)
        .ok_or_else(|| {
            let text = "--initial-cluster must name this node (--name) once, and no two members with equal peer URLs";
            StartError::Config(text.to_owned())
        })?;
    let cluster = Arc::new(cluster);
    let peers = remotes(&cluster)?;
    // Ports first: a second start by mistake ends here, before it touches the disk.
    let peer_listeners = bind("--listen-peer-urls", &config.listen_peer)?;
    let client_listeners = bind("--listen-client-urls", &config.listen_client)?;
    let peer_addrs = local_addrs("--listen-peer-urls", &peer_listeners)?;
    let client_addrs = local_addrs("--listen-client-urls", &client_listeners)?;

    let Opened { dir, data_options, free_bytes_min, lease, memory, recovery, replica, log_writer } =
        open(&config, &cluster)?;
    let counters = Arc::new(Counters::default());
    let roster = Arc::new(Roster::default());
    let fixed = Fixed {
        cluster: Arc::clone(&cluster),
        client_urls: config.advertise_client_urls.clone(),
        quota: config.quota_backend_bytes,
        roster: Arc::clone(&roster),
        counters: Arc::clone(&counters),
    };
    let shared = Arc::new(Shared::new(fixed, replica.status(), replica.kv().reader()));
    let (handle, requests) = driver::handle(Arc::clone(&shared));
    let (control, control_receiver) = mpsc::unbounded_channel();
    let (failed_sender, failed) = watch::channel(None);
    let incarnation = replica.peer().config().incarnation;
    let body = Body {
        local: Local {
            cluster_id: cluster.cluster_id,
            region_id: REGION_ID,
            member_id: cluster.member_id,
            incarnation,
            name: config.name.clone(),
            client_urls: config.advertise_client_urls.clone(),
            memory: Arc::clone(&memory),
        },
        cluster,
        peers,
        peer_listeners,
        client_listeners,
        dir,
        data_options,
        free_bytes_min,
        lease,
        memory,
        recovery,
        replica,
        log_writer,
        roster,
        counters,
        shared,
        requests,
        handle: handle.clone(),
        control: control_receiver,
        config,
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(StartError::Threads)?;
    let name = format!("node-{}", body.config.name);
    let thread = thread::Builder::new().name(name).spawn(move || {
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(body.run())));
        // Connections, timers and reads under way end here; the data is closed when this returns.
        drop(catch_unwind(AssertUnwindSafe(|| drop(runtime))));
        let failure = match ended {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::Ended(panic_text(panic.as_ref())),
        };
        tracing::error!(%failure, "the node has stopped");
        failed_sender.send_replace(Some(failure));
    });
    let thread = Some(thread.map_err(StartError::Threads)?);
    Ok(Node { handle, client_addrs, peer_addrs, control, failed, thread })
}

impl Node {
    /// For requests to this node.
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Where it serves clients; differs from the settings where those said port 0.
    pub fn client_addrs(&self) -> &[SocketAddr] {
        &self.client_addrs
    }

    /// Where it serves its peers.
    pub fn peer_addrs(&self) -> &[SocketAddr] {
        &self.peer_addrs
    }

    /// Stops cleanly: no new connections, leadership handed over, calls under way answered, data flushed. Blocks for a few
    /// seconds at most; when it returns, ports and data folder are free, except for readers that someone still holds.
    ///
    /// # Errors
    /// The failure that ended the node, now or before.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.end(Control::Stop);
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }

    /// Ends as a crash would: nothing is flushed, nobody is told. When it returns, ports and data folder are free.
    pub fn kill(mut self) {
        self.end(Control::Kill);
    }

    /// Returns when the node has failed, with the reason; the process should end with it. Never returns otherwise.
    pub async fn wait_failed(&self) -> Failure {
        let mut failed = self.failed.clone();
        let failure = match failed.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone(),
            Err(_) => None,
        };
        match failure {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    fn end(&mut self, how: Control) {
        // An error means that it has ended already.
        let _ = self.control.send(how);
        if let Some(thread) = self.thread.take() {
            // Its panics are caught inside.
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end(Control::Kill);
    }
}

/// What runs on the node's thread.
struct Body {
    config: NodeConfig,
    cluster: Arc<ClusterIdentity>,
    local: Local,
    peers: Vec<Remote>,
    peer_listeners: Vec<TcpListener>,
    client_listeners: Vec<TcpListener>,
    dir: Arc<DataDir>,
    data_options: DataOptions,
    free_bytes_min: u64,
    lease: Lease,
    memory: Arc<Memory>,
    recovery: Recovery,
    replica: Replica<LogReader, DataStore>,
    log_writer: LogWriter,
    roster: Arc<Roster>,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    requests: Requests,
    handle: NodeHandle,
    control: mpsc::UnboundedReceiver<Control>,
}

impl Body {
    async fn run(self) -> Result<(), Failure> {
        let Self { config, cluster, local, peers, roster, counters, shared, mut control, .. } = self;
        let started = |error: io::Error| Failure::Ended(error.to_string());
        let peer_listeners = into_tokio(self.peer_listeners).map_err(started)?;
        let client_listeners = into_tokio(self.client_listeners).map_err(started)?;
        let timing = Timing::new(config.election_timeout);
        let snapshots = SnapshotStore {
            dir: Arc::clone(&self.dir),
            options: self.data_options.clone(),
            free_bytes_min: self.free_bytes_min.saturating_mul(2),
        };
        let (transport, peer_events) =
            Transport::start(local, peers, peer_listeners, timing, roster, counters, snapshots);
        let driver = Driver::new(Parts {
            cluster,
            replica: self.replica,
            log_writer: self.log_writer,
            transport,
            lease: self.lease,
            memory: self.memory,
            recovery: self.recovery,
            peer_events,
            requests: self.requests,
            shared: Arc::clone(&shared),
            tick: config.heartbeat_interval,
            election_timeout: config.election_timeout,
            dir: self.dir,
            data_options: self.data_options,
            free_bytes_min: self.free_bytes_min,
            flush_entries: config.snapshot_count,
        })
        .map_err(started)?;
        let (stop_driver, driver_stopped) = oneshot::channel();
        let (stop_api, api_stopped) = oneshot::channel::<()>();
        let mut driver = tokio::spawn(driver.run(driver_stopped));
        let limits = Limits {
            request_bytes_max: config.max_request_bytes,
            txn_ops_max: config.max_txn_ops,
            ..Limits::default()
        };
        let mut api = tokio::spawn(api::serve(self.handle.clone(), client_listeners, limits, async {
            // Also when the sender is gone.
            let _ = api_stopped.await;
        }));

        let control = tokio::select! {
            ended = &mut driver => return flatten(ended),
            ended = &mut api => {
                let why = match ended {
                    Ok(Ok(())) => "it ended".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                return Err(Failure::ClientPort(why));
            }
            control = control.recv() => control,
        };
        if control != Some(Control::Stop) {
            return Ok(());
        }
        tracing::info!(node = %config.name, "stopping");
        let _ = stop_api.send(());
        let orderly = async {
            hand_over(&self.handle, &shared, config.election_timeout).await;
            if let Err(error) = api.await {
                tracing::warn!(node = %config.name, %error, "the client port did not end well");
            }
            let _ = stop_driver.send(());
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = &mut driver => flatten(ended)?,
            () = orderly => {}
        }
        tracing::info!(node = %config.name, "stopped");
        Ok(())
    }
}

fn flatten(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(result) => result,
        Err(error) => Err(Failure::Ended(match error.try_into_panic() {
            Ok(panic) => panic_text(panic.as_ref()),
            Err(error) => error.to_string(),
        })),
    }
}

/// A stop of the leader need not cost the others an election timeout.
async fn hand_over(handle: &NodeHandle, shared: &Shared, election_timeout: Duration) {
    let leads = || shared.peer().leader == Some(shared.peer().id);
    if !leads() || handle.status().connected.is_empty() || handle.transfer_leadership(None).is_err() {
        return;
    }
    let gone = async {
        while leads() || shared.peer().leader.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // If nobody can take over, the others will elect someone.
    let _ = timeout((election_timeout * 2).min(HAND_OVER_TIME_MAX), gone).await;
}

fn remotes(cluster: &ClusterIdentity) -> Result<Vec<Remote>, AddressError> {
    let others = cluster.members.iter().filter(|member| member.id != cluster.member_id);
    others
        .map(|Member { id, name, peer_urls }| {
            let addresses = peer_urls.iter().map(|url| PeerAddress::parse(url)).collect::<Result<_, _>>()?;
            Ok(Remote { id: *id, name: name.clone(), addresses })
        })
        .collect()
}

fn bind(flag: &'static str, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let bind = |address: &SocketAddr| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    addresses
        .iter()
        .map(|address| bind(address).map_err(|error| StartError::Listen { flag, address: *address, error }))
        .collect()
}

fn local_addrs(flag: &'static str, listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, StartError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    listeners
        .iter()
        .map(|listener| listener.local_addr().map_err(|error| StartError::Listen { flag, address: unknown, error }))
        .collect()
}

fn into_tokio(listeners: Vec<TcpListener>) -> io::Result<Vec<tokio::net::TcpListener>> {
    listeners.into_iter().map(tokio::net::TcpListener::from_std).collect()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}
