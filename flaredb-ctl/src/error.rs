//! What can go wrong, sorted by what the caller of `flarectl` can do about it: one variant, one exit code.

use std::fmt;

/// The exit codes, as `flarectl --help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  ok
  1  other error (this includes: members differ in `hash`, a `bench` that broke off)
  2  wrong usage; nothing was sent
  3  key not found (only `get --exists`)
  4  refused by the server: a definite error, nothing was changed
  5  no server reachable, or no answer to a read: nothing was changed
  6  outcome unknown: a write was sent and no answer came; it may or may not have happened
  7  conflict: the transaction took the else branch (only `txn --require-success`)";

/// One endpoint that could not be used, and the first cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The endpoint as the user gave it or as the member advertises it.
    pub endpoint: String,
    /// The first cause, in words.
    pub cause: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.cause)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the text on stdin cannot be understood. Nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// `get --exists` found nothing.
    #[error("key not found")]
    KeyNotFound,
    /// The server refused; the text is the server's own.
    #[error("{0}")]
    Refused(Failure),
    /// No endpoint could be used; nothing was changed. One failure for each endpoint that was tried.
    #[error("{}", lines(.0))]
    Unavailable(Vec<Failure>),
    /// Of the members that were asked, some did not answer.
    #[error("{silent} of {asked} did not answer or cannot serve")]
    SomeUnavailable {
        /// How many did not answer; the output says why.
        silent: usize,
        /// How many were asked.
        asked: usize,
    },
    /// A write was sent and no definite answer came back.
    #[error("{0}\noutcome unknown: the write may or may not have happened")]
    OutcomeUnknown(Failure),
    /// `txn --require-success` and the compares did not hold.
    #[error("conflict: the compares did not hold, the else branch was taken")]
    Conflict,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// The process's exit code for this error, see [`EXIT_CODES`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Other(_) => 1,
            Error::Usage(_) => 2,
            Error::KeyNotFound => 3,
            Error::Refused(_) => 4,
            Error::Unavailable(_) | Error::SomeUnavailable { .. } => 5,
            Error::OutcomeUnknown(_) => 6,
            Error::Conflict => 7,
        }
    }
}

/// One failure stands on the line of the error; several follow on lines of their own.
fn lines(failures: &[Failure]) -> String {
    match failures {
        [one] => one.to_string(),
        many => {
            let mut text = String::from("no endpoint could be used:");
            for failure in many {
                text.push_str(&format!("\n  {failure}"));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(endpoint: &str, cause: &str) -> Failure {
        Failure { endpoint: endpoint.to_owned(), cause: cause.to_owned() }
    }

    #[test]
    fn every_error_has_the_documented_code() {
        let a = failure("a:1", "x");
        let table = [
            (Error::Other(String::new()), 1),
            (Error::Usage(String::new()), 2),
            (Error::KeyNotFound, 3),
            (Error::Refused(a.clone()), 4),
            (Error::Unavailable(vec![a.clone()]), 5),
            (Error::SomeUnavailable { silent: 1, asked: 3 }, 5),
            (Error::OutcomeUnknown(a), 6),
            (Error::Conflict, 7),
        ];
        for (error, code) in table {
            assert_eq!(error.exit_code(), code, "{error:?}");
            assert!(EXIT_CODES.contains(&format!("\n  {code}  ")), "code {code} is documented");
        }
    }

    #[test]
    fn several_failures_stand_on_lines_of_their_own() {
        let one = Error::Unavailable(vec![failure("a:1", "connection refused")]);
        assert_eq!(one.to_string(), "a:1: connection refused");
        let two = Error::Unavailable(vec![failure("a:1", "connection refused"), failure("b:2", "no answer")]);
        assert_eq!(two.to_string(), "no endpoint could be used:\n  a:1: connection refused\n  b:2: no answer");
        let unknown = Error::OutcomeUnknown(failure("a:1", "no answer"));
        assert_eq!(unknown.to_string(), "a:1: no answer\noutcome unknown: the write may or may not have happened");
    }
}
