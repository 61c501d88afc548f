//! The binary `flaredb` as an operator meets it: what it prints and with which code it ends, without a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use std::{
    fs,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

/// Runs to its end, with an environment of its own.
fn flaredb(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flaredb"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("flaredb runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Ends with `code` and says `error` on standard error, after its name and nothing else.
fn fails(arguments: &[&str], variables: &[(&str, &str)], code: i32, error: &str) {
    let output = flaredb(arguments, variables);
    assert_eq!(text(&output.stderr), format!("flaredb: {error}\n"), "{arguments:?}");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn version_and_help() {
    let output = flaredb(&["--version"], &[]);
    assert_eq!(text(&output.stdout), format!("flaredb {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(output.status.code(), Some(0));
    let output = flaredb(&["-help"], &[]);
    let help = text(&output.stdout);
    for word in ["--initial-cluster <NAME=URL,...>", "dev", "Three hosts", "Exit codes", "FLAREDB_DATA_DIR"] {
        assert!(help.contains(word), "{word} is missing:\n{help}");
    }
    assert!(!help.contains("--cert-file"), "only what works is shown");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn completions_for_a_shell() {
    let output = flaredb(&["completions", "bash"], &[]);
    assert!(text(&output.stdout).contains("--initial-cluster"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn wrong_flags_end_with_2_and_one_line() {
    fails(
        &["--intial-cluster", "x"],
        &[],
        2,
        "unknown flag --intial-cluster; did you mean --initial-cluster?; `flaredb --help` lists all",
    );
    fails(
        &["--name", "n1", "--initial-cluster", "n1=http://127.0.0.1:2380,n2"],
        &[],
        2,
        "--initial-cluster: \"n2\": the '=' between name and URL is missing; write \
         n1=http://host1:2380,n2=http://host2:2380,n3=http://host3:2380",
    );
    fails(
        &["-listen-client-urls=https://127.0.0.1:2379"],
        &[],
        2,
        "--listen-client-urls: \"https://127.0.0.1:2379\": https is not supported yet; use http:// on a network that \
         only the members and their clients can reach",
    );
    fails(
        &[],
        &[("ETCD_CERT_FILE", "/etc/cert.pem")],
        2,
        "ETCD_CERT_FILE (environment)=/etc/cert.pem: refused: TLS is not supported yet, and without it the traffic \
         would be in the clear",
    );
    fails(
        &[],
        &[("FLAREDB_ELECTION_TIMEOUT", "300"), ("ETCD_ELECTION_TIMEOUT", "1000")],
        2,
        "FLAREDB_ELECTION_TIMEOUT (environment)=300ms is less than 5 times the heartbeat interval (100ms); raise \
         --election-timeout to at least 500ms or lower --heartbeat-interval",
    );
}

#[test]
fn a_log_file_that_cannot_be_opened_ends_with_1() {
    let output = flaredb(&["--log-outputs=/nonexistent/flaredb.log"], &[]);
    assert!(
        text(&output.stderr).starts_with("flaredb: cannot open the log file /nonexistent/flaredb.log: No such file")
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_taken_port_ends_with_1_and_the_flag_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("flaredb.log");
    let output = flaredb(
        &[
            "--data-dir",
            folder.path().join("data").to_str().unwrap(),
            "--log-outputs",
            log.to_str().unwrap(),
            &format!("--listen-peer-urls=http://127.0.0.1:{port}"),
            "--unsafe-no-fsync",
        ],
        &[("ETCD_NAME", "n7"), ("FLAREDB_QOUTA_BACKEND_BYTES", "1")],
    );
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("flaredb: cannot start: cannot listen on 127.0.0.1:"), "{stderr}");
    assert!(stderr.contains("--listen-peer-urls") && stderr.matches('\n').count() == 1, "{stderr}");
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.path().join("data").exists(), "a start that fails on its ports leaves no folder behind");

    // What the operator should know about the settings is in the log, as JSON.
    let records: Vec<serde_json::Value> =
        fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said =
        |level: &str, message: &str| records.iter().any(|record| record["level"] == level && record["msg"] == message);
    assert!(said("info", "starting FlareDB"), "{records:?}");
    assert!(said("info", "--name=n7 comes from ETCD_NAME (environment)"), "{records:?}");
    assert!(
        said("warn", "--unsafe-no-fsync=true is ignored: FlareDB always syncs what it acknowledges"),
        "{records:?}"
    );
    assert!(
        said(
            "warn",
            "FLAREDB_QOUTA_BACKEND_BYTES (environment) is no setting of the server and is ignored; did you mean \
             FLAREDB_QUOTA_BACKEND_BYTES?"
        ),
        "{records:?}"
    );
}

#[test]
fn orders_to_a_dev_cluster_that_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for words in [&["status"][..], &["kill", "leader"], &["start", "n1"], &["stop"]] {
        let arguments: Vec<&str> = ["dev"].iter().chain(words).chain(&["--data-dir", path]).copied().collect();
        fails(
            &arguments,
            &[],
            1,
            &format!("no dev cluster is running on {path}; start one with `flaredb dev --data-dir {path}`"),
        );
    }
}
