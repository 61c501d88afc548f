//! flaredb-bench: FlareDB and etcd side by side. Each cell runs on fresh servers, the systems in turns (A, B, B, A), with the
//! machine's own limits measured in the same run. The Raft core and the log alone are measured by other programs that it runs.

#![expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a program that measures: positions come from lengths beside them, counts are converted to be averaged"
)]

mod cells;
mod cluster;
mod compare;
mod counters;
mod leg;
mod options;
mod parts;
mod plot;
mod recovery;
mod references;
mod results;
mod table;

use cells::{CELLS, Cell, How, Rate};
use clap::Parser;
use cluster::System;
use counters::Disk;
use flaredb_load::{LoadError, Result};
use indicatif::{ProgressBar, ProgressStyle};
use leg::Setting;
use options::Options;
use results::{CellResult, Figure, Machine, Results, Version, median};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Calls a second of the open loop if nothing says how fast etcd is.
const OPEN_RATE: f64 = 2_000.0;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for cell in CELLS {
            println!("{:12} {}{}", cell.name, cell.title, if cell.quick { " (quick)" } else { "" });
        }
        return ExitCode::SUCCESS;
    }
    let outcome = chosen(&options).and_then(|cells| Bench::new(&options)?.run(&cells));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Wrong::Flags(what)) => {
            eprintln!("Error: {what}");
            ExitCode::from(2)
        }
        Err(Wrong::Run(error)) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why it ended early.
enum Wrong {
    Flags(String),
    Run(LoadError),
}

impl From<LoadError> for Wrong {
    fn from(error: LoadError) -> Self {
        Self::Run(error)
    }
}

fn chosen(options: &Options) -> std::result::Result<Vec<&'static Cell>, Wrong> {
    if options.cells.is_empty() {
        return Ok(CELLS.iter().filter(|cell| cell.quick || !options.quick).collect());
    }
    if let Some(unknown) = options.cells.iter().find(|name| !CELLS.iter().any(|cell| cell.name == name.as_str())) {
        let names: Vec<&str> = CELLS.iter().map(|cell| cell.name).collect();
        return Err(Wrong::Flags(format!("no cell {unknown:?}; there are {}", names.join(", "))));
    }
    Ok(CELLS.iter().filter(|cell| options.cells.iter().any(|name| cell.name == name)).collect())
}

