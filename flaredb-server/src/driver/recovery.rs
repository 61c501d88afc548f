//! A member whose disk was replaced, wiped or restored from an old backup: it says nothing until all others have said where
//! they are, and votes only when its log is there again.
//!
//! The core's rules are R15 (`flaredb-raft/src/recovery.rs`); that something is wrong is found by the storage at start, or by
//! the others' memory (`transport/acquaintances.rs`). Positions count from the moment this process started: what the disk that
//! is gone promised was promised before.

use super::{Driver, Failure};
use crate::transport::Standing;
use flaredb_raft::EntryId;
use flaredb_replica::Input;
use flaredb_storage::Recovery;
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(super) struct Recovering {
    /// What the others vouch for: term and position.
    positions: BTreeMap<u64, (u64, EntryId)>,
    begun: bool,
    /// The core knows until when.
    told: bool,
    /// For the log: the core said so when it was last looked at.
    seen: bool,
}

impl Driver {
    /// Before anything else happens: what the storage has found.
    pub(super) fn begin_as_opened(&mut self, recovery: Recovery) -> Result<(), Failure> {
        match recovery {
            Recovery::Complete => {}
            // The core has read it from the storage.
            Recovery::Until(until) => {
                tracing::warn!(node = %self.name, %until, "recovering: this member does not vote until its log reaches this");
            }
            Recovery::Unknown => {
                tracing::warn!(node = %self.name, "recovering: what this member promised is not known, it asks all others");
                self.recovering.begun = true;
                self.memory.set_aware();
                self.replica.step(Input::Recover { until: None, term: 0 })?;
            }
        }
        Ok(())
    }

    pub(super) fn on_met(
        &mut self,
        peer: u64,
        standing: Standing,
        position: Option<(u64, EntryId)>,
    ) -> Result<(), Failure> {
        if let Some((term, last)) = position {
            let known = self.recovering.positions.entry(peer).or_default();
            *known = (known.0.max(term), known.1.max(last));
        }
        if standing == Standing::Replaced && !self.recovering.begun {
            tracing::error!(
                node = %self.name, told_by = self.member_name(peer),
                "recovering: this member's disk was replaced, wiped or restored from an old backup; it does not vote until it \
                 has heard from all others and has caught up with them"
            );
            self.recovering.begun = true;
            self.shared.counters().recoveries.add(1);
            self.replica.step(Input::Recover { until: None, term: 0 })?;
            self.log.recover(None);
        }
        self.tell_when_all_are_heard()
    }

    /// The log thread has noted on the disk that this member must recover.
    pub(super) fn on_noted(&mut self) {
        if !self.memory.is_aware() {
            self.memory.set_aware();
            self.transport.greet_anew();
        }
    }

    fn tell_when_all_are_heard(&mut self) -> Result<(), Failure> {
        let Recovering { positions, begun, told, .. } = &mut self.recovering;
        let others = self.cluster.members.len().saturating_sub(1);
        if !*begun || *told || positions.len() < others {
            return Ok(());
        }
        *told = true;
        let term = positions.values().map(|(term, _)| *term).max().unwrap_or_default();
        let until = positions.values().map(|(_, last)| *last).max().unwrap_or_default();
        tracing::warn!(node = %self.name, term, %until, "recovering: all others were heard; this member catches up with them");
        self.log.recover(Some(until));
        Ok(self.replica.step(Input::Recover { until: Some(until), term })?)
    }

    /// What greetings and the log say.
    pub(super) fn publish_recovery(&mut self) {
        let status = self.replica.status();
        self.memory.set_position(self.replica.peer().promise().map(|last| (status.term, last)));
        if status.recovering != self.recovering.seen {
            self.recovering.seen = status.recovering;
            if !status.recovering {
                tracing::info!(node = %self.name, "recovered: this member holds what it had promised, and votes again");
            }
        }
    }
}
