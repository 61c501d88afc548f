//! The results as Markdown tables, aligned so that they can be read as they are.

use crate::cells::Measure;
use crate::results::{CellResult, Comparison, GrowthStep, Leg, References, Results, Spread};
use std::fmt::Write;

/// A table; numbers are aligned to the right from the second column on.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for (cell, width) in rows.iter().flat_map(|row| row.iter().zip(0..)) {
        widths[width] = widths[width].max(cell.chars().count());
    }
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (place, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            line += &if place == 0 { format!("| {cell}{gap} ") } else { format!("| {gap}{cell} ") };
        }
        line + "|\n"
    };
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = line(&head);
    for (place, width) in widths.iter().enumerate() {
        text +=
            &if place == 0 { format!("|{}", "-".repeat(width + 2)) } else { format!("|{}:", "-".repeat(width + 1)) };
    }
    text += "|\n";
    rows.iter().for_each(|row| text += &line(row));
    text
}

/// Three significant digits, thousands with commas.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        size if size >= 1000.0 => {
            let whole = format!("{value:.0}");
            let mut text = String::new();
            for (place, digit) in whole.chars().enumerate() {
                if place > 0 && (whole.len() - place) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), digits)
}

fn comparison(comparison: &Comparison) -> Vec<String> {
    let sign = if comparison.measure.more_is_better() { "≥" } else { "≤" };
    let range = comparison.ratio_range.map_or_else(String::new, |(low, high)| format!("{low:.2}-{high:.2}"));
    let bound = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{sign} {value:.2}"));
    vec![
        format!("{}: {}", comparison.title, comparison.measure.title()),
        digits(comparison.flaredb),
        optional(comparison.other),
        optional(comparison.ratio),
        range,
        bound(comparison.goal.map(|goal| goal.must)),
        bound(comparison.goal.map(|goal| goal.aim).filter(|aim| *aim > 0.0)),
        comparison.note.clone().unwrap_or_else(|| comparison.verdict.word().to_owned()),
    ]
}

/// A figure, and in brackets what factor of the first one it is.
fn grown(value: f64, first: f64) -> String {
    if first > 0.0 { format!("{} ({:.2})", digits(value), value / first) } else { digits(value) }
}

/// What a system did with more and more keys.
fn growth(steps: &[GrowthStep]) -> Vec<Vec<String>> {
    let mebibytes = |bytes: u64| digits(bytes as f64 / 1_048_576.0);
    let row = |step: &GrowthStep| {
        let first = steps.iter().find(|first| first.system == step.system).unwrap_or(step);
        // Only RocksDB's threads are known by name.
        let background = |leg: &Leg| match step.system {
            "FlareDB" => format!("{} + {}", digits(leg.flush_cpu_us), digits(leg.merge_cpu_us)),
            _ => "-".to_owned(),
        };
        vec![
            format!("{}, {} keys", step.system, digits(step.keys as f64)),
            grown(step.put.server_cpu_us, first.put.server_cpu_us),
            background(&step.put),
            grown(step.get.server_cpu_us, first.get.server_cpu_us),
            background(&step.get),
            digits(step.put.rate),
            digits(step.get.rate),
            digits(step.growing_rate),
            mebibytes(step.memory.resident),
            mebibytes(step.memory.peak),
        ]
    };
    steps.iter().map(row).collect()
}

/// Another program's figures: a column for each system.
fn lines(cell: &CellResult) -> String {
    let mut systems: Vec<&str> = Vec::new();
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for line in &cell.lines {
        if !systems.contains(&line.system.as_str()) {
            systems.push(&line.system);
        }
    }
    for line in &cell.lines {
        let title = format!("{}: {}", line.case, line.measure);
        let place = rows.iter().position(|(of, _)| *of == title).unwrap_or_else(|| {
            rows.push((title, vec!["-".to_owned(); systems.len()]));
            rows.len() - 1
        });
        let column = systems.iter().position(|system| *system == line.system).unwrap_or(0);
        if let Ok(value) = line.value {
            rows[place].1[column] = digits(value);
        }
    }
    let head: Vec<&str> = std::iter::once(cell.title).chain(systems).collect();
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(title, cells)| std::iter::once(title).chain(cells).collect()).collect();
    table(&head, &rows)
}

