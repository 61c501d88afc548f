//! Walking over user keys as they are at a revision: of each key the newest row that is not newer, if it is not a tombstone.
//!
//! Rows of a key stand newest first. A few unwanted rows are stepped over; many, or long ones, are jumped over with a seek, so that a
//! scan's cost follows the number of keys and not the number of their versions.

use std::ops::ControlFlow;

use crate::{
    Cursor, KeyValue, RangeRow, StoreError,
    layout::{self, RowHeader, RowRevision, USER_END},
    newest::NewestRow,
};

/// A seek costs about as much as this many steps.
const STEPS_BEFORE_SEEK: usize = 8;
/// Where values are this long (bytes) it costs less than one: a step reads the value of the row that it comes to.
const LONG_VALUE: usize = 2048;

/// Where rows are read from: the store, or the store under a batch that is being applied.
pub(crate) trait View {
    type Cursor<'a>: Cursor
    where
        Self: 'a;
    /// A cursor for rows within the span. It may see rows outside of it.
    fn cursor(&mut self, span: &Span) -> Result<Self::Cursor<'_>, StoreError>;
    /// The newest row of the key with this prefix, if it is known without a search.
    fn known(&self, prefix: &[u8]) -> Option<NewestRow>;
}

/// A set of neighbouring user keys, as bounds of their rows.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// The prefix of the first key's rows.
    pub(crate) start: Vec<u8>,
    /// Exclusive.
    pub(crate) end: Vec<u8>,
    /// One key only.
    point: bool,
}

impl Span {
    /// etcd's conventions: an empty `range_end` means `key` alone, `\0` means every key from `key` on. A `range_end` at or
    /// below `key` is an empty span.
    pub(crate) fn new(key: &[u8], range_end: &[u8]) -> Self {
        let start = layout::user_prefix(key);
        let (end, point) = match range_end {
            [] => (layout::prefix_end(&start), true),
            [0] => (USER_END.to_vec(), false),
            end => (layout::user_prefix(end), false),
        };
        Self { start, end, point }
    }

    /// True if the span is one key, which may not exist.
    pub(crate) fn is_point(&self) -> bool {
        self.point
    }
}

/// A live row, borrowed from the cursor.
pub(crate) struct LiveRow<'a> {
    pub(crate) prefix: &'a [u8],
    pub(crate) revision: RowRevision,
    pub(crate) header: RowHeader,
    pub(crate) value: &'a [u8],
}

impl LiveRow<'_> {
    /// Shows `visit` the row as a client sees it; without the value where nobody will look at it.
    pub(crate) fn show<T>(&self, with_value: bool, visit: impl FnOnce(RangeRow<'_>) -> T) -> Result<T, StoreError> {
        let key = layout::user_key(self.prefix)?;
        Ok(visit(RangeRow {
            key: &key,
            create_revision: self.header.create_revision,
            mod_revision: self.revision.main,
            version: self.header.version,
            value: if with_value { self.value } else { &[] },
            lease: self.header.lease,
        }))
    }

    /// A copy of it.
    pub(crate) fn key_value(&self, with_value: bool) -> Result<KeyValue, StoreError> {
        self.show(with_value, |row| row.to_key_value())
    }
}

/// Shows `visit` every key of the span that exists at `revision`, in key order, until it breaks off.
pub(crate) fn scan<C: Cursor>(
    cursor: &mut C,
    span: &Span,
    revision: i64,
    mut visit: impl FnMut(LiveRow<'_>) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    if span.start >= span.end {
        return Ok(());
    }
    let mut current = span.start.clone();
    seek_newest_at(cursor, &current, revision)?;
    loop {
        let Some((row, value)) = cursor.entry().filter(|(row, _)| *row < span.end.as_slice()) else { return Ok(()) };
        let (prefix, at) = layout::split_user_row(row)?;
        let too_new = at.main > revision;
        let steps_max = if value.len() < LONG_VALUE { STEPS_BEFORE_SEEK } else { 1 };
        let flow = match layout::parse_user_row(row, value)? {
            Some((header, value)) if !too_new => visit(LiveRow { prefix, revision: at, header, value })?,
            _ => ControlFlow::Continue(()),
        };
        current.clear();
        current.extend_from_slice(prefix);
        if too_new {
            step_to(
                cursor,
                &current,
                steps_max,
                |at| at.main <= revision,
                |cursor, prefix| seek_newest_at(cursor, prefix, revision),
            )?;
        } else if flow.is_break() || span.point {
            return Ok(());
        } else {
            step_to(cursor, &current, steps_max, |_| false, |cursor, prefix| cursor.seek(&layout::prefix_end(prefix)))?;
        }
    }
}

/// Moves on to a wanted row of this key or to the next key: by a few steps, or else by `jump`.
fn step_to<C: Cursor>(
    cursor: &mut C,
    prefix: &[u8],
    steps_max: usize,
    wanted: impl Fn(RowRevision) -> bool,
    jump: impl FnOnce(&mut C, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for _ in 0..steps_max {
        cursor.next()?;
        let Some(row) = cursor.key() else { return Ok(()) };
        if !row.starts_with(prefix) || wanted(layout::split_user_row(row)?.1) {
            return Ok(());
        }
    }
    jump(cursor, prefix)
}

fn seek_newest_at<C: Cursor>(cursor: &mut C, prefix: &[u8], revision: i64) -> Result<(), StoreError> {
    let mut target = Vec::with_capacity(prefix.len() + 12);
    target.extend_from_slice(prefix);
    layout::push_newest_at(revision, &mut target);
    cursor.seek(&target)
}
