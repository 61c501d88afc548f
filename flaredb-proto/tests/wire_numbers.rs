//! The numbers that make FlareDB speak etcd, as a table of their own: a slip in a .proto file shows here, not at a client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use std::collections::BTreeMap;

use bytes::Bytes;
use flaredb_proto::{FILE_DESCRIPTOR_SET, authpb, etcdserverpb as pb, mvccpb};
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// `message: field=number ...`, every field of it.
const FIELDS: &str = "
mvccpb.KeyValue: key=1 create_revision=2 mod_revision=3 version=4 value=5 lease=6
mvccpb.Event: type=1 kv=2 prev_kv=3
authpb.UserAddOptions: no_password=1
authpb.User: name=1 password=2 roles=3 options=4
authpb.Permission: permType=1 key=2 range_end=3
authpb.Role: name=1 keyPermission=2
etcdserverpb.ResponseHeader: cluster_id=1 member_id=2 revision=3 raft_term=4
etcdserverpb.RangeRequest: key=1 range_end=2 limit=3 revision=4 sort_order=5 sort_target=6 serializable=7 keys_only=8 count_only=9 min_mod_revision=10 max_mod_revision=11 min_create_revision=12 max_create_revision=13
etcdserverpb.RangeResponse: header=1 kvs=2 more=3 count=4
etcdserverpb.PutRequest: key=1 value=2 lease=3 prev_kv=4 ignore_value=5 ignore_lease=6
etcdserverpb.PutResponse: header=1 prev_kv=2
etcdserverpb.DeleteRangeRequest: key=1 range_end=2 prev_kv=3
etcdserverpb.DeleteRangeResponse: header=1 deleted=2 prev_kvs=3
etcdserverpb.RequestOp: request_range=1 request_put=2 request_delete_range=3 request_txn=4
etcdserverpb.ResponseOp: response_range=1 response_put=2 response_delete_range=3 response_txn=4
etcdserverpb.Compare: result=1 target=2 key=3 version=4 create_revision=5 mod_revision=6 value=7 lease=8 range_end=64
etcdserverpb.TxnRequest: compare=1 success=2 failure=3
etcdserverpb.TxnResponse: header=1 succeeded=2 responses=3
etcdserverpb.CompactionRequest: revision=1 physical=2
etcdserverpb.CompactionResponse: header=1
etcdserverpb.WatchRequest: create_request=1 cancel_request=2 progress_request=3
etcdserverpb.WatchCreateRequest: key=1 range_end=2 start_revision=3 progress_notify=4 filters=5 prev_kv=6 watch_id=7 fragment=8
etcdserverpb.WatchResponse: header=1 watch_id=2 created=3 canceled=4 compact_revision=5 cancel_reason=6 fragment=7 events=11
etcdserverpb.LeaseGrantRequest: TTL=1 ID=2
etcdserverpb.LeaseGrantResponse: header=1 ID=2 TTL=3 error=4
etcdserverpb.LeaseCheckpoint: ID=1 remaining_TTL=2
etcdserverpb.LeaseKeepAliveResponse: header=1 ID=2 TTL=3
etcdserverpb.LeaseTimeToLiveRequest: ID=1 keys=2
etcdserverpb.LeaseTimeToLiveResponse: header=1 ID=2 TTL=3 grantedTTL=4 keys=5
etcdserverpb.LeaseLeasesResponse: header=1 leases=2
etcdserverpb.Member: ID=1 name=2 peerURLs=3 clientURLs=4 isLearner=5
etcdserverpb.MemberAddRequest: peerURLs=1 isLearner=2
etcdserverpb.MemberAddResponse: header=1 member=2 members=3
etcdserverpb.MemberListRequest: linearizable=1
etcdserverpb.MemberListResponse: header=1 members=2
etcdserverpb.AlarmRequest: action=1 memberID=2 alarm=3
etcdserverpb.AlarmMember: memberID=1 alarm=2
etcdserverpb.AlarmResponse: header=1 alarms=2
etcdserverpb.StatusResponse: header=1 version=2 dbSize=3 leader=4 raftIndex=5 raftTerm=6 raftAppliedIndex=7 errors=8 dbSizeInUse=9 isLearner=10 storageVersion=11 dbSizeQuota=12
etcdserverpb.HashResponse: header=1 hash=2
etcdserverpb.HashKVRequest: revision=1
etcdserverpb.HashKVResponse: header=1 hash=2 compact_revision=3 hash_revision=4
etcdserverpb.MoveLeaderRequest: targetID=1
etcdserverpb.SnapshotResponse: header=1 remaining_bytes=2 blob=3 version=4
etcdserverpb.DowngradeRequest: action=1 version=2
etcdserverpb.AuthStatusResponse: header=1 enabled=2 authRevision=3
etcdserverpb.AuthenticateRequest: name=1 password=2
etcdserverpb.AuthenticateResponse: header=1 token=2
etcdserverpb.AuthUserAddRequest: name=1 password=2 options=3 hashedPassword=4
etcdserverpb.AuthUserChangePasswordRequest: name=1 password=2 hashedPassword=3
etcdserverpb.AuthUserGrantRoleRequest: user=1 role=2
etcdserverpb.AuthUserRevokeRoleRequest: name=1 role=2
etcdserverpb.AuthRoleGrantPermissionRequest: name=1 perm=2
etcdserverpb.AuthRoleRevokePermissionRequest: role=1 key=2 range_end=3
";

