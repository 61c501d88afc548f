//! The Cluster service: the members, as configured and as they introduced themselves. The set is fixed in this version.

use flaredb_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
    cluster_server::Cluster,
};
use tonic::{Request, Response, Status};

use super::{header::Headers, status};
use crate::driver::NodeHandle;

pub(super) struct ClusterService {
    handle: NodeHandle,
    headers: Headers,
}

impl ClusterService {
    pub(super) fn new(handle: NodeHandle, headers: Headers) -> Self {
        Self { handle, headers }
    }
}

fn fixed<T>() -> Result<Response<T>, Status> {
    Err(status::not_there_yet("the voter set is fixed in this version; members are those of --initial-cluster"))
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        fixed()
    }

    async fn member_remove(&self, _: Request<MemberRemoveRequest>) -> Result<Response<MemberRemoveResponse>, Status> {
        fixed()
    }

    async fn member_update(&self, _: Request<MemberUpdateRequest>) -> Result<Response<MemberUpdateResponse>, Status> {
        fixed()
    }

    async fn member_list(&self, request: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        if request.get_ref().linearizable {
            // The set cannot change, but the client also asks whether this member still has a quorum behind it.
            self.handle.linearizable_reader().await.map_err(status::read_failed)?;
        }
        let members = self.handle.status().members.into_iter().map(|member| Member {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: member.client_urls,
            is_learner: false,
        });
        Ok(Response::new(MemberListResponse { header: Some(self.headers.of_cluster()), members: members.collect() }))
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        fixed()
    }
}
