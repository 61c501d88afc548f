//! The services beside KV: cluster, maintenance, health, reflection, and those that are not there yet.

use flaredb_proto::etcdserverpb::{
    self as pb, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    assert_refused,
    harness::{start_node_without_quorum, start_single_node},
};

const NO_LEADER: &str = "etcdserver: no leader";

#[tokio::test]
async fn the_member_list_shows_the_node_and_no_revision() {
    let node = start_single_node().await;
    let mut client = ClusterClient::new(node.connect().await);
    for linearizable in [false, true] {
        let answer = client.member_list(pb::MemberListRequest { linearizable }).await.unwrap().into_inner();
        let header = answer.header.unwrap();
        assert_eq!(header.revision, 0);
        assert_eq!(answer.members.len(), 1);
        assert_eq!((answer.members[0].id, &answer.members[0].name[..]), (header.member_id, "n1"));
        assert_eq!((answer.members[0].peer_ur_ls.len(), answer.members[0].client_ur_ls.len()), (1, 1));
        assert!(!answer.members[0].is_learner);
    }
    let text = "flaredb: the voter set is fixed in this version; members are those of --initial-cluster";
    assert_refused(client.member_add(pb::MemberAddRequest::default()).await, Code::Unimplemented, text);
    assert_refused(client.member_remove(pb::MemberRemoveRequest { id: 1 }).await, Code::Unimplemented, text);
    assert_refused(client.member_update(pb::MemberUpdateRequest::default()).await, Code::Unimplemented, text);
    assert_refused(client.member_promote(pb::MemberPromoteRequest { id: 1 }).await, Code::Unimplemented, text);
    node.stop().await;
}

#[tokio::test]
async fn the_status_shows_the_leader_and_how_far_it_is() {
    let node = start_single_node().await;
    let channel = node.connect().await;
    let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    KvClient::new(channel.clone()).put(put).await.unwrap();
    let status = MaintenanceClient::new(channel).status(pb::StatusRequest {}).await.unwrap().into_inner();
    let header = status.header.unwrap();
    assert_eq!((header.revision, status.leader), (2, header.member_id));
    assert!(status.raft_term == header.raft_term && status.raft_term > 0);
    assert!(status.raft_applied_index > 0 && status.raft_index >= status.raft_applied_index, "{status:?}");
    assert_eq!(status.errors, Vec::<String>::new());
    assert!(status.version.split('.').all(|part| part.parse::<u32>().is_ok()), "{}", status.version);
    assert!(status.db_size_in_use >= 0 && status.db_size >= 0 && !status.is_learner);
    node.stop().await;
}

#[tokio::test]
async fn the_hash_is_that_of_a_revision() {
    let node = start_single_node().await;
    let channel = node.connect().await;
    let mut kv = KvClient::new(channel.clone());
    for value in ["1", "2"] {
        let put = pb::PutRequest { key: "k".into(), value: value.into(), ..Default::default() };
        kv.put(put).await.unwrap();
    }
    let mut client = MaintenanceClient::new(channel);
    let old = client.hash_kv(pb::HashKvRequest { revision: 2 }).await.unwrap().into_inner();
    let now = client.hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    assert_eq!((old.hash_revision, now.hash_revision, now.header.unwrap().revision), (2, 3, 3));
    assert_ne!(old.hash, now.hash);
    assert_eq!(client.hash(pb::HashRequest {}).await.unwrap().into_inner().hash, now.hash);
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(client.hash_kv(pb::HashKvRequest { revision: 9 }).await, Code::OutOfRange, future);
    node.stop().await;
}

#[tokio::test]
async fn there_are_no_alarms() {
    let node = start_single_node().await;
    let mut client = MaintenanceClient::new(node.connect().await);
    for action in [pb::alarm_request::AlarmAction::Get, pb::alarm_request::AlarmAction::Deactivate] {
        let request = pb::AlarmRequest { action: action.into(), ..Default::default() };
        let answer = client.alarm(request).await.unwrap().into_inner();
        assert_eq!((answer.alarms.len(), answer.header.unwrap().revision), (0, 1));
    }
    let raise = pb::AlarmRequest { action: pb::alarm_request::AlarmAction::Activate.into(), ..Default::default() };
    assert_refused(client.alarm(raise).await, Code::Unimplemented, "flaredb: raising alarms is not there yet");
    node.stop().await;
}

