//! Every node state, message and node step that was seen, under a small number each. What a node does with an event depends
//! on nothing else, so the core runs once for each pair.

use super::{
    Sabotage,
    node::{Action, Node},
};
use crate::observed::Violation;
use flaredb_raft::Message;
use std::{collections::HashMap, hash::BuildHasherDefault};
use xxhash_rust::xxh3::Xxh3Default;

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Xxh3Default>>;

/// Numbers of nodes, messages and events.
pub(super) type Number = u32;

/// What a node does with an event.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) node: Number,
    pub(super) sent: Box<[Number]>,
}

/// An event of a node, in one number: a message, or one of the few others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EventKey(Number);

impl EventKey {
    pub(super) const CAMPAIGN: Self = Self(0);
    pub(super) const HEARTBEAT: Self = Self(1);
    pub(super) const FINISH_WRITE: Self = Self(2);
    pub(super) const CRASH: Self = Self(3);
    pub(super) const CRASH_AFTER_WRITE: Self = Self(4);
    const PROPOSE: Number = 8;
    const RECEIVE: Number = 16;

    pub(super) fn propose(number: u8) -> Self {
        Self(Self::PROPOSE + Number::from(number % 8))
    }

    pub(super) fn is_proposal(self) -> bool {
        (Self::PROPOSE..Self::RECEIVE).contains(&self.0)
    }

    pub(super) fn is_message(self) -> bool {
        self.0 >= Self::RECEIVE
    }

    pub(super) fn receive(message: Number) -> Self {
        Self(Self::RECEIVE + message)
    }
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    nodes: Vec<Node>,
    messages: Vec<Message>,
    // Looked up only, never walked through.
    node_numbers: Map<u128, Number>,
    message_numbers: Map<Message, Number>,
    outcomes: Map<(Number, EventKey), Number>,
    outcome_list: Vec<Outcome>,
}

impl Tables {
    pub(super) fn node(&self, number: Number) -> &Node {
        at(&self.nodes, number)
    }

    pub(super) fn message(&self, number: Number) -> &Message {
        at(&self.messages, number)
    }

    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        (count(self.nodes.len()), count(self.outcome_list.len()), count(self.messages.len()))
    }

    pub(super) fn add_node(&mut self, node: Node) -> Number {
        let next = number(self.nodes.len());
        let known = *self.node_numbers.entry(node.fingerprint()).or_insert(next);
        if known == next {
            self.nodes.push(node);
        }
        known
    }

    fn add_message(&mut self, message: Message) -> Number {
        let next = number(self.messages.len());
        let known = *self.message_numbers.entry(message.clone()).or_insert(next);
        if known == next {
            self.messages.push(message);
        }
        known
    }

    pub(super) fn action(&self, event: EventKey) -> Action {
        match event.0 {
            0 => Action::Campaign,
            1 => Action::Heartbeat,
            2 => Action::FinishWrite,
            3 => Action::Crash { write_survives: false },
            4 => Action::Crash { write_survives: true },
            other => match other.checked_sub(EventKey::RECEIVE) {
                Some(message) => Action::Receive(self.message(message).clone()),
                None => Action::Propose(u8::try_from(other - EventKey::PROPOSE).unwrap_or(0)),
            },
        }
    }

    /// Where the outcome stands; [`Tables::outcome`] reads it.
    pub(super) fn run(&mut self, node: Number, event: EventKey, sabotage: Sabotage) -> Result<Number, Violation> {
        if let Some(known) = self.outcomes.get(&(node, event)) {
            return Ok(*known);
        }
        let action = self.action(event);
        let (next, messages) = self.node(node).after(&action, sabotage)?;
        let sent = messages.into_iter().map(|message| self.add_message(message)).collect();
        let outcome = Outcome { node: self.add_node(next), sent };
        let place = number(self.outcome_list.len());
        self.outcome_list.push(outcome);
        self.outcomes.insert((node, event), place);
        Ok(place)
    }

    pub(super) fn outcome(&self, place: Number) -> &Outcome {
        at(&self.outcome_list, place)
    }
}

fn at<T>(list: &[T], number: Number) -> &T {
    let found = usize::try_from(number).ok().and_then(|place| list.get(place));
    found.unwrap_or_else(|| unreachable!("numbers come from the tables"))
}

fn number(length: usize) -> Number {
    match Number::try_from(length) {
        Ok(number) if number < Number::MAX - EventKey::RECEIVE => number,
        _ => unreachable!("fewer than four billion: memory ends before"),
    }
}
