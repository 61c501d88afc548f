//! `flaredb inspect log`: the entries, one a line, as they are read.

use super::{Failure, Verdict};
use flaredb_raft::RaftLogEntry;
use flaredb_replica::{Description, describe};
use flaredb_storage::Inspection;
use serde_json::json;
use std::{io, ops::RangeInclusive, path::Path};

pub(super) fn run(
    data_dir: &Path,
    range: RangeInclusive<u64>,
    json: bool,
    out: &mut dyn io::Write,
) -> Result<Verdict, Failure> {
    let inspection = Inspection::open(data_dir)?;
    let mut verdict = Verdict::Sound;
    let mut written = if json {
        Ok(())
    } else {
        writeln!(out, "{:>10} {:>6} {:<10} {:>9}  {:<30} KEY", "INDEX", "TERM", "KIND", "BYTES", "ORIGIN")
    };
    inspection.entries(&range, &mut |index, entry| {
        if written.is_err() {
            return;
        }
        written = match entry {
            Ok(entry) if json => writeln!(out, "{}", document(&entry)),
            Ok(entry) => writeln!(out, "{}", line(&entry)),
            Err(fault) => {
                verdict = Verdict::Damaged;
                if json {
                    writeln!(out, "{}", json!({"index": index, "damaged": fault}))
                } else {
                    writeln!(out, "{index:>10} damaged: raft_log {index} {fault}")
                }
            }
        };
    })?;
    written?;
    Ok(verdict)
}

fn line(entry: &RaftLogEntry) -> String {
    let Description { kind, origin, key, detail } = describe(entry);
    let origin = origin
        .map_or_else(|| "-".to_owned(), |(node, incarnation, attempt)| format!("{node:x}/{incarnation}/{attempt}"));
    let key = key.map(|key| printable(&key)).unwrap_or_default();
    let told = [key, detail].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("  ");
    format!("{:>10} {:>6} {kind:<10} {:>9}  {origin:<30} {told}", entry.index, entry.term, entry.command.len())
        .trim_end()
        .to_owned()
}

fn document(entry: &RaftLogEntry) -> serde_json::Value {
    let Description { kind, origin, key, detail } = describe(entry);
    json!({
        "index": entry.index,
        "term": entry.term,
        "kind": kind,
        "bytes": entry.command.len(),
        "origin": origin.map(|(node, incarnation, attempt)| json!({
            "node": format!("{node:016x}"), "incarnation": incarnation, "attempt": attempt,
        })),
        "key": key.map(|key| printable(&key)),
        "detail": detail,
    })
}

/// Printable ASCII as it is, everything else as `\xNN`.
fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
