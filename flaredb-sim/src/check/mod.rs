//! The checkers, one rule a file. All see every observation that concerns them, in the order in which things happen; what several of
//! them need (each node's log, the table of entries, what is committed, what it comes to) is kept once.
//!
//! They know nothing but observations, so they judge a test's hand-made ones as they judge the simulator's.

mod answers;
mod commit_rule;
mod compaction;
mod durability_ledger;
mod election_safety;
mod evidence;
pub mod history;
mod leader_completeness;
mod leases;
mod ledger;
mod linearizability;
mod liveness;
mod log;
mod log_matching;
mod mirror;
pub mod model;
mod own_answers;
mod persist_before_send;
mod reads;
mod recovery;
mod replay;
mod replica_equality;
mod revision_rules;
mod stale_terms;
mod state_machine_safety;
mod truncation;
mod vote_durability;

use crate::history::Op;
use crate::observed::{Observed, Violation};
use flaredb_kv::{AppliedState, Kv, MemoryStore};
use flaredb_raft::{Body, Message, PeerStatus, RaftLogEntry, Write};

/// Something that looks at a run and may object.
pub trait Checker {
    /// Its name.
    fn rule(&self) -> &'static str;
    /// Looks at one observation; `at` is virtual time in µs.
    ///
    /// # Errors
    /// The rule is broken.
    fn see(&mut self, at: u64, observed: &Observed<'_>) -> Result<(), Violation>;
}

/// All rules.
pub struct Checkers {
    mirror: mirror::Mirror,
    table: log_matching::Table,
    committed: commit_rule::Committed,
    /// None if the shadows could not be made, which is reported.
    ledger: Result<ledger::Ledger, Violation>,
    elections: election_safety::ElectionSafety,
    votes: vote_durability::VoteDurability,
    equality: replica_equality::ReplicaEquality,
    answers: answers::Answers,
    reads: reads::Reads,
    revisions: revision_rules::RevisionRules,
    own_answers: own_answers::OwnAnswers,
    stale_terms: stale_terms::StaleTerms,
    linearizability: linearizability::Linearizability,
    liveness: liveness::Liveness,
    /// More may be lost than can be borne: then only honesty is required.
    beyond_budget: bool,
    /// Logs are kept for the slowest member.
    keep_log_for_all: bool,
}

impl Checker for Checkers {
    fn rule(&self) -> &'static str {
        "all"
    }

    fn see(&mut self, at: u64, observed: &Observed<'_>) -> Result<(), Violation> {
        Checkers::see(self, at, observed)
    }
}

impl Checkers {
    /// For a cluster of this many nodes, 1..=nodes, that nothing has happened in.
    pub fn new(nodes: u64) -> Self {
        Self {
            mirror: mirror::Mirror::new(nodes),
            table: log_matching::Table::default(),
            committed: commit_rule::Committed::default(),
            ledger: ledger::Ledger::new(),
            elections: election_safety::ElectionSafety::default(),
            votes: vote_durability::VoteDurability::default(),
            equality: replica_equality::ReplicaEquality::default(),
            answers: answers::Answers::default(),
            reads: reads::Reads::default(),
            revisions: revision_rules::RevisionRules::default(),
            own_answers: own_answers::OwnAnswers::default(),
            stale_terms: stale_terms::StaleTerms::default(),
            linearizability: linearizability::Linearizability::default(),
            liveness: liveness::Liveness::default(),
            beyond_budget: false,
            keep_log_for_all: false,
        }
    }

    /// Faults may destroy every copy of something: that a quorum keeps what is committed is not required then.
    pub fn allow_beyond_budget(&mut self) {
        self.beyond_budget = true;
    }

    /// Logs are truncated only below what every member holds: then nobody needs a snapshot who has lost nothing.
    pub fn require_log_for_all(&mut self) {
        self.keep_log_for_all = true;
    }

    /// What came of judging the clients' history; None before the end of the run.
    pub fn history_report(&self) -> Option<&history::HistoryReport> {
        self.linearizability.report()
    }

