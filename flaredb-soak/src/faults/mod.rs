//! The faults, by name: what each is, what it needs, and what a seed makes of them.

pub mod network_lane;
pub mod process_lane;

use flaredb_sim::prf::Draw;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9 of a random member.
    Kill,
    /// kill -9 of the leader.
    KillLeader,
    /// kill -9 of all at once.
    KillAll,
    /// SIGSTOP of a random member.
    Pause,
    /// SIGSTOP of the leader.
    PauseLeader,
    /// A member and the others do not hear each other; clients reach all.
    Isolate,
    /// The same, the leader.
    IsolateLeader,
    /// Two members do not hear each other.
    Partial,
    /// A member is not heard by the others, and hears them.
    Mute,
    /// A member does not hear the others, and is heard.
    Deaf,
    /// Packets between a member and the others get lost.
    Loss,
    /// What passes between a member and the others comes later.
    Delay,
    /// Few bytes a second between a member and the others.
    Slow,
    /// Connections between members break.
    Reset,
    /// Power cut of a random member: what it had not synced is lost, wholly or in part.
    Power,
    /// The same, the leader.
    PowerLeader,
    /// Power cut of all.
    PowerAll,
    /// Syncs fail with EIO until the member ends.
    SyncError,
    /// Syncs of the leader, or of any, block for seconds.
    SyncBlock,
    /// No space for new bytes, for seconds.
    FullDisk,
    /// Bits change in files of one member while it is down.
    BitFlip,
    /// One member's folder is emptied while it is down.
    Wipe,
}

/// What a fault needs to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Signals and files.
    Nothing,
    /// Links that can be cut: namespaces or proxies.
    Links,
    /// iptables between the members.
    Packets,
    /// Proxies between the members.
    Proxies,
    /// The layer that is loaded into the server.
    Layer,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Kill,
        Self::KillLeader,
        Self::KillAll,
        Self::Pause,
        Self::PauseLeader,
        Self::Isolate,
        Self::IsolateLeader,
        Self::Partial,
        Self::Mute,
        Self::Deaf,
        Self::Loss,
        Self::Delay,
        Self::Slow,
        Self::Reset,
        Self::Power,
        Self::PowerLeader,
        Self::PowerAll,
        Self::SyncError,
        Self::SyncBlock,
        Self::FullDisk,
        Self::BitFlip,
        Self::Wipe,
    ];

    const fn row(self) -> (&'static str, &'static str, Needs) {
        match self {
            Self::Kill => ("kill", "process", Needs::Nothing),
            Self::KillLeader => ("kill-leader", "process", Needs::Nothing),
            Self::KillAll => ("kill-all", "process", Needs::Nothing),
            Self::Pause => ("pause", "process", Needs::Nothing),
            Self::PauseLeader => ("pause-leader", "process", Needs::Nothing),
            Self::Isolate => ("isolate", "network", Needs::Links),
            Self::IsolateLeader => ("isolate-leader", "network", Needs::Links),
            Self::Partial => ("partial", "network", Needs::Links),
            Self::Mute => ("mute", "network", Needs::Links),
            Self::Deaf => ("deaf", "network", Needs::Links),
            Self::Loss => ("loss", "network", Needs::Links),
            Self::Delay => ("delay", "network", Needs::Proxies),
            Self::Slow => ("slow", "network", Needs::Proxies),
            Self::Reset => ("reset", "network", Needs::Proxies),
            Self::Power => ("power", "disk", Needs::Layer),
            Self::PowerLeader => ("power-leader", "disk", Needs::Layer),
            Self::PowerAll => ("power-all", "disk", Needs::Layer),
            Self::SyncError => ("sync-error", "disk", Needs::Layer),
            Self::SyncBlock => ("sync-block", "disk", Needs::Layer),
            Self::FullDisk => ("full-disk", "disk", Needs::Layer),
            Self::BitFlip => ("bit-flip", "disk", Needs::Nothing),
            Self::Wipe => ("wipe", "disk", Needs::Nothing),
        }
    }

    /// As typed and printed.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// process, network or disk.
    pub const fn group(self) -> &'static str {
        self.row().1
    }

    /// What it needs.
    pub const fn needs(self) -> Needs {
        self.row().2
    }

    /// All names, for people.
    pub fn list() -> String {
        let mut words = Vec::new();
        for group in ["process", "network", "disk"] {
            let names: Vec<&str> =
                Self::ALL.iter().filter(|kind| kind.group() == group).map(|kind| kind.name()).collect();
            words.push(format!("{group} ({})", names.join(", ")));
        }
        format!("all, {}", words.join("; "))
    }
}

/// One step of a lane: wait, then this fault, for so long. A function of the seed, the lane and the step's number; only "the
/// leader" and what the servers make of it differ from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Quiet time before it.
    pub pause_ms: u64,
    /// Which.
    pub kind: Kind,
    /// The member, if the kind does not say which.
    pub member: usize,
    /// Another member.
    pub other: usize,
    /// How long it lasts.
    pub for_ms: u64,
    /// For further choices.
    pub salt: u64,
}

/// The steps of a lane. `kinds` are not none.
#[derive(Debug)]
pub struct Schedule {
    draw: Draw,
    kinds: Vec<Kind>,
}

impl Schedule {
    /// Of the lane with this name.
    pub fn new(seed: u64, lane: &str, kinds: Vec<Kind>) -> Self {
        Self { draw: Draw::new(seed, lane, 0), kinds }
    }

    /// The next one.
    pub fn next_step(&mut self) -> Step {
        let draw = &mut self.draw;
        let pause_ms = draw.between(200, 3_000);
        let kind = *draw.pick(&self.kinds);
        let member = *draw.pick(&[0, 1, 2]);
        let other = *draw.pick(&[1, 2]);
        // Many short ones, some long ones.
        let short = draw.between(50, 1_500);
        let long = draw.between(1_500, 6_000);
        let for_ms = if draw.below(3) == 0 { long } else { short };
        let for_ms = if kind.group() == "network" { for_ms * 2 } else { for_ms };
        Step { pause_ms, kind, member, other: (member + other) % 3, for_ms, salt: draw.value() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Schedule};

    #[test]
    fn a_seed_has_one_schedule() {
        let steps = |seed| {
            let mut schedule = Schedule::new(seed, "process", Kind::ALL.to_vec());
            (0..50).map(|_| schedule.next_step()).collect::<Vec<_>>()
        };
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
        assert!(steps(3).iter().all(|step| step.member != step.other));
    }
}
