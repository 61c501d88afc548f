//! Snapshots between nodes: the sender's state machine as it is, on its way to another node, and its installation there.

use super::node::{Arrived, remembering};
use super::{Gone, Happening, World, id_of};
use crate::faults::FaultKind;
use crate::marks::Mark;
use crate::observed::Observed;
use crate::prf::Draw;
use flaredb_kv::{Kv, MemoryStore};
use flaredb_raft::{Body, ConfState, EntryId, Message, SnapshotMeta};
use flaredb_replica::Input;

/// A snapshot under way.
pub(crate) struct Transfer {
    from: usize,
    to: usize,
    sender_life: u64,
    term: u64,
    snapshot: SnapshotMeta,
    image: MemoryStore,
    /// It was sent before, and comes again: the sender learns nothing from it.
    again: bool,
}

impl World {
    /// Begins to send a snapshot of what is applied.
    pub(crate) fn send_snapshot(&mut self, at: usize, to: usize, term: u64) {
        self.marks.hit(Mark::SnapshotWanted);
        let node = &mut self.nodes[at];
        let Some(replica) = node.replica.as_ref() else { return };
        let applied = replica.kv().applied();
        let last = EntryId { index: applied.index, term: applied.term };
        let conf_state = ConfState { voters: (1..=self.settings.voters).collect() };
        let snapshot = SnapshotMeta { last, conf_state };
        let image = replica.kv().store().clone();
        let takes = self.settings.network.delay_us + node.disk_time.between(1_000, 2 * self.settings.disk.flush_us);
        let fails = node.disk_time.below(5) == 0 && !self.settings.fault_free && self.core.is_none();
        let life = node.life;
        if self.network.is_cut(at, to) || fails {
            self.marks.hit(Mark::SnapshotAborted);
            self.schedule(takes, Happening::SnapshotReport { node: at, peer: to, delivered: false, life });
            return;
        }
        self.trace.tell(self.now, || format!("n{} sends a snapshot at {last} to n{}", id_of(at), id_of(to)));
        self.repeat_snapshot(takes, (at, to, life), term, &snapshot, &image);
        self.transfers.push(Some(Transfer { from: at, to, sender_life: life, term, snapshot, image, again: false }));
        let transfer = self.transfers.len() - 1;
        self.schedule(takes, Happening::SnapshotArrives { transfer });
    }

    /// Some snapshots come twice, the second time when the receiver has long gone on. (In production a sender that takes a
    /// snapshot that arrived for lost sends another.)
    fn repeat_snapshot(
        &mut self,
        takes: u64,
        (from, to, sender_life): (usize, usize, u64),
        term: u64,
        snapshot: &SnapshotMeta,
        image: &MemoryStore,
    ) {
        let link = u64::try_from(self.network.link(from, to)).unwrap_or(0);
        let nth = u64::try_from(self.transfers.len()).unwrap_or(0);
        let mut draw = Draw::new(self.settings.seed, "snapshot comes again", nth);
        let again = !self.settings.fault_free && self.core.is_none() && draw.below(4) > 0;
        if !again || !self.faults.allows(FaultKind::FrameRepeat, link, self.now / 1_000_000) {
            return;
        }
        let within = *draw.pick(&[500_000, 5_000_000, 20_000_000, 20_000_000]);
        let later = takes + draw.between(10_000, within);
        let (snapshot, image) = (snapshot.clone(), image.clone());
        self.transfers.push(Some(Transfer { from, to, sender_life, term, snapshot, image, again: true }));
        let transfer = self.transfers.len() - 1;
        self.schedule(later, Happening::SnapshotArrives { transfer });
    }

    /// All of it is there: it is kept beside the live state, announced to the peer, and the sender is told.
    pub(crate) fn on_snapshot_arrives(&mut self, transfer: usize) {
        let Some(Transfer { from, to, sender_life, term, snapshot, image, again }) = self.transfers[transfer].take()
        else {
            return;
        };
        let incarnation = self.nodes[from].incarnation;
        let passes = |world: &Self| world.nodes[to].is_up() && world.nodes[from].life == sender_life;
        let reaches = passes(self) && !self.network.is_cut(from, to) && self.may_hear(from, to, incarnation);
        // Who was met just now may have died of it.
        let delivered = reaches && passes(self);
        if again {
            self.marks.hit_if(delivered, Mark::SnapshotTwice);
        } else {
            let after = self.settings.network.delay_us;
            self.schedule(after, Happening::SnapshotReport { node: from, peer: to, delivered, life: sender_life });
        }
        if !delivered {
            self.marks.hit(Mark::SnapshotToDownNode);
            return;
        }
        self.marks.hit(Mark::SnapshotDelivered);
        let staged = &mut self.nodes[to].staged;
        staged.retain(|(known, _)| known.last != snapshot.last);
        staged.push((snapshot.clone(), image));
        let body = Body::InstallSnapshot { snapshot };
        let message = Message { from: id_of(from), to: id_of(to), region_id: 1, term, body };
        self.watch.see(self.now, &Observed::Sent { message: &message });
        self.marks.hit(Mark::MessageInstallSnapshot);
        self.arrives(to, Arrived::SnapshotAnnounced { message });
    }

    /// The replica wants its whole state replaced.
    pub(crate) fn install(&mut self, at: usize, snapshot: &SnapshotMeta) -> Result<(), Gone> {
        let id = id_of(at);
        // A newer one may have come while this one waited for the disk; the core asks for that next.
        let staged = &mut self.nodes[at].staged;
        staged.retain(|(known, _)| known.last.index >= snapshot.last.index);
        let place = staged.iter().position(|(known, _)| known == snapshot);
        let Some(place) = place else { unreachable!("only what was staged is installed: {snapshot:?}") };
        let (_, image) = staged.swap_remove(place);
        self.point(at, Mark::CrashBeforeInstall)?;
        let kv = match Kv::open(image.clone()) {
            Ok(kv) => remembering(kv, at),
            Err(error) => return Err(self.fail(at, &error.to_string())),
        };
        if let Err(error) = self.nodes[at].disk.install_image(snapshot, kv.applied(), image) {
            return Err(self.disk_failed(at, &error));
        }
        self.point(at, Mark::CrashInsideInstall)?;
        if let Err(error) = self.nodes[at].disk.reset_log(snapshot) {
            return Err(self.disk_failed(at, &error));
        }
        let node = &mut self.nodes[at];
        let Some(replica) = node.replica.as_mut() else { return Err(Gone) };
        *replica.kv_mut() = kv;
        node.flushing = None;
        node.flushed_index = snapshot.last.index;
        self.marks.hit_if(node.acquainted.is_replaced, Mark::SnapshotToReplaced);
        self.marks.hit(Mark::SnapshotInstalled);
        self.trace.tell(self.now, || format!("n{id} installs a snapshot at {}", snapshot.last));
        self.watch.see(self.now, &Observed::Installed { node: id, snapshot, kv: replica.kv() });
        self.step(at, Input::SnapshotInstalled { last: snapshot.last })?;
        self.point(at, Mark::CrashAfterInstall)
    }
}
