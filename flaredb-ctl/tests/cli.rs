//! The real binary against closed ports, strangers and a fake server: what it prints, and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod fake;

use std::fmt::Display;
use std::io::Write;
use std::process::{Command, Stdio};

use fake::{Fake, closed_port, dies_after_receiving, member, speaks};
use tonic::Status;

/// What a run of flarectl left behind.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn ran(code: i32, out: impl Into<String>, err: impl Into<String>) -> Ran {
    Ran { code, out: out.into(), err: err.into() }
}

fn flarectl_with(endpoints: impl Display, args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flarectl"))
        .env_remove("ETCDCTL_ENDPOINTS")
        .env("FLARECTL_ENDPOINTS", endpoints.to_string())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read stdin may have closed it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn flarectl(endpoints: impl Display, args: &[&str]) -> Ran {
    flarectl_with(endpoints, args, b"")
}

const REFUSED: &str = "connection refused; is the server up? start one with `flaredb dev`";
const UNKNOWN: &str = "outcome unknown: the write may or may not have happened";

#[test]
fn a_closed_port_is_named_with_its_cause() {
    let at = closed_port();
    assert_eq!(flarectl(at, &["get", "a"]), ran(5, "", format!("Error: {at}: {REFUSED}\n")));
    assert_eq!(flarectl(at, &["put", "a", "b"]), ran(5, "", format!("Error: {at}: {REFUSED}\n")));
    let (one, two) = (closed_port(), closed_port());
    let both = format!("Error: no endpoint could be used:\n  {one}: {REFUSED}\n  {two}: {REFUSED}\n");
    assert_eq!(flarectl(format!("{one},{two}"), &["get", "a"]), ran(5, "", both));
}

#[test]
fn an_unknown_host_is_named() {
    let told = flarectl("no-such-host.invalid:2379", &["get", "a"]);
    assert_eq!(told.code, 5);
    let start = "Error: no-such-host.invalid:2379: cannot resolve the host name: ";
    assert!(told.err.starts_with(start), "{told:?}");
}

#[test]
fn a_stranger_on_the_port_is_recognized() {
    let table: [(&[u8], &str); 3] = [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "not an etcd v3 server: what it answers is not HTTP/2"),
        (
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            "not an etcd v3 server: it answers HTTP/1.1, not gRPC; is this the client port?",
        ),
        (
            b"\x15\x03\x01\x00\x02\x02\x46\x15\x03\x01\x00\x02",
            "the server speaks TLS, and https is not supported yet; use its http client URL if it has one",
        ),
    ];
    for (answer, cause) in table {
        let at = speaks(answer);
        for args in [&["get", "a"][..], &["put", "a", "b"]] {
            assert_eq!(flarectl(at, args), ran(5, "", format!("Error: {at}: {cause}\n")), "{args:?}");
        }
    }
}

#[test]
fn a_port_that_hangs_up_may_be_the_wrong_one() {
    let at = speaks(b"");
    let told = flarectl(at, &["put", "a", "b"]);
    assert_eq!(told.code, 6, "a server that is about to stop hangs up as well: {told:?}");
    assert!(told.err.starts_with(&format!("Error: {at}: ")), "{told:?}");
    assert!(told.err.ends_with(&format!("; is this the client port?\n{UNKNOWN}\n")), "{told:?}");
    assert_eq!(flarectl(at, &["get", "a"]).code, 5);
}

#[test]
fn wrong_usage_is_code_2_and_sends_nothing() {
    let fake = Fake::new(1);
    let at = fake.start();
    assert_eq!(
        flarectl("https://a:1", &["get", "a"]),
        ran(2, "", "Error: https://a:1: https is not supported yet; use the server's http client URL\n")
    );
    assert_eq!(
        flarectl(at, &["txn", "mod(a) >= 1", "--then", "put a b"]),
        ran(2, "", "Error: not a compare: mod(a) >= 1: between key and value stands one of = != < >\n")
    );
    assert_eq!(flarectl_with(at, &["txn"], b"\nput a\n"), ran(2, "", "Error: line 2: put needs a key and a value\n"));
    let told = flarectl(at, &["statsu"]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("a similar subcommand exists: 'status'"), "{told:?}");
    let told = flarectl(at, &["get", "a", "--command-timeout", "5"]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("a duration needs a unit: 5s or 5ms"), "{told:?}");
    assert_eq!(fake.calls(), 0);
}

