//! Bugs that are put back on purpose, one at a time: known mistakes of other systems (reliability catalogue B01-B68) and of the
//! paper's readers. `flaredb-sim --mutants` turns each on and reports the first seed that catches it; one that no seed catches is
//! a hole in the simulator.
//!
//! The places are marked `mutant!(Name)` in `flaredb-raft`, `flaredb-kv` and `flaredb-replica`. Without their feature `mutants`
//! the macro is the constant `false` and nothing of this crate is compiled: no released binary holds a mutant.
#![no_std]

use core::sync::atomic::{AtomicUsize, Ordering};

/// What a mutant breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// Something wrong is said or stored.
    Safety,
    /// Nothing wrong is said, but progress ends, or an unneeded election happens.
    Liveness,
}

/// One bug: its name in the code, where it is known from, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The mutant.
    pub mutant: Mutant,
    /// As in `mutant!(…)`.
    pub name: &'static str,
    /// Catalogue number, or the rule it breaks.
    pub origin: &'static str,
    /// Safety or liveness.
    pub breaks: Breaks,
    /// One line.
    pub what: &'static str,
}

macro_rules! mutants {
    ($($name:ident $origin:literal $breaks:ident $what:literal)*) => {
        /// Every bug that can be put back.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each has its line in ALL")]
        pub enum Mutant { $($name),* }

        /// All of them, in the order of the code's layers.
        pub const ALL: &[Description] = &[
            $(Description {
                mutant: Mutant::$name,
                name: stringify!($name),
                origin: $origin,
                breaks: Breaks::$breaks,
                what: $what,
            }),*
        ];
    };
}

