//! The model network: directed links that delay, lose, repeat, reorder, damage, hold back and cut frames.
//!
//! What it is not: it does not know what is in a frame, and it does not deliver: it says when a frame arrives, the world's heap
//! does the rest. Links are numbered from * voters + to, nodes from 0.
#![expect(clippy::indexing_slicing, reason = "links and frame slots are numbered by this module, within their bounds")]

use crate::faults::{FaultKind, Faults};
use crate::marks::{Mark, Marks};
use crate::prf::Draw;
use crate::settings::NetworkSettings;
use bytes::Bytes;
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64;

/// Payload with its checksum, as the peer transport sends it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Node, from 0.
    pub from: usize,
    /// Node, from 0.
    pub to: usize,
    /// The sender's start that this is of.
    pub life: u64,
    /// Of the payload as sent.
    pub checksum: u64,
    /// As it arrives.
    pub payload: Bytes,
    /// The link's connection at the time of sending.
    connection: u64,
    /// Came before.
    pub is_replay: bool,
}

impl Frame {
    /// What the receiver's transport checks first.
    pub fn is_intact(&self) -> bool {
        xxh3_64(&self.payload) == self.checksum
    }
}

#[derive(Debug)]
struct Link {
    delay: Draw,
    loss: Draw,
    repeat: Draw,
    damage: Draw,
    /// How many partitions cut it.
    cuts: u32,
    clogged_until: u64,
    storm_until: u64,
    storm_loss: u64,
    /// Rises when the connection breaks.
    connection: u64,
    /// Of ordered links: when the last frame arrives.
    last_arrival: u64,
    /// Some of what was sent, for replays.
    old: Vec<Frame>,
    /// The last frames with entries in them, those too that did not arrive.
    appends: VecDeque<Frame>,
    sent: u64,
}

/// All links, and the frames under way.
#[derive(Debug)]
pub struct Network {
    settings: NetworkSettings,
    voters: usize,
    links: Vec<Link>,
    frames: Vec<Option<Frame>>,
    free: Vec<usize>,
    /// No single faults any more on links between nodes of the core.
    healed: Option<Vec<bool>>,
}

/// Old frames kept of each link.
const OLD_FRAMES: usize = 16;
/// And of those with entries.
const APPENDS: usize = 6;
const SECOND: u64 = 1_000_000;

impl Network {
    /// Links between so many nodes.
    pub fn new(settings: &NetworkSettings, seed: u64, voters: usize) -> Self {
        let link = |number: usize| {
            let number = u64::try_from(number).unwrap_or(0);
            Link {
                delay: Draw::new(seed, "link delay", number),
                loss: Draw::new(seed, "link loss", number),
                repeat: Draw::new(seed, "link repeat", number),
                damage: Draw::new(seed, "link damage", number),
                cuts: 0,
                clogged_until: 0,
                storm_until: 0,
                storm_loss: 0,
                connection: 0,
                last_arrival: 0,
                old: Vec::new(),
                appends: VecDeque::new(),
                sent: 0,
            }
        };
        Self {
            settings: settings.clone(),
            voters,
            links: (0..voters * voters).map(link).collect(),
            frames: Vec::new(),
            free: Vec::new(),
            healed: None,
        }
    }

    /// The link's number.
    pub fn link(&self, from: usize, to: usize) -> usize {
        from * self.voters + to
    }

    fn is_healed(&self, from: usize, to: usize) -> bool {
        self.healed.as_ref().is_some_and(|core| core[from] && core[to])
    }

    /// Sends a payload. Returns when which frame arrives; none if it is lost.
    pub fn send(
        &mut self,
        now: u64,
        (from, to, life): (usize, usize, u64),
        payload: Bytes,
        faults: &mut Faults,
        marks: &mut Marks,
    ) -> [Option<(u64, usize)>; 2] {
        let number = self.link(from, to);
        let healed = self.is_healed(from, to);
        let name = u64::try_from(number).unwrap_or(0);
        let second = now / SECOND;
        let link = &mut self.links[number];
        link.sent += 1;
        if link.cuts > 0 {
            marks.hit(Mark::FrameCut);
            return [None; 2];
        }
        let NetworkSettings { loss, repeat, damage, .. } = self.settings;
        let storm = if link.storm_until > now { link.storm_loss } else { 0 };
        let lost = !healed && (link.loss.hits(loss) || (storm > 0 && link.loss.hits(storm)));
        if lost && faults.allows(FaultKind::FrameLoss, name, second) {
            marks.hit(Mark::FrameLost);
            return [None; 2];
        }
        let checksum = xxh3_64(&payload);
        let connection = link.connection;
        let mut frame = Frame { from, to, life, checksum, payload, connection, is_replay: false };
        if link.sent.is_multiple_of(7) || link.old.len() < 2 {
            let place = usize::try_from(link.sent / 7).unwrap_or(0) % OLD_FRAMES;
            if place < link.old.len() {
                link.old[place] = frame.clone();
            } else {
                link.old.push(frame.clone());
            }
        }
        if !healed && damage > 0 && link.damage.hits(damage) && faults.allows(FaultKind::FrameDamage, name, second) {
            frame.payload = damaged(&frame.payload, &mut link.damage);
        }
        let again = !healed && link.repeat.hits(repeat) && faults.allows(FaultKind::FrameRepeat, name, second);
        let arrives = self.arrival(now, number, marks);
        if again {
            marks.hit(Mark::FrameDuplicated);
            let later = self.arrival(now, number, marks);
            let copy = self.hold(frame.clone());
            return [Some((arrives, self.hold(frame))), Some((later, copy))];
        }
        [Some((arrives, self.hold(frame))), None]
    }

