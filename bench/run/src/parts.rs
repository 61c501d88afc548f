//! The cells that are programs of their own, because they link other people's Raft crates: the core (bench/core) and the log
//! (bench/log). Runs them, reads the lines they print, and sets FlareDB's figures beside the others'. What they measure, and how,
//! is said there.

use crate::cells::{Cell, Goal, Measure};
use crate::compare::goal_of;
use crate::counters::MachineCpu;
use crate::results::{CellResult, Comparison, Line, Verdict};
use flaredb_load::{LoadError, Result};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Entries of the core's batches.
pub(crate) const CORE_BATCH: &str = "64";
/// Whom the core has to be ahead of: as it comes.
const RAFT_RS: &str = "raft-rs";
/// The same with an option that puts entries that are proposed together into one message: shown, no goal is set beside it.
const RAFT_RS_BATCHING: &str = "raft-rs+batch_append";
/// The log's batches, and how they are called in a row.
const LOG_BATCHES: [&str; 5] = ["1 × 256 B", "16 × 256 B", "64 × 256 B", "1 × 4096 B", "16 × 4096 B"];
const OUR_LOG: &str = "FlareDB's log";
const BARE: &str = "write + fdatasync, prefilled";

/// Why there is no benchmark of the core, if nobody named one: what building it needs, or who builds it.
pub(crate) fn no_core() -> String {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let protoc = std::env::split_paths(&paths).any(|folder| folder.join("protoc").is_file());
    if protoc {
        return "no --core FILE; make bench builds it".to_owned();
    }
    "raft-rs needs protoc: apt-get install protobuf-compiler".to_owned()
}

/// Why there is no benchmark of the log.
pub(crate) fn no_log() -> String {
    "no --log FILE; make bench builds it".to_owned()
}

/// Runs another program and keeps its lines, and how much others used the machine meanwhile.
pub(crate) fn run(binary: &Path, arguments: &[&str], say: &dyn Fn(&str), result: &mut CellResult) -> Result<()> {
    let (before, begun) = (MachineCpu::read(), Instant::now());
    result.lines = lines_of(binary, arguments, say)?;
    let after = MachineCpu::read();
    result.others_cores = before.zip(after).map(|(before, after)| after.others_since(&before, begun.elapsed()));
    Ok(())
}

/// Runs a program that prints lines on its output, and on its errors where it is.
fn lines_of(binary: &Path, arguments: &[&str], say: &dyn Fn(&str)) -> Result<Vec<Line>> {
    let why = |error: std::io::Error| LoadError(format!("{}: {error}", binary.display()));
    // As the servers, it ends with this program.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(why)?;
    let (mut output, errors) = (child.stdout.take(), child.stderr.take());
    let mut text = String::new();
    let mut last = String::new();
    // Both at once: a full pipe would stop it.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| output.as_mut().map_or(Ok(0), |output| output.read_to_string(&mut text)));
        if let Some(errors) = errors {
            follow(BufReader::new(errors), &mut |line| {
                say(line);
                line.clone_into(&mut last);
            });
        }
        reader.join().unwrap_or_else(|_| Err(std::io::Error::other("its output was not read to the end")))
    })
    .map_err(why)?;
    let status = child.wait().map_err(why)?;
    if !status.success() {
        let last = if last.is_empty() { "it said nothing" } else { &last };
        return Err(LoadError(format!("{} ended ({status}): {last}", binary.display())));
    }
    text.lines().map(|line| parse(line).map_err(|error| LoadError(format!("{}: {error}", binary.display())))).collect()
}