#[test]
fn put_get_del_print_what_etcdctl_prints() {
    let at = Fake::new(1).start();
    let ok = |args: &[&str], out: &str| assert_eq!(flarectl(at, args), ran(0, out, ""), "{args:?}");
    ok(&["put", "hello", "world"], "OK\n");
    ok(&["put", "hello", "again", "--prev-kv"], "OK\nhello\nworld\n");
    ok(&["get", "hello"], "hello\nagain\n");
    ok(&["get", "hello", "--print-value-only"], "again\n");
    ok(&["get", "hello", "--hex"], "\\x68\\x65\\x6c\\x6c\\x6f\n\\x61\\x67\\x61\\x69\\x6e\n");
    ok(&["put", "svc/1", "-5"], "OK\n");
    ok(&["put", "svc/2", "b"], "OK\n");
    ok(&["get", "--prefix", "svc/"], "svc/1\n-5\nsvc/2\nb\n");
    ok(&["get", "svc/1", "svc/2"], "svc/1\n-5\n");
    ok(&["get", "--prefix", "svc/", "--keys-only"], "svc/1\nsvc/2\n");
    ok(&["get", "--prefix", "", "--count-only"], "3\n");
    ok(&["get", "", "--from-key", "--limit", "1"], "hello\nagain\n");
    ok(&["get", "none"], "");
    ok(&["del", "--prefix", "svc/", "--prev-kv"], "2\nsvc/1\n-5\nsvc/2\nb\n");
    ok(&["del", "none"], "0\n");
    ok(&["compact", "3"], "compacted revision 3\n");
    ok(&["compaction", "3", "--physical"], "compacted revision 3\n");
    assert_eq!(flarectl(at, &["get", "none", "--exists"]), ran(3, "", "Error: key not found\n"));
    assert_eq!(flarectl(at, &["get", "hello", "--exists"]), ran(0, "hello\nagain\n", ""));
}

#[test]
fn values_come_from_stdin_byte_for_byte() {
    let at = Fake::new(1).start();
    let value = b"two\nlines, \x00 a zero\n";
    assert_eq!(flarectl_with(at, &["put", "a", "-"], value), ran(0, "OK\n", ""));
    assert_eq!(flarectl(at, &["get", "a"]).out.as_bytes(), b"a\ntwo\nlines, \x00 a zero\n\n");
    assert_eq!(flarectl_with(at, &["put", "a"], b"short"), ran(0, "OK\n", ""));
    assert_eq!(flarectl(at, &["get", "a"]).out, "a\nshort\n");
}