const ENUMS: &str = "
mvccpb.Event.EventType: PUT=0 DELETE=1
authpb.Permission.Type: READ=0 WRITE=1 READWRITE=2
etcdserverpb.RangeRequest.SortOrder: NONE=0 ASCEND=1 DESCEND=2
etcdserverpb.RangeRequest.SortTarget: KEY=0 VERSION=1 CREATE=2 MOD=3 VALUE=4
etcdserverpb.Compare.CompareResult: EQUAL=0 GREATER=1 LESS=2 NOT_EQUAL=3
etcdserverpb.Compare.CompareTarget: VERSION=0 CREATE=1 MOD=2 VALUE=3 LEASE=4
etcdserverpb.WatchCreateRequest.FilterType: NOPUT=0 NODELETE=1
etcdserverpb.AlarmType: NONE=0 NOSPACE=1 CORRUPT=2
etcdserverpb.AlarmRequest.AlarmAction: GET=0 ACTIVATE=1 DEACTIVATE=2
etcdserverpb.DowngradeRequest.DowngradeAction: VALIDATE=0 ENABLE=1 CANCEL=2
";

const METHODS: &str = "
KV: Range Put DeleteRange Txn Compact
Watch: Watch
Lease: LeaseGrant LeaseRevoke LeaseKeepAlive LeaseTimeToLive LeaseLeases
Cluster: MemberAdd MemberRemove MemberUpdate MemberList MemberPromote
Maintenance: Alarm Status Defragment Hash HashKV Snapshot MoveLeader Downgrade
Auth: AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete UserChangePassword UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete RoleGrantPermission RoleRevokePermission
";

#[derive(Default)]
struct Numbers {
    fields: BTreeMap<String, String>,
    enums: BTreeMap<String, String>,
    methods: BTreeMap<String, String>,
}

impl Numbers {
    fn read() -> Self {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut numbers = Self::default();
        for file in &set.file {
            file.message_type.iter().for_each(|message| numbers.message(file.package(), message));
            file.enum_type.iter().for_each(|descriptor| numbers.enumeration(file.package(), descriptor));
            for service in &file.service {
                let methods: Vec<_> = service.method.iter().map(|method| method.name()).collect();
                numbers.methods.insert(service.name().to_owned(), methods.join(" "));
            }
        }
        numbers
    }

    fn message(&mut self, prefix: &str, message: &DescriptorProto) {
        let name = format!("{prefix}.{}", message.name());
        let fields: Vec<_> = message.field.iter().map(|field| format!("{}={}", field.name(), field.number())).collect();
        message.enum_type.iter().for_each(|descriptor| self.enumeration(&name, descriptor));
        message.nested_type.iter().for_each(|nested| self.message(&name, nested));
        self.fields.insert(name, fields.join(" "));
    }

