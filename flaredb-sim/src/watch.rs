//! The checkers of a run, and the first rule that was broken.

use crate::check::Checkers;
use crate::observed::{Observed, Violation};

/// All checkers of one run.
pub struct Watch {
    checkers: Checkers,
    violation: Option<Violation>,
}

impl Watch {
    /// Every checker there is. `beyond_budget`: more may be lost than can be borne, and only honesty is required.
    pub fn new(voters: u64, beyond_budget: bool) -> Self {
        let mut checkers = Checkers::new(voters);
        if beyond_budget {
            checkers.allow_beyond_budget();
        }
        Self { checkers, violation: None }
    }

    /// Shows it to every checker; the first complaint stays.
    pub fn see(&mut self, at: u64, observed: &Observed<'_>) {
        if self.violation.is_some() {
            return;
        }
        self.violation = self.checkers.see(at, observed).err();
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
