//! One region's replica: a Raft peer, its state machine, and the clients that wait for it. Synchronous, deterministic.
//!
//! What it is not: it opens no file and no socket, knows no clock. Its host (the server's driver, the simulator) does.

mod config;
mod context;
mod counters;
mod input;
mod output;
mod proposals;
mod reads;
mod replica;
mod truncation;
pub mod wire;

pub use config::ReplicaConfig;
pub use counters::Counters;
pub use input::Input;
pub use output::{Answer, Output, ReplicaError};
pub use replica::Replica;
