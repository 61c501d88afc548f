//! `--mutants`: is every bug that is put back found? Each mutant has a process of its own, because it is chosen for the whole
//! process; each runs seeds until one is caught.
//!
//! A normal build of this program holds no mutants. Then it has cargo build one that does, into a folder of its own beside the
//! normal target, and hands over to it.

use super::args::Args;
use std::io;
use std::process::ExitCode;

/// Turns on what `--mutant` names.
pub(super) fn select(name: &str) -> Result<(), String> {
    imp::select(name)
}

/// Runs them all.
pub(super) fn run(args: &Args) -> ExitCode {
    match imp::run(args) {
        Ok(code) => code,
        Err(error) => {
            use io::Write;
            let _ = writeln!(io::stderr(), "flaredb-sim: {error}");
            ExitCode::from(2)
        }
    }
}

#[cfg(not(feature = "mutants"))]
mod imp {
    use super::{Args, ExitCode, io};
    use std::path::PathBuf;
    use std::process::Command;

    pub(super) fn select(_name: &str) -> Result<(), String> {
        Err("this build has no mutants; `flaredb-sim --mutants` makes one that has".to_owned())
    }

    pub(super) fn run(_args: &Args) -> io::Result<ExitCode> {
        let folder = std::env::current_dir()?;
        let root = folder.ancestors().find(|at| at.join("flaredb-sim/Cargo.toml").is_file());
        let root = root
            .ok_or_else(|| io::Error::other("run this inside the FlareDB repository: mutants have to be compiled"))?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("mutants");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .current_dir(root)
            .args([
                "build",
                "--release",
                "--locked",
                "--quiet",
                "-p",
                "flaredb-sim",
                "--features",
                "mutants",
                "--target-dir",
            ])
            .arg(&target)
            .status()?;
        if !built.success() {
            return Err(io::Error::other("the build with mutants failed"));
        }
        let status = Command::new(target.join("release/flaredb-sim")).args(std::env::args_os().skip(1)).status()?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[cfg(feature = "mutants")]
mod imp {
    use super::{Args, ExitCode, io};
    use crate::cli::commit;
    use crate::cli::progress::Progress;
    use flaredb_mutants::{ALL, Breaks, Description};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Instant;

    pub(super) fn select(name: &str) -> Result<(), String> {
        let found = ALL.iter().find(|mutant| mutant.name == name);
        flaredb_mutants::select(Some(found.ok_or_else(|| format!("there is no mutant {name}"))?.mutant));
        Ok(())
    }

    /// What became of one mutant.
    struct Verdict {
        /// How many seeds it took, and the rule that it broke; None if it survived all of them.
        caught: Option<(u64, String)>,
    }

    pub(super) fn run(args: &Args) -> io::Result<ExitCode> {
        let began = Instant::now();
        let next = AtomicUsize::new(0);
        let (sender, verdicts) = mpsc::channel();
        let mut progress = Progress::new();
        let mut table: BTreeMap<usize, Verdict> = BTreeMap::new();
        std::thread::scope(|scope| -> io::Result<()> {
            for _ in 0..args.jobs.max(1) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(mutant) = ALL.get(place) else { return };
                        if sender.send((place, one(args, mutant))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (place, verdict) in verdicts {
                table.insert(place, verdict?);
                let survived = table.values().filter(|verdict| verdict.caught.is_none()).count();
                progress.show(count(table.len()), count(ALL.len()), 0, survived);
            }
            Ok(())
        })?;
        progress.end();
        let rows: Vec<(&Description, &Verdict)> = ALL.iter().zip(table.values()).collect();
        if args.json {
            print_json(args, &rows, began)?
        } else {
            print_text(args, &rows)?
        }
        let safe = rows.iter().all(|(mutant, verdict)| verdict.caught.is_some() || mutant.breaks == Breaks::Liveness);
        Ok(if safe { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn one(args: &Args, mutant: &Description) -> io::Result<Verdict> {
        let (seeds, first, events) = (args.seeds.to_string(), args.first_seed.to_string(), args.events.to_string());
        let output = Command::new(std::env::current_exe()?)
            .args(["--mutant", mutant.name, "--seeds", &seeds, "--first-seed", &first, "--events", &events])
            .args(["--jobs", "1", "--fail-fast", "--json"])
            .stderr(Stdio::null())
            .output()?;
        let line: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| io::Error::other(format!("{}: {error}", mutant.name)))?;
        let failure = line.get("failures").and_then(|failures| failures.get(0));
        let caught = failure.and_then(|failure| {
            let seed = failure.get("seed")?.as_u64()?;
            Some((seed - args.first_seed + 1, failure.get("rule")?.as_str()?.to_owned()))
        });
        Ok(Verdict { caught })
    }

    fn count(number: usize) -> u64 {
        u64::try_from(number).unwrap_or(u64::MAX)
    }

    fn median(rows: &[(&Description, &Verdict)]) -> u64 {
        let mut seeds: Vec<u64> = rows.iter().filter_map(|(_, verdict)| Some(verdict.caught.as_ref()?.0)).collect();
        seeds.sort_unstable();
        seeds.get(seeds.len() / 2).copied().unwrap_or(0)
    }

    fn print_json(args: &Args, rows: &[(&Description, &Verdict)], began: Instant) -> io::Result<()> {
        let (mut caught, mut survived) = (Vec::new(), Vec::new());
        for (mutant, verdict) in rows {
            let Description { name, origin, breaks, .. } = mutant;
            let breaks = if *breaks == Breaks::Safety { "safety" } else { "liveness" };
            match &verdict.caught {
                Some((seeds, rule)) => {
                    caught.push(
                        json!({"mutant": name, "origin": origin, "breaks": breaks, "seeds": seeds, "rule": rule}),
                    );
                }
                None => survived.push(json!({"mutant": name, "origin": origin, "breaks": breaks, "seeds": args.seeds})),
            }
        }
        let line = json!({
            "commit": commit(),
            "mutants": rows.len(),
            "caught": caught.len(),
            "survived": survived.len(),
            "median_seeds": median(rows),
            "events_per_seed": args.events,
            "seconds": began.elapsed().as_secs(),
            "caught_list": caught,
            "survived_list": survived,
        });
        writeln!(io::stdout().lock(), "{line}")
    }

    fn print_text(args: &Args, rows: &[(&Description, &Verdict)]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (Description { name, origin, what, .. }, verdict) in rows {
            match &verdict.caught {
                Some((seeds, rule)) => writeln!(out, "{name:<30} {origin:<10} caught by seed {seeds:>5}  {rule}")?,
                None => writeln!(out, "{name:<30} {origin:<10} SURVIVED {} seeds: {what}", args.seeds)?,
            }
        }
        let caught = rows.iter().filter(|(_, verdict)| verdict.caught.is_some()).count();
        writeln!(out, "{caught} of {} caught, median {} seeds", rows.len(), median(rows))
    }
}
