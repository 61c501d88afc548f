//! What goes wrong, and when: each kind of fault is a stream of its own, each fault in it drawn from (seed, kind, number).

use super::disk::Death;
use super::node::Arrived;
use super::{Happening, World, id_of};
use crate::disk::{SECTOR, SECTOR_FAULTS, SectorFault};
use crate::faults::FaultKind;
use crate::marks::Mark;
use crate::prf::Draw;
use flaredb_raft::PeerState;

/// Places that a crash may be aimed at, rare ones too.
const CRASH_PLACES: &[Mark] = &[
    Mark::CrashBeforeWrite,
    Mark::CrashAfterWriteHandedOver,
    Mark::CrashBetweenSends,
    Mark::CrashBetweenAnswers,
    Mark::CrashBeforeTruncation,
    Mark::CrashAfterTruncation,
    Mark::CrashAfterSyncBeforeAcks,
    Mark::CrashBetweenAcks,
    Mark::CrashAfterAcksBeforeWriteDone,
    Mark::CrashBeforeInstall,
    Mark::CrashInsideInstall,
    Mark::CrashAfterInstall,
    Mark::CrashBeforeRecoveryIsNoted,
    Mark::CrashAfterRecoveryIsNoted,
];

/// Bytes of a slot of the mark that say something.
const SLOT_USED: u64 = 104;

/// What damage strikes: of one disk always the same, until its next start. The mark and the log vouch for each other, so the
/// loss of one is noticed by the other; of both at once not always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Struck {
    /// The log or the state machine.
    Log,
    /// One slot of the mark, or both.
    Mark,
    /// What says whose disk it is.
    Identity,
}

impl Struck {
    fn draw(draw: &mut Draw) -> Self {
        match draw.below(100) {
            0..20 => Self::Mark,
            20..24 => Self::Identity,
            _ => Self::Log,
        }
    }
}

/// Links that are cut together.
pub(crate) struct Partition {
    links: Vec<usize>,
}

impl World {
    /// Puts the next fault of this kind on the heap.
    pub(crate) fn schedule_fault(&mut self, kind: FaultKind, nth: u64) {
        let every = self.settings.every_us(kind);
        if every > 0 {
            let mut draw = Draw::new(self.settings.seed, kind.stream(), 2 * nth);
            self.schedule(draw.between(every / 8, 2 * every), Happening::Fault { kind, nth });
        }
    }

