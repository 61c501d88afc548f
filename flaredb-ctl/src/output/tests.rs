//! Exact strings, form by form. What needs a server is in `tests/cli.rs`.

use flaredb_proto::etcdserverpb::{Member, ResponseHeader, ResponseOp, response_op::Response};
use flaredb_proto::mvccpb::KeyValue;

use super::*;

fn format(write_out: WriteOut) -> Format {
    Format { write_out, decode: Decode::Base64, hex: false }
}

fn printed(print: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    print(&mut out);
    String::from_utf8(out).unwrap()
}

fn key_value(key: &'static [u8], value: &'static [u8], lease: i64) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), create_revision: 2, mod_revision: 3, version: 2, lease }
}

fn range() -> RangeResponse {
    let kvs = vec![key_value(b"a", b"1\n", 0x10), key_value(b"b\xff", b"", 0)];
    RangeResponse { header: None, kvs, more: true, count: 5 }
}

#[test]
fn get_in_every_form() {
    let table = [
        (WriteOut::Simple, Parts::Count, "5\n"),
        (
            WriteOut::Json,
            Parts::KeysAndValues,
            concat!(
                r#"{"kvs":[{"key":"YQ==","create_revision":2,"mod_revision":3,"version":2,"value":"MQo=","lease":16},"#,
                r#"{"key":"Yv8=","create_revision":2,"mod_revision":3,"version":2}],"more":true,"count":5}"#,
                "\n"
            ),
        ),
        (
            WriteOut::Jsonl,
            Parts::Count,
            concat!(
                r#"{"kvs":[{"key":"YQ==","create_revision":2,"mod_revision":3,"version":2,"value":"MQo=","lease":16},"#,
                r#"{"key":"Yv8=","create_revision":2,"mod_revision":3,"version":2}],"more":true,"count":5}"#,
                "\n"
            ),
        ),
        (
            WriteOut::Jsonl,
            Parts::Keys,
            concat!(
                r#"{"key":"YQ==","create_revision":2,"mod_revision":3,"version":2,"value":"MQo=","lease":16}"#,
                "\n",
                r#"{"key":"Yv8=","create_revision":2,"mod_revision":3,"version":2}"#,
                "\n"
            ),
        ),
        (
            WriteOut::Table,
            Parts::KeysAndValues,
            "\
+-------+-------+------------+------------+---------+-------+
| KEY   | VALUE | CREATED AT | CHANGED AT | VERSION | LEASE |
+===========================================================+
| a     | 1\\n   | 2          | 3          | 2       | 10    |
| b\\xff |       | 2          | 3          | 2       |       |
+-------+-------+------------+------------+---------+-------+
",
        ),
    ];
    for (form, parts, expected) in table {
        assert_eq!(printed(|out| get(out, &format(form), parts, &range())), expected, "{form:?} {parts:?}");
    }
    let mut simple = Vec::new();
    get(&mut simple, &format(WriteOut::Simple), Parts::KeysAndValues, &range());
    assert_eq!(simple, b"a\n1\n\nb\xff\n\n");
}

#[test]
fn bytes_that_are_no_text_stay_apart_from_text() {
    let utf8 = Format { decode: Decode::Utf8, ..format(WriteOut::Jsonl) };
    let expected = concat!(
        r#"{"key":"a","create_revision":2,"mod_revision":3,"version":2,"value":"1\n","lease":16}"#,
        "\n",
        r#"{"key":{"base64":"Yv8="},"create_revision":2,"mod_revision":3,"version":2}"#,
        "\n"
    );
    assert_eq!(printed(|out| get(out, &utf8, Parts::KeysAndValues, &range())), expected);
}

#[test]
fn txn_with_all_kinds_of_answers() {
    let item = |response| ResponseOp { response: Some(response) };
    let answer = TxnResponse {
        header: Some(ResponseHeader { cluster_id: u64::MAX, member_id: 1, revision: 3, raft_term: 2 }),
        succeeded: false,
        responses: vec![
            item(Response::ResponsePut(PutResponse { header: None, prev_kv: Some(key_value(b"p", b"old", 0)) })),
            item(Response::ResponseRange(RangeResponse {
                kvs: vec![key_value(b"k", b"v", 0)],
                count: 1,
                ..RangeResponse::default()
            })),
            item(Response::ResponseDeleteRange(DeleteRangeResponse { deleted: 2, ..DeleteRangeResponse::default() })),
            item(Response::ResponseTxn(TxnResponse { succeeded: true, ..TxnResponse::default() })),
        ],
    };
    let simple = "FAILURE\n\nOK\np\nold\n\nk\nv\n\n2\n\nSUCCESS\n";
    assert_eq!(printed(|out| txn(out, &format(WriteOut::Simple), &answer)), simple);
    let json = concat!(
        r#"{"header":{"cluster_id":18446744073709551615,"member_id":1,"revision":3,"raft_term":2},"responses":["#,
        r#"{"Response":{"response_put":{"prev_kv":{"key":"cA==","create_revision":2,"mod_revision":3,"version":2,"value":"b2xk"}}}},"#,
        r#"{"Response":{"response_range":{"kvs":[{"key":"aw==","create_revision":2,"mod_revision":3,"version":2,"value":"dg=="}],"count":1}}},"#,
        r#"{"Response":{"response_delete_range":{"deleted":2}}},"#,
        r#"{"Response":{"response_txn":{"succeeded":true}}}]}"#,
        "\n"
    );
    assert_eq!(printed(|out| txn(out, &format(WriteOut::Json), &answer)), json);
}

#[test]
fn a_member_that_has_not_started_yet() {
    let member = Member {
        id: 0xab,
        peer_ur_ls: vec!["http://n:1".into(), "http://n:2".into()],
        is_learner: true,
        ..Member::default()
    };
    let answer = MemberListResponse { header: None, members: vec![member] };
    let simple = "ab, unstarted, , http://n:1,http://n:2, , true\n";
    assert_eq!(printed(|out| member_list(out, &format(WriteOut::Simple), &answer)), simple);
    let json = concat!(r#"{"members":[{"ID":171,"peerURLs":["http://n:1","http://n:2"],"isLearner":true}]}"#, "\n");
    assert_eq!(printed(|out| member_list(out, &format(WriteOut::Json), &answer)), json);
}

#[test]
fn a_member_whose_url_is_not_known_is_shown_all_the_same() {
    let rows = [Row { name: "n3".into(), id: 3, endpoint: String::new(), answer: Err("not seen; wait".into()) }];
    assert_eq!(printed(|out| status(out, &format(WriteOut::Simple), &rows)), "n3, unreachable: not seen; wait\n");
    let json = "[{\"Endpoint\":\"\",\"Name\":\"n3\",\"Error\":\"not seen; wait\"}]\n";
    assert_eq!(printed(|out| status(out, &format(WriteOut::Json), &rows)), json);
}
