//! What a leader knows about one follower, and how much it may send to it.
//!
//! Progress has three modes. *Probe*: where the logs agree is not known; one append is out at a time. *Replicate*: it is
//! known; appends are pipelined, `next_index` runs ahead, and a bounded window counts what is unanswered. *Snapshot*: the
//! follower needs entries that were compacted away; the host transfers a snapshot.

use alloc::collections::VecDeque;

/// The specification's ReplicationState: kept per follower by the leader, in memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplicationState {
    /// The follower holds everything up to here, durably. Falls within a term only if its disk lost something and it says so.
    pub match_index: u64,
    /// The next entry to send; always above `match_index`.
    pub next_index: u64,
    /// A probe or a snapshot is out: nothing more is sent (heartbeats excepted) until it is answered or has timed out.
    pub pending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Probe,
    Replicate,
    /// `retry_at`: the tick at which probing begins again if the follower stays silent; None while the transfer runs.
    Snapshot {
        retry_at: Option<u64>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) state: ReplicationState,
    pub(crate) mode: Mode,
    pub(crate) window: Window,
    /// Tick of the last answer in this term.
    pub(crate) contact: Option<u64>,
    /// The highest round this follower has confirmed.
    pub(crate) acked_round: u64,
    /// The latest round for which it has pledged not to vote (lease reads).
    pub(crate) pledged_round: u64,
    /// The commit index it was told, as far as the sent entries allow it to believe it.
    pub(crate) told_commit: u64,
}

impl Progress {
    pub(crate) fn new(next_index: u64) -> Self {
        Self {
            state: ReplicationState { match_index: 0, next_index, pending: false },
            mode: Mode::Probe,
            window: Window::default(),
            contact: None,
            acked_round: 0,
            pledged_round: 0,
            told_commit: 0,
        }
    }

    pub(crate) fn may_send(&self, last_index: u64, inflight_max: usize, inflight_bytes_max: u64) -> bool {
        let room = match self.mode {
            Mode::Probe => !self.state.pending,
            Mode::Replicate => !self.window.is_full(inflight_max, inflight_bytes_max),
            Mode::Snapshot { .. } => false,
        };
        room && self.state.next_index <= last_index
    }

    /// An append up to `last_index` was sent.
    pub(crate) fn on_sent(&mut self, last_index: u64, bytes: u64) {
        match self.mode {
            Mode::Probe => self.state.pending = true,
            Mode::Replicate => {
                self.state.next_index = last_index + 1;
                self.window.add(last_index, bytes);
            }
            Mode::Snapshot { .. } => unreachable!("no entries are sent while a snapshot is pending"),
        }
    }

    /// True if an empty append would let the follower commit more than it could so far.
    pub(crate) fn owes_commit(&self, commit_index: u64) -> bool {
        self.mode == Mode::Replicate && commit_index.min(self.state.next_index - 1) > self.told_commit
    }

    pub(crate) fn on_commit_told(&mut self, commit_index: u64, last_covered: u64) {
        self.told_commit = self.told_commit.max(commit_index.min(last_covered));
    }

    /// The follower holds everything up to `match_index`. Whatever message this answers, and however late it is: a
    /// follower never loses what it acknowledged in this term, so replication may go on right behind it.
    pub(crate) fn on_accepted(&mut self, match_index: u64, first_index: u64) {
        self.state.match_index = self.state.match_index.max(match_index);
        self.state.next_index = self.state.next_index.max(self.state.match_index + 1);
        match self.mode {
            Mode::Probe => self.become_replicate(),
            Mode::Replicate => self.window.free_to(self.state.match_index),
            Mode::Snapshot { .. } if self.state.match_index + 1 >= first_index => self.become_replicate(),
            Mode::Snapshot { .. } => {}
        }
    }

    /// True if a rejection of `prev_index` says something new (R11: late rejections must not rewind).
    pub(crate) fn is_rejection_fresh(&self, prev_index: u64) -> bool {
        match self.mode {
            Mode::Probe => prev_index == self.state.next_index - 1,
            Mode::Replicate => prev_index > self.state.match_index && prev_index < self.state.next_index,
            Mode::Snapshot { .. } => false,
        }
    }

    /// Probe again right behind `agreed`, the leader's best guess; what is known to match is never sent again.
    pub(crate) fn on_rejected(&mut self, agreed: u64) {
        self.become_probe(false);
        if mutant!(AckOfRejectedTail) {
            self.state.match_index = self.state.match_index.max(agreed);
        }
        self.state.next_index = self.state.match_index.max(agreed) + 1;
    }

    /// The follower's disk is not what it was (R15): the one place where `match_index` falls, to the leader's best guess of where
    /// the logs still agree. What was committed with its help stays so, because it votes for nobody who lacks that. False if
    /// this says nothing new.
    pub(crate) fn on_lost(&mut self, agreed: u64) -> bool {
        let believed = self.state.match_index > agreed;
        self.state.match_index = self.state.match_index.min(agreed);
        match self.mode {
            // Where to go on is found when the snapshot is there, or given up.
            Mode::Snapshot { .. } => believed,
            Mode::Probe | Mode::Replicate if believed || self.state.next_index > agreed + 1 => {
                self.on_rejected(agreed);
                true
            }
            Mode::Probe | Mode::Replicate => false,
        }
    }

    /// `pending`: wait for the answer to a heartbeat before anything is sent.
    pub(crate) fn become_probe(&mut self, pending: bool) {
        self.mode = Mode::Probe;
        self.state.next_index = self.state.match_index + 1;
        self.state.pending = pending;
        self.window.clear();
    }

    fn become_replicate(&mut self) {
        self.mode = Mode::Replicate;
        self.state.next_index = self.state.match_index + 1;
        self.state.pending = false;
        self.window.clear();
    }

    pub(crate) fn become_snapshot(&mut self) {
        self.mode = Mode::Snapshot { retry_at: None };
        self.state.pending = true;
        self.window.clear();
    }
}

/// Unanswered appends, oldest first.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Window {
    appends: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Window {
    fn is_full(&self, count_max: usize, bytes_max: u64) -> bool {
        self.appends.len() >= count_max || self.bytes >= bytes_max
    }

    fn add(&mut self, last_index: u64, bytes: u64) {
        self.appends.push_back((last_index, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn free_to(&mut self, match_index: u64) {
        if mutant!(WindowNeverFreed) {
            return;
        }
        while let Some((_, bytes)) = self.appends.pop_front_if(|(last_index, _)| *last_index <= match_index) {
            self.bytes -= bytes;
        }
    }

    fn clear(&mut self) {
        self.appends.clear();
        self.bytes = 0;
    }

    /// For check_invariants: the counter equals the sum (etcd-io/raft e419ba5 leaked bytes here).
    pub(crate) fn is_consistent(&self) -> bool {
        self.bytes == self.appends.iter().map(|(_, bytes)| *bytes).sum::<u64>()
    }
}
