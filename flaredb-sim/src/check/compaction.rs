//! I31 from the outside: what is compacted is refused once anybody was told so, and nothing is refused without a compaction.
//!
//! A compaction makes no revision, so it is not part of the replay: what is known of its place is the revision in its answer
//! and its time.

use super::history::{FinalState, Name, Operation, Place, each_op, each_request, violation};
use crate::history::{Op, Outcome};
use crate::observed::Violation;
use flaredb_kv::{Command, KvError, RequestOp, ResponseBody};

/// Sorted by a time or a revision, with the highest compaction up to there.
struct Highest(Vec<(u64, i64)>);

impl Highest {
    fn new(mut points: Vec<(u64, i64)>) -> Self {
        points.sort_unstable();
        let mut highest = i64::MIN;
        for point in &mut points {
            highest = highest.max(point.1);
            point.1 = highest;
        }
        Self(points)
    }

    /// Of those strictly before.
    fn before(&self, at: u64) -> i64 {
        let count = self.0.partition_point(|(point, _)| *point < at);
        count.checked_sub(1).and_then(|last| self.0.get(last)).map_or(i64::MIN, |(_, highest)| *highest)
    }
}

/// Judges every answer that has to do with a compaction.
pub(crate) fn check(operations: &[Operation<'_>], first: &FinalState) -> Result<(), Violation> {
    let (mut told, mut placed, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for operation in operations {
        let Some(Command::Compact(compact)) = operation.command() else { continue };
        let record = operation.record;
        match operation.place {
            Place::Look { revision, .. } => {
                told.push((record.answered_at, compact.revision));
                placed.push((u64::try_from(revision).unwrap_or(0), compact.revision));
                sent.push((record.invoked_at, compact.revision));
            }
            Place::UnknownWrite => sent.push((record.invoked_at, compact.revision)),
            _ => {}
        }
    }
    let (told, placed, sent) = (Highest::new(told), Highest::new(placed), Highest::new(sent));
    // Of a store that was not empty at first it is not known what was compacted before.
    let known = first.revision == 1;
    for operation in operations {
        let record = operation.record;
        let possible = sent.before(record.answered_at.saturating_add(1));
        let certain = |linearizable: bool, revision: i64| {
            let by_time = if linearizable { told.before(record.invoked_at) } else { i64::MIN };
            by_time.max(placed.before(u64::try_from(revision).unwrap_or(0)))
        };
        let wrong = match (&record.op, &record.outcome) {
            (Op::Read(request), Outcome::Read { revision, result: Ok(_) }) => {
                request.revision > 0 && request.revision < certain(!request.serializable, *revision)
            }
            (Op::Read(request), Outcome::Read { result: Err(KvError::Compacted), .. }) => {
                known && (request.revision <= 0 || request.revision >= possible)
            }
            (Op::Write(Command::Compact(compact)), Outcome::Written(Ok(response))) => {
                compact.revision > response.revision || compact.revision <= certain(true, response.revision)
            }
            (Op::Write(Command::Compact(compact)), Outcome::Written(Err(KvError::Compacted))) => {
                known && compact.revision > possible.max(-1)
            }
            (Op::Write(Command::Txn(txn)), Outcome::Written(Ok(response))) => {
                let certain = certain(true, response.revision);
                let mut wrong = false;
                if let ResponseBody::Txn(answer) = &response.body {
                    each_op(txn, answer, &mut |op, _| {
                        wrong |=
                            matches!(op, RequestOp::Range(range) if range.revision != 0 && range.revision < certain);
                    });
                }
                wrong
            }
            (Op::Write(command @ Command::Txn(_)), Outcome::Written(Err(KvError::Compacted))) => {
                let mut reason = false;
                each_request(command, &mut |op| {
                    let below = |revision: i64| revision != 0 && revision < possible.max(-1);
                    reason |= matches!(op, RequestOp::Range(range) if below(range.revision));
                });
                known && !reason
            }
            _ => false,
        };
        if wrong {
            let what = format!("{}: was told {:?}", Name(record), record.outcome);
            return Err(violation("compaction", what));
        }
    }
    Ok(())
}
