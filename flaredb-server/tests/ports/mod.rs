//! Ports for tests that must know them before anything listens.

#![allow(unreachable_pub, reason = "shared by test files and their modules")]

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the range from which the kernel takes the ports of outgoing connections.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// A port that was free a moment ago. Processes begin at different places, a process never gives the same port twice in a row.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + std::process::id().wrapping_mul(97).wrapping_add(n) % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}
