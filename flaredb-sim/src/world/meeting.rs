//! Disks that are replaced, and how their members find out: before anything passes between two processes they meet, show
//! themselves and tell what they remember of each other (`flaredb_replica::acquaintance`). In the order of the server's
//! `driver/recovery.rs`; what it keeps in a file is kept here beside the model disk, and lost with it.

use super::disk::Death;
use super::node::Arrived;
use super::{Gone, Happening, World, id_of};
use crate::disk::Backup;
use crate::faults::FaultKind;
use crate::marks::Mark;
use crate::prf::Draw;
use flaredb_raft::EntryId;
use flaredb_replica::Input;
use flaredb_replica::acquaintance::{Acquaintances, Credentials, Inquiry, Standing};
use std::collections::VecDeque;

/// Pause between two attempts to meet those who were not met.
const MEET_EVERY_US: u64 = 100_000;
/// Older copies of a disk that are kept.
const BACKUPS_MAX: usize = 3;

/// A copy of a disk as its process left it.
struct Copy {
    disk: Backup,
    remembered: Acquaintances,
    /// Of the process that left it.
    credentials: Credentials,
}

/// What a node remembers, and what it knows of its own disk.
#[derive(Default)]
pub(crate) struct Acquainted {
    /// Durable, as the disk is.
    remembered: Acquaintances,
    /// Who it is; of the newest process.
    own: Option<Credentials>,
    /// The starts of the others that this process has met; 0: none.
    met: Vec<u64>,
    inquiry: Inquiry,
    /// Disks that others remember in this one's place.
    former: Vec<Credentials>,
    /// It knows that it does not know what it promised.
    begun: bool,
    /// All others were heard.
    told: bool,
    /// To be noted on the disk once it is done with its write.
    to_note: Option<Option<EntryId>>,
    /// An onlooker's: its disk is another one, and it has not taken over what the former one promised.
    pub(crate) is_replaced: bool,
    /// The next start is the first one on another disk.
    pub(crate) starts_anew: bool,
    /// From this incarnation on nobody would notice that its disk is an old copy.
    unnoticed_from: u64,
    /// It went back to a copy once.
    was_set_back: bool,
    copies: VecDeque<Copy>,
}

impl Acquainted {
    /// Another process begins, on this disk.
    pub(crate) fn start(&mut self, own: Credentials, voters: usize) {
        self.own = Some(own);
        self.met = vec![0; voters];
        self.inquiry = Inquiry::default();
        self.former.clear();
        (self.begun, self.told, self.to_note, self.starts_anew) = (false, false, None, false);
    }

    /// True if it must not die now: one more start and what cannot be noticed would have to be.
    pub(crate) fn must_live(&self) -> bool {
        let next = self.own.map_or(0, |own| own.incarnation + 1);
        self.is_replaced && self.unnoticed_from > 0 && (self.own.is_none() || next >= self.unnoticed_from)
    }
}

impl World {
    /// Before it is opened: what was left is what a backup of it has.
    pub(crate) fn copy_disk(&mut self, at: usize) {
        if self.settings.every_us(FaultKind::DiskOldBackup) == 0 || self.core.is_some() || !self.is_whole(at) {
            return;
        }
        let node = &mut self.nodes[at];
        let acquainted = &mut node.acquainted;
        // Who goes back to a copy twice may meet its own memory of having taken over what came after the first.
        let Some(credentials) = acquainted.own.filter(|_| !acquainted.was_set_back) else { return };
        let copy = Copy { disk: node.disk.sim.backup(), remembered: acquainted.remembered.clone(), credentials };
        acquainted.copies.push_back(copy);
        if acquainted.copies.len() > BACKUPS_MAX {
            acquainted.copies.pop_front();
        }
    }

    /// The least that the others remember of it, if all do, as of this disk.
    fn known_to_all(&self, at: usize) -> Option<Credentials> {
        let own = self.nodes[at].acquainted.own?;
        let others = (0..self.nodes.len()).filter(|other| *other != at);
        let known = others.map(|other| self.nodes[other].acquainted.remembered.of(id_of(at)));
        let known: Option<Vec<Credentials>> = known.collect();
        let known = known?.into_iter().filter(|known| known.storage_id == own.storage_id);
        let known: Vec<Credentials> = known.collect();
        let least = known.iter().copied().min_by_key(|known| known.incarnation)?;
        (known.len() + 1 == self.nodes.len()).then_some(least)
    }

