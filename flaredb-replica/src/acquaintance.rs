//! What members remember of each other, so that one whose disk was replaced, or set back to an older copy, finds out.
//!
//! Every data folder has a random storage id and an incarnation that rises with each start: the folder's *credentials*. A
//! member remembers, durably, the credentials that each other member last showed, and says so when they meet; it passes on
//! what it knows of third members too. A member that is told credentials which it neither has nor has taken over was somebody
//! else before: its disk does not hold what it promised. It then says nothing (`Input::Recover` without a position), collects
//! what *all* other voters vouch for, and recovers until the highest of it (R15 in `docs/raft.md`).
//!
//! When the promise is taken over for good (position, term and vote durable), the old credentials are added to those that the
//! member has *taken over*, which it shows with its own. Others replace what they remember of it only then, so a crash halfway
//! through is noticed again at the next start, and so is the old disk if it comes back.
//!
//! What this is not: a connection, a file. The host shows, sends and stores; here are decisions and bytes.

use flaredb_raft::EntryId;
use std::collections::BTreeMap;

/// Who a data folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Random, made with the folder.
    pub storage_id: u64,
    /// Rises with every start.
    pub incarnation: u64,
}

impl Credentials {
    /// True if whoever has these has all that was promised under `other`: the same folder, started later or just now.
    fn continues(&self, other: &Self) -> bool {
        self.storage_id == other.storage_id && self.incarnation >= other.incarnation
    }
}

/// What another member's memory says of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has never met this member.
    First,
    /// It knows this folder, or one whose promises this member has taken over.
    Known,
    /// It knows a folder that this one does not continue: what that promised is not here.
    Replaced,
}

/// What one member remembers of the others, and of the folders it follows itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquaintances {
    others: BTreeMap<u64, Credentials>,
    /// By storage id: the highest incarnation whose promises this member has taken over.
    taken_over: BTreeMap<u64, u64>,
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
    #[error("acquaintances of version {0}; this version reads 1")]
    Version(u8),
    /// Too short, too long, unsorted, repeated, or more than the limits allow.
    #[error("acquaintances of {0} bytes are malformed")]
    Malformed(usize),
}

const VERSION: u8 = 1;
/// More members than any cluster has.
const OTHERS_MAX: usize = 64;
/// Former folders remembered; the ids are random, so which one is forgotten first is too. One forgotten is asked about again.
const TAKEN_OVER_MAX: usize = 64;

impl Acquaintances {
    /// What is remembered of `member`.
    pub fn of(&self, member: u64) -> Option<Credentials> {
        self.others.get(&member).copied()
    }

