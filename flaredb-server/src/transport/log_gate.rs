//! Keeps the log readable when something goes wrong over and over: one line per cause and peer, then silence for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const SILENCE: Duration = Duration::from_secs(60);

/// Causes are fixed texts and peers are members (0 for strangers), so that no stranger can make this grow.
#[derive(Default)]
pub(super) struct LogGate(Mutex<HashMap<(&'static str, u64), Instant>>);

impl LogGate {
    /// True if this cause may be logged now.
    pub(super) fn pass(&self, cause: &'static str, peer: u64) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match last.get(&(cause, peer)) {
            Some(at) if now.duration_since(*at) < SILENCE => false,
            _ => {
                last.insert((cause, peer), now);
                true
            }
        }
    }

    /// The cause is over: the next time it is news again.
    pub(super) fn reset(&self, peer: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, of), _| *of != peer);
    }
}
