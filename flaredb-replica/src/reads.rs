//! The linearizable reads that wait: first for a read index, then for the state machine to reach it (paper §6.4).
//!
//! Reads that arrive between two outputs share one read index. An index that was asked for after a read arrived serves this
//! read, whichever ask it answers; so asking again never makes an answer that is under way useless. An index asked for
//! before a read arrived never serves it.
//!
//! It knows nothing of the peer: `Replica` carries the asks there and the answers back.

use crate::Answer;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Reads {
    /// Number of the next read to arrive, and of the next ask.
    next_read: u64,
    next_ask: u64,
    /// Reads without an index, by arrival and thus by deadline.
    without_index: BTreeMap<u64, Waiting>,
    /// Reads with an index, by it and then by arrival.
    with_index: BTreeMap<(u64, u64), Waiting>,
    /// Asks under way, by id.
    asks: BTreeMap<u64, Ask>,
    /// Where each ticket waits: its index if it has one, and its number.
    tickets: BTreeMap<u64, (Option<u64>, u64)>,
    /// Every read before this one has been asked for at least once.
    asked_before: u64,
    /// Ask again although every read has been asked for.
    ask_again: bool,
}

struct Waiting {
    ticket: u64,
    /// The tick at which it has waited long enough.
    deadline: u64,
}

struct Ask {
    /// It covers the reads with smaller numbers.
    before: u64,
    /// The tick it was made in.
    asked_at: u64,
}

impl Reads {
    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn contains(&self, ticket: u64) -> bool {
        self.tickets.contains_key(&ticket)
    }

    pub(crate) fn add(&mut self, ticket: u64, deadline: u64) {
        let number = self.next_read;
        self.next_read += 1;
        self.without_index.insert(number, Waiting { ticket, deadline });
        self.tickets.insert(ticket, (None, number));
    }

    pub(crate) fn cancel(&mut self, ticket: u64) {
        match self.tickets.remove(&ticket) {
            Some((Some(index), number)) => drop(self.with_index.remove(&(index, number))),
            Some((None, number)) => drop(self.without_index.remove(&number)),
            None => {}
        }
    }

    /// True if an index should be asked for now.
    pub(crate) fn want_index(&self) -> bool {
        self.without_index.last_key_value().is_some_and(|(last, _)| self.ask_again || *last >= self.asked_before)
    }

    /// Makes an ask for all reads that have arrived.
    pub(crate) fn ask(&mut self, now: u64) -> u64 {
        self.next_ask += 1;
        self.asks.insert(self.next_ask, Ask { before: self.next_read, asked_at: now });
        self.asked_before = self.next_read;
        self.ask_again = false;
        self.next_ask
    }

    /// An ask is answered: the reads it covers wait for `index` now.
    pub(crate) fn on_index(&mut self, ask: u64, index: u64) {
        let Some(Ask { before, .. }) = self.asks.remove(&ask) else { return };
        let before = if mutant!(LaterReadsShareAnswer) { u64::MAX } else { before };
        let later = self.without_index.split_off(&before);
        for (number, waiting) in std::mem::replace(&mut self.without_index, later) {
            self.tickets.insert(waiting.ticket, (Some(index), number));
            self.with_index.insert((index, number), waiting);
        }
        self.asks.retain(|_, ask| ask.before > before);
    }

    /// An ask will not be answered. Its reads are asked for again at the next tick or change of leader, not at once: what
    /// made it fail seldom passes at once.
    pub(crate) fn on_failed(&mut self, ask: u64) {
        self.asks.remove(&ask);
    }

    /// What was asked of another leader may be lost.
    pub(crate) fn on_leader_changed(&mut self) {
        self.ask_again = true;
    }

    /// True if [`Reads::on_applied`] would take some.
    pub(crate) fn any_ready(&self, applied: u64) -> bool {
        self.with_index.first_key_value().is_some_and(|((index, _), _)| *index <= applied)
    }

    /// Takes the reads that may be served at `applied`, lowest index first.
    pub(crate) fn on_applied(&mut self, applied: u64, answers: &mut Vec<(u64, Answer)>) -> u64 {
        let applied = if mutant!(ReadBeforeApplied) { u64::MAX } else { applied };
        let later = self.with_index.split_off(&(applied.saturating_add(1), 0));
        let mut ready = 0;
        for Waiting { ticket, .. } in std::mem::replace(&mut self.with_index, later).into_values() {
            self.tickets.remove(&ticket);
            answers.push((ticket, Answer::ReadReady));
            ready += 1;
        }
        ready
    }

    /// Takes the reads that have waited too long, and asks again where an answer is overdue.
    pub(crate) fn on_tick(&mut self, now: u64, retry_ticks: u32, answers: &mut Vec<(u64, Answer)>) -> u64 {
        let mut expired = Vec::new();
        while let Some(first) = self.without_index.first_entry().filter(|first| first.get().deadline <= now) {
            expired.push(first.remove().ticket);
        }
        expired.extend(self.with_index.extract_if(.., |_, read| read.deadline <= now).map(|(_, read)| read.ticket));
        for ticket in &expired {
            self.tickets.remove(ticket);
            answers.push((*ticket, Answer::Timeout));
        }
        self.maybe_ask_again(now, retry_ticks);
        u64::try_from(expired.len()).unwrap_or(u64::MAX)
    }

    fn maybe_ask_again(&mut self, now: u64, retry_ticks: u32) {
        let Some((oldest, _)) = self.without_index.first_key_value() else {
            self.asks.clear();
            return;
        };
        // An ask that covers no waiting read any more has nobody to tell.
        self.asks.retain(|_, ask| ask.before > *oldest);
        let covered = self
            .asks
            .last_key_value()
            .is_some_and(|(_, ask)| ask.before >= self.asked_before && now < ask.asked_at + u64::from(retry_ticks));
        self.ask_again |= !covered;
    }
}
