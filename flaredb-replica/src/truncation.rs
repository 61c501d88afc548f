//! How far the log may be truncated.
//!
//! An entry may go when its effects are on this node's disk without it, and it is `catch_up_entries` or `catch_up_bytes`
//! behind: each node truncates on its own, and a peer that lacks what is gone is sent a snapshot.
//!
//! Hosts that send no snapshots set `keep_log_for_all`: then every voter must hold the entry durably as well, as whoever leads
//! next must be able to send each voter what it lacks. Only the leader sees what the others hold, so it *announces* it in the
//! log: an entry without a command whose context says "all voters have everything up to this index". That stays true for ever
//! (what all have is committed, and no peer drops committed entries that it has not applied), so every peer that applies the
//! entry may act on it, also when another leads. A restart forgets it until the next one comes. One such entry in
//! `snapshot_count` costs nothing, and neither the raft core nor its messages know of it.

use std::collections::VecDeque;

use crate::ReplicaConfig;

/// Of `catch_up_bytes`: how exactly it is kept to.
const STEPS: u64 = 16;

#[derive(Debug, Default)]
pub(crate) struct Truncation {
    /// What the state machine's store has on disk.
    flushed: u64,
    /// Entries up to and including `flushed` that stay for slow followers.
    kept: u64,
    /// Bytes of the entries applied since the start.
    applied_bytes: u64,
    /// How many they were up to which index, now and then; rising.
    steps: VecDeque<(u64, u64)>,
    /// Every voter durably holds the log up to here.
    all_have: u64,
    /// What this leader has announced in this term, applied or not.
    announced: u64,
    /// What the host has been asked to remove.
    asked: u64,
}

impl Truncation {
    pub(crate) fn new(config: &ReplicaConfig, flushed: u64) -> Self {
        Self { flushed, kept: config.catch_up_entries, ..Self::default() }
    }

    /// Entries of so many bytes up to `index` are applied.
    pub(crate) fn on_applied(&mut self, config: &ReplicaConfig, index: u64, bytes: u64) {
        self.applied_bytes = self.applied_bytes.saturating_add(bytes);
        let before = self.steps.back().map_or(0, |(_, bytes)| *bytes);
        if self.applied_bytes - before >= (config.catch_up_bytes / STEPS).max(1) {
            self.steps.push_back((index, self.applied_bytes));
        }
    }

    pub(crate) fn on_flushed(&mut self, config: &ReplicaConfig, index: u64) {
        self.flushed = self.flushed.max(index);
        self.kept = self.entries_to_keep(config);
        let removable = self.flushed.saturating_sub(self.kept);
        while self.steps.pop_front_if(|(index, _)| *index < removable).is_some() {}
    }

