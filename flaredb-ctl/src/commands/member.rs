//! `member list`.

use flaredb_proto::etcdserverpb::MemberListRequest;
use flaredb_proto::etcdserverpb::cluster_client::ClusterClient;

use crate::cli::Consistency;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};

pub(super) async fn list(
    client: &Client,
    format: &Format,
    consistency: Consistency,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let request = MemberListRequest { linearizable: consistency == Consistency::Linearizable };
    let answer = client.read(async |channel| ClusterClient::new(channel).member_list(request).await).await?;
    output::member_list(out, format, &answer.message);
    Ok(())
}
