//! The command line: `flaredb [etcd's flags]` starts a server; `dev`, `inspect` and `completions` are
//! the only subcommands.
//!
//! clap's command is built from the table of flags. Go's habits are added before it looks: `-flag` is `--flag`, a
//! switch takes `=false`, and of a flag given twice the last one counts.

use super::{
    ConfigError, Notice, Origin, Settings,
    env::{self, Given, Values},
    flags::{self, FLAGS, Flag, Support},
    validate, values,
};
use crate::dev::DevArgs;
use crate::inspect::InspectArgs;
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches,
    builder::NonEmptyStringValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{collections::BTreeMap, ffi::OsString};

/// What to do.
#[derive(Debug)]
pub enum Invocation {
    /// Start a server.
    Server(Box<Settings>),
    /// Start three nodes in this process, or talk to the process that has them.
    Dev(DevArgs),
    /// Look into the folder of a member that does not run.
    Inspect(InspectArgs),
    /// Print a completion script.
    Completions(clap_complete::Shell),
    /// Print this (help, version) and be done.
    Print(String),
}

/// Reads a command line (without the program's name) and an environment.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &BTreeMap<String, String>,
) -> Result<Invocation, ConfigError> {
    let mut words = vec!["flaredb".to_owned()];
    for argument in arguments {
        let word = argument
            .into_string()
            .map_err(|argument| ConfigError::Usage(format!("{}: not valid UTF-8", argument.display())))?;
        words.push(double_dashed(word));
    }
    let in_subcommand = words.get(1).is_some_and(|word| ["dev", "inspect", "completions"].contains(&word.as_str()));
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Invocation::Print(error.render().to_string()));
        }
        Err(error) => return Err(refusal(&error, in_subcommand)),
    };
    match matches.subcommand() {
        Some(("dev", matches)) => {
            let args = DevArgs::from_arg_matches(matches).map_err(|error| refusal(&error, true))?;
            Ok(Invocation::Dev(args))
        }
        Some(("inspect", matches)) => {
            let args = InspectArgs::from_arg_matches(matches).map_err(|error| refusal(&error, true))?;
            Ok(Invocation::Inspect(args))
        }
        Some(("completions", matches)) => match matches.get_one::<clap_complete::Shell>("shell") {
            Some(shell) => Ok(Invocation::Completions(*shell)),
            None => Err(ConfigError::Usage("name a shell".into())),
        },
        _ => server(&matches, environment).map(|settings| Invocation::Server(Box::new(settings))),
    }
}

/// The whole command, for completions and help.
pub fn command() -> Command {
    Command::new("flaredb")
        .about("FlareDB: a Raft-replicated key-value database that speaks etcd's v3 API")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage(
            "flaredb [FLAGS]        start a server\n       flaredb dev            start three nodes on this machine",
        )
        .after_help(HELP_END)
        .args_conflicts_with_subcommands(true)
        .args_override_self(true)
        .disable_help_subcommand(true)
        .args(FLAGS.iter().map(argument))
        .subcommand(DevArgs::augment_args(Command::new("dev")))
        .subcommand(InspectArgs::augment_args(Command::new("inspect")))
        .subcommand(
            Command::new("completions")
                .about("Print a completion script for a shell")
                .arg(Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell))),
        )
}

const HELP_END: &str = "\
Each flag can be given in the environment: --data-dir as FLAREDB_DATA_DIR or ETCD_DATA_DIR. Flags beat FLAREDB_*, which
beat ETCD_*. Other flags of etcd's are accepted with a warning, or refused with the reason: docs/operating.md lists them.

Three hosts (the same on n2 and n3, with their names and addresses):
  flaredb --name n1 --data-dir /var/lib/flaredb \\
    --listen-client-urls http://10.0.0.1:2379 --listen-peer-urls http://10.0.0.1:2380 \\
    --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380

Exit codes: 0 stopped as asked, 1 could not start or had to stop, 2 wrong flags.";

fn argument(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).value_name(flag.value_name).action(ArgAction::Set);
    let arg = if flag.switch {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg.num_args(1).allow_negative_numbers(true)
    };
    match flag.support {
        Support::Supported(help) => {
            arg.value_parser(NonEmptyStringValueParser::new()).help(format!("{help} [default: {}]", flag.default))
        }
        Support::Ignored(_) | Support::Refused(_) => arg.hide(true),
    }
}

/// Go takes `-data-dir` for `--data-dir`; clap would take it for `-d -a -t ...`.
fn double_dashed(word: String) -> String {
    let mut letters = word.chars();
    let single = letters.next() == Some('-') && letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    let name_length = word.find('=').unwrap_or(word.len());
    if single && name_length > 2 { format!("-{word}") } else { word }
}

fn refusal(error: &clap::Error, in_subcommand: bool) -> ConfigError {
    if !in_subcommand
        && error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && let Some(flag) = argument.strip_prefix("--")
    {
        let flag = flag.split_once('=').map_or(flag, |(flag, _)| flag).to_owned();
        let nearest = flags::nearest(&flag, FLAGS.iter().map(|flag| flag.name).chain(["help", "version"]));
        return ConfigError::UnknownFlag { flag, nearest };
    }
    let text = error.render().to_string();
    ConfigError::Usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned())
}

