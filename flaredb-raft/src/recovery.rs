//! A peer whose disk holds less than it once acknowledged (R15).
//!
//! What a voter promises is a position in Raft's order (the end of its log when it acknowledged) together with its term and
//! vote. While its durable log ends below what it promised, the peer is *recovering*: it follows leaders and takes their
//! entries, but it neither votes, for others or for itself, nor leads. It acknowledges only what it really holds again; a
//! leader that believes in more is told so (`AppendResult::Lost`). When its durable log reaches the promise it holds
//! everything committed that it ever acknowledged, and is a voter like any other.
//!
//! A peer that does not know what it promised (its disk was replaced) is *mute* until the host has asked all other voters: it
//! does not even know its term, and an answer in a term below one that it voted in could confirm a leader that was deposed.
//!
//! Not in here: who finds out that something was lost, and what was promised. The host does.

use crate::peer::Peer;
use crate::role::Role;
use crate::start::Recovered;
use crate::{EntryId, RaftStorage, StartError};

/// What a recovering peer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Recovery {
    /// The durable log has to reach this position, in Raft's order.
    until: EntryId,
    /// `until` and the term are all that was promised; else the peer is mute.
    told: bool,
}

impl Recovery {
    /// As the storage reports it at start; None if the log reaches its promise.
    pub(crate) fn at_start(recovered: &Recovered, is_alone: bool) -> Result<Option<Self>, StartError> {
        match recovered.recover_until.filter(|until| *until > recovered.last) {
            Some(until) if is_alone => Err(StartError::NobodyToRecoverFrom { until, last: recovered.last }),
            Some(until) => Ok(Some(Self { until, told: true })),
            None => Ok(None),
        }
    }
}

impl<S: RaftStorage> Peer<S> {
    /// The host has found that this peer promised more than it holds. Whatever it knew before, it knows at least as much after.
    pub(crate) fn on_recover(&mut self, until: Option<EntryId>, term: u64) {
        let known = self.recovery.map_or(EntryId::default(), |recovery| recovery.until);
        self.recovery = Some(Recovery { until: known.max(until.unwrap_or_default()), told: until.is_some() });
        let is_follower = matches!(self.role, Role::Follower(_));
        if !is_follower || until.is_none() || term > self.term {
            self.become_follower(term.max(self.term), None, "what was promised is not on the disk");
        }
        if term == self.term && self.voted_for.is_none() {
            // The vote of this term may be given away already. One for itself is never counted, as no candidate asks in this
            // term, and keeps any other from being given, over restarts too.
            self.voted_for = Some(self.config.id);
        }
        // What has not left yet, a vote among it, was said by a peer that did not know this.
        self.gated.clear();
        self.out.send_now.clear();
        self.maybe_end_recovery();
    }

    /// The durable log has grown. Once at the promise, always: what is truncated later was not committed, as in any peer.
    pub(crate) fn maybe_end_recovery(&mut self) {
        let persisted = self.log.persisted_id();
        self.recovery = self.recovery.filter(|recovery| !recovery.told || recovery.until > persisted);
    }

    /// True while it must neither vote nor lead.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovery.is_some() && !mutant!(PromiseForgotten)
    }

    /// True while it must say nothing at all.
    pub(crate) fn is_mute(&self) -> bool {
        self.recovery.is_some_and(|recovery| !recovery.told) && !mutant!(PromiseForgotten)
    }

    /// The position that this peer vouches for: it votes for nobody whose log ends before it. None if it does not know.
    pub fn promise(&self) -> Option<EntryId> {
        match self.recovery {
            None => Some(self.log.last()),
            Some(Recovery { until, told: true }) => Some(until.max(self.log.last())),
            Some(Recovery { told: false, .. }) => None,
        }
    }
}
