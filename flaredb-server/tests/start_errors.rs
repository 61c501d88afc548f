//! Starts that must be refused, with a text that says what to change, and without leaving anything behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod in_process;

use flaredb_server::{
    config::NodeConfig,
    node::{self, StartError},
};
use flaredb_storage::OpenError;
use in_process::{free_port, local, put_surely, read};
use std::net::TcpListener;
use tempfile::TempDir;

fn one(dirs: &TempDir, token: &str) -> NodeConfig {
    in_process::configs(1, dirs, token).remove(0)
}

fn refusal(config: &NodeConfig) -> StartError {
    match node::start(config.clone()) {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let dirs = TempDir::new().unwrap();
    let config = one(&dirs, "test");
    for (taken, flag) in
        [(config.listen_peer[0], "--listen-peer-urls"), (config.listen_client[0], "--listen-client-urls")]
    {
        let _taken = TcpListener::bind(taken).unwrap();
        let text = refusal(&config).to_string();
        assert!(text.contains(&taken.to_string()) && text.contains(flag), "{text}");
    }
    // Nothing was kept, neither a port nor a folder.
    assert!(!config.data_dir.exists());
    node::start(config).unwrap().stop().unwrap();
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_its_owner_is_not_disturbed() {
    let dirs = TempDir::new().unwrap();
    let config = one(&dirs, "test");
    let node = node::start(config.clone()).unwrap();
    let port = free_port();
    let client_port = free_port();
    let second =
        NodeConfig { listen_peer: vec![local(port)], listen_client: vec![local(client_port)], ..config.clone() };
    assert!(matches!(refusal(&second), StartError::Open(OpenError::Locked { .. })));
    assert!(TcpListener::bind(local(port)).is_ok(), "the refused start has given its ports back");
    put_surely(&node.handle(), "k", "v").await;
    assert_eq!(read(&node.handle(), "k").await.as_deref(), Some("v"));
    node.kill();
    node::start(config).unwrap().kill();
}

#[test]
fn another_cluster_s_folder_is_refused() {
    let dirs = TempDir::new().unwrap();
    let config = one(&dirs, "first");
    node::start(config.clone()).unwrap().stop().unwrap();
    let other = NodeConfig { initial_cluster_token: "second".to_owned(), ..config.clone() };
    let error = refusal(&other);
    assert!(matches!(error, StartError::Open(OpenError::Identity { what: "cluster", .. })), "{error}");
    assert!(error.to_string().contains("--initial-cluster-token"), "{error}");
    node::start(config).unwrap().stop().unwrap();
}

#[test]
fn another_member_s_folder_is_refused() {
    let dirs = TempDir::new().unwrap();
    let [first, second, _] = <[NodeConfig; 3]>::try_from(in_process::configs(3, &dirs, "test")).unwrap();
    node::start(first.clone()).unwrap().stop().unwrap();
    let error = refusal(&NodeConfig { data_dir: first.data_dir, ..second });
    assert!(matches!(error, StartError::Open(OpenError::Identity { what: "member", .. })), "{error}");
}

#[test]
fn a_name_that_is_no_member_is_refused() {
    let dirs = TempDir::new().unwrap();
    let error = refusal(&NodeConfig { name: "stranger".to_owned(), ..one(&dirs, "test") });
    assert!(error.to_string().contains("--name"), "{error}");
}

#[test]
fn a_peer_url_that_cannot_be_dialled_is_refused() {
    let dirs = TempDir::new().unwrap();
    for (url, hint) in [("https://127.0.0.1:1", "TLS"), ("127.0.0.1:1", "http://host:port")] {
        let mut config = one(&dirs, "test");
        config.initial_cluster.push(("other".to_owned(), vec![url.to_owned()]));
        let text = refusal(&config).to_string();
        assert!(text.contains(url) && text.contains(hint), "{text}");
    }
}
