//! `status`: one row a member, reachable or not.

use flaredb_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use flaredb_proto::etcdserverpb::{StatusRequest, StatusResponse};

use super::cluster;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};

pub(super) async fn status(
    client: &Client,
    format: &Format,
    endpoints_only: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let rows = cluster::ask_all(client, endpoints_only, ask, id).await;
    output::status(out, format, &rows);
    cluster::all_answered(&rows)
}

async fn ask(client: Client) -> Result<StatusResponse, Error> {
    let call = async |channel| MaintenanceClient::new(channel).status(StatusRequest {}).await;
    Ok(client.read(call).await?.message)
}

fn id(status: &StatusResponse) -> u64 {
    status.header.as_ref().map_or(0, |header| header.member_id)
}
