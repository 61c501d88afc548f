//! Tests of the project itself (in `tests/`): the arrows between crates, and that documents name things that exist.
//!
//! What it is not: a place for product code. It depends on no other crate of the workspace.
