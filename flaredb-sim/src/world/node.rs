//! One simulated process: a replica on its disk, with what has arrived for it and what it waits for. It starts, takes things in
//! when it has the CPU, dies between any two effects, and starts again.

use super::disk::{Death, Log, NodeDisk};
use super::fault::Struck;
use super::meeting::Acquainted;
use super::{Gone, Happening, World, id_of};
use crate::clock::Clock;
use crate::disk::{DiskError, OpenError, Opened};
use crate::history::Op;
use crate::marks::Mark;
use crate::observed::Observed;
use crate::prf::Draw;
use crate::settings::Settings;
use bytes::Bytes;
use flaredb_kv::{Command, CompactProgress, Kv, MemoryStore};
use flaredb_raft::{EntryId, Message, PeerState, SnapshotMeta};
use flaredb_record::mark::UNKNOWN;
use flaredb_replica::acquaintance::Standing;
use flaredb_replica::{Input, Replica, ReplicaConfig, ReplicaError};
use std::collections::VecDeque;

pub(crate) type SimReplica = Replica<Log, MemoryStore>;

/// Something for a process to take in.
#[derive(Clone, Debug)]
pub(crate) enum Arrived {
    Tick,
    /// A frame's payload, its checksum right.
    Payload(Bytes),
    Request {
        client: usize,
        id: u64,
    },
    Cancel {
        id: u64,
    },
    Synced,
    Flushed,
    Compact,
    Unreachable {
        peer: usize,
    },
    SnapshotAnnounced {
        message: Message,
    },
    SnapshotReport {
        peer: usize,
        delivered: bool,
    },
    Transfer {
        to: usize,
    },
    /// A greeting, and what it means.
    Met {
        peer: usize,
        standing: Standing,
        position: Option<(u64, EntryId)>,
    },
}

/// See the module.
pub(crate) struct Node {
    pub(crate) disk: NodeDisk,
    /// None while it is down.
    pub(crate) replica: Option<Box<SimReplica>>,
    /// Rises with every start and every crash: what was meant for another life does not reach this one.
    pub(crate) life: u64,
    pub(crate) incarnation: u64,
    /// Its disk was damaged, or replaced, since it started.
    pub(crate) suspect: bool,
    /// Which part of it.
    pub(crate) struck: Struck,
    /// It does not know what it promised, and was not told yet.
    pub(crate) is_mute: bool,
    /// Of the disk as it was opened last.
    storage_id: u64,
    /// It lost something, and has not got it back yet.
    pub(crate) recovers: bool,
    /// Cannot be started from its disk.
    pub(crate) halted: bool,
    pub(crate) clock: Clock,
    /// When it does not read it.
    pub(crate) skips_clock: Draw,
    inbox: VecDeque<Arrived>,
    pub(crate) busy_until: u64,
    pub(crate) turn_scheduled: bool,
    pub(crate) paused: bool,
    /// While paused every tick piles up, not only one.
    pub(crate) piles_ticks: bool,
    /// CPU time is multiplied by this.
    pub(crate) slow: u64,
    /// It dies at the so manyeth point from now.
    pub(crate) crash_in: Option<u32>,
    /// Or before that, at the next place of this kind.
    pub(crate) crash_at: Option<Mark>,
    /// And in this way.
    pub(crate) death: Death,
    /// How it died last.
    pub(crate) last_death: Death,
    /// How long it stays down after that.
    pub(crate) outage_us: u64,
    /// Messages that wait for the write under way.
    pub(crate) after_write: Option<(u64, Vec<Message>)>,
    /// What the log disk is to remove once it is done with its write.
    pub(crate) truncate_to: Option<EntryId>,
    /// When the log disk is done with everything it was given.
    pub(crate) disk_free_at: u64,
    pub(crate) stalled_until: u64,
    /// The applied index of the image that is being flushed.
    pub(crate) flushing: Option<u64>,
    pub(crate) flushed_index: u64,
    /// Requests that wait: number and client.
    pub(crate) waiting: Vec<(u64, usize)>,
    /// Snapshots received whole.
    pub(crate) staged: Vec<(SnapshotMeta, MemoryStore)>,
    pub(crate) compacting: bool,
    pub(crate) disk_time: Draw,
    pub(crate) crashed_at: u64,
    pub(crate) started_at: u64,
    /// Of each peer: the newest life that was heard.
    pub(crate) heard_lives: Vec<u64>,
    pub(crate) acquainted: Acquainted,
}

