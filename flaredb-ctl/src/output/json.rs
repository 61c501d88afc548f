//! The form of etcdctl's JSON: field by field, ids as decimal numbers, keys and values base64, empty fields left out.
//!
//! Key spellings are etcdctl's, which mixes three styles; scripts depend on each of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flaredb_load::work::Kind;
use flaredb_proto::etcdserverpb::response_op::Response;
use flaredb_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, Member, MemberListResponse, PutResponse, RangeResponse,
    ResponseHeader, StatusResponse, TxnResponse,
};
use flaredb_proto::mvccpb::KeyValue;
use serde::{Serialize, Serializer};

use super::text::took;
use crate::cli::Decode;
use crate::commands::bench::Report;
use crate::commands::cluster::Row;
use crate::commands::health::Healthy;

/// Appends one document on one line.
pub(super) fn line(out: &mut Vec<u8>, document: &impl Serialize) {
    let mut bytes = serde_json::to_vec(document).unwrap_or_default();
    assert!(!bytes.is_empty(), "strings, numbers and structs always have a JSON form");
    bytes.push(b'\n');
    out.append(&mut bytes);
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A key or a value.
pub(super) struct Text<'a> {
    decode: Decode,
    bytes: &'a [u8],
}

#[derive(Serialize)]
struct NotText {
    base64: String,
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.decode, std::str::from_utf8(self.bytes)) {
            (Decode::Base64, _) => serializer.serialize_str(&STANDARD.encode(self.bytes)),
            (Decode::Utf8, Ok(text)) => serializer.serialize_str(text),
            (Decode::Utf8, Err(_)) => NotText { base64: STANDARD.encode(self.bytes) }.serialize(serializer),
        }
    }
}

fn is_empty(text: &Text<'_>) -> bool {
    text.bytes.is_empty()
}

#[derive(Serialize)]
pub(super) struct Header {
    #[serde(skip_serializing_if = "is_default")]
    cluster_id: u64,
    #[serde(skip_serializing_if = "is_default")]
    member_id: u64,
    #[serde(skip_serializing_if = "is_default")]
    revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    raft_term: u64,
}

fn header(header: &Option<ResponseHeader>) -> Option<Header> {
    header.as_ref().map(|header| Header {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: header.revision,
        raft_term: header.raft_term,
    })
}

#[derive(Serialize)]
pub(super) struct Kv<'a> {
    #[serde(skip_serializing_if = "is_empty")]
    key: Text<'a>,
    #[serde(skip_serializing_if = "is_default")]
    create_revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    mod_revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    version: i64,
    #[serde(skip_serializing_if = "is_empty")]
    value: Text<'a>,
    #[serde(skip_serializing_if = "is_default")]
    lease: i64,
}

pub(super) fn key_value(decode: Decode, kv: &KeyValue) -> Kv<'_> {
    Kv {
        key: Text { decode, bytes: &kv.key },
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: Text { decode, bytes: &kv.value },
        lease: kv.lease,
    }
}

fn key_values(decode: Decode, kvs: &[KeyValue]) -> Vec<Kv<'_>> {
    kvs.iter().map(|kv| key_value(decode, kv)).collect()
}

#[derive(Serialize)]
pub(super) struct Put<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<Kv<'a>>,
}

pub(super) fn put(decode: Decode, answer: &PutResponse) -> Put<'_> {
    let prev_kv = answer.prev_kv.as_ref().map(|kv| key_value(decode, kv));
    Put { header: header(&answer.header), prev_kv }
}

#[derive(Serialize)]
pub(super) struct Range<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kvs: Vec<Kv<'a>>,
    #[serde(skip_serializing_if = "is_default")]
    more: bool,
    #[serde(skip_serializing_if = "is_default")]
    count: i64,
}

pub(super) fn range(decode: Decode, answer: &RangeResponse) -> Range<'_> {
    let kvs = key_values(decode, &answer.kvs);
    Range { header: header(&answer.header), kvs, more: answer.more, count: answer.count }
}

#[derive(Serialize)]
pub(super) struct DeleteRange<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "is_default")]
    deleted: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<Kv<'a>>,
}

