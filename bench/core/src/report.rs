//! What was measured, as tables for people or as lines for a program. It measures nothing.

use crate::SYSTEMS;
use std::fmt::Write as _;

/// Figures of all systems, or why there is none, in the order of `SYSTEMS`.
pub(crate) struct Row {
    pub(crate) batch: u64,
    pub(crate) values: Vec<Result<f64, String>>,
}

pub(crate) struct Report {
    pub(crate) nanoseconds: Vec<Row>,
    pub(crate) instructions: Vec<Row>,
}

impl Report {
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for (what, rows) in [("ns", &self.nanoseconds), ("instructions", &self.instructions)] {
            text += &format!(
                "\n| {what} for an entry, batch; in brackets FlareDB's as a factor | {} |\n",
                SYSTEMS.join(" | ")
            );
            text += &format!("|---{}|\n", "|---:".repeat(SYSTEMS.len()));
            rows.iter().for_each(|row| text += &line(row));
            // One reason is enough: what keeps one from being counted keeps most.
            if let Some(why) = rows.iter().flat_map(|row| &row.values).find_map(|value| value.as_ref().err()) {
                let _ = writeln!(text, "\nNot measured: {why}");
            }
        }
        text
    }

    /// `measure TAB case TAB system TAB figure`, or `not measured: why` for the figure.
    pub(crate) fn tsv(&self) -> String {
        let mut text = String::new();
        for (what, rows) in [("ns/entry", &self.nanoseconds), ("instructions/entry", &self.instructions)] {
            for row in rows {
                for (system, value) in SYSTEMS.iter().zip(&row.values) {
                    let figure = match value {
                        Ok(value) => value.to_string(),
                        Err(why) => format!("not measured: {}", why.replace(['\t', '\n', '\r'], " ")),
                    };
                    // Writing into a string cannot fail, here and above.
                    let _ = writeln!(text, "{what}\tbatch {}\t{system}\t{figure}", row.batch);
                }
            }
        }
        text
    }
}

fn line(row: &Row) -> String {
    let ours = row.values[0].as_ref().ok();
    let mut cells = format!("| {} ", row.batch);
    for (place, value) in row.values.iter().enumerate() {
        let ratio = match (ours, value) {
            (Some(ours), Ok(value)) if place > 0 => format!(" ({:.2})", ours / value),
            _ => String::new(),
        };
        cells += &value.as_ref().map_or_else(|_| "| - ".to_owned(), |value| format!("| {value:.0}{ratio} "));
    }
    cells + "|\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let why = || Err("valgrind:\tgone".to_owned());
        Report {
            nanoseconds: vec![Row { batch: 64, values: vec![Ok(500.0), Ok(10_000.5), Ok(2_000.0), Ok(5_000.0)] }],
            instructions: vec![Row { batch: 64, values: vec![Ok(2_000.0), why(), why(), why()] }],
        }
    }

    #[test]
    fn tables_have_factors_and_say_why_a_figure_is_not_there() {
        let text = report().tables();
        assert!(text.contains("| 64 | 500 | 10000 (0.05) | 2000 (0.25) | 5000 (0.10) |"), "{text}");
        assert!(text.contains("| 64 | 2000 | - | - | - |\n\nNot measured: valgrind:\tgone\n"), "{text}");
    }

    #[test]
    fn lines_have_four_columns_whatever_a_reason_holds() {
        let text = report().tsv();
        assert_eq!(text.lines().count(), 2 * SYSTEMS.len());
        assert!(text.lines().all(|line| line.split('\t').count() == 4), "{text}");
        assert!(text.contains("ns/entry\tbatch 64\traft-rs\t10000.5\n"), "{text}");
        assert!(text.contains("instructions/entry\tbatch 64\traft-rs\tnot measured: valgrind: gone\n"), "{text}");
    }
}