/// Inputs taken in one turn.
const TURN_INPUTS: usize = 64;

impl Node {
    pub(crate) fn new(at: usize, settings: &Settings) -> Self {
        let id = id_of(at);
        let voters: Vec<u64> = (1..=settings.voters).collect();
        let mut clock = Draw::new(settings.seed, "clock", id);
        Self {
            disk: NodeDisk::new(settings.seed, id, &voters),
            replica: None,
            life: 0,
            incarnation: 0,
            suspect: false,
            struck: Struck::Log,
            is_mute: false,
            storage_id: 0,
            recovers: false,
            halted: false,
            clock: Clock::new(settings.replica.tick_us, settings.drift_per_million, &mut clock),
            skips_clock: Draw::new(settings.seed, "clock not read", id),
            inbox: VecDeque::new(),
            busy_until: 0,
            turn_scheduled: false,
            paused: false,
            piles_ticks: false,
            slow: 1,
            crash_in: None,
            crash_at: None,
            death: Death::Killed,
            last_death: Death::Killed,
            outage_us: 0,
            after_write: None,
            truncate_to: None,
            disk_free_at: 0,
            stalled_until: 0,
            flushing: None,
            flushed_index: 0,
            waiting: Vec::new(),
            staged: Vec::new(),
            compacting: false,
            disk_time: Draw::new(settings.seed, "disk time", id),
            crashed_at: 0,
            started_at: 0,
            heard_lives: vec![0; voters.len()],
            acquainted: Acquainted::new(settings.seed, id),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    pub(crate) fn state(&self) -> Option<PeerState> {
        self.replica.as_ref().map(|replica| replica.status().state)
    }
}

/// Each node remembers another number of keys' newest rows: none, fewer than there are, and as many as production. Their
/// content must not differ.
pub(crate) fn remembering(kv: Kv<MemoryStore>, at: usize) -> Kv<MemoryStore> {
    match at {
        0 => kv.remember_keys(0),
        1 => kv.remember_keys(8),
        _ => kv,
    }
}

impl World {
    /// The process starts from what its disk holds.
    pub(crate) fn start(&mut self, at: usize) {
        let id = id_of(at);
        self.copy_disk(at);
        let node = &mut self.nodes[at];
        // Whoever starts a process again has made room for it.
        node.disk.sim.set_capacity(usize::MAX);
        node.life += 1;
        node.incarnation += 1;
        let (life, incarnation) = (node.life, node.incarnation);
        let opened = match node.disk.open() {
            Ok(opened) => opened,
            Err(OpenError::Halt { why }) => return self.halt(at, &why),
            Err(OpenError::Disk(error)) => return self.start_failed(at, &error),
        };
        let kv = match Kv::open(opened.store.clone()) {
            Ok(kv) => remembering(kv, at),
            Err(error) => return self.halt(at, &error.to_string()),
        };
        let Opened {
            log,
            hard_state,
            compacted_to,
            applied: _,
            store: _,
            recover_until: recovering,
            storage_id,
            incarnation: _,
            fresh: _,
            repaired,
        } = opened;
        let entries = log.all_entries();
        let applied = kv.applied();
        // Another one at every start, as in production, also over replaced disks. The mark's comes again on an old copy.
        let config = self.replica_config(at, incarnation);
        // Without its mark a disk is another one, whose promises nobody knows.
        let forgets = recovering == Some(UNKNOWN) && self.nodes[at].storage_id != storage_id;
        let disk_replaced = self.nodes[at].acquainted.starts_anew || forgets;
        self.marks.hit_if(forgets, Mark::MarkLost);
        self.watch.see(
            self.now,
            &Observed::Started {
                node: id,
                incarnation,
                hard_state,
                compacted_to,
                entries: &entries,
                applied,
                recovering,
                disk_replaced,
            },
        );
        let replica = match Replica::new(config, log, kv) {
            Ok(replica) => replica,
            Err(error) => return self.halt(at, &error.to_string()),
        };
        if let Some(why) = repaired {
            self.marks.hit(Mark::DiskRepaired);
            self.trace.tell(self.now, || format!("n{id} found its disk damaged: {why}"));
        }
        self.trace.tell(self.now, || {
            format!(
                "n{id} starts (life {incarnation}): log {compacted_to}..{} entries, applied {}, term {}",
                entries.len(),
                applied.index,
                hard_state.current_term
            )
        });
        self.marks
            .hit_if(entries.last().is_some_and(|last| last.index > applied.index), Mark::StartWithAppliedBehindLog);
        self.marks.hit_if(compacted_to.index > 0, Mark::StartAfterTruncation);
        self.marks
            .hit_if(entries.last().is_some_and(|last| last.index > hard_state.commit_index), Mark::StartWithLogTail);
        if incarnation > 1 {
            let long = self.now - self.nodes[at].crashed_at > self.settings.outage_us.0;
            self.marks.hit(if long { Mark::StartLongOutage } else { Mark::StartShortOutage });
        }
        let now = self.now;
        let node = &mut self.nodes[at];
        node.recovers = replica.status().recovering || recovering == Some(UNKNOWN);
        let voters = node.heard_lives.len();
        node.acquainted.start(voters);
        (node.suspect, node.storage_id) = (false, storage_id);
        node.acquainted.is_replaced |= forgets;
        node.is_mute = recovering == Some(UNKNOWN);
        self.marks.hit_if(node.recovers, Mark::PeerRecovering);
        node.replica = Some(Box::new(replica));
        node.inbox.clear();
        node.busy_until = 0;
        node.turn_scheduled = false;
        node.paused = false;
        node.crash_in = None;
        node.after_write = None;
        node.truncate_to = None;
        node.disk_free_at = 0;
        node.flushing = None;
        node.flushed_index = applied.index;
        node.compacting = false;
        node.staged.clear();
        node.started_at = now;
        let first_tick = node.clock.next_tick(now);
        let period = node.clock.period_us();
        self.marks.hit_if(period < self.settings.replica.tick_us, Mark::ClockDriftFast);
        self.marks.hit_if(period > self.settings.replica.tick_us, Mark::ClockDriftSlow);
        self.schedule_at(first_tick, Happening::Tick { node: at, life });
        let pause = self.nodes[at].disk_time.between(100, 20_000);
        self.schedule(pause, Happening::Meet { node: at, life });
        if recovering == Some(UNKNOWN) && self.begin_unknown(at).is_err() {
            return;
        }
        // What the start itself left to do (a compaction that was not finished).
        self.maybe_compact(at);
    }

    /// The disk failed while it was read: the process ends and is started again.
    fn start_failed(&mut self, at: usize, error: &DiskError) {
        let id = id_of(at);
        self.marks.hit(Mark::CrashDuringStart);
        self.trace.tell(self.now, || format!("n{id} cannot start: {error}"));
        let node = &mut self.nodes[at];
        node.disk.crash(if *error == DiskError::PowerCut { Death::PowerCut } else { Death::Killed });
        // Whatever it was that failed: what was not synced may be gone, now or with the death before.
        node.last_death = Death::PowerCut;
        node.life += 1;
        let life = node.life;
        self.schedule(self.settings.outage_us.0, Happening::Start { node: at, life });
    }

    fn halt(&mut self, at: usize, why: &str) {
        let node = &mut self.nodes[at];
        node.life += 1;
        node.halted = true;
        self.marks.hit_if(node.suspect, Mark::HaltedOnDisk);
        self.marks.hit(Mark::StartHalted);
        let id = id_of(at);
        self.trace.tell(self.now, || format!("n{id} halts: {why}"));
        self.watch.see(self.now, &Observed::Halted { node: id, why });
    }

    fn replica_config(&self, at: usize, incarnation: u64) -> ReplicaConfig {
        let of = &self.settings.replica;
        let id = id_of(at);
        let mut raft = flaredb_raft::Config::new(id, 1);
        raft.incarnation = incarnation;
        raft.seed = Draw::new(self.settings.seed, "election", id).value() ^ incarnation;
        raft.election_timeout_ticks = of.election_timeout_ticks;
        raft.heartbeat_interval_ticks = of.heartbeat_interval_ticks;
        raft.append_bytes_max = of.append_bytes_max;
        raft.inflight_max = of.inflight_max;
        raft.uncommitted_bytes_max = of.uncommitted_bytes_max;
        raft.apply_bytes_max = of.apply_bytes_max;
        raft.cache_bytes_max = of.cache_bytes_max;
        (raft.lease_us, raft.former_lease_us) = self.lease_of(at, incarnation);
        let mut config = ReplicaConfig::new(raft);
        config.request_timeout_ticks = of.request_timeout_ticks;
        config.snapshot_count = of.snapshot_count;
        config.catch_up_entries = of.catch_up_entries;
        config.catch_up_bytes = of.catch_up_bytes;
        config.proposals_max = of.proposals_max;
        config.keep_log_for_all = of.keep_log_for_all;
        config
    }

    /// The process dies: everything in memory is gone, the disk keeps what it keeps.
    pub(crate) fn crash(&mut self, at: usize, death: Death) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(replica) = node.replica.take() else { return };
        match replica.status().state {
            PeerState::Leader => self.marks.hit(Mark::CrashOfLeader),
            PeerState::Candidate => self.marks.hit(Mark::CrashOfCandidate),
            PeerState::Follower => {}
        }
        self.marks.hit_if(replica.status().recovering, Mark::CrashWhileRecovering);
        self.marks.hit_if(node.acquainted.is_replaced, Mark::CrashWhileReplaced);
        count_marks(&mut self.marks, &replica);
        drop(replica);
        self.marks.hit(Mark::Crash);
        self.marks.hit_if(node.disk.is_writing(), Mark::CrashDuringWrite);
        self.marks.hit_if(node.flushing.is_some(), Mark::CrashDuringFlush);
        self.marks.hit_if(now - node.started_at < 1_000_000, Mark::CrashTwiceQuickly);
        self.marks.hit(if death == Death::Killed { Mark::CrashKilled } else { Mark::CrashPowerCut });
        node.disk.crash(death);
        node.last_death = death;
        node.life += 1;
        node.crashed_at = now;
        node.inbox.clear();
        node.after_write = None;
        node.flushing = None;
        node.paused = false;
        let life = node.life;
        let cut_off = std::mem::take(&mut node.waiting);
        let outage = node.outage_us;
        let id = id_of(at);
        self.trace.tell(now, || format!("n{id} crashes"));
        self.watch.see(now, &Observed::Crashed { node: id });
        for (id, client) in cut_off {
            self.schedule(1_000, Happening::CutOff { client, id });
        }
        for peer in 0..self.nodes.len() {
            if peer != at {
                let number = self.network.link(peer, at);
                self.network.reset(number);
                let life = self.nodes[peer].life;
                self.schedule(2_000, Happening::Unreachable { node: peer, peer: at, life });
            }
        }
        self.schedule(outage, Happening::Start { node: at, life });
    }

    /// A place where the process may die.
    pub(crate) fn point(&mut self, at: usize, mark: Mark) -> Result<(), Gone> {
        let node = &mut self.nodes[at];
        let Some(left) = &mut node.crash_in else { return Ok(()) };
        if *left > 0 && node.crash_at != Some(mark) {
            *left -= 1;
            return Ok(());
        }
        self.marks.hit(mark);
        let death = node.death;
        self.crash(at, death);
        Err(Gone)
    }

    /// The process ends itself: its disk, or its replica, said so.
    pub(crate) fn fail(&mut self, at: usize, why: &str) -> Gone {
        let id = id_of(at);
        self.marks.hit(Mark::ReplicaFailed);
        self.trace.tell(self.now, || format!("n{id} stops: {why}"));
        self.nodes[at].outage_us = self.settings.outage_us.0;
        self.crash(at, Death::Killed);
        Gone
    }

    pub(crate) fn replica_failed(&mut self, at: usize, error: &ReplicaError) -> Gone {
        self.fail(at, &error.to_string())
    }

    pub(crate) fn disk_failed(&mut self, at: usize, error: &DiskError) -> Gone {
        match error {
            DiskError::PowerCut => {
                self.marks.hit(Mark::CrashInsideDiskSequence);
                self.crash(at, Death::PowerCut);
                Gone
            }
            DiskError::Full(_) => {
                self.marks.hit(Mark::DiskFull);
                self.fail(at, &error.to_string())
            }
            _ => {
                self.marks.hit(Mark::DiskEio);
                let gone = self.fail(at, &error.to_string());
                // The failed write took with it what was not synced.
                self.nodes[at].last_death = Death::PowerCut;
                gone
            }
        }
    }

    /// Something is there for the process; it looks at it when it can.
    pub(crate) fn arrives(&mut self, at: usize, what: Arrived) {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.paused && matches!(what, Arrived::Tick) && !node.piles_ticks {
            let has_tick = node.inbox.iter().any(|waits| matches!(waits, Arrived::Tick));
            if has_tick {
                return;
            }
        }
        node.inbox.push_back(what);
        if node.paused || node.turn_scheduled {
            return;
        }
        if node.busy_until > now {
            node.turn_scheduled = true;
            let (life, when) = (node.life, node.busy_until);
            self.schedule_at(when, Happening::Turn { node: at, life });
            return;
        }
        self.turn(at);
    }

    /// The process looks at what has arrived, and does what follows.
    pub(crate) fn turn(&mut self, at: usize) {
        // If it dies on the way there is nothing left to do for it.
        let _: Result<(), Gone> = self.try_turn(at);
    }

    fn try_turn(&mut self, at: usize) -> Result<(), Gone> {
        if self.nodes[at].paused {
            return Ok(());
        }
        let mut taken = 0;
        while taken < TURN_INPUTS
            && let Some(what) = self.nodes[at].inbox.pop_front()
        {
            taken += 1;
            self.take_in(at, what)?;
        }
        self.marks.hit_if(taken > 3, Mark::TurnOfManyInputs);
        self.read_clock(at)?;
        self.point(at, Mark::CrashBeforeOutput)?;
        self.take_outputs(at)?;
        self.see(&Observed::TurnEnded { node: id_of(at) });
        self.maybe_note(at, None)?;
        self.maybe_take_over(at);
        self.maybe_compact(at);
        let cost = self.settings.cpu_us * u64::try_from(taken).unwrap_or(1) * self.nodes[at].slow;
        let node = &mut self.nodes[at];
        node.busy_until = self.now + cost;
        if !node.inbox.is_empty() && !node.turn_scheduled {
            node.turn_scheduled = true;
            let (life, when) = (node.life, node.busy_until);
            self.schedule_at(when, Happening::Turn { node: at, life });
        }
        Ok(())
    }

    fn take_in(&mut self, at: usize, what: Arrived) -> Result<(), Gone> {
        match what {
            Arrived::Tick => {
                self.read_clock(at)?;
                self.see(&Observed::Ticked { node: id_of(at) });
                self.step(at, Input::Tick)
            }
            Arrived::Payload(payload) => self.take_in_payload(at, payload),
            Arrived::Request { client, id } => self.take_in_request(at, client, id),
            Arrived::Cancel { id } => {
                self.nodes[at].waiting.retain(|(waits, _)| *waits != id);
                self.marks.hit(Mark::ClientCancelled);
                self.see(&Observed::RequestDone { node: id_of(at), id });
                self.step(at, Input::Cancel { ticket: id })
            }
            Arrived::Synced => self.on_synced(at),
            Arrived::Flushed => self.on_flushed(at),
            Arrived::Compact => self.compact(at),
            Arrived::Unreachable { peer } => {
                self.marks.hit(Mark::UnreachableReported);
                self.step(at, Input::Unreachable { peer: id_of(peer) })
            }
            Arrived::SnapshotAnnounced { message } => {
                self.see(&Observed::Delivered { message: &message });
                self.step(at, Input::Receive(message))
            }
            Arrived::SnapshotReport { peer, delivered } => {
                self.step(at, Input::SnapshotSent { to: id_of(peer), delivered })
            }
            Arrived::Met { peer, standing, position } => self.on_met(at, (peer, standing), position),
            Arrived::Transfer { to } => self.step(at, Input::TransferLeadership { to: id_of(to) }),
        }
    }

    /// Feeds the replica, with everybody looking.
    pub(crate) fn step(&mut self, at: usize, input: Input) -> Result<(), Gone> {
        let Some(replica) = self.nodes[at].replica.as_mut() else { return Err(Gone) };
        let before = replica.status();
        let result = replica.step(input);
        let after = replica.status();
        replica.peer().check_invariants();
        self.watch.see(self.now, &Observed::Stepped { node: id_of(at), before: &before, after: &after });
        if before != after {
            self.on_status(at, &before, &after);
        }
        result.map_err(|error| self.replica_failed(at, &error))
    }

    fn take_in_request(&mut self, at: usize, client: usize, id: u64) -> Result<(), Gone> {
        let Some(current) = self.workload.clients[client].current.as_ref().filter(|current| current.id == id) else {
            return Ok(());
        };
        match &current.op {
            Op::Write(command) => {
                let (kind, command) = (command.kind(), command.encode());
                debug_assert!(Command::decode(kind, &command).is_ok(), "what is encoded is read back");
                self.waits(at, client, id);
                self.step(at, Input::Propose { ticket: id, kind, command })
            }
            Op::Read(range) if range.serializable => {
                self.serve_read(at, client, id);
                Ok(())
            }
            Op::Read(_) => {
                self.waits(at, client, id);
                self.step(at, Input::Read { ticket: id })
            }
        }
    }

    fn waits(&mut self, at: usize, client: usize, id: u64) {
        self.nodes[at].waiting.push((id, client));
        let within_ticks = u64::from(self.settings.replica.request_timeout_ticks);
        self.see(&Observed::RequestTaken { node: id_of(at), id, within_ticks });
    }

    /// The process goes on after a pause.
    pub(crate) fn resume(&mut self, at: usize) {
        let id = id_of(at);
        self.trace.tell(self.now, || format!("n{id} goes on"));
        let node = &mut self.nodes[at];
        if !std::mem::take(&mut node.paused) {
            return;
        }
        self.marks.hit_if(node.inbox.len() > 1, Mark::ResumeWithInbox);
        let ticks = node.inbox.iter().filter(|waits| matches!(waits, Arrived::Tick)).count();
        self.marks.hit_if(ticks > 1, Mark::TicksPiledUp);
        if !node.turn_scheduled {
            self.turn(at);
        }
    }

    /// Removal of compacted rows goes in steps, as in production.
    fn maybe_compact(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(replica) = node.replica.as_ref() else { return };
        let kv = replica.kv();
        if node.compacting || kv.compaction_finished() >= kv.applied().compact_revision {
            return;
        }
        node.compacting = true;
        let life = node.life;
        let pause = node.disk_time.between(5_000, 500_000);
        self.schedule(pause, Happening::Compact { node: at, life });
    }

    fn compact(&mut self, at: usize) -> Result<(), Gone> {
        let rows = self.settings.replica.compact_rows;
        let node = &mut self.nodes[at];
        node.compacting = false;
        let Some(replica) = node.replica.as_mut() else { return Err(Gone) };
        match replica.kv_mut().compact_step(rows) {
            Ok(CompactProgress::Done) => self.marks.hit(Mark::CompactionFinished),
            Ok(CompactProgress::More { .. }) => self.marks.hit(Mark::CompactionStep),
            Err(error) => return Err(self.fail(at, &error.to_string())),
        }
        Ok(())
    }
}

/// What the replica itself has counted, as marks.
pub(crate) fn count_marks(marks: &mut crate::marks::Marks, replica: &SimReplica) {
    let peer = replica.peer().counters();
    marks.add(Mark::PeerStaleTerm, peer.stale_term);
    marks.add(Mark::PeerStaleAnswer, peer.stale_answer);
    marks.add(Mark::PeerVoteIgnored, peer.vote_ignored);
    marks.add(Mark::PeerVotePledged, peer.vote_pledged);
    marks.add(Mark::PeerLeaseRead, peer.lease_reads);
    marks.add(Mark::PeerConflictBelowCommit, peer.conflict_below_commit);
    marks.add(Mark::PeerStaleProposal, peer.stale_proposal);
    marks.add(Mark::PeerNotLeader, peer.not_leader);
    let counters = replica.counters();
    marks.add(Mark::OutcomesUnclaimed, counters.outcomes_unclaimed);
    marks.add(Mark::ProposalsHeld, counters.proposals_held);
    marks.add(Mark::ProposalsRefused, counters.proposals_refused);
    marks.add(Mark::ProposalsLost, counters.proposals_lost);
    marks.add(Mark::RequestsTimedOut, counters.requests_timed_out);
    marks.hit_if(counters.reads_ready > counters.read_indexes_asked, Mark::ReadsShareAnIndex);
    marks.hit_if(counters.entries_applied > counters.apply_batches, Mark::ApplyOfManyEntries);
}
