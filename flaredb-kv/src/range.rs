//! The answer to a Range, option by option as etcd's server gives it. Where the rows come from is the caller's [`View`].
//!
//! `count` says how many keys the span holds at the revision, whatever the limit and the filters. Filters apply before the
//! limit. Rows are sorted before the limit is applied, except in one corner that is etcd's: with a sort target and no sort
//! order, the first keys up to the limit are taken and then sorted. `more` says that the limit cut something off.
//!
//! Rows that are wanted in the order of their keys, as nearly all are, are shown as they are found and held nowhere; of others
//! at most `limit + 1` are held in memory, unless the sort needs them all.

use std::{cell::Cell, cmp::Ordering, collections::VecDeque, ops::ControlFlow};

use crate::{
    Cursor, KeyValue, KvError, RangeRequest, RangeResponse, RangeRow, RangeSummary, SortOrder, SortTarget, Stop,
    StoreError,
    scan::{LiveRow, Span, View, scan},
};

/// Answers `request` from a state whose newest revision is `current` and which is compacted up to `compact_revision`.
pub(crate) fn range<V: View>(
    view: &mut V,
    request: &RangeRequest,
    current: i64,
    compact_revision: i64,
) -> Result<RangeResponse, Stop> {
    let revision = readable_revision(request.revision, current, compact_revision)?;
    if !is_in_key_order(request) {
        return sorted(view, request, revision);
    }
    let mut kvs = Vec::new();
    let summary = in_key_order(view, request, revision, UNBOUNDED, |row| kvs.push(row.to_key_value()))?;
    let RangeSummary { more, count } = summary.unwrap_or_default();
    Ok(RangeResponse { kvs, more, count })
}

/// As [`range`], but shows `visit` the rows instead of copying them. None if it takes more than `steps_max` steps of a cursor.
pub(crate) fn range_rows<V: View>(
    view: &mut V,
    request: &RangeRequest,
    current: i64,
    compact_revision: i64,
    steps_max: usize,
    mut visit: impl FnMut(RangeRow<'_>),
) -> Result<Option<RangeSummary>, Stop> {
    let revision = readable_revision(request.revision, current, compact_revision)?;
    if is_in_key_order(request) {
        return in_key_order(view, request, revision, steps_max, visit);
    }
    if steps_max < UNBOUNDED {
        return Ok(None);
    }
    let RangeResponse { kvs, more, count } = sorted(view, request, revision)?;
    for kv in &kvs {
        visit(RangeRow::from(kv));
    }
    Ok(Some(RangeSummary { more, count }))
}

/// Steps of a cursor without a bound.
const UNBOUNDED: usize = usize::MAX;

/// Bytes of a value that count as another step.
const STEP_BYTES: usize = 4096;

/// A cursor that comes to an end after so many steps. Seeks are steps, and so are the bytes of large values.
struct Bounded<C> {
    cursor: C,
    /// At zero it has ended too early.
    steps_left: usize,
    /// Of the entry here, if somebody looked at it.
    bytes: Cell<usize>,
}

impl<C> Bounded<C> {
    fn new(cursor: C, steps_max: usize) -> Self {
        Self { cursor, steps_left: steps_max, bytes: Cell::new(0) }
    }

    fn step(&mut self, step: impl FnOnce(&mut C) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.steps_left = self.steps_left.saturating_sub(1 + self.bytes.take() / STEP_BYTES);
        if self.steps_left > 0 { step(&mut self.cursor) } else { Ok(()) }
    }
}

impl<C: Cursor> Cursor for Bounded<C> {
    fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.step(|cursor| cursor.seek(key))
    }

    fn next(&mut self) -> Result<(), StoreError> {
        self.step(C::next)
    }

    fn entry(&self) -> Option<(&[u8], &[u8])> {
        let entry = (self.steps_left > 0).then(|| self.cursor.entry()).flatten();
        self.bytes.set(entry.map_or(0, |(_, value)| value.len()));
        entry
    }

    fn key(&self) -> Option<&[u8]> {
        (self.steps_left > 0).then(|| self.cursor.key()).flatten()
    }
}

/// Whether the answer's rows come in the order in which the store has them.
fn is_in_key_order(request: &RangeRequest) -> bool {
    request.sort_target == SortTarget::Key && matches!(request.sort_order, SortOrder::None | SortOrder::Ascend)
}

