//! The fuzzers' bodies: each takes bytes, does something that must be possible with any bytes, and panics if a rule is broken.
//!
//! `fuzz/` (a workspace of its own, nightly) wraps each into a libFuzzer target; `tests/replay.rs` runs every file of every
//! corpus with the normal toolchain. What it is not: a generator. Bytes come from libFuzzer, from the corpora, and from
//! [`seeds`], which encodes a few real values so that the search begins behind the first checksum.

mod codecs;
mod core_step;
mod disk;
mod flags;
mod gen_kv;
mod requests;
pub mod seeds;
mod server;
mod state_machine;
mod transport;

#[allow(unused_imports, reason = "the server's files name them so; some only in their tests")]
use server::{config, dev, identity, inspect, logging};

/// One fuzzer.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its libFuzzer binary and of its corpus folder.
    pub name: &'static str,
    /// Must return for every input, and soon.
    pub body: fn(&[u8]),
    /// Inputs longer than this bring nothing.
    pub bytes_max: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "peer_messages", body: codecs::peer_messages, bytes_max: 4096 },
    Target { name: "peer_frames", body: transport::peer_frames, bytes_max: 4096 },
    Target { name: "greeting", body: transport::greeting, bytes_max: 2048 },
    Target { name: "snapshot_parts", body: transport::snapshot_parts, bytes_max: 1024 },
    Target { name: "acquaintances", body: codecs::acquaintances, bytes_max: 4096 },
    Target { name: "log_record", body: codecs::log_record, bytes_max: 512 },
    Target { name: "durable_mark", body: disk::durable_mark, bytes_max: 1025 },
    Target { name: "judgement", body: disk::judge, bytes_max: 128 },
    Target { name: "entry_context", body: codecs::entry_context, bytes_max: 64 },
    Target { name: "requests", body: requests::requests, bytes_max: 4096 },
    Target { name: "txn_trees", body: state_machine::txn_trees, bytes_max: 2048 },
    Target { name: "apply_purity", body: state_machine::apply_purity, bytes_max: 4096 },
    Target { name: "core_step", body: core_step::core_step, bytes_max: 4096 },
    Target { name: "config", body: flags::config, bytes_max: 1024 },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs one input, for `fuzz/`.
pub fn run(name: &str, data: &[u8]) {
    let Some(target) = target(name) else { unreachable!("{name} is in TARGETS") };
    (target.body)(data);
}
