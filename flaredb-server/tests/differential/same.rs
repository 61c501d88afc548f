//! Two answers side by side: what is left out of the comparison, and nothing else.

use flaredb_proto::{
    etcdserverpb::{
        RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse, range_request::SortTarget,
        request_op::Request, response_op::Response,
    },
    mvccpb::KeyValue,
};
use tonic::Code;

use crate::{Answer, Op, Outcome};

/// Takes out of an answer what may differ: ids and term of the outermost header, and order among equals.
pub fn canonical(op: &Op, mut outcome: Outcome) -> Outcome {
    if let Ok(answer) = &mut outcome {
        let header = answer.header();
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
    match (op, &mut outcome) {
        (Op::Range(request), Ok(Answer::Range(answer))) => canonical_range(request, answer),
        (Op::Txn(request), Ok(Answer::Txn(answer))) => canonical_txn(request, answer),
        _ => {}
    }
    outcome
}

/// The revision that an answer shows, or that a refusal leaves unchanged.
pub fn revision(outcome: &Outcome) -> Result<i64, Code> {
    match outcome {
        Ok(answer) => Ok(answer.clone().header().revision),
        Err((code, _)) => Err(*code),
    }
}

fn canonical_txn(request: &TxnRequest, answer: &mut TxnResponse) {
    let branch = if answer.succeeded { &request.success } else { &request.failure };
    for (RequestOp { request }, ResponseOp { response }) in branch.iter().zip(&mut answer.responses) {
        match (request, response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(answer))) => {
                canonical_range(request, answer);
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(answer))) => canonical_txn(request, answer),
            _ => {}
        }
    }
}

fn canonical_range(request: &RangeRequest, answer: &mut RangeResponse) {
    let target = request.sort_target();
    if target == SortTarget::Key {
        return;
    }
    let kvs = &mut answer.kvs;
    if target == SortTarget::Value && request.keys_only {
        // What it was sorted by is not to be seen.
        if answer.more {
            kvs.fill(KeyValue::default());
        }
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        return;
    }
    let same = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Version => a.version == b.version,
        SortTarget::Create => a.create_revision == b.create_revision,
        SortTarget::Mod => a.mod_revision == b.mod_revision,
        SortTarget::Value => a.value == b.value,
        SortTarget::Key => false,
    };
    let runs = kvs.chunk_by(same).count();
    // With neither an order nor a filter, the rows are cut before they are sorted: one row more than the limit is there, and
    // any of those last in the order may be the one that is left out. So it is with the others: only the last run is open.
    for (number, run) in kvs.chunk_by_mut(same).enumerate() {
        run.sort_by(|a, b| a.key.cmp(&b.key));
        if answer.more && number + 1 == runs {
            for kv in run {
                *kv = only(target, kv);
            }
        }
    }
}

/// A row reduced to what it is sorted by.
fn only(target: SortTarget, kv: &KeyValue) -> KeyValue {
    let mut left = KeyValue::default();
    match target {
        SortTarget::Version => left.version = kv.version,
        SortTarget::Create => left.create_revision = kv.create_revision,
        SortTarget::Mod => left.mod_revision = kv.mod_revision,
        SortTarget::Value => left.value = kv.value.clone(),
        SortTarget::Key => left.key = kv.key.clone(),
    }
    left
}
