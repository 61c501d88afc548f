//! The binary `flaredb`: parse, match on what is wanted, call it. Exit codes: 0 as asked, 1 it did not work, 2 wrong
//! flags.

use flaredb_server::{
    config::{self, Invocation, Notice, Settings, command::command},
    dev,
    inspect::{self, Verdict},
    logging, node, signals,
};
use std::{collections::BTreeMap, env, io, io::Write, process::ExitCode};
use tokio::{runtime, sync::mpsc};

/// For RocksDB as well, under malloc's name. Scans, whose answers are large, gain most: docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const WRONG_FLAGS: u8 = 2;
/// Of `inspect`, whose 1 says that something is damaged.
const CANNOT_LOOK: u8 = 2;

fn main() -> ExitCode {
    // A variable that is not Unicode is nobody's setting.
    let environment: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match config::parse(env::args_os().skip(1), &environment) {
        Ok(Invocation::Server(settings)) => exit_code(server(*settings)),
        Ok(Invocation::Dev(args)) => exit_code(dev::run(&args).map_err(|error| error.to_string())),
        Ok(Invocation::Inspect(args)) => match inspect::run(&args, &mut io::stdout().lock()) {
            Ok(Verdict::Sound) => ExitCode::SUCCESS,
            Ok(Verdict::Damaged) => ExitCode::FAILURE,
            Err(text) => {
                complain(&text);
                ExitCode::from(CANNOT_LOOK)
            }
        },
        Ok(Invocation::Completions(shell)) => {
            clap_complete::generate(shell, &mut command(), "flaredb", &mut io::stdout());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Print(text)) => {
            // A closed pipe (`flaredb --help | head`) is no error.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(WRONG_FLAGS)
        }
    }
}

fn exit_code(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
    }
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "flaredb: {text}");
}

/// One node in this process, until a signal or a failure ends it.
fn server(settings: Settings) -> Result<(), String> {
    let Settings { node: config, log, notices } = settings;
    logging::init(&log).map_err(|error| error.to_string())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = config.name,
        data_dir = %config.data_dir.display(),
        members = config.initial_cluster.len(),
        "starting FlareDB"
    );
    for notice in notices {
        match notice {
            Notice::Info(text) => tracing::info!("{text}"),
            Notice::Warn(text) => tracing::warn!("{text}"),
        }
    }
    let (stop, mut stops) = mpsc::unbounded_channel();
    signals::watch(false, move |name| {
        // The receiver lives as long as there is something to stop.
        let _ = stop.send(name);
    })
    .map_err(|error| format!("cannot watch for signals: {error}"))?;
    let runtime = runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let node = node::start(config).map_err(|error| format!("cannot start: {error}"))?;
    let signal = runtime.block_on(async {
        tokio::select! {
            failure = node.wait_failed() => Err(failure),
            signal = stops.recv() => Ok(signal.unwrap_or("nobody to wait for")),
        }
    });
    match signal {
        Ok(name) => {
            tracing::info!(signal = name, "stopping");
            node.stop().map_err(|failure| format!("did not stop cleanly: {failure}"))
        }
        Err(failure) => Err(format!("had to stop: {failure}")),
    }
}