    fn arrival(&mut self, now: u64, number: usize, marks: &mut Marks) -> u64 {
        let link = &mut self.links[number];
        let NetworkSettings { delay_us, jitter_us, tail, tail_us, ordered, .. } = self.settings;
        let mut arrives = now + delay_us + link.delay.below(jitter_us + 1);
        if link.delay.hits(tail) && tail_us > 0 && self.healed.is_none() {
            arrives += link.delay.below(tail_us);
        }
        if link.clogged_until > now {
            marks.hit(Mark::FrameClogged);
            arrives += link.clogged_until - now;
        }
        if ordered {
            arrives = arrives.max(link.last_arrival + 1);
        } else {
            marks.hit_if(arrives < link.last_arrival, Mark::FrameReordered);
        }
        link.last_arrival = link.last_arrival.max(arrives);
        arrives
    }

    fn hold(&mut self, frame: Frame) -> usize {
        match self.free.pop() {
            Some(slot) => {
                self.frames[slot] = Some(frame);
                slot
            }
            None => {
                self.frames.push(Some(frame));
                self.frames.len() - 1
            }
        }
    }

    /// The frame arrives. None if its connection broke or was cut meanwhile.
    pub fn take(&mut self, slot: usize) -> Option<Frame> {
        let frame = self.frames[slot].take()?;
        self.free.push(slot);
        let link = &self.links[self.link(frame.from, frame.to)];
        let arrives = link.cuts == 0 && (frame.connection == link.connection || frame.is_replay);
        arrives.then_some(frame)
    }

    /// Frames that were sent and have not arrived. Some of them never will.
    pub fn under_way(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter().flatten()
    }

    /// An old frame of the link comes again at once, if there is one. It may be of an earlier life of the sender.
    pub fn replay(&mut self, number: usize, draw: &mut Draw) -> Option<usize> {
        let link = self.links.get(number)?;
        if link.old.is_empty() {
            return None;
        }
        let mut frame = draw.pick(&link.old).clone();
        frame.is_replay = true;
        Some(self.hold(frame))
    }

    /// A frame with entries is sent: it may come late, also if it does not arrive now.
    pub fn keep_append(&mut self, (from, to, life): (usize, usize, u64), payload: &Bytes) {
        let number = self.link(from, to);
        let link = &mut self.links[number];
        if link.appends.len() == APPENDS {
            link.appends.pop_front();
        }
        let (checksum, payload, connection) = (xxh3_64(payload), payload.clone(), link.connection);
        link.appends.push_back(Frame { from, to, life, checksum, payload, connection, is_replay: true });
    }

    /// A frame with entries that was sent on this link some time ago comes now, as what a sender's buffers held back.
    pub fn late_append(&mut self, number: usize, draw: &mut Draw) -> Option<usize> {
        let appends = &self.links.get(number)?.appends;
        let place = usize::try_from(draw.below(u64::try_from(APPENDS).unwrap_or(1))).unwrap_or(0);
        let frame = appends.get(place)?.clone();
        Some(self.hold(frame))
    }

    /// What was sent on this link and has not arrived is lost.
    pub fn reset(&mut self, number: usize) {
        self.links[number].connection += 1;
    }

    /// The link holds everything back until then.
    pub fn clog(&mut self, number: usize, until: u64) {
        let link = &mut self.links[number];
        link.clogged_until = link.clogged_until.max(until);
    }

    /// The link loses `loss` of a million frames until then.
    pub fn storm(&mut self, number: usize, until: u64, loss: u64) {
        let link = &mut self.links[number];
        link.storm_until = until;
        link.storm_loss = loss;
    }

    /// Cuts the link once more.
    pub fn cut(&mut self, number: usize) {
        self.links[number].cuts += 1;
    }

    /// Undoes one cut.
    pub fn uncut(&mut self, number: usize) {
        let link = &mut self.links[number];
        link.cuts = link.cuts.saturating_sub(1);
    }

    /// True if nothing passes.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.links[self.link(from, to)].cuts > 0
    }

    /// Links between nodes of the core are whole from now on.
    pub fn heal(&mut self, core: &[bool]) {
        for from in 0..self.voters {
            for to in 0..self.voters {
                if core[from] && core[to] {
                    let number = self.link(from, to);
                    let link = &mut self.links[number];
                    link.cuts = 0;
                    link.clogged_until = 0;
                    link.storm_until = 0;
                    // What was held back comes late; what is sent from now on does not wait for it.
                    link.last_arrival = 0;
                }
            }
        }
        self.healed = Some(core.to_vec());
    }

    /// Forgets what could be replayed of this sender: its disk was replaced, and what it said before holds no more. The
    /// transport's handshake closes the connections of earlier lives, so that nothing of them can arrive.
    pub fn forget_sender(&mut self, from: usize) {
        for to in 0..self.voters {
            let number = self.link(from, to);
            self.links[number].old.clear();
            self.links[number].appends.clear();
            self.links[number].connection += 1;
        }
    }
}

/// The payload with some bytes changed, cut off or added.
fn damaged(payload: &Bytes, draw: &mut Draw) -> Bytes {
    let mut bytes = payload.to_vec();
    let length = u64::try_from(bytes.len()).unwrap_or(0);
    match draw.below(4) {
        0 if length > 0 => bytes.truncate(usize::try_from(draw.below(length)).unwrap_or(0)),
        1 => bytes.push(u8::try_from(draw.below(256)).unwrap_or(0)),
        _ => {
            for _ in 0..draw.between(1, 4) {
                if length > 0 {
                    let at = usize::try_from(draw.below(length)).unwrap_or(0);
                    bytes[at] ^= u8::try_from(1 << draw.below(8)).unwrap_or(1);
                }
            }
        }
    }
    bytes.into()
}
