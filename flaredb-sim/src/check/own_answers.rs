//! I32, B48: a member that runs answers its own clients in time: within the request timeout, by its own clock, with what it knows
//! by then (done, refused, or unknown). Nobody waits for ever at a living member, whatever happens to the others.
//!
//! Time is counted in ticks that the member has taken in, so that one that stands still, is slow, or has a wrong clock needs no
//! allowance: it owes nothing for time that it has not seen.

use super::violation;
use crate::observed::Violation;
use std::collections::BTreeMap;

/// Ticks beyond the timeout: an answer may be among the outputs that were left for the next turn.
const SPARE_TICKS: u64 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OwnAnswers {
    by_node: BTreeMap<u64, Member>,
}

#[derive(Debug, Default)]
struct Member {
    /// Of this life.
    ticks: u64,
    /// By request: the tick at which it is overdue.
    owed: BTreeMap<u64, u64>,
    /// No answer is overdue before this tick.
    next: u64,
}

impl OwnAnswers {
    /// The member begins or ends a life: whom it owed an answer, that client lost its connection.
    pub(crate) fn life(&mut self, node: u64) {
        self.by_node.remove(&node);
    }

    pub(crate) fn taken(&mut self, node: u64, id: u64, within_ticks: u64) {
        let member = self.by_node.entry(node).or_default();
        let overdue = member.ticks + within_ticks + SPARE_TICKS;
        member.next = if member.owed.is_empty() { overdue } else { member.next.min(overdue) };
        member.owed.insert(id, overdue);
    }

    pub(crate) fn done(&mut self, node: u64, id: u64) {
        if let Some(member) = self.by_node.get_mut(&node) {
            member.owed.remove(&id);
        }
    }

    pub(crate) fn ticked(&mut self, node: u64) {
        self.by_node.entry(node).or_default().ticks += 1;
    }

    pub(crate) fn turn_ended(&mut self, node: u64) -> Result<(), Violation> {
        let Some(member) = self.by_node.get_mut(&node).filter(|member| member.ticks > member.next) else {
            return Ok(());
        };
        if let Some((id, overdue)) = member.owed.iter().find(|(_, overdue)| **overdue < member.ticks) {
            let late = member.ticks - overdue + SPARE_TICKS;
            return Err(violation(
                "own-answers",
                format!("n{node} runs, but request {id} waits {late} ticks too long"),
            ));
        }
        member.next = member.owed.values().copied().min().unwrap_or(u64::MAX);
        Ok(())
    }
}