    /// Looks at one observation; `at` is virtual time in µs.
    ///
    /// # Errors
    /// The first rule that is broken. What is seen after that has no meaning.
    pub fn see(&mut self, at: u64, observed: &Observed<'_>) -> Result<(), Violation> {
        match *observed {
            Observed::Started {
                node,
                incarnation,
                hard_state,
                compacted_to,
                entries,
                applied,
                recovering,
                disk_replaced,
            } => {
                let start = mirror::Start {
                    incarnation,
                    hard_state,
                    compacted_to,
                    entries,
                    applied: applied.index,
                    recovering,
                    disk_replaced,
                };
                self.own_answers.life(node);
                self.started(node, &start, &applied)
            }
            Observed::LeaseHeld { node, term } => leases::held(&self.elections, node, term),
            Observed::Halted { node, .. } | Observed::Crashed { node } => {
                self.own_answers.life(node);
                self.mirror.crashed(node)
            }
            Observed::Stepped { node, before, after } => self.stepped(node, before, after),
            Observed::WriteAsked { node, write } => self.asked(node, write),
            Observed::WriteDurable { node, write } => self.durable(node, write),
            Observed::Sent { message } => self.sent(message),
            Observed::Delivered { message } => {
                self.reads.delivered(message, self.committed.last().index);
                Ok(())
            }
            Observed::Applied { node, from, to, kv } => self.applied(node, from, &to, kv),
            Observed::Truncated { node, up_to } => {
                truncation::truncated(&self.mirror, &self.committed, node, up_to)?;
                self.mirror.truncated(node, up_to)
            }
            Observed::Installed { node, snapshot, kv } => {
                let ledger = self.ledger.as_ref().map_err(Violation::clone)?;
                truncation::installed(&self.mirror, &self.committed, ledger, node, snapshot, kv)?;
                self.mirror.installed(node, snapshot.last)
            }
            Observed::Invoked { id, client, node, op } => self.invoked(at, id, client, node, op),
            Observed::RequestTaken { node, id, within_ticks } => {
                self.own_answers.taken(node, id, within_ticks);
                Ok(())
            }
            Observed::RequestDone { node, id } => {
                self.own_answers.done(node, id);
                Ok(())
            }
            Observed::Ticked { node } => {
                self.own_answers.ticked(node);
                Ok(())
            }
            Observed::TurnEnded { node } => self.own_answers.turn_ended(node),
            Observed::Answered { record } => {
                let ledger = self.ledger.as_ref().map_err(Violation::clone)?;
                self.answers.answered(ledger, record)?;
                self.revisions.answered(record)?;
                self.reads.answered(&self.mirror, ledger, record)?;
                self.liveness.answered(record);
                self.linearizability.answered(record);
                Ok(())
            }
            Observed::Healed { core } => {
                self.liveness.healed(core);
                Ok(())
            }
            Observed::Ended { converged, kvs } => self.ended(converged, kvs),
        }
    }

    fn started(&mut self, id: u64, start: &mirror::Start<'_>, applied: &AppliedState) -> Result<(), Violation> {
        let log = start.log();
        self.votes.started(&self.mirror, id, start)?;
        recovery::started(&self.mirror, &self.committed, id, start, &log)?;
        durability_ledger::fits(&self.committed, id, start, &log, applied.term)?;
        self.committed.started(id, start.hard_state.commit_index, start.applied)?;
        let first = start.compacted_to;
        let mut previous = (first.index == 0 || first.term > 0).then_some(first.term);
        for entry in start.entries {
            self.see_entry(id, entry, previous, false)?;
            self.table.note_durable(id, entry.id());
            previous = Some(entry.term);
        }
        self.mirror.started(id, start)?;
        if let Ok(ledger) = &self.ledger {
            state_machine_safety::same_state(ledger, id, applied)
                .or_else(|broken| if applied.index == 0 { Ok(()) } else { Err(broken) })?;
        }
        if self.beyond_budget {
            return Ok(());
        }
        durability_ledger::started(&self.mirror, &self.committed, id)
    }

    fn stepped(&mut self, id: u64, before: &PeerStatus, after: &PeerStatus) -> Result<(), Violation> {
        if before == after {
            return self.mirror.stepped(id, after);
        }
        self.votes.stepped(id, before, after)?;
        recovery::stepped(&self.mirror, &self.committed, id, before, after)?;
        let elected = self.elections.stepped(&self.mirror, id, before, after)?;
        self.committed.stepped(&self.mirror, &self.table, id, before, after)?;
        self.mirror.stepped(id, after)?;
        if elected {
            leader_completeness::elected(&self.mirror, &self.committed, id)?;
        }
        Ok(())
    }