    /// Its disk is another one from now on: an empty one, or an old copy of its own.
    pub(crate) fn replace_disk(&mut self, at: usize, kind: FaultKind, draw: &mut Draw) {
        // What a single disk promised may be lost while all others know theirs, and know whose is lost.
        let all_whole = (0..self.nodes.len()).all(|node| self.is_whole(node));
        let Some(known) = self.known_to_all(at).filter(|_| all_whole && self.core.is_none()) else { return };
        // One that somebody has met since; one more start lies between them.
        let old = |copy: &Copy| {
            let Credentials { storage_id, incarnation } = copy.credentials;
            storage_id == known.storage_id && incarnation + 2 <= known.incarnation
        };
        let place = self.nodes[at].acquainted.copies.iter().position(old);
        if kind == FaultKind::DiskOldBackup && place.is_none() {
            return;
        }
        if self.nodes[at].is_up() {
            let (short_us, long_us) = self.settings.outage_us;
            let long = draw.below(100) < self.settings.long_outages;
            self.nodes[at].outage_us =
                if long { draw.between(short_us, long_us) } else { draw.between(1_000, short_us) };
            self.crash(at, Death::Killed);
        }
        let id = id_of(at);
        self.network.forget_sender(at);
        let node = &mut self.nodes[at];
        node.last_death = Death::Killed;
        let acquainted = &mut node.acquainted;
        let copies = std::mem::take(&mut acquainted.copies);
        let copy = place.filter(|_| kind == FaultKind::DiskOldBackup).and_then(|place| copies.into_iter().nth(place));
        (acquainted.is_replaced, acquainted.starts_anew) = (true, true);
        match copy {
            None => {
                self.marks.hit(Mark::DiskWiped);
                node.disk.sim.wipe();
                (acquainted.remembered, acquainted.own) = (Acquaintances::default(), None);
                (acquainted.unnoticed_from, acquainted.was_set_back) = (0, false);
                self.trace.tell(self.now, || format!("n{id}'s disk is an empty one now"));
            }
            Some(Copy { disk, remembered, credentials }) => {
                self.marks.hit(Mark::DiskOldBackup);
                node.disk.sim.restore(&disk);
                (acquainted.remembered, acquainted.own) = (remembered, Some(credentials));
                (acquainted.unnoticed_from, acquainted.was_set_back) = (known.incarnation, true);
                self.trace.tell(self.now, || {
                    format!("n{id}'s disk is a copy of start {} now, of {}", credentials.incarnation, known.incarnation)
                });
            }
        }
    }

    /// A frame, or a snapshot, of this start of the sender: true if it may be looked at.
    pub(crate) fn may_hear(&mut self, from: usize, to: usize, incarnation: u64) -> bool {
        let met = self.nodes[to].acquainted.met[from];
        if met == incarnation {
            return true;
        }
        if incarnation != self.nodes[from].incarnation {
            // Late, of an earlier start: on a connection of then.
            return met > 0;
        }
        self.meet(from, to)
    }

    /// Two processes greet each other. False if they cannot, now.
    fn meet(&mut self, one: usize, other: usize) -> bool {
        let can = |at: usize| self.nodes[at].is_up() && !self.nodes[at].paused;
        if !can(one) || !can(other) || self.network.is_cut(one, other) || self.network.is_cut(other, one) {
            return false;
        }
        self.marks.hit(Mark::Met);
        // Both greetings are written before either is read.
        let greetings = [self.greeting(one), self.greeting(other)];
        let lives = [self.nodes[one].life, self.nodes[other].life];
        let [first, second] = &greetings;
        let mut arrivals = Vec::with_capacity(2);
        for (me, peer, (shown, told, position)) in [(one, other, second), (other, one, first)] {
            let Some(shown) = *shown else { return false };
            let (peer_incarnation, id, peer_id) = (self.nodes[peer].incarnation, id_of(me), id_of(peer));
            let acquainted = &mut self.nodes[me].acquainted;
            acquainted.remembered.meet(peer_id, shown, &told.taken_over().collect::<Vec<_>>());
            acquainted.remembered.merge(id, told.others());
            acquainted.met[peer] = peer_incarnation;
            let former = told.of(id);
            let Some(own) = acquainted.own else { return false };
            let standing = acquainted.remembered.standing(own, former);
            arrivals.push((me, Arrived::Met { peer, standing, former, position: *position }));
        }
        for ((me, what), life) in arrivals.into_iter().zip(lives) {
            if self.nodes[me].life == life {
                self.arrives(me, what);
            }
        }
        [one, other].into_iter().zip(lives).all(|(at, life)| self.nodes[at].life == life)
    }

