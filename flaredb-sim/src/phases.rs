//! The two phases of a run. First faults come as they come, and nothing false may be said. Then a random quorum, the *core*, is
//! made whole for good, and progress is required of it, whatever goes on outside: one leader, the same state everywhere in the
//! core, every client that waits answered, and a fresh write and read through each node of the core.
#![expect(clippy::indexing_slicing, reason = "nodes and clients are numbered by the world, within their bounds")]

use crate::history::{Op, Outcome, Record};
use crate::marks::Mark;
use crate::network::Frame;
use crate::observed::{Observed, Violation};
use crate::prf::Draw;
use crate::world::disk::Death;
use crate::world::fault::Struck;
use crate::world::{Happening, World, id_of};
use bytes::Bytes;
use flaredb_kv::{Command, Kv, MemoryStore, PutRequest, RangeRequest};
use flaredb_raft::{Body, PeerState};
use flaredb_replica::wire::decode_messages;

/// Election timeouts, of the longest kind, within which there must be progress.
const ELECTIONS: u64 = 10;
/// So many times may nodes of the core find damage of its disk that was done before the healing.
const DISK_DEATHS_MAX: u32 = 5;
/// How often the world is looked at.
const LOOK_EVERY_US: u64 = 50_000;

impl World {
    /// The first phase: until so many events have happened or a rule is broken.
    pub fn run_faulty(&mut self, events: u64) {
        while self.events < events && self.violation().is_none() && self.next() {}
    }

    /// The second phase.
    pub fn run_healed(&mut self) {
        if self.violation().is_some() {
            return;
        }
        let Some(core) = self.choose_core() else { return self.run_beyond_budget() };
        self.heal(&core);
        let settings = &self.settings;
        // A write that a stalled disk has taken comes back when the stall ends.
        let disks = 20 * (settings.disk.sync_us + settings.disk.jitter_us) + 6 * settings.disk.flush_us;
        let disks = disks + settings.disk.stall_us;
        let network = 40 * (settings.network.delay_us + settings.network.jitter_us);
        let requests = u64::from(settings.replica.request_timeout_ticks) * settings.replica.tick_us * 6 / 5 + 4_000_000;
        let margin = disks + network + requests;
        let members = || self.nodes.iter().zip(&core).filter(|(_, there)| **there).map(|(node, _)| node);
        // A clock that was frozen at the healing ticks when the freeze would have ended. A leader without ticks is silent till then.
        let still_until = members().filter_map(|node| node.clock.stands_still(self.now)).max();
        self.marks.hit_if(still_until.is_some(), Mark::CoreClockStoodStill);
        let still_until = still_until.unwrap_or(self.now);
        let deadline = still_until + ELECTIONS * settings.election_timeout_max_us() + margin;
        // A node that stood still, or is in the last of its slow turns, has not seen yet what time it is, and may step down over it.
        let slow_until = members().map(|node| node.busy_until).max().unwrap_or(0);
        // Nor has a leader whose followers' answers were lost: it steps down when it has missed them for an election timeout.
        let silence = u64::from(settings.replica.election_timeout_ticks) * settings.replica.tick_us * 6 / 5;
        let look_from = slow_until.max(still_until) + silence + LOOK_EVERY_US;
        let settles = |world: &Self| match world.now < look_from {
            true => Some("a node has not caught up with what waits for it".to_owned()),
            false => world.unsettled(&core),
        };
        if !self.run_until(deadline.max(look_from), settles) {
            return;
        }
        self.marks.hit(Mark::Converged);
        if self.probe(&core, deadline + margin) {
            let deadline = self.now + ELECTIONS * self.settings.election_timeout_max_us() + margin;
            if self.run_until(deadline, |world| world.unsettled(&core)) {
                self.end(&core);
            }
        }
    }

    /// More was lost than can be borne: nobody can require progress. But every member that can start does, all reach each
    /// other, clients go on asking, and whatever is said is to be true.
    fn run_beyond_budget(&mut self) {
        self.marks.hit(Mark::WaitsBeyondBudget);
        let all: Vec<bool> = self.nodes.iter().map(|node| !node.halted).collect();
        self.heal(&all);
        self.quiet = false;
        let until = self.now + ELECTIONS * self.settings.election_timeout_max_us();
        while self.now < until && self.violation().is_none() && self.next() {}
    }