#[test]
fn json_is_etcdctls() {
    let at = Fake::new(7).start();
    let header = |revision: i64| {
        format!(r#""header":{{"cluster_id":14841639068965178418,"member_id":7,"revision":{revision},"raft_term":2}}"#)
    };
    let ok = |args: &[&str], out: String| assert_eq!(flarectl(at, args), ran(0, out + "\n", ""), "{args:?}");
    ok(&["put", "hello", "world", "-w", "json"], format!("{{{}}}", header(2)));
    let kv = r#"{"key":"aGVsbG8=","create_revision":2,"mod_revision":2,"version":1,"value":"d29ybGQ="}"#;
    ok(&["get", "hello", "-w", "json"], format!("{{{},\"kvs\":[{kv}],\"count\":1}}", header(2)));
    ok(&["get", "hello", "-w", "jsonl"], kv.to_owned());
    let text = r#"{"key":"hello","create_revision":2,"mod_revision":2,"version":1,"value":"world"}"#;
    ok(&["get", "hello", "-w", "jsonl", "--decode", "utf8"], text.to_owned());
    ok(&["get", "none", "-w", "json"], format!("{{{}}}", header(2)));
    ok(
        &["txn", "version(hello) = 1", "--then", "put a b", "--then", "get hello", "-w", "json"],
        format!(
            "{{{},\"succeeded\":true,\"responses\":[{{\"Response\":{{\"response_put\":{{{}}}}}}},\
             {{\"Response\":{{\"response_range\":{{{},\"kvs\":[{kv}],\"count\":1}}}}}}]}}",
            header(3),
            header(3),
            header(3)
        ),
    );
    ok(&["del", "hello", "--prev-kv", "-w", "json"], format!("{{{},\"deleted\":1,\"prev_kvs\":[{kv}]}}", header(4)));
}

#[test]
fn txn_inline_and_from_stdin() {
    let at = Fake::new(1).start();
    let inline = ["txn", "version(\"hello\") = \"1\"", "--then", "put hello again", "--else", "get hello"];
    assert_eq!(flarectl(at, &inline), ran(0, "FAILURE\n\n", ""));
    assert_eq!(flarectl(at, &["put", "hello", "world"]).code, 0);
    assert_eq!(flarectl(at, &inline), ran(0, "SUCCESS\n\nOK\n", ""));
    assert_eq!(flarectl(at, &inline), ran(0, "FAILURE\n\nhello\nagain\n", ""));
    let stdin = b"value(\"hello\") = \"again\"\nversion(\"hello\") > \"1\"\n\nget hello\ndel hello\n\nget x\n\n";
    assert_eq!(flarectl_with(at, &["txn"], stdin), ran(0, "SUCCESS\n\nhello\nagain\n\n1\n", ""));
    let mut strict = inline.to_vec();
    strict.push("--require-success");
    let conflict = "Error: conflict: the compares did not hold, the else branch was taken\n";
    assert_eq!(flarectl(at, &strict), ran(7, "FAILURE\n\n", conflict));
    let prompts = "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\n";
    assert_eq!(flarectl_with(at, &["txn", "-i"], b"\nput a b\n\n\n"), ran(0, "SUCCESS\n\nOK\n", prompts));
}

#[test]
fn a_refusal_is_definite_and_has_the_servers_words() {
    let mut fake = Fake::new(1);
    let at = fake.start();
    assert_eq!(flarectl(at, &["put", "", "x"]), ran(4, "", format!("Error: {at}: etcdserver: key is not provided\n")));
    fake.kv_error = Some(Status::resource_exhausted("etcdserver: mvcc: database space exceeded"));
    let full = fake.start();
    let second = Fake::new(2);
    let told = flarectl(format!("{full},{}", second.start()), &["get", "a"]);
    assert_eq!(told, ran(4, "", format!("Error: {full}: etcdserver: mvcc: database space exceeded\n")));
    assert_eq!(second.calls(), 0, "a definite error is not asked for twice");
}

#[test]
fn a_connection_that_fails_sends_reads_and_writes_to_the_next_endpoint() {
    let fake = Fake::new(1);
    let endpoints = format!("{},{}", closed_port(), fake.start());
    assert_eq!(flarectl(&endpoints, &["put", "a", "b"]), ran(0, "OK\n", ""));
    assert_eq!(flarectl(&endpoints, &["get", "a"]), ran(0, "a\nb\n", ""));
    assert_eq!(fake.calls(), 2);
}

#[test]
fn only_reads_are_tried_again_when_a_member_is_unavailable() {
    let mut first = Fake::new(1);
    first.kv_error = Some(Status::unavailable("etcdserver: no leader"));
    let second = Fake::new(2);
    let at = first.start();
    let endpoints = format!("{at},{}", second.start());
    assert_eq!(flarectl(&endpoints, &["get", "a"]), ran(0, "", ""));
    assert_eq!(second.calls(), 1);
    // Without a leader nothing was proposed, so the outcome is known; it is left to the caller to try again.
    let told = flarectl(&endpoints, &["put", "a", "b"]);
    assert_eq!(told, ran(5, "", format!("Error: {at}: etcdserver: no leader\n")));
    assert_eq!(second.calls(), 1);

    first.kv_error = Some(Status::unavailable("etcdserver: request timed out"));
    let at = first.start();
    let told = flarectl(format!("{at},{}", second.start()), &["put", "a", "b"]);
    assert_eq!(told, ran(6, "", format!("Error: {at}: etcdserver: request timed out\n{UNKNOWN}\n")));
    assert_eq!(second.calls(), 1);
}

#[test]
fn a_server_that_dies_with_the_write_leaves_the_outcome_unknown() {
    let second = Fake::new(2);
    let at = dies_after_receiving(b"marker-key");
    let endpoints = format!("{at},{}", second.start());
    for args in [&["put", "marker-key", "b"][..], &["del", "marker-key"], &["txn", "--then", "put marker-key b"]] {
        let told = flarectl(&endpoints, args);
        assert_eq!(told.code, 6, "{told:?}");
        assert!(told.err.starts_with(&format!("Error: {at}: ")), "{told:?}");
        assert!(told.err.ends_with(&format!("\n{UNKNOWN}\n")), "{told:?}");
    }
    assert_eq!(second.calls(), 0, "a write that may have happened is not sent again");
    assert_eq!(flarectl(&endpoints, &["get", "marker-key"]), ran(0, "", ""), "a read is");
    let read_only = ["txn", "version(marker-key) = 0", "--then", "get a"];
    assert_eq!(flarectl(&endpoints, &read_only), ran(0, "SUCCESS\n\n", ""), "so is a transaction of reads");
    assert_eq!(second.calls(), 2);
}

#[test]
fn a_server_that_hangs_is_given_up_in_time() {
    let mut hung = Fake::new(1);
    hung.hangs = true;
    let at = hung.start();
    let told = flarectl(at, &["put", "a", "b", "--command-timeout", "200ms"]);
    assert_eq!(told, ran(6, "", format!("Error: {at}: no answer within 200ms\n{UNKNOWN}\n")));
    let told = flarectl(at, &["get", "a", "--command-timeout", "200ms"]);
    assert_eq!(told, ran(5, "", format!("Error: {at}: no answer within 200ms\n")));
    // The next endpoint gets its share of the time.
    let healthy = Fake::new(2);
    let told = flarectl(format!("{at},{}", healthy.start()), &["get", "a", "--command-timeout", "2s"]);
    assert_eq!(told, ran(0, "", ""));
}

/// Three members of which the third is down; the first leads, the second lags.
fn cluster() -> (String, [std::net::SocketAddr; 3]) {
    let listeners = [0; 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [listeners[0].local_addr().unwrap(), listeners[1].local_addr().unwrap(), closed_port()];
    let members: Vec<_> = (1..=3).zip(addresses).map(|(id, at)| member(0xa0 + id, &format!("n{id}"), at)).collect();
    for (id, listener) in (1..).zip(listeners) {
        let mut fake = Fake::new(0xa0 + id);
        fake.members.clone_from(&members);
        fake.leader = 0xa1;
        fake.applied = 21 - id;
        fake.serve(listener);
    }
    (addresses[1].to_string(), addresses)
}

#[test]
fn status_shows_every_member() {
    let (given, [one, two, three]) = cluster();
    let told = flarectl(&given, &["status"]);
    assert_eq!(told.code, 5, "{told:?}");
    assert_eq!(told.err, "Error: 1 of 3 did not answer or cannot serve\n");
    let rows: Vec<String> =
        told.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        rows[1],
        "| MEMBER | ID | ENDPOINT | ROLE | TERM | COMMIT | APPLIED | LAG | DB SIZE | VERSION | ERRORS |"
    );
    assert_eq!(rows[3], format!("| n1 | a1 | {one} | leader | 2 | 20 | 20 | 0 | 20 kB | 3.5.0 | |"));
    assert_eq!(rows[4], format!("| n2 | a2 | {two} | follower | 2 | 19 | 19 | 1 | 20 kB | 3.5.0 | |"));
    assert_eq!(rows[5], format!("| n3 | a3 | {three} | unreachable | | | | | | | connection refused |"));
    assert_eq!(rows.len(), 7);

    assert_eq!(
        flarectl(&given, &["endpoint", "status"]),
        ran(0, format!("{two}, a2, 3.5.0, 20 kB, false, false, 2, 19, 19, \n"), "")
    );
    let told = flarectl(&given, &["status", "-w", "jsonl"]);
    let lines: Vec<serde_json::Value> = told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["Status"]["raftIndex"], 20);
    assert_eq!(lines[0]["Status"]["header"]["member_id"], 0xa1);
    assert_eq!(lines[2]["Name"], "n3");
    assert_eq!(lines[2]["Error"], REFUSED);
}

