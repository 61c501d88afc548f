//! One region's replica: a Raft peer, its state machine, and the clients that wait for it. Synchronous, deterministic.
//!
//! What it is not: it opens no file and no socket, knows no clock. Its host (the server's driver, the simulator) does.

/// True where a bug is put back on purpose (crate `flaredb-mutants`); the constant `false` in every normal build.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        flaredb_mutants::on(flaredb_mutants::Mutant::$name)
    };
}
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        crate::no_mutant(stringify!($name))
    };
}

#[cfg(not(feature = "mutants"))]
const fn no_mutant(_name: &str) -> bool {
    false
}

pub mod acquaintance;
mod config;
mod context;
mod counters;
mod describe;
mod input;
mod output;
mod proposals;
mod reads;
mod replica;
mod truncation;
pub mod wire;

pub use config::ReplicaConfig;
pub use counters::Counters;
pub use describe::{Description, describe};
pub use input::Input;
pub use output::{Answer, Output, ReplicaError};
pub use replica::Replica;
