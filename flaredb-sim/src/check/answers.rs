//! I32: each request is answered once. `Written`: its entry is in the log exactly once, and the answer is that entry's outcome.
//! `Never`: no log has an entry of it, now or later. No command enters a log twice (B68), and none that nobody asked for.
//!
//! Entries do not name requests; a request is known by its command's bytes. Requests with the same bytes are counted together.

use super::ledger::{Ledger, meaning};
use super::violation;
use crate::history::{Op, Outcome, Record};
use crate::observed::Violation;
use bytes::Bytes;
use flaredb_kv::{Command, CommandKind, Limits};
use flaredb_raft::{EntryId, RaftLogEntry};
use std::collections::BTreeMap;

/// Requests with the same command.
#[derive(Debug, Default)]
struct Alike {
    asked: u64,
    never: u64,
    /// Entries ever made, wherever.
    made: u64,
    /// Committed entries whose outcome nobody was told.
    untold: Vec<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    by_command: BTreeMap<(u8, Bytes), Alike>,
    /// Under way: through which node.
    waiting: BTreeMap<u64, u64>,
    last_id: Option<u64>,
}

fn key(kind: CommandKind, bytes: Bytes) -> (u8, Bytes) {
    let kind = match kind {
        CommandKind::Put => 1,
        CommandKind::DeleteRange => 2,
        CommandKind::Txn => 3,
        CommandKind::Compact => 4,
    };
    (kind, bytes)
}

impl Answers {
    pub(crate) fn invoked(&mut self, id: u64, node: u64, op: &Op) -> Result<(), Violation> {
        if self.last_id.is_some_and(|last| id <= last) {
            return Err(violation("answers", format!("request {id} is sent again")));
        }
        self.last_id = Some(id);
        self.waiting.insert(id, node);
        if let Op::Write(command) = op {
            self.by_command.entry(key(command.kind(), command.encode())).or_default().asked += 1;
        }
        Ok(())
    }

    /// An entry was made: it was in no log before.
    pub(crate) fn made(&mut self, entry: &RaftLogEntry) -> Result<(), Violation> {
        let Some((kind, bytes)) = meaning(entry) else { return Ok(()) };
        let alike = self.by_command.entry(key(kind, bytes)).or_default();
        alike.made += 1;
        alike.check(entry.id())
    }

    /// An entry was applied for the first time.
    pub(crate) fn applied(&mut self, entry: &RaftLogEntry) {
        if let Some((kind, bytes)) = meaning(entry) {
            self.by_command.entry(key(kind, bytes)).or_default().untold.push(entry.index);
        }
    }

    pub(crate) fn answered(&mut self, ledger: &Ledger, record: &Record) -> Result<(), Violation> {
        let Record { id, op, outcome, .. } = record;
        if self.waiting.remove(id).is_none() {
            return Err(violation("answers", format!("request {id} is answered, but does not wait: {outcome:?}")));
        }
        let Op::Write(command) = op else { return Ok(()) };
        let alike = self.by_command.entry(key(command.kind(), command.encode())).or_default();
        match outcome {
            Outcome::Written(told) => {
                let own = alike.untold.iter().position(|index| ledger.outcome_at(*index) == Some(told));
                if let Some(own) = own {
                    alike.untold.swap_remove(own);
                    return Ok(());
                }
                // What no server would propose may be refused without an entry.
                let refused_at_once =
                    told.as_ref().is_err_and(|error| command.check(&Limits::default()) == Err(*error));
                if refused_at_once && !matches!(command, Command::Compact(_)) {
                    return Ok(());
                }
                let known: Vec<_> = alike.untold.iter().map(|index| (index, ledger.outcome_at(*index))).collect();
                let what = format!("request {id} {op:?} was told {told:?}, its entries came to {known:?}");
                Err(violation("answers", what))
            }
            Outcome::Never => {
                alike.never += 1;
                alike.check(EntryId::default())
            }
            Outcome::Read { .. } => Err(violation("answers", format!("request {id}, a write, is answered as a read"))),
            Outcome::Unknown => Ok(()),
        }
    }

    /// `core`: nodes of which progress is required.
    pub(crate) fn ended(&self, core: &[u64]) -> Result<(), Violation> {
        match self.waiting.iter().find(|(_, node)| core.contains(node)) {
            Some((id, node)) => Err(violation("answers", format!("request {id} through n{node} was never answered"))),
            None => Ok(()),
        }
    }
}

impl Alike {
    fn check(&self, newest: EntryId) -> Result<(), Violation> {
        if self.made + self.never <= self.asked {
            return Ok(());
        }
        let Self { asked, never, made, .. } = self;
        let what =
            format!("{made} entries of a command asked {asked} times, {never} of them told never (entry {newest})");
        Err(violation("answers", what))
    }
}
