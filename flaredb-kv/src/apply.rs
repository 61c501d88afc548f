//! Applies entries, one after the other, to the store as it was before the batch and to what the batch has written so far.
//! The result is one [`Batch`] for the store.
//!
//! A command that is refused leaves no trace. Everything that can be known is checked before its first write; what a later
//! operation of the same transaction may still refuse is undone, rows and all, before anyone can see it.

use bytes::Bytes;

use crate::{
    AppliedState, ApplyEntry, Batch, Change, Command, CommandKind, CompactRequest, Cursor, DeleteRangeRequest,
    DeleteRangeResponse, KeyValue, KvError, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, Response,
    ResponseBody, Stop, StoreError, StoreReader, TxnRequest, TxnResponse,
    layout::{self, APPLIED_KEY, IndexRow, RowHeader, RowRevision, USER_END, USER_START},
    newest::{NewestRow, NewestRows},
    overlay::{Overlay, OverlayCursor},
    range,
    scan::{LiveRow, Span, View, scan},
    settle,
    txn::{Decision, check_lease},
};

/// The state of one batch. What is read is the store as it was before it: nothing is written to it meanwhile.
pub(crate) struct Applier<'k, R: StoreReader> {
    reader: &'k R,
    /// Over all user rows; made for the first scan.
    base: Option<R::Cursor<'k>>,
    /// For the rows of one key; made for the first search.
    point: Option<R::Cursor<'k>>,
    newest: &'k mut NewestRows,
    /// The newest revision before the batch.
    before: i64,
    /// Of the batch's user rows those of the first `overlaid` changes: they are sorted only when somebody searches.
    overlay: Overlay,
    overlaid: usize,
    batch: Batch,
    applied: AppliedState,
    /// Changes of the command being executed: the next change's sub revision.
    changes: u32,
}

impl<'k, R: StoreReader> View for Applier<'k, R> {
    type Cursor<'a>
        = OverlayCursor<'a, R::Cursor<'k>>
    where
        Self: 'a;

    fn cursor(&mut self, span: &Span) -> Result<OverlayCursor<'_, R::Cursor<'k>>, StoreError> {
        self.overlay_batch();
        let base = if span.is_point() {
            made(&mut self.point, || self.reader.point_cursor())?
        } else {
            made(&mut self.base, || self.reader.cursor(USER_START, USER_END))?
        };
        Ok(OverlayCursor::new(&self.overlay, base))
    }

    fn known(&self, prefix: &[u8]) -> Option<NewestRow> {
        self.newest.get(prefix)
    }
}

impl<'k, R: StoreReader> Applier<'k, R> {
    pub(crate) fn new(reader: &'k R, newest: &'k mut NewestRows, applied: AppliedState, entries: usize) -> Self {
        let batch = Batch { changes: Vec::with_capacity(2 * entries + 1) };
        newest.watch();
        Self {
            reader,
            base: None,
            point: None,
            newest,
            before: applied.revision,
            overlay: Overlay::new(),
            overlaid: 0,
            batch,
            applied,
            changes: 0,
        }
    }

    /// Applies the next entry.
    pub(crate) fn entry(&mut self, entry: &ApplyEntry) -> Result<Result<Response, KvError>, StoreError> {
        assert!(entry.index == self.applied.index + 1, "entries are applied in order, each once");
        assert!(entry.term >= self.applied.term, "terms never fall along the log");
        self.applied.index = entry.index;
        self.applied.term = entry.term;
        let Some((kind, bytes)) = &entry.command else {
            return Ok(Ok(Response { revision: self.applied.revision, body: ResponseBody::Compact }));
        };
        let changes_before = self.batch.changes.len();
        let result = self.command(*kind, bytes);
        match &result {
            Ok(_) if mutant!(RevisionPerChange) => self.applied.revision += i64::from(self.changes),
            Ok(_) if mutant!(RevisionWithoutChange) && *kind == CommandKind::DeleteRange => self.applied.revision += 1,
            Ok(_) if self.changes > 0 => self.applied.revision += 1,
            Ok(_) => {}
            Err(_) if mutant!(FailedTxnLeavesTrace) => {}
            Err(_) => self.undo(changes_before),
        }
        self.changes = 0;
        settle(result.map(|body| Response { revision: self.applied.revision, body }))
    }

    /// The batch, with the row that says how far it goes.
    pub(crate) fn finish(mut self) -> (Batch, AppliedState) {
        let row = layout::applied_row(&self.applied);
        self.batch.changes.push(Change::Put(Bytes::from_static(APPLIED_KEY), row));
        (self.batch, self.applied)
    }

