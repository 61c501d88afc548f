//! An unmodified etcdctl works against three FlareDB processes. Uses the `etcdctl` on the PATH (Debian's etcd-client), or the one
//! that ETCDCTL names. FLAREDB_SKIP_ETCDCTL=1 leaves it out, on purpose and visibly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};
use support::Cluster;

struct Etcdctl {
    program: String,
    endpoints: String,
}

impl Etcdctl {
    fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        self.run_with_input(arguments, "")
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> (bool, String, String) {
        let mut child = Command::new(&self.program)
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.endpoints))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; install Debian's etcd-client, or set ETCDCTL, or FLAREDB_SKIP_ETCDCTL=1",
                    self.program
                )
            });
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("input");
        let output = child.wait_with_output().expect("etcdctl ends");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Runs a command that must succeed; gives what it printed.
    fn ok(&self, arguments: &[&str]) -> String {
        let (success, stdout, stderr) = self.run(arguments);
        assert!(success, "etcdctl {arguments:?} failed: {stdout}{stderr}");
        stdout
    }
}

#[tokio::test]
async fn put_get_del_txn_compaction_status_health_and_member_list_work_from_etcdctl() {
    if std::env::var("FLAREDB_SKIP_ETCDCTL").is_ok_and(|value| value == "1") {
        println!("left out: FLAREDB_SKIP_ETCDCTL=1");
        return;
    }
    let cluster = Cluster::start(&[]);
    cluster.wait_ready(Duration::from_secs(30)).await;
    let one = cluster.endpoint(0).replace("http://", "");
    let etcdctl =
        Etcdctl { program: std::env::var("ETCDCTL").unwrap_or_else(|_| "etcdctl".to_owned()), endpoints: one };

    assert_eq!(etcdctl.ok(&["put", "a/1", "one"]), "OK\n");
    assert_eq!(etcdctl.ok(&["put", "a/2", "two"]), "OK\n");
    assert_eq!(etcdctl.ok(&["put", "b", "three"]), "OK\n");
    assert_eq!(etcdctl.ok(&["get", "a/1"]), "a/1\none\n");
    assert_eq!(etcdctl.ok(&["get", "--prefix", "a/"]), "a/1\none\na/2\ntwo\n");
    assert_eq!(etcdctl.ok(&["get", "--prefix", "a/", "--keys-only", "--limit=1"]).trim(), "a/1");
    assert_eq!(etcdctl.ok(&["put", "--prev-kv", "b", "four"]), "OK\nb\nthree\n");
    assert_eq!(etcdctl.ok(&["get", "b", "--rev=4", "--print-value-only"]), "three\n");
    assert_eq!(etcdctl.ok(&["del", "a/1"]), "1\n");
    assert_eq!(etcdctl.ok(&["del", "--prefix", "nothing/"]), "0\n");

    let (success, stdout, stderr) =
        etcdctl.run_with_input(&["txn"], "value(\"b\") = \"four\"\n\nput c five\nget b\n\nput c six\n\n");
    assert!(success, "txn: {stderr}");
    assert!(stdout.contains("SUCCESS") && stdout.contains("OK") && stdout.contains("four"), "txn printed {stdout}");
    assert_eq!(etcdctl.ok(&["get", "c", "--print-value-only"]), "five\n");

    let printed = etcdctl.ok(&["compaction", "5"]);
    assert!(printed.contains("compacted revision 5"), "compaction printed {printed}");
    let (success, _, stderr) = etcdctl.run(&["get", "b", "--rev=3"]);
    assert!(!success && stderr.contains("mvcc: required revision has been compacted"), "old revision: {stderr}");
    let (success, _, stderr) = etcdctl.run(&["get", "b", "--rev=9999"]);
    assert!(!success && stderr.contains("mvcc: required revision is a future revision"), "future revision: {stderr}");

    let status = etcdctl.ok(&["endpoint", "status", "--cluster"]);
    assert_eq!(status.lines().count(), 3, "endpoint status --cluster printed {status}");
    assert_eq!(
        status.lines().filter(|line| line.split(", ").nth(4) == Some("true")).count(),
        1,
        "one leader in {status}"
    );
    let (success, stdout, stderr) = etcdctl.run(&["endpoint", "health", "--cluster"]);
    assert!(success, "endpoint health: {stdout}{stderr}");
    assert_eq!(
        format!("{stdout}{stderr}").matches("is healthy").count(),
        3,
        "endpoint health printed {stdout}{stderr}"
    );
    let members = etcdctl.ok(&["member", "list"]);
    assert_eq!(members.lines().count(), 3, "member list printed {members}");
    for name in ["n1", "n2", "n3"] {
        assert!(members.contains(&format!("started, {name}, http://127.0.0.1:")), "member list printed {members}");
    }
}
