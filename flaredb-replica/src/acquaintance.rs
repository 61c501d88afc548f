//! What members remember of each other, so that one whose disk was replaced, or set back to an older copy, finds out.
//!
//! Every start of a member has a random name, its *start id*. A member keeps, durably, the ids of the starts whose promises it
//! holds: those of its disk, and those it has taken over. They are its *lineage*; the last one is its own, there before
//! anybody is shown it. Of every other member it remembers, durably too, the *heads*: the starts that it heard of and that no
//! later one it has met continues. As a rule that is one. They say all this when they meet, of third members too.
//!
//! A member that is told a head which is not in its lineage was somebody else before: its disk does not hold what that start
//! promised. It then says nothing (`Input::Recover` without a position), collects what *all* other voters vouch for, and recovers
//! until the highest of it (R15 in `docs/raft.md`). When that promise is its own for good (position, term and vote durable),
//! the heads that it was told become part of its lineage, and others forget them when it shows itself again. A crash before that
//! is noticed at the next start, one after it has nothing left to do.
//!
//! *Nobody acts on a word of a start that it does not remember*: a greeting is remembered before anything of its connection is
//! stepped. That holds for a disk that does not continue the heads too, since it acknowledges entries while it recovers: its
//! start becomes a head beside them. So an original that comes back after its copy finds a head that it does not have, and a copy
//! meets one however often it was started before: names are not counted up to.
//!
//! *A healthy member does not recover for ever.* Heads of its own disk are in its lineage. Any other head (of a copy, or one
//! that is forgotten after 256 starts and that somebody who was away still has) is told once: from then on it is in the lineage.
//!
//! What this cannot see: a start that none of those who are met has heard of; two processes of one member at the same time
//! until they greet anew; two members that lost their disks at once.
//!
//! What this is not: a connection, a file. The host shows, sends and stores; here are decisions and bytes.

use flaredb_raft::EntryId;
use std::collections::{BTreeMap, BTreeSet};

/// The name of one start of a member: random, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StartId(pub u64);

/// What another member's memory says of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has never heard of this member.
    First,
    /// It knows starts whose promises this member holds.
    Known,
    /// It knows starts that this one does not continue: what they promised is not here.
    Replaced {
        /// These.
        former: Vec<StartId>,
    },
}

/// What one member remembers of the others, and the starts that it continues itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquaintances {
    /// Of each: its heads, in the order in which they were heard of; never none.
    others: BTreeMap<u64, Vec<StartId>>,
    /// Oldest first, this start last; empty before the first one.
    lineage: Vec<StartId>,
}

/// What a voter vouches for, collected by a member that was replaced.
#[derive(Clone, Debug, Default)]
pub struct Inquiry {
    reports: BTreeMap<u64, (u64, EntryId)>,
}

/// Why bytes are no acquaintances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquaintanceError {
    /// Written by a version that this one does not know.
    #[error("acquaintances of version {0}; this version reads 2")]
    Version(u8),
    /// Too short, too long, unsorted, repeated, or more than the limits allow.
    #[error("acquaintances of {0} bytes are malformed")]
    Malformed(usize),
}

/// Version 1 knew folders by a number that rose with each start.
const VERSION: u8 = 2;
/// More members than any cluster has.
const OTHERS_MAX: usize = 64;
/// More than one head of a member lives only until it is met. Of more the one heard of first goes: as a rule a later one
/// continues it.
const HEADS_MAX: usize = 16;
/// The oldest is forgotten first. If somebody asks about it all the same, that costs a recovery.
const LINEAGE_MAX: usize = 256;

impl Acquaintances {
    /// Another start of this member. To be made durable before anybody is shown it.
    pub fn begin(&mut self, own: StartId) {
        self.lineage.retain(|id| *id != own);
        self.lineage.push(own);
        self.forget_oldest();
    }

    /// What is remembered of `member`: nothing if it was never heard of.
    pub fn heads_of(&self, member: u64) -> &[StartId] {
        self.others.get(&member).map_or(&[], Vec::as_slice)
    }

