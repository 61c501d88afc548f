//! Breadth first over the states: one level of states that are so many steps from the start, then the next.

use super::{
    Failure, Options, Progress, Report, Sabotage, Start,
    disk::VOTERS,
    node::Node,
    state::{Memory, Spent, State, TERMS_MAX},
    story,
    tables::{EventKey, Tables},
    visited::{Slot, Visited},
};
use crate::observed::Violation;
use xxhash_rust::xxh3::xxh3_64;

/// A step of the whole: an event of one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// 0 to 2.
    pub(super) node: usize,
    pub(super) event: EventKey,
}

/// Explores within the bounds, or until a rule is broken. `progress` is called at each level.
pub fn run(options: &Options, progress: &mut dyn FnMut(Progress)) -> Report {
    assert!((1..=TERMS_MAX).contains(&options.terms), "the memory has room for {TERMS_MAX} terms");
    assert!(options.entries <= 6 && options.proposals <= 6, "the bounds are small");
    let mut model = Model { options: *options, tables: Tables::default(), steps: 0 };
    let first = model.first();
    let mut visited = Visited::new(options.states_max);
    let mut bytes = Vec::new();
    first.encode(&mut bytes);
    let Some(root) = visited.insert(xxh3_64(&bytes), 0) else { unreachable!("the table is empty") };
    let mut report = Report {
        states: 1,
        steps: 0,
        depth: 0,
        peer_states: 0,
        peer_steps: 0,
        messages: 0,
        states_with_commit: 0,
        complete: false,
        failure: None,
    };
    let mut level = Level::default();
    level.push(root, &bytes);
    while !level.is_empty() && report.failure.is_none() {
        progress(Progress { depth: report.depth, states: report.states, open: level.count });
        let mut next = Level::default();
        let mut failure = None;
        level.each(|slot, bytes| {
            let Some(state) = State::decode(bytes) else { unreachable!("only states are in a level") };
            let explored = model.each_step(&state, |_, after| {
                let mut encoded = Vec::with_capacity(bytes.len() + 32);
                after.encode(&mut encoded);
                let Some(found) = visited.insert(xxh3_64(&encoded), slot) else { return false };
                report.states += 1;
                report.states_with_commit += u64::from(after.has_commit());
                next.push(found, &encoded);
                report.states >= options.states_max
            });
            match explored {
                Ok(false) => true,
                Ok(true) => false,
                Err((step, violation)) => {
                    failure = Some((slot, step, violation));
                    false
                }
            }
        });
        if let Some((slot, step, violation)) = failure {
            let way = visited.way_to(slot, root);
            report.failure = Some(Failure { story: story::tell(&mut model, &way, step), violation });
        }
        report.depth += u64::from(!next.is_empty());
        if report.states >= options.states_max {
            break;
        }
        level = next;
    }
    report.complete = report.failure.is_none() && report.states < options.states_max;
    report.steps = model.steps;
    (report.peer_states, report.peer_steps, report.messages) = model.tables.counts();
    report
}

pub(super) struct Model {
    options: Options,
    pub(super) tables: Tables,
    steps: u64,
}

impl Model {
    pub(super) fn first(&mut self) -> State {
        let nodes = VOTERS.map(|id| self.tables.add_node(Node::new(id)));
        let state = State { nodes, messages: Vec::new(), spent: Spent::default(), memory: Memory::default() };
        match self.options.from {
            Start::Fresh => state,
            Start::Elected => self.elected(state),
        }
    }

    /// n1 campaigns once, then whatever can happen without another decision happens. The network forgets it all.
    fn elected(&mut self, fresh: State) -> State {
        let mut state = fresh;
        let mut arrived = Vec::new();
        let mut step = Some(Step { node: 0, event: EventKey::CAMPAIGN });
        while let Some(taken) = step {
            match self.take(&state, taken) {
                Ok(after) => state = after.unwrap_or(state),
                Err(violation) => unreachable!("an election without faults breaks no rule: {violation}"),
            }
            // Each message once: the network would repeat them without end.
            arrived.push(taken.event);
            step = self.steps_from(&state).into_iter().find(|step| {
                step.event == EventKey::FINISH_WRITE || (step.event.is_message() && !arrived.contains(&step.event))
            });
        }
        State { messages: Vec::new(), spent: Spent { campaigns: 1, ..Spent::default() }, ..state }
    }

