//! What keeps the harness itself from working. What the servers do wrong is a finding (`report.rs`), not an error.

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SoakError(pub String);

/// A result of the harness.
pub type Result<T> = std::result::Result<T, SoakError>;

/// Says what was tried when something failed.
pub trait Why<T> {
    /// The error with `what` in front.
    ///
    /// # Errors
    /// The same as before, in words.
    fn why(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> Why<T> for std::result::Result<T, E> {
    fn why(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| SoakError(format!("{what}: {error}")))
    }
}