#[tokio::test]
async fn leadership_is_handed_to_members_only() {
    let node = start_single_node().await;
    let mut client = MaintenanceClient::new(node.connect().await);
    let status = client.status(pb::StatusRequest {}).await.unwrap().into_inner();
    let answer = client.move_leader(pb::MoveLeaderRequest { target_id: status.leader }).await.unwrap().into_inner();
    assert_eq!(answer.header, None, "it leads already");
    let stranger = client.move_leader(pb::MoveLeaderRequest { target_id: status.leader ^ 1 }).await;
    assert_refused(stranger, Code::FailedPrecondition, "etcdserver: bad leader transferee");
    node.stop().await;

    let node = start_node_without_quorum().await;
    let mut client = MaintenanceClient::new(node.connect().await);
    let answer = client.move_leader(pb::MoveLeaderRequest { target_id: 1 }).await;
    assert_refused(answer, Code::FailedPrecondition, "etcdserver: not leader");
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let node = start_single_node().await;
    let channel = node.connect().await;
    let requests = tokio_stream::once(pb::WatchRequest::default());
    let watch = WatchClient::new(channel.clone()).watch(requests).await;
    assert_refused(watch, Code::Unimplemented, "flaredb: watches are not there yet");
    let grant = LeaseClient::new(channel.clone()).lease_grant(pb::LeaseGrantRequest { ttl: 5, id: 0 }).await;
    assert_refused(grant, Code::Unimplemented, "flaredb: leases are not there yet");
    let status = AuthClient::new(channel.clone()).auth_status(pb::AuthStatusRequest {}).await;
    let text = "flaredb: users, roles and permissions are not there yet; every client may do everything";
    assert_refused(status, Code::Unimplemented, text);
    let snapshot = MaintenanceClient::new(channel).snapshot(pb::SnapshotRequest {}).await;
    assert_refused(snapshot, Code::Unimplemented, "flaredb: backups over Snapshot are not there yet");
    node.stop().await;
}

#[tokio::test]
async fn without_a_leader_who_asks_for_one_is_told_at_once_and_stale_reads_go_on() {
    let node = start_node_without_quorum().await;
    let mut client = KvClient::new(node.connect().await);
    let range = pb::RangeRequest { key: "k".into(), serializable: true, ..Default::default() };
    let mut request = Request::new(range.clone());
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    assert_refused(client.range(request).await, Code::Unavailable, NO_LEADER);
    assert_eq!(client.range(range).await.unwrap().into_inner().count, 0, "serializable and not asking for a leader");

    let status = MaintenanceClient::new(node.connect().await).status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, status.errors), (0, vec![NO_LEADER.to_owned()]));
    node.stop().await;
}

#[tokio::test]
async fn the_health_service_knows_the_services() {
    let node = start_single_node().await;
    let mut client = HealthClient::new(node.connect().await);
    for service in ["", "etcdserverpb.KV", "etcdserverpb.Cluster", "etcdserverpb.Maintenance"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(client.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest { service: "etcdserverpb.Watch".to_owned() };
    assert_eq!(client.check(request).await.unwrap_err().code(), Code::NotFound);
    node.stop().await;
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let expected = [
        "etcdserverpb.Auth",
        "etcdserverpb.Cluster",
        "etcdserverpb.KV",
        "etcdserverpb.Lease",
        "etcdserverpb.Maintenance",
        "etcdserverpb.Watch",
        "grpc.health.v1.Health",
    ];
    let node = start_single_node().await;
    macro_rules! listed {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                message_request: Some(MessageRequest::ListServices(String::new())),
                ..Default::default()
            };
            let mut client = ServerReflectionClient::new(node.connect().await);
            let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
            match answers.message().await.unwrap().unwrap().message_response {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
                }
                other => panic!("not a list: {other:?}"),
            }
        }};
    }
    for listed in [listed!(v1), listed!(v1alpha)] {
        for service in expected {
            assert!(listed.iter().any(|name| name == service), "{service} is not in {listed:?}");
        }
    }
    node.stop().await;
}
