//! Reading from any thread: a view pinned at the state it was made from.

use std::sync::Arc;

use crate::{
    AppliedState, ContentHash, KvError, RangeRequest, RangeResponse, RangeRow, RangeSummary, RequestOp, Response,
    ResponseBody, Stop, StoreError, StoreReader, TxnRequest, TxnResponse, hash,
    newest::NewestRow,
    range,
    scan::{Span, View},
    settle,
    txn::Decision,
};

/// Reads at the revision at which it was made, and at older ones that were not compacted then. Rows written later do not
/// show; compaction waits with removing rows until the reader and its clones are dropped, so keep it no longer than needed.
#[derive(Clone, Debug)]
pub struct KvReader<R: StoreReader> {
    reader: R,
    applied: AppliedState,
    /// Held, never looked at: see `compact.rs`.
    _pin: Arc<()>,
}

/// The store's rows for one request. Each cursor is a consistent view of its own; rows up to the pinned revision are the
/// same in all of them, because rows are never overwritten and none is removed while the reader lives.
struct StoreView<'r, R>(&'r R);

impl<R: StoreReader> View for StoreView<'_, R> {
    type Cursor<'a>
        = R::Cursor<'a>
    where
        Self: 'a;

    fn cursor(&mut self, span: &Span) -> Result<R::Cursor<'_>, StoreError> {
        if span.is_point() { self.0.point_cursor() } else { self.0.cursor(&span.start, &span.end) }
    }

    fn known(&self, _prefix: &[u8]) -> Option<NewestRow> {
        None
    }
}

impl<R: StoreReader> KvReader<R> {
    pub(crate) fn new(reader: R, applied: AppliedState, pin: Arc<()>) -> Self {
        Self { reader, applied, _pin: pin }
    }

    /// The state that this reader shows. Its revision is the one for the answer's header.
    pub fn applied(&self) -> AppliedState {
        self.applied
    }

    /// Answers a Range. Refused: empty key, a compacted or future revision. Fails only if the store does.
    pub fn range(&self, request: &RangeRequest) -> Result<Result<RangeResponse, KvError>, StoreError> {
        settle(self.try_range(request))
    }

    /// As [`KvReader::range`], but shows `visit` the rows, in the order of the answer, instead of copying them. None if that
    /// takes more than about `steps_max` steps from row to row, whether they are shown or not; 4 KiB of a value are a step
    /// more. Without a summary, what was shown is void.
    pub fn range_rows(
        &self,
        request: &RangeRequest,
        steps_max: usize,
        visit: impl FnMut(RangeRow<'_>),
    ) -> Result<Result<Option<RangeSummary>, KvError>, StoreError> {
        settle(self.try_range_rows(request, steps_max, visit))
    }

    /// Answers a transaction that only reads ([`TxnRequest::is_read_only`], asserted) as one look at the state. Refused if
    /// it breaks a rule of [`TxnRequest::check`] other than the limits, or if a range asks for a compacted or future revision.
    pub fn txn(&self, txn: &TxnRequest) -> Result<Result<Response, KvError>, StoreError> {
        assert!(txn.is_read_only(), "a transaction that may write goes through the log");
        settle(self.try_txn(txn))
    }

    /// A hash over the content at `revision` (zero and below: the newest), the same on every member that has the same
    /// revision and compact revision. Refused: a compacted or future revision. Reads every row.
    pub fn hash(&self, revision: i64) -> Result<Result<ContentHash, KvError>, StoreError> {
        settle(self.try_hash(revision))
    }

    fn try_range(&self, request: &RangeRequest) -> Result<RangeResponse, Stop> {
        request.check()?;
        range::range(&mut StoreView(&self.reader), request, self.applied.revision, self.applied.compact_revision)
    }

    fn try_range_rows(
        &self,
        request: &RangeRequest,
        steps_max: usize,
        visit: impl FnMut(RangeRow<'_>),
    ) -> Result<Option<RangeSummary>, Stop> {
        request.check()?;
        let AppliedState { revision, compact_revision, .. } = self.applied;
        range::range_rows(&mut StoreView(&self.reader), request, revision, compact_revision, steps_max, visit)
    }

    fn try_txn(&self, txn: &TxnRequest) -> Result<Response, Stop> {
        txn.check_rules()?;
        let AppliedState { revision, compact_revision, .. } = self.applied;
        let mut view = StoreView(&self.reader);
        let decision = Decision::of(txn, &mut view, revision)?;
        decision.check(txn, &mut view, revision, compact_revision)?;
        let mut responses = Vec::with_capacity(decision.branch(txn).len());
        for op in decision.branch(txn) {
            // Anything else was excluded above.
            let RequestOp::Range(range) = op else { continue };
            let body = ResponseBody::Range(range::range(&mut view, range, revision, compact_revision)?);
            responses.push(Response { revision, body });
        }
        let body = ResponseBody::Txn(TxnResponse { succeeded: decision.succeeded, responses });
        Ok(Response { revision, body })
    }

    fn try_hash(&self, revision: i64) -> Result<ContentHash, Stop> {
        let AppliedState { revision: current, compact_revision, .. } = self.applied;
        let revision = range::readable_revision(revision, current, compact_revision)?;
        let hash = hash::content_hash(&self.reader, revision, compact_revision)?;
        Ok(ContentHash { hash, revision, compact_revision })
    }
}
