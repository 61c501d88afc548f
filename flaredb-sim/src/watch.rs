//! The checkers of a run, and the first rule that was broken.

use crate::check::Checker;
use crate::observed::{Observed, Violation};

/// All checkers of one run.
pub struct Watch {
    checkers: Vec<Box<dyn Checker>>,
    violation: Option<Violation>,
}

impl Watch {
    /// Every checker there is.
    pub fn new(_voters: u64) -> Self {
        Self { checkers: Vec::new(), violation: None }
    }

    /// Shows it to every checker; the first complaint stays.
    pub fn see(&mut self, at: u64, observed: &Observed<'_>) {
        if self.violation.is_some() {
            return;
        }
        for checker in &mut self.checkers {
            if let Err(violation) = checker.see(at, observed) {
                self.violation = Some(violation);
                return;
            }
        }
    }

    /// A rule that the world itself watches is broken.
    pub fn broken(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// The rule that was broken first.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}
