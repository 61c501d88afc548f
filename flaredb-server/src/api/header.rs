//! The header of every answer: who answered, in which term, and where the store stood.

use flaredb_proto::etcdserverpb::ResponseHeader;

use crate::driver::NodeHandle;

/// Makes the headers of one node.
#[derive(Clone)]
pub(super) struct Headers {
    cluster_id: u64,
    member_id: u64,
    handle: NodeHandle,
}

impl Headers {
    pub(super) fn new(handle: NodeHandle) -> Self {
        let cluster = handle.status().cluster;
        Self { cluster_id: cluster.cluster_id, member_id: cluster.member_id, handle }
    }

    /// For answers about the store. `revision` is the store's after the request, not the one that was asked for.
    pub(super) fn at(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.handle.peer().term,
        }
    }

    /// For answers about a member: where its store stands now.
    pub(super) fn now(&self) -> ResponseHeader {
        self.at(self.handle.applied().revision)
    }

    /// For answers about the cluster, which has no revision.
    pub(super) fn of_cluster(&self) -> ResponseHeader {
        self.at(0)
    }
}

/// Inside a transaction's answer: the revision, and nothing that the outer header says already.
pub(super) fn of_operation(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}
