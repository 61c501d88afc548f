//! Plots as SVG, written by hand: bars on a logarithmic scale and lines over the number of clients or keys. Readable on a light and on a
//! dark page, because they bring their own background.

use crate::cells::Measure;
use crate::results::{Comparison, GrowthStep, Leg, Results};
use crate::table::digits;
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 400.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 56.0;
const ROW: f64 = 26.0;
const OURS: &str = "#d9480f";
const THEIRS: &str = "#4c6ef5";
const INK: &str = "#212529";

/// Every plot there is data for: file name and SVG.
pub(crate) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let mut plots = Vec::new();
    let ratios: Vec<&Comparison> = results
        .cells
        .iter()
        .flat_map(|cell| &cell.comparisons)
        .filter(|comparison| comparison.ratio.is_some() && comparison.note.is_none())
        .filter(|comparison| comparison.measure != Measure::Growth)
        .collect();
    if !ratios.is_empty() {
        plots.push(("ratios.svg", gains(&ratios)));
    }
    let cpu = pairs(results, |leg| leg.server_cpu_us);
    if !cpu.is_empty() {
        plots.push(("cpu.svg", bars("Server CPU of one operation, µs (three members together)", &cpu)));
        plots.push(("p99.svg", bars("99th percentile of latency, ms", &pairs(results, |leg| leg.p99_ms))));
    }
    for (name, title, take) in [
        ("puts-rate.svg", "Puts of 256 B a second, by clients", (|leg| leg.rate) as fn(&Leg) -> f64),
        ("puts-p50.svg", "Median latency of puts of 256 B, ms, by clients", |leg| leg.p50_ms),
    ] {
        let lines = over_clients(results, take);
        if lines.iter().any(|line| line.points.len() > 1) {
            plots.push((name, line_plot(title, &[1.0, 16.0, 64.0, 256.0], &lines)));
        }
    }
    let growth = over_keys(results);
    if growth.iter().any(|line| line.points.len() > 1) {
        let mut keys: Vec<f64> = growth.iter().flat_map(|line| &line.points).map(|point| point.0).collect();
        keys.sort_by(f64::total_cmp);
        keys.dedup();
        let title = "Server CPU of one put (line) and of one get (dashes), µs, by keys";
        plots.push(("growth.svg", line_plot(title, &keys, &growth)));
    }
    plots
}

fn mean(legs: &[Leg], system: &str, take: impl Fn(&Leg) -> f64) -> Option<f64> {
    let values: Vec<f64> = legs.iter().filter(|leg| leg.system == system).map(take).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

type Row = (String, Option<f64>, Option<f64>);

fn pairs(results: &Results, take: impl Fn(&Leg) -> f64) -> Vec<Row> {
    let measured = results.cells.iter().filter(|cell| !cell.legs.is_empty());
    measured
        .map(|cell| (cell.title.to_owned(), mean(&cell.legs, "FlareDB", &take), mean(&cell.legs, "etcd", &take)))
        .collect()
}

struct Line {
    color: &'static str,
    dashes: bool,
    points: Vec<(f64, f64)>,
}

const COLORS: [(&str, &str); 2] = [("FlareDB", OURS), ("etcd", THEIRS)];

fn over_clients(results: &Results, take: fn(&Leg) -> f64) -> Vec<Line> {
    let line = |(system, color)| {
        let points = [("put-1", 1.0), ("put-16", 16.0), ("put-64", 64.0), ("put-256", 256.0)];
        let points = points.into_iter().filter_map(|(name, clients)| {
            let cell = results.cells.iter().find(|cell| cell.name == name)?;
            Some((clients, mean(&cell.legs, system, take)?))
        });
        Line { color, dashes: false, points: points.collect() }
    };
    COLORS.into_iter().map(line).collect()
}

/// CPU of puts and of gets as a database grows.
fn over_keys(results: &Results) -> Vec<Line> {
    let steps = || results.cells.iter().flat_map(|cell| &cell.steps);
    let line = |system: &str, color, dashes, take: fn(&GrowthStep) -> f64| {
        let points = steps().filter(|step| step.system == system).map(|step| (step.keys as f64, take(step)));
        Line { color, dashes, points: points.collect() }
    };
    let both = |(system, color)| {
        [
            line(system, color, false, |step| step.put.server_cpu_us),
            line(system, color, true, |step| step.get.server_cpu_us),
        ]
    };
    COLORS.into_iter().flat_map(both).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn begin(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    )
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escape(words);
    // Writing into a string cannot fail, here and below.
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn bar(svg: &mut String, x: f64, y: f64, width: f64, height: f64, color: &str) {
    let width = width.max(1.0);
    let _ =
        writeln!(svg, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>");
}

fn stroke(svg: &mut String, from: (f64, f64), to: (f64, f64), look: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {look}/>");
}

/// A logarithmic scale over some values.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        Self { low: low.log10() - 0.05, high: high.log10() + 0.05, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(1e-12).log10() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// 1, 2 and 5 of each power of ten within.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(&tick.log10())).collect()
    }
}

/// How much better FlareDB is, so that longer is always better, with marks for what must be and what is aimed at.
fn gains(comparisons: &[&Comparison]) -> String {
    let gain =
        |comparison: &Comparison, ratio: f64| if comparison.measure.more_is_better() { ratio } else { 1.0 / ratio };
    let mut values = vec![1.0];
    for comparison in comparisons {
        values.extend(comparison.ratio.map(|ratio| gain(comparison, ratio)));
        let marks = comparison.goal.map(|goal| [goal.must, goal.aim]).unwrap_or_default();
        values.extend(marks.into_iter().filter(|mark| *mark > 0.0).map(|mark| gain(comparison, mark)));
    }
    let scale = Scale::over(values.into_iter(), LEFT, WIDTH - RIGHT);
    let height = TOP + ROW * comparisons.len() as f64 + 30.0;
    let mut svg = begin(height, "FlareDB: times better than etcd, or than whom the row names (| must, ‖ aim)");
    let bottom = height - 24.0;
    for tick in scale.ticks() {
        stroke(&mut svg, (scale.at(tick), TOP - 8.0), (scale.at(tick), bottom), "stroke=\"#dee2e6\"");
        text(&mut svg, scale.at(tick), height - 8.0, "middle", &format!("{tick}×"));
    }
    for (row, comparison) in comparisons.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        text(&mut svg, LEFT - 10.0, y + 12.0, "end", &format!("{}: {}", comparison.title, comparison.measure.title()));
        let Some(ratio) = comparison.ratio.map(|ratio| gain(comparison, ratio)) else { continue };
        let (one, end) = (scale.at(1.0), scale.at(ratio));
        bar(&mut svg, one.min(end), y, (end - one).abs(), 16.0, if ratio >= 1.0 { OURS } else { THEIRS });
        for (mark, width) in comparison.goal.map(|goal| [(goal.must, 1), (goal.aim, 3)]).into_iter().flatten() {
            if mark > 0.0 {
                let x = scale.at(gain(comparison, mark));
                stroke(&mut svg, (x, y - 3.0), (x, y + 19.0), &format!("stroke=\"{INK}\" stroke-width=\"{width}\""));
            }
        }
        text(&mut svg, WIDTH - 8.0, y + 12.0, "end", &format!("{ratio:.2}×"));
    }
    stroke(&mut svg, (scale.at(1.0), TOP - 8.0), (scale.at(1.0), bottom), &format!("stroke=\"{INK}\""));
    svg + "</svg>\n"
}