    /// Hands every state that is one step from this one to `visit`, until it says true (then the answer is true) or a rule is
    /// broken.
    pub(super) fn each_step(
        &mut self,
        state: &State,
        mut visit: impl FnMut(Step, &State) -> bool,
    ) -> Result<bool, (Step, Violation)> {
        for step in self.steps_from(state) {
            self.steps += 1;
            let after = self.take(state, step).map_err(|violation| (step, violation))?;
            if let Some(after) = after
                && visit(step, &after)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn steps_from(&self, state: &State) -> Vec<Step> {
        let Options { terms, entries, proposals, campaigns, heartbeats, crashes, .. } = self.options;
        let spent = state.spent;
        let mut steps = Vec::with_capacity(16 + state.messages.len());
        for (node, number) in state.nodes.iter().enumerate() {
            let seen = &self.tables.node(*number).seen;
            let mut add = |event| steps.push(Step { node, event });
            if seen.writes {
                add(EventKey::FINISH_WRITE);
            }
            // The peers are alike until one of them campaigns.
            let first = spent.campaigns > 0 || node == 0;
            if spent.campaigns < campaigns && first && !seen.leads && seen.term < terms {
                add(EventKey::CAMPAIGN);
            }
            if spent.heartbeats < heartbeats && seen.leads {
                add(EventKey::HEARTBEAT);
            }
            let length = u64::try_from(seen.log.len()).unwrap_or(u64::MAX);
            if spent.proposals < proposals && seen.leads && length < entries {
                add(EventKey::propose(spent.proposals));
            }
            // A crash before anything happened is none.
            if spent.crashes < crashes && spent.campaigns > 0 {
                add(EventKey::CRASH);
                if seen.writes {
                    add(EventKey::CRASH_AFTER_WRITE);
                }
            }
        }
        for message in &state.messages {
            let node = usize::try_from(self.tables.message(*message).to - 1).unwrap_or(0);
            steps.push(Step { node, event: EventKey::receive(*message) });
        }
        steps
    }

    /// The state after the step; None if nothing changed.
    fn take(&mut self, state: &State, step: Step) -> Result<Option<State>, Violation> {
        let Some(number) = state.nodes.get(step.node) else { return Ok(None) };
        let place = self.tables.run(*number, step.event, self.options.sabotage)?;
        let outcome = self.tables.outcome(place);
        let is_news = |message: &u32| state.messages.binary_search(message).is_err();
        if step.event.is_message() && outcome.node == *number && !outcome.sent.iter().any(is_news) {
            return Ok(None);
        }
        let mut after = state.clone();
        if let Some(number) = after.nodes.get_mut(step.node) {
            *number = outcome.node;
        }
        for message in &outcome.sent {
            after.add_message(*message);
        }
        let spent = &mut after.spent;
        match step.event {
            EventKey::CAMPAIGN => spent.campaigns += 1,
            EventKey::HEARTBEAT => spent.heartbeats += 1,
            EventKey::CRASH | EventKey::CRASH_AFTER_WRITE => spent.crashes += 1,
            event => spent.proposals += u8::from(event.is_proposal()),
        }
        after.check(&self.tables, step.node, &outcome.sent)?;
        for receiver in 0..after.nodes.len() {
            after.forget_dead(&self.tables, receiver);
        }
        Ok(Some(after))
    }

    pub(super) fn sabotage(&self) -> Sabotage {
        self.options.sabotage
    }
}

/// States one after the other, as bytes: slot, length, state.
#[derive(Default)]
struct Level {
    bytes: Vec<u8>,
    count: u64,
}

impl Level {
    fn push(&mut self, slot: Slot, state: &[u8]) {
        let length = u32::try_from(state.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&slot.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(state);
        self.count += 1;
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Until `visit` says false.
    fn each(&self, mut visit: impl FnMut(Slot, &[u8]) -> bool) {
        let mut rest = self.bytes.as_slice();
        while let Some(([s0, s1, s2, s3, l0, l1, l2, l3], left)) = rest.split_first_chunk::<8>() {
            let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).unwrap_or(usize::MAX);
            let Some((state, left)) = left.split_at_checked(length) else { return };
            rest = left;
            if !visit(Slot::from_le_bytes([*s0, *s1, *s2, *s3]), state) {
                return;
            }
        }
    }
}
