//! Flags from the environment: `FLAREDB_<FLAG>` first, then `ETCD_<FLAG>`; the command line beats both.

use super::{
    Notice, Origin,
    flags::{self, FLAGS, Flag},
};
use std::collections::BTreeMap;

/// A flag's value and who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) origin: Origin,
    pub(super) value: String,
}

/// Given values by flag name.
pub(super) type Values = BTreeMap<&'static str, Given>;

/// What Kubernetes puts into every container beside a service called `flaredb`; not meant for us.
const KUBERNETES: [&str; 2] = ["FLAREDB_SERVICE_", "FLAREDB_PORT"];

/// The variable of a flag: `FLAREDB_` or `ETCD_`, then the name in upper case with underscores.
pub fn variable(prefix: &str, flag: &str) -> String {
    format!("{prefix}{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// Adds to `values`, which come from the command line, what only the environment says. An empty variable counts as not
/// set, as with etcd. Each variable that is used, or beaten by another source, leaves a notice.
pub(super) fn merge(values: &mut Values, environment: &BTreeMap<String, String>) -> Vec<Notice> {
    let mut notices = Vec::new();
    for flag in FLAGS {
        merge_flag(flag, values, environment, &mut notices);
    }
    notices.extend(unknown_variables(environment));
    notices
}

fn merge_flag(flag: &Flag, values: &mut Values, environment: &BTreeMap<String, String>, notices: &mut Vec<Notice>) {
    for prefix in ["FLAREDB_", "ETCD_"] {
        let variable = variable(prefix, flag.name);
        let Some(value) = environment.get(&variable).filter(|value| !value.is_empty()) else { continue };
        match values.get(flag.name) {
            Some(winner) => notices.push(Notice::Info(format!(
                "{}={} is used, {variable}={value} (environment) is not",
                winner.origin, winner.value
            ))),
            None => {
                notices.push(Notice::Info(format!("--{}={value} comes from {variable} (environment)", flag.name)));
                values.insert(flag.name, Given { origin: Origin::Env(variable), value: value.clone() });
            }
        }
    }
}

/// Variables that look as if they were meant for FlareDB. Only FLAREDB_*: other programs have ETCD_* variables of their
/// own.
fn unknown_variables(environment: &BTreeMap<String, String>) -> Vec<Notice> {
    let known: Vec<String> = FLAGS.iter().map(|flag| variable("FLAREDB_", flag.name)).collect();
    environment
        .keys()
        .filter(|variable| variable.starts_with("FLAREDB_") && !known.contains(variable))
        .filter(|variable| !KUBERNETES.iter().any(|prefix| variable.starts_with(prefix)))
        .map(|variable| {
            let nearest = flags::nearest(variable, known.iter().map(String::as_str));
            let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
            Notice::Warn(format!("{variable} (environment) is no setting of the server and is ignored{hint}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn merged(flags: &[(&'static str, &str)], variables: &[(&str, &str)]) -> (Values, Vec<Notice>) {
        let mut values: Values = flags
            .iter()
            .map(|(flag, value)| (*flag, Given { origin: Origin::Flag(flag), value: (*value).to_owned() }))
            .collect();
        let notices = merge(&mut values, &environment(variables));
        (values, notices)
    }

    #[test]
    fn flags_beat_flaredb_beats_etcd() {
        let (values, notices) =
            merged(&[("name", "a")], &[("FLAREDB_NAME", "b"), ("ETCD_NAME", "c"), ("ETCD_DATA_DIR", "/d")]);
        assert_eq!(values.get("name").unwrap().value, "a");
        assert_eq!(values.get("data-dir").unwrap().origin, Origin::Env("ETCD_DATA_DIR".into()));
        assert_eq!(
            notices,
            [
                Notice::Info("--name=a is used, FLAREDB_NAME=b (environment) is not".into()),
                Notice::Info("--name=a is used, ETCD_NAME=c (environment) is not".into()),
                Notice::Info("--data-dir=/d comes from ETCD_DATA_DIR (environment)".into()),
            ]
        );
        let (values, notices) = merged(&[], &[("FLAREDB_NAME", "b"), ("ETCD_NAME", "c")]);
        assert_eq!(values.get("name").unwrap().value, "b");
        assert_eq!(
            notices,
            [
                Notice::Info("--name=b comes from FLAREDB_NAME (environment)".into()),
                Notice::Info("FLAREDB_NAME (environment)=b is used, ETCD_NAME=c (environment) is not".into()),
            ]
        );
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(merged(&[], &[("FLAREDB_NAME", ""), ("ETCD_NAME", "c")]).0.get("name").unwrap().value, "c");
    }

    #[test]
    fn unknown_variables_warn_with_the_nearest_name() {
        let (_, notices) = merged(&[], &[("FLAREDB_NMAE", "x"), ("ETCD_NMAE", "x"), ("FLAREDB_PORT_2379_TCP", "x")]);
        assert_eq!(
            notices,
            [Notice::Warn(
                "FLAREDB_NMAE (environment) is no setting of the server and is ignored; did you mean FLAREDB_NAME?"
                    .into()
            )]
        );
    }
}
