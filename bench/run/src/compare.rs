//! Sets FlareDB's figures beside etcd's. Those of other programs: `parts`.

use crate::cells::{Cell, Goal, How, Measure};
use crate::parts;
use crate::recovery::named;
use crate::results::{CellResult, Comparison, Figure, GrowthStep, Leg};

/// Fills in the comparisons of a cell.
pub(crate) fn compare(cell: &Cell, result: &mut CellResult, grown: u64) {
    result.comparisons = match cell.how {
        How::Rate(_) => rate(cell, &result.legs),
        How::Growth => growth(cell, result, grown),
        How::Failover => failover(cell, &result.figures),
        How::Core => parts::core(cell, result),
        How::Log => parts::log(cell, result),
    };
}

pub(crate) fn goal_of(cell: &Cell, measure: Measure) -> Option<Goal> {
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

fn growth(cell: &Cell, result: &CellResult, grown: u64) -> Vec<Comparison> {
    let of = |system: &str| -> Vec<&GrowthStep> { result.steps.iter().filter(|step| step.system == system).collect() };
    let (ours, theirs) = (of("FlareDB"), of("etcd"));
    let mut comparisons = Vec::new();
    let mut both = |title: String, measure: Measure, flaredb: Option<f64>, etcd: Option<f64>| {
        if let Some(flaredb) = flaredb {
            comparisons.push(Comparison::new(title, measure, flaredb, etcd, goal_of(cell, measure)));
        }
    };
    let resident = |steps: &[&GrowthStep]| Some(steps.last()?.memory.resident as f64 / 1_048_576.0);
    both(named("resident memory", grown), Measure::Memory, resident(&ours), resident(&theirs));
    let restart = named("restart to first linearizable read", grown);
    let took = |system: &str| value(&result.figures, system, &restart);
    both(restart.clone(), Measure::Time, took("FlareDB"), took("etcd"));
    for (system, steps, goal) in [("FlareDB", &ours, goal_of(cell, Measure::Growth)), ("etcd", &theirs, None)] {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { continue };
        for (what, few, many) in [("put", &first.put, &last.put), ("get", &first.get, &last.get)] {
            let title = format!("{system}: CPU of a {what}, {} keys against {}", last.keys, first.keys);
            let (few, many) = (Some(few.server_cpu_us), many.server_cpu_us);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CELLS;
    use crate::results::Verdict;

    #[test]
    fn growth_is_the_last_step_as_a_factor_of_the_first() {
        let step = |system, keys, put: f64, get: f64| GrowthStep {
            system,
            keys,
            put: Leg { server_cpu_us: put, ..Leg::default() },
            get: Leg { server_cpu_us: get, ..Leg::default() },
            ..GrowthStep::default()
        };
        let steps = vec![
            step("FlareDB", 10_000, 50.0, 20.0),
            step("FlareDB", 30_000, 500.0, 500.0),
            step("FlareDB", 100_000, 70.0, 40.0),
            step("etcd", 10_000, 100.0, 100.0),
            step("etcd", 100_000, 200.0, 300.0),
        ];
        let result = CellResult { steps, ..CellResult::default() };
        let cell = CELLS.iter().find(|cell| cell.name == "growth").unwrap();
        let rows = growth(cell, &result, 100_000);
        let seen: Vec<_> = rows
            .iter()
            .filter(|row| row.measure == Measure::Growth)
            .map(|row| (row.title.as_str(), row.ratio, row.verdict))
            .collect();
        assert_eq!(
            seen,
            [
                ("FlareDB: CPU of a put, 100000 keys against 10000", Some(1.4), Verdict::Pass),
                ("FlareDB: CPU of a get, 100000 keys against 10000", Some(2.0), Verdict::Short),
                ("etcd: CPU of a put, 100000 keys against 10000", Some(2.0), Verdict::None),
                ("etcd: CPU of a get, 100000 keys against 10000", Some(3.0), Verdict::None),
            ]
        );
    }
}