mutants! {
    VoteForgottenWithLeader "B01" Safety "the vote is cleared when the term's leader becomes known, and given again"
    VoteSaidBeforeDurable "B01, B05" Safety "a vote leaves before it is durable"
    VoteNotSynced "B01" Safety "a batch without entries is not synced: term and vote are lost by a crash"
    SecondVoteInTerm "B01" Safety "every candidate of a term gets a vote"
    OwnVoteCountedAtOnce "B01" Safety "a candidate asks and counts itself before its own vote is durable"
    VoteForShorterLog "B02" Safety "votes go to logs with a newer term only compared by index"
    VoteForOlderTerm "B02" Safety "votes go to logs compared by last term only"
    StaleVotesCount "B25" Safety "a vote of an earlier term counts in the present one"
    PreVotesCountAsVotes "R7" Safety "a granted pre-vote counts as a vote"
    ElectedByMinority "B10" Safety "half of the voters are enough to be elected"
    CommittedByMinority "B10" Safety "commit needs one replica less than a majority"
    OldTermCommittedByCounting "B03" Safety "an entry of an earlier term is committed by counting replicas"
    LeaderCountsUndurableEntries "B04" Safety "the leader counts itself before its own write is done"
    AckBeforeDurable "B05" Safety "a follower acknowledges entries before they are durable"
    SentBesideWrite "B05" Safety "what must wait for a write leaves beside it"
    ShortAppendTruncates "B06" Safety "everything behind an append is deleted, matching or not"
    CommitPastVerified "B07" Safety "a follower takes the leader's commit index for its whole log"
    HeartbeatAcksWholeLog "B07" Safety "the answer to a heartbeat claims everything durable, verified or not"
    OverwrittenWriteCounts "B08" Safety "a write's completion counts for entries that replaced what it wrote"
    StaleTermAppendTaken "B24" Safety "an append of an earlier term is taken"
    PrevTermNotCompared "R2" Safety "an append is taken where only the index of its predecessor matches"
    AckOfRejectedTail "B11" Safety "match is raised to the position that a rejection hints at"
    SnapshotBelowCommit "B14, B46" Safety "an older snapshot takes the commit index back"
    EntrySkippedAtPageLimit "B15" Safety "the last entry of a full batch is never applied"
    AppliedBeforeDurable "B62" Safety "committed entries are applied before they are durable here"
    ReadBeforeFirstCommit "B30" Safety "a new leader answers reads before it has committed an entry of its term"
    ReadSharesEarlierRound "B32" Safety "a read is confirmed by a round that began before it came"
    ReadNotConfirmed "B26" Safety "a leader answers reads without asking anybody"
    PledgeForgottenAtStart "B31" Safety "a peer votes right after a start, though it may have pledged not to"
    VoteDespitePledge "B31" Safety "a vote is given within a pledge because the connection to the leader broke"
    LeaseKeptInTransfer "B31, R6" Safety "a lease goes on after leadership was offered to another"
    LeaseFromAnswer "R6" Safety "a lease counts from the follower's answer instead of from the question"
    LeaseWithoutMargin "I19" Safety "a lease is as long as the pledge, whatever the clocks do"
    FollowerReadsOwnCommit "B33" Safety "a follower serves linearizable reads from its own commit index"
    LaterReadsShareAnswer "B32" Safety "one index answers also the reads that came after it was asked for"
    ReadBeforeApplied "B33, B34" Safety "a read is served before its index is applied"
    ForwardTakenTwice "B68" Safety "a repeated batch of forwarded proposals is appended again"
    LostProposalRetried "B68" Safety "a write whose leader was lost is proposed again although it may be in the log"
    LostProposalRefused "B48" Safety "a write with an unknown outcome is answered as if it never happened"
    OutcomeOfAnotherIncarnation "B48" Safety "an outcome goes to whoever has the same number, of any node and incarnation"
    TruncatedPastFlushed "B61" Safety "the log is truncated past what the state machine holds on disk"
    TruncatedPastSlowest "I24" Liveness "the log is truncated to what the fastest voter holds"
    PromiseForgotten "I22" Safety "a member that lost acknowledged entries votes as if it had not"
    PreVoteRaisesTerm "B24" Liveness "a pre-vote raises the receiver's term"
    NoPreVote "B24" Liveness "an isolated member raises its term and deposes the leader when it comes back"
    LeaderNeverStepsDown "B26" Liveness "a leader without contact to a majority goes on leading"
    SnapshotStateStuck "B27" Liveness "a snapshot that was not delivered is never tried again"
    WindowNeverFreed "B27" Liveness "acknowledged appends stay counted as in flight"
    RejectionIgnored "B11, B13" Liveness "a follower that lacks the predecessor is never probed further back"
    ClientLeftWaiting "B48" Liveness "a write whose leader was lost is never answered"
    RevisionPerChange "M2" Safety "each change of a transaction raises the revision"
    RevisionWithoutChange "M2" Safety "a delete that finds nothing raises the revision"
    CreateRevisionMoves "I27" Safety "every put of a key gives it a new create revision"
    GreaterHoldsForEqual "I28" Safety "the comparison Greater holds for equal values too"
    FailedTxnLeavesTrace "B42" Safety "what a refused transaction wrote before it failed stays"
    CompactedReadAnswered "I31" Safety "a read below the compacted revision is answered from what is left"
    CompactionRemovesLive "I31" Safety "physical compaction removes the newest row of a key"
    RefusedRowRemembered "B42" Safety "the newest row of a key is remembered as a refused transaction wrote it"
    DeletedRowRemembered "I29" Safety "a deleted key is remembered as it was before"
    BatchNotSeen "I29" Safety "a put does not see the puts of its own batch"
}

/// 0: none. Otherwise the place in [`ALL`] plus one.
static ON: AtomicUsize = AtomicUsize::new(0);

/// Turns one mutant on for the whole process, or all off.
pub fn select(mutant: Option<Mutant>) {
    ON.store(mutant.map_or(0, number), Ordering::Relaxed);
}

/// True if this one is on.
pub fn on(mutant: Mutant) -> bool {
    ON.load(Ordering::Relaxed) == number(mutant)
}

#[expect(clippy::as_conversions, reason = "the discriminant of an enum without data")]
fn number(mutant: Mutant) -> usize {
    mutant as usize + 1
}