    /// Runs until `lacks` has nothing to complain about. False, and a violation, if that takes too long. A node that has lost
    /// its disk may have to fetch a long log in appends of one entry: as long as the last of the core catches up, time is added.
    fn run_until(&mut self, mut deadline: u64, lacks: impl Fn(&Self) -> Option<String>) -> bool {
        let began = self.now;
        let patience = ELECTIONS * self.settings.election_timeout_max_us();
        let mut least_lag = u64::MAX;
        let mut look_at = self.now;
        loop {
            if self.violation().is_some() {
                return false;
            }
            if self.now >= look_at {
                look_at = self.now + LOOK_EVERY_US;
                let Some(what) = lacks(self) else { return true };
                let lag = self.lag_of_the_last();
                if lag < least_lag {
                    least_lag = lag;
                    deadline = deadline.max(self.now + patience);
                }
                if self.now > deadline {
                    let took = (self.now - began) / 1000;
                    let what = format!("{took} ms after the core was healed: {what}");
                    self.watch.broken(Violation { rule: "liveness", what });
                    return false;
                }
            }
            if !self.next() {
                return false;
            }
        }
    }

    /// How many entries of the longest log in the core the last one there lacks on its disk; all of them if it is down.
    fn lag_of_the_last(&self) -> u64 {
        let Some(core) = &self.core else { return 0 };
        let members = self.nodes.iter().zip(core).filter(|(_, there)| **there).map(|(node, _)| node);
        let statuses = members.map(|node| node.replica.as_ref().map(|replica| replica.status()));
        let (longest, shortest) = statuses.fold((0, u64::MAX), |(longest, shortest), status| {
            let (last, durable) = status.map_or((0, 0), |status| (status.last_index, status.persisted_index));
            (longest.max(last), shortest.min(durable))
        });
        longest.saturating_sub(shortest)
    }

    /// A random quorum, or more, that can make progress: with enough nodes that know what they promised.
    fn choose_core(&mut self) -> Option<Vec<bool>> {
        let voters = self.nodes.len();
        let mut draw = Draw::new(self.settings.seed, "core", 0);
        let quorum = voters / 2 + 1;
        let size = if draw.below(2) == 0 { voters } else { quorum };
        let mut core = vec![false; voters];
        let mut whole: Vec<usize> = (0..voters).filter(|at| self.is_whole(*at)).collect();
        if whole.len() < quorum {
            return None;
        }
        for _ in 0..quorum {
            let place = usize::try_from(draw.below(u64::try_from(whole.len()).unwrap_or(1))).unwrap_or(0);
            core[whole.swap_remove(place)] = true;
        }
        // Damage that its next start will find counts as found.
        let awaits = |at: usize, struck: Struck| self.nodes[at].suspect && self.nodes[at].struck == struck;
        if size == voters {
            core = (0..voters).map(|at| !self.nodes[at].halted && !awaits(at, Struck::Identity)).collect();
        }
        // Who does not know what it promised needs all others, and they must know theirs.
        let is_mute = |at: &usize| {
            let node = &self.nodes[*at];
            node.acquainted.is_replaced || node.is_mute || awaits(*at, Struck::Mark)
        };
        let mute: Vec<usize> = (0..voters).filter(is_mute).collect();
        if core.iter().any(|there| !there) || mute.len() > 1 {
            mute.into_iter().for_each(|at| core[at] = false);
        }
        let recovers = (0..voters).any(|at| core[at] && !self.is_whole(at));
        self.marks.hit_if(recovers, Mark::CoreHadRecovering);
        self.marks.hit(if size == voters { Mark::CoreIsAll } else { Mark::CoreIsMinorityFree });
        Some(core)
    }