    /// An entry is in a log, or is sent. Counts it if it is new.
    fn see_entry(
        &mut self,
        id: u64,
        entry: &RaftLogEntry,
        previous: Option<u64>,
        leads: bool,
    ) -> Result<(), Violation> {
        if self.table.see(id, entry, previous, leads)? {
            self.answers.made(entry)?;
        }
        Ok(())
    }

    fn asked(&mut self, id: u64, write: &Write) -> Result<(), Violation> {
        self.votes.asked(&self.mirror, id, write)?;
        self.elections.asked(&self.mirror, id, write)?;
        let node = self.mirror.node(id)?;
        let mut previous = write.entries.first().and_then(|first| node.memory.term_at(first.index.checked_sub(1)?));
        for entry in &write.entries {
            // It may have lost its leadership since it made the entry.
            let made_here = self.elections.leader_of(entry.term) == Some(id);
            self.see_entry(id, entry, previous, made_here)?;
            previous = Some(entry.term);
        }
        self.mirror.asked(id, write)
    }

    fn durable(&mut self, id: u64, write: &Write) -> Result<(), Violation> {
        durability_ledger::durable(&self.mirror, &self.committed, id, write)?;
        for entry in &write.entries {
            self.table.note_durable(id, entry.id());
        }
        self.mirror.durable(id, write)
    }

    fn sent(&mut self, message: &Message) -> Result<(), Violation> {
        self.votes.sent(&self.mirror, message)?;
        self.elections.sent(message)?;
        recovery::sent(&self.mirror, message)?;
        self.committed.sent(message)?;
        persist_before_send::sent(&self.mirror, &self.table, message)?;
        if self.keep_log_for_all {
            truncation::snapshot_sent(&self.mirror, message)?;
        }
        self.stale_terms.sent(message)?;
        self.reads.sent(message)?;
        if let Body::AppendEntries { prev, entries, .. } = &message.body {
            let mut previous = persist_before_send::previous_term(&self.table, *prev);
            for entry in entries {
                self.see_entry(message.from, entry, previous, entry.term == message.term)?;
                previous = Some(entry.term);
            }
        }
        self.mirror.sent(message)
    }

    fn applied(&mut self, id: u64, from: u64, to: &AppliedState, kv: &Kv<MemoryStore>) -> Result<(), Violation> {
        let ledger = self.ledger.as_mut().map_err(|broken| broken.clone())?;
        while ledger.last() < to.index
            && let Some(next) = self.committed.id_at(ledger.last() + 1)
        {
            let Some(known) = self.table.get(next) else {
                return Err(violation("commit-rule", format!("{next} is committed, but nobody has seen it")));
            };
            ledger.apply(&known.entry)?;
            self.answers.applied(&known.entry);
        }
        state_machine_safety::applied(&self.mirror, &self.committed, ledger, id, from, to)?;
        self.equality.applied(ledger, id, kv)?;
        self.mirror.node_mut(id)?.applied = to.index;
        Ok(())
    }

    fn invoked(&mut self, at: u64, id: u64, client: u64, node: u64, op: &Op) -> Result<(), Violation> {
        self.answers.invoked(id, node, op)?;
        self.reads.invoked(&self.mirror, id, node, op)?;
        self.linearizability.invoked(at, id, client, node, op);
        Ok(())
    }

    fn ended(&mut self, converged: bool, kvs: &[(u64, &Kv<MemoryStore>)]) -> Result<(), Violation> {
        let ledger = self.ledger.as_mut().map_err(|broken| broken.clone())?;
        self.liveness.ended(converged)?;
        self.answers.ended(&self.liveness.core())?;
        ledger.compare_contents()?;
        for (id, kv) in kvs {
            state_machine_safety::same_state(ledger, *id, &kv.applied())?;
            let compared = replica_equality::compare(ledger, *id, kv)?;
            let newest = self.committed.last().index;
            if converged && (!compared || kv.applied().index < newest.min(ledger.last())) {
                let what = format!(
                    "in the end n{id} is at {:?}, but {} entries are applied elsewhere",
                    kv.applied(),
                    ledger.last()
                );
                return Err(violation("durability", what));
            }
        }
        self.linearizability.ended(kvs)
    }
}

pub(crate) fn violation(rule: &'static str, what: impl Into<String>) -> Violation {
    Violation { rule, what: what.into() }
}