/// Each line that is not empty, also of those that are overwritten on a terminal.
fn follow(errors: impl BufRead, say: &mut dyn FnMut(&str)) {
    let mut line = Vec::new();
    for byte in errors.bytes().map_while(std::io::Result::ok) {
        if !matches!(byte, b'\n' | b'\r') {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        if !text.is_empty() {
            say(&text);
        }
        line.clear();
    }
    let rest = String::from_utf8_lossy(&line).trim().to_owned();
    if !rest.is_empty() {
        say(&rest);
    }
}

/// `measure TAB case TAB system TAB figure`, or `not measured: why` for the figure.
fn parse(line: &str) -> std::result::Result<Line, String> {
    let bad = || format!("not a line of measure, case, system and figure: {line:?}; is it built from this checkout?");
    let fields: Vec<&str> = line.split('\t').collect();
    let [measure, case, system, figure] = fields.as_slice() else { return Err(bad()) };
    let value = match figure.strip_prefix("not measured: ") {
        Some(why) => Err(why.to_owned()),
        None => Ok(figure.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(bad)?),
    };
    let [measure, case, system] = [measure, case, system].map(|field| (*field).to_owned());
    Ok(Line { measure, case, system, value })
}

/// A figure, or why there is none.
fn of(result: &CellResult, measure: &str, case: &str, system: &str) -> std::result::Result<f64, String> {
    if let Some(why) = &result.missing {
        return Err(why.clone());
    }
    if result.failure.is_some() {
        return Err("it failed, see below".to_owned());
    }
    let found = result.lines.iter().find(|line| line.measure == measure && line.case == case && line.system == system);
    found.map_or_else(|| Err(format!("{measure} of {system} was not printed")), |line| line.value.clone())
}

type Figure = std::result::Result<f64, String>;

fn compare(title: String, measure: Measure, goal: Option<Goal>, ours: Figure, other: Figure) -> Comparison {
    match (ours, other) {
        (Ok(ours), Ok(other)) => Comparison::new(title, measure, ours, Some(other), goal),
        (Err(why), _) | (_, Err(why)) => Comparison::missing(title, measure, goal, why),
    }
}

/// The core beside each of the others.
pub(crate) fn core(cell: &Cell, result: &CellResult) -> Vec<Comparison> {
    let case = format!("batch {CORE_BATCH}");
    let row = |other: &str, measure: Measure| {
        let of = |system: &str| of(result, measure.title(), &case, system);
        let goal = goal_of(cell, measure).filter(|_| other == RAFT_RS);
        compare(format!("core beside {other}, {case}"), measure, goal, of("FlareDB"), of(other))
    };
    [RAFT_RS, RAFT_RS_BATCHING]
        .into_iter()
        .flat_map(|other| [row(other, Measure::EntryTime), row(other, Measure::EntryInstructions)])
        .collect()
}

/// Cores that others may use while the log is measured. Beyond, every sync waits for a core and not for the disk: all ways are
/// alike then, and a ratio near 1 says nothing.
const OTHERS_CORES: f64 = 0.5;

/// The log beside a bare write: how many batches a second would be, one after the other.
pub(crate) fn log(cell: &Cell, result: &CellResult) -> Vec<Comparison> {
    let row = |case: &&str| {
        let of = |system: &str| of(result, "p50 µs", case, system).map(|p50| 1e6 / p50);
        let title = format!("log beside bare write + sync, {case}");
        let mut row = compare(title, Measure::Batches, goal_of(cell, Measure::Batches), of(OUR_LOG), of(BARE));
        if let Some(cores) = result.others_cores.filter(|cores| row.ratio.is_some() && *cores > OTHERS_CORES) {
            row.verdict = Verdict::None;
            row.note = Some(format!("no verdict: others used {cores:.1} cores"));
        }
        row
    };
    LOG_BATCHES.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CELLS;

    fn cell(name: &str) -> &'static Cell {
        CELLS.iter().find(|cell| cell.name == name).unwrap()
    }

    fn lines(text: &str) -> CellResult {
        CellResult { lines: text.lines().map(|line| parse(line).unwrap()).collect(), ..CellResult::default() }
    }

    #[test]
    fn lines_are_read() {
        let line = |figure: &str| parse(&format!("ns/entry\tbatch 64\traft-rs\t{figure}"));
        assert_eq!(line("10.5").unwrap().value, Ok(10.5));
        assert_eq!(line("not measured: no valgrind").unwrap().value, Err("no valgrind".to_owned()));
        for wrong in ["", "a\tb\tc", "a\tb\tc\t", "a\tb\tc\tNaN", "a\tb\tc\t1\t2"] {
            assert!(parse(wrong).is_err_and(|error| error.contains("built from this checkout")), "{wrong:?}");
        }
    }

    #[test]
    fn where_a_program_is_shows_also_when_its_lines_are_overwritten() {
        let mut said = Vec::new();
        follow(&b"one\r two \r\n\nthree"[..], &mut |line| said.push(line.to_owned()));
        assert_eq!(said, ["one", "two", "three"]);
    }

    #[test]
    fn the_core_stands_beside_both_kinds_of_raft_rs() {
        let result = lines(
            "ns/entry\tbatch 64\tFlareDB\t600\nns/entry\tbatch 64\traft-rs\t6000\n\
             ns/entry\tbatch 64\traft-rs+batch_append\t3000\nns/entry\tbatch 1\traft-rs\t1\n\
             instructions/entry\tbatch 64\tFlareDB\tnot measured: no valgrind",
        );
        let rows = core(cell("core"), &result);
        let seen: Vec<_> = rows.iter().map(|row| (row.measure, row.ratio, row.verdict)).collect();
        assert_eq!(
            seen,
            [
                (Measure::EntryTime, Some(0.1), Verdict::Aim),
                (Measure::EntryInstructions, None, Verdict::None),
                (Measure::EntryTime, Some(0.2), Verdict::None),
                (Measure::EntryInstructions, None, Verdict::None),
            ]
        );
        assert_eq!(rows[1].note.as_deref(), Some("not measured: no valgrind"));
    }

    #[test]
    fn the_log_s_pace_is_a_factor_of_the_bare_write_s() {
        let mut result = lines(&format!("p50 µs\t1 × 256 B\t{OUR_LOG}\t200\np50 µs\t1 × 256 B\t{BARE}\t160"));
        let rows = log(cell("log"), &result);
        assert_eq!(rows.len(), LOG_BATCHES.len());
        assert_eq!((rows[0].flaredb, rows[0].other, rows[0].ratio), (5000.0, Some(6250.0), Some(0.8)));
        assert_eq!(rows[0].verdict, Verdict::Short, "fewer batches than 0.85 of the bare write's");
        assert!(rows[1].note.as_ref().is_some_and(|why| why.contains("was not printed")));
        result.others_cores = Some(1.96);
        let rows = log(cell("log"), &result);
        assert_eq!((rows[0].ratio, rows[0].verdict), (Some(0.8), Verdict::None));
        assert_eq!(rows[0].note.as_deref(), Some("no verdict: others used 2.0 cores"));
        assert!(rows[1].note.as_ref().is_some_and(|why| why.contains("was not printed")));
    }

    #[test]
    fn a_row_is_there_whatever_is_missing() {
        let missing = CellResult { missing: Some("no protoc".to_owned()), ..CellResult::default() };
        let rows = core(cell("core"), &missing);
        assert!(rows.len() == 4 && rows.iter().all(|row| row.note.as_deref() == Some("not measured: no protoc")));
        let failed = CellResult { failure: Some("it broke".to_owned()), ..CellResult::default() };
        assert!(log(cell("log"), &failed).iter().all(|row| row.note.is_some()));
    }

    #[test]
    fn a_program_that_fails_is_named_with_its_last_words() {
        let shell = Path::new("/bin/sh");
        let run = |script: &str| lines_of(shell, &["-c", script], &|_| {});
        let error = run("echo first >&2; echo no room >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("/bin/sh ended (exit status: 3): no room"), "{error}");
        assert_eq!(run("printf 'a\\tb\\tc\\t1\\n'").unwrap()[0].value, Ok(1.0));
    }
}
