//! The arrows of ARCHITECTURE.md, proved on `cargo metadata`: which crate of ours depends on which, and that the
//! deterministic layers never see a runtime, gRPC, RocksDB, a clock crate or a random number generator.

use flaredb_checks::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::{env, process::Command};

fn metadata() -> Value {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Package name -> names of its normal (not dev, not build) dependencies.
fn normal_dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().expect("packages");
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (package["id"].as_str().expect("id"), package["name"].as_str().expect("name")))
        .collect();
    let mut graph = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
        let mut dependencies = BTreeSet::new();
        for dependency in node["deps"].as_array().expect("deps") {
            let normal = dependency["dep_kinds"].as_array().expect("kinds").iter().any(|kind| kind["kind"].is_null());
            if normal {
                dependencies.insert(names[dependency["pkg"].as_str().expect("pkg")].to_owned());
            }
        }
        graph.insert(names[node["id"].as_str().expect("id")].to_owned(), dependencies);
    }
    graph
}

fn reachable(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        for next in &graph[&name] {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn our_crates_depend_on_each_other_only_along_the_arrows() {
    let graph = normal_dependencies(&metadata());
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("flaredb-mutants", &[][..]),
        ("flaredb-raft", &[]),
        ("flaredb-kv", &[]),
        ("flaredb-replica", &["flaredb-raft", "flaredb-kv"]),
        ("flaredb-record", &["flaredb-raft"]),
        ("flaredb-sim", &["flaredb-raft", "flaredb-kv", "flaredb-replica", "flaredb-record"]),
        (
            "flaredb-fuzz",
            &["flaredb-raft", "flaredb-kv", "flaredb-replica", "flaredb-record", "flaredb-sim", "flaredb-server"],
        ),
        ("flaredb-storage", &["flaredb-raft", "flaredb-kv", "flaredb-record"]),
        ("flaredb-proto", &[]),
        ("flaredb-server", &["flaredb-raft", "flaredb-kv", "flaredb-replica", "flaredb-storage", "flaredb-proto"]),
        ("flaredb-load", &[]),
        ("flaredb-ctl", &["flaredb-proto", "flaredb-load"]),
        ("flaredb-soak", &["flaredb-proto", "flaredb-sim", "flaredb-kv"]),
        ("flaredb-checks", &[]),
    ]);
    for (name, dependencies) in &graph {
        if !name.starts_with("flaredb") {
            continue;
        }
        let allowed = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} is not on the map: add it to ARCHITECTURE.md and here"));
        for dependency in dependencies.iter().filter(|dependency| dependency.starts_with("flaredb")) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_deterministic_layers_see_no_runtime_no_grpc_no_rocksdb_no_clock_no_rng() {
    let graph = normal_dependencies(&metadata());
    for pure in ["flaredb-raft", "flaredb-kv", "flaredb-replica", "flaredb-record"] {
        for found in reachable(&graph, pure) {
            for banned in [
                "tokio",
                "tonic",
                "hyper",
                "h2",
                "rocksdb",
                "librocksdb-sys",
                "rand",
                "getrandom",
                "chrono",
                "time",
                "mio",
            ] {
                assert_ne!(found, banned, "{pure} reaches {banned}");
            }
        }
    }
}

#[test]
fn the_consensus_core_is_ours_and_needs_no_standard_library() {
    let graph = normal_dependencies(&metadata());
    assert_eq!(
        graph["flaredb-raft"],
        BTreeSet::from(["bytes".to_owned()]),
        "flaredb-raft depends on bytes and nothing else"
    );
    for name in graph.keys() {
        assert!(
            !["raft", "openraft", "async-raft", "raft-engine", "omnipaxos"].contains(&name.as_str()),
            "{name} is someone else's consensus"
        );
    }
    let lib = std::fs::read_to_string(root().join("flaredb-raft/src/lib.rs")).expect("lib.rs");
    assert!(lib.contains("#![no_std]"), "flaredb-raft must stay no_std");
    let sources = std::fs::read_dir(root().join("flaredb-raft/src")).expect("src");
    for file in sources {
        let path = file.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("source");
            assert!(!text.contains("extern crate std"), "{} links std", path.display());
        }
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    for entry in std::fs::read_dir(root()).expect("root") {
        let manifest = entry.expect("entry").path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
        let mut in_dependencies = false;
        let mut reason_stands = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
                reason_stands = false;
            } else if in_dependencies {
                if line.starts_with('#') {
                    reason_stands = true;
                } else if line.trim().is_empty() {
                    reason_stands = false;
                } else if !line.starts_with([' ', ']']) {
                    assert!(reason_stands, "{}: `{line}` stands without a reason", manifest.display());
                }
            }
        }
    }
}
