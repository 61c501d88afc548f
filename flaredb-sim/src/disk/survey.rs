//! What a start would find, without starting: for keeping faults within a budget. Take a survey after a fault was injected; if
//! too few members hold what was acknowledged, take the fault back.

use super::identity::Identity;
use super::image;
use super::recovery;
use super::sectors::SimDisk;
use flaredb_raft::EntryId;
use flaredb_record::judgement::Judgement;
use flaredb_record::mark;

/// What a start would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The last entry that the log would hold, or that it would be compacted to.
    pub last: EntryId,
    /// How far the state machine would have come.
    pub applied: EntryId,
    /// The member would have to recover until here; [`mark::UNKNOWN`] if it is not known how far.
    pub recover_until: Option<EntryId>,
    /// What would be repaired.
    pub repairs: Option<String>,
    /// Why it would not start at all.
    pub halts: Option<String>,
}

impl Survey {
    /// Of what is on the disk now; what programs wrote and did not sync counts as if it were durable.
    pub fn of(disk: &SimDisk, identity: &Identity) -> Self {
        let nothing = Self {
            last: EntryId::default(),
            applied: EntryId::default(),
            recover_until: None,
            repairs: None,
            halts: None,
        };
        let found = match recovery::read(disk, identity) {
            Ok(Some(found)) => found,
            Ok(None) => return nothing,
            Err(why) => return Self { halts: Some(why), ..nothing },
        };
        let applied = image::applied(found.image.as_ref().map(|(image, _)| image));
        match found.judgement {
            Judgement::Halt { why } => Self { halts: Some(why), ..nothing },
            Judgement::Whole => Self { last: found.log.last, applied, ..nothing },
            Judgement::Repair { restart_at, until, why, .. } => {
                let last = restart_at.unwrap_or(found.log.last);
                let until = until.unwrap_or(mark::UNKNOWN);
                let recover_until = (last < until).then_some(until);
                Self { last, applied, recover_until, repairs: Some(why), halts: None }
            }
        }
    }

    /// True if this member has what the entry at `index` did, in its log or in its state machine.
    pub fn holds(&self, index: u64) -> bool {
        self.halts.is_none() && index <= self.last.index.max(self.applied.index)
    }

    /// True if this member would take part at once, with all that it acknowledged.
    pub fn is_whole(&self) -> bool {
        self.halts.is_none() && self.recover_until.is_none()
    }
}