    /// All that is remembered of others.
    pub fn others(&self) -> impl Iterator<Item = (u64, &[StartId])> + '_ {
        self.others.iter().map(|(member, heads)| (*member, heads.as_slice()))
    }

    /// The starts whose promises this member holds; the last is its own.
    pub fn lineage(&self) -> &[StartId] {
        &self.lineage
    }

    /// `member` shows itself: its lineage, of which the last is its own start. True if this has to be made durable, which must
    /// be done before anything of that member is stepped.
    pub fn meet(&mut self, member: u64, lineage: &[StartId]) -> bool {
        let Some(shown) = lineage.last() else { return false };
        let Some(heads) = room_for(&mut self.others, member) else { return false };
        if heads.as_slice() == [*shown] {
            return false;
        }
        let before = heads.clone();
        heads.retain(|head| head == shown || !lineage.contains(head));
        add(heads, *shown);
        *heads != before
    }

    /// What a third member knows. None of it takes anything's place: which of two disks a third has seen last says nothing of
    /// which holds the other's promises. True if this has to be made durable.
    pub fn merge<'a>(&mut self, own_id: u64, told: impl IntoIterator<Item = (u64, &'a [StartId])>) -> bool {
        let mut changed = false;
        for (member, heads) in told {
            if member != own_id && !heads.is_empty() {
                let Some(known) = room_for(&mut self.others, member) else { continue };
                for head in heads {
                    changed |= add(known, *head);
                }
            }
        }
        changed
    }

    /// What `told`, another member's memory of this one, says of it.
    pub fn standing(&self, told: &[StartId]) -> Standing {
        let former: Vec<StartId> = told.iter().copied().filter(|head| !self.lineage.contains(head)).collect();
        match (told, former.as_slice()) {
            ([], _) => Standing::First,
            (_, []) => Standing::Known,
            _ => Standing::Replaced { former },
        }
    }

    /// What these starts promised is this member's now, durably. To be made durable itself.
    pub fn take_over(&mut self, former: &[StartId]) {
        let Some(own) = self.lineage.pop() else { return };
        self.lineage.retain(|id| !former.contains(id));
        for id in former.iter().filter(|id| **id != own) {
            if !self.lineage.contains(id) {
                self.lineage.push(*id);
            }
        }
        self.lineage.push(own);
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        let beyond = self.lineage.len().saturating_sub(LINEAGE_MAX);
        self.lineage.drain(..beyond);
    }

    /// Version; count u8 of the others, each its id u64, count u8 and heads; count u16 and lineage. Integers little-endian, ids
    /// of starts u64.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::try_from(self.others.len()).unwrap_or(u8::MAX)];
        for (member, heads) in &self.others {
            out.extend_from_slice(&member.to_le_bytes());
            out.push(u8::try_from(heads.len()).unwrap_or(u8::MAX));
            heads.iter().for_each(|StartId(id)| out.extend_from_slice(&id.to_le_bytes()));
        }
        out.extend_from_slice(&u16::try_from(self.lineage.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.lineage.iter().for_each(|StartId(id)| out.extend_from_slice(&id.to_le_bytes()));
        out
    }

    /// The inverse of [`Acquaintances::encode`], and of nothing else.
    ///
    /// # Errors
    /// [`AcquaintanceError`], with the reason.
    pub fn decode(bytes: &[u8]) -> Result<Self, AcquaintanceError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => decode(rest).ok_or(AcquaintanceError::Malformed(bytes.len())),
            Some((version, _)) => Err(AcquaintanceError::Version(*version)),
            None => Err(AcquaintanceError::Malformed(0)),
        }
    }
}

/// None if there are too many others already.
fn room_for(others: &mut BTreeMap<u64, Vec<StartId>>, member: u64) -> Option<&mut Vec<StartId>> {
    let has_room = others.len() < OTHERS_MAX || others.contains_key(&member);
    has_room.then(|| others.entry(member).or_default())
}

/// True if it is new.
fn add(heads: &mut Vec<StartId>, head: StartId) -> bool {
    if heads.contains(&head) {
        return false;
    }
    heads.push(head);
    if heads.len() > HEADS_MAX {
        heads.remove(0);
    }
    true
}

