//! `flaredb inspect integrity`: a table of what was checked.

use super::{Failure, Verdict};
use comfy_table::{Table, presets};
use flaredb_storage::{Finding, Inspection};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::{io, path::Path};

pub(super) fn run(data_dir: &Path, json: bool, out: &mut dyn io::Write) -> Result<Verdict, Failure> {
    let inspection = Inspection::open(data_dir)?;
    let mut bar = Bar::default();
    let findings = inspection.check(&mut |what, rows, expected| bar.at(what, rows, expected));
    bar.end();
    let findings = findings?;
    if json {
        writeln!(out, "{}", document(&findings))?;
    } else {
        writeln!(out, "{}", table(&findings))?;
        for finding in findings.iter().filter(|finding| !finding.ok) {
            writeln!(out, "\n{}: {}\n  {}", finding.check, finding.found, finding.advice)?;
        }
    }
    let sound = findings.iter().all(|finding| finding.ok);
    Ok(if sound { Verdict::Sound } else { Verdict::Damaged })
}

fn document(findings: &[Finding]) -> serde_json::Value {
    let checks: Vec<_> = findings
        .iter()
        .map(|finding| json!({"check": finding.check, "ok": finding.ok, "found": finding.found, "advice": finding.advice}))
        .collect();
    json!({"ok": findings.iter().all(|finding| finding.ok), "checks": checks})
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["CHECK", "", "FOUND"]);
    for finding in findings {
        // What is wrong is said in full below the table.
        let found = if finding.ok { finding.found.as_str() } else { "see below" };
        table.add_row([finding.check, if finding.ok { "ok" } else { "BAD" }, found]);
    }
    table.to_string()
}

/// On a terminal only, and on standard error; indicatif sees to both.
#[derive(Default)]
struct Bar {
    bar: Option<(&'static str, ProgressBar)>,
}

impl Bar {
    fn at(&mut self, what: &'static str, rows: u64, expected: Option<u64>) {
        let bar = match &self.bar {
            Some((shown, bar)) if *shown == what => bar.clone(),
            _ => {
                self.end();
                let bar = ProgressBar::new(expected.unwrap_or(0)).with_message(what);
                if let Ok(style) =
                    ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of about {human_len} rows, {eta}")
                {
                    bar.set_style(style);
                }
                self.bar = Some((what, bar.clone()));
                bar
            }
        };
        bar.set_position(rows);
    }

    fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