pub(super) fn delete_range(decode: Decode, answer: &DeleteRangeResponse) -> DeleteRange<'_> {
    let prev_kvs = key_values(decode, &answer.prev_kvs);
    DeleteRange { header: header(&answer.header), deleted: answer.deleted, prev_kvs }
}

#[derive(Serialize)]
pub(super) struct Txn<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "is_default")]
    succeeded: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<TxnItem<'a>>,
}

#[derive(Serialize)]
struct TxnItem<'a> {
    #[serde(rename = "Response")]
    response: Option<TxnResult<'a>>,
}

#[derive(Serialize)]
enum TxnResult<'a> {
    #[serde(rename = "response_range")]
    Range(Range<'a>),
    #[serde(rename = "response_put")]
    Put(Put<'a>),
    #[serde(rename = "response_delete_range")]
    DeleteRange(DeleteRange<'a>),
    #[serde(rename = "response_txn")]
    Txn(Txn<'a>),
}

pub(super) fn txn(decode: Decode, answer: &TxnResponse) -> Txn<'_> {
    let responses =
        answer.responses.iter().map(|one| TxnItem { response: one.response.as_ref().map(|r| result(decode, r)) });
    Txn { header: header(&answer.header), succeeded: answer.succeeded, responses: responses.collect() }
}

fn result(decode: Decode, response: &Response) -> TxnResult<'_> {
    match response {
        Response::ResponseRange(one) => TxnResult::Range(range(decode, one)),
        Response::ResponsePut(one) => TxnResult::Put(put(decode, one)),
        Response::ResponseDeleteRange(one) => TxnResult::DeleteRange(delete_range(decode, one)),
        Response::ResponseTxn(one) => TxnResult::Txn(txn(decode, one)),
    }
}

#[derive(Serialize)]
pub(super) struct Compact {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
}

pub(super) fn compact(answer: &CompactionResponse) -> Compact {
    Compact { header: header(&answer.header) }
}

#[derive(Serialize)]
pub(super) struct MemberRow<'a> {
    #[serde(rename = "ID", skip_serializing_if = "is_default")]
    id: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "peerURLs", skip_serializing_if = "<[String]>::is_empty")]
    peer_urls: &'a [String],
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "is_default")]
    is_learner: bool,
}

pub(super) fn member(member: &Member) -> MemberRow<'_> {
    MemberRow {
        id: member.id,
        name: &member.name,
        peer_urls: &member.peer_ur_ls,
        client_urls: &member.client_ur_ls,
        is_learner: member.is_learner,
    }
}

#[derive(Serialize)]
pub(super) struct MemberList<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberRow<'a>>,
}

pub(super) fn member_list(answer: &MemberListResponse) -> MemberList<'_> {
    MemberList { header: header(&answer.header), members: answer.members.iter().map(member).collect() }
}

/// etcdctl's `Endpoint` and the answer under its own name; `Name` and `Error` are ours.
#[derive(Serialize)]
pub(super) struct EndpointRow<'a> {
    #[serde(rename = "Endpoint")]
    endpoint: &'a str,
    #[serde(rename = "Name", skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "Status", skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(rename = "HashKV", skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    #[serde(rename = "Error", skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

fn endpoint_row<T>(row: &Row<T>) -> EndpointRow<'_> {
    EndpointRow {
        endpoint: &row.endpoint,
        name: &row.name,
        status: None,
        hash: None,
        error: row.answer.as_ref().err().map(String::as_str),
    }
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(rename = "dbSize", skip_serializing_if = "is_default")]
    db_size: i64,
    #[serde(skip_serializing_if = "is_default")]
    leader: u64,
    #[serde(rename = "raftIndex", skip_serializing_if = "is_default")]
    raft_index: u64,
    #[serde(rename = "raftTerm", skip_serializing_if = "is_default")]
    raft_term: u64,
    #[serde(rename = "raftAppliedIndex", skip_serializing_if = "is_default")]
    raft_applied_index: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
    #[serde(rename = "dbSizeInUse", skip_serializing_if = "is_default")]
    db_size_in_use: i64,
    #[serde(rename = "isLearner", skip_serializing_if = "is_default")]
    is_learner: bool,
}