    pub(crate) fn on_fault(&mut self, kind: FaultKind, nth: u64) {
        self.schedule_fault(kind, nth + 1);
        if self.now < self.calm_until || !self.faults.allows(kind, 0, nth) {
            return;
        }
        let mut draw = Draw::new(self.settings.seed, kind.stream(), 2 * nth + 1);
        let at = usize::try_from(draw.below(self.settings.voters)).unwrap_or(0);
        if self.core.as_ref().is_some_and(|core| {
            core[at] || matches!(kind, FaultKind::Partition | FaultKind::CrashAll | FaultKind::Transfer)
        }) {
            // The core is healed for good; faults go on outside of it.
            return;
        }
        self.trace.tell(self.now, || format!("fault {}/0/{nth}", kind.stream().replace(' ', "-")));
        let now = self.now;
        match kind {
            FaultKind::Crash => {
                // Half of the crashes are aimed at the leader, where most is at stake.
                let at = if draw.below(2) == 0 { self.leader().unwrap_or(at) } else { at };
                if self.core.as_ref().is_none_or(|core| !core[at]) {
                    self.arm_crash(at, &mut draw);
                }
            }
            FaultKind::CrashAll => {
                self.marks.hit(Mark::CrashAll);
                for at in 0..self.nodes.len() {
                    self.arm_crash(at, &mut draw);
                }
            }
            FaultKind::Pause => self.pause(at, &mut draw),
            FaultKind::SlowCpu => {
                self.marks.hit(Mark::SlowCpu);
                self.nodes[at].slow = draw.between(2, 50) * draw.between(1, 50);
                self.schedule(draw.between(100_000, 5_000_000), Happening::SlowEnds { node: at });
            }
            FaultKind::Partition => self.partition(&mut draw),
            FaultKind::Clog => {
                let number = self.draw_link(at, &mut draw);
                self.network.clog(number, now + draw.between(10_000, 5_000_000));
            }
            FaultKind::Reset => self.reset_connection(at, &mut draw),
            FaultKind::LossStorm => {
                self.marks.hit(Mark::LossStorm);
                let number = self.draw_link(at, &mut draw);
                self.network.storm(number, now + draw.between(100_000, 10_000_000), draw.between(100_000, 1_000_000));
            }
            FaultKind::DiskStall => {
                self.marks.hit(Mark::DiskStall);
                self.marks.hit_if(self.nodes[at].state() == Some(PeerState::Leader), Mark::DiskStallOfLeader);
                let until = now + draw.between(10_000, self.settings.disk.stall_us);
                self.nodes[at].stalled_until = until;
            }
            FaultKind::ClockFreeze => {
                self.marks.hit(Mark::ClockFrozen);
                self.nodes[at].clock.freeze(now + draw.between(100_000, 10_000_000));
            }
            FaultKind::ClockJump => {
                if draw.below(2) == 0 {
                    self.marks.hit(Mark::ClockForward);
                    self.nodes[at].clock.jump_forward();
                } else {
                    self.marks.hit(Mark::ClockBackward);
                    self.nodes[at].clock.jump_backward(draw.between(10_000, 3_000_000));
                }
            }
            FaultKind::Transfer => {
                let to = usize::try_from(draw.below(self.settings.voters)).unwrap_or(0);
                if let Some(leader) = self.leader() {
                    self.marks.hit(Mark::TransferAsked);
                    self.arrives(leader, Arrived::Transfer { to });
                }
            }
            FaultKind::Replay => {
                for _ in 0..draw.between(1, 6) {
                    let number = self.draw_link(at, &mut draw);
                    if let Some(slot) = self.network.replay(number, &mut draw) {
                        self.schedule(draw.below(100_000), Happening::Frame { slot });
                    }
                }
            }
            // A failed write takes with it what was not synced, the mark's last as well: like a power cut, see `damage`.
            FaultKind::DiskError if self.nodes[at].suspect => {}
            FaultKind::DiskError => {
                let sim = &self.nodes[at].disk.sim;
                if draw.below(2) == 0 { sim.fail_next_write() } else { sim.fail_next_sync() }
            }
            FaultKind::DiskFull => {
                let sim = &self.nodes[at].disk.sim;
                sim.set_capacity(sim.used() + usize::try_from(draw.below(4)).unwrap_or(0));
            }
            FaultKind::DiskRot => self.rot(at, nth, &mut draw),
            FaultKind::DiskWiped if self.settings.beyond_budget && draw.below(2) == 0 => self.wipe_most(&mut draw),
            FaultKind::DiskWiped | FaultKind::DiskOldBackup => self.replace_disk(at, kind, &mut draw),
            FaultKind::FrameLoss | FaultKind::FrameRepeat | FaultKind::FrameDamage | FaultKind::ClientLoss => {}
        }
    }

    /// Damage to one disk; beyond the budget also to most of them, or all, at once.
    fn rot(&mut self, at: usize, nth: u64, draw: &mut Draw) {
        let mut more = Draw::new(self.settings.seed, "damage", nth);
        let struck = Struck::draw(&mut more);
        self.damage(at, struck, draw);
        let count = self.nodes.len();
        if self.settings.beyond_budget && more.below(2) == 0 {
            let others = if more.below(2) == 0 { count - 1 } else { count / 2 };
            for other in 1..=others {
                self.damage((at + other) % count, Struck::draw(&mut more), &mut more);
            }
        }
        self.note_the_budget();
    }

