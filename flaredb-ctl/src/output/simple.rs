//! The form of etcdctl's default output, for people and for scripts that were written for etcdctl.

use flaredb_load::work::Kind;
use flaredb_proto::etcdserverpb::response_op::Response;
use flaredb_proto::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, MemberListResponse, PutResponse, RangeResponse, StatusResponse, TxnResponse,
};
use flaredb_proto::mvccpb::KeyValue;

use super::Parts;
use super::text::{hex_escapes, round_duration, size, took};
use crate::commands::bench::Report;
use crate::commands::cluster::Row;
use crate::commands::health::Healthy;

pub(super) fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

fn bytes_line(out: &mut Vec<u8>, hex: bool, bytes: &[u8]) {
    if hex {
        out.extend_from_slice(hex_escapes(bytes).as_bytes());
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'\n');
}

fn key_and_value(out: &mut Vec<u8>, hex: bool, kv: &KeyValue) {
    bytes_line(out, hex, &kv.key);
    bytes_line(out, hex, &kv.value);
}

pub(super) fn put(out: &mut Vec<u8>, hex: bool, answer: &PutResponse) {
    line(out, "OK");
    answer.prev_kv.iter().for_each(|kv| key_and_value(out, hex, kv));
}

pub(super) fn get(out: &mut Vec<u8>, hex: bool, parts: Parts, answer: &RangeResponse) {
    match parts {
        Parts::KeysAndValues => answer.kvs.iter().for_each(|kv| key_and_value(out, hex, kv)),
        Parts::Keys => answer.kvs.iter().for_each(|kv| bytes_line(out, hex, &kv.key)),
        Parts::Values => answer.kvs.iter().for_each(|kv| bytes_line(out, hex, &kv.value)),
        Parts::Count => line(out, &answer.count.to_string()),
    }
}

pub(super) fn del(out: &mut Vec<u8>, hex: bool, answer: &DeleteRangeResponse) {
    line(out, &answer.deleted.to_string());
    answer.prev_kvs.iter().for_each(|kv| key_and_value(out, hex, kv));
}

pub(super) fn txn(out: &mut Vec<u8>, hex: bool, answer: &TxnResponse) {
    line(out, if answer.succeeded { "SUCCESS" } else { "FAILURE" });
    for response in &answer.responses {
        line(out, "");
        match &response.response {
            Some(Response::ResponseRange(range)) => get(out, hex, Parts::KeysAndValues, range),
            Some(Response::ResponsePut(one)) => put(out, hex, one),
            Some(Response::ResponseDeleteRange(range)) => del(out, hex, range),
            Some(Response::ResponseTxn(nested)) => txn(out, hex, nested),
            None => {}
        }
    }
}

pub(super) fn compact(out: &mut Vec<u8>, revision: i64) {
    line(out, &format!("compacted revision {revision}"));
}

pub(super) fn member_list(out: &mut Vec<u8>, answer: &MemberListResponse) {
    for member in &answer.members {
        let started = if member.name.is_empty() { "unstarted" } else { "started" };
        let fields = [
            format!("{:x}", member.id),
            started.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ];
        line(out, &fields.join(", "));
    }
}

pub(super) fn status(out: &mut Vec<u8>, rows: &[Row<StatusResponse>]) {
    for row in rows {
        match &row.answer {
            Ok(status) => {
                let fields = [
                    row.endpoint.clone(),
                    format!("{:x}", row.id),
                    status.version.clone(),
                    size(status.db_size),
                    (status.leader != 0 && status.leader == row.id).to_string(),
                    status.is_learner.to_string(),
                    status.raft_term.to_string(),
                    status.raft_index.to_string(),
                    status.raft_applied_index.to_string(),
                    status.errors.join(", "),
                ];
                line(out, &fields.join(", "));
            }
            Err(cause) => line(out, &unreachable(row, cause)),
        }
    }
}