#[test]
fn status_of_nobody_still_shows_the_endpoints() {
    let at = closed_port();
    let told = flarectl(at, &["status"]);
    assert_eq!((told.code, told.err.as_str()), (5, "Error: 1 of 1 did not answer or cannot serve\n"));
    assert!(told.out.contains(&at.to_string()) && told.out.contains("connection refused"), "{told:?}");
}

#[test]
fn member_list_health_and_hash() {
    let (given, [one, two, three]) = cluster();
    let list = format!(
        "a1, started, n1, http://n1:2380, http://{one}, false\n\
         a2, started, n2, http://n2:2380, http://{two}, false\n\
         a3, started, n3, http://n3:2380, http://{three}, false\n"
    );
    assert_eq!(flarectl(&given, &["member", "list"]), ran(0, list, ""));
    let told = flarectl(&given, &["member", "list", "-w", "json"]);
    let json: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(json["members"][0]["ID"], 0xa1);
    assert_eq!(json["members"][2]["clientURLs"][0], format!("http://{three}"));

    let told = flarectl(&given, &["endpoint", "health"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.starts_with(&format!("{two} is healthy: served a linearizable read: took = ")), "{told:?}");
    let told = flarectl(&given, &["health"]);
    assert_eq!(told.code, 5);
    assert!(told.out.contains(&format!("{three} is unhealthy: {REFUSED}\n")), "{told:?}");

    // The members are at revisions 20 and 19; both can answer for 19.
    let told = flarectl(&given, &["hash"]);
    assert_eq!(told.code, 5, "the third did not answer: {told:?}");
    let rows: Vec<String> =
        told.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows[3], format!("| n1 | {one} | 7 | 19 | 1 | |"));
    assert_eq!(rows[4], format!("| n2 | {two} | 7 | 19 | 1 | |"));
    assert_eq!(flarectl(&given, &["endpoint", "hashkv"]), ran(0, format!("{two}, 7\n"), ""));
}

