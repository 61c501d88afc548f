//! Exact strings, form by form. What needs a server is in `tests/cli.rs`.

use std::time::Duration;

use flaredb_load::Bucket;
use flaredb_load::work::Kind;
use flaredb_proto::etcdserverpb::{Member, ResponseHeader, ResponseOp, response_op::Response};
use flaredb_proto::mvccpb::KeyValue;

use super::*;
use crate::commands::bench::Latency;

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

fn report() -> Report {
    let bucket = |us, count| Bucket { up_to: Duration::from_micros(us), count };
    Report {
        kind: Kind::Put,
        clients: 64,
        asked_rate: None,
        endpoints: 3,
        connections: 1,
        keys: 10_000,
        value_size: 256,
        operations: 100_001,
        errors: 0,
        first_error: None,
        seconds: 10.0004,
        rate: 10_000.099_6,
        latency: Latency { p50: 3.2, p90: 4.0, p99: 9.8765, p999: 12.0, max: 30.5 },
        cpu_us: 4.26,
        core: 0.0426,
        buckets: vec![bucket(500, 1), bucket(1_000, 0), bucket(2_000, 50_000), bucket(5_000, 50_000)],
    }
}

#[test]
fn a_bench_in_every_form() {
    let bar = "#".repeat(50);
    let simple = format!(
        "\
put: 64 clients, 3 endpoints, 1 connection to each, 10000 keys, values of 256 B
  operations  100001 in 10.00 s
  errors      0
  rate        10000.1 op/s
  latency ms  p50 3.200  p90 4.000  p99 9.877  p99.9 12.000  max 30.500
  generator   4.3 µs of CPU an operation, 4 % of a core

latency up to       calls
       500 µs           1  #
         1 ms           0
         2 ms       50000  {bar}
         5 ms       50000  {bar}
"
    );
    assert_eq!(printed(|out| bench(out, &format(WriteOut::Simple), &report())), simple);
    let json = concat!(
        r#"{"workload":"put","clients":64,"endpoints":3,"connections":1,"keys":10000,"value_size":256,"#,
        r#""operations":100001,"errors":0,"seconds":10.0,"rate":10000.1,"#,
        r#""latency_ms":{"p50":3.2,"p90":4.0,"p99":9.877,"p99.9":12.0,"max":30.5},"#,
        r#""generator_cpu_us":4.26,"generator_core":0.043,"generator_is_the_limit":false,"#,
        r#""histogram":[{"up_to_ms":0.5,"count":1},{"up_to_ms":1.0,"count":0},"#,
        r#"{"up_to_ms":2.0,"count":50000},{"up_to_ms":5.0,"count":50000}]}"#,
        "\n"
    );
    for form in [WriteOut::Json, WriteOut::Jsonl] {
        assert_eq!(printed(|out| bench(out, &format(form), &report())), json);
    }
    let table = "\
+----------+------------+--------+---------+--------+--------+--------+----------+--------+---------------+
| WORKLOAD | OPERATIONS | ERRORS | OP/S    | P50 MS | P90 MS | P99 MS | P99.9 MS | MAX MS | OWN CPU µS/OP |
+=========================================================================================================+
| put      | 100001     | 0      | 10000.1 | 3.200  | 4.000  | 9.877  | 12.000   | 30.500 | 4.3           |
+----------+------------+--------+---------+--------+--------+--------+----------+--------+---------------+
";
    assert_eq!(printed(|out| bench(out, &format(WriteOut::Table), &report())), table);
}

#[test]
fn a_bench_with_errors_that_waited_for_itself() {
    let kinds = [
        (
            Kind::Get { serializable: true },
            "get, serializable: 2000 calls a second, 1 endpoint, 2 connections to each, 10000 keys, ",
        ),
        (Kind::Txn { puts: 16 }, "txn of 16 puts: 2000 calls a second, 1 endpoint, "),
        (Kind::Scan { keys: 100 }, "scan of 100 keys: 2000 calls a second, 1 endpoint, "),
        (Kind::Cas, "cas: 2000 calls a second, 1 endpoint, 2 connections to each, values of 256 B\n"),
    ];
    let first = "127.0.0.1:2379: gRPC status 14: etcdserver: leader changed";
    for (kind, start) in kinds {
        let report = Report {
            kind,
            asked_rate: Some(2_000),
            endpoints: 1,
            connections: 2,
            errors: 3,
            first_error: Some(first.to_owned()),
            core: 0.97,
            ..report()
        };
        let warning = "warning: the generator used 97 % of a core: it is the limit, the servers may be faster\n";
        let simple = printed(|out| bench(out, &format(WriteOut::Simple), &report));
        assert!(simple.starts_with(start), "{simple}");
        assert!(simple.contains(&format!("  errors      3, the first: {first}\n")), "{simple}");
        assert!(simple.contains("  rate        10000.1 op/s of 2000 asked for\n"), "{simple}");
        assert!(simple.contains(&format!(", 97 % of a core\n{warning}")), "{simple}");
        let table = printed(|out| bench(out, &format(WriteOut::Table), &report));
        assert!(table.ends_with(&format!("\nfirst error: {first}\n{warning}")), "{table}");
        let json = printed(|out| bench(out, &format(WriteOut::Json), &report));
        assert!(json.contains(r#""asked_rate":2000,"#) && !json.contains("clients"), "{json}");
        assert!(json.contains(r#""generator_is_the_limit":true"#) && json.contains(first), "{json}");
    }
}
