//! Starting from what the disk holds: it is taken as it is or refused, never repaired by guessing.

use crate::{ConfState, Config, EntryId, HardState, RaftStorage, StorageError};
use core::fmt;

/// Why a peer does not start. The texts name the values that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// A setting cannot work.
    Config(&'static str),
    /// The disk cannot be read.
    Storage(StorageError),
    /// The voters are empty, unsorted, repeated, or contain 0.
    Voters(ConfState),
    /// Something was committed or applied that the log does not hold.
    CommitPastEnd {
        /// Commit index of the hard state.
        stored_commit: u64,
        /// What the state machine has applied.
        last_applied: u64,
        /// Position that the log was compacted to.
        snapshot: EntryId,
        /// Last index of the log.
        last_index: u64,
    },
    /// Entries are missing between what is applied (or the snapshot) and the start of the log.
    LogHole {
        /// What the state machine has applied.
        last_applied: u64,
        /// Position that the log was compacted to.
        snapshot: EntryId,
        /// First index of the log.
        first_index: u64,
        /// Last index of the log.
        last_index: u64,
    },
    /// The log holds an entry of a term that the hard state has not reached.
    TermBehindLog {
        /// Term of the hard state.
        current_term: u64,
        /// Last entry of the log.
        last: EntryId,
    },
    /// The log lost entries, and there is no other voter that could have them.
    NobodyToRecoverFrom {
        /// What it held once.
        until: EntryId,
        /// Last entry of the log.
        last: EntryId,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) => write!(f, "unusable setting: {text}"),
            Self::Storage(error) => write!(f, "raft log: {error}"),
            Self::Voters(conf_state) => {
                write!(f, "voters must be distinct, ascending and not 0, but are {:?}", conf_state.voters)
            }
            Self::CommitPastEnd { stored_commit, last_applied, snapshot, last_index } => write!(
                f,
                "the log ends at {last_index}, but commit_index is {stored_commit}, last_applied {last_applied}, snapshot {snapshot}"
            ),
            Self::LogHole { last_applied, snapshot, first_index, last_index } => write!(
                f,
                "entries are missing: last_applied is {last_applied}, snapshot {snapshot}, the log holds {first_index} to {last_index}"
            ),
            Self::TermBehindLog { current_term, last } => {
                write!(f, "the log ends with {last}, but current_term is {current_term}")
            }
            Self::NobodyToRecoverFrom { until, last } => write!(
                f,
                "the log ends with {last}, but {until} was acknowledged once; a member that is the only voter cannot get it from another"
            ),
        }
    }
}

impl core::error::Error for StartError {}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

pub(crate) struct Recovered {
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
    pub(crate) last: EntryId,
    pub(crate) commit: u64,
    pub(crate) recover_until: Option<EntryId>,
}

pub(crate) fn check_config(config: &Config) -> Result<(), StartError> {
    let checks = [
        (config.id > 0, "id must not be 0"),
        (config.heartbeat_interval_ticks > 0, "heartbeat_interval_ticks must not be 0"),
        (
            config.election_timeout_ticks > config.heartbeat_interval_ticks,
            "election_timeout_ticks must be greater than heartbeat_interval_ticks",
        ),
        (config.inflight_max > 0 && config.inflight_bytes_max > 0, "inflight_max and inflight_bytes_max must not be 0"),
        (config.write_stall_ticks > 0, "write_stall_ticks must not be 0"),
        (config.apply_bytes_max > 0, "apply_bytes_max must not be 0"),
    ];
    checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, text)| Err(StartError::Config(text)))
}

/// Loads hard state, conf state and the log's bounds. The stored commit index may be behind what is applied, because commit
/// progress alone is never synced (R3); nothing may be past the end of the log.
pub(crate) fn recover<S: RaftStorage>(storage: &S, last_applied: u64) -> Result<Recovered, StartError> {
    let state = storage.initial_state()?;
    let voters = &state.conf_state.voters;
    let ascending = voters.iter().zip(voters.iter().skip(1)).all(|(a, b)| a < b);
    if voters.is_empty() || !ascending || voters.contains(&0) {
        return Err(StartError::Voters(state.conf_state));
    }
    let snapshot = storage.snapshot()?.last;
    let first_index = storage.first_index()?;
    let last_index = storage.last_index()?;
    let hole = first_index == 0 || first_index > snapshot.index + 1 || last_index + 1 < first_index;
    if hole || last_applied < snapshot.index || last_applied + 1 < first_index {
        return Err(StartError::LogHole { last_applied, snapshot, first_index, last_index });
    }
    let mut hard_state = state.hard_state;
    if state.recover_until.is_some() {
        // What is lost can be committed all the same; it is not known any more.
        hard_state.commit_index = hard_state.commit_index.min(last_index);
    }
    let stored_commit = hard_state.commit_index;
    let commit = stored_commit.max(last_applied).max(snapshot.index);
    if commit > last_index {
        return Err(StartError::CommitPastEnd { stored_commit, last_applied, snapshot, last_index });
    }
    let last = EntryId { index: last_index, term: storage.term_of(last_index)? };
    let current_term = hard_state.current_term;
    if current_term < last.term {
        return Err(StartError::TermBehindLog { current_term, last });
    }
    Ok(Recovered { hard_state, conf_state: state.conf_state, last, commit, recover_until: state.recover_until })
}
