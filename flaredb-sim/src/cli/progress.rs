//! One line on the terminal that says how far a batch is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub(super) struct Progress {
    shown: bool,
    last: Option<Instant>,
    began: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), last: None, began: Instant::now() }
    }

    /// So much is done.
    pub(super) fn show(&mut self, done: u64, all: u64, events: u64, failures: usize) {
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < Duration::from_millis(200)) {
            return;
        }
        self.last = Some(Instant::now());
        let width = 30;
        let filled = usize::try_from(done * width / all.max(1)).unwrap_or(0);
        let bar: String = (0..30).map(|place| if place < filled { '#' } else { '.' }).collect();
        let seconds = self.began.elapsed().as_secs().max(1);
        let speed = events / seconds / 1000;
        // A terminal that is gone is no reason to stop.
        let _ = write!(std::io::stderr(), "\r{bar} {done}/{all} seeds, {speed}k events/s, {failures} failures ");
    }

    /// Leaves the line.
    pub(super) fn end(&self) {
        if self.shown {
            let _ = writeln!(std::io::stderr());
        }
    }
}