    /// Something that was durable is not as it was; found at the next start.
    fn damage(&mut self, at: usize, struck: Struck, draw: &mut Draw) {
        // Between two syncs of the mark, damage to the end of the log together with a power cut looks like a write that was never
        // finished: nothing on the disk could tell. So the power stays on until the damage is found, and was on before.
        let spared = self.nodes[at].halted || self.core.as_ref().is_some_and(|core| core[at]);
        if spared || !self.may_damage(at) || (!self.nodes[at].is_up() && self.nodes[at].last_death == Death::PowerCut) {
            return;
        }
        self.nodes[at].disk.sim.forget_planned();
        self.nodes[at].death = Death::Killed;
        let earlier = self.nodes[at].suspect.then_some(self.nodes[at].struck);
        match struck {
            // Found first, or worse would come of it than any single loss.
            _ if earlier.is_some_and(|earlier| earlier != struck || earlier != Struck::Log) => return,
            Struck::Log => self.damage_log(at, draw),
            Struck::Mark | Struck::Identity => {
                // A process that runs would soon write over it.
                if self.nodes[at].is_up() {
                    self.nodes[at].outage_us = draw.between(1_000, self.settings.outage_us.0);
                    self.crash(at, Death::Killed);
                }
                if struck == Struck::Mark { self.damage_mark(at, draw) } else { self.damage_identity(at, draw) }
            }
        }
        self.nodes[at].struck = struck;
    }

    /// More disks are emptied than can be borne. One who remembers their members is there all the while: if nobody were, an empty
    /// majority could not be told from a new cluster.
    fn wipe_most(&mut self, draw: &mut Draw) {
        let count = self.nodes.len();
        let Some(leader) = self.leader().filter(|_| self.core.is_none()) else { return };
        let is_sound = |at: usize| self.nodes[at].is_up() && !self.nodes[at].paused && self.is_whole(at);
        let hears = |at: usize| {
            let heard = at == leader || self.nodes[leader].heard_lives[at] == self.nodes[at].life;
            heard && !self.network.is_cut(leader, at) && !self.network.is_cut(at, leader)
        };
        if !(0..count).all(|at| is_sound(at) && hears(at)) {
            return;
        }
        self.marks.hit(Mark::DisksWipedAtOnce);
        self.calm_until = self.now + 2_000_000;
        self.nodes[leader].crash_in = None;
        self.nodes[leader].disk.sim.forget_planned();
        let wiped = if draw.below(2) == 0 { count / 2 + 1 } else { count - 1 };
        for at in (1..=wiped).map(|step| (leader + step) % count) {
            self.nodes[at].outage_us = draw.between(1_000, 50_000);
            self.crash(at, Death::Killed);
            self.network.forget_sender(at);
            let node = &mut self.nodes[at];
            node.last_death = Death::Killed;
            node.disk.sim.wipe();
            node.acquainted.forget_all();
            self.trace.tell(self.now, || format!("n{}'s disk is an empty one now", id_of(at)));
        }
        self.note_the_budget();
    }

    fn note_the_budget(&mut self) {
        let count = self.nodes.len();
        let whole = (0..count).filter(|at| self.is_whole(*at)).count();
        if whole <= count / 2 {
            self.marks.hit(Mark::BeyondBudget);
            self.trace.tell(self.now, || format!("{whole} of {count} disks hold what they acknowledged"));
        }
    }

    fn damage_log(&mut self, at: usize, draw: &mut Draw) {
        for _ in 0..if draw.below(4) == 0 { 2 } else { 1 } {
            let fault = *draw.pick(&SECTOR_FAULTS);
            let spared = |name: &str| name != "identity" && name != "mark";
            let Some(injected) = self.nodes[at].disk.sim.inject(fault, spared, draw) else { continue };
            self.nodes[at].suspect = true;
            self.marks.hit(match fault {
                SectorFault::Rot => Mark::DiskRot,
                SectorFault::Misdirected => Mark::DiskMisdirect,
                SectorFault::Stale => Mark::DiskStale,
                SectorFault::Unreadable => Mark::DiskUnreadable,
            });
            self.trace.tell(self.now, || format!("n{}'s disk is damaged: {}", id_of(at), injected.what));
        }
        if self.nodes[at].suspect && draw.below(4) > 0 {
            self.arm_crash(at, draw);
        }
    }

