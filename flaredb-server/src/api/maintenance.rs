//! The Maintenance service: how this member is. It answers without asking the others.

use flaredb_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse,
    SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse, alarm_request::AlarmAction,
    maintenance_server::Maintenance,
};
use tokio::time::{Duration, Instant};
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

use super::{ETCD_LEVEL, header::Headers, reads::Reads, status};
use crate::driver::NodeHandle;

/// How long a transfer of leadership may take.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(5);
/// How often it is looked at.
const TRANSFER_LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub(super) struct MaintenanceService {
    handle: NodeHandle,
    headers: Headers,
    reads: Reads,
}

impl MaintenanceService {
    pub(super) fn new(handle: NodeHandle, headers: Headers, reads: Reads) -> Self {
        Self { handle, headers, reads }
    }
}

/// etcd counts bytes in i64.
fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    /// NOSPACE of this member is all there can be (etcdctl's `endpoint health` reads the list). It follows the size, so a
    /// client has nothing to clear; who tries is told that nothing was.
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        match AlarmAction::try_from(request.get_ref().action) {
            Ok(AlarmAction::Get) => {
                let asked = AlarmType::try_from(request.get_ref().alarm);
                let shown = matches!(asked, Ok(AlarmType::None | AlarmType::Nospace)) && self.handle.has_no_space();
                let no_space = AlarmMember { member_id: self.handle.peer().id, alarm: AlarmType::Nospace.into() };
                let alarms = if shown { vec![no_space] } else { Vec::new() };
                Ok(Response::new(AlarmResponse { header: Some(self.headers.now()), alarms }))
            }
            Ok(AlarmAction::Deactivate) => {
                Ok(Response::new(AlarmResponse { header: Some(self.headers.now()), alarms: Vec::new() }))
            }
            Ok(AlarmAction::Activate) => Err(status::not_there_yet("raising alarms is not there yet")),
            Err(_) => Err(status::refused(flaredb_kv::KvError::Malformed)),
        }
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let node = self.handle.status();
        let no_leader = node.peer.leader.is_none().then(status::no_leader_text);
        let recovering = node.peer.recovering.then(status::recovering_text);
        let no_space = node.no_space.then(|| status::no_space_alarm_text(node.peer.id));
        Ok(Response::new(StatusResponse {
            header: Some(self.headers.now()),
            version: ETCD_LEVEL.to_owned(),
            db_size: bytes(node.db_size),
            leader: node.peer.leader.unwrap_or(0),
            raft_index: node.peer.commit_index,
            raft_term: node.peer.term,
            raft_applied_index: node.applied.index,
            errors: no_leader.into_iter().chain(no_space).chain(recovering).collect(),
            db_size_in_use: bytes(node.db_size_in_use),
            is_learner: false,
            storage_version: String::new(),
            db_size_quota: bytes(node.quota.unwrap_or(0)),
        }))
    }

    async fn defragment(&self, _: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        Err(status::not_there_yet("Defragment is not there yet; space is given back in the background"))
    }

    /// The same hash as HashKV at the current revision: everything else that is stored differs between members.
    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let reader = self.handle.serializable_reader().map_err(status::read_failed)?;
        let header = self.headers.at(reader.applied().revision);
        let content = self.reads.run(true, move || reader.hash(0)).await?;
        Ok(Response::new(HashResponse { header: Some(header), hash: content.hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let reader = self.handle.serializable_reader().map_err(status::read_failed)?;
        let header = self.headers.at(reader.applied().revision);
        let revision = request.get_ref().revision;
        let content = self.reads.run(true, move || reader.hash(revision)).await?;
        Ok(Response::new(HashKvResponse {
            header: Some(header),
            hash: content.hash,
            compact_revision: content.compact_revision,
            hash_revision: content.revision,
        }))
    }

    type SnapshotStream = Empty<Result<SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(status::not_there_yet("backups over Snapshot are not there yet"))
    }

    /// Answers once this node knows the target as leader. The answer has no header, as in etcd.
    async fn move_leader(&self, request: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        let target = request.get_ref().target_id;
        let node = self.handle.status();
        if node.peer.leader != Some(node.peer.id) {
            return Err(status::not_leader());
        }
        if !node.members.iter().any(|member| member.id == target) {
            return Err(status::bad_leader_transferee());
        }
        self.handle.transfer_leadership(Some(target)).map_err(status::read_failed)?;
        let deadline = Instant::now() + TRANSFER_TIME_MAX;
        while self.handle.peer().leader != Some(target) {
            if Instant::now() >= deadline {
                return Err(status::transfer_timed_out());
            }
            tokio::time::sleep(TRANSFER_LOOK_INTERVAL).await;
        }
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(status::not_there_yet("Downgrade is not there yet; there is no older version to go back to"))
    }
}
