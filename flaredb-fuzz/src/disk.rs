//! What a start reads beside the log: the durable mark and the judgement of everything found.

use arbitrary::{Result, Unstructured};
use flaredb_raft::{EntryId, HardState};
use flaredb_record::{
    judgement::{self, Fault, Found, Judgement},
    mark::{self, Mark},
};
use xxhash_rust::xxh3::xxh3_64;

/// Two slots of a mark, with or without their checksums put right.
pub(crate) fn durable_mark(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    let mut bytes = rest.to_vec();
    bytes.resize(2 * mark::SLOT_BYTES, 0);
    let (first, second) = bytes.split_at_mut(mark::SLOT_BYTES);
    for (bit, slot) in [(1, &mut *first), (2, &mut *second)] {
        if mode & bit != 0
            && let Some((checksum, covered)) = slot.split_first_chunk_mut::<8>()
        {
            *checksum = xxh3_64(covered).to_le_bytes();
        }
    }
    let slots = [mark::decode(first), mark::decode(second)];
    let Some((generation, found)) = mark::decode_both(first, second) else {
        assert!(slots == [None, None], "one good slot is enough");
        return;
    };
    assert!(slots.contains(&Some((generation, found))), "what is taken is one of the slots");
    assert!(slots.iter().flatten().all(|(other, _)| *other <= generation), "the newer slot is taken");
    let again = mark::encode(generation, &found);
    assert!(mark::decode(&again) == Some((generation, found)), "a mark is read as it was written");
}

/// Any find, however odd, is judged, and the verdict never takes a promise back.
pub(crate) fn judge(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let compacted_to = position(u)?;
    let last = if u.ratio(1, 4)? { position(u)? } else { above(u, compacted_to)? };
    let applied = position(u)?;
    let found = Found {
        rows: if u.ratio(1, 8)? { vec!["raft_state HardState is missing".to_owned()] } else { Vec::new() },
        hard_state: HardState {
            current_term: u.int_in_range(0..=7)?,
            voted_for: vote(u)?,
            commit_index: u.int_in_range(0..=12)?,
        },
        compacted_to,
        last,
        fault: u.ratio(1, 3)?.then(|| Fault { index: last.index.saturating_add(1), what: "a row".to_owned() }),
        last_readable: if u.ratio(1, 3)? { above(u, last)? } else { last },
        chain_at_acked: u.ratio(1, 3)?.then_some(u.int_in_range(0..=2)?),
        applied,
        term_at_applied: u.ratio(2, 3)?.then_some(u.int_in_range(0..=7)?),
    };
    let known = u.ratio(7, 8)?;
    let mark = Mark {
        cluster_id: 1,
        member_id: 1,
        storage_id: 1,
        incarnation: 1,
        term: u.int_in_range(0..=7)?,
        voted_for: vote(u)?,
        acked: if u.ratio(1, 8)? { mark::UNKNOWN } else { position(u)? },
        acked_chain: u.int_in_range(0..=2)?,
    };
    let mark = known.then_some(&mark);
    let verdict = judgement::judge(&found, mark);
    assert!(verdict == judgement::judge(&found, mark), "a judgement depends on what was found alone");
    match &verdict {
        Judgement::Whole => {
            let mark = mark.filter(|mark| found.last >= mark.acked);
            assert!(mark.is_some(), "nothing that was acknowledged is missing from a whole log");
            let hard = found.hard_state;
            assert!(mark.is_some_and(|mark| keeps(&hard, mark)), "nor is the vote");
            assert!(found.applied.index <= found.last.index, "nor what was applied");
        }
        Judgement::Repair { hard_state, keep_to, restart_at, until, why } => {
            assert!(!why.is_empty(), "a repair has a reason");
            assert!(mark.is_none_or(|mark| keeps(hard_state, mark)), "term and vote stay as promised");
            assert!(hard_state.current_term >= found.hard_state.current_term, "the term never falls");
            assert!(hard_state.commit_index <= *keep_to, "what is not there is not committed");
            assert!(found.applied.index <= *keep_to, "what is applied is not taken back");
            assert!(restart_at.is_some() || *keep_to == found.last.index, "what is intact is kept");
            assert!(restart_at.is_none_or(|at| at == found.applied), "an empty log continues the state machine");
            match (mark, until) {
                (Some(mark), Some(until)) => {
                    assert!(*until >= mark.acked, "it recovers until it holds all that it acknowledged");
                }
                (Some(mark), None) => assert!(mark.acked == mark::UNKNOWN, "what was promised is known"),
                (None, until) => assert!(until.is_none(), "nobody knows what was promised"),
            }
        }
        Judgement::Halt { why } => assert!(!why.is_empty(), "a halt has a reason"),
    }
    Ok(())
}

/// Term and vote are at least the mark's.
fn keeps(hard: &HardState, mark: &Mark) -> bool {
    hard.current_term > mark.term
        || (hard.current_term == mark.term && (mark.voted_for.is_none() || hard.voted_for == mark.voted_for))
}

fn position(u: &mut Unstructured<'_>) -> Result<EntryId> {
    let index = u.int_in_range(0..=12)?;
    Ok(EntryId { index, term: if index == 0 { 0 } else { u.int_in_range(1..=6)? } })
}

/// A position that can stand behind this one in a log.
fn above(u: &mut Unstructured<'_>, low: EntryId) -> Result<EntryId> {
    let index = low.index + u.int_in_range(0..=4)?;
    let term = if index == low.index { low.term } else { low.term.max(1) + u.int_in_range(0..=2)? };
    Ok(EntryId { index, term })
}

fn vote(u: &mut Unstructured<'_>) -> Result<Option<u64>> {
    Ok(if u.arbitrary()? { Some(u.int_in_range(1..=3)?) } else { None })
}

/// Real marks, with the mode byte in front.
pub(crate) fn seeds_of_marks() -> Vec<Vec<u8>> {
    let mark = Mark {
        cluster_id: 1,
        member_id: 2,
        storage_id: 3,
        incarnation: 4,
        term: 5,
        voted_for: Some(2),
        acked: EntryId { index: 7, term: 5 },
        acked_chain: 9,
    };
    let slots = [mark::encode(6, &mark), mark::encode(7, &Mark { voted_for: None, acked: mark::UNKNOWN, ..mark })];
    let [even, odd] = &slots;
    [(0, even, odd), (3, odd, even), (1, even, &[0; 512]), (2, &[0; 512], odd), (3, even, even)]
        .map(|(mode, one, other)| [&[mode], one.as_slice(), other.as_slice()].concat())
        .to_vec()
}
