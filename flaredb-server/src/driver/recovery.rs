//! A member whose disk was replaced, wiped or restored from an old backup: it says nothing until all others have said where
//! they are, and votes only when its log is there again.
//!
//! The core's rules are R15 (`flaredb-raft/src/recovery.rs`); that something is wrong is found by the storage at start, or by
//! the others' memory (`flaredb_replica::acquaintance`). Positions count from the moment this process started: what the disk that
//! is gone promised was promised before.

use super::{Driver, Failure};
use crate::transport::Position;
use flaredb_raft::EntryId;
use flaredb_replica::{
    Input,
    acquaintance::{Inquiry, Standing, StartId},
};
use flaredb_storage::Recovery;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub(super) struct Recovering {
    /// What the others vouch for.
    inquiry: Inquiry,
    /// Starts that the others remember and that this disk does not continue; not taken over yet.
    former: Vec<StartId>,
    begun: bool,
    /// The core knows until when.
    told: bool,
    /// To be noted on the disk behind this term.
    to_note: Option<(u64, EntryId)>,
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
                self.replica.step(Input::Recover { until: None, term: 0 })?;
            }
        }
        Ok(())
    }

    pub(super) fn on_met(&mut self, peer: u64, standing: Standing, position: Position) -> Result<(), Failure> {
        if let Some((term, last)) = position {
            self.recovering.inquiry.report(peer, term, Some(last));
        }
        let Standing::Replaced { former } = standing else { return self.tell_when_all_are_heard() };
        self.recovering.former.extend(former);
        if !self.recovering.begun {
            tracing::error!(
                node = %self.name, told_by = self.member_name(peer),
                "recovering: this member's disk was replaced, wiped or restored from an old backup; it does not vote until it \
                 has heard from all others and has caught up with them"
            );
            self.recovering.begun = true;
            self.shared.counters().recoveries.add(1);
            self.replica.step(Input::Recover { until: None, term: 0 })?;
            // Said by a member that did not know this: it may be a vote.
            if let Some((_, messages)) = &mut self.after_write {
                messages.clear();
            }
            self.log.recover(None);
        }
        self.tell_when_all_are_heard()
    }

    /// Each tick: once everything that was promised is here, durably, term and vote included, the former disks are this one's.
    pub(super) fn maybe_take_over(&mut self) {
        let is_whole = self.recovering.told && !self.replica.status().recovering && self.after_write.is_none();
        if !is_whole
            || self.recovering.to_note.is_some()
            || self.recovering.former.is_empty()
            || self.replica.has_output()
        {
            return;
        }
        let former = std::mem::take(&mut self.recovering.former);
        let (memory, transport, node) = (Arc::clone(&self.memory), self.transport.clone(), self.name.clone());
        tokio::spawn(async move {
            match tokio::task::spawn_blocking(move || memory.take_over(&former)).await {
                // The others replace what they remember when they are greeted.
                Ok(Ok(())) => transport.greet_anew(),
                Ok(Err(error)) => transport.memory_failed(error).await,
                Err(error) => tracing::error!(%node, %error, "storing the end of the recovery ended in a bug"),
            }
        });
    }

    fn tell_when_all_are_heard(&mut self) -> Result<(), Failure> {
        let Recovering { inquiry, begun, told, .. } = &mut self.recovering;
        let voters: Vec<u64> = self.cluster.members.iter().map(|member| member.id).collect();
        let Some((until, term)) = inquiry.outcome(self.cluster.member_id, &voters).filter(|_| *begun && !*told) else {
            return Ok(());
        };
        *told = true;
        tracing::warn!(node = %self.name, term, %until, "recovering: all others were heard; this member catches up with them");
        self.recovering.to_note = Some((term, until));
        Ok(self.replica.step(Input::Recover { until: Some(until), term })?)
    }

    /// A write of this term was handed to the log thread, which does one thing after the other: what was told is noted only when
    /// the term is durable. A start that knew only until when to recover would take its disk's term and vote for all that it
    /// had promised.
    pub(super) fn note_what_was_told_after(&mut self, written: u64) {
        if let Some((_, until)) = self.recovering.to_note.take_if(|(term, _)| written >= *term) {
            self.log.recover(Some(until));
        }
    }

    /// Each tick: all that was asked for is durable, so the term was before.
    pub(super) fn maybe_note_what_was_told(&mut self) {
        if self.after_write.is_none() && !self.replica.has_output() {
            self.note_what_was_told_after(u64::MAX);
        }
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