pub(super) fn hash(out: &mut Vec<u8>, rows: &[Row<HashKvResponse>]) {
    for row in rows {
        match &row.answer {
            Ok(answer) => line(out, &format!("{}, {}", row.endpoint, answer.hash)),
            Err(cause) => line(out, &unreachable(row, cause)),
        }
    }
}

pub(super) fn health(out: &mut Vec<u8>, rows: &[Row<Healthy>]) {
    for row in rows {
        match &row.answer {
            Ok(healthy) => line(
                out,
                &format!("{} is healthy: served a linearizable read: took = {}", row.endpoint, took(healthy.took)),
            ),
            Err(cause) => line(out, &format!("{} is unhealthy: {cause}", who(row))),
        }
    }
}

fn unreachable<T>(row: &Row<T>, cause: &str) -> String {
    format!("{}, unreachable: {cause}", who(row))
}

/// A member whose client URL is not known has only its name or id.
fn who<T>(row: &Row<T>) -> String {
    match (row.endpoint.as_str(), row.name.as_str()) {
        ("", "") => format!("{:x}", row.id),
        ("", name) => name.to_owned(),
        (endpoint, _) => endpoint.to_owned(),
    }
}

/// Characters of the longest bar of a histogram.
const BAR: u64 = 50;

pub(super) fn bench(out: &mut Vec<u8>, report: &Report) {
    line(out, &what_was_asked(report));
    line(out, &format!("  operations  {} in {:.2} s", report.operations, report.seconds));
    line(out, &format!("  errors      {}", errors(report)));
    let asked = report.asked_rate.map_or(String::new(), |asked| format!(" of {asked} asked for"));
    line(out, &format!("  rate        {:.1} op/s{asked}", report.rate));
    let at = &report.latency;
    let latency =
        [("p50", at.p50), ("p90", at.p90), ("p99", at.p99), ("p99.9", at.p999), ("max", at.max)].map(|(name, ms)| {
            // Three digits after the point are microseconds.
            format!("{name} {ms:.3}")
        });
    line(out, &format!("  latency ms  {}", latency.join("  ")));
    let generator = format!("{:.1} µs of CPU an operation, {:.0} % of a core", report.cpu_us, report.core * 100.0);
    line(out, &format!("  generator   {generator}"));
    warning(out, report);
    line(out, "");
    line(out, "latency up to       calls");
    let most = report.buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    for bucket in &report.buckets {
        // Rounded up, so that one call among a million is seen.
        let bar = "#".repeat(usize::try_from(bucket.count.saturating_mul(BAR).div_ceil(most)).unwrap_or(0));
        let row = format!("{:>13}  {:>10}  {bar}", round_duration(bucket.up_to), bucket.count);
        line(out, row.trim_end());
    }
}

/// Rates say nothing about a server that has waited for its client.
pub(super) fn warning(out: &mut Vec<u8>, report: &Report) {
    if report.is_bounded_by_itself() {
        let core = report.core * 100.0;
        line(
            out,
            &format!("warning: the generator used {core:.0} % of a core: it is the limit, the servers may be faster"),
        );
    }
}

/// How many, and the first one's text.
fn errors(report: &Report) -> String {
    match &report.first_error {
        Some(first) => format!("{}, the first: {first}", report.errors),
        None => report.errors.to_string(),
    }
}

fn what_was_asked(report: &Report) -> String {
    let what = match report.kind {
        Kind::Txn { puts } => format!("txn of {puts} puts"),
        Kind::Scan { keys } => format!("scan of {keys} keys"),
        Kind::Get { serializable: true } => "get, serializable".to_owned(),
        _ => report.name().to_owned(),
    };
    let who = match report.asked_rate {
        Some(rate) => format!("{rate} calls a second"),
        None => counted(report.clients, "client"),
    };
    let endpoints = counted(report.endpoints, "endpoint");
    let connections = counted(report.connections, "connection");
    let keys = if report.kind == Kind::Cas { String::new() } else { format!("{} keys, ", report.keys) };
    format!("{what}: {who}, {endpoints}, {connections} to each, {keys}values of {} B", report.value_size)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
