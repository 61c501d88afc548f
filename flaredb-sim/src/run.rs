//! One seed, run from beginning to end.

use crate::faults::{FaultId, Reduction};
use crate::marks::Marks;
use crate::observed::Violation;
use crate::settings::Settings;
use crate::workload::Figures;
use crate::world::World;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything is drawn from it.
    pub seed: u64,
    /// Of the first phase.
    pub events: u64,
    /// What is left out.
    pub reduction: Reduction,
    /// Keep the story.
    pub told: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// The plan's.
    pub seed: u64,
    /// Things that happened.
    pub events: u64,
    /// Virtual µs that passed.
    pub virtual_us: u64,
    /// The first broken rule.
    pub violation: Option<Violation>,
    /// Situations that it got into.
    pub marks: Marks,
    /// The same for the same run.
    pub trace_hash: u64,
    /// The clients' history was judged to its end. False: that took too many tries. None: the run did not come that far.
    pub decided: Option<bool>,
    /// What clients did.
    pub workload: Figures,
    /// Requests made.
    pub requests: u64,
    /// Faults that happened.
    pub faults: Vec<FaultId>,
    /// One line for each thing that happened, if it was asked for.
    pub story: Vec<String>,
}

thread_local! {
    /// What the last panic of this thread said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of runs are results; their text is kept instead of printed. To be called once, by programs that run many seeds.
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("a panic without a text");
        let place = info.location().map_or_else(String::new, |place| format!(" ({}:{})", place.file(), place.line()));
        PANIC.with(|panic| *panic.borrow_mut() = Some(format!("{text}{place}")));
    }));
}

/// Runs it. A panic (an assertion that does not hold) is a violation as any other.
pub fn run(plan: &Plan) -> RunReport {
    let mut settings = Settings::draw(plan.seed);
    settings.voters = plan.reduction.voters.unwrap_or(settings.voters);
    let mut world = World::new(settings, plan.reduction.clone(), plan.told);
    let result = catch_unwind(AssertUnwindSafe(|| {
        world.run_faulty(plan.reduction.events_max.unwrap_or(plan.events));
        world.run_healed();
    }));
    if let Err(payload) = result {
        let said = PANIC.with(|panic| panic.borrow_mut().take());
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = said.or(text).unwrap_or_else(|| "a panic without a text".to_owned());
        world.watch.broken(Violation { rule: "panic", what });
    }
    world.report(plan.seed)
}