    fn command(&mut self, kind: CommandKind, bytes: &Bytes) -> Result<ResponseBody, Stop> {
        let command = Command::decode(kind, bytes)?;
        command.check_rules()?;
        Ok(match &command {
            Command::Put(put) => {
                check_lease(put.lease)?;
                ResponseBody::Put(self.put(put)?)
            }
            Command::DeleteRange(delete) => ResponseBody::DeleteRange(self.delete_range(delete)?),
            Command::Txn(txn) => {
                let AppliedState { revision, compact_revision, .. } = self.applied;
                let decision = Decision::of(txn, self, revision)?;
                decision.check(txn, self, revision, compact_revision)?;
                ResponseBody::Txn(self.txn(txn, &decision)?)
            }
            Command::Compact(compact) => {
                self.compact(compact)?;
                ResponseBody::Compact
            }
        })
    }

    /// Takes back everything that the command at hand has written.
    fn undo(&mut self, changes_before: usize) {
        for change in self.batch.changes.drain(changes_before..) {
            let Change::Put(key, _) = change else { continue };
            if layout::is_user_row(&key) {
                self.overlay.remove(&key);
                if !mutant!(RefusedRowRemembered) {
                    self.newest.forget(layout::row_prefix(&key));
                }
            }
        }
        self.overlaid = self.overlaid.min(changes_before);
    }

    /// Lays the rows that the batch has written since the last search over the store's.
    fn overlay_batch(&mut self) {
        for change in self.batch.changes.iter().skip(self.overlaid) {
            if let Change::Put(key, row) = change
                && layout::is_user_row(key)
            {
                self.overlay.insert(key.clone(), row.clone());
            }
        }
        self.overlaid = self.batch.changes.len();
    }

    fn compact(&mut self, request: &CompactRequest) -> Result<(), KvError> {
        if request.revision <= self.applied.compact_revision {
            return Err(KvError::Compacted);
        }
        if request.revision > self.applied.revision {
            return Err(KvError::FutureRevision);
        }
        self.applied.compact_revision = request.revision;
        Ok(())
    }

    fn txn(&mut self, txn: &TxnRequest, decision: &Decision) -> Result<TxnResponse, Stop> {
        let mut nested = decision.nested.iter();
        let mut responses = Vec::with_capacity(decision.branch(txn).len());
        for op in decision.branch(txn) {
            let body = match op {
                RequestOp::Range(range) => ResponseBody::Range(self.range(range)?),
                RequestOp::Put(put) => ResponseBody::Put(self.put(put)?),
                RequestOp::DeleteRange(delete) => ResponseBody::DeleteRange(self.delete_range(delete)?),
                RequestOp::Txn(inner) => {
                    let decision = nested.next();
                    assert!(decision.is_some(), "every nested transaction of the branch has a decision");
                    let Some(decision) = decision else { continue };
                    ResponseBody::Txn(self.txn(inner, decision)?)
                }
                // Refused by the rules already.
                RequestOp::Nothing => return Err(KvError::KeyNotFound.into()),
            };
            // etcd fills the header of a nested transaction's answer with nothing.
            let revision = if matches!(body, ResponseBody::Txn(_)) { 0 } else { self.current() };
            responses.push(Response { revision, body });
        }
        Ok(TxnResponse { succeeded: decision.succeeded, responses })
    }

    /// The newest revision as the command at hand sees it, its own changes included.
    fn current(&self) -> i64 {
        if self.changes > 0 { self.applied.revision + 1 } else { self.applied.revision }
    }

    fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, Stop> {
        let (current, compact_revision) = (self.current(), self.applied.compact_revision);
        range::range(self, request, current, compact_revision)
    }

    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, Stop> {
        let prefix = layout::user_prefix(&put.key);
        let previous = self.newest(&prefix, put.prev_kv || put.ignore_value)?;
        if previous.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(KvError::KeyNotFound.into());
        }
        let (version, create_revision, lease) = match &previous {
            Some(previous) => (previous.header.version + 1, previous.header.create_revision, previous.header.lease),
            None => (1, self.applied.revision + 1, 0),
        };
        let create_revision = if mutant!(CreateRevisionMoves) { self.applied.revision + 1 } else { create_revision };
        let lease = if put.ignore_lease { lease } else { put.lease };
        let header = RowHeader { create_revision, version, lease };
        let row = match &previous {
            Some(previous) if put.ignore_value => layout::live_row(header, &previous.value),
            _ => layout::live_row(header, &put.value),
        };
        self.write(prefix, &put.key, row, Some(header), previous.as_ref().map(|previous| previous.revision));
        let prev_kv = previous.filter(|_| put.prev_kv).map(|previous| KeyValue {
            key: put.key.clone(),
            create_revision: previous.header.create_revision,
            mod_revision: previous.revision.main,
            version: previous.header.version,
            value: previous.value,
            lease: previous.header.lease,
        });
        Ok(PutResponse { prev_kv })
    }

    fn delete_range(&mut self, delete: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Stop> {
        let span = Span::new(&delete.key, &delete.range_end);
        let current = self.current();
        let mut doomed: Vec<(RowRevision, KeyValue)> = Vec::new();
        scan(&mut self.cursor(&span)?, &span, current, |row: LiveRow<'_>| {
            doomed.push((row.revision, row.key_value(delete.prev_kv)?));
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        for (revision, kv) in &doomed {
            self.write(layout::user_prefix(&kv.key), &kv.key, layout::tombstone_row(), None, Some(*revision));
        }
        let deleted = i64::try_from(doomed.len()).unwrap_or(i64::MAX);
        let prev_kvs = if delete.prev_kv { doomed.into_iter().map(|(_, kv)| kv).collect() } else { Vec::new() };
        Ok(DeleteRangeResponse { deleted, prev_kvs })
    }

    /// Adds a change: the row of the key, and its row in the revision index. Without a header it is a deletion.
    fn write(
        &mut self,
        prefix: Vec<u8>,
        user_key: &[u8],
        row: Bytes,
        header: Option<RowHeader>,
        replaced: Option<RowRevision>,
    ) {
        let revision = RowRevision { main: self.applied.revision + 1, sub: self.changes };
        self.changes += 1;
        if header.is_some() || !mutant!(DeletedRowRemembered) {
            self.newest.put(&prefix, header.map(|header| (revision, header)));
        }
        self.batch.changes.push(Change::Put(layout::user_row_key(prefix, revision), row));
        let index = layout::index_row(&IndexRow { tombstone: header.is_none(), replaced, user_key });
        self.batch.changes.push(Change::Put(layout::index_key(revision), index));
    }

    /// The live row of a key, if it has one. All rows at hand are of the newest revision or older.
    fn newest(&mut self, prefix: &[u8], with_value: bool) -> Result<Option<Previous>, StoreError> {
        let known = self.newest.get(prefix).filter(|_| !mutant!(BatchNotSeen));
        match known {
            Some(None) => return Ok(None),
            Some(Some((revision, header))) if !with_value => {
                return Ok(Some(Previous { revision, header, value: Bytes::new() }));
            }
            _ => {}
        }
        let found = self.search(prefix, with_value)?;
        let row = found.as_ref().map(|found| (found.revision, found.header));
        assert!(
            known.is_none_or(|known| known == row) || cfg!(feature = "mutants"),
            "what is remembered is what is there"
        );
        Ok(found)
    }

    fn search(&mut self, prefix: &[u8], with_value: bool) -> Result<Option<Previous>, StoreError> {
        // A key whose header is searched is not remembered. If no row of the batch was forgotten, the batch has none of it.
        if with_value || !self.newest.knows_all_since(self.before) {
            self.overlay_batch();
        }
        let bounds = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        let added = self.overlay.range::<[u8], _>(bounds).next().filter(|(key, _)| key.starts_with(prefix));
        let added = added.filter(|_| !mutant!(BatchNotSeen));
        let (key, row) = match added {
            Some((key, row)) => (key.as_ref(), row.as_ref()),
            None => {
                let rows = made(&mut self.point, || self.reader.point_cursor())?;
                rows.seek(prefix)?;
                match rows.entry().filter(|(key, _)| key.starts_with(prefix)) {
                    Some(entry) => entry,
                    None => return Ok(None),
                }
            }
        };
        let (_, revision) = layout::split_user_row(key)?;
        Ok(layout::parse_user_row(key, row)?.map(|(header, value)| Previous {
            revision,
            header,
            value: if with_value { Bytes::copy_from_slice(value) } else { Bytes::new() },
        }))
    }
}

/// What is made when it is first needed.
fn made<T>(slot: &mut Option<T>, make: impl FnOnce() -> Result<T, StoreError>) -> Result<&mut T, StoreError> {
    Ok(match slot {
        Some(made) => made,
        none => none.insert(make()?),
    })
}

/// The row that a put replaces.
struct Previous {
    revision: RowRevision,
    header: RowHeader,
    /// Empty if nobody asked for it.
    value: Bytes,
}
