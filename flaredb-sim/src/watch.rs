//! The checkers of a run, and the first rule that was broken.

use crate::check::Checkers;
use crate::observed::{Observed, Violation};
use crate::settings::Settings;

/// All checkers of one run.
pub struct Watch {
    checkers: Checkers,
    violation: Option<Violation>,
}

impl Watch {
    /// Every checker there is, for these settings.
    pub fn new(settings: &Settings) -> Self {
        let mut checkers = Checkers::new(settings.voters);
        if settings.replica.keep_log_for_all {
            checkers.require_log_for_all();
        }
        if settings.beyond_budget {
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

    /// The history of the clients was judged to its end; None if there was nothing to judge it by.
    pub fn is_decided(&self) -> Option<bool> {
        self.checkers.history_report().map(|report| report.undecided.is_none())
    }

    /// The rule that was broken first.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}