    /// The fewest that reach back by either bound. Of entries from before the start only the number is known.
    fn entries_to_keep(&self, config: &ReplicaConfig) -> u64 {
        let mut behind = self.steps.iter().rev().skip_while(|(index, _)| *index > self.flushed);
        let Some((_, end)) = behind.next() else { return config.catch_up_entries };
        let far = behind.find(|(_, bytes)| end - bytes >= config.catch_up_bytes);
        far.map_or(config.catch_up_entries, |(index, _)| config.catch_up_entries.min(self.flushed - index))
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
        let mut last = applied.min(persisted).saturating_sub(self.kept);
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

    fn truncation(config: &ReplicaConfig, flushed: u64, all_have: u64) -> Truncation {
        let mut truncation = Truncation::new(config, flushed);
        truncation.on_all_have(all_have);
        truncation
    }

    #[test]
    fn it_passes_neither_the_flushed_index_nor_what_all_have_nor_the_durable_log() {
        let config = config(10, 5);
        assert_eq!(truncation(&config, 100, 200).truncate(&config, 1, 200), Some(95));
        assert_eq!(truncation(&config, 200, 50).truncate(&config, 1, 200), Some(50));
        assert_eq!(truncation(&config, 200, 200).truncate(&config, 1, 70), Some(65));
        assert_eq!(truncation(&config, 0, 200).truncate(&config, 1, 200), None);
    }

    #[test]
    fn without_keep_log_for_all_the_slowest_voter_does_not_count() {
        let config = ReplicaConfig { keep_log_for_all: false, ..config(10, 5) };
        assert_eq!(truncation(&config, 100, 0).truncate(&config, 1, 200), Some(95));
        assert_eq!(truncation(&config, 100, 0).announce(&config, 100), None);
    }

    #[test]
    fn it_waits_until_snapshot_count_entries_can_go_and_asks_for_each_once() {
        let mut truncation = truncation(&config(10, 5), 14, 1000);
        assert_eq!(truncation.truncate(&config(10, 5), 1, 1000), None);
        truncation.on_flushed(&config(10, 5), 15);
        assert_eq!(truncation.truncate(&config(10, 5), 1, 1000), Some(10));
        truncation.on_flushed(&config(10, 5), 24);
        assert_eq!(truncation.truncate(&config(10, 5), 1, 1000), None, "the host has not truncated yet");
        truncation.on_flushed(&config(10, 5), 25);
        assert_eq!(truncation.truncate(&config(10, 5), 11, 1000), Some(20));
    }

    #[test]
    fn an_announcement_is_no_reason_for_another() {
        let mut truncation = truncation(&config(10, 5), 0, 0);
        assert_eq!(truncation.announce(&config(1, 0), 5), Some(5));
        truncation.on_all_have(5);
        assert_eq!(truncation.announce(&config(1, 0), 6), None, "only the announcement came in between");
        assert_eq!(truncation.announce(&config(1, 0), 7), Some(7));
    }

    #[test]
    fn an_announcement_is_made_once_unless_it_is_lost() {
        let mut truncation = truncation(&config(10, 5), 0, 0);
        assert_eq!(truncation.announce(&config(10, 5), 9), None);
        assert_eq!(truncation.announce(&config(10, 5), 12), Some(12));
        assert_eq!(truncation.announce(&config(10, 5), 21), None);
        truncation.on_announcement_lost();
        assert_eq!(truncation.announce(&config(10, 5), 21), Some(21));
        truncation.on_all_have(30);
        assert_eq!(truncation.announce(&config(10, 5), 39), None);
    }

    #[test]
    fn large_entries_are_kept_by_bytes_small_ones_by_number() {
        let config = ReplicaConfig { catch_up_bytes: 1600, keep_log_for_all: false, ..config(1, 50) };
        let kept = |entry_bytes: u64, flushed: u64| {
            let mut truncation = Truncation::new(&config, 0);
            for index in 1..=200 {
                truncation.on_applied(&config, index, entry_bytes);
            }
            truncation.on_flushed(&config, flushed);
            truncation.truncate(&config, 1, 200).map(|last| flushed - last)
        };
        assert_eq!(kept(10, 200), Some(50), "1,600 bytes would be 160 entries");
        assert_eq!(kept(100, 200), Some(16));
        assert_eq!(kept(100, 120), Some(16), "what is behind the flushed index counts, not what came after");
        assert_eq!(kept(1000, 200), Some(2), "at least so many bytes");
        assert_eq!(kept(5000, 200), Some(1));
        assert_eq!(kept(10, 55), Some(50));
        assert_eq!(kept(100, 10), None, "nothing is far enough behind");
    }

    #[test]
    fn the_steps_do_not_pile_up() {
        let config = ReplicaConfig { catch_up_bytes: 1600, ..config(1, 50) };
        let mut truncation = Truncation::new(&config, 0);
        for index in 1..=10_000 {
            truncation.on_applied(&config, index, 30);
            if index % 100 == 0 {
                truncation.on_flushed(&config, index);
                assert!(truncation.steps.len() <= 20, "{} steps at {index}", truncation.steps.len());
            }
        }
    }
}
