//! The client port: etcd's v3 services over gRPC, the health service and reflection.
//!
//! `connection.rs` is HTTP/2, `call.rs` finds who serves a call: KV in `kv.rs`, on the client's bytes; everything else through tonic.
//! Each service translates between the wire and [`NodeHandle`]; what a request means is flaredb-kv's, whether it is
//! committed is the driver's. The table of what works is docs/api.md.

mod authority;
mod call;
mod cluster;
mod connection;
mod convert;
mod header;
mod incoming;
mod kv;
mod maintenance;
mod metadata;
mod range_answer;
mod reads;
mod routed;
mod socket;
mod status;
mod unary;
mod unserved;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use flaredb_kv::Limits;
use flaredb_proto::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, lease_server::LeaseServer,
    maintenance_server::MaintenanceServer, watch_server::WatchServer,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};
use tonic::service::{Routes, interceptor::InterceptedService};
use tonic_health::ServingStatus;

use crate::driver::NodeHandle;
use call::Services;
use connection::Patience;
use header::Headers;
use incoming::Incoming;
use metadata::CheckMetadata;
pub use reads::LONG_READS_MAX;
use reads::Reads;

/// The level of etcd's API, as `Maintenance.Status` reports it. Digits and dots only: clients read it as numbers.
pub const ETCD_LEVEL: &str = "3.5.0";

/// A request message may be larger than a command by this many bytes, so that slightly too large ones get etcd's own
/// error and not the transport's.
const RECEIVE_HEADROOM_BYTES: usize = 512 * 1024;
/// A client says hello within so long.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client may be silent.
const PATIENCE: Patience = Patience { silence: Duration::from_secs(60), answer: Duration::from_secs(20) };
/// On shutdown, calls under way have so long to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);
/// Services whose health is reported, beside that of the server as a whole (the empty name).
const HEALTH_OF: [&str; 3] = ["etcdserverpb.KV", "etcdserverpb.Cluster", "etcdserverpb.Maintenance"];

/// The client port could not be served. Our bug; never a client's doing.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptor set that was compiled in is damaged.
    #[error("server reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves clients on `listeners` until `shutdown` resolves, then lets calls under way end, for at most three seconds, and
/// cuts what is left. Must run inside the node's runtime; returns when no connection is left.
pub async fn serve(
    handle: NodeHandle,
    listeners: Vec<TcpListener>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(flaredb_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes =
        Routes::new(health_service).add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
    let services = Arc::new(services(handle, limits, routes));
    for service in HEALTH_OF {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let mut incoming = Incoming::new(listeners, incoming::connections_max());
    let mut connections = JoinSet::new();
    let (stopping, _) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            (stream, place) = incoming.accept() => {
                let (socket, gathered) = socket::split(stream, HELLO_TIME_MAX, place);
                let mut stopping = stopping.subscribe();
                connections.spawn(connection::serve(socket, gathered, Arc::clone(&services), PATIENCE, async move {
                    // Also when the sender is gone.
                    let _ = stopping.wait_for(|stopping| *stopping).await;
                }));
            }
            Some(ended) = connections.join_next() => note_end(&ended),
        }
    }
    for service in HEALTH_OF.into_iter().chain([""]) {
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
    // Nobody new: the ports are free.
    drop(incoming);
    stopping.send_replace(true);
    let drained = timeout(DRAIN_TIME_MAX, async {
        while let Some(ended) = connections.join_next().await {
            note_end(&ended);
        }
    });
    if drained.await.is_err() {
        tracing::info!("clients did not finish in time: connections are cut");
        connections.shutdown().await;
    }
    Ok(())
}

/// What clients can call; `routes` serves what does not need the node.
fn services(handle: NodeHandle, limits: Limits, routes: Routes) -> Services {
    let headers = Headers::new(handle.clone());
    let check = CheckMetadata::new(handle.clone());
    let reads = Reads::new();
    let receive_bytes_max = limits.request_bytes_max.saturating_add(RECEIVE_HEADROOM_BYTES);
    // The generated servers have the same builders without a trait in common.
    macro_rules! service {
        ($server:ident, $service:expr) => {
            InterceptedService::new(
                $server::new($service)
                    .max_decoding_message_size(receive_bytes_max)
                    .max_encoding_message_size(unary::SEND_BYTES_MAX),
                check.clone(),
            )
        };
    }
    let kv = kv::KvService::new(handle.clone(), headers.clone(), limits, reads.clone());
    let routes = routes
        .add_service(service!(ClusterServer, cluster::ClusterService::new(handle.clone(), headers.clone())))
        .add_service(service!(MaintenanceServer, maintenance::MaintenanceService::new(handle, headers, reads)))
        .add_service(service!(WatchServer, unserved::WatchService))
        .add_service(service!(LeaseServer, unserved::LeaseService))
        .add_service(service!(AuthServer, unserved::AuthService));
    Services::new(kv, check, receive_bytes_max, routes)
}

/// A connection ends with its client. With a panic only if we have a bug, which must not pass unseen.
fn note_end(ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a client's connection ended in a bug");
    }
}
