//! A load generator for servers that speak etcd v3: one thread, few connections, many gRPC streams on each, requests written
//! straight into HTTP/2 frames. It is meant to cost a few microseconds an operation, so that on a small machine it measures the
//! server and not itself; its own CPU time is part of what it reports. Its users are `flarectl bench` and `flaredb-bench`.
//!
//! Not a gRPC library: no TLS, no streaming calls, no retries, and of each answer only the first kilobyte is kept.

#![expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a load generator: positions come from lengths checked beside them, numbers are converted to be averaged"
)]

mod connection;
mod engine;
mod hpack;
mod huffman;
mod outcome;

pub mod call;
pub mod work;

pub use call::{Answer, Method};
pub use connection::{Connection, ask};
pub use engine::{Edge, Engine, Pace, Plan, Workload};
pub use hdrhistogram::Histogram;
pub use outcome::{Bucket, Outcome};

/// Why no load could be made.
#[derive(Debug, Clone)]
pub struct LoadError(pub String);

impl std::fmt::Display for LoadError {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// What can go wrong while making load.
pub type Result<T> = std::result::Result<T, LoadError>;

/// CPU time of this process so far, all its threads.
pub fn own_cpu() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