    /// One slot of the mark leaves the other; with both, nobody knows what this member promised, and the others must say.
    fn damage_mark(&mut self, at: usize, draw: &mut Draw) {
        const FILE: &str = "mark";
        let both = draw.below(3) == 0;
        if !both && draw.below(3) == 0 {
            let fault = *draw.pick(&[SectorFault::Stale, SectorFault::Misdirected]);
            let Some(injected) = self.nodes[at].disk.sim.inject(fault, |name| name == FILE, draw) else { return };
            self.struck(at, Mark::MarkSlotLost, &injected.what);
            return;
        }
        let one = usize::try_from(draw.below(2)).unwrap_or(0);
        for slot in (0..2).filter(|slot| both || *slot == one) {
            let offset = slot * SECTOR + usize::try_from(draw.below(SLOT_USED)).unwrap_or(0);
            let sim = &self.nodes[at].disk.sim;
            let (done, what) = if draw.below(2) == 0 {
                (sim.rot_at(FILE, offset, 3), "rots")
            } else {
                (sim.unreadable_at(FILE, offset), "cannot be read")
            };
            if done {
                self.struck(at, Mark::MarkSlotLost, &format!("slot {slot} of the mark {what}"));
            }
        }
    }

    /// Whose disk it is cannot be told: the member does not start any more.
    fn damage_identity(&mut self, at: usize, draw: &mut Draw) {
        let sim = &self.nodes[at].disk.sim;
        let done = if draw.below(2) == 0 { sim.rot_at("identity", 20, 3) } else { sim.unreadable_at("identity", 0) };
        if done {
            self.struck(at, Mark::IdentityLost, "its identity");
        }
    }

    fn struck(&mut self, at: usize, mark: Mark, what: &str) {
        self.nodes[at].suspect = true;
        self.marks.hit(mark);
        self.trace.tell(self.now, || format!("n{}'s disk is damaged: {what}", id_of(at)));
    }

    /// A disk may lose what its node has acknowledged while a majority, without it, has lost nothing.
    fn may_damage(&self, at: usize) -> bool {
        let bad = (0..self.nodes.len()).filter(|other| *other != at && !self.is_whole(*other)).count();
        !self.nodes[at].acquainted.is_replaced && (self.settings.beyond_budget || bad < (self.nodes.len() - 1) / 2)
    }

    /// Its disk holds everything that it ever acknowledged.
    pub(crate) fn is_whole(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let recovering = node.replica.as_ref().is_some_and(|replica| replica.status().recovering);
        !node.halted && !node.suspect && !node.recovers && !recovering && !node.acquainted.is_replaced
    }