    fn greeting(&self, at: usize) -> (Option<Credentials>, Acquaintances, Option<(u64, EntryId)>) {
        let node = &self.nodes[at];
        let position = node.replica.as_ref().and_then(|replica| {
            let term = replica.status().term;
            replica.peer().promise().map(|last| (term, last))
        });
        (node.acquainted.own, node.acquainted.remembered.clone(), position)
    }

    /// A process looks for the others, again and again while somebody is missing.
    pub(crate) fn on_meet(&mut self, at: usize, life: u64) {
        let id = id_of(at);
        let voters: Vec<u64> = (1..=self.settings.voters).collect();
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            if self.nodes[at].life != life {
                return;
            }
            let acquainted = &self.nodes[at].acquainted;
            let asks = acquainted.begun && !acquainted.told;
            let asks = asks && acquainted.inquiry.missing(id, &voters).any(|missing| missing == id_of(peer));
            if asks || acquainted.met[peer] != self.nodes[peer].incarnation {
                self.meet(at, peer);
            }
        }
        if self.nodes[at].life == life {
            self.schedule(MEET_EVERY_US, Happening::Meet { node: at, life });
        }
    }

    /// The storage has found that it does not know what this member promised.
    pub(crate) fn begin_unknown(&mut self, at: usize) -> Result<(), Gone> {
        self.nodes[at].acquainted.begun = true;
        self.step(at, Input::Recover { until: None, term: 0 })
    }

    pub(crate) fn on_met(
        &mut self,
        at: usize,
        (peer, standing, former): (usize, Standing, Option<Credentials>),
        position: Option<(u64, EntryId)>,
    ) -> Result<(), Gone> {
        let acquainted = &mut self.nodes[at].acquainted;
        if let Some((term, last)) = position {
            acquainted.inquiry.report(id_of(peer), term, Some(last));
        }
        if standing == Standing::Replaced {
            acquainted.former.extend(former);
            if !acquainted.begun {
                acquainted.begun = true;
                self.marks.hit(Mark::PeerReplaced);
                self.marks.hit_if(self.nodes[at].acquainted.unnoticed_from > 0, Mark::ReplacedByOldCopy);
                self.trace.tell(self.now, || format!("n{} learns from n{} that it is another", id_of(at), id_of(peer)));
                self.step(at, Input::Recover { until: None, term: 0 })?;
                self.note(at, None)?;
            }
        }
        self.tell_when_all_are_heard(at)
    }

    fn tell_when_all_are_heard(&mut self, at: usize) -> Result<(), Gone> {
        let voters: Vec<u64> = (1..=self.settings.voters).collect();
        let acquainted = &mut self.nodes[at].acquainted;
        let outcome = acquainted.inquiry.outcome(id_of(at), &voters);
        let Some((until, term)) = outcome.filter(|_| acquainted.begun && !acquainted.told) else { return Ok(()) };
        acquainted.told = true;
        self.marks.hit(Mark::PeerToldItsPromise);
        self.trace.tell(self.now, || format!("n{} is told: term {term}, log to {until}", id_of(at)));
        self.note(at, Some(until))?;
        self.step(at, Input::Recover { until: Some(until), term })
    }

    /// The log thread does one thing after the other.
    fn note(&mut self, at: usize, until: Option<EntryId>) -> Result<(), Gone> {
        self.nodes[at].acquainted.to_note = Some(until);
        if self.nodes[at].disk.is_writing() { Ok(()) } else { self.note_now(at) }
    }

    /// The disk is done with its write.
    pub(crate) fn note_now(&mut self, at: usize) -> Result<(), Gone> {
        let Some(until) = self.nodes[at].acquainted.to_note.take() else { return Ok(()) };
        self.point(at, Mark::CrashBeforeRecoveryIsNoted)?;
        if let Err(error) = self.nodes[at].disk.recover_until(until) {
            return Err(self.disk_failed(at, &error));
        }
        self.point(at, Mark::CrashAfterRecoveryIsNoted)
    }

    /// Once everything that was promised is here, durably, term and vote included, the former disks are this one's.
    pub(crate) fn maybe_take_over(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(replica) = node.replica.as_ref().filter(|_| node.acquainted.told) else { return };
        if replica.status().recovering || replica.has_output() || node.after_write.is_some() {
            return;
        }
        let acquainted = &mut node.acquainted;
        if acquainted.former.is_empty() {
            return;
        }
        for former in std::mem::take(&mut acquainted.former) {
            acquainted.remembered.take_over(former);
        }
        acquainted.is_replaced = false;
        // The others replace what they remember when they are greeted.
        acquainted.met.fill(0);
        self.marks.hit(Mark::PeerTookOver);
        self.trace.tell(self.now, || format!("n{} has taken over what its former disk promised", id_of(at)));
    }
}
