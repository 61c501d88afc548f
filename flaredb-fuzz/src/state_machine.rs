//! The state machine fed with arbitrary commands: it never panics, a refusal leaves no trace, and where batches begin and end
//! changes nothing.

use crate::gen_kv;
use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use flaredb_kv::{
    ApplyEntry, Command, CompactProgress, Cursor, Kv, KvError, MemoryStore, OrderedStore, RangeRequest, Response,
    StoreError, StoreReader,
};

type Outcomes = Vec<std::result::Result<Response, KvError>>;

/// Transactions of any shape, one after the other.
pub(crate) fn txn_trees(data: &[u8]) {
    let _ = run_txns(&mut Unstructured::new(data));
}

fn run_txns(u: &mut Unstructured<'_>) -> Result<()> {
    let mut kv = fresh();
    let mut outcomes = Outcomes::new();
    for index in 1..=16 {
        if u.is_empty() {
            break;
        }
        let command = if u.ratio(1, 4)? { gen_kv::command(u)? } else { Command::Txn(gen_kv::txn(u, 0)?) };
        let bytes = command.encode();
        assert!(
            Command::decode(command.kind(), &bytes).as_ref() == Ok(&command),
            "a command is read as it was written"
        );
        let before = kv.applied();
        let rows_before = rows(&kv);
        apply(&mut kv, &[entry(index, Some(&command))], &mut outcomes);
        let after = kv.applied();
        let refused = outcomes.iter().any(std::result::Result::is_err);
        let changed = rows(&kv) != rows_before;
        assert!(!(refused && changed), "a refused command leaves no trace: {command:?}");
        assert!(refused || command.check(&unlimited()).is_ok(), "what breaks a rule is refused");
        let is_compaction = matches!(command, Command::Compact(_));
        assert!(
            after.revision == before.revision + i64::from(changed),
            "a command that changes something makes one revision, another none: {command:?}"
        );
        assert!(is_compaction || after.compact_revision == before.compact_revision, "only compactions compact");
        if let Some(Ok(response)) = outcomes.first() {
            assert!(response.revision == after.revision, "the answer has the store's revision");
        }
    }
    let range = gen_kv::range(u)?;
    if let Ok(Ok(response)) = kv.reader().range(&range) {
        let kvs = i64::try_from(response.kvs.len()).unwrap_or(i64::MAX);
        assert!(range.limit <= 0 || kvs <= range.limit, "a limit is kept");
        assert!(kvs <= response.count, "the count is of all keys");
        let inverted = response.kvs.iter().any(|kv| kv.create_revision > kv.mod_revision || kv.version < 1);
        assert!(!inverted, "a key is created before it is changed");
    }
    Ok(())
}

/// The same entries in other batches, with physical compaction and restarts in between, on two instances.
pub(crate) fn apply_purity(data: &[u8]) {
    let _ = run_purity(&mut Unstructured::new(data));
}

fn run_purity(u: &mut Unstructured<'_>) -> Result<()> {
    let mut entries = Vec::new();
    for index in 1..=u.int_in_range(1..=40_u64)? {
        if u.is_empty() {
            break;
        }
        let kind = u.int_in_range(0..=15)?;
        let mut entry = match kind {
            0 => entry(index, None),
            _ => entry(index, Some(&gen_kv::command(u)?)),
        };
        // Bytes that are no request at all reach apply from a confused proposer.
        if kind == 1
            && let Some((_, bytes)) = &mut entry.command
        {
            *bytes = Bytes::copy_from_slice(u.bytes(4.min(u.len()))?);
        }
        entries.push(entry);
    }
    let (mut one, mut other) = (fresh(), fresh());
    let (mut outcomes, mut others) = (Outcomes::new(), Outcomes::new());
    let mut batch = Outcomes::new();
    for entry in &entries {
        apply(&mut one, std::slice::from_ref(entry), &mut batch);
        outcomes.append(&mut batch);
    }
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(usize::from(u.int_in_range(1..=8_u8)?).min(rest.len()));
        rest = later;
        apply(&mut other, now, &mut batch);
        others.append(&mut batch);
        match u.int_in_range(0..=5)? {
            0 => drop(done(other.compact_step(3))),
            1 => other = done(Kv::open(other.store().clone())),
            _ => {}
        }
    }
    assert!(outcomes == others, "batch boundaries change no answer");
    assert!(one.applied() == other.applied(), "nor the state");
    for revision in [0, one.applied().revision - 1] {
        assert!(one.reader().hash(revision) == other.reader().hash(revision), "nor the content at {revision}");
    }
    let all =
        RangeRequest { key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0"), ..Default::default() };
    let before = done(one.reader().range(&all));
    for kv in [&mut one, &mut other] {
        for _ in 0..1000 {
            if done(kv.compact_step(7)) == CompactProgress::Done {
                break;
            }
        }
        assert!(kv.compaction_finished() == kv.applied().compact_revision, "compaction comes to an end");
    }
    assert!(rows(&one) == rows(&other), "compacted stores hold the same rows");
    assert!(done(one.reader().range(&all)) == before, "compaction changes no present key");
    Ok(())
}

fn fresh() -> Kv<MemoryStore> {
    done(Kv::open(MemoryStore::new()))
}

fn entry(index: u64, command: Option<&Command>) -> ApplyEntry {
    ApplyEntry { index, term: 1, command: command.map(|command| (command.kind(), command.encode())) }
}

fn apply(kv: &mut Kv<MemoryStore>, entries: &[ApplyEntry], outcomes: &mut Outcomes) {
    done(kv.apply(entries, outcomes));
    assert!(outcomes.len() == entries.len(), "each entry has its outcome");
}

fn done<T>(result: std::result::Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => unreachable!("memory does not fail: {error}"),
    }
}

fn unlimited() -> flaredb_kv::Limits {
    flaredb_kv::Limits { request_bytes_max: usize::MAX, txn_ops_max: usize::MAX, txn_depth_max: usize::MAX }
}

/// Every row of users and of revisions; not those that tell how far applying and compacting have come.
fn rows(kv: &Kv<MemoryStore>) -> Vec<(Bytes, Bytes)> {
    let reader = kv.store().reader();
    let mut cursor = done(reader.cursor(b"r", b""));
    done(cursor.seek(b"r"));
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.entry() {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        done(cursor.next());
    }
    rows
}
