//! Coverage marks: each names a situation that a run should get into now and then. A mark that no seed ever hits says that the
//! simulator does not test what it claims to test.
//!
//! What it is not: a measure of how often something happens in production; the counts are of simulated runs.

/// Declares the marks; the name printed is the variant's.
macro_rules! marks {
    ($($name:ident),* $(,)?) => {
        /// A situation worth counting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark { $(#[doc = stringify!($name)] $name),* }

        impl Mark {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name as printed.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

marks! {
    // Processes.
    Crash, CrashAll, CrashBeforeOutput, CrashBeforeWrite, CrashAfterWriteHandedOver, CrashBetweenSends, CrashBeforeAnswers,
    CrashBetweenAnswers, CrashBeforeTruncation, CrashAfterTruncation, CrashAfterSyncBeforeAcks, CrashBetweenAcks,
    CrashAfterAcksBeforeWriteDone, CrashBeforeInstall, CrashInsideInstall, CrashAfterInstall, CrashDuringWrite, CrashDuringFlush,
    CrashOfLeader, CrashOfCandidate, CrashWhileRecovering, CrashTwiceQuickly, StartShortOutage, StartLongOutage,
    StartWithLogTail, StartWithAppliedBehindLog, StartAfterTruncation, StartHalted, Pause, PauseOfLeader, ResumeWithInbox, SlowCpu,
    TurnOfManyInputs, ReplicaFailed,
    // Clocks.
    ClockFrozen, ClockForward, ClockBackward, ClockDriftFast, ClockDriftSlow, TicksPiledUp,
    // Network.
    FrameLost, FrameDuplicated, FrameReordered, FrameReplayed, FrameReplayedFromEarlierLife, AppendComesLate,
    FrameCorruptedDropped,
    FrameCorruptedDecoderRefused, FrameCorruptedDecoderAccepted, FrameToDownNode, FrameClogged, FrameCut, FrameOfOldLifeDropped, LossStorm,
    PartitionIsolate, PartitionOneWay, PartitionUniform, PartitionRing, PartitionBridge, PartitionSplitLeader, PartitionHealed,
    ConnectionReset, UnreachableReported, FramesOfManyMessages,
    // Disk.
    WriteDurable, DiskStall, DiskStallOfLeader, DiskEio, DiskFull, LogTruncated, FlushDone, CompactionStep, CompactionFinished,
    DiskRot, DiskMisdirect, DiskStale, DiskUnreadable, DiskWiped, DiskOldBackup, DiskRepaired, HaltedOnDisk, BeyondBudget, WaitsBeyondBudget,
    MarkSlotLost, MarkLost, IdentityLost, DisksWipedAtOnce, CrashKilled, CrashPowerCut,
    CrashInsideDiskSequence, CrashDuringStart,
    // Snapshots.
    SnapshotWanted, SnapshotDelivered, SnapshotAborted, SnapshotInstalled, SnapshotToDownNode, SnapshotTwice,
    // Consensus, as seen from outside.
    LeaderElected, LeaderLost, TermRose, LeaderStepsDown, CandidateGivesUp, LogSuffixReplaced, TransferAsked,
    MessagePreVote, MessagePreVoteGranted, MessagePreVoteRefused, MessageRequestVote, MessageVoteGranted, MessageVoteRefused,
    MessageAppend, MessageHeartbeat, MessageAccepted, MessageRejected, MessageLost, MessageInstallSnapshot, MessageTimeoutNow,
    MessagePledge, MessageReadIndex, MessageReadIndexAnswered, MessageReadIndexFailed, LeaseHeld, ElectedBesideLeader, MessagePropose, MessageProposeRefused,
    PeerStaleTerm, PeerStaleAnswer, PeerVoteIgnored, PeerVotePledged, PeerLeaseRead, PeerConflictBelowCommit, PeerStaleProposal, PeerNotLeader, PeerRecovering, PeerRecovered,
    PeerReplaced, PeerToldItsPromise, PeerTookOver, ReplacedByOldCopy, Met, FrameBeforeMeeting, SnapshotToReplaced,
    CrashBeforeRecoveryIsNoted, CrashAfterRecoveryIsNoted, CrashWhileReplaced,
    // Replica.
    OutcomesUnclaimed, ProposalsHeld, ProposalsRefused, ProposalsLost, RequestsTimedOut, ReadsShareAnIndex, ApplyOfManyEntries,
    // Clients.
    PutAnswered, DeleteAnswered, TxnSucceeded, TxnFailed, TxnNested, CompactAnswered, CompactRefused, ReadLinearizable,
    ReadSerializable, ReadOldRevision, ReadCompacted, ReadFuture, ReadLimited, AnswerNoLeader, AnswerTooManyRequests, AnswerLeaderLost,
    AnswerTimeout, ClientGaveUp, ClientCancelled, ClientRefusedByDownNode, ClientCutOff, ClientRequestLost, ClientAnswerLost,
    WriteRefusedByState, TxnRefusedByState,
    // Progress.
    CoreIsMinorityFree, CoreIsAll, CoreHadDownNode, CoreHadRecovering, CoreClockStoodStill, OutsideStaysDown, OutsideStaysCut, OutsideIsMute, OutsideIsDeaf, Converged,
}

/// How often each mark was hit in a run, or in many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    counts: Vec<u64>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { counts: vec![0; Mark::ALL.len()] }
    }
}

impl Marks {
    /// It happened.
    pub fn hit(&mut self, mark: Mark) {
        self.add(mark, 1);
    }

    /// It happened so many times.
    #[expect(clippy::as_conversions, reason = "a variant's number is its place in ALL")]
    pub fn add(&mut self, mark: Mark, times: u64) {
        if let Some(count) = self.counts.get_mut(mark as usize) {
            *count += times;
        }
    }

    /// Hits it if the condition holds.
    pub fn hit_if(&mut self, holds: bool, mark: Mark) {
        if holds {
            self.hit(mark);
        }
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Each mark with its count.
    pub fn all(&self) -> impl Iterator<Item = (Mark, u64)> {
        Mark::ALL.iter().copied().zip(self.counts.iter().copied())
    }

    /// Those that were hit, and how many there are.
    pub fn hit_count(&self) -> usize {
        self.counts.iter().filter(|count| **count > 0).count()
    }
}
