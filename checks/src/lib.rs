//! Tests of the project itself (in `tests/`): the arrows between crates, and that documents name things that exist.
//!
//! What it is not: a place for product code. It depends on no other crate of the workspace.

use std::{env, path::PathBuf};

/// The repository. Asked when a test runs, not when it is compiled: a target folder that several clones share may hold a
/// test that another clone compiled.
///
/// # Panics
/// If it was not started by cargo.
#[must_use]
#[expect(clippy::expect_used, reason = "for tests only")]
pub fn root() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests")).join("..")
}
