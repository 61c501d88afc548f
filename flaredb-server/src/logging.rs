//! Where log records go: text for people on a terminal, JSON lines for machines everywhere else.
//!
//! Not a metrics or tracing pipeline. Supervisors and test harnesses wait for certain words in these records;
//! docs/operating.md names them.

mod json;
mod settings;

pub use settings::{LogConfig, LogFormat, LogOutput};

use json::JsonLayer;
use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::Mutex,
};
use tracing::Level;
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{self, writer::BoxMakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened for appending.
    #[error("cannot open the log file {}: {source}; correct --log-outputs, or make its folder", path.display())]
    Open {
        /// As configured.
        path: PathBuf,
        /// From the operating system.
        source: io::Error,
    },
    /// Called twice in one process.
    #[error("logging was set up already")]
    AlreadySet,
}

/// Sets up logging for this process, once. From here on a panic is a log record too, so that it is found where the
/// operator looks.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    for output in &config.outputs {
        layers.push(layer(output, config.format)?);
    }
    tracing_subscriber::registry()
        .with(layers.with_filter(filter(config.level)))
        .try_init()
        .map_err(|_| LogError::AlreadySet)?;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(String::new, |location| location.to_string());
        tracing::error!(place, "a bug in FlareDB, please report it: {}", panic_text(panic));
        report(panic);
    }));
    Ok(())
}

fn panic_text<'a>(panic: &'a std::panic::PanicHookInfo<'_>) -> &'a str {
    panic.payload_as_str().unwrap_or("(no text)")
}

fn filter(level: Level) -> Targets {
    let libraries = if level > Level::INFO { Level::INFO } else { level.min(Level::WARN) };
    Targets::new().with_default(libraries).with_target("flaredb", level)
}

fn layer(output: &LogOutput, format: Option<LogFormat>) -> Result<Box<dyn Layer<Registry> + Send + Sync>, LogError> {
    let (writer, terminal) = match output {
        LogOutput::Stderr => (BoxMakeWriter::new(io::stderr), io::stderr().is_terminal()),
        LogOutput::Stdout => (BoxMakeWriter::new(io::stdout), io::stdout().is_terminal()),
        LogOutput::File(path) => (BoxMakeWriter::new(Mutex::new(open(path)?)), false),
    };
    Ok(match format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Json => Box::new(JsonLayer::new(writer)),
        LogFormat::Text => {
            let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            Box::new(fmt::layer().with_writer(writer).with_ansi(colour).with_target(false))
        }
    })
}

fn open(path: &Path) -> Result<File, LogError> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| LogError::Open { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_records_follow_the_level_and_the_libraries_stay_one_behind() {
        let allowed = |level: Level, target: &str, of: Level| filter(level).would_enable(target, &of);
        assert!(allowed(Level::DEBUG, "flaredb_server::driver", Level::DEBUG));
        assert!(!allowed(Level::DEBUG, "h2::client", Level::DEBUG));
        assert!(allowed(Level::DEBUG, "h2::client", Level::INFO));
        assert!(!allowed(Level::INFO, "h2::client", Level::INFO));
        assert!(allowed(Level::INFO, "h2::client", Level::WARN));
        assert!(!allowed(Level::ERROR, "flaredb_raft", Level::WARN));
        assert!(!allowed(Level::ERROR, "h2::client", Level::WARN));
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_named() {
        let error = open(Path::new("/nonexistent/x.log")).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the log file /nonexistent/x.log: No such file"), "{error}");
    }
}
