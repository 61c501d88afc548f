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
use flaredb_replica::acquaintance::{Acquaintances, Inquiry, Standing, StartId};
use std::collections::VecDeque;

/// Pause between two attempts to meet those who were not met.
const MEET_EVERY_US: u64 = 100_000;
/// Older copies of a disk that are kept.
const BACKUPS_MAX: usize = 4;

/// A copy of a disk as its process left it.
#[derive(Clone)]
struct Copy {
    disk: Backup,
    remembered: Acquaintances,
}

/// What a node remembers, and what it knows of its own disk.
pub(crate) struct Acquainted {
    /// Durable, as the disk is.
    remembered: Acquaintances,
    /// Names of starts; of the node, not of its disk.
    names: Draw,
    /// The starts of the others that this process has met; 0: none.
    met: Vec<u64>,
    inquiry: Inquiry,
    /// Starts that others remember and that this disk does not continue.
    former: Vec<StartId>,
    /// It knows that it does not know what it promised.
    begun: bool,
    /// All others were heard.
    told: bool,
    /// To be noted on the disk once it is done with its write.
    to_note: Option<Option<EntryId>>,
    /// To be noted as soon as this term is durable.
    to_note_after: Option<(u64, EntryId)>,
    /// An onlooker's: its disk is another one, and it has not taken over what the former one promised.
    pub(crate) is_replaced: bool,
    /// The next start is the first one on another disk.
    pub(crate) starts_anew: bool,
    /// That disk is an old copy.
    is_copy: bool,
    copies: VecDeque<Copy>,
}

impl Acquainted {
    pub(crate) fn new(seed: u64, id: u64) -> Self {
        Self {
            remembered: Acquaintances::default(),
            names: Draw::new(seed, "start id", id),
            met: Vec::new(),
            inquiry: Inquiry::default(),
            former: Vec::new(),
            begun: false,
            told: false,
            to_note: None,
            to_note_after: None,
            is_replaced: false,
            starts_anew: false,
            is_copy: false,
            copies: VecDeque::new(),
        }
    }

    /// Its disk is an empty one from now on, and no copy of another is left.
    pub(crate) fn forget_all(&mut self) {
        self.remembered = Acquaintances::default();
        self.copies.clear();
        (self.is_replaced, self.starts_anew, self.is_copy) = (true, true, false);
    }

    /// Another process begins, on this disk.
    pub(crate) fn start(&mut self, voters: usize) {
        self.remembered.begin(StartId(self.names.value().max(1)));
        self.met = vec![0; voters];
        self.inquiry = Inquiry::default();
        self.former.clear();
        (self.to_note, self.to_note_after) = (None, None);
        (self.begun, self.told, self.starts_anew) = (false, false, false);
    }
}

impl World {
    /// Before it is opened: what was left is what a backup of it has.
    pub(crate) fn copy_disk(&mut self, at: usize) {
        // Damage is a fault of its own; a copy of a disk that was recovering when it was made would be two losses in one.
        if self.settings.every_us(FaultKind::DiskOldBackup) == 0 || self.core.is_some() || !self.is_whole(at) {
            return;
        }
        let node = &mut self.nodes[at];
        let acquainted = &mut node.acquainted;
        if acquainted.remembered.lineage().is_empty() {
            return;
        }
        let copy = Copy { disk: node.disk.sim.backup(), remembered: acquainted.remembered.clone() };
        acquainted.copies.push_back(copy);
        if acquainted.copies.len() > BACKUPS_MAX {
            acquainted.copies.pop_front();
        }
    }

    /// True if every other one would notice this disk: it remembers a start that is not in this lineage. Nobody can notice one
    /// whose later starts were never heard of, and a single one that has not heard of them may be all that is met.
    fn would_be_noticed(&self, at: usize, lineage: &[StartId]) -> bool {
        (0..self.nodes.len()).filter(|other| *other != at).all(|other| {
            let heads = self.nodes[other].acquainted.remembered.heads_of(id_of(at));
            heads.iter().any(|head| !lineage.contains(head))
        })
    }