fn decode(bytes: &[u8]) -> Option<Acquaintances> {
    let (&count, mut rest) = bytes.split_first()?;
    let mut others = BTreeMap::new();
    for _ in 0..count {
        let (member, left) = rest.split_first_chunk()?;
        let member = u64::from_le_bytes(*member);
        let (&count, left) = left.split_first()?;
        let (heads, left) = start_ids(left, usize::from(count), HEADS_MAX)?;
        let rises = others.last_key_value().is_none_or(|(last, _)| *last < member);
        if heads.is_empty() || !rises {
            return None;
        }
        others.insert(member, heads);
        rest = left;
    }
    let (count, rest) = rest.split_first_chunk()?;
    let (lineage, rest) = start_ids(rest, usize::from(u16::from_le_bytes(*count)), LINEAGE_MAX)?;
    (rest.is_empty() && others.len() <= OTHERS_MAX).then_some(Acquaintances { others, lineage })
}

/// So many ids, none 0, none twice.
fn start_ids(bytes: &[u8], count: usize, max: usize) -> Option<(Vec<StartId>, &[u8])> {
    let (ids, rest) = bytes.split_at_checked(count * 8).filter(|_| count <= max)?;
    let (ids, []) = ids.as_chunks::<8>() else { return None };
    let ids: Vec<StartId> = ids.iter().map(|id| StartId(u64::from_le_bytes(*id))).collect();
    let distinct: BTreeSet<StartId> = ids.iter().copied().filter(|id| *id != StartId(0)).collect();
    (distinct.len() == count).then_some((ids, rest))
}

impl Inquiry {
    /// What `member` vouches for, from `Peer::promise` there; with its term. None (it does not know itself) is no report. Only
    /// what was said to this process counts, as it has to be later than the last word of the folder that is gone.
    pub fn report(&mut self, member: u64, term: u64, promise: Option<EntryId>) {
        if let Some(promise) = promise {
            let (known_term, known) = self.reports.entry(member).or_default();
            *known_term = term.max(*known_term);
            *known = promise.max(*known);
        }
    }

    /// What to recover until, and the term, once every other voter has reported. A single voter has nobody to ask.
    pub fn outcome(&self, own_id: u64, voters: &[u64]) -> Option<(EntryId, u64)> {
        let others = voters.iter().filter(|voter| **voter != own_id);
        let reports: Option<Vec<_>> = others.map(|voter| self.reports.get(voter)).collect();
        let reports = reports.filter(|reports| !reports.is_empty())?;
        let until = reports.iter().map(|(_, promise)| *promise).max()?;
        let term = reports.iter().map(|(term, _)| *term).max()?;
        Some((until, term))
    }

