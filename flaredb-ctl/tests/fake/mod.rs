//! A stand-in for a server: as much of etcd's KV, Cluster and Maintenance as the tests of the command line need, in
//! memory, on a free port. Not a model of the data's semantics: that is the server's own business.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use flaredb_proto::etcdserverpb::cluster_server::{Cluster, ClusterServer};
use flaredb_proto::etcdserverpb::kv_server::{Kv, KvServer};
use flaredb_proto::etcdserverpb::maintenance_server::{Maintenance, MaintenanceServer};
use flaredb_proto::etcdserverpb::{request_op::Request as Op, response_op::Response as Done, *};
use flaredb_proto::mvccpb::KeyValue;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// What a fake server is and does.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) member_id: u64,
    pub(crate) leader: u64,
    pub(crate) applied: u64,
    pub(crate) hash: u32,
    pub(crate) members: Vec<Member>,
    /// Every KV call fails with this one.
    pub(crate) kv_error: Option<Status>,
    /// Every put and transaction fails with this one.
    pub(crate) write_error: Option<Status>,
    /// KV calls are never answered.
    pub(crate) hangs: bool,
    data: Arc<Mutex<Data>>,
}

#[derive(Default)]
struct Data {
    revision: i64,
    rows: BTreeMap<Vec<u8>, KeyValue>,
    calls: u32,
}

impl Fake {
    pub(crate) fn new(member_id: u64) -> Self {
        let data = Arc::new(Mutex::new(Data { revision: 1, ..Data::default() }));
        Fake {
            member_id,
            leader: member_id,
            applied: 20,
            hash: 7,
            members: vec![],
            kv_error: None,
            write_error: None,
            hangs: false,
            data,
        }
    }

    /// How many KV calls arrived.
    pub(crate) fn calls(&self) -> u32 {
        self.data.lock().unwrap().calls
    }

    /// Serves on a free port until the test's process ends.
    pub(crate) fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.serve(listener)
    }

    /// Serves on a listener that is bound already.
    pub(crate) fn serve(&self, listener: TcpListener) -> SocketAddr {
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let fake = self.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                Server::builder()
                    .add_service(KvServer::new(fake.clone()))
                    .add_service(ClusterServer::new(fake.clone()))
                    .add_service(MaintenanceServer::new(fake))
                    .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener))
                    .await
                    .unwrap();
            });
        });
        address
    }

    fn header(&self, revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: 14841639068965178418, member_id: self.member_id, revision, raft_term: 2 })
    }

    async fn enter(&self) -> Result<(), Status> {
        self.data.lock().unwrap().calls += 1;
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.kv_error.clone().map_or(Ok(()), Err)
    }

    async fn enter_write(&self) -> Result<(), Status> {
        self.enter().await?;
        self.write_error.clone().map_or(Ok(()), Err)
    }

    fn do_range(&self, request: &RangeRequest) -> RangeResponse {
        let data = self.data.lock().unwrap();
        let mut kvs: Vec<KeyValue> =
            data.rows.values().filter(|kv| inside(&kv.key, &request.key, &request.range_end)).cloned().collect();
        let count = kvs.len().try_into().unwrap();
        if request.count_only {
            kvs.clear();
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        let more = request.limit > 0 && count > request.limit;
        if more {
            kvs.truncate(request.limit.try_into().unwrap());
        }
        RangeResponse { header: self.header(data.revision), kvs, more, count }
    }

    fn do_put(&self, request: PutRequest) -> PutResponse {
        let mut data = self.data.lock().unwrap();
        data.revision += 1;
        let revision = data.revision;
        let old = data.rows.get(&request.key[..]).cloned();
        let new = KeyValue {
            key: request.key.clone(),
            value: request.value,
            create_revision: old.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(0, |kv| kv.version) + 1,
            lease: request.lease,
        };
        data.rows.insert(request.key.to_vec(), new);
        PutResponse { header: self.header(revision), prev_kv: old.filter(|_| request.prev_kv) }
    }

    fn do_delete(&self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut data = self.data.lock().unwrap();
        let (gone, kept) = std::mem::take(&mut data.rows)
            .into_iter()
            .partition(|(key, _): &(Vec<u8>, _)| inside(key, &request.key, &request.range_end));
        data.rows = kept;
        let gone: BTreeMap<Vec<u8>, KeyValue> = gone;
        data.revision += i64::from(!gone.is_empty());
        DeleteRangeResponse {
            header: self.header(data.revision),
            deleted: gone.len().try_into().unwrap(),
            prev_kvs: if request.prev_kv { gone.into_values().collect() } else { vec![] },
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.do_range(&RangeRequest { key: compare.key.clone(), ..RangeRequest::default() });
        let kv = found.kvs.first();
        let order = match compare.target_union.clone().unwrap() {
            compare::TargetUnion::Version(v) => kv.map_or(0, |kv| kv.version).cmp(&v),
            compare::TargetUnion::CreateRevision(v) => kv.map_or(0, |kv| kv.create_revision).cmp(&v),
            compare::TargetUnion::ModRevision(v) => kv.map_or(0, |kv| kv.mod_revision).cmp(&v),
            compare::TargetUnion::Lease(v) => kv.map_or(0, |kv| kv.lease).cmp(&v),
            compare::TargetUnion::Value(v) => match kv {
                None => return false,
                Some(kv) => kv.value.cmp(&v),
            },
        };
        match compare.result() {
            compare::CompareResult::Equal => order.is_eq(),
            compare::CompareResult::NotEqual => order.is_ne(),
            compare::CompareResult::Greater => order.is_gt(),
            compare::CompareResult::Less => order.is_lt(),
        }
    }
}

fn inside(key: &[u8], first: &[u8], end: &[u8]) -> bool {
    if end.is_empty() { key == first } else { key >= first && (end == b"\0" || key < end) }
}

/// A member as the list has it.
pub(crate) fn member(id: u64, name: &str, client: impl ToString) -> Member {
    Member {
        id,
        name: name.to_owned(),
        peer_ur_ls: vec![format!("http://{name}:2380")],
        client_ur_ls: vec![format!("http://{}", client.to_string())],
        is_learner: false,
    }
}

#[tonic::async_trait]
impl Kv for Fake {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        self.enter().await?;
        Ok(Response::new(self.do_range(request.get_ref())))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.enter_write().await?;
        if request.get_ref().key.is_empty() {
            return Err(Status::invalid_argument("etcdserver: key is not provided"));
        }
        Ok(Response::new(self.do_put(request.into_inner())))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.enter().await?;
        Ok(Response::new(self.do_delete(request.get_ref())))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.enter_write().await?;
        let request = request.into_inner();
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { request.success } else { request.failure };
        let responses = ops
            .into_iter()
            .map(|op| {
                let done = match op.request.unwrap() {
                    Op::RequestRange(range) => Done::ResponseRange(self.do_range(&range)),
                    Op::RequestPut(put) => Done::ResponsePut(self.do_put(put)),
                    Op::RequestDeleteRange(range) => Done::ResponseDeleteRange(self.do_delete(&range)),
                    Op::RequestTxn(_) => panic!("flarectl sends no nested transactions"),
                };
                ResponseOp { response: Some(done) }
            })
            .collect();
        let revision = self.data.lock().unwrap().revision;
        Ok(Response::new(TxnResponse { header: self.header(revision), succeeded, responses }))
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        self.enter().await?;
        let revision = self.data.lock().unwrap().revision;
        Ok(Response::new(CompactionResponse { header: self.header(revision) }))
    }
}

