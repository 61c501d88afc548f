//! Questions beside the history: who leads.

use crate::network::Place;
use flaredb_proto::etcdserverpb::{StatusRequest, maintenance_client::MaintenanceClient};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// A connection, or a word why not, in bounded time. Nothing was asked yet if it fails.
///
/// # Errors
/// Nobody answers.
pub async fn connect(place: &Place) -> Result<Channel, String> {
    Endpoint::from_shared(place.client_url())
        .map_err(|error| error.to_string())?
        .connect_timeout(Duration::from_millis(1000))
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| error.to_string())
}

/// The member that calls itself leader, if one answers at once.
pub async fn leader(places: &[Place]) -> Option<usize> {
    let mut best: Option<(u64, usize)> = None;
    for (number, place) in places.iter().enumerate() {
        let ask = async {
            let mut client = MaintenanceClient::new(connect(place).await.ok()?);
            Some(client.status(StatusRequest::default()).await.ok()?.into_inner())
        };
        let Ok(Some(status)) = tokio::time::timeout(Duration::from_millis(300), ask).await else { continue };
        let itself = status.header.as_ref().is_some_and(|header| header.member_id == status.leader);
        if itself && best.is_none_or(|(term, _)| term < status.raft_term) {
            best = Some((status.raft_term, number));
        }
    }
    best.map(|(_, number)| number)
}