    /// The leader of the highest term, as an onlooker sees it.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.nodes[*at].state() == Some(PeerState::Leader);
        let term = |at: &usize| self.nodes[*at].replica.as_ref().map(|replica| replica.status().term);
        (0..self.nodes.len()).filter(leads).max_by_key(term)
    }

    fn draw_link(&mut self, from: usize, draw: &mut Draw) -> usize {
        let voters = self.settings.voters;
        let to = usize::try_from(draw.between(1, voters - 1)).unwrap_or(1);
        let to = (from + to) % self.nodes.len();
        self.network.link(from, to)
    }

    fn arm_crash(&mut self, at: usize, draw: &mut Draw) {
        let long = draw.below(100) < self.settings.long_outages;
        let (short_us, long_us) = self.settings.outage_us;
        let outage_us = if long { draw.between(short_us, long_us) } else { draw.between(1_000, short_us) };
        let points = u32::try_from(draw.below(40)).unwrap_or(0);
        let (power, inside) = (draw.below(2) == 0, draw.below(3) == 0);
        let node = &mut self.nodes[at];
        let (power, inside) = (power && !node.suspect, inside && !node.suspect);
        if node.is_up() {
            node.outage_us = outage_us;
            node.death = if power { Death::PowerCut } else { Death::Killed };
            if node.paused {
                let death = node.death;
                self.crash(at, death);
            } else if inside {
                // Inside of what the disk does next.
                node.disk.sim.cut_power_after(u64::from(points));
            } else {
                node.crash_at = (draw.below(3) > 0).then(|| *draw.pick(CRASH_PLACES));
                node.crash_in = Some(if node.crash_at.is_some() { 400 } else { points });
            }
        }
    }

    fn pause(&mut self, at: usize, draw: &mut Draw) {
        let takes = draw.between(100_000, 8_000_000);
        let node = &mut self.nodes[at];
        if !node.is_up() || node.paused {
            return;
        }
        node.paused = true;
        node.piles_ticks = draw.below(2) == 0;
        self.marks.hit(Mark::Pause);
        self.marks.hit_if(node.state() == Some(PeerState::Leader), Mark::PauseOfLeader);
        let life = node.life;
        self.schedule(takes, Happening::Resume { node: at, life });
    }

    fn reset_connection(&mut self, from: usize, draw: &mut Draw) {
        self.marks.hit(Mark::ConnectionReset);
        let number = self.draw_link(from, draw);
        let to = number % self.nodes.len();
        self.network.reset(number);
        let back = self.network.link(to, from);
        self.network.reset(back);
        for (node, peer) in [(from, to), (to, from)] {
            let life = self.nodes[node].life;
            self.schedule(draw.below(50_000), Happening::Unreachable { node, peer, life });
        }
    }

    fn partition(&mut self, draw: &mut Draw) {
        let count = self.nodes.len();
        let voters = self.settings.voters;
        let mut some_node = || usize::try_from(draw.below(voters)).unwrap_or(0);
        let (a, b) = (some_node(), some_node());
        let shape = draw.below(8);
        let sides = draw.value();
        let side = |node: usize| (sides >> node) & 1;
        let after = |node: usize| (node + 1) % count;
        let cut = |from: usize, to: usize| match shape {
            0..3 => (from == a) != (to == a),
            3 => from == a,
            4 => to == a,
            // Each node hears only its neighbour in the ring (with three nodes: one direction of the ring is cut).
            5 if count > 3 => to != after(from) && from != after(to),
            5 => to == after(from),
            // Two halves that only the bridge talks to.
            6 if count > 3 => from != a && to != a && side(from) != side(to),
            6 => from != a && to != a,
            _ => side(from) != side(to),
        };
        let mark = match shape {
            0..3 => Mark::PartitionIsolate,
            3 | 4 => Mark::PartitionOneWay,
            5 => Mark::PartitionRing,
            6 => Mark::PartitionBridge,
            _ => Mark::PartitionUniform,
        };
        self.marks.hit(mark);
        self.marks.hit_if(self.leader() == Some(a) && shape < 3, Mark::PartitionSplitLeader);
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let cut_pairs: Vec<(usize, usize)> = pairs.filter(|(from, to)| from != to && cut(*from, *to)).collect();
        self.trace.tell(self.now, || {
            let named: Vec<String> = cut_pairs.iter().map(|(a, b)| format!("n{}->n{}", id_of(*a), id_of(*b))).collect();
            format!("partition ({mark:?}, {b}): {}", named.join(" "))
        });
        let mut links = Vec::with_capacity(cut_pairs.len());
        for (from, to) in cut_pairs {
            let number = self.network.link(from, to);
            self.network.cut(number);
            links.push(number);
            let life = self.nodes[from].life;
            if draw.below(2) == 0 {
                self.schedule(draw.between(1_000, 1_000_000), Happening::Unreachable { node: from, peer: to, life });
            }
        }
        self.partitions.push(Some(Partition { links }));
        let partition = self.partitions.len() - 1;
        let takes = if draw.below(4) == 0 { draw.between(1, 40) * 1_000_000 } else { draw.between(50_000, 6_000_000) };
        self.schedule(takes, Happening::PartitionEnds { partition });
    }

    pub(crate) fn end_partition(&mut self, partition: usize) {
        let Some(Partition { links }) = self.partitions[partition].take() else { return };
        self.marks.hit(Mark::PartitionHealed);
        self.trace.tell(self.now, || format!("partition {partition} ends"));
        for number in links {
            self.network.uncut(number);
        }
    }

    /// Partitions are over where both ends are in the core, and stay for ever elsewhere.
    pub(crate) fn forget_partitions(&mut self) {
        self.partitions.iter_mut().for_each(|partition| drop(partition.take()));
    }
}
