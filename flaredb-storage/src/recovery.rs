//! Whether log, hard state and state machine are instants of one history.

use crate::OpenError;
use crate::layout::RAFT_LOG_CF;
use flaredb_raft::HardState;
use std::path::PathBuf;

/// A last check of what was opened. `first..=last` is what the log holds (`last == first - 1`: nothing), `applied` is the state
/// machine's durable applied index.
///
/// A stored commit index below `applied` is right: commit-only changes are not synced, and the core starts from the larger.
///
/// # Errors
/// [`OpenError::Inconsistent`], with an empty path: which files are wrong is not known here.
pub fn check_recovery(hard: &HardState, first: u64, last: u64, applied: u64) -> Result<(), OpenError> {
    let truncated = first.saturating_sub(1);
    let what = if last < truncated {
        format!("{RAFT_LOG_CF} begins at {first} and ends at {last}")
    } else if hard.commit_index > last {
        format!("raft_state/HardState says commit index {}, {RAFT_LOG_CF} ends at {last}", hard.commit_index)
    } else if applied > last {
        format!("the state machine has applied {applied}, {RAFT_LOG_CF} ends at {last}")
    } else if applied < truncated {
        format!(
            "the state machine has applied {applied}, {RAFT_LOG_CF} begins at {first}: entries {} to {truncated} are in \
             neither",
            applied.saturating_add(1)
        )
    } else {
        return Ok(());
    };
    Err(OpenError::Inconsistent { path: PathBuf::new(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(commit_index: u64, first: u64, last: u64, applied: u64) -> Result<(), String> {
        let hard = HardState { current_term: 1, voted_for: None, commit_index };
        check_recovery(&hard, first, last, applied).map_err(|error| error.to_string())
    }

    #[test]
    fn states_of_one_history_pass() {
        for (commit, first, last, applied) in
            [(0, 1, 0, 0), (5, 1, 9, 3), (5, 1, 9, 7), (9, 10, 9, 9), (3, 5, 9, 4), (9, 5, 9, 9)]
        {
            assert_eq!(check(commit, first, last, applied), Ok(()), "{commit} {first} {last} {applied}");
        }
    }

    #[test]
    fn states_of_different_histories_do_not() {
        for (commit, first, last, applied, says) in [
            (5, 1, 9, 10, "has applied 10, raft_log ends at 9"),
            (10, 1, 9, 9, "commit index 10, raft_log ends at 9"),
            (9, 6, 9, 3, "entries 4 to 5 are in neither"),
            (0, 6, 4, 5, "begins at 6 and ends at 4"),
        ] {
            let error = check(commit, first, last, applied).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
