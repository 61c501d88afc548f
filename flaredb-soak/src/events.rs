//! What happened when: the run's clock, and the faults as they were injected.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A fault, from start to end.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Event {
    /// µs since the start of the run.
    pub from_us: u64,
    /// 0 while it lasts.
    pub until_us: u64,
    /// Its name.
    pub kind: &'static str,
    /// Whom it hit, and what came of it.
    pub what: String,
}

/// The run's clock and journal.
#[derive(Debug)]
pub struct Events {
    start: Instant,
    list: Mutex<Vec<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { start: Instant::now(), list: Mutex::default() }
    }
}

impl Events {
    /// µs since the start of the run.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A fault begins. Gives its number.
    pub fn begin(&self, kind: &'static str, what: String) -> usize {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Event { from_us: self.now(), until_us: 0, kind, what });
        list.len() - 1
    }

    /// It ends.
    pub fn end(&self, number: usize, more: &str) {
        let now = self.now();
        if let Some(event) = self.list.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
            event.until_us = now;
            event.what.push_str(more);
        }
    }

    /// All so far.
    pub fn all(&self) -> Vec<Event> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that last.
    pub fn current(&self) -> String {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<String> = list
            .iter()
            .filter(|event| event.until_us == 0)
            .map(|event| format!("{} {}", event.kind, event.what))
            .collect();
        words.join(", ")
    }
}
