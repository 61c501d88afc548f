//! Sets FlareDB's figures beside etcd's.

use crate::cells::{Cell, Goal, How, Measure};
use crate::recovery::{FEW_KEYS, named};
use crate::results::{CellResult, Comparison, Figure, Leg};

/// Fills in the comparisons of a cell.
pub(crate) fn compare(cell: &Cell, result: &mut CellResult, grown: u64) {
    result.comparisons = match cell.how {
        How::Rate(_) => rate(cell, &result.legs),
        How::Growth => growth(cell, &result.figures, grown),
        How::Failover => failover(cell, &result.figures),
    };
}

fn goal_of(cell: &Cell, measure: Measure) -> Option<Goal> {
    cell.goals.iter().copied().find(|goal| goal.measure == measure)
}

fn turns<'a>(legs: &'a [Leg], system: &str) -> Vec<&'a Leg> {
    legs.iter().filter(|leg| leg.system == system).collect()
}

/// The mean of a figure, each turn with the same weight.
fn mean(legs: &[&Leg], of: impl Fn(&Leg) -> f64) -> Option<f64> {
    (!legs.is_empty()).then(|| legs.iter().map(|leg| of(leg)).sum::<f64>() / legs.len() as f64)
}

fn rate(cell: &Cell, legs: &[Leg]) -> Vec<Comparison> {
    let (ours, theirs) = (turns(legs, "FlareDB"), turns(legs, "etcd"));
    let of = |measure: Measure, leg: &Leg| match measure {
        Measure::Cpu => leg.server_cpu_us,
        Measure::P99 => leg.p99_ms,
        _ => leg.rate,
    };
    // An open loop has the rate it was given: there the latency says something.
    let open = goal_of(cell, Measure::P99).is_some();
    let measures = if open { [Measure::P99, Measure::Cpu] } else { [Measure::Rate, Measure::Cpu] };
    let mut comparisons = Vec::new();
    for measure in measures {
        let Some(flaredb) = mean(&ours, |leg| of(measure, leg)) else { continue };
        // Who acknowledges without a flush does something else.
        let durable = !legs.iter().any(|leg| leg.without_flush);
        let etcd = mean(&theirs, |leg| of(measure, leg)).filter(|_| durable);
        let mut comparison = Comparison::new(cell.title.to_owned(), measure, flaredb, etcd, goal_of(cell, measure));
        let pairs: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| of(measure, a) / of(measure, b)).collect();
        let low = pairs.iter().copied().min_by(f64::total_cmp);
        comparison.ratio_range = low.zip(pairs.iter().copied().max_by(f64::total_cmp)).filter(|_| durable);
        comparisons.push(comparison);
    }
    comparisons
}

fn value(figures: &[Figure], system: &str, what: &str) -> Option<f64> {
    figures.iter().find(|figure| figure.system == system && figure.what == what).map(|figure| figure.value)
}

fn growth(cell: &Cell, figures: &[Figure], grown: u64) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    let mut both = |what: &str, measure: Measure, goal: Option<Goal>| {
        if let Some(flaredb) = value(figures, "FlareDB", what) {
            comparisons.push(Comparison::new(what.to_owned(), measure, flaredb, value(figures, "etcd", what), goal));
        }
    };
    both(&named("resident memory", grown), Measure::Memory, goal_of(cell, Measure::Memory));
    let what = named("restart to first linearizable read", grown);
    both(&what, Measure::Time, goal_of(cell, Measure::Time));
    for (what, system, goal) in [
        ("put", "FlareDB", goal_of(cell, Measure::Growth)),
        ("get", "FlareDB", goal_of(cell, Measure::Growth)),
        ("put", "etcd", None),
        ("get", "etcd", None),
    ] {
        let cpu = format!("CPU of a {what}");
        let (few, many) = (value(figures, system, &named(&cpu, FEW_KEYS)), value(figures, system, &named(&cpu, grown)));
        if let Some(many) = many {
            let title = format!("{system}: CPU of a {what}, {grown} keys against {FEW_KEYS}");
            comparisons.push(Comparison::new(title, Measure::Growth, many, few, goal));
        }
    }
    comparisons
}

fn failover(cell: &Cell, figures: &[Figure]) -> Vec<Comparison> {
    let of = |system: &str| figures.iter().find(|figure| figure.system == system).map(|figure| figure.value);
    let goal = goal_of(cell, Measure::Time).map(|goal| {
        // Election timeout and 10 ms, as a factor of what etcd needed.
        let aim = of("etcd").map_or(0.0, |etcd| 1010.0 / etcd);
        Goal { aim, ..goal }
    });
    of("FlareDB")
        .map(|flaredb| vec![Comparison::new(cell.title.to_owned(), Measure::Time, flaredb, of("etcd"), goal)])
        .unwrap_or_default()
}