fn server(matches: &ArgMatches, environment: &BTreeMap<String, String>) -> Result<Settings, ConfigError> {
    let mut given: Values = FLAGS
        .iter()
        .filter_map(|flag| {
            let value = matches.get_one::<String>(flag.name)?;
            Some((flag.name, Given { origin: Origin::Flag(flag.name), value: value.clone() }))
        })
        .collect();
    let mut notices = env::merge(&mut given, environment);
    notices.extend(unsupported(&given)?);
    validate::settings(&given, notices)
}

/// Warnings for ignored flags; the first refused one is an error.
fn unsupported(given: &Values) -> Result<Vec<Notice>, ConfigError> {
    let mut notices = Vec::new();
    for flag in FLAGS {
        let Some(Given { origin, value }) = given.get(flag.name) else { continue };
        let canonical = if flag.switch { values::switch(origin, value)?.to_string() } else { value.clone() };
        if flag.harmless.contains(&canonical.as_str()) {
            continue;
        }
        match flag.support {
            Support::Supported(_) => {}
            Support::Ignored(reason) => notices.push(Notice::Warn(format!("{origin}={value} is ignored: {reason}"))),
            Support::Refused(reason) => {
                let (origin, value) = (origin.clone(), value.clone());
                return Err(ConfigError::Refused { origin, value, reason: reason.to_owned() });
            }
        }
    }
    Ok(notices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run(line: &str, variables: &[(&str, &str)]) -> Result<Invocation, ConfigError> {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(line.split_whitespace().map(OsString::from), &environment)
    }

    fn settings(line: &str) -> Settings {
        match run(line, &[]) {
            Ok(Invocation::Server(settings)) => *settings,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn error(line: &str) -> String {
        run(line, &[]).unwrap_err().to_string()
    }

    #[test]
    fn gos_spellings_are_understood() {
        for line in ["--name n1", "--name=n1", "-name n1", "-name=n1", "--name n0 --name n1"] {
            assert_eq!(settings(line).node.name, "n1", "{line}");
        }
        assert_eq!(settings("--quota-backend-bytes -1").node.quota_backend_bytes, None);
        assert_eq!(
            settings("-heartbeat-interval 50 -election-timeout=1s").node.election_timeout,
            Duration::from_secs(1)
        );
        assert!(settings("-enable-v2=false --pre-vote --client-cert-auth=false --cert-file=").notices.is_empty());
    }

    #[test]
    fn unknown_flags_come_back_with_the_nearest_name() {
        assert_eq!(
            error("--intial-cluster x"),
            "unknown flag --intial-cluster; did you mean --initial-cluster?; `flaredb --help` lists all"
        );
        assert_eq!(error("-nmae=n1"), "unknown flag --nmae; did you mean --name?; `flaredb --help` lists all");
        assert_eq!(error("--zzzzzz"), "unknown flag --zzzzzz; `flaredb --help` lists all");
        assert_eq!(error("--versio"), "unknown flag --versio; did you mean --version?; `flaredb --help` lists all");
    }

    #[test]
    fn missing_values_and_stray_words_are_usage_errors() {
        assert!(error("--name").contains("a value is required for '--name <NAME>'"), "{}", error("--name"));
        assert!(error("--name=").contains("a value is required"), "{}", error("--name="));
        assert!(error("start").contains("start"), "{}", error("start"));
        assert!(error("dev kill").contains("required"), "{}", error("dev kill"));
    }

    #[test]
    fn ignored_flags_warn_and_refused_ones_stop() {
        assert_eq!(
            settings("--unsafe-no-fsync").notices,
            [Notice::Warn("--unsafe-no-fsync=true is ignored: FlareDB always syncs what it acknowledges".into())]
        );
        assert_eq!(
            error("--cert-file=/etc/cert.pem"),
            "--cert-file=/etc/cert.pem: refused: TLS is not supported yet, and without it the traffic would be in the \
             clear"
        );
        let from_environment = run("", &[("ETCD_PEER_AUTO_TLS", "true")]).unwrap_err().to_string();
        assert!(from_environment.starts_with("ETCD_PEER_AUTO_TLS (environment)=true: refused"), "{from_environment}");
        assert_eq!(error("--pre-vote=maybe"), "--pre-vote=\"maybe\": not a switch; write true or false");
    }

    #[test]
    fn every_flag_of_the_table_is_accepted_or_answered_with_its_reason() {
        for flag in FLAGS {
            let Err(error) = run(&format!("--{}={}", flag.name, if flag.switch { "true" } else { "?" }), &[]) else {
                assert!(
                    !matches!(flag.support, Support::Refused(_)) || flag.harmless.contains(&"true"),
                    "{}",
                    flag.name
                );
                continue;
            };
            let text = error.to_string();
            assert!(text.starts_with(&format!("--{}", flag.name)), "{}: {text}", flag.name);
            match flag.support {
                Support::Refused(reason) => assert!(text.contains(reason), "{text}"),
                Support::Ignored(_) => panic!("--{} is not ignored: {text}", flag.name),
                Support::Supported(_) => {}
            }
        }
    }

    #[test]
    fn help_version_and_subcommands() {
        assert!(matches!(run("--help", &[]), Ok(Invocation::Print(text)) if text.contains("--initial-cluster")));
        assert!(matches!(run("-h", &[]), Ok(Invocation::Print(_))));
        assert!(matches!(run("--version", &[]), Ok(Invocation::Print(text)) if text.starts_with("flaredb ")));
        assert!(matches!(run("completions bash", &[]), Ok(Invocation::Completions(clap_complete::Shell::Bash))));
        assert!(matches!(run("dev status", &[]), Ok(Invocation::Dev(_))));
        command().debug_assert();
    }
}
