//! One `flaredb` process, from its first log line to its exit code.

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
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};
use support::free_port;

const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    /// Its log: JSON, because its standard error is no terminal.
    records: Receiver<serde_json::Value>,
}

impl Server {
    /// A cluster of one.
    fn start(folder: &Path, ports: [u16; 2], more: &[&str]) -> Self {
        let [client, peer] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_flaredb"))
            .arg("--data-dir")
            .arg(folder)
            .args(["--listen-client-urls", &client, "--listen-peer-urls", &peer])
            .args(["--heartbeat-interval=20", "--election-timeout=200"])
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("flaredb starts");
        let records = records(child.stderr.take().unwrap());
        Self { child, records }
    }

    fn record(&self, words: &str) -> serde_json::Value {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.records.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(record) if record["msg"].as_str().unwrap().contains(words) => return record,
                Ok(record) => seen.push(record),
                Err(error) => panic!("no record with {words:?} ({error}): {seen:#?}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the process does not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn records(stderr: ChildStderr) -> Receiver<serde_json::Value> {
    let (sender, records) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let record: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| serde_json::json!({ "msg": line }));
            if sender.send(record).is_err() {
                return;
            }
        }
    });
    records
}

/// Ready, stopped by a signal, started again as a member that exists.
#[test]
fn a_server_says_when_it_is_ready_and_ends_with_0_when_asked_to() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let ports = [free_port(), free_port()];
    let mut server = Server::start(&folder, ports, &[]);
    let first = server.record("starting FlareDB");
    assert_eq!((&first["level"], &first["name"]), (&"info".into(), &"default".into()), "{first}");
    assert!(first["caller"].as_str().unwrap().contains("main.rs:"), "{first}");
    for words in ["enabled capabilities for version", "published", "ready to serve client requests"] {
        server.record(words);
    }
    server.signal("-TERM");
    assert_eq!(server.record("stopping")["signal"], "SIGTERM");
    assert_eq!(server.exit_code(), Some(0));

    let mut server = Server::start(&folder, ports, &["--initial-cluster-state=existing"]);
    server.record("ready to serve client requests");
    server.signal("-INT");
    assert_eq!(server.record("stopping")["signal"], "SIGINT");
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn another_tokens_folder_is_refused_with_1_and_one_line() {
    let temp = tempfile::tempdir().unwrap();
    let ports = [free_port(), free_port()];
    let mut server = Server::start(temp.path(), ports, &[]);
    server.record("ready to serve client requests");
    server.signal("-KILL");
    server.exit_code();
    let mut server = Server::start(temp.path(), ports, &["--initial-cluster-token=other"]);
    let record = server.record("flaredb: cannot start: ");
    let text = record["msg"].as_str().unwrap();
    assert!(text.contains("belongs to cluster") && text.contains("--initial-cluster-token"), "{text}");
    assert_eq!(server.exit_code(), Some(1));
}
