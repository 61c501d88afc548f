//! What is printed, in four forms. Every function appends to a buffer; writing it out is the program's last act.
//!
//! The forms: `simple` is etcdctl's, line by line; `json` is etcdctl's, field by field; `jsonl` has the same objects, one
//! a line; `table` is for people. A form that a command has no use for falls back to `simple`.

mod json;
mod simple;
mod table;
mod text;

use flaredb_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, MemberListResponse, PutResponse, RangeResponse,
    StatusResponse, TxnResponse,
};

use crate::cli::{Decode, WriteOut};
use crate::commands::bench::Report;
use crate::commands::cluster::Row;
use crate::commands::health::Healthy;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Which form.
    pub write_out: WriteOut,
    /// Keys and values in JSON.
    pub decode: Decode,
    /// Keys and values as escapes in simple and table.
    pub hex: bool,
}

/// What of the keys that were found is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Key, then value.
    KeysAndValues,
    /// Keys, one a line.
    Keys,
    /// Values, one a line.
    Values,
    /// How many.
    Count,
}

pub(crate) fn put(out: &mut Vec<u8>, format: &Format, answer: &PutResponse) {
    match format.write_out {
        WriteOut::Json | WriteOut::Jsonl => json::line(out, &json::put(format.decode, answer)),
        WriteOut::Simple | WriteOut::Table => simple::put(out, format.hex, answer),
    }
}

pub(crate) fn get(out: &mut Vec<u8>, format: &Format, parts: Parts, answer: &RangeResponse) {
    match format.write_out {
        WriteOut::Json => json::line(out, &json::range(format.decode, answer)),
        WriteOut::Jsonl if parts == Parts::Count => json::line(out, &json::range(format.decode, answer)),
        WriteOut::Jsonl => answer.kvs.iter().for_each(|kv| json::line(out, &json::key_value(format.decode, kv))),
        WriteOut::Table if matches!(parts, Parts::KeysAndValues | Parts::Keys) => table::get(out, format.hex, answer),
        WriteOut::Simple | WriteOut::Table => simple::get(out, format.hex, parts, answer),
    }
}

pub(crate) fn del(out: &mut Vec<u8>, format: &Format, answer: &DeleteRangeResponse) {
    match format.write_out {
        WriteOut::Json | WriteOut::Jsonl => json::line(out, &json::delete_range(format.decode, answer)),
        WriteOut::Simple | WriteOut::Table => simple::del(out, format.hex, answer),
    }
}

pub(crate) fn txn(out: &mut Vec<u8>, format: &Format, answer: &TxnResponse) {
    match format.write_out {
        WriteOut::Json | WriteOut::Jsonl => json::line(out, &json::txn(format.decode, answer)),
        WriteOut::Simple | WriteOut::Table => simple::txn(out, format.hex, answer),
    }
}

pub(crate) fn compact(out: &mut Vec<u8>, format: &Format, revision: i64, answer: &CompactionResponse) {
    match format.write_out {
        WriteOut::Json | WriteOut::Jsonl => json::line(out, &json::compact(answer)),
        WriteOut::Simple | WriteOut::Table => simple::compact(out, revision),
    }
}

pub(crate) fn member_list(out: &mut Vec<u8>, format: &Format, answer: &MemberListResponse) {
    match format.write_out {
        WriteOut::Json => json::line(out, &json::member_list(answer)),
        WriteOut::Jsonl => answer.members.iter().for_each(|member| json::line(out, &json::member(member))),
        WriteOut::Table => table::member_list(out, answer),
        WriteOut::Simple => simple::member_list(out, answer),
    }
}

pub(crate) fn status(out: &mut Vec<u8>, format: &Format, rows: &[Row<StatusResponse>]) {
    match format.write_out {
        WriteOut::Json => json::line(out, &rows.iter().map(json::status).collect::<Vec<_>>()),
        WriteOut::Jsonl => rows.iter().for_each(|row| json::line(out, &json::status(row))),
        WriteOut::Table => table::status(out, rows),
        WriteOut::Simple => simple::status(out, rows),
    }
}

pub(crate) fn hash(out: &mut Vec<u8>, format: &Format, rows: &[Row<HashKvResponse>]) {
    match format.write_out {
        WriteOut::Json => json::line(out, &rows.iter().map(json::hash).collect::<Vec<_>>()),
        WriteOut::Jsonl => rows.iter().for_each(|row| json::line(out, &json::hash(row))),
        WriteOut::Table => table::hash(out, rows),
        WriteOut::Simple => simple::hash(out, rows),
    }
}

pub(crate) fn health(out: &mut Vec<u8>, format: &Format, rows: &[Row<Healthy>]) {
    match format.write_out {
        WriteOut::Json => json::line(out, &rows.iter().map(json::health).collect::<Vec<_>>()),
        WriteOut::Jsonl => rows.iter().for_each(|row| json::line(out, &json::health(row))),
        WriteOut::Table => table::health(out, rows),
        WriteOut::Simple => simple::health(out, rows),
    }
}

pub(crate) fn bench(out: &mut Vec<u8>, format: &Format, report: &Report) {
    match format.write_out {
        WriteOut::Json | WriteOut::Jsonl => json::line(out, &json::bench(report)),
        WriteOut::Table => table::bench(out, report),
        WriteOut::Simple => simple::bench(out, report),
    }
}

#[cfg(test)]
mod tests;
