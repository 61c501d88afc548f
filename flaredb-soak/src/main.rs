//! The binary `flaredb-soak`. Exit codes: 0 nothing found, 1 something found, 2 the run could not be made.

use clap::Parser;
use flaredb_soak::error::{Result, SoakError, Why};
use flaredb_soak::faults::Kind;
use flaredb_soak::options::Options;
use flaredb_soak::{enter, report::Report};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.faults == "list" {
        println!("{}", Kind::list());
        return ExitCode::SUCCESS;
    }
    match start(&options) {
        Ok(report) => {
            let json = serde_json::to_string(&report).unwrap_or_default();
            println!("{}", if options.json { json } else { report.text() });
            if report.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("flaredb-soak: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(options: &Options) -> Result<Report> {
    options.kinds()?;
    let net = enter::enter(options.net)?;
    // One thread: the servers are started from it, and end when it does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().why("a runtime")?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).why("signals")?;
        tokio::select! {
            report = flaredb_soak::run(options, net) => report,
            _ = tokio::signal::ctrl_c() => Err(SoakError("interrupted; everything that it started is gone".to_owned())),
            _ = terminate.recv() => Err(SoakError("ended; everything that it started is gone".to_owned())),
        }
    })
}
