//! A state of the whole: three nodes, the messages under way, what may still happen, and what must be remembered because no
//! node has to remember it (who led, who voted for whom, what was committed). Here are the rules over all nodes.

use super::{
    node::{Mark, Node},
    tables::{Number, Tables},
};
use crate::observed::Violation;
use flaredb_raft::{Body, Message};

/// Highest term that the memory has room for.
pub(super) const TERMS_MAX: u64 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// n1, n2, n3.
    pub(super) nodes: [Number; 3],
    /// A set, sorted.
    pub(super) messages: Vec<Number>,
    pub(super) spent: Spent,
    pub(super) memory: Memory,
}

/// What of the bounds is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) proposals: u8,
    pub(super) campaigns: u8,
    pub(super) heartbeats: u8,
    pub(super) crashes: u8,
}

/// What was true once and must never be contradicted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Of terms 1 to 3: who led; 0 for nobody.
    leaders: [u8; 3],
    /// Of n1 to n3, of terms 1 to 3: whom a vote was said for.
    votes: [[u8; 3]; 3],
    /// Committed entries from index 1 on: term, and term of the leader that committed it.
    committed: Vec<(u8, u8)>,
    /// Applied entries from index 1 on.
    applied: Vec<(u8, u8)>,
}

fn small(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl State {
    /// The nodes are equal numbers of the tables, the messages in order: equal states have equal bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { nodes, messages, spent, memory } = self;
        for number in nodes {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let Spent { proposals, campaigns, heartbeats, crashes } = *spent;
        out.extend_from_slice(&[proposals, campaigns, heartbeats, crashes]);
        let Memory { leaders, votes, committed, applied } = memory;
        out.extend_from_slice(leaders);
        out.extend(votes.iter().flatten());
        for list in [committed, applied] {
            out.push(u8::try_from(list.len()).unwrap_or(u8::MAX));
            out.extend(list.iter().flat_map(|(term, other)| [*term, *other]));
        }
        for number in messages {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// None if the bytes are not a state's.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = &mut &*bytes;
        let nodes = [number(rest)?, number(rest)?, number(rest)?];
        let [proposals, campaigns, heartbeats, crashes] = take(rest)?;
        let leaders = take(rest)?;
        let votes = [take(rest)?, take(rest)?, take(rest)?];
        let committed = pairs(rest)?;
        let applied = pairs(rest)?;
        let mut messages = Vec::with_capacity(rest.len() / 4);
        while !rest.is_empty() {
            messages.push(number(rest)?);
        }
        let spent = Spent { proposals, campaigns, heartbeats, crashes };
        Some(Self { nodes, messages, spent, memory: Memory { leaders, votes, committed, applied } })
    }

    /// True if it was not there.
    pub(super) fn add_message(&mut self, message: Number) -> bool {
        let missing = self.messages.binary_search(&message).err();
        if let Some(at) = missing {
            self.messages.insert(at, message);
        }
        missing.is_some()
    }

    /// Forgets the answers that node `receiver` (0 to 2) drops from now on, whatever happens.
    pub(super) fn forget_dead(&mut self, tables: &Tables, receiver: usize) {
        let Some(seen) = self.nodes.get(receiver).map(|number| &tables.node(*number).seen) else { return };
        self.messages.retain(|number| {
            let message = tables.message(*number);
            let is_dead = match message.body {
                Body::PreVoteResponse { granted: true } => message.term <= seen.durable_term,
                Body::PreVoteResponse { granted: false }
                | Body::RequestVoteResponse { .. }
                | Body::AppendEntriesResponse { .. } => message.term < seen.durable_term,
                _ => false,
            };
            !is_dead || message.to != seen.id
        });
    }

    pub(super) fn has_commit(&self) -> bool {
        !self.memory.committed.is_empty()
    }

    /// The rules over all nodes, after node `changed` (0 to 2) took a step. Memorizes what is new.
    pub(super) fn check(&mut self, tables: &Tables, changed: usize, sent: &[Number]) -> Result<(), Violation> {
        let nodes = self.nodes.map(|number| tables.node(number));
        let Some(node) = nodes.get(changed) else { return Ok(()) };
        for message in sent {
            self.memory.said(tables.message(*message))?;
        }
        self.memory.leads(node)?;
        self.memory.commits(node, &nodes)?;
        self.memory.applies(node)?;
        nodes.iter().try_for_each(|other| logs_match(node, other))
    }
}

impl Memory {
    /// A vote in a term is said for one candidate only, whatever happened in between.
    fn said(&mut self, message: &Message) -> Result<(), Violation> {
        let candidate = match message.body {
            Body::RequestVote { .. } => message.from,
            Body::RequestVoteResponse { granted: true } => message.to,
            _ => return Ok(()),
        };
        let vote = self.votes.get_mut(place(message.from - 1)).and_then(|votes| votes.get_mut(place(message.term - 1)));
        let Some(vote) = vote else { return Ok(()) };
        if *vote != 0 && *vote != small(candidate) {
            let what = format!("n{} votes for n{vote} and for n{candidate} in term {}", message.from, message.term);
            return Err(Violation { rule: "one vote a term", what });
        }
        *vote = small(candidate);
        Ok(())
    }

    /// Election safety, and leader completeness.
    fn leads(&mut self, node: &Node) -> Result<(), Violation> {
        let seen = &node.seen;
        if !seen.leads {
            return Ok(());
        }
        let Some(leader) = self.leaders.get_mut(place(seen.term - 1)) else { return Ok(()) };
        if *leader != 0 && *leader != small(seen.id) {
            let what = format!("n{leader} and n{} lead in term {}", seen.id, seen.term);
            return Err(Violation { rule: "election safety", what });
        }
        *leader = small(seen.id);
        for ((term, by), index) in self.committed.iter().zip(0_usize..) {
            if u64::from(*by) < seen.term && seen.log.get(index) != Some(&u64::from(*term)) {
                let what = format!(
                    "{}@{term} was committed in term {by}, and n{} leads term {} without it",
                    index + 1,
                    seen.id,
                    seen.term
                );
                return Err(Violation { rule: "leader completeness", what });
            }
        }
        Ok(())
    }

    /// What is committed stays, is on a majority of disks, and is committed by a leader through an entry of its term.
    fn commits(&mut self, node: &Node, nodes: &[&Node; 3]) -> Result<(), Violation> {
        let seen = &node.seen;
        for ((term, _), index) in self.committed.iter().zip(0..place(seen.commit)) {
            if seen.log.get(index) != Some(&u64::from(*term)) {
                let what = format!(
                    "{}@{term} was committed, n{} has another entry committed there: its log's terms are {:?}",
                    index + 1,
                    seen.id,
                    seen.log
                );
                return Err(Violation { rule: "state machine safety", what });
            }
        }
        let before = self.committed.len();
        let commit = place(seen.commit);
        for index in before..commit {
            let term = seen.log.get(index).copied().unwrap_or(0);
            let holds = |other: &&&Node| other.seen.durable.get(index).is_some_and(|(found, _)| *found == term);
            let copies = nodes.iter().filter(holds).count();
            let is_own = index + 1 < commit || term == seen.term;
            if copies < 2 || !is_own || !seen.leads {
                let what = format!(
                    "n{} in term {} commits {}@{term}, which is on {copies} of 3 disks{}",
                    seen.id,
                    seen.term,
                    index + 1,
                    if seen.leads { "" } else { ", without leading" }
                );
                return Err(Violation { rule: "commit rule", what });
            }
            self.committed.push((small(term), small(seen.term)));
        }
        Ok(())
    }

    /// All apply the same.
    fn applies(&mut self, node: &Node) -> Result<(), Violation> {
        for ((term, proposal), index) in node.applied.iter().zip(0_usize..) {
            let entry = (small(*term), *proposal);
            match self.applied.get(index) {
                Some(known) if *known != entry => {
                    let what = format!("n{} applies {entry:?} at {}, another {known:?}", node.seen.id, index + 1);
                    return Err(Violation { rule: "state machine safety", what });
                }
                Some(_) => {}
                None => self.applied.push(entry),
            }
        }
        Ok(())
    }
}

/// Log matching: where two disks have an entry of the same index and term, they are equal up to there; and so are the terms of
/// the logs in memory.
fn logs_match(one: &Node, other: &Node) -> Result<(), Violation> {
    let (a, b) = (&one.seen, &other.seen);
    let same = |(x, y): &(&Mark, &Mark)| x.0 == y.0;
    let agreed = a.durable.iter().zip(&b.durable).rposition(|pair| same(&pair)).map_or(0, |last| last + 1);
    let terms = a.log.iter().zip(&b.log).rposition(|(x, y)| x == y).map_or(0, |last| last + 1);
    if a.durable.get(..agreed) == b.durable.get(..agreed) && a.log.get(..terms) == b.log.get(..terms) {
        return Ok(());
    }
    let what = format!("n{} has {:?} {:?}, n{} has {:?} {:?}", a.id, a.durable, a.log, b.id, b.durable, b.log);
    Err(Violation { rule: "log matching", what })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn number(rest: &mut &[u8]) -> Option<Number> {
    take(rest).map(Number::from_le_bytes)
}

fn pairs(rest: &mut &[u8]) -> Option<Vec<(u8, u8)>> {
    let [length] = take(rest)?;
    (0..length).map(|_| take(rest).map(|[one, other]| (one, other))).collect()
}
