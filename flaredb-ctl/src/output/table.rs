//! Tables, for people.

use comfy_table::Table;
use comfy_table::presets::ASCII_FULL_CONDENSED;
use flaredb_proto::etcdserverpb::{HashKvResponse, MemberListResponse, RangeResponse, StatusResponse};

use super::simple::{line, warning};
use super::text::{hex_escapes, printable, short_cause, size, took};
use crate::commands::bench::Report;
use crate::commands::cluster::Row;
use crate::commands::health::Healthy;

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_FULL_CONDENSED).set_header(columns);
    table
}

pub(super) fn get(out: &mut Vec<u8>, hex: bool, answer: &RangeResponse) {
    let text = if hex { hex_escapes } else { printable };
    let mut table = table(&["KEY", "VALUE", "CREATED AT", "CHANGED AT", "VERSION", "LEASE"]);
    for kv in &answer.kvs {
        let lease = if kv.lease == 0 { String::new() } else { format!("{:x}", kv.lease) };
        table.add_row([
            text(&kv.key),
            text(&kv.value),
            kv.create_revision.to_string(),
            kv.mod_revision.to_string(),
            kv.version.to_string(),
            lease,
        ]);
    }
    line(out, &table.to_string());
}

pub(super) fn member_list(out: &mut Vec<u8>, answer: &MemberListResponse) {
    let mut table = table(&["ID", "STATUS", "NAME", "PEER URLS", "CLIENT URLS", "LEARNER"]);
    for member in &answer.members {
        table.add_row([
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]);
    }
    line(out, &table.to_string());
}

/// `lag` is what a member has yet to apply of the newest log index that any member knows.
pub(super) fn status(out: &mut Vec<u8>, rows: &[Row<StatusResponse>]) {
    let newest = rows.iter().filter_map(|row| Some(row.answer.as_ref().ok()?.raft_index)).max().unwrap_or(0);
    let columns =
        ["MEMBER", "ID", "ENDPOINT", "ROLE", "TERM", "COMMIT", "APPLIED", "LAG", "DB SIZE", "VERSION", "ERRORS"];
    let mut table = table(&columns);
    for row in rows {
        let id = if row.id == 0 { String::new() } else { format!("{:x}", row.id) };
        let mut cells = vec![row.name.clone(), id, row.endpoint.clone()];
        match &row.answer {
            Ok(status) => cells.extend([
                role(row.id, status).to_owned(),
                status.raft_term.to_string(),
                status.raft_index.to_string(),
                status.raft_applied_index.to_string(),
                newest.saturating_sub(status.raft_applied_index).to_string(),
                size(status.db_size),
                status.version.clone(),
                status.errors.join(", "),
            ]),
            Err(cause) => {
                cells.push("unreachable".to_owned());
                cells.extend(std::iter::repeat_n(String::new(), 6));
                cells.push(short_cause(cause).to_owned());
            }
        }
        table.add_row(cells);
    }
    line(out, &table.to_string());
}

fn role(id: u64, status: &StatusResponse) -> &'static str {
    if status.is_learner {
        "learner"
    } else if status.leader != 0 && status.leader == id {
        "leader"
    } else {
        "follower"
    }
}

pub(super) fn hash(out: &mut Vec<u8>, rows: &[Row<HashKvResponse>]) {
    let mut table = table(&["MEMBER", "ENDPOINT", "HASH", "REVISION", "COMPACTED", "ERRORS"]);
    for row in rows {
        let mut cells = vec![row.name.clone(), row.endpoint.clone()];
        match &row.answer {
            Ok(answer) => cells.extend([
                answer.hash.to_string(),
                answer.hash_revision.to_string(),
                answer.compact_revision.to_string(),
                String::new(),
            ]),
            Err(cause) => cells.extend([String::new(), String::new(), String::new(), short_cause(cause).to_owned()]),
        }
        table.add_row(cells);
    }
    line(out, &table.to_string());
}

pub(super) fn health(out: &mut Vec<u8>, rows: &[Row<Healthy>]) {
    let mut table = table(&["MEMBER", "ENDPOINT", "HEALTHY", "TOOK", "ERRORS"]);
    for row in rows {
        let (healthy, time, cause) = match &row.answer {
            Ok(healthy) => ("true", took(healthy.took), String::new()),
            Err(cause) => ("false", String::new(), short_cause(cause).to_owned()),
        };
        table.add_row([row.name.clone(), row.endpoint.clone(), healthy.to_owned(), time, cause]);
    }
    line(out, &table.to_string());
}

pub(super) fn bench(out: &mut Vec<u8>, report: &Report) {
    let columns = [
        "WORKLOAD",
        "OPERATIONS",
        "ERRORS",
        "OP/S",
        "P50 MS",
        "P90 MS",
        "P99 MS",
        "P99.9 MS",
        "MAX MS",
        "OWN CPU µS/OP",
    ];
    let mut table = table(&columns);
    let at = &report.latency;
    let mut cells = vec![
        report.name().to_owned(),
        report.operations.to_string(),
        report.errors.to_string(),
        format!("{:.1}", report.rate),
    ];
    cells.extend([at.p50, at.p90, at.p99, at.p999, at.max].map(|ms| format!("{ms:.3}")));
    cells.push(format!("{:.1}", report.cpu_us));
    table.add_row(cells);
    line(out, &table.to_string());
    if let Some(first) = &report.first_error {
        line(out, &format!("first error: {first}"));
    }
    warning(out, report);
}