fn in_key_order<V: View>(
    view: &mut V,
    request: &RangeRequest,
    revision: i64,
    steps_max: usize,
    mut visit: impl FnMut(RangeRow<'_>),
) -> Result<Option<RangeSummary>, Stop> {
    let limit = limit(request);
    let (mut found, mut count) = (0_usize, 0);
    let span = Span::new(&request.key, &request.range_end);
    let mut cursor = Bounded::new(view.cursor(&span)?, steps_max);
    scan(&mut cursor, &span, revision, |row| {
        count += 1;
        if !request.count_only && passes_filters(request, &row) {
            found += 1;
            if limit.is_none_or(|limit| found <= limit) {
                row.show(!request.keys_only, &mut visit)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let summary = RangeSummary { more: limit.is_some_and(|limit| found > limit), count };
    Ok((cursor.steps_left > 0).then_some(summary))
}

fn sorted<V: View>(view: &mut V, request: &RangeRequest, revision: i64) -> Result<RangeResponse, Stop> {
    let mut collector = Collector::new(request);
    let span = Span::new(&request.key, &request.range_end);
    scan(&mut view.cursor(&span)?, &span, revision, |row| {
        collector.add(&row)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(collector.finish())
}

/// The request's limit, if it has one.
fn limit(request: &RangeRequest) -> Option<usize> {
    (request.limit > 0).then(|| usize::try_from(request.limit).unwrap_or(usize::MAX))
}

/// The revision to read at. Zero and below mean the newest.
pub(crate) fn readable_revision(requested: i64, current: i64, compact_revision: i64) -> Result<i64, KvError> {
    if requested > current {
        Err(KvError::FutureRevision)
    } else if requested <= 0 {
        Ok(current)
    } else if requested < compact_revision && !mutant!(CompactedReadAnswered) {
        Err(KvError::Compacted)
    } else {
        Ok(requested)
    }
}

/// How the rows that pass the filters are kept while more arrive, in key order.
enum Keep {
    All,
    /// The first so many: nothing that comes later can be part of the answer.
    First(usize),
    /// The last so many: keys are wanted in falling order.
    Last(usize),
}

struct Collector<'a> {
    request: &'a RangeRequest,
    keep: Keep,
    /// The request's limit, if it has one.
    limit: Option<usize>,
    with_value: bool,
    kvs: VecDeque<KeyValue>,
    count: i64,
}

impl<'a> Collector<'a> {
    fn new(request: &'a RangeRequest) -> Self {
        let limit = limit(request);
        // One more than the limit shows that there is more.
        let keep = match limit.map(|limit| limit.saturating_add(1)) {
            None => Keep::All,
            Some(kept) => match (request.sort_target, request.sort_order) {
                (SortTarget::Key, _) => Keep::Last(kept),
                (_, SortOrder::None) if !has_filters(request) => Keep::First(kept),
                _ => Keep::All,
            },
        };
        let with_value = !request.keys_only || request.sort_target == SortTarget::Value;
        Self { request, keep, limit, with_value, kvs: VecDeque::new(), count: 0 }
    }

    fn add(&mut self, row: &LiveRow<'_>) -> Result<(), StoreError> {
        self.count += 1;
        if self.request.count_only || !passes_filters(self.request, row) {
            return Ok(());
        }
        match self.keep {
            Keep::First(kept) if self.kvs.len() >= kept => return Ok(()),
            Keep::Last(kept) if self.kvs.len() >= kept => {
                self.kvs.pop_front();
            }
            _ => {}
        }
        self.kvs.push_back(row.key_value(self.with_value)?);
        Ok(())
    }

    fn finish(self) -> RangeResponse {
        let mut kvs = Vec::from(self.kvs);
        sort(&mut kvs, self.request.sort_target, self.request.sort_order);
        let more = self.limit.is_some_and(|limit| kvs.len() > limit);
        if let Some(limit) = self.limit {
            kvs.truncate(limit);
        }
        if self.request.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
            }
        }
        RangeResponse { kvs, more, count: self.count }
    }
}

fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// A bound of zero is no bound; a negative one is.
fn passes_filters(request: &RangeRequest, row: &LiveRow<'_>) -> bool {
    let within = |min: i64, value: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(request.min_mod_revision, row.revision.main, request.max_mod_revision)
        && within(request.min_create_revision, row.header.create_revision, request.max_create_revision)
}

/// Keys arrive in rising order. Among equals they stay so, in both directions (etcd leaves their order open).
fn sort(kvs: &mut [KeyValue], target: SortTarget, order: SortOrder) {
    let compare: fn(&KeyValue, &KeyValue) -> Ordering = match target {
        SortTarget::Key => |a, b| a.key.cmp(&b.key),
        SortTarget::Version => |a, b| a.version.cmp(&b.version),
        SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => |a, b| a.value.cmp(&b.value),
    };
    match (target, order) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => {}
        (SortTarget::Key, SortOrder::Descend) => kvs.reverse(),
        (_, SortOrder::None | SortOrder::Ascend) => kvs.sort_by(compare),
        (_, SortOrder::Descend) => kvs.sort_by(|a, b| compare(b, a)),
    }
}