fn legend(svg: &mut String) {
    for (x, color, name) in [(WIDTH - 190.0, OURS, "FlareDB"), (WIDTH - 100.0, THEIRS, "etcd")] {
        bar(svg, x, 34.0, 12.0, 12.0, color);
        text(svg, x + 18.0, 44.0, "start", name);
    }
}

/// Two bars for each row.
fn bars(title: &str, rows: &[Row]) -> String {
    let values: Vec<f64> = rows.iter().flat_map(|(_, ours, theirs)| [*ours, *theirs]).flatten().collect();
    let mut scale = Scale::over(values.iter().copied(), LEFT, WIDTH - RIGHT);
    // Bars begin a little before the smallest value, so that it has a length too.
    scale.low -= 0.15;
    let height = TOP + (ROW + 6.0) * rows.len() as f64 + 30.0;
    let mut svg = begin(height, title);
    legend(&mut svg);
    for tick in scale.ticks() {
        stroke(&mut svg, (scale.at(tick), TOP), (scale.at(tick), height - 24.0), "stroke=\"#dee2e6\"");
        text(&mut svg, scale.at(tick), height - 8.0, "middle", &tick.to_string());
    }
    for (row, (name, ours, theirs)) in rows.iter().enumerate() {
        let y = TOP + 4.0 + (ROW + 6.0) * row as f64;
        text(&mut svg, LEFT - 10.0, y + 16.0, "end", name);
        for (value, color, y) in [(ours, OURS, y), (theirs, THEIRS, y + 13.0)] {
            let Some(value) = value else { continue };
            bar(&mut svg, LEFT, y, scale.at(*value) - LEFT, 11.0, color);
            text(&mut svg, scale.at(*value) + 4.0, y + 10.0, "start", &digits(*value));
        }
    }
    svg + "</svg>\n"
}

/// Both axes logarithmic, with marks for these values on the horizontal one.
fn line_plot(title: &str, marks: &[f64], lines: &[Line]) -> String {
    const HEIGHT: f64 = 380.0;
    let points = || lines.iter().flat_map(|line| &line.points);
    let across = Scale::over(points().map(|point| point.0), 80.0, WIDTH - 40.0);
    let up = Scale::over(points().map(|point| point.1), HEIGHT - 40.0, TOP + 8.0);
    let mut svg = begin(HEIGHT, title);
    legend(&mut svg);
    for tick in up.ticks() {
        stroke(&mut svg, (80.0, up.at(tick)), (WIDTH - 40.0, up.at(tick)), "stroke=\"#dee2e6\"");
        text(&mut svg, 72.0, up.at(tick) + 4.0, "end", &digits(tick));
    }
    for mark in marks {
        text(&mut svg, across.at(*mark), HEIGHT - 16.0, "middle", &format!("{mark}"));
    }
    for Line { color, dashes, points } in lines {
        let dashes = if *dashes { " stroke-dasharray=\"6 4\"" } else { "" };
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", across.at(*x), up.at(*y))).collect();
        let path = path.join(" ");
        let _ =
            writeln!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dashes}/>");
        for (x, y) in points {
            let (at, of) = (across.at(*x), up.at(*y));
            let _ = writeln!(svg, "<circle cx=\"{at:.1}\" cy=\"{of:.1}\" r=\"3.5\" fill=\"{color}\"/>");
            text(&mut svg, at, of - 8.0, "middle", &digits(*y));
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_point_for_each_step_and_gets_are_dashed() {
        let points = || vec![(10_000.0, 60.0), (30_000.0, 70.0), (100_000.0, 90.0)];
        let lines = [false, true].map(|dashes| Line { color: OURS, dashes, points: points() });
        let svg = line_plot("a < b", &[10_000.0, 100_000.0], &lines);
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("stroke-dasharray").count()), (2, 1));
        assert!(svg.contains(">100000</text>") && svg.contains("a &lt; b"), "{svg}");
    }
}