    /// The voters that have not reported yet.
    pub fn missing<'a>(&'a self, own_id: u64, voters: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
        voters.iter().copied().filter(move |voter| *voter != own_id && !self.reports.contains_key(voter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<const N: usize>(ids: [u64; N]) -> [StartId; N] {
        ids.map(StartId)
    }

    /// A disk as its last process left it, and can be copied.
    fn started(disk: &Acquaintances, id: u64) -> Acquaintances {
        let mut disk = disk.clone();
        disk.begin(StartId(id));
        disk
    }

    fn replaced<const N: usize>(former: [u64; N]) -> Standing {
        Standing::Replaced { former: ids(former).to_vec() }
    }

    #[test]
    fn a_disk_that_starts_again_is_known_and_another_one_is_not() {
        let mut peer = Acquaintances::default();
        let first = started(&Acquaintances::default(), 71);
        assert_eq!(first.standing(peer.heads_of(2)), Standing::First);
        assert!(peer.meet(2, first.lineage()) && !peer.meet(2, first.lineage()), "durable once");
        assert_eq!(first.standing(peer.heads_of(2)), Standing::Known);
        let second = started(&first, 72);
        assert_eq!(second.standing(peer.heads_of(2)), Standing::Known);
        assert!(peer.meet(2, second.lineage()));
        assert_eq!(peer.heads_of(2), ids([72]));
        let wiped = started(&Acquaintances::default(), 73);
        assert_eq!(wiped.standing(peer.heads_of(2)), replaced([72]));
    }

    #[test]
    fn an_old_copy_is_noticed_however_often_it_was_started_before_it_meets_anybody() {
        let mut peer = Acquaintances::default();
        let copy = started(&Acquaintances::default(), 1);
        let original = started(&copy, 2);
        peer.meet(2, original.lineage());
        let mut often = copy;
        for start in 100..110 {
            often = started(&often, start);
            assert_eq!(often.standing(peer.heads_of(2)), replaced([2]));
        }
    }

    #[test]
    fn a_second_copy_of_a_disk_that_was_recovered_once_is_noticed_and_so_is_the_original() {
        let mut peer = Acquaintances::default();
        let copy = started(&Acquaintances::default(), 1);
        let original = started(&copy, 2);
        peer.meet(2, original.lineage());
        let mut first = started(&copy, 3);
        first.take_over(&ids([2]));
        assert_eq!(first.lineage(), ids([1, 2, 3]));
        assert_eq!(first.standing(peer.heads_of(2)), Standing::Known);
        peer.meet(2, first.lineage());
        assert_eq!(peer.heads_of(2), ids([3]));
        assert_eq!(started(&copy, 4).standing(peer.heads_of(2)), replaced([3]));
        assert_eq!(started(&original, 5).standing(peer.heads_of(2)), replaced([3]));
    }

    #[test]
    fn a_copy_that_is_met_before_it_has_taken_over_is_a_head_beside_the_others() {
        let mut peer = Acquaintances::default();
        let copy = started(&Acquaintances::default(), 1);
        let original = started(&copy, 2);
        peer.meet(2, original.lineage());
        let recovering = started(&copy, 3);
        assert!(peer.meet(2, recovering.lineage()) && !peer.meet(2, recovering.lineage()));
        assert_eq!(peer.heads_of(2), ids([2, 3]));
        // It acknowledged entries meanwhile, of which the original knows nothing.
        let back = started(&original, 4);
        assert_eq!(back.standing(peer.heads_of(2)), replaced([3]));
        // A crash half way: the next start of the copy continues this one, and still not the original.
        let mut again = started(&recovering, 5);
        peer.meet(2, again.lineage());
        assert_eq!(peer.heads_of(2), ids([2, 5]));
        assert_eq!(again.standing(peer.heads_of(2)), replaced([2]));
        again.take_over(&ids([2]));
        assert!(peer.meet(2, again.lineage()));
        assert_eq!(peer.heads_of(2), ids([5]));
        assert_eq!(started(&again, 6).standing(peer.heads_of(2)), Standing::Known, "a crash before others have heard");
    }

    #[test]
    fn a_copy_that_shows_itself_to_a_third_first_takes_nobodys_place() {
        let (mut one, mut third) = (Acquaintances::default(), Acquaintances::default());
        let copy = started(&Acquaintances::default(), 1);
        let original = started(&copy, 2);
        one.meet(2, original.lineage());
        let shown = started(&copy, 3);
        assert_eq!(shown.standing(third.heads_of(2)), Standing::First, "it never heard of the original");
        third.meet(2, shown.lineage());
        assert!(one.merge(1, third.others()) && !one.merge(1, third.others()));
        assert_eq!(one.heads_of(2), ids([2, 3]));
        assert_eq!(shown.standing(one.heads_of(2)), replaced([2]));
        assert_eq!(started(&original, 4).standing(one.heads_of(2)), replaced([3]));
    }

    #[test]
    fn what_third_members_know_of_a_healthy_one_costs_it_nothing() {
        let (mut one, mut stale) = (Acquaintances::default(), Acquaintances::default());
        let mut healthy = started(&Acquaintances::default(), 1);
        stale.meet(2, healthy.lineage());
        for start in 2..40 {
            healthy = started(&healthy, start);
            assert_eq!(healthy.standing(one.heads_of(2)), if start == 2 { Standing::First } else { Standing::Known });
            one.meet(2, healthy.lineage());
            one.merge(1, stale.others());
            assert_eq!(one.heads_of(2), ids([start, 1]));
        }
        assert!(!one.merge(2, [(2, &ids([99])[..])]), "of itself a member knows more");
        one.merge(1, (10..1000).map(|member| (member, &[StartId(7)][..])));
        assert_eq!(one.others().count(), OTHERS_MAX, "bounded");
        for start in 100..200 {
            one.merge(1, [(2, &ids([start])[..])]);
        }
        assert_eq!((one.heads_of(2).len(), one.heads_of(2).last()), (HEADS_MAX, Some(&StartId(199))));
    }

    #[test]
    fn a_start_that_was_forgotten_costs_one_recovery() {
        let mut member = Acquaintances::default();
        for start in 1..=300 {
            member.begin(StartId(start));
        }
        assert_eq!(member.lineage().len(), LINEAGE_MAX);
        assert_eq!(member.standing(&ids([45])), Standing::Known);
        assert_eq!(member.standing(&ids([44, 300])), replaced([44]));
        member.take_over(&ids([44]));
        assert_eq!((member.lineage().len(), member.lineage().last()), (LINEAGE_MAX, Some(&StartId(300))));
        assert_eq!(started(&member, 301).standing(&ids([44, 300])), Standing::Known);
    }

    #[test]
    fn all_other_voters_are_asked_and_the_highest_answer_counts() {
        let at = |index, term| EntryId { index, term };
        let mut inquiry = Inquiry::default();
        inquiry.report(1, 4, Some(at(100, 3)));
        inquiry.report(3, 5, None);
        assert_eq!(inquiry.outcome(2, &[1, 2, 3]), None, "n3 does not know what it promised itself");
        assert_eq!(inquiry.missing(2, &[1, 2, 3]).collect::<Vec<_>>(), [3]);
        inquiry.report(3, 5, Some(at(7, 4)));
        assert_eq!(inquiry.outcome(2, &[1, 2, 3]), Some((at(7, 4), 5)), "a later term stands above a longer log");
        inquiry.report(3, 4, Some(at(6, 4)));
        assert_eq!(inquiry.outcome(2, &[1, 2, 3]), Some((at(7, 4), 5)), "a late report takes nothing back");
        assert_eq!(Inquiry::default().outcome(1, &[1]), None);
    }

    #[test]
    fn bytes_come_back_and_nothing_else_is_accepted() {
        let mut some = started(&started(&Acquaintances::default(), 3), u64::MAX);
        some.meet(2, &ids([7]));
        some.meet(2, &ids([5]));
        some.meet(3, &ids([u64::MAX, 1]));
        some.take_over(&ids([9]));
        for value in [Acquaintances::default(), some] {
            let bytes = value.encode();
            assert_eq!(Acquaintances::decode(&bytes), Ok(value.clone()));
            for length in 0..bytes.len() {
                assert!(Acquaintances::decode(&bytes[..length]).is_err(), "length {length}");
            }
            assert!(Acquaintances::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
            // Every change of one byte is either refused or is other content, never the same.
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    assert!(
                        Acquaintances::decode(&changed).is_err()
                            || Acquaintances::decode(&changed) != Ok(value.clone())
                    );
                }
            }
        }
        assert_eq!(Acquaintances::decode(&[1]), Err(AcquaintanceError::Version(1)));
        let other = |member: u64| [&member.to_le_bytes()[..], &[1, 7, 0, 0, 0, 0, 0, 0, 0]].concat();
        let others = |first, second| [&[VERSION, 2][..], &other(first), &other(second), &[0, 0]].concat();
        assert!(Acquaintances::decode(&others(3, 4)).is_ok());
        assert!(Acquaintances::decode(&others(3, 3)).is_err(), "repeated");
        assert!(Acquaintances::decode(&others(4, 3)).is_err(), "unsorted");
        let lineage =
            |first: u64, second: u64| [&[VERSION, 0, 2, 0][..], &first.to_le_bytes(), &second.to_le_bytes()].concat();
        assert!(Acquaintances::decode(&lineage(2, 1)).is_ok());
        assert!(Acquaintances::decode(&lineage(2, 2)).is_err() && Acquaintances::decode(&lineage(2, 0)).is_err());
        assert!(Acquaintances::decode(&[VERSION, 255]).is_err());
    }
}