#[test]
fn members_with_different_data_are_found() {
    let (one, mut two) = (Fake::new(1), Fake::new(2));
    two.hash = 8;
    let (one, two) = (one.start(), two.start());
    let told = flarectl(format!("{one},{two}"), &["hash", "--endpoints-only", "-w", "simple"]);
    let error = format!("Error: {one} and {two} have different data at revision 20\n");
    assert_eq!(told, ran(1, format!("{one}, 7\n{two}, 8\n"), error));
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let at = Fake::new(1).start();
    // More than a pipe holds, so that the write must fail.
    let value = "x".repeat(60_000);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(flarectl(at, &["put", key, &value]).code, 0);
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_flarectl"))
        .args(["get", "--prefix", "", "--endpoints", &at.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn endpoints_come_from_the_environment() {
    let at = Fake::new(1).start();
    let run = |flare: &str, etcd: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flarectl"));
        command.env("FLARECTL_ENDPOINTS", flare).env("ETCDCTL_ENDPOINTS", etcd).args(["put", "a", "b"]);
        command.stdin(Stdio::null()).output().unwrap().status.code()
    };
    let (good, closed) = (at.to_string(), closed_port().to_string());
    assert_eq!(run(&good, &closed), Some(0));
    assert_eq!(run("", &good), Some(0));
    assert_eq!(run(&closed, &good), Some(5));
}

/// A short `bench` with few keys, as JSON.
fn short_bench(endpoints: impl Display, workload: &[&str]) -> serde_json::Value {
    let mut args = vec!["bench"];
    args.extend(workload);
    args.extend(["--clients", "4", "--keys", "120", "--duration", "300ms", "--warmup", "0", "-w", "json"]);
    let told = flarectl(endpoints, &args);
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{told:?}");
    serde_json::from_str(&told.out).unwrap()
}

#[test]
fn a_bench_says_what_came_of_it_and_leaves_nothing() {
    let (one, two) = (Fake::new(1), Fake::new(2));
    let at = one.start();
    let workloads: [&[&str]; 6] = [
        &["put"],
        &["get", "--value-size", "70000"],
        &["mixed"],
        &["cas"],
        &["txn", "--puts", "20"],
        &["scan", "--scan-keys", "50", "--connections", "2"],
    ];
    assert_eq!(flarectl(at, &["put", "flarectl-bench/0000000120", "not ours"]).code, 0);
    for workload in workloads {
        let json = short_bench(at, workload);
        assert_eq!(json["workload"], workload[0]);
        assert!(json["operations"].as_u64().unwrap() > 0 && json["rate"].as_f64().unwrap() > 0.0, "{json}");
        assert!(json["latency_ms"]["p50"].as_f64().unwrap() > 0.0, "{json}");
        assert_eq!(json["errors"], 0, "{json}");
        let counts = json["histogram"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), json["operations"].as_u64().unwrap());
        assert_eq!(flarectl(at, &["get", "--prefix", "", "--count-only"]).out, "1\n", "{workload:?}");
    }
    // Kept keys, which the next run finds there; all endpoints are asked.
    let both = format!("{at},{}", two.start());
    let json = short_bench(at, &["mixed", "--keep", "--prefix", "kept-"]);
    assert_eq!(json["errors"], 0, "{json}");
    assert_eq!(flarectl(at, &["get", "--prefix", "kept-", "--count-only"]).out, "120\n");
    let calls = two.calls();
    assert_eq!(short_bench(both, &["put", "--prefix", "kept-"])["endpoints"], 2);
    assert!(two.calls() > calls + 1, "more than the first read");
    assert_eq!(flarectl(at, &["get", "--prefix", "kept-", "--count-only"]).out, "0\n");
}

#[test]
fn a_bench_at_a_rate_for_people() {
    let at = Fake::new(1).start();
    let told = flarectl(at, &["bench", "put", "--rate", "200", "--duration", "300ms", "--warmup", "0"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{told:?}");
    assert!(
        told.out.starts_with("put: 200 calls a second, 1 endpoint, 1 connection to each, 10000 keys, "),
        "{told:?}"
    );
    assert!(told.out.contains(" op/s of 200 asked for\n") && told.out.contains("\nlatency up to"), "{told:?}");
    let told = flarectl(at, &["bench", "cas", "--clients", "2", "--duration", "300ms", "--warmup", "0", "-w", "table"]);
    assert!(told.code == 0 && told.out.contains("| cas      |"), "{told:?}");
}

#[test]
fn a_bench_that_cannot_be_made() {
    let fake = Fake::new(1);
    let at = fake.start();
    let refused = |endpoints: &str, args: &[&str], why: &str| {
        let told = flarectl(endpoints, &[&["bench"], args].concat());
        assert_eq!((told.code, told.out.as_str()), (2, ""), "{told:?}");
        assert!(told.err.contains(why), "{told:?}");
    };
    refused(&at.to_string(), &["put", "--clients", "0"], "0 is not in 1..=10000");
    refused(&at.to_string(), &["put", "--puts", "2"], "--puts goes with txn only");
    refused(&at.to_string(), &["delete"], "invalid value 'delete'");
    refused(&format!("{at}, https://a:1"), &["put"], "https://a:1: TLS is not supported by bench");
    assert_eq!(fake.calls(), 0);

    // One of two is down: both have to answer before anything is written.
    let closed = closed_port();
    let told = flarectl(format!("{at},{closed}"), &["bench", "put"]);
    assert_eq!(told, ran(5, "", format!("Error: {closed}: {REFUSED}\n")));
    let stranger = speaks(b"SSH-2.0-OpenSSH_9.2p1\r\n");
    let told = flarectl(stranger, &["bench", "get"]);
    assert_eq!((told.code, told.err.starts_with(&format!("Error: {stranger}: not an etcd v3 server"))), (5, true));

    // Reads are served, writes are not: the endpoint and the server's words are named, and the exit code is "other".
    let mut full = Fake::new(3);
    full.write_error = Some(Status::resource_exhausted("etcdserver: mvcc: database space exceeded"));
    let full = full.start();
    for workload in ["put", "get"] {
        let told = flarectl(full, &["bench", workload, "--clients", "2", "--duration", "300ms", "--warmup", "0"]);
        assert_eq!(told.code, 1, "{told:?}");
        let cause = format!("{full}: gRPC status 8: etcdserver: mvcc: database space exceeded");
        assert!(told.err.starts_with("Error: ") && told.err.contains(&cause), "{told:?}");
    }
}

#[test]
fn help_version_and_completions() {
    let told = flarectl("a", &["--help"]);
    assert_eq!(told.code, 0);
    assert!(told.out.contains("6  outcome unknown"), "{told:?}");
    assert_eq!(flarectl("a", &["version"]).out, format!("flarectl {}\nAPI etcd v3\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        let told = flarectl("a", &["completions", shell]);
        assert!(told.code == 0 && told.out.contains("flarectl"), "{shell}");
    }
}
