//! The quota on a member's data: what is refused while it is exceeded, what is served, and how it ends.

use std::time::{Duration, Instant};

use flaredb_proto::etcdserverpb::{
    self as pb, alarm_request::AlarmAction, kv_client::KvClient, maintenance_client::MaintenanceClient,
    request_op::Request as Op,
};
use tonic::{Code, Status, transport::Channel};

use crate::{assert_refused, harness::start_single_node_with_quota};

const QUOTA: u64 = 6 << 20;
const VALUE_BYTES: usize = 256 << 10;
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// The size is looked at once a second; the rest is for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(30);

/// Values that do not compress.
fn value(mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 32).to_le_bytes()[0]
    };
    (0..VALUE_BYTES).map(|_| next()).collect()
}

fn put(key: &str, value: Vec<u8>) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() }
}

fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), range_end: range_end.to_owned().into(), ..Default::default() }
}

fn delete(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.to_owned().into(), range_end: range_end.to_owned().into(), ..Default::default() }
}

fn ops(ops: Vec<Op>) -> Vec<pb::RequestOp> {
    ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect()
}

fn txn(success: Vec<Op>, failure: Vec<Op>) -> pb::TxnRequest {
    pb::TxnRequest { success: ops(success), failure: ops(failure), ..Default::default() }
}

fn alarm(action: AlarmAction, alarm: pb::AlarmType) -> pb::AlarmRequest {
    pb::AlarmRequest { action: action.into(), member_id: 0, alarm: alarm.into() }
}

/// Puts values until one is refused; gives the number of those that were not.
async fn fill(client: &mut KvClient<Channel>) -> (u64, Status) {
    let began = Instant::now();
    for number in 0.. {
        if let Err(status) = client.put(put(&format!("fill-{number:06}"), value(number))).await {
            return (number, status);
        }
        assert!(began.elapsed() < PATIENCE, "{number} values were taken");
    }
    unreachable!("there are more numbers");
}

#[tokio::test]
async fn above_the_quota_puts_are_refused_until_space_is_freed() {
    let node = start_single_node_with_quota(Some(QUOTA)).await;
    let channel = node.connect().await;
    let mut client = KvClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel);
    for round in 0..2 {
        let (filled, refusal) = fill(&mut client).await;
        assert_eq!((refusal.code(), refusal.message()), (Code::ResourceExhausted, NO_SPACE));
        assert!(filled * u64::try_from(VALUE_BYTES).unwrap() >= QUOTA / 2, "refused after {filled} values");

        // Puts, wherever they are in a transaction.
        let new = || Op::RequestPut(put("new", b"v".to_vec()));
        let get = || Op::RequestRange(range("fill-000000", ""));
        for growing in [
            txn(vec![get(), new()], vec![]),
            txn(vec![], vec![new()]),
            txn(vec![Op::RequestTxn(txn(vec![], vec![Op::RequestTxn(txn(vec![new()], vec![]))]))], vec![]),
        ] {
            assert_refused(client.txn(growing).await, Code::ResourceExhausted, NO_SPACE);
        }
        // A broken request is called that first.
        assert_refused(client.put(put("", vec![])).await, Code::InvalidArgument, "etcdserver: key is not provided");

        // It shows, and cannot be waved away.
        let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
        let member_id = status.header.unwrap().member_id;
        assert_eq!(status.errors, [format!("memberID:{member_id} alarm:NOSPACE ")]);
        assert_eq!(status.db_size_quota, i64::try_from(QUOTA).unwrap());
        assert!(status.db_size > status.db_size_quota, "{status:?}");
        let no_space = [pb::AlarmMember { member_id, alarm: pb::AlarmType::Nospace.into() }];
        for (asked, shown) in [
            (pb::AlarmType::None, &no_space[..]),
            (pb::AlarmType::Nospace, &no_space[..]),
            (pb::AlarmType::Corrupt, &[]),
        ] {
            let answer = maintenance.alarm(alarm(AlarmAction::Get, asked)).await.unwrap().into_inner();
            assert_eq!(answer.alarms, shown);
        }
        let disarmed = maintenance.alarm(alarm(AlarmAction::Deactivate, pb::AlarmType::Nospace)).await.unwrap();
        assert_eq!(disarmed.into_inner().alarms, []);
        assert_refused(client.put(put("new", b"v".to_vec())).await, Code::ResourceExhausted, NO_SPACE);

        // Reads and whatever frees space are served.
        let answer = client.range(pb::RangeRequest { count_only: true, ..range("fill-", "fill.") }).await.unwrap();
        assert_eq!(answer.into_inner().count, i64::try_from(filled).unwrap(), "what was refused is not there");
        client.txn(txn(vec![get()], vec![])).await.unwrap();
        let inner = txn(vec![Op::RequestDeleteRange(delete("fill-000001", ""))], vec![]);
        client
            .txn(txn(vec![Op::RequestDeleteRange(delete("fill-000000", "")), Op::RequestTxn(inner)], vec![]))
            .await
            .unwrap();
        let deleted = client.delete_range(delete("fill-", "fill.")).await.unwrap().into_inner();
        assert_eq!(deleted.deleted, i64::try_from(filled).unwrap() - 2);
        let revision = deleted.header.unwrap().revision;
        client.compact(pb::CompactionRequest { revision, physical: false }).await.unwrap();

        // And that is all it takes.
        let began = Instant::now();
        while let Err(status) = client.put(put("new", b"v".to_vec())).await {
            assert_eq!(status.message(), NO_SPACE);
            assert!(began.elapsed() < PATIENCE, "round {round}: still refused");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let kept = client.range(range("new", "")).await.unwrap().into_inner().kvs;
        assert_eq!(kept[0].version, round + 1, "refused puts never took effect");
        let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.errors, Vec::<String>::new());
        assert!(status.db_size < status.db_size_quota, "{status:?}");
        let answer = maintenance.alarm(alarm(AlarmAction::Get, pb::AlarmType::None)).await.unwrap().into_inner();
        assert_eq!(answer.alarms, []);
    }
    node.stop().await;
}