#[tonic::async_trait]
impl Cluster for Fake {
    async fn member_list(&self, _: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        Ok(Response::new(MemberListResponse { header: self.header(0), members: self.members.clone() }))
    }

    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn member_remove(&self, _: Request<MemberRemoveRequest>) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn member_update(&self, _: Request<MemberUpdateRequest>) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Maintenance for Fake {
    type SnapshotStream = tonic::codegen::BoxStream<SnapshotResponse>;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse {
            header: self.header(5),
            version: "3.5.0".to_owned(),
            db_size: 20_480,
            leader: self.leader,
            raft_index: self.applied,
            raft_term: 2,
            raft_applied_index: self.applied,
            db_size_in_use: 16_384,
            ..StatusResponse::default()
        }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let asked = request.get_ref().revision;
        let newest = i64::try_from(self.applied).unwrap();
        Ok(Response::new(HashKvResponse {
            header: self.header(newest),
            hash: self.hash,
            compact_revision: 1,
            hash_revision: if asked == 0 { newest } else { asked },
        }))
    }

    async fn alarm(&self, _: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        Ok(Response::new(AlarmResponse { header: self.header(0), alarms: vec![] }))
    }

    async fn defragment(&self, _: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn move_leader(&self, _: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// A port that nothing listens on.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A listener that answers whatever it gets with `answer` and hangs up.
pub(crate) fn speaks(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // Read what is still coming: a hard reset could overtake the answer.
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    address
}

/// Speaks HTTP/2 until it has received `marker` (a key, which travels in plain bytes), then hangs up without an answer.
pub(crate) fn dies_after_receiving(marker: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"\0\0\0\x04\0\0\0\0\0");
            let mut received = Vec::new();
            let mut buffer = [0; 4096];
            while !received.windows(marker.len()).any(|window| window == marker) {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => received.extend_from_slice(&buffer[..read]),
                }
            }
        }
    });
    address
}
