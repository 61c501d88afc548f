//! One region's replica: a Raft peer, its state machine, and the clients that wait for it. Synchronous, deterministic.
//!
//! What it is not: it opens no file and no socket, knows no clock. Its host (the server's driver, the simulator) does.

mod replica;
pub mod wire;

pub use replica::{Answer, Input, Output, Replica, ReplicaConfig, ReplicaError};
