//! What there is to judge a log by: the mark, or the reason why there is none.

use crate::data_dir::{DataDir, Made, draw_storage_id};
use crate::layout::MARK_FILE;
use crate::mark_file::{self, StoredMark};
use crate::{Identity, OpenError};
use flaredb_raft::EntryId;
use flaredb_record::judgement::{Found, Judgement, judge, judge_unmarked};
use flaredb_record::mark::{Mark, UNKNOWN};

/// What this folder says about its promises.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) made: Made,
    kind: Kind,
    generation: u64,
}

#[derive(Clone, Debug)]
enum Kind {
    Mark(Mark),
    /// Made once and not readable now, or not this folder's.
    Lost(String),
    /// Never made: a new member, or a folder of an earlier release.
    NeverMade,
}

impl Evidence {
    /// Reads identity file and mark. Refuses a mark of another cluster or member.
    pub(crate) fn read(dir: &DataDir) -> Result<Self, OpenError> {
        let made = dir.made()?;
        let stored = mark_file::read(dir.member_path())?;
        let generation = if let StoredMark::Read { generation, .. } = stored { generation } else { 0 };
        let kind = match (made.storage_id, stored) {
            // A folder of an earlier release: a mark in it is of a start that ended before the identity file said so.
            (None, _) => Kind::NeverMade,
            (Some(_), StoredMark::Missing | StoredMark::Damaged) if !made.log => Kind::NeverMade,
            (Some(_), StoredMark::Missing) => Kind::Lost(format!("the file {MARK_FILE} is missing")),
            (Some(_), StoredMark::Damaged) => Kind::Lost(format!("the file {MARK_FILE} is damaged in both slots")),
            (Some(storage_id), StoredMark::Read { mark, slots, .. }) => {
                check_owner(dir, &mark)?;
                if slots < 2 {
                    tracing::warn!(path = %dir.member_path().join(MARK_FILE).display(), "one of the mark's two slots is damaged; it is written again");
                }
                if mark.storage_id == storage_id {
                    Kind::Mark(mark)
                } else {
                    Kind::Lost(format!(
                        "the file {MARK_FILE} is of storage {:016x}, this folder is {storage_id:016x}",
                        mark.storage_id
                    ))
                }
            }
        };
        Ok(Self { made, kind, generation })
    }

    /// The entry that must be in the log, if it is known.
    pub(crate) fn acked(&self) -> Option<EntryId> {
        self.mark().map(|mark| mark.acked)
    }

    pub(crate) fn mark(&self) -> Option<&Mark> {
        if let Kind::Mark(mark) = &self.kind { Some(mark) } else { None }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn lost(&self) -> Option<&str> {
        if let Kind::Lost(why) = &self.kind { Some(why) } else { None }
    }

    pub(crate) fn judge(&self, found: &Found) -> Judgement {
        match &self.kind {
            Kind::Mark(mark) => judge(found, Some(mark)),
            Kind::Lost(why) => {
                judge(&Found { rows: [std::slice::from_ref(why), &found.rows[..]].concat(), ..found.clone() }, None)
            }
            Kind::NeverMade => judge_unmarked(found),
        }
    }

    /// The mark of this start. Its incarnation is the next one; a folder whose promises cannot be shown is a new storage, so
    /// that the other members see that it is not the one they knew.
    pub(crate) fn next_mark(&self, identity: &Identity, promised: &Promised) -> Result<Mark, OpenError> {
        let (storage_id, incarnation) = match (&self.kind, self.made.storage_id) {
            (Kind::Mark(mark), _) => (mark.storage_id, mark.incarnation.saturating_add(1)),
            (Kind::NeverMade, Some(storage_id)) => (storage_id, 1),
            (Kind::NeverMade, None) | (Kind::Lost(_), _) => (draw_storage_id()?, 1),
        };
        Ok(Mark {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            storage_id,
            incarnation,
            term: promised.term,
            voted_for: promised.voted_for,
            acked: promised.acked.unwrap_or(UNKNOWN),
            acked_chain: promised.acked_chain,
        })
    }
}

/// What the next mark says about the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promised {
    pub(crate) term: u64,
    pub(crate) voted_for: Option<u64>,
    /// None: not known.
    pub(crate) acked: Option<EntryId>,
    pub(crate) acked_chain: u64,
}

fn check_owner(dir: &DataDir, mark: &Mark) -> Result<(), OpenError> {
    let identity = dir.identity();
    for (what, found, expected) in
        [("cluster", mark.cluster_id, identity.cluster_id), ("member", mark.member_id, identity.member_id)]
    {
        if found != expected {
            return Err(OpenError::Identity { path: dir.member_path().join(MARK_FILE), what, found, expected });
        }
    }
    Ok(())
}