    /// Its disk is another one from now on: an empty one, or an old copy of its own.
    pub(crate) fn replace_disk(&mut self, at: usize, kind: FaultKind, draw: &mut Draw) {
        // What a single disk promised may be lost while all others know theirs, and know whose is lost.
        let others_whole = (0..self.nodes.len()).all(|node| node == at || self.is_whole(node));
        if !others_whole || self.core.is_some() || self.nodes[at].halted {
            return;
        }
        let copies = &self.nodes[at].acquainted.copies;
        let fit = |place: &usize| {
            let remembered = &copies[*place].remembered;
            // What an old memory says of others must still be theirs. One that took over what came after it would have to
            // recover once more, and while this member is away that takes for ever: safe, and beyond what is required here.
            let still_theirs = |other: &usize| {
                let theirs = self.nodes[*other].acquainted.remembered.lineage();
                remembered.heads_of(id_of(*other)).iter().all(|head| theirs.contains(head))
            };
            self.would_be_noticed(at, remembered.lineage())
                && (0..self.nodes.len()).filter(|n| *n != at).all(|n| still_theirs(&n))
        };
        let copy = if kind == FaultKind::DiskOldBackup {
            let fit: Vec<usize> = (0..copies.len()).filter(fit).collect();
            if fit.is_empty() {
                return;
            }
            Some(copies[*draw.pick(&fit)].clone())
        } else if self.would_be_noticed(at, &[]) {
            None
        } else {
            return;
        };
        if self.nodes[at].is_up() {
            let (short_us, long_us) = self.settings.outage_us;
            let long = draw.below(100) < self.settings.long_outages;
            self.nodes[at].outage_us =
                if long { draw.between(short_us, long_us) } else { draw.between(1_000, short_us) };
            self.crash(at, Death::Killed);
        }
        // The disk that goes may come back.
        self.copy_disk(at);
        let id = id_of(at);
        self.network.forget_sender(at);
        let node = &mut self.nodes[at];
        node.last_death = Death::Killed;
        node.suspect = false;
        let acquainted = &mut node.acquainted;
        (acquainted.is_replaced, acquainted.starts_anew, acquainted.is_copy) = (true, true, copy.is_some());
        match copy {
            None => {
                self.marks.hit(Mark::DiskWiped);
                node.disk.sim.wipe();
                acquainted.remembered = Acquaintances::default();
                self.trace.tell(self.now, || format!("n{id}'s disk is an empty one now"));
            }
            Some(Copy { disk, remembered }) => {
                self.marks.hit(Mark::DiskOldBackup);
                node.disk.sim.restore(&disk);
                let starts = (remembered.lineage().len(), acquainted.remembered.lineage().len());
                acquainted.remembered = remembered;
                self.trace.tell(self.now, || {
                    format!(
                        "n{id}'s disk is a copy now: its lineage has {} starts, the one before had {}",
                        starts.0, starts.1
                    )
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
        for (me, peer, (told, position)) in [(one, other, second), (other, one, first)] {
            let (peer_incarnation, id, peer_id) = (self.nodes[peer].incarnation, id_of(me), id_of(peer));
            let acquainted = &mut self.nodes[me].acquainted;
            acquainted.remembered.meet(peer_id, told.lineage());
            acquainted.remembered.merge(id, told.others());
            acquainted.met[peer] = peer_incarnation;
            let standing = acquainted.remembered.standing(told.heads_of(id));
            arrivals.push((me, Arrived::Met { peer, standing, position: *position }));
        }
        for ((me, what), life) in arrivals.into_iter().zip(lives) {
            if self.nodes[me].life == life {
                self.arrives(me, what);
            }
        }
        [one, other].into_iter().zip(lives).all(|(at, life)| self.nodes[at].life == life)
    }

    fn greeting(&self, at: usize) -> (Acquaintances, Option<(u64, EntryId)>) {
        let node = &self.nodes[at];
        let position = node.replica.as_ref().and_then(|replica| {
            let term = replica.status().term;
            replica.peer().promise().map(|last| (term, last))
        });
        (node.acquainted.remembered.clone(), position)
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
        (peer, standing): (usize, Standing),
        position: Option<(u64, EntryId)>,
    ) -> Result<(), Gone> {
        let acquainted = &mut self.nodes[at].acquainted;
        if let Some((term, last)) = position {
            acquainted.inquiry.report(id_of(peer), term, Some(last));
        }
        if let Standing::Replaced { former } = standing {
            acquainted.former.extend(former);
            if !acquainted.begun {
                acquainted.begun = true;
                self.marks.hit(Mark::PeerReplaced);
                self.marks.hit_if(self.nodes[at].acquainted.is_copy, Mark::ReplacedByOldCopy);
                self.trace.tell(self.now, || format!("n{} learns from n{} that it is another", id_of(at), id_of(peer)));
                self.step(at, Input::Recover { until: None, term: 0 })?;
                // Said by a member that did not know this: it may be a vote.
                if let Some((_, messages)) = &mut self.nodes[at].after_write {
                    messages.clear();
                }
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
        acquainted.to_note_after = Some((term, until));
        self.step(at, Input::Recover { until: Some(until), term })
    }

    /// What it was told is noted only when the term is durable: a start that knew only until when to recover would take the term
    /// and vote of its disk for all that it had promised. `written`: the term that has just become durable; None: all that was
    /// asked for is.
    pub(crate) fn maybe_note(&mut self, at: usize, written: Option<u64>) -> Result<(), Gone> {
        let node = &mut self.nodes[at];
        let Some((term, until)) = node.acquainted.to_note_after else { return Ok(()) };
        let is_idle = node.after_write.is_none() && node.replica.as_ref().is_some_and(|replica| !replica.has_output());
        if !written.map_or(is_idle, |written| written >= term) {
            return Ok(());
        }
        node.acquainted.to_note_after = None;
        self.note(at, Some(until))
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
        if node.acquainted.to_note_after.is_some() || node.acquainted.to_note.is_some() {
            return;
        }
        if replica.status().recovering || replica.has_output() || node.after_write.is_some() {
            return;
        }
        let acquainted = &mut node.acquainted;
        if acquainted.former.is_empty() {
            return;
        }
        let former = std::mem::take(&mut acquainted.former);
        acquainted.remembered.take_over(&former);
        acquainted.is_replaced = false;
        // The others replace what they remember when they are greeted.
        acquainted.met.fill(0);
        self.marks.hit(Mark::PeerTookOver);
        self.trace.tell(self.now, || format!("n{} has taken over what its former disk promised", id_of(at)));
    }
}
