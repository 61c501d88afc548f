//! The KV service.

use bytes::Bytes;
use flaredb_proto::etcdserverpb::{
    self as pb, compare, kv_client::KvClient, range_request::SortOrder, range_request::SortTarget, request_op,
    response_op::Response as OpResponse,
};
use prost::Message;
use tonic::{Code, transport::Channel};

use crate::{
    assert_refused,
    harness::{REQUEST_BYTES_MAX, TXN_OPS_MAX, TestNode, start_single_node},
    raw,
};

const EMPTY_KEY: &str = "etcdserver: key is not provided";
const TOO_LARGE: &str = "etcdserver: request is too large";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

async fn start() -> (TestNode, KvClient<Channel>) {
    let node = start_single_node().await;
    let client = KvClient::new(node.connect().await).max_decoding_message_size(usize::MAX);
    (node, client)
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), range_end: range_end.to_owned().into(), ..Default::default() }
}

fn delete(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.to_owned().into(), range_end: range_end.to_owned().into(), ..Default::default() }
}

fn op_put(key: &str, value: &str) -> pb::RequestOp {
    pb::RequestOp { request: Some(request_op::Request::RequestPut(put(key, value))) }
}

fn op_range(request: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(request_op::Request::RequestRange(request)) }
}

fn op_delete(key: &str) -> pb::RequestOp {
    pb::RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete(key, ""))) }
}

fn op_txn(txn: pb::TxnRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(request_op::Request::RequestTxn(txn)) }
}

fn txn(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..Default::default() }
}

fn value_is(key: &str, value: &str) -> pb::Compare {
    pb::Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Value.into(),
        key: key.to_owned().into(),
        target_union: Some(compare::TargetUnion::Value(value.to_owned().into())),
        ..Default::default()
    }
}

fn keys(answer: &pb::RangeResponse) -> Vec<&str> {
    answer.kvs.iter().map(|kv| std::str::from_utf8(&kv.key).unwrap()).collect()
}

/// a=3 b=1 c=2, in that order, at revisions 2, 3, 4.
async fn fill(client: &mut KvClient<Channel>) {
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2")] {
        client.put(put(key, value)).await.unwrap();
    }
}

#[tokio::test]
async fn a_put_is_read_back_with_all_its_numbers() {
    let (node, mut client) = start().await;
    let first = client.put(put("k", "1")).await.unwrap().into_inner();
    let header = first.header.unwrap();
    assert_eq!(header.revision, 2, "the empty store is at revision 1");
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0, "{header:?}");
    assert_eq!(first.prev_kv, None);

    let second = client.put(pb::PutRequest { prev_kv: true, ..put("k", "2") }).await.unwrap().into_inner();
    assert_eq!(second.prev_kv.unwrap().value, "1");
    let read = client.range(range("k", "")).await.unwrap().into_inner();
    assert_eq!(read.header.unwrap(), pb::ResponseHeader { revision: 3, ..header });
    assert_eq!((read.count, read.more), (1, false));
    let kv = &read.kvs[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (2, 3, 2, 0));
    assert_eq!((&kv.key[..], &kv.value[..]), (&b"k"[..], &b"2"[..]));
    node.stop().await;
}