struct Bench<'a> {
    options: &'a Options,
    disk: Disk,
    systems: Vec<System>,
    results: Results,
    bar: ProgressBar,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> std::result::Result<Self, Wrong> {
        let named = |text: &str, good: bool| if good { Ok(()) } else { Err(Wrong::Flags(text.to_owned())) };
        named("--seconds has to be between 0.1 and 3600", options.seconds.is_none_or(|s| (0.1..=3600.0).contains(&s)))?;
        named("--rounds has to be at least 1", options.rounds > 0)?;
        named("--kills has to be at least 1", options.kills() > 0)?;
        named("--connections has to be between 1 and 1000", (1..=1000).contains(&options.connections))?;
        named("--open-rate has to be above 0", options.open_rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()))?;
        let enough = options.grown() > recovery::FEW_KEYS;
        named(&format!("--grow-to has to be above {}", recovery::FEW_KEYS), enough)?;
        let flaredb = options.flaredb_binary();
        let mut systems = vec![System::flaredb(&flaredb).map_err(|error| {
            Wrong::Flags(format!(
                "{error}\n  `make build` makes target/release/flaredb; --flaredb FILE names another one"
            ))
        })?];
        if let Some(etcd) = &options.etcd {
            systems.push(System::etcd(etcd).map_err(|error| Wrong::Flags(format!("--etcd: {error}")))?);
        }
        for (flag, file) in [("--core", &options.core), ("--log", &options.log)] {
            let Some(file) = file else { continue };
            let there = format!("{flag}: there is no file {}; make bench builds it", file.display());
            named(&there, file.is_file())?;
        }
        for folder in [&options.out, &options.data] {
            let why = |error: std::io::Error| Wrong::Flags(format!("{}: {error}", folder.display()));
            std::fs::create_dir_all(folder).map_err(why)?;
        }
        let disk = Disk::of(&options.data);
        let versions = systems.iter().map(|system| Version {
            name: system.name,
            version: system.version.clone(),
            binary: system.binary.display().to_string(),
        });
        let results = Results {
            began: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            machine: machine(&disk),
            systems: versions.collect(),
            quick: options.quick,
            references: Vec::new(),
            cells: Vec::new(),
        };
        Ok(Self { options, disk, systems, results, bar: ProgressBar::new(0) })
    }

    /// Whether everything could be measured.
    fn run(mut self, cells: &[&'static Cell]) -> std::result::Result<bool, Wrong> {
        let turns: usize = cells.iter().map(|cell| self.turns(cell).len()).sum();
        self.bar = ProgressBar::new(turns as u64 + 2);
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {msg}") {
            self.bar.set_style(style);
        }
        self.bar.enable_steady_tick(Duration::from_millis(500));
        self.reference()?;
        for cell in cells {
            let mut result = CellResult { name: cell.name, title: cell.title, ..CellResult::default() };
            if let Err(error) = self.cell(cell, &mut result) {
                self.bar.println(format!("{}: {error}", cell.title));
                result.failure = Some(error.0);
            }
            compare::compare(cell, &mut result, self.options.grown());
            self.results.cells.push(result);
            // So that nothing is lost if a later cell fails or somebody loses patience.
            self.write()?;
        }
        self.reference()?;
        self.write()?;
        self.bar.finish_and_clear();
        println!("{}", table::markdown(&self.results));
        println!("results: {}", self.options.out.display());
        Ok(self.results.cells.iter().all(|cell| cell.failure.is_none()))
    }

    fn reference(&mut self) -> Result<()> {
        self.bar.set_message("references: bare syncs, loopback");
        let lasts = if self.options.quick { Duration::from_millis(300) } else { Duration::from_secs(2) };
        self.results.references.push(references::measure(&self.options.data, &self.disk, lasts)?);
        self.bar.inc(1);
        Ok(())
    }

    /// Whose turn it is in a cell, in order: A, B, B, A in each round.
    fn turns(&self, cell: &Cell) -> Vec<System> {
        let (once, back) = (self.systems.clone(), self.systems.iter().rev().cloned());
        // Another program's turns are its own.
        if matches!(cell.how, How::Core | How::Log) {
            return self.systems.iter().take(1).cloned().collect();
        }
        // Growth takes minutes and is about CPU and memory, which drift less than rates.
        if self.options.quick || matches!(cell.how, How::Growth) {
            return once;
        }
        let round: Vec<System> = once.into_iter().chain(back).collect();
        let rounds = if matches!(cell.how, How::Failover) { 1 } else { self.options.rounds };
        (0..rounds).flat_map(|_| round.clone()).collect()
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            folder: &self.options.data,
            disk: &self.disk,
            target: self.options.target,
            connections: self.options.connections,
            warmup: self.options.warmup(),
            measure: self.options.measure(),
        }
    }

    fn cell(&self, cell: &Cell, result: &mut CellResult) -> Result<()> {
        let say = |text: &str| self.bar.set_message(format!("{}: {text}", cell.title));
        match cell.how {
            How::Rate(rate) => {
                let open_rate = if rate.clients == 0 { self.open_rate(&rate)? } else { 0.0 };
                result.open_rate = (rate.clients == 0).then_some(open_rate);
                for system in self.turns(cell) {
                    say(system.name);
                    result.legs.push(leg::run(&system, cell.name, &rate, open_rate, &self.setting())?);
                    self.bar.inc(1);
                }
            }
            How::Growth => {
                for system in self.turns(cell) {
                    let (grown, steps) = (self.options.grown(), &mut result.steps);
                    result.figures.push(recovery::growth(&system, grown, &self.setting(), &say, steps)?);
                    self.bar.inc(1);
                }
            }
            How::Core => {
                match &self.options.core {
                    Some(core) => parts::run(core, &["--tsv", "--batch", parts::CORE_BATCH], &say, result)?,
                    None => result.missing = Some(parts::no_core()),
                }
                self.bar.inc(1);
            }
            How::Log => {
                match &self.options.log {
                    Some(log) => {
                        let (rounds, folder) = (if self.options.quick { "200" } else { "3000" }, &self.options.data);
                        let folder = folder.to_string_lossy();
                        parts::run(log, &["--tsv", "--rounds", rounds, "--dir", &folder], &say, result)?;
                    }
                    None => result.missing = Some(parts::no_log()),
                }
                self.bar.inc(1);
            }
            How::Failover => {
                let turns = self.turns(cell);
                let each = self.options.kills().div_ceil(turns.len() / self.systems.len());
                let mut times: Vec<(&'static str, Vec<f64>)> = Vec::new();
                for system in turns {
                    let some = recovery::failover(&system, each, &self.setting(), &say)?;
                    match times.iter_mut().find(|(name, _)| *name == system.name) {
                        Some((_, times)) => times.extend(some),
                        None => times.push((system.name, some)),
                    }
                    self.bar.inc(1);
                }
                result.figures.extend(times.into_iter().map(|(system, all)| Figure {
                    system,
                    what: cell.title.to_owned(),
                    unit: "ms",
                    value: median(&all),
                    all,
                }));
            }
        }
        Ok(())
    }

    /// Half of what etcd reached with puts of this size in this run; if it was not asked, it is now.
    fn open_rate(&self, rate: &Rate) -> Result<f64> {
        if let Some(rate) = self.options.open_rate {
            return Ok(rate);
        }
        let Some(etcd) = self.systems.iter().find(|system| system.name == "etcd") else { return Ok(OPEN_RATE) };
        let measured = self.results.cells.iter().filter(|cell| matches!(cell.name, "put-64" | "put-256"));
        let best = measured
            .flat_map(|cell| &cell.legs)
            .filter(|leg| leg.system == "etcd")
            .map(|leg| leg.rate)
            .max_by(f64::total_cmp);
        let best = match best {
            Some(best) => best,
            None => leg::run(etcd, "open", &Rate { clients: 256, ..*rate }, 0.0, &self.setting())?.rate,
        };
        Ok(best / 2.0)
    }

    fn write(&self) -> Result<()> {
        let file = |name: &str, text: &str| {
            let path = self.options.out.join(name);
            std::fs::write(&path, text).map_err(|error| LoadError(format!("{}: {error}", path.display())))
        };
        let json = serde_json::to_string_pretty(&self.results).map_err(|error| LoadError(error.to_string()))?;
        file("results.json", &json)?;
        file("table.md", &table::markdown(&self.results))?;
        plot::all(&self.results).into_iter().try_for_each(|(name, svg)| file(name, &svg))
    }
}

fn machine(disk: &Disk) -> Machine {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let memory = line(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
    Machine {
        cpu: line(&read("/proc/cpuinfo"), "model name"),
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        memory_bytes: kib * 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        disk: disk.name.clone(),
        load_before: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    }
}
