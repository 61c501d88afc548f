//! I19: while a leader may serve reads by its lease, no later leader has been elected. By true time, which no member knows.

use super::election_safety::ElectionSafety;
use super::violation;
use crate::observed::Violation;

/// The node, leading `term`, may serve reads without asking at this moment.
pub(crate) fn held(elections: &ElectionSafety, id: u64, term: u64) -> Result<(), Violation> {
    match elections.newest() {
        Some((newest, other)) if newest > term => {
            Err(violation("lease", format!("n{id}@{term} holds its lease, but n{other} was elected in term {newest}")))
        }
        _ => Ok(()),
    }
}
