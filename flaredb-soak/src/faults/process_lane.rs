//! One fault of processes or disks after the other. At most one member's disk is ever damaged: the budget within which nothing
//! may be lost.

use super::{Kind, Schedule, Step};
use crate::cluster::Cluster;
use crate::disk::{Syncs, Writes, rot};
use crate::error::{Result, Why};
use crate::events::Events;
use crate::network::{MEMBERS, Place};
use crate::workload::observe;
use flaredb_sim::prf::Draw;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a damaged member is watched before it counts as running.
const WATCH: Duration = Duration::from_secs(4);
/// How long a process may live after a sync has failed.
const AFTER_SYNC_ERROR: Duration = Duration::from_secs(5);

/// What the lane works on.
pub struct Lane<'a> {
    /// The servers.
    pub cluster: &'a mut Cluster,
    /// Where they are.
    pub places: &'a [Place],
    /// Where it is noted.
    pub events: &'a Events,
    /// When it ends.
    pub end: Instant,
    /// The member whose disk may be damaged.
    pub victim: usize,
}

impl Lane<'_> {
    /// Injects until the end. Everything runs then, but not everything may be ready.
    ///
    /// # Errors
    /// A process or file cannot be handled.
    pub async fn run(mut self, schedule: Option<Schedule>) -> Result<()> {
        let Some(mut schedule) = schedule else {
            self.rest(self.end).await?;
            return self.cluster.heal();
        };
        loop {
            let step = schedule.next_step();
            self.rest(Instant::now() + Duration::from_millis(step.pause_ms)).await?;
            if Instant::now() >= self.end {
                return self.cluster.heal();
            }
            self.inject(step).await?;
        }
    }

    /// Waits, and looks after the members.
    async fn rest(&mut self, until: Instant) -> Result<()> {
        let until = until.min(self.end);
        loop {
            self.tend()?;
            if Instant::now() >= until {
                return Ok(());
            }
            sleep_until((Instant::now() + Duration::from_millis(100)).min(until)).await;
        }
    }

    /// Members that ended are started again, but for the one whose disk is damaged: that one stays down, as it says.
    fn tend(&mut self) -> Result<()> {
        for number in self.cluster.look()? {
            let member = self.cluster.member(number)?;
            if matches!(member.excuse, Some("bit-flip" | "wipe")) {
                member.halted = true;
                let event = self.events.begin("halted", format!("n{}", number + 1));
                self.events.end(event, "");
                continue;
            }
            self.cluster.start(number)?;
        }
        Ok(())
    }

    /// For so long, or to the end of the run.
    async fn hold(&self, ms: u64) {
        sleep_until((Instant::now() + Duration::from_millis(ms)).min(self.end)).await;
    }

    async fn inject(&mut self, step: Step) -> Result<()> {
        let mut draw = Draw::new(step.salt, "process", 0);
        let mut member = step.member;
        let leader_wanted = matches!(step.kind, Kind::KillLeader | Kind::PauseLeader | Kind::PowerLeader)
            || (matches!(step.kind, Kind::SyncBlock | Kind::SyncError | Kind::FullDisk) && draw.below(3) > 0);
        if leader_wanted && let Some(leader) = observe::leader(self.places).await {
            member = leader;
        }
        if matches!(step.kind, Kind::BitFlip | Kind::Wipe) {
            member = self.victim;
        }
        let everyone: Vec<usize> = (0..MEMBERS).collect();
        let all = matches!(step.kind, Kind::KillAll | Kind::PowerAll);
        let numbers = if all { everyone.as_slice() } else { &[member] };
        if !all && !self.cluster.runs(member) {
            return Ok(());
        }
        let whom = if all { "n1 n2 n3".to_owned() } else { format!("n{}", member + 1) };
        let event = self.events.begin(step.kind.name(), whom);
        let mut more = String::new();
        match step.kind {
            Kind::Kill | Kind::KillLeader | Kind::KillAll => {
                self.cluster.kill(numbers)?;
                self.hold(step.for_ms).await;
            }
            Kind::Pause | Kind::PauseLeader => {
                self.cluster.pause(member, true)?;
                self.hold(step.for_ms.saturating_mul(draw.between(1, 2))).await;
                self.cluster.pause(member, false)?;
            }
            Kind::Power | Kind::PowerLeader | Kind::PowerAll => {
                self.cluster.kill(numbers)?;
                for number in numbers {
                    more.push_str(&self.cut_power(*number, draw.value())?);
                }
                self.hold(step.for_ms).await;
            }
            Kind::SyncBlock => {
                if let Some(layer) = &self.cluster.member(member)?.layer {
                    layer.syncs(Syncs::Block)?;
                }
                self.hold(step.for_ms.saturating_add(500)).await;
                self.cluster.heal_disk(member)?;
            }
            Kind::FullDisk => {
                self.cluster.member(member)?.excuse = Some("full-disk");
                if let Some(layer) = &self.cluster.member(member)?.layer {
                    layer.writes(Writes::Full)?;
                }
                self.hold(step.for_ms.saturating_add(1000)).await;
                self.cluster.heal_disk(member)?;
                if self.cluster.look()?.contains(&member) {
                    more.push_str(" (it ended)");
                }
            }
            Kind::SyncError => more.push_str(&self.fail_syncs(member, draw.value()).await?),
            Kind::BitFlip => {
                self.cluster.kill(numbers)?;
                let victim = self.cluster.member(member)?;
                victim.excuse = Some("bit-flip");
                more = format!(" {}", rot::flip(&victim.data, draw.value())?);
                self.hold(step.for_ms).await;
            }
            Kind::Wipe => {
                self.cluster.kill(numbers)?;
                let victim = self.cluster.member(member)?;
                victim.excuse = Some("wipe");
                std::fs::remove_dir_all(&victim.data).why(victim.data.display())?;
                std::fs::create_dir_all(&victim.data).why(victim.data.display())?;
                if let Some(layer) = &victim.layer {
                    layer.forget()?;
                }
                self.hold(step.for_ms).await;
            }
            Kind::Isolate
            | Kind::IsolateLeader
            | Kind::Partial
            | Kind::Mute
            | Kind::Deaf
            | Kind::Loss
            | Kind::Delay
            | Kind::Slow
            | Kind::Reset => unreachable!("the other lane's"),
        }
        for number in numbers {
            self.cluster.start(*number)?;
            let started = self.cluster.member(*number)?;
            if matches!(started.excuse, Some("full-disk" | "sync-error")) && step.kind != Kind::FullDisk {
                started.excuse = None;
            }
        }
        self.events.end(event, &more);
        if matches!(step.kind, Kind::BitFlip | Kind::Wipe) {
            self.rest(Instant::now() + WATCH).await?;
        } else if step.kind == Kind::FullDisk {
            // An end that comes of it is near.
            self.rest(Instant::now() + Duration::from_secs(1)).await?;
            let member = self.cluster.member(member)?;
            if member.excuse == Some("full-disk") {
                member.excuse = None;
            }
        }
        Ok(())
    }

    fn cut_power(&mut self, number: usize, salt: u64) -> Result<String> {
        let Some(layer) = &self.cluster.member(number)?.layer else { return Ok(String::new()) };
        let lost = layer.cut_power(salt)?;
        Ok(format!(" (un-synced: {} writes, {} names)", lost.writes, lost.names))
    }

    /// The process must end; and what it could not sync is gone.
    async fn fail_syncs(&mut self, number: usize, salt: u64) -> Result<String> {
        let member = self.cluster.member(number)?;
        let Some(layer) = &member.layer else { return Ok(String::new()) };
        member.excuse = Some("sync-error");
        let (_, _, before) = layer.counts()?;
        layer.syncs(Syncs::Fail)?;
        let mut failed_at = None;
        let give_up = Instant::now() + AFTER_SYNC_ERROR;
        let ended = loop {
            sleep(Duration::from_millis(50)).await;
            if self.cluster.look()?.contains(&number) {
                break true;
            }
            let Some(layer) = &self.cluster.member(number)?.layer else { break false };
            if failed_at.is_none() && layer.counts()?.2 > before {
                failed_at = Some(Instant::now());
            }
            if failed_at.map_or(Instant::now() > give_up, |at| at.elapsed() > AFTER_SYNC_ERROR) {
                break false;
            }
        };
        if !ended {
            if failed_at.is_some() {
                let what = format!("n{} lived on for {} s after a failed sync", number + 1, AFTER_SYNC_ERROR.as_secs());
                self.cluster.findings.push(what);
            }
            self.cluster.kill(&[number])?;
        }
        let text = self.cut_power(number, salt)?;
        self.cluster.heal_disk(number)?;
        Ok(if failed_at.is_some() || ended { format!("{text} (it ended)") } else { " (it did not sync)".to_owned() })
    }
}