fn leg(title: &str, leg: &Leg) -> Vec<String> {
    let notes = [
        (leg.client_core > 0.9, "generator at its limit".to_owned()),
        (leg.without_flush, "ACKNOWLEDGED WITHOUT A FLUSH".to_owned()),
        (leg.errors > 0, format!("{} errors", leg.errors)),
    ];
    let notes: Vec<String> = notes.into_iter().filter(|(is, _)| *is).map(|(_, note)| note).collect();
    vec![
        title.to_owned(),
        leg.system.to_owned(),
        digits(leg.rate),
        digits(leg.p50_ms),
        digits(leg.p99_ms),
        digits(leg.p999_ms),
        digits(leg.server_cpu_us),
        digits(leg.client_cpu_us),
        digits(leg.dirtied_bytes),
        optional(leg.disk_bytes),
        leg.flushes.map_or_else(|| "-".to_owned(), |flushes| format!("{flushes:.3}")),
        format!("{:.2}", leg.switches),
        digits(leg.memory.peak as f64 / 1_048_576.0),
        notes.join(", "),
    ]
}

fn references(results: &Results) -> String {
    let of = |take: fn(&References) -> Spread| -> Vec<String> {
        let spreads = results.references.iter().map(take);
        spreads.map(|spread| format!("{:.0} / {:.0}", spread.p50, spread.p99)).collect()
    };
    let rows = [
        ("write + fdatasync of 4 KiB, prefilled file", of(|r| r.sync_prefilled)),
        ("the same, growing file", of(|r| r.sync_growing)),
        ("the same, prefilled, three files at once", of(|r| r.sync_prefilled_three)),
        ("the same, growing, three files at once", of(|r| r.sync_growing_three)),
        ("ping-pong of 300 B over loopback", of(|r| r.ping_pong)),
    ];
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(title, mut cells)| {
            cells.resize(2, String::new());
            cells.insert(0, title.to_owned());
            cells
        })
        .collect();
    table(&["Reference, p50 / p99 in µs", "before", "after"], &rows)
}