    fn heal(&mut self, core: &[bool]) {
        let ids: Vec<u64> = (0..core.len()).filter(|at| core[*at]).map(id_of).collect();
        self.trace.tell(self.now, || format!("healed: the core is {ids:?}"));
        self.quiet = true;
        self.forget_partitions();
        self.network.heal(core);
        self.core = Some(core.to_vec());
        for at in 0..core.len() {
            if !core[at] {
                self.leave_outside(at, core);
                continue;
            }
            let node = &mut self.nodes[at];
            node.crash_in = None;
            node.disk.sim.forget_planned();
            node.disk.sim.set_capacity(usize::MAX);
            node.slow = 1;
            node.stalled_until = 0;
            node.clock.heal();
            let life = node.life;
            if node.is_up() {
                self.schedule(0, Happening::Resume { node: at, life });
            } else {
                self.marks.hit(Mark::CoreHadDownNode);
                self.schedule(0, Happening::Start { node: at, life });
            }
        }
        self.watch.see(self.now, &Observed::Healed { core: &ids });
    }

    /// A node outside of the core is dead, cut off, mute or deaf for the core from now on; its other faults go on.
    fn leave_outside(&mut self, at: usize, core: &[bool]) {
        let mut draw = Draw::new(self.settings.seed, "outside", id_of(at));
        let (mute, deaf) = match draw.below(5) {
            0 => {
                self.marks.hit(Mark::OutsideStaysDown);
                self.crash(at, Death::Killed);
                self.nodes[at].life += 1;
                (true, true)
            }
            1 | 2 => (true, true),
            3 => (true, false),
            _ => (false, true),
        };
        self.marks.hit(match (mute, deaf) {
            (true, false) => Mark::OutsideIsMute,
            (false, true) => Mark::OutsideIsDeaf,
            _ => Mark::OutsideStaysCut,
        });
        for other in (0..core.len()).filter(|other| core[*other]) {
            for (cut, from, to) in [(mute, at, other), (deaf, other, at)] {
                if cut {
                    let number = self.network.link(from, to);
                    self.network.cut(number);
                }
            }
        }
    }

    /// What is still missing.
    fn unsettled(&self, core: &[bool]) -> Option<String> {
        let members: Vec<usize> = (0..core.len()).filter(|at| core[*at]).collect();
        let mut statuses = Vec::with_capacity(members.len());
        for at in &members {
            match &self.nodes[*at].replica {
                Some(replica) => statuses.push((replica.status(), replica.kv())),
                None => return Some(format!("n{} is down", id_of(*at))),
            }
        }
        let leaders: Vec<String> = statuses
            .iter()
            .filter(|(status, _)| status.state == PeerState::Leader)
            .map(|(status, _)| format!("n{}@{}", status.id, status.term))
            .collect();
        let told: Vec<String> = statuses
            .iter()
            .map(|(s, kv)| {
                format!(
                    "n{}@{} {:?} of {:?}, log to {}, durable to {}, commit {}, applied {}",
                    s.id,
                    s.term,
                    s.state,
                    s.leader,
                    s.last_index,
                    s.persisted_index,
                    s.commit_index,
                    kv.applied().index
                )
            })
            .collect();
        let told = told.join("; ");
        let [_] = leaders.as_slice() else { return Some(format!("{} leaders: {told}", leaders.len())) };
        // One that was asked for before the healing may end meanwhile, and leave a forwarded request without an outcome.
        let transferee = members.iter().find_map(|at| self.nodes[*at].replica.as_ref()?.peer().transferee());
        if let Some(to) = transferee {
            return Some(format!("leadership is being handed to n{to}: {told}"));
        }
        // The leader may have given that one up, and the word of it come late.
        if let Some(to) = self.told_to_campaign(core) {
            return Some(format!("a TimeoutNow is under way to n{}: {told}", id_of(to)));
        }
        let (first, first_kv) = statuses.first()?;
        let same = |(status, kv): &(flaredb_raft::PeerStatus, &Kv<MemoryStore>)| {
            status.leader == first.leader
                && status.leader.is_some()
                && kv.applied().index == first_kv.applied().index
                && status.commit_index == kv.applied().index
                && status.last_index == status.commit_index
        };
        if !statuses.iter().all(same) {
            return Some(format!("not everybody is at the same place: {told}"));
        }
        let waits = self.workload.clients.iter().filter_map(|client| client.current.as_ref());
        let waits: Vec<String> = waits
            .filter(|current| core[current.node])
            .map(|current| format!("request {} through n{}", current.id, id_of(current.node)))
            .collect();
        if !waits.is_empty() {
            return Some(format!("without an answer: {}; {told}", waits.join(", ")));
        }
        None
    }

