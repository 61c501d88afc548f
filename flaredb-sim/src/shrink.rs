//! Makes a failing run small: the same rule must stay broken while kinds of faults, single faults, clients, requests and time are
//! taken away. It works because every choice has a name and a stream of its own, so that leaving one out moves no other.

use crate::faults::{FaultKind, Reduction};
use crate::observed::Violation;
use crate::run::{Plan, RunReport, run};
use std::collections::BTreeSet;

/// The smallest run found.
#[derive(Debug)]
pub struct Shrunk {
    /// To run it again.
    pub plan: Plan,
    /// What comes of it, told.
    pub report: RunReport,
    /// Runs that were needed.
    pub runs: u64,
}

struct Search<'a> {
    plan: Plan,
    broken: Violation,
    runs: u64,
    is_tired: bool,
    go_on: &'a mut dyn FnMut(&Tried<'_>) -> bool,
}

/// A run that was tried.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// The how manyeth.
    pub runs: u64,
    /// What was left out.
    pub what: &'a str,
    /// The rule is broken all the same: the search goes on from here.
    pub is_smaller: bool,
    /// Events of it.
    pub events: u64,
    /// Faults in it.
    pub faults: usize,
}

/// Shrinks a run until nothing more can be left out, or until `go_on`, which is shown every run, says no. None if the plan
/// breaks no rule.
pub fn shrink(plan: &Plan, go_on: &mut dyn FnMut(&Tried<'_>) -> bool) -> Option<Shrunk> {
    let plan = Plan { told: false, ..plan.clone() };
    let first = run(&plan);
    let broken = first.violation?;
    let mut search = Search { plan, broken, runs: 1, is_tired: false, go_on };
    search.try_voters();
    search.try_time(first.events);
    search.leave_kinds_out();
    search.try_requests_max();
    loop {
        let before = search.plan.reduction.clone();
        search.leave_faults_out();
        search.leave_clients_out();
        search.leave_requests_out();
        let events = run(&search.plan).events;
        search.try_time(events);
        if before == search.plan.reduction || search.is_tired {
            break;
        }
    }
    let report = run(&Plan { told: true, ..search.plan.clone() });
    Some(Shrunk { plan: search.plan, report, runs: search.runs })
}

impl Search<'_> {
    /// Keeps the change if the same rule is broken with it.
    fn keeps(&mut self, what: &str, change: impl FnOnce(&mut Reduction)) -> bool {
        if self.is_tired {
            return false;
        }
        let mut plan = self.plan.clone();
        change(&mut plan.reduction);
        if plan.reduction == self.plan.reduction {
            return false;
        }
        self.runs += 1;
        let report = run(&plan);
        let (events, faults) = (report.events, report.faults.len());
        let is_smaller = report.violation.is_some_and(|violation| is_same(&self.broken, &violation));
        if is_smaller {
            self.plan = plan;
        }
        self.is_tired = !(self.go_on)(&Tried { runs: self.runs, what, is_smaller, events, faults });
        is_smaller
    }

    fn try_voters(&mut self) {
        self.keeps("three voters", |reduction| reduction.voters = Some(3));
    }

    /// Ends the first phase earlier. `events`: how many there were.
    fn try_time(&mut self, events: u64) {
        let mut step = events / 2;
        let mut length = self.plan.reduction.events_max.unwrap_or(self.plan.events).min(events);
        while step > events / 100 && !self.is_tired {
            let shorter = length.saturating_sub(step);
            if self.keeps("a shorter run", |reduction| reduction.events_max = Some(shorter)) {
                length = shorter;
            } else {
                step /= 2;
            }
        }
    }

    fn leave_kinds_out(&mut self) {
        for kind in FaultKind::ALL {
            self.keeps(kind.stream(), |reduction| {
                reduction.kinds.insert(kind);
            });
        }
    }

    /// Clients stop earlier; in any case after as many requests as there were, so that none takes the place of one that is left
    /// out.
    fn try_requests_max(&mut self) {
        let mut most = run(&self.plan).requests;
        self.keeps("requests", |reduction| reduction.requests_max = Some(most));
        let mut step = most;
        while step > 0 && !self.is_tired {
            let fewer = most.saturating_sub(step);
            if self.keeps("requests", |reduction| reduction.requests_max = Some(fewer)) {
                most = fewer;
            }
            step /= 2;
        }
    }

    fn leave_faults_out(&mut self) {
        let mut left = run(&self.plan).faults;
        let mut chunk = left.len().div_ceil(2);
        while chunk > 0 && !self.is_tired {
            let mut kept = Vec::with_capacity(left.len());
            let mut any = false;
            for part in left.chunks(chunk) {
                if self.keeps("faults", |reduction| reduction.faults.extend(part)) {
                    any = true;
                } else {
                    kept.extend_from_slice(part);
                }
            }
            left = kept;
            if !any || chunk > left.len() {
                chunk /= 2;
            }
        }
    }

    fn leave_clients_out(&mut self) {
        // Only ever fewer, or the search goes back and forth.
        for clients in 1..self.plan.reduction.clients_max.unwrap_or(6) {
            if self.keeps("clients", |reduction| reduction.clients_max = Some(clients)) {
                return;
            }
        }
    }

    fn leave_requests_out(&mut self) {
        let requests = run(&self.plan).requests;
        let gone: BTreeSet<u64> = self.plan.reduction.requests.clone();
        let mut left: Vec<u64> = (1..=requests).filter(|id| !gone.contains(id)).collect();
        let mut chunk = left.len().div_ceil(2);
        while chunk > 0 && !self.is_tired {
            let mut kept = Vec::with_capacity(left.len());
            for part in left.chunks(chunk) {
                if !self.keeps("requests", |reduction| reduction.requests.extend(part)) {
                    kept.extend_from_slice(part);
                }
            }
            left = kept;
            chunk /= 2;
        }
    }
}

/// The same rule; of panics, the same place.
fn is_same(one: &Violation, other: &Violation) -> bool {
    let place = |violation: &Violation| violation.what.rsplit('(').next().map(str::to_owned);
    one.rule == other.rule && (one.rule != "panic" || place(one) == place(other))
}
