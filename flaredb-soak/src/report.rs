//! What a run shows, as text and as one line of JSON.

use crate::events::Event;
use flaredb_sim::history::{Outcome, Record};
use std::collections::BTreeMap;

/// The longest time without an acknowledged write, while clients ran.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Gap {
    /// How long.
    pub ms: u64,
    /// When it began, from the start of the run.
    pub at_ms: u64,
    /// The faults that were on then.
    pub during: String,
}

/// A run.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Which server.
    pub server: String,
    /// Of schedule and workload.
    pub seed: u64,
    /// How long faults were injected.
    pub seconds: u64,
    /// none, namespaces or proxy.
    pub net: String,
    /// Requests in the history.
    pub operations: u64,
    /// Of these, writes that were acknowledged and changed something.
    pub writes: u64,
    /// Answered reads, and writes that changed nothing.
    pub reads: u64,
    /// Writes of unknown outcome.
    pub unknown: u64,
    /// Of these, how many the checker found in the content.
    pub unknown_placed: u64,
    /// Where the checker gave up; null if it did not.
    pub undecided: Option<i64>,
    /// How many rules were broken.
    pub violations: u64,
    /// Which.
    pub what: Vec<String>,
    /// Falsified copies of this run's history that the checker was shown afterwards, and how many of them it rejected.
    pub lies_told: u64,
    /// All, or the run is not worth its verdict.
    pub lies_caught: u64,
    /// Faults by name.
    pub faults: BTreeMap<String, u64>,
    /// Faults in all.
    pub faults_injected: u64,
    /// Without an acknowledged write.
    pub longest_gap: Gap,
    /// Gaps beyond a second.
    pub gaps_over_1s: u64,
    /// From the end of the faults until every member served; null if one did not.
    pub recovered_ms: Option<u64>,
    /// Members that stayed down because their disk was damaged.
    pub halted: Vec<String>,
    /// How to run it again.
    pub again: String,
}

/// Where acknowledged writes were missing, between the first and the end of the faults.
pub fn gaps(history: &[Record], events: &[Event], end_us: u64) -> (Gap, u64) {
    let mut answered: Vec<u64> = history
        .iter()
        .filter(|record| matches!(record.outcome, Outcome::Written(Ok(_))) && record.answered_at <= end_us)
        .map(|record| record.answered_at)
        .collect();
    answered.push(end_us);
    answered.sort_unstable();
    let mut longest = Gap::default();
    let mut over = 0;
    for (from, to) in answered.iter().zip(answered.iter().skip(1)) {
        let ms = (to - from) / 1000;
        over += u64::from(ms >= 1000);
        if ms > longest.ms {
            let lasts =
                |event: &&Event| event.from_us < *to && (event.until_us == 0 || event.until_us + 500_000 > *from);
            let during: Vec<String> =
                events.iter().filter(lasts).map(|event| format!("{} {}", event.kind, event.what)).collect();
            longest = Gap { ms, at_ms: from / 1000, during: during.join(", ") };
        }
    }
    (longest, over)
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let mut lines = vec![
            format!("flaredb-soak: {}, {} s, net {}, seed {}", self.server, self.seconds, self.net, self.seed),
            format!(
                "  operations checked  {} ({} writes, {} reads, {} unknown of which {} took effect)",
                self.operations, self.writes, self.reads, self.unknown, self.unknown_placed
            ),
            format!("  faults injected     {} ({})", self.faults_injected, faults.join(", ")),
            format!(
                "  longest gap         {:.2} s without an acknowledged write, at {:.1} s ({}); {} gaps beyond 1 s",
                millis(self.longest_gap.ms),
                millis(self.longest_gap.at_ms),
                if self.longest_gap.during.is_empty() { "no fault" } else { &self.longest_gap.during },
                self.gaps_over_1s
            ),
            match self.recovered_ms {
                Some(ms) => format!("  all serve again     {:.2} s after the last fault", millis(ms)),
                None => "  all serve again     no".to_owned(),
            },
        ];
        if self.lies_told > 0 {
            let (caught, told) = (self.lies_caught, self.lies_told);
            lines.push(format!("  the checker's eyes  {caught} of {told} falsified copies of this history rejected"));
        }
        if !self.halted.is_empty() {
            lines.push(format!(
                "  stay down           {} (their disks are damaged, or they ended too often)",
                self.halted.join(", ")
            ));
        }
        if let Some(revision) = self.undecided {
            lines.push(format!("  not decided         from revision {revision} on: too many unknown writes fit"));
        }
        lines.push(format!("  violations          {}", self.violations));
        for what in &self.what {
            lines.push(format!("    {}", what.chars().take(2000).collect::<String>()));
        }
        if self.violations > 0 {
            lines.push(format!("  again: {}", self.again));
        }
        lines.join("\n")
    }
}

fn millis(ms: u64) -> f64 {
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
}
