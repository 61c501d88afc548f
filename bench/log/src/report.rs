//! What was measured, as a table for people or as lines for a program. It measures nothing.

use crate::{BARE, Size, Took};
use std::fmt::Write as _;
use std::time::Duration;

/// One system's times, in microseconds.
pub(crate) struct Row {
    name: &'static str,
    p50: f64,
    p90: f64,
    p99: f64,
    cpu: f64,
}

/// The value below which so much of the values is.
fn at(sorted: &[Duration], part: f64) -> f64 {
    let place = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(f64::NAN, |value| value.as_secs_f64() * 1e6)
}

pub(crate) fn rows(names: &[&'static str], took: Vec<Vec<Took>>) -> Vec<Row> {
    let row = |(name, took): (&&'static str, Vec<Took>)| {
        let (mut wall, mut cpu): (Vec<Duration>, Vec<Duration>) =
            took.into_iter().map(|took| (took.wall, took.cpu)).unzip();
        wall.sort_unstable();
        cpu.sort_unstable();
        Row { name, p50: at(&wall, 0.5), p90: at(&wall, 0.9), p99: at(&wall, 0.99), cpu: at(&cpu, 0.5) }
    };
    names.iter().zip(took).map(row).collect()
}

pub(crate) fn table(size: Size, rounds: usize, rows: &[Row]) -> String {
    let bare = rows.iter().find(|row| row.name == BARE).map_or(f64::NAN, |row| row.p50);
    let head = format!("{} x {} B, {rounds} times", size.entries, size.entry_bytes);
    let (wall, ratio, cpu) = (["p50 µs", "p90 µs", "p99 µs"], "p50 / bare", "CPU p50 µs");
    let [p50, p90, p99] = wall;
    let mut text = format!("\n{head:<30} {p50:>9} {p90:>9} {p99:>9} {ratio:>11} {cpu:>11}\n");
    for Row { name, p50, p90, p99, cpu } in rows {
        // Writing into a string cannot fail, here and below.
        let _ = writeln!(text, "{name:<30} {p50:>9.0} {p90:>9.0} {p99:>9.0} {:>11.2} {cpu:>11.1}", p50 / bare);
    }
    text
}

/// `measure TAB case TAB system TAB figure`.
pub(crate) fn tsv(size: Size, rows: &[Row]) -> String {
    let mut text = String::new();
    let case = format!("{} × {} B", size.entries, size.entry_bytes);
    for row in rows {
        for (what, value) in [("p50 µs", row.p50), ("p90 µs", row.p90), ("p99 µs", row.p99), ("CPU p50 µs", row.cpu)]
        {
            let _ = writeln!(text, "{what}\t{case}\t{}\t{value:.1}", row.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Row> {
        let took = |micros: [u64; 4]| {
            let one = |micros| Took { wall: Duration::from_micros(micros), cpu: Duration::from_micros(micros / 2) };
            micros.map(one).into()
        };
        rows(&["ours", BARE], vec![took([400, 100, 300, 200]), took([100, 200, 200, 100])])
    }

    #[test]
    fn a_table_has_factors_of_the_bare_write() {
        let text = table(Size::of(16, 256), 4, &some());
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[2], ["ours", "300", "400", "400", "1.50", "150.0"], "{text}");
    }

    #[test]
    fn lines_have_four_columns() {
        let text = tsv(Size::of(16, 256), &some());
        assert!(text.lines().all(|line| line.split('\t').count() == 4), "{text}");
        assert!(text.contains("p50 µs\t16 × 256 B\tours\t300.0\n"), "{text}");
        assert!(text.contains(&format!("CPU p50 µs\t16 × 256 B\t{BARE}\t100.0\n")), "{text}");
    }
}
