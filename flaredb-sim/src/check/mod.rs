//! The checkers, one rule a file. Each sees every observation and keeps only what its rule needs.

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
