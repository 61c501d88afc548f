//! B24: what a leader of an earlier term said has no effect. Seen from outside: who accepts entries in a term was sent an append
//! or a snapshot by that leader in that term. (An old one is answered too, with a rejection that says nothing.)

use super::mirror::accepted;
use super::violation;
use crate::observed::Violation;
use flaredb_raft::{Body, Message};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct StaleTerms {
    /// The last term in which one node sent another an append or a snapshot.
    asked: BTreeMap<(u64, u64), u64>,
}

impl StaleTerms {
    pub(crate) fn sent(&mut self, message: &Message) -> Result<(), Violation> {
        let Message { from, to, term, .. } = *message;
        if matches!(message.body, Body::AppendEntries { .. } | Body::InstallSnapshot { .. }) {
            let asked = self.asked.entry((from, to)).or_default();
            *asked = term.max(*asked);
        } else if let Some(index) = accepted(message)
            && let Some(asked) = self.asked.get(&(to, from)).filter(|asked| **asked < term)
        {
            let what =
                format!("n{from}@{term} accepts up to {index} from n{to}, which sent it nothing since term {asked}");
            return Err(violation("stale-term", what));
        }
        Ok(())
    }
}
