//! FlareDB's server as a library: a node is a driver (one thread), a log thread, a peer transport and the etcd v3 API.
//!
//! What it is not: consensus (flaredb-raft), semantics of keys (flaredb-kv), bytes on disk (flaredb-storage).

pub mod api;
pub mod config;
pub mod counters;
pub mod dev;
mod disk;
pub mod driver;
pub mod identity;
pub mod inspect;
pub mod logging;
pub mod node;
pub mod signals;
pub mod transport;
