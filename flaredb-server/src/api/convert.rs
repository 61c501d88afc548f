//! The store's plain types and the messages on the wire.
//!
//! Only answers are translated: requests are decoded by flaredb-kv from the client's bytes, and the same bytes are proposed.
//! What was checked is then exactly what every member will apply. Byte fields are shared, not copied.

use flaredb_kv::{DeleteRangeResponse, KeyValue, PutResponse, RangeResponse, Response, ResponseBody, TxnResponse};
use flaredb_proto::{etcdserverpb as pb, mvccpb};
use pb::response_op::Response as OpResponse;

use super::header;

pub(super) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    let KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
    mvccpb::KeyValue { key, create_revision, mod_revision, version, value, lease }
}

fn key_values(kvs: Vec<KeyValue>) -> Vec<mvccpb::KeyValue> {
    kvs.into_iter().map(key_value).collect()
}

pub(super) fn range_response(header: pb::ResponseHeader, range: RangeResponse) -> pb::RangeResponse {
    let RangeResponse { kvs, more, count } = range;
    pb::RangeResponse { header: Some(header), kvs: key_values(kvs), more, count }
}

pub(super) fn put_response(header: pb::ResponseHeader, put: PutResponse) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: put.prev_kv.map(key_value) }
}

pub(super) fn delete_response(header: pb::ResponseHeader, delete: DeleteRangeResponse) -> pb::DeleteRangeResponse {
    let DeleteRangeResponse { deleted, prev_kvs } = delete;
    pb::DeleteRangeResponse { header: Some(header), deleted, prev_kvs: key_values(prev_kvs) }
}

pub(super) fn txn_response(header: pb::ResponseHeader, txn: TxnResponse) -> pb::TxnResponse {
    let TxnResponse { succeeded, responses } = txn;
    pb::TxnResponse { header: Some(header), succeeded, responses: responses.into_iter().map(operation).collect() }
}