#[tokio::test]
async fn ranges_sort_filter_limit_and_count() {
    let (node, mut client) = start().await;
    fill(&mut client).await;

    let all = client.range(range("a", "z")).await.unwrap().into_inner();
    assert_eq!((keys(&all), all.count, all.more), (vec!["a", "b", "c"], 3, false));
    let limited = client.range(pb::RangeRequest { limit: 2, ..range("a", "z") }).await.unwrap().into_inner();
    assert_eq!((keys(&limited), limited.count, limited.more), (vec!["a", "b"], 3, true));
    let counted = client.range(pb::RangeRequest { count_only: true, ..range("a", "z") }).await.unwrap().into_inner();
    assert_eq!((counted.kvs.len(), counted.count), (0, 3));
    let bare = client.range(pb::RangeRequest { keys_only: true, ..range("a", "z") }).await.unwrap().into_inner();
    assert!(bare.kvs.iter().all(|kv| kv.value.is_empty()) && bare.kvs.len() == 3);
    let sorted = pb::RangeRequest {
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Value.into(),
        serializable: true,
        ..range("a", "z")
    };
    assert_eq!(keys(&client.range(sorted).await.unwrap().into_inner()), ["a", "c", "b"]);
    let recent = client.range(pb::RangeRequest { min_mod_revision: 3, ..range("a", "z") }).await.unwrap().into_inner();
    assert_eq!((keys(&recent), recent.count), (vec!["b", "c"], 3), "the count ignores the filter");
    let past = client.range(pb::RangeRequest { revision: 3, ..range("a", "z") }).await.unwrap().into_inner();
    assert_eq!(
        (keys(&past), past.header.unwrap().revision),
        (vec!["a", "b"], 4),
        "the header has the present revision"
    );
    assert_eq!(keys(&client.range(range("b", "\0")).await.unwrap().into_inner()), ["b", "c"]);
    assert_eq!(client.range(range("\0", "\0")).await.unwrap().into_inner().count, 3);
    assert_eq!(client.range(range("nothing", "")).await.unwrap().into_inner().count, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_range_is_refused_in_etcds_words() {
    let (node, mut client) = start().await;
    fill(&mut client).await;
    assert_refused(client.range(range("", "")).await, Code::InvalidArgument, EMPTY_KEY);
    let sort = "etcdserver: invalid sort option";
    let request = pb::RangeRequest { sort_order: 7, ..range("a", "") };
    assert_refused(client.range(request).await, Code::InvalidArgument, sort);
    let request = pb::RangeRequest { sort_target: -1, ..range("a", "") };
    assert_refused(client.range(request).await, Code::InvalidArgument, sort);
    let request = pb::RangeRequest { revision: 5, ..range("a", "z") };
    assert_refused(client.range(request.clone()).await, Code::OutOfRange, FUTURE);
    let request = pb::RangeRequest { serializable: true, ..request };
    assert_refused(client.range(request).await, Code::OutOfRange, FUTURE);
    node.stop().await;
}

#[tokio::test]
async fn a_put_is_refused_in_etcds_words_and_has_no_effect() {
    let (node, mut client) = start().await;
    let refused = [
        (put("", "v"), EMPTY_KEY),
        (pb::PutRequest { ignore_value: true, ..put("k", "v") }, "etcdserver: value is provided"),
        (pb::PutRequest { ignore_lease: true, lease: 1, ..put("k", "v") }, "etcdserver: lease is provided"),
        (pb::PutRequest { ignore_value: true, ..put("k", "") }, "etcdserver: key not found"),
    ];
    for (request, text) in refused {
        assert_refused(client.put(request).await, Code::InvalidArgument, text);
    }
    let leased = pb::PutRequest { lease: 7, ..put("k", "v") };
    assert_refused(client.put(leased).await, Code::NotFound, "etcdserver: requested lease not found");
    let read = client.range(range("k", "")).await.unwrap().into_inner();
    assert_eq!((read.count, read.header.unwrap().revision), (0, 1));
    node.stop().await;
}

#[tokio::test]
async fn a_deletion_counts_and_moves_the_revision_only_if_something_was_there() {
    let (node, mut client) = start().await;
    fill(&mut client).await;
    let nothing = client.delete_range(delete("x", "z")).await.unwrap().into_inner();
    assert_eq!((nothing.deleted, nothing.header.unwrap().revision), (0, 4));
    let request = pb::DeleteRangeRequest { prev_kv: true, ..delete("a", "c") };
    let two = client.delete_range(request).await.unwrap().into_inner();
    assert_eq!((two.deleted, two.prev_kvs.len(), two.header.unwrap().revision), (2, 2, 5));
    assert_refused(client.delete_range(delete("", "")).await, Code::InvalidArgument, EMPTY_KEY);
    node.stop().await;
}

#[tokio::test]
async fn a_transaction_compares_then_runs_one_branch_at_one_revision() {
    let (node, mut client) = start().await;
    fill(&mut client).await;
    let request = pb::TxnRequest {
        compare: vec![value_is("a", "3")],
        success: vec![op_put("d", "4"), op_range(range("d", "")), op_delete("b"), op_txn(txn(vec![op_put("e", "5")]))],
        failure: vec![op_put("never", "")],
    };
    let answer = client.txn(request.clone()).await.unwrap().into_inner();
    assert!(answer.succeeded);
    assert_eq!(answer.header.unwrap().revision, 5);
    let responses: Vec<_> = answer.responses.into_iter().map(|op| op.response.unwrap()).collect();
    let [
        OpResponse::ResponsePut(put),
        OpResponse::ResponseRange(read),
        OpResponse::ResponseDeleteRange(deleted),
        OpResponse::ResponseTxn(inner),
    ] = &responses[..]
    else {
        panic!("other answers than operations: {responses:?}")
    };
    let revision_only = pb::ResponseHeader { revision: 5, ..Default::default() };
    assert_eq!(put.header, Some(revision_only), "inner headers have nothing but the revision");
    assert_eq!((keys(read), read.header), (vec!["d"], Some(revision_only)));
    assert_eq!(deleted.deleted, 1);
    assert_eq!((inner.succeeded, inner.header), (true, Some(pb::ResponseHeader::default())));

    let request = pb::TxnRequest { compare: vec![value_is("a", "other")], failure: Vec::new(), ..request };
    let answer = client.txn(request).await.unwrap().into_inner();
    assert_eq!((answer.succeeded, answer.responses.len()), (false, 0));
    assert_eq!(answer.header.unwrap().revision, 5, "an empty branch changes nothing");
    node.stop().await;
}

#[tokio::test]
async fn a_transaction_that_only_reads_sees_one_state() {
    let (node, mut client) = start().await;
    fill(&mut client).await;
    for serializable in [false, true] {
        let read = |key, end| op_range(pb::RangeRequest { serializable, ..range(key, end) });
        let request = pb::TxnRequest {
            compare: vec![value_is("a", "3")],
            success: vec![read("a", "z"), read("b", "")],
            failure: vec![read("c", "")],
        };
        let answer = client.txn(request).await.unwrap().into_inner();
        assert!(answer.succeeded);
        assert_eq!((answer.header.unwrap().revision, answer.responses.len()), (4, 2));
        let Some(OpResponse::ResponseRange(all)) = &answer.responses[0].response else { panic!("not a range") };
        assert_eq!(keys(all), ["a", "b", "c"]);
    }
    let future = txn(vec![op_range(range("a", "")), op_range(pb::RangeRequest { revision: 99, ..range("a", "") })]);
    assert_refused(client.txn(future).await, Code::OutOfRange, FUTURE);
    node.stop().await;
}

#[tokio::test]
async fn a_transaction_is_refused_in_etcds_words_and_has_no_effect() {
    let (node, mut client) = start().await;
    let many = |count: usize| (0..count).map(|number| op_put(&format!("k{number}"), "")).collect::<Vec<_>>();
    let duplicate = "etcdserver: duplicate key given in txn request";
    let too_many = "etcdserver: too many operations in txn request";
    let refused = [
        (txn(many(TXN_OPS_MAX + 1)), Code::InvalidArgument, too_many),
        (txn(vec![op_range(range("a", "")); TXN_OPS_MAX + 1]), Code::InvalidArgument, too_many),
        (txn(vec![op_put("k", "1"), op_put("k", "2")]), Code::InvalidArgument, duplicate),
        (txn(vec![op_put("k", "1"), op_delete("k")]), Code::InvalidArgument, duplicate),
        (txn(vec![op_put("k", "1"), op_txn(txn(vec![op_put("k", "2")]))]), Code::InvalidArgument, duplicate),
        (txn(vec![op_put("", "1")]), Code::InvalidArgument, EMPTY_KEY),
        (txn(vec![pb::RequestOp::default()]), Code::InvalidArgument, "etcdserver: key not found"),
        (
            txn(vec![op_put("k", "1"), op_range(pb::RangeRequest { revision: 99, ..range("a", "") })]),
            Code::OutOfRange,
            FUTURE,
        ),
    ];
    for (request, code, text) in refused {
        assert_refused(client.txn(request).await, code, text);
    }
    let read = client.range(range("\0", "\0")).await.unwrap().into_inner();
    assert_eq!((read.count, read.header.unwrap().revision), (0, 1));
    let answer = client.txn(txn(many(TXN_OPS_MAX))).await.unwrap().into_inner();
    assert_eq!((answer.responses.len(), answer.header.unwrap().revision), (TXN_OPS_MAX, 2), "as many are allowed");
    node.stop().await;
}

#[tokio::test]
async fn compacted_history_is_refused_in_etcds_words() {
    let (node, mut client) = start().await;
    fill(&mut client).await;
    client.put(put("a", "4")).await.unwrap();
    let compact = |revision| pb::CompactionRequest { revision, physical: false };
    let answer = client.compact(compact(4)).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().revision, 5, "a compaction does not move the revision");
    assert_refused(client.compact(compact(4)).await, Code::OutOfRange, COMPACTED);
    assert_refused(client.compact(compact(6)).await, Code::OutOfRange, FUTURE);
    for serializable in [false, true] {
        let request = pb::RangeRequest { revision: 3, serializable, ..range("a", "z") };
        assert_refused(client.range(request).await, Code::OutOfRange, COMPACTED);
    }
    let read = client.range(pb::RangeRequest { revision: 4, ..range("a", "") }).await.unwrap().into_inner();
    assert_eq!(read.kvs[0].value, "3", "the revision compacted at stays readable");
    node.stop().await;
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused_and_one_at_it_is_not() {
    let (node, mut client) = start().await;
    let sized = |total: usize| {
        let mut request = put("k", "");
        request.value = Bytes::from(vec![b'v'; total]);
        // What the key, the tags and the lengths add, is taken from the value.
        request.value.truncate(total - (request.encoded_len() - total));
        assert_eq!(request.encoded_len(), total, "the test's own arithmetic");
        request
    };
    assert_refused(client.put(sized(REQUEST_BYTES_MAX + 1)).await, Code::InvalidArgument, TOO_LARGE);
    assert_eq!(client.put(sized(REQUEST_BYTES_MAX)).await.unwrap().into_inner().header.unwrap().revision, 2);
    let far = client.put(sized(REQUEST_BYTES_MAX + 600 * 1024)).await.unwrap_err();
    assert_eq!(far.code(), Code::ResourceExhausted, "the transport's own refusal: {far}");
    assert_eq!(client.range(range("k", "")).await.unwrap().into_inner().count, 1, "the connection goes on");
    node.stop().await;
}

#[tokio::test]
async fn an_answer_may_be_larger_than_a_request() {
    let (node, mut client) = start().await;
    let value = "v".repeat(1_000_000);
    for key in ["a", "b", "c", "d", "e", "f"] {
        client.put(put(key, &value)).await.unwrap();
    }
    let read = client.range(range("a", "z")).await.unwrap().into_inner();
    assert_eq!((read.kvs.len(), read.encoded_len() > 6_000_000), (6, true));
    node.stop().await;
}

#[tokio::test]
async fn fields_of_a_newer_client_are_passed_over() {
    let (node, mut client) = start().await;
    let mut message = put("k", "v").encode_to_vec();
    message.extend_from_slice(b"\xfa\x07\x03new\x98\x06\x01");
    let answer = raw::call(node.connect().await, "/etcdserverpb.KV/Put", message.into()).await.unwrap();
    let answer = pb::PutResponse::decode(answer.into_inner()).unwrap();
    assert_eq!(answer.header.unwrap().revision, 2);

    let mut message = txn(vec![op_put("l", "w")]).encode_to_vec();
    message.extend_from_slice(b"\xfa\x07\x03new");
    raw::call(node.connect().await, "/etcdserverpb.KV/Txn", message.into()).await.unwrap();
    assert_eq!(client.range(range("k", "z")).await.unwrap().into_inner().count, 2);
    node.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_and_nothing_else_happens() {
    let (node, mut client) = start().await;
    let channel = node.connect().await;
    for message in [&b"\xff"[..], b"\x0a\x7fk", b"\x08\x01", &[0x1a; 300]] {
        let answer = raw::call(channel.clone(), "/etcdserverpb.KV/Put", message.to_vec().into()).await;
        assert_eq!(answer.unwrap_err().code(), Code::Internal, "{message:?}");
    }
    assert_eq!(client.put(put("k", "v")).await.unwrap().into_inner().header.unwrap().revision, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_transaction_that_is_nested_too_deeply_is_refused() {
    let (node, mut client) = start().await;
    let channel = node.connect().await;
    let nested = |depth| (0..depth).fold(Vec::new(), |inner, _| transaction_around(&inner));
    // The last one is beyond what prost would follow; flaredb-kv's decoder does not go there either.
    for depth in [9, 40, 5_000] {
        let answer = raw::call(channel.clone(), "/etcdserverpb.KV/Txn", nested(depth).into()).await;
        assert_refused(answer, Code::InvalidArgument, "etcdserver: too many operations in txn request");
    }
    assert_eq!(client.put(put("k", "v")).await.unwrap().into_inner().header.unwrap().revision, 2);
    node.stop().await;
}

/// A TxnRequest with one operation, a transaction of these bytes.
fn transaction_around(inner: &[u8]) -> Vec<u8> {
    let field = |tag: u8, content: &[u8]| {
        let mut bytes = vec![tag];
        prost::encode_length_delimiter(content.len(), &mut bytes).unwrap();
        bytes.extend_from_slice(content);
        bytes
    };
    field(0x12, &field(0x22, inner))
}

#[tokio::test]
async fn writes_at_the_same_time_get_revisions_of_their_own() {
    let (node, client) = start().await;
    let writers: Vec<_> = (0..64)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let answer = client.put(put(&format!("k{number}"), "v")).await.unwrap().into_inner();
                answer.header.unwrap().revision
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.push(writer.await.unwrap());
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (2..66).collect::<Vec<i64>>());
    node.stop().await;
}
