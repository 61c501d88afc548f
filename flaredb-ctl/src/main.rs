//! The binary `flarectl`. Where things are:
//!
//! - `cli.rs`: what can be typed: commands, flags, help texts
//! - `commands/`: one file a command: request out, answer in
//! - `txn_parser.rs`: the transaction language of stdin and of `txn … --then … --else …`
//! - `key_range.rs`, `values.rs`: keys, prefixes, durations, lease ids, as typed
//! - `client.rs`: endpoints, connecting, which failure may be tried elsewhere
//! - `diagnosis.rs`: the first cause behind a failed call, in words
//! - `error.rs`: what can go wrong, by exit code
//! - `output/`: simple (as etcdctl), json, jsonl, table

use std::process::ExitCode;

fn main() -> ExitCode {
    flaredb_ctl::run(std::env::args_os())
}