fn operation(response: Response) -> pb::ResponseOp {
    let header = header::of_operation(response.revision);
    let response = match response.body {
        ResponseBody::Range(range) => Some(OpResponse::ResponseRange(range_response(header, range))),
        ResponseBody::Put(put) => Some(OpResponse::ResponsePut(put_response(header, put))),
        ResponseBody::DeleteRange(delete) => Some(OpResponse::ResponseDeleteRange(delete_response(header, delete))),
        // etcd 3.5 leaves the header of an inner transaction empty; its operations carry the revision.
        ResponseBody::Txn(txn) => Some(OpResponse::ResponseTxn(txn_response(pb::ResponseHeader::default(), txn))),
        // No operation of a transaction compacts.
        ResponseBody::Compact => None,
    };
    pb::ResponseOp { response }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flaredb_kv::{
        Command, CommandKind, CompareResult, CompareTarget, KvError, RangeRequest, RequestOp, SortOrder, SortTarget,
    };
    use pb::{compare, range_request as range, request_op};

    use prost::Message;

    use super::*;

    /// A request's bytes as clients make them.
    fn command(request: &impl Message) -> Bytes {
        Bytes::from(request.encode_to_vec())
    }

    fn range_request(request: &pb::RangeRequest) -> Result<RangeRequest, KvError> {
        RangeRequest::decode(&command(request))
    }

    fn wire_range() -> pb::RangeRequest {
        pb::RangeRequest {
            key: "a".into(),
            range_end: "z".into(),
            limit: 1,
            revision: 2,
            sort_order: range::SortOrder::Descend.into(),
            sort_target: range::SortTarget::Value.into(),
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 3,
            max_mod_revision: 4,
            min_create_revision: 5,
            max_create_revision: 6,
        }
    }

    fn plain_range() -> RangeRequest {
        RangeRequest {
            key: "a".into(),
            range_end: "z".into(),
            limit: 1,
            revision: 2,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Value,
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 3,
            max_mod_revision: 4,
            min_create_revision: 5,
            max_create_revision: 6,
        }
    }

    #[test]
    fn every_field_of_a_range_arrives() {
        assert_eq!(range_request(&wire_range()), Ok(plain_range()));
        assert_eq!(range_request(&pb::RangeRequest::default()), Ok(RangeRequest::default()));
    }

    #[test]
    fn an_unknown_sort_option_is_refused() {
        let request = pb::RangeRequest { sort_order: 3, ..wire_range() };
        assert_eq!(range_request(&request), Err(KvError::InvalidSortOption));
        let request = pb::RangeRequest { sort_target: 5, ..wire_range() };
        assert_eq!(range_request(&request), Err(KvError::InvalidSortOption));
    }

    #[test]
    fn every_field_of_the_writes_arrives() {
        let put = pb::PutRequest {
            key: "k".into(),
            value: "v".into(),
            lease: 1,
            prev_kv: true,
            ignore_value: true,
            ignore_lease: true,
        };
        let Ok(Command::Put(plain)) = Command::decode(CommandKind::Put, &command(&put)) else { panic!("not a put") };
        assert_eq!((plain.key, plain.value, plain.lease), ("k".into(), "v".into(), 1));
        assert!(plain.prev_kv && plain.ignore_value && plain.ignore_lease);

        let delete = pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: true };
        let Ok(Command::DeleteRange(plain)) = Command::decode(CommandKind::DeleteRange, &command(&delete)) else {
            panic!("not a delete")
        };
        assert_eq!((plain.key, plain.range_end, plain.prev_kv), ("k".into(), "l".into(), true));

        let compact = pb::CompactionRequest { revision: 7, physical: true };
        let Ok(Command::Compact(plain)) = Command::decode(CommandKind::Compact, &command(&compact)) else {
            panic!("not a compaction")
        };
        assert_eq!((plain.revision, plain.physical), (7, true));
    }

    #[test]
    fn every_part_of_a_transaction_arrives() {
        let wire_compare = |result: compare::CompareResult, target: compare::CompareTarget, union| pb::Compare {
            result: result.into(),
            target: target.into(),
            key: "k".into(),
            range_end: "l".into(),
            target_union: Some(union),
        };
        let op = |request| pb::RequestOp { request: Some(request) };
        use compare::{CompareResult as Result, CompareTarget as Target, TargetUnion as Union};
        let txn = pb::TxnRequest {
            compare: vec![
                wire_compare(Result::Equal, Target::Version, Union::Version(1)),
                wire_compare(Result::Greater, Target::Create, Union::CreateRevision(2)),
                wire_compare(Result::Less, Target::Mod, Union::ModRevision(3)),
                wire_compare(Result::NotEqual, Target::Value, Union::Value("v".into())),
                wire_compare(Result::Equal, Target::Lease, Union::Lease(4)),
            ],
            success: vec![op(request_op::Request::RequestRange(wire_range()))],
            failure: vec![op(request_op::Request::RequestTxn(pb::TxnRequest {
                success: vec![op(request_op::Request::RequestPut(pb::PutRequest::default()))],
                failure: vec![op(request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest::default()))],
                ..pb::TxnRequest::default()
            }))],
        };
        let Ok(Command::Txn(plain)) = Command::decode(CommandKind::Txn, &command(&txn)) else { panic!("not a txn") };
        let compares: Vec<_> = plain.compare.iter().map(|compare| (compare.result, compare.target.clone())).collect();
        assert_eq!(
            compares,
            [
                (CompareResult::Equal, CompareTarget::Version(1)),
                (CompareResult::Greater, CompareTarget::Create(2)),
                (CompareResult::Less, CompareTarget::Mod(3)),
                (CompareResult::NotEqual, CompareTarget::Value("v".into())),
                (CompareResult::Equal, CompareTarget::Lease(4)),
            ]
        );
        assert!(plain.compare.iter().all(|compare| compare.key == "k" && compare.range_end == "l"));
        assert_eq!(plain.success, [RequestOp::Range(plain_range())]);
        let [RequestOp::Txn(nested)] = &plain.failure[..] else { panic!("no inner transaction") };
        assert!(matches!(nested.success[..], [RequestOp::Put(_)]));
        assert!(matches!(nested.failure[..], [RequestOp::DeleteRange(_)]));
    }

    fn kv(key: &'static str) -> KeyValue {
        let [key, value] = [key.into(), "v".into()];
        KeyValue { key, create_revision: 2, mod_revision: 3, version: 4, value, lease: 5 }
    }

    fn wire_kv(key: &'static str) -> mvccpb::KeyValue {
        let [key, value] = [key.into(), "v".into()];
        mvccpb::KeyValue { key, create_revision: 2, mod_revision: 3, version: 4, value, lease: 5 }
    }

    #[test]
    fn every_field_of_the_answers_is_sent() {
        let header = header::of_operation(9);
        let range = RangeResponse { kvs: vec![kv("a"), kv("b")], more: true, count: 7 };
        let expected =
            pb::RangeResponse { header: Some(header), kvs: vec![wire_kv("a"), wire_kv("b")], more: true, count: 7 };
        assert_eq!(range_response(header, range), expected);

        let put = put_response(header, PutResponse { prev_kv: Some(kv("a")) });
        assert_eq!(put, pb::PutResponse { header: Some(header), prev_kv: Some(wire_kv("a")) });

        let delete = delete_response(header, DeleteRangeResponse { deleted: 1, prev_kvs: vec![kv("a")] });
        let expected = pb::DeleteRangeResponse { header: Some(header), deleted: 1, prev_kvs: vec![wire_kv("a")] };
        assert_eq!(delete, expected);
    }

    #[test]
    fn inner_answers_carry_the_revision_and_inner_transactions_an_empty_header() {
        let put = Response { revision: 4, body: ResponseBody::Put(PutResponse::default()) };
        let inner = TxnResponse { succeeded: true, responses: vec![put.clone()] };
        let outer = TxnResponse {
            succeeded: true,
            responses: vec![put, Response { revision: 4, body: ResponseBody::Txn(inner) }],
        };
        let header = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 4, raft_term: 3 };
        let answer = txn_response(header, outer);
        assert_eq!((answer.header, answer.succeeded), (Some(header), true));
        let put = pb::PutResponse { header: Some(header::of_operation(4)), prev_kv: None };
        assert_eq!(answer.responses[0].response, Some(OpResponse::ResponsePut(put.clone())));
        let Some(OpResponse::ResponseTxn(inner)) = &answer.responses[1].response else { panic!("no inner answer") };
        assert_eq!((inner.header, inner.succeeded), (Some(pb::ResponseHeader::default()), true));
        assert_eq!(inner.responses[0].response, Some(OpResponse::ResponsePut(put)));
    }
}