    /// The node of the core that a TimeoutNow from within the core has yet to reach.
    fn told_to_campaign(&self, core: &[bool]) -> Option<usize> {
        let within = |frame: &&Frame| core[frame.from] && core[frame.to] && frame.is_intact();
        let tells = |frame: &Frame| {
            let messages = decode_messages(frame.payload.clone()).unwrap_or_default();
            messages.iter().any(|message| matches!(message.body, Body::TimeoutNow))
        };
        self.network.under_way().filter(within).find(|frame| tells(frame)).map(|frame| frame.to)
    }

    /// A fresh write and a linearizable read through every node of the core. False if one of them does not succeed.
    fn probe(&mut self, core: &[bool], deadline: u64) -> bool {
        for at in (0..core.len()).filter(|at| core[*at]) {
            let key = Bytes::from(format!("probe{at}"));
            let put = PutRequest { key: key.clone(), value: Bytes::from_static(b"1"), ..PutRequest::default() };
            let range = RangeRequest { key, ..RangeRequest::default() };
            for op in [Op::Write(Command::Put(put)), Op::Read(range)] {
                if !self.probe_with(core, at, &op, deadline) {
                    return false;
                }
            }
        }
        true
    }

    fn lives(&self, core: &[bool]) -> Vec<u64> {
        (0..core.len()).filter(|at| core[*at]).map(|at| self.nodes[at].life).collect()
    }

    fn probe_with(&mut self, core: &[bool], at: usize, op: &Op, deadline: u64) -> bool {
        for _ in 0..=DISK_DEATHS_MAX {
            // A follower may have ended over the request before.
            if !self.run_until(deadline, |world| world.unsettled(core)) {
                return false;
            }
            let lives = self.lives(core);
            let id = self.workload.probe(0, self.now, at, op.clone()).id;
            self.probing = Some((id, None));
            self.invoke(0);
            let under_way = |world: &Self| match &world.probing {
                Some((_, None)) => Some(format!("a fresh request through n{} has no answer", id_of(at))),
                _ => None,
            };
            if !self.run_until(deadline, under_way) {
                return false;
            }
            let outcome = self.probing.take().and_then(|(_, outcome)| outcome);
            match &outcome {
                Some(Outcome::Written(Ok(_))) => return true,
                Some(Outcome::Read { result: Ok(range), .. }) if range.count == 1 => return true,
                // A process ended meanwhile, this one or the leader: old damage of its disk came to light only now. It starts
                // again, mended.
                _ if self.lives(core) != lives => {}
                _ => {
                    let what = format!("a fresh request through n{} of the healed core got {outcome:?}", id_of(at));
                    self.watch.broken(Violation { rule: "liveness", what });
                    return false;
                }
            }
        }
        let what = format!("some node of the healed core stops at every request through n{}", id_of(at));
        self.watch.broken(Violation { rule: "liveness", what });
        false
    }

    /// A client has its answer: a probe's is looked at.
    pub(crate) fn answered(&mut self, record: Record) {
        if let Some((id, outcome)) = &mut self.probing
            && *id == record.id
        {
            *outcome = Some(record.outcome);
        }
    }

    fn end(&mut self, core: &[bool]) {
        let members = (0..core.len()).filter(|at| core[*at]);
        let kvs: Vec<(u64, &Kv<MemoryStore>)> =
            members.filter_map(|at| Some((id_of(at), self.nodes[at].replica.as_ref()?.kv()))).collect();
        let hashes: Vec<(u64, _)> =
            kvs.iter().map(|(id, kv)| (*id, kv.reader().hash(0).ok().and_then(Result::ok))).collect();
        if hashes.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            let what = format!("the nodes of the core have applied the same and differ: {hashes:?}");
            self.watch.broken(Violation { rule: "equal_state", what });
        }
        self.watch.see(self.now, &Observed::Ended { converged: true, kvs: &kvs });
    }
}
