//! etcd v3's messages and services, generated from `proto/`.
//!
//! The .proto files are our own text; packages, services, messages, fields and their numbers are etcd's (level 3.5, and
//! the few fields of 3.6 that say so), because clients speak them. What it is not: semantics (flaredb-kv) or a server
//! (flaredb-server).

/// Requests, answers, clients and servers of etcd's services.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::as_conversions, reason = "generated")]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// Keys, values and events.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::as_conversions, reason = "generated")]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users, roles and permissions.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::as_conversions, reason = "generated")]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// The compiled .proto files (an encoded `google.protobuf.FileDescriptorSet`), for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
