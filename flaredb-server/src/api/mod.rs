//! The client port: etcd's v3 services over gRPC, the health service and reflection.
//!
//! Each service translates between the wire and [`NodeHandle`]; what a request means is flaredb-kv's, whether it is
//! committed is the driver's. The table of what works is docs/api.md.

mod authority;
mod cluster;
mod convert;
mod header;
mod incoming;
mod kv;
mod maintenance;
mod metadata;
mod reads;
mod status;
mod unserved;

use std::{future::Future, pin::pin, time::Duration};

use flaredb_kv::Limits;
use flaredb_proto::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
    maintenance_server::MaintenanceServer, watch_server::WatchServer,
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{service::interceptor::InterceptedService, transport::Server};
use tonic_health::ServingStatus;

use crate::driver::NodeHandle;
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
/// The largest answer: what clients can count.
const SEND_BYTES_MAX: usize = 0x7fff_ffff;
/// Calls at once on one connection. etcd has no bound; a client beyond it waits, it is not refused.
const STREAMS_MAX: u32 = 4096;
/// HTTP/2 flow control, per stream and per connection: answers of usual sizes leave without waiting for the client.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// A client that is silent for so long is asked whether it still lives,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// and has so long to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A client says hello within so long.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// On shutdown, calls under way have so long to end.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(3);
/// Connections that were cut need a turn of the runtime to notice. If that takes so long, something else is wrong.
const CUT_TIME_MAX: Duration = Duration::from_secs(1);

/// The client port could not be served. Our bug, or the runtime's end; never a client's doing.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptor set that was compiled in is damaged.
    #[error("server reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// tonic gave up.
    #[error("client port: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves clients on `listeners` until `shutdown` resolves, then lets calls under way end, for at most three seconds, and
/// cuts what is left. Must run inside the node's runtime; returns when no connection is left.
pub async fn serve(
    handle: NodeHandle,
    listeners: Vec<TcpListener>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
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
                    .max_encoding_message_size(SEND_BYTES_MAX),
                check.clone(),
            )
        };
    }
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(flaredb_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service!(KvServer, kv::KvService::new(handle.clone(), headers.clone(), limits, reads.clone())))
        .add_service(service!(ClusterServer, cluster::ClusterService::new(handle.clone(), headers.clone())))
        .add_service(service!(MaintenanceServer, maintenance::MaintenanceService::new(handle, headers, reads)))
        .add_service(service!(WatchServer, unserved::WatchService))
        .add_service(service!(LeaseServer, unserved::LeaseService))
        .add_service(service!(AuthServer, unserved::AuthService))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);

    for service in ["etcdserverpb.KV", "etcdserverpb.Cluster", "etcdserverpb.Maintenance"] {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let (cut, cut_receiver) = watch::channel(false);
    let (stopping, mut stopping_receiver) = watch::channel(false);
    let incoming = Incoming::new(listeners, incoming::connections_max(), HELLO_TIME_MAX, cut_receiver);
    let mut served = pin!(router.serve_with_incoming_shutdown(incoming, async move {
        shutdown.await;
        for service in ["", "etcdserverpb.KV", "etcdserverpb.Cluster", "etcdserverpb.Maintenance"] {
            health.set_service_status(service, ServingStatus::NotServing).await;
        }
        stopping.send_replace(true);
    }));
    let drained = async move {
        // An error means that the sender is gone: then `served` is over too.
        let _ = stopping_receiver.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(DRAIN_TIME_MAX).await;
    };
    tokio::select! {
        served = &mut served => return Ok(served?),
        () = drained => tracing::info!("clients did not finish in time: connections are cut"),
    }
    cut.send_replace(true);
    match tokio::time::timeout(CUT_TIME_MAX, served).await {
        Ok(served) => Ok(served?),
        Err(_) => Ok(()),
    }
}
