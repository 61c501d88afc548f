//! How far the log may be truncated.
//!
//! An entry may go when its effects are on this node's disk without it, when it is `catch_up_entries` behind, and, because a
//! peer cannot be sent a snapshot yet, when every voter holds it durably: whoever leads next must be able to send each
//! voter what it lacks. Only the leader sees what the others hold, so it *announces* it in the log: an entry without a
//! command whose context says "all voters have everything up to this index". That stays true for ever (what all have is
//! committed, and no peer drops committed entries that it has not applied), so every peer that applies the entry may act on
//! it, also when another leads. A restart forgets it until the next one comes. One such entry in `snapshot_count` costs
//! nothing, and neither the raft core nor its messages know of it. When snapshots come, `keep_log_for_all` goes off and each node truncates on its own.

use crate::ReplicaConfig;

#[derive(Debug, Default)]
pub(crate) struct Truncation {
    /// What the state machine's store has on disk.
    flushed: u64,
    /// Every voter durably holds the log up to here.
    all_have: u64,
    /// What this leader has announced in this term, applied or not.
    announced: u64,
    /// What the host has been asked to remove.
    asked: u64,
}

impl Truncation {
    pub(crate) fn new(flushed: u64) -> Self {
        Self { flushed, ..Self::default() }
    }

    pub(crate) fn on_flushed(&mut self, index: u64) {
        self.flushed = self.flushed.max(index);
    }

    pub(crate) fn on_all_have(&mut self, index: u64) {
        self.all_have = self.all_have.max(index);
    }

    /// The announcement was refused, or may be lost with the leadership it was made in.
    pub(crate) fn on_announcement_lost(&mut self) {
        self.announced = 0;
    }

    /// What a leader announces, if it is worth an entry. `all_have`: the least that any voter holds.
    pub(crate) fn announce(&mut self, config: &ReplicaConfig, all_have: u64) -> Option<u64> {
        let known = self.all_have.max(self.announced);
        // An announcement is an entry itself: if it alone were worth the next one, an idle cluster would announce for ever.
        if !config.keep_log_for_all || all_have < known.saturating_add(config.snapshot_count.max(2)) {
            return None;
        }
        self.announced = all_have;
        Some(all_have)
    }

    /// The last entry to remove, if there is enough to remove. `first` and `persisted` bound the durable log.
    pub(crate) fn truncate(&mut self, config: &ReplicaConfig, first: u64, persisted: u64) -> Option<u64> {
        let applied = if mutant!(TruncatedPastFlushed) { persisted } else { self.flushed };
        let mut last = applied.min(persisted).saturating_sub(config.catch_up_entries);
        if config.keep_log_for_all {
            last = last.min(self.all_have);
        }
        let removed = self.asked.max(first.saturating_sub(1));
        if last < removed.saturating_add(config.snapshot_count.max(1)) {
            return None;
        }
        self.asked = last;
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(snapshot_count: u64, catch_up_entries: u64) -> ReplicaConfig {
        ReplicaConfig { snapshot_count, catch_up_entries, ..ReplicaConfig::new(flaredb_raft::Config::new(1, 1)) }
    }

    fn truncation(flushed: u64, all_have: u64) -> Truncation {
        Truncation { flushed, all_have, announced: 0, asked: 0 }
    }

    #[test]
    fn it_passes_neither_the_flushed_index_nor_what_all_have_nor_the_durable_log() {
        assert_eq!(truncation(100, 200).truncate(&config(10, 5), 1, 200), Some(95));
        assert_eq!(truncation(200, 50).truncate(&config(10, 5), 1, 200), Some(50));
        assert_eq!(truncation(200, 200).truncate(&config(10, 5), 1, 70), Some(65));
        assert_eq!(truncation(0, 200).truncate(&config(10, 5), 1, 200), None);
    }

    #[test]
    fn without_keep_log_for_all_the_slowest_voter_does_not_count() {
        let config = ReplicaConfig { keep_log_for_all: false, ..config(10, 5) };
        assert_eq!(truncation(100, 0).truncate(&config, 1, 200), Some(95));
        assert_eq!(truncation(100, 0).announce(&config, 100), None);
    }

    #[test]
    fn it_waits_until_snapshot_count_entries_can_go_and_asks_for_each_once() {
        let mut truncation = truncation(14, 1000);
        assert_eq!(truncation.truncate(&config(10, 5), 1, 1000), None);
        truncation.on_flushed(15);
        assert_eq!(truncation.truncate(&config(10, 5), 1, 1000), Some(10));
        truncation.on_flushed(24);
        assert_eq!(truncation.truncate(&config(10, 5), 1, 1000), None, "the host has not truncated yet");
        truncation.on_flushed(25);
        assert_eq!(truncation.truncate(&config(10, 5), 11, 1000), Some(20));
    }

    #[test]
    fn an_announcement_is_no_reason_for_another() {
        let mut truncation = truncation(0, 0);
        assert_eq!(truncation.announce(&config(1, 0), 5), Some(5));
        truncation.on_all_have(5);
        assert_eq!(truncation.announce(&config(1, 0), 6), None, "only the announcement came in between");
        assert_eq!(truncation.announce(&config(1, 0), 7), Some(7));
    }

    #[test]
    fn an_announcement_is_made_once_unless_it_is_lost() {
        let mut truncation = truncation(0, 0);
        assert_eq!(truncation.announce(&config(10, 5), 9), None);
        assert_eq!(truncation.announce(&config(10, 5), 12), Some(12));
        assert_eq!(truncation.announce(&config(10, 5), 21), None);
        truncation.on_announcement_lost();
        assert_eq!(truncation.announce(&config(10, 5), 21), Some(21));
        truncation.on_all_have(30);
        assert_eq!(truncation.announce(&config(10, 5), 39), None);
    }
}
