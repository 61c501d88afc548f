//! FlareDB's state machine: etcd's MVCC data model as a pure function of (state, entry).
mod error;
mod store;
mod types;

pub use error::KvError;
pub use store::{Batch, Cursor, OrderedStore, StoreError, StoreReader};
pub use types::*;