pub(super) fn status(row: &Row<StatusResponse>) -> EndpointRow<'_> {
    let status = row.answer.as_ref().ok().map(|answer| Status {
        header: header(&answer.header),
        version: &answer.version,
        db_size: answer.db_size,
        leader: answer.leader,
        raft_index: answer.raft_index,
        raft_term: answer.raft_term,
        raft_applied_index: answer.raft_applied_index,
        errors: &answer.errors,
        db_size_in_use: answer.db_size_in_use,
        is_learner: answer.is_learner,
    });
    EndpointRow { status, ..endpoint_row(row) }
}

#[derive(Serialize)]
struct Hash {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "is_default")]
    hash: u32,
    #[serde(skip_serializing_if = "is_default")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    hash_revision: i64,
}

pub(super) fn hash(row: &Row<HashKvResponse>) -> EndpointRow<'_> {
    let hash = row.answer.as_ref().ok().map(|answer| Hash {
        header: header(&answer.header),
        hash: answer.hash,
        compact_revision: answer.compact_revision,
        hash_revision: answer.hash_revision,
    });
    EndpointRow { hash, ..endpoint_row(row) }
}

#[derive(Serialize)]
pub(super) struct Health<'a> {
    endpoint: &'a str,
    health: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    took: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

pub(super) fn health(row: &Row<Healthy>) -> Health<'_> {
    Health {
        endpoint: &row.endpoint,
        health: row.answer.is_ok(),
        took: row.answer.as_ref().ok().map(|healthy| took(healthy.took)),
        error: row.answer.as_ref().err().map(String::as_str),
    }
}

/// `bench` is ours alone; every number is there, 0 too.
#[derive(Serialize)]
pub(super) struct Bench<'a> {
    workload: &'static str,
    #[serde(skip_serializing_if = "is_default")]
    serializable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    puts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scan_keys: Option<u64>,
    /// Of a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<usize>,
    /// Of an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_rate: Option<u32>,
    endpoints: usize,
    connections: usize,
    keys: u64,
    value_size: usize,
    operations: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<&'a str>,
    seconds: f64,
    rate: f64,
    latency_ms: LatencyMs,
    generator_cpu_us: f64,
    generator_core: f64,
    generator_is_the_limit: bool,
    histogram: Vec<Bucket>,
}

#[derive(Serialize)]
struct LatencyMs {
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

#[derive(Serialize)]
struct Bucket {
    up_to_ms: f64,
    count: u64,
}

/// Three digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

pub(super) fn bench(report: &Report) -> Bench<'_> {
    let at = &report.latency;
    let buckets = report.buckets.iter();
    Bench {
        workload: report.name(),
        serializable: report.kind == Kind::Get { serializable: true },
        puts: if let Kind::Txn { puts } = report.kind { Some(puts) } else { None },
        scan_keys: if let Kind::Scan { keys } = report.kind { Some(keys) } else { None },
        clients: report.asked_rate.is_none().then_some(report.clients),
        asked_rate: report.asked_rate,
        endpoints: report.endpoints,
        connections: report.connections,
        keys: report.keys,
        value_size: report.value_size,
        operations: report.operations,
        errors: report.errors,
        first_error: report.first_error.as_deref(),
        seconds: rounded(report.seconds),
        rate: rounded(report.rate),
        latency_ms: LatencyMs {
            p50: rounded(at.p50),
            p90: rounded(at.p90),
            p99: rounded(at.p99),
            p999: rounded(at.p999),
            max: rounded(at.max),
        },
        generator_cpu_us: rounded(report.cpu_us),
        generator_core: rounded(report.core),
        generator_is_the_limit: report.is_bounded_by_itself(),
        histogram: buckets
            .map(|bucket| Bucket { up_to_ms: rounded(bucket.up_to.as_secs_f64() * 1000.0), count: bucket.count })
            .collect(),
    }
}
