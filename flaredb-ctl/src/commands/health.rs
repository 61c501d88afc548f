//! `health`: can each member serve a linearizable read, and does it know of an alarm.

use std::time::{Duration, Instant};

use flaredb_proto::etcdserverpb::kv_client::KvClient;
use flaredb_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use flaredb_proto::etcdserverpb::{AlarmRequest, RangeRequest};

use super::cluster;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};

/// A member that served the read.
#[derive(Debug)]
pub(crate) struct Healthy {
    /// Its id.
    pub(crate) member_id: u64,
    /// How long the read took.
    pub(crate) took: Duration,
}

pub(super) async fn health(
    client: &Client,
    format: &Format,
    endpoints_only: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let rows = cluster::ask_all(client, endpoints_only, ask, |healthy: &Healthy| healthy.member_id).await;
    output::health(out, format, &rows);
    cluster::all_answered(&rows)
}

async fn ask(client: Client) -> Result<Healthy, Error> {
    let started = Instant::now();
    // The key does not matter; etcdctl asks for this one.
    let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
    let read = client.read(async |channel| KvClient::new(channel).range(request.clone()).await).await?.message;
    let took = started.elapsed();
    // Action GET, all members, all alarms.
    let request = AlarmRequest::default();
    let alarms = client.read(async |channel| MaintenanceClient::new(channel).alarm(request).await).await?.message;
    if !alarms.alarms.is_empty() {
        let names: Vec<String> =
            alarms.alarms.iter().map(|a| format!("{} on member {:x}", a.alarm().as_str_name(), a.member_id)).collect();
        return Err(Error::Other(format!("alarm: {}", names.join(", "))));
    }
    Ok(Healthy { member_id: read.header.map_or(0, |header| header.member_id), took })
}
