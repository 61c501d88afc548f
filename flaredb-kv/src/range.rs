//! The answer to a Range, option by option as etcd's server gives it. Where the rows come from is the caller's [`View`].
//!
//! `count` says how many keys the span holds at the revision, whatever the limit and the filters. Filters apply before the
//! limit. Rows are sorted before the limit is applied, except in one corner that is etcd's: with a sort target and no sort
//! order, the first keys up to the limit are taken and then sorted. `more` says that the limit cut something off.
//! At most `limit + 1` rows are held in memory, unless a sort needs them all.

use std::{cmp::Ordering, collections::VecDeque, ops::ControlFlow};

use crate::{
    KeyValue, KvError, RangeRequest, RangeResponse, SortOrder, SortTarget, Stop, StoreError,
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
    let mut collector = Collector::new(request);
    let span = Span::new(&request.key, &request.range_end);
    let mut cursor = view.cursor(&span)?;
    scan(&mut cursor, &span, revision, |row| {
        collector.add(&row)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(collector.finish())
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
        let limit = (request.limit > 0).then(|| usize::try_from(request.limit).unwrap_or(usize::MAX));
        // One more than the limit shows that there is more.
        let keep = match limit.map(|limit| limit.saturating_add(1)) {
            None => Keep::All,
            Some(kept) => match (request.sort_target, request.sort_order) {
                (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => Keep::First(kept),
                (SortTarget::Key, SortOrder::Descend) => Keep::Last(kept),
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