    fn enumeration(&mut self, prefix: &str, descriptor: &EnumDescriptorProto) {
        let values: Vec<_> =
            descriptor.value.iter().map(|value| format!("{}={}", value.name(), value.number())).collect();
        self.enums.insert(format!("{prefix}.{}", descriptor.name()), values.join(" "));
    }
}

#[track_caller]
fn assert_table(table: &str, actual: &BTreeMap<String, String>) {
    for line in table.trim().lines() {
        let (name, expected) = line.split_once(": ").unwrap();
        assert_eq!(actual.get(name).map(String::as_str), Some(expected), "{name}");
    }
}

#[test]
fn fields_carry_etcds_numbers() {
    assert_table(FIELDS, &Numbers::read().fields);
}

#[test]
fn every_answer_begins_with_its_header() {
    let header_of = |(name, fields): (&String, &String)| {
        (name.ends_with("Response") && name.starts_with("etcdserverpb.")).then(|| (name.clone(), fields.clone()))
    };
    let answers: Vec<_> = Numbers::read().fields.iter().filter_map(header_of).collect();
    assert!(answers.len() > 35, "answers are missing: {}", answers.len());
    for (name, fields) in answers {
        assert!(fields == "header=1" || fields.starts_with("header=1 "), "{name}: {fields}");
    }
}

#[test]
fn enums_carry_etcds_numbers() {
    let numbers = Numbers::read();
    assert_table(ENUMS, &numbers.enums);
    assert_eq!(ENUMS.trim().lines().count(), numbers.enums.len(), "an enum is not in the table");
}

#[test]
fn services_have_the_methods_of_3_5() {
    let numbers = Numbers::read();
    assert_table(METHODS, &numbers.methods);
    assert_eq!(METHODS.trim().lines().count(), numbers.methods.len(), "a service is not in the table");
}

/// Bytes written by hand from the protobuf encoding: what an etcd client puts on the wire.
#[test]
fn a_put_is_these_bytes() {
    let put = pb::PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease: 7,
        prev_kv: true,
        ..Default::default()
    };
    assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v\x18\x07\x20\x01");
}

#[test]
fn a_compare_carries_its_range_end_at_64() {
    let compare = pb::Compare {
        result: pb::compare::CompareResult::NotEqual.into(),
        target: pb::compare::CompareTarget::Mod.into(),
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
        target_union: Some(pb::compare::TargetUnion::ModRevision(5)),
    };
    assert_eq!(compare.encode_to_vec(), b"\x08\x03\x10\x02\x1a\x01a\x30\x05\x82\x04\x01b");
}

#[test]
fn a_decoded_value_shares_the_memory_of_its_frame() {
    let put = pb::PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from(vec![7; 100]), ..Default::default() };
    let frame = Bytes::from(put.encode_to_vec());
    let value = pb::PutRequest::decode(frame.clone()).unwrap().value;
    let (start, end) = (frame.as_ptr() as usize, frame.as_ptr() as usize + frame.len());
    assert!((start..end).contains(&(value.as_ptr() as usize)), "the value was copied");
}

#[test]
fn unknown_fields_are_passed_over() {
    let mut frame = pb::PutRequest { key: Bytes::from_static(b"k"), ..Default::default() }.encode_to_vec();
    frame.extend_from_slice(b"\xfa\x07\x03new");
    assert_eq!(pb::PutRequest::decode(&frame[..]).unwrap().key, Bytes::from_static(b"k"));
}

#[test]
fn the_packages_know_each_other() {
    let event = mvccpb::Event { kv: Some(mvccpb::KeyValue::default()), ..Default::default() };
    let watch = pb::WatchResponse { events: vec![event], ..Default::default() };
    assert_eq!(watch.encode_to_vec(), b"\x5a\x02\x12\x00");
    let role = pb::AuthRoleGetResponse { perm: vec![authpb::Permission::default()], ..Default::default() };
    assert_eq!(role.encode_to_vec(), b"\x12\x00");
}
