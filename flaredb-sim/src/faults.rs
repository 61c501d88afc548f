//! Every fault of a run is a decision with a name: its kind, whom it concerns, and which of its stream it is. A decision can be
//! disabled by that name, and no other decision changes by it; this is what makes a failing run shrink.

use std::collections::{BTreeMap, BTreeSet};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A process dies between two of its effects and comes back later.
    Crash,
    /// All processes die at once.
    CrashAll,
    /// A process stands still; what it is to get piles up.
    Pause,
    /// A process gets little CPU.
    SlowCpu,
    /// Links are cut.
    Partition,
    /// A link holds everything back for a while.
    Clog,
    /// A connection breaks: what is under way on it is lost, both ends are told.
    Reset,
    /// For a while a link loses much.
    LossStorm,
    /// A log disk takes long.
    DiskStall,
    /// The next write or sync of a log disk fails.
    DiskError,
    /// A log disk is full.
    DiskFull,
    /// Damage to what a disk holds, found at the next start.
    DiskRot,
    /// A disk is empty after an outage.
    DiskWiped,
    /// A disk is as it was some time ago after an outage.
    DiskOldBackup,
    /// Ticks stop.
    ClockFreeze,
    /// Ticks come early or late.
    ClockJump,
    /// An operator moves leadership.
    Transfer,
    /// Old frames come again.
    Replay,
    /// Single frames are lost, by link and second.
    FrameLoss,
    /// Single frames come twice, by link and second.
    FrameRepeat,
    /// Single frames are damaged, by link and second.
    FrameDamage,
    /// A client's request or answer is lost, by client.
    ClientLoss,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Crash,
        Self::CrashAll,
        Self::Pause,
        Self::SlowCpu,
        Self::Partition,
        Self::Clog,
        Self::Reset,
        Self::LossStorm,
        Self::DiskStall,
        Self::DiskError,
        Self::DiskFull,
        Self::DiskRot,
        Self::DiskWiped,
        Self::DiskOldBackup,
        Self::ClockFreeze,
        Self::ClockJump,
        Self::Transfer,
        Self::Replay,
        Self::FrameLoss,
        Self::FrameRepeat,
        Self::FrameDamage,
        Self::ClientLoss,
    ];

    /// The name of its stream of choices.
    pub fn stream(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::CrashAll => "crash all",
            Self::Pause => "pause",
            Self::SlowCpu => "slow cpu",
            Self::Partition => "partition",
            Self::Clog => "clog",
            Self::Reset => "reset",
            Self::LossStorm => "loss storm",
            Self::DiskStall => "disk stall",
            Self::DiskError => "disk error",
            Self::DiskFull => "disk full",
            Self::DiskRot => "disk rot",
            Self::DiskWiped => "disk wiped",
            Self::DiskOldBackup => "disk old backup",
            Self::ClockFreeze => "clock freeze",
            Self::ClockJump => "clock jump",
            Self::Transfer => "transfer",
            Self::Replay => "replay",
            Self::FrameLoss => "frame loss",
            Self::FrameRepeat => "frame repeat",
            Self::FrameDamage => "frame damage",
            Self::ClientLoss => "client loss",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.stream() == name)
    }
}

/// The name of one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId {
    /// What.
    pub kind: FaultKind,
    /// A node, a link or a client, as a number; 0 if it is drawn with the fault.
    pub who: u64,
    /// Which of the stream.
    pub nth: u64,
}

impl std::fmt::Display for FaultId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind.stream().replace(' ', "-"), self.who, self.nth)
    }
}

impl std::str::FromStr for FaultId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a fault is named kind/who/number, as in crash/0/3, not {text}");
        let mut parts = text.split('/');
        let kind = parts.next().and_then(|kind| FaultKind::named(&kind.replace('-', " "))).ok_or_else(wrong)?;
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong);
        Ok(Self { kind, who: number()?, nth: number()? })
    }
}

/// What a run is told to leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reduction {
    /// Kinds that do not happen.
    pub kinds: BTreeSet<FaultKind>,
    /// Decisions that do not happen.
    pub faults: BTreeSet<FaultId>,
    /// The cluster has so many voters.
    pub voters: Option<u64>,
    /// At most so many clients.
    pub clients_max: Option<u64>,
    /// Clients send nothing after so many requests in all.
    pub requests_max: Option<u64>,
    /// Requests that are not sent.
    pub requests: BTreeSet<u64>,
    /// The safety phase ends after so many events, whatever was asked for.
    pub events_max: Option<u64>,
}

/// Asked before every fault; remembers what happened.
#[derive(Debug, Default)]
pub struct Faults {
    reduction: Reduction,
    happened: BTreeMap<FaultId, u64>,
}

impl Faults {
    /// With these left out.
    pub fn new(reduction: Reduction) -> Self {
        Self { reduction, happened: BTreeMap::new() }
    }

    /// True if this fault may happen; then it has happened.
    pub fn allows(&mut self, kind: FaultKind, who: u64, nth: u64) -> bool {
        let id = FaultId { kind, who, nth };
        if self.reduction.kinds.contains(&kind) || self.reduction.faults.contains(&id) {
            return false;
        }
        *self.happened.entry(id).or_default() += 1;
        true
    }

    /// Everything that happened, and how often (more than once for frames, which are named by the second).
    pub fn happened(&self) -> &BTreeMap<FaultId, u64> {
        &self.happened
    }

    /// What is left out.
    pub fn reduction(&self) -> &Reduction {
        &self.reduction
    }
}