/// Everything, as Markdown.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let machine = &results.machine;
    let gib = machine.memory_bytes as f64 / (1u64 << 30) as f64;
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "{}, {} cores, {gib:.0} GiB, Linux {}, disk {}; load average before: {}",
        machine.cpu, machine.cores, machine.kernel, machine.disk, machine.load_before
    );
    for system in &results.systems {
        let _ = writeln!(text, "{}: {}", system.name, system.version);
    }
    let _ = writeln!(text, "command: {}", results.command);
    if results.quick {
        text += "A quick run: too short to be quoted.\n";
    }
    let rows: Vec<Vec<String>> = results.cells.iter().flat_map(|cell| &cell.comparisons).map(comparison).collect();
    if !rows.is_empty() {
        let head = ["Cell", "FlareDB", "etcd", "Ratio", "of pairs", "Must", "Aim", ""];
        text += &format!("\n{}", table(&head, &rows));
        if results.cells.iter().any(|cell| cell.comparisons.iter().any(|c| c.measure == Measure::Growth)) {
            text += "\nRows of growth compare a system with itself: their third column is its figure with few keys.\n";
        }
        if results.cells.iter().any(|cell| matches!(cell.name, "core" | "log")) {
            text += "\nRows of the core and of the log: the third column is the figure of whom the row names.\n";
        }
    }
    let rows: Vec<Vec<String>> = results.cells.iter().flat_map(|cell| growth(&cell.steps)).collect();
    if !rows.is_empty() {
        let head = [
            "Growth",
            "CPU µs/put",
            "flushes + merges",
            "CPU µs/get",
            "flushes + merges",
            "put/s",
            "get/s",
            "puts/s on the way",
            "resident MiB",
            "peak MiB",
        ];
        text += &format!("\n{}", table(&head, &rows));
        text += "\nIn brackets as a factor of the figure with few keys. Flushes + merges: what of that CPU RocksDB's threads used in the \
                 measured seconds.\n";
    }
    for cell in results.cells.iter().filter(|cell| !cell.lines.is_empty()) {
        text += &format!("\n{}", lines(cell));
    }
    let rows: Vec<Vec<String>> =
        results.cells.iter().flat_map(|cell| cell.legs.iter().map(|one| leg(cell.name, one))).collect();
    if !rows.is_empty() {
        let head = [
            "Turn",
            "System",
            "op/s",
            "p50 ms",
            "p99",
            "p99.9",
            "server µs/op",
            "client µs/op",
            "dirtied B/op",
            "disk B/op",
            "flushes/op",
            "switches/op",
            "peak MiB",
            "",
        ];
        text += &format!("\n{}", table(&head, &rows));
    }
    let rows: Vec<Vec<String>> = results
        .cells
        .iter()
        .flat_map(|cell| &cell.figures)
        .map(|figure| {
            let all: Vec<String> = figure.all.iter().map(|value| digits(*value)).collect();
            vec![
                format!("{}: {}", figure.system, figure.what),
                digits(figure.value),
                figure.unit.to_owned(),
                all.join(" "),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text += &format!("\n{}", table(&["Figure", "median", "unit", "all"], &rows));
    }
    text += &format!("\n{}", references(results));
    if let Some(first) = results.references.first() {
        let others = |count: Option<u64>| optional(count.map(|count| count as f64));
        let (flushes, bytes) = (others(first.flushes_idle), others(first.written_idle));
        let each = optional(first.flushes_per_sync);
        let _ = writeln!(
            text,
            "\nThe disk: {flushes} flushes and {bytes} bytes a second by others; {each} flushes for each sync of one growing file."
        );
    }
    for cell in &results.cells {
        if let Some(failure) = &cell.failure {
            let _ = writeln!(text, "\nNot measured: {}: {failure}", cell.title);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::Goal;
    use crate::results::Line;

    #[test]
    fn numbers_as_people_read_them() {
        let texts: Vec<String> = [0.123, 12.34, 123.4, 1234.5, 1234567.0, f64::NAN].into_iter().map(digits).collect();
        assert_eq!(texts, ["0.12", "12.3", "123", "1,234", "1,234,567", "-"]);
    }

    #[test]
    fn a_row_that_was_not_measured_says_why_and_what_it_had_to_reach() {
        let goal = Some(Goal { measure: Measure::EntryTime, must: 0.25, aim: 0.125 });
        let row = Comparison::missing("core".to_owned(), Measure::EntryTime, goal, "no protoc".to_owned());
        assert_eq!(
            comparison(&row),
            ["core: ns/entry", "-", "-", "-", "", "≤ 0.25", "≤ 0.12", "not measured: no protoc"]
        );
    }

    #[test]
    fn each_step_of_a_growth_stands_beside_its_own_system_s_first() {
        let step = |system, keys, put: f64, merges: f64| GrowthStep {
            system,
            keys,
            put: Leg { server_cpu_us: put, flush_cpu_us: 2.0, merge_cpu_us: merges, ..Leg::default() },
            ..GrowthStep::default()
        };
        let rows = growth(&[
            step("etcd", 10_000, 200.0, 0.0),
            step("FlareDB", 10_000, 50.0, 0.0),
            step("FlareDB", 30_000, 100.0, 30.0),
        ]);
        let seen: Vec<&[String]> = rows.iter().map(|row| &row[..3]).collect();
        assert_eq!(
            seen,
            [
                ["etcd, 10,000 keys", "200 (1.00)", "-"],
                ["FlareDB, 10,000 keys", "50.0 (1.00)", "2.00 + 0.00"],
                ["FlareDB, 30,000 keys", "100 (2.00)", "2.00 + 30.0"],
            ]
        );
    }

    #[test]
    fn a_column_for_each_system_of_another_program() {
        let line = |case: &str, system: &str, value: std::result::Result<f64, String>| Line {
            measure: "ns".to_owned(),
            case: case.to_owned(),
            system: system.to_owned(),
            value,
        };
        let cell = CellResult {
            title: "core",
            lines: vec![line("1", "a", Ok(5.0)), line("1", "b", Err("gone".to_owned())), line("2", "b", Ok(7.0))],
            ..CellResult::default()
        };
        let text = lines(&cell);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(rows[0], ["", "core", "a", "b", ""]);
        assert_eq!(rows[2], ["", "1: ns", "5.00", "-", ""]);
        assert_eq!(rows[3], ["", "2: ns", "-", "7.00", ""]);
    }
}