    /// All that is remembered of others, to be told to whoever is met.
    pub fn others(&self) -> impl Iterator<Item = (u64, Credentials)> + '_ {
        self.others.iter().map(|(member, credentials)| (*member, *credentials))
    }

    /// The folders that this member has taken over, to be shown with its own credentials.
    pub fn taken_over(&self) -> impl Iterator<Item = Credentials> + '_ {
        self.taken_over.iter().map(|(&storage_id, &incarnation)| Credentials { storage_id, incarnation })
    }

    /// `member` shows itself, and what it has taken over. True if this has to be made durable, which must be done before
    /// anything of that member is stepped: a member that is forgotten could be replaced unnoticed.
    pub fn meet(&mut self, member: u64, shown: Credentials, taken_over: &[Credentials]) -> bool {
        let has_room = self.others.len() < OTHERS_MAX;
        match self.others.get_mut(&member) {
            Some(known) if *known == shown => false,
            Some(known) if shown.continues(known) || taken_over.iter().any(|taken| taken.continues(known)) => {
                *known = shown;
                true
            }
            Some(_) => false,
            None if has_room => self.others.insert(member, shown).is_none(),
            None => false,
        }
    }

    /// What a third member knows. It fills gaps and raises incarnations; that a folder was replaced is only believed of the
    /// member itself. True if this has to be made durable.
    pub fn merge(&mut self, own_id: u64, told: impl IntoIterator<Item = (u64, Credentials)>) -> bool {
        told.into_iter()
            .filter(|(member, _)| *member != own_id)
            .fold(false, |changed, (member, credentials)| self.meet(member, credentials, &[]) || changed)
    }

    /// What `told`, another member's memory of this one, says of `own`.
    pub fn standing(&self, own: Credentials, told: Option<Credentials>) -> Standing {
        let Some(told) = told else { return Standing::First };
        let taken = self.taken_over.get(&told.storage_id).is_some_and(|incarnation| *incarnation >= told.incarnation);
        if own.continues(&told) || taken { Standing::Known } else { Standing::Replaced }
    }

    /// The promises made under these credentials are this member's now, durably. To be made durable itself.
    pub fn take_over(&mut self, former: Credentials) {
        let incarnation = self.taken_over.entry(former.storage_id).or_default();
        *incarnation = former.incarnation.max(*incarnation);
        while self.taken_over.len() > TAKEN_OVER_MAX {
            let other = self.taken_over.keys().copied().find(|id| *id != former.storage_id);
            other.and_then(|id| self.taken_over.remove(&id));
        }
    }

    /// Version, then both lists: count u8, and 24 or 16 bytes each, integers little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, count(self.others.len())];
        for (member, Credentials { storage_id, incarnation }) in &self.others {
            for field in [member, storage_id, incarnation] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        out.push(count(self.taken_over.len()));
        for (storage_id, incarnation) in &self.taken_over {
            for field in [storage_id, incarnation] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        out
    }

    /// The inverse of [`Acquaintances::encode`], and of nothing else.
    ///
    /// # Errors
    /// [`AcquaintanceError`], with the reason.
    pub fn decode(bytes: &[u8]) -> Result<Self, AcquaintanceError> {
        let malformed = AcquaintanceError::Malformed(bytes.len());
        let (version, rest) = bytes.split_first().ok_or(malformed)?;
        if *version != VERSION {
            return Err(AcquaintanceError::Version(*version));
        }
        let (others, rest) = rows::<3>(rest, OTHERS_MAX).ok_or(malformed)?;
        let (taken_over, rest) = rows::<2>(rest, TAKEN_OVER_MAX).ok_or(malformed)?;
        if !rest.is_empty() {
            return Err(malformed);
        }
        let others = others
            .into_iter()
            .map(|[member, storage_id, incarnation]| (member, Credentials { storage_id, incarnation }));
        let taken_over = taken_over.into_iter().map(|[storage_id, incarnation]| (storage_id, incarnation));
        Ok(Self { others: others.collect(), taken_over: taken_over.collect() })
    }
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

/// The limits are below 256.
fn count(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// A counted list of rows whose first fields rise.
fn rows<const FIELDS: usize>(bytes: &[u8], max: usize) -> Option<(Vec<[u64; FIELDS]>, &[u8])> {
    let (count, rest) = bytes.split_first()?;
    let count = usize::from(*count);
    if count > max {
        return None;
    }
    let (fields, rest) = rest.split_at_checked(count * FIELDS * 8)?;
    let (fields, []) = fields.as_chunks::<8>() else { return None };
    let (rows, []) = fields.as_chunks::<FIELDS>() else { return None };
    let rows: Vec<[u64; FIELDS]> = rows.iter().map(|row| row.map(u64::from_le_bytes)).collect();
    let rising = rows.iter().zip(rows.iter().skip(1)).all(|(a, b)| a.first() < b.first());
    rising.then_some((rows, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(storage_id: u64, incarnation: u64) -> Credentials {
        Credentials { storage_id, incarnation }
    }

    #[test]
    fn a_folder_that_starts_again_is_known_and_another_one_is_not() {
        let mine = Acquaintances::default();
        assert_eq!(mine.standing(id(7, 3), None), Standing::First);
        assert_eq!(mine.standing(id(7, 3), Some(id(7, 2))), Standing::Known);
        assert_eq!(mine.standing(id(7, 3), Some(id(7, 3))), Standing::Known, "met in this life");
        assert_eq!(mine.standing(id(8, 9), Some(id(7, 2))), Standing::Replaced, "a new disk");
        assert_eq!(mine.standing(id(7, 3), Some(id(7, 5))), Standing::Replaced, "an old copy of the disk");
    }

    #[test]
    fn a_replaced_member_is_remembered_as_it_was_until_it_has_taken_that_over() {
        let mut peer = Acquaintances::default();
        assert!(peer.meet(2, id(7, 1), &[]), "new");
        assert!(peer.meet(2, id(7, 2), &[]) && !peer.meet(2, id(7, 2), &[]), "durable once");
        assert!(!peer.meet(2, id(8, 1), &[]) && !peer.meet(2, id(8, 1), &[id(7, 1), id(6, 9)]));
        assert_eq!(peer.of(2), Some(id(7, 2)));
        assert!(!peer.meet(2, id(7, 1), &[]), "an old copy does not lower what is known");
        assert!(peer.meet(2, id(8, 1), &[id(6, 9), id(7, 2)]));
        assert_eq!(peer.of(2), Some(id(8, 1)));
        assert!(!peer.meet(2, id(7, 3), &[]), "the old disk comes back, and knows nothing of the new one");
        assert_eq!(Acquaintances::default().standing(id(7, 3), peer.of(2)), Standing::Replaced);
    }

    #[test]
    fn what_was_taken_over_is_known_up_to_the_incarnation_that_was_told() {
        let mut mine = Acquaintances::default();
        mine.take_over(id(7, 57));
        assert_eq!(mine.standing(id(8, 1), Some(id(7, 57))), Standing::Known);
        assert_eq!(
            mine.standing(id(8, 1), Some(id(7, 58))),
            Standing::Replaced,
            "the old disk was used again meanwhile"
        );
        for storage_id in 100..300 {
            mine.take_over(id(storage_id, 1));
            assert_eq!(mine.standing(id(8, 1), Some(id(storage_id, 1))), Standing::Known);
        }
        assert_eq!(mine.taken_over.len(), TAKEN_OVER_MAX);
    }

    #[test]
    fn third_members_fill_gaps_but_replace_nobody() {
        let mut mine = Acquaintances::default();
        mine.meet(2, id(7, 5), &[]);
        let told = [(1, id(1, 1)), (2, id(8, 9)), (3, id(4, 4))];
        assert!(mine.merge(1, told));
        assert!(!mine.merge(1, told), "nothing new");
        assert_eq!((mine.of(1), mine.of(2), mine.of(3)), (None, Some(id(7, 5)), Some(id(4, 4))));
        assert!(mine.merge(1, [(2, id(7, 6))]));
        assert_eq!(mine.of(2), Some(id(7, 6)));
        mine.merge(1, (10..1000).map(|member| (member, id(member, 1))));
        assert_eq!(mine.others().count(), OTHERS_MAX, "bounded");
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
        let mut some = Acquaintances::default();
        some.meet(2, id(7, u64::MAX), &[]);
        some.meet(3, id(u64::MAX, 1), &[]);
        some.take_over(id(9, 9));
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
        assert_eq!(Acquaintances::decode(&[2]), Err(AcquaintanceError::Version(2)));
        let unsorted = [vec![1, 2], [[3_u64, 0, 0], [3, 0, 0]].concat().iter().flat_map(|n| n.to_le_bytes()).collect()];
        assert!(Acquaintances::decode(&[unsorted.concat(), vec![0]].concat()).is_err(), "repeated");
        assert!(Acquaintances::decode(&[1, 255]).is_err());
    }
}
