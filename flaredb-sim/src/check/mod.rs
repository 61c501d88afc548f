//! The checkers, one rule a file. Each sees every observation and keeps only what its rule needs.

mod compaction;
mod evidence;
pub mod history;
pub mod model;
mod replay;

use crate::observed::{Observed, Violation};

/// One rule, watched over a whole run.
pub trait Checker {
    /// The rule's name.
    fn rule(&self) -> &'static str;
    /// Looks at one observation; `at` is virtual time in µs.
    ///
    /// # Errors
    /// The rule is broken.
    fn see(&mut self, at: u64, observed: &Observed<'_>) -> Result<(), Violation>;
}
