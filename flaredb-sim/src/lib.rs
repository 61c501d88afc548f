//! FlareDB's deterministic simulator: the code that runs in production (`flaredb-raft`, `flaredb-replica`, `flaredb-kv`, the
//! judgement of `flaredb-record`) on a model disk and a model network, driven by a seed, every invariant checked after every step.
//!
//! What it is not: it opens no socket and no file, knows no clock; the same seed gives the same run on every machine.

pub mod check;
pub mod clock;
pub mod core_only;
pub mod disk;
pub mod exhaustive;
pub mod faults;
pub mod history;
pub mod marks;
pub mod network;
pub mod observed;
pub mod phases;
pub mod prf;
pub mod run;
pub mod settings;
pub mod shrink;
pub mod story;
pub mod trace;
pub mod watch;
pub mod workload;
pub mod world;
