//! Settings as operators write them: what comes out, and the exact error for each slip.

use super::*;
use crate::config::{Invocation, parse};
use std::{collections::BTreeMap, ffi::OsString};

const THREE: &str = "n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380";

fn run(arguments: &[&str]) -> Result<Settings, ConfigError> {
    match parse(arguments.iter().map(OsString::from), &BTreeMap::new())? {
        Invocation::Server(settings) => Ok(*settings),
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn error(arguments: &[&str]) -> String {
    match run(arguments) {
        Ok(settings) => panic!("{arguments:?} was accepted: {settings:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn without_flags_one_member_on_etcds_ports() {
    let settings = run(&[]).unwrap();
    assert_eq!(
        settings.node,
        NodeConfig {
            name: "default".into(),
            data_dir: "./default.flaredb".into(),
            listen_client: vec!["127.0.0.1:2379".parse().unwrap()],
            advertise_client_urls: vec!["http://localhost:2379".into()],
            listen_peer: vec!["127.0.0.1:2380".parse().unwrap()],
            initial_cluster: vec![("default".into(), vec!["http://localhost:2380".into()])],
            initial_cluster_token: "etcd-cluster".into(),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1_000),
            lease_reads: false,
            snapshot_count: 100_000,
            quota_backend_bytes: None,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            storage_profile: StorageProfile::Server,
        }
    );
    assert_eq!(settings.log, LogConfig { level: Level::INFO, format: None, outputs: vec![LogOutput::Stderr] });
    assert_eq!(settings.notices, []);
}

#[test]
fn a_member_of_three_needs_no_more_than_its_addresses_and_the_list() {
    let node = run(&[
        "--name=n2",
        "--data-dir=/var/lib/flaredb",
        "--listen-client-urls=http://0.0.0.0:2379",
        "--advertise-client-urls=http://n2.example:2379",
        "--listen-peer-urls=http://0.0.0.0:2380",
        "--initial-cluster",
        THREE,
        "--quota-backend-bytes=8GiB",
    ])
    .unwrap()
    .node;
    assert_eq!(node.initial_cluster.len(), 3);
    assert_eq!(node.listen_peer, ["0.0.0.0:2380".parse().unwrap()]);
    assert_eq!(node.advertise_client_urls, ["http://n2.example:2379"]);
    assert_eq!(node.quota_backend_bytes, Some(8 << 30));
    let identity =
        crate::identity::ClusterIdentity::new(&node.name, &node.initial_cluster, &node.initial_cluster_token);
    assert_eq!(identity.unwrap().members.len(), 3);
}

#[test]
fn the_name_must_be_in_the_list() {
    assert_eq!(
        error(&["--name=n4", "--initial-cluster", THREE]),
        "--name=\"n4\" is not in the initial cluster, which has n1, n2, n3; set --name to one of them, or add \
         n4=http://host:2380 to --initial-cluster on all members"
    );
    assert!(
        error(&["--initial-cluster", THREE]).starts_with("--name (default)=\"default\" is not in the initial cluster")
    );
}

#[test]
fn what_is_advertised_to_peers_must_match_the_list() {
    let advertise = |url| {
        run(&["--name=n1", "--initial-cluster", THREE, "--initial-advertise-peer-urls", url])
            .map(|settings| settings.node)
            .map_err(|error| error.to_string())
    };
    assert!(advertise("http://10.0.0.1:2380/").is_ok());
    assert_eq!(
        advertise("http://10.0.0.9:2380").unwrap_err(),
        "--initial-advertise-peer-urls=\"http://10.0.0.9:2380\" does not match the initial cluster, where n1 has \
         \"http://10.0.0.1:2380\"; make them equal, or leave --initial-advertise-peer-urls out"
    );
}

#[test]
fn listening_everywhere_needs_an_address_to_advertise() {
    assert_eq!(
        error(&["--listen-client-urls=http://0.0.0.0:2379"]),
        "--listen-client-urls: \"http://0.0.0.0:2379\" is no address that others can connect to; add \
         --advertise-client-urls http://HOST:PORT with the name or address by which they reach this machine"
    );
    assert!(error(&["--listen-peer-urls=http://[::]:2380"]).contains("add --initial-advertise-peer-urls"));
    assert!(error(&["--listen-client-urls=http://127.0.0.1:0"]).contains("add --advertise-client-urls"));
    assert_eq!(
        error(&["--advertise-client-urls=http://0.0.0.0:2379"]),
        "--advertise-client-urls: \"http://0.0.0.0:2379\": it stands for all addresses, so others cannot connect to \
         it; write the name or address of this machine"
    );
}

#[test]
fn tls_is_refused_wherever_it_is_asked_for() {
    for flag in ["listen-client-urls", "advertise-client-urls", "listen-peer-urls", "initial-advertise-peer-urls"] {
        assert_eq!(
            error(&[&format!("--{flag}=https://127.0.0.1:2379")]),
            format!(
                "--{flag}: \"https://127.0.0.1:2379\": https is not supported yet; use http:// on a network that only \
                 the members and their clients can reach"
            )
        );
    }
}

#[test]
fn the_election_timeout_is_at_least_five_heartbeats() {
    assert!(run(&["--heartbeat-interval=200", "--election-timeout=1000"]).is_ok());
    assert_eq!(
        error(&["--heartbeat-interval=201ms"]),
        "--election-timeout (default)=1000ms is less than 5 times the heartbeat interval (201ms); raise \
         --election-timeout to at least 1005ms or lower --heartbeat-interval"
    );
    assert!(error(&["--election-timeout=51s"]).contains("write at most 50s"));
    assert!(error(&["--heartbeat-interval=fast"]).contains("not a duration"));
}

#[test]
fn limits() {
    let quota = |text: &str| run(&[&format!("--quota-backend-bytes={text}")]).unwrap().node.quota_backend_bytes;
    assert_eq!(quota("0"), None);
    assert_eq!(quota("-1"), None);
    assert_eq!(quota("1048576"), Some(1 << 20));
    assert_eq!(run(&["--quota-backend-bytes=16GiB"]).unwrap().notices, []);
    assert_eq!(run(&["--max-request-bytes=10MiB"]).unwrap().notices, []);
    assert_eq!(run(&["--max-request-bytes=11MiB"]).unwrap().notices.len(), 1);
    for bad in ["0", "-1", "1GiB"] {
        assert!(error(&[&format!("--max-request-bytes={bad}")]).contains("out of range"), "{bad}");
    }
    assert_eq!(error(&["--max-txn-ops=0"]), "--max-txn-ops=\"0\": out of range; write a whole number from 1 to 100000");
    assert!(error(&["--snapshot-count=0"]).contains("out of range"));
}

/// The peers' handshake has room for so much, and asserts that nothing longer gets there.
#[test]
fn a_name_is_at_most_1_kib() {
    assert_eq!(run(&["--name", &"n".repeat(1024)]).unwrap().node.name.len(), 1024);
    assert!(error(&["--name", &"n".repeat(1025)]).ends_with("not a member name; write one of at most 1024 bytes"));
}

#[test]
fn names_that_would_break_the_list() {
    for bad in ["a=b", "a,b", "../a", " a"] {
        assert_eq!(
            error(&["--name", bad]),
            format!("--name={bad:?}: not a member name; write one without '=', ',', '/' and spaces around it")
        );
    }
}

#[test]
fn an_existing_member_does_not_start_without_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(
        error(&["--data-dir", path, "--initial-cluster-state=existing"]),
        format!(
            "--initial-cluster-state=existing, but {path} holds no data of this member; a voter that lost its data may \
             not vote as if it were new: mount the right folder, or correct --data-dir. Only if the whole cluster has \
             never run: --initial-cluster-state new"
        )
    );
    std::fs::create_dir(folder.path().join("member")).unwrap();
    assert!(run(&["--data-dir", path, "--initial-cluster-state=existing"]).is_ok());
    assert_eq!(
        error(&["--initial-cluster-state=old"]),
        "--initial-cluster-state=\"old\": unknown; choose new, existing"
    );
}

#[test]
fn etcds_folder_is_left_alone_at_any_depth() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("member/wal")).unwrap();
    for inside in [folder.path().to_path_buf(), folder.path().join("member/flaredb")] {
        assert_eq!(
            error(&["--data-dir", inside.to_str().unwrap()]),
            format!(
                "--data-dir: {} lies in a data folder of etcd, whose format FlareDB does not read; choose another \
                 folder and copy the keys with a client (etcdctl make-mirror)",
                inside.display()
            )
        );
    }
}

#[test]
fn logs() {
    let log = |arguments: &[&str]| run(arguments).map(|settings| settings.log).map_err(|error| error.to_string());
    assert_eq!(log(&["--log-level=debug"]).unwrap().level, Level::DEBUG);
    assert_eq!(log(&["--log-level=fatal"]).unwrap().level, Level::ERROR);
    assert_eq!(
        log(&["--log-level=loud"]).unwrap_err(),
        "--log-level=\"loud\": unknown; choose trace, debug, info, warn, error, dpanic, panic, fatal"
    );
    assert_eq!(
        log(&["--log-outputs=stdout,/tmp/x.log,default,stderr"]).unwrap().outputs,
        [LogOutput::Stdout, LogOutput::File("/tmp/x.log".into()), LogOutput::Stderr]
    );
    assert!(log(&["--log-outputs=stdout,"]).is_err());
    assert_eq!(log(&["--log-format=json"]).unwrap().format, Some(LogFormat::Json));
    assert!(log(&["--logger=zap"]).is_ok());
    assert_eq!(log(&["--logger=capnslog"]).unwrap_err(), "--logger=\"capnslog\": unknown; choose zap");
}
