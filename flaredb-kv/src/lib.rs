//! FlareDB's state machine: etcd's MVCC data model as a pure function of (state, entry).
//!
//! [`Kv`] applies committed entries to an [`OrderedStore`], a batch at a time, and hands out [`KvReader`]s that see the state
//! of one revision. No clock, no randomness, no configuration takes part in what is applied, so that members that apply the
//! same entries hold the same content: [`KvReader::hash`] compares it. Consensus, waiting clients and disks are other crates'.
//!
//! - A write is a [`Command`]: decoded from the bytes of the client's request, checked before it is proposed and again at apply.
//! - `layout` is the table of every row in the store.
//! - Compaction is logical at apply, at once; [`Kv::compact_step`] removes the rows later, in steps of bounded size.

/// True where a bug is put back on purpose (crate `flaredb-mutants`); the constant `false` in every normal build.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        flaredb_mutants::on(flaredb_mutants::Mutant::$name)
    };
}
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        crate::no_mutant(stringify!($name))
    };
}

#[cfg(not(feature = "mutants"))]
const fn no_mutant(_name: &str) -> bool {
    false
}

mod apply;
mod check;
mod command;
mod compact;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod hash;
mod kv;
mod layout;
mod memory;
mod newest;
mod overlay;
mod range;
mod reader;
mod scan;
mod store;
mod txn;
mod types;
mod wire;

pub use command::{Command, TXN_DEPTH_MAX};
pub use compact::CompactProgress;
pub use error::KvError;
pub use kv::{Kv, applied_at};
pub use layout::{is_user_row, row_prefix};
pub use memory::{MemoryCursor, MemoryReader, MemoryStore};
pub use reader::KvReader;
pub use store::{Batch, Change, Cursor, OrderedStore, StoreError, StoreReader};
pub use types::*;

/// Why an operation ended without a result: the request's fault, or the store's.
enum Stop {
    Refused(KvError),
    Broken(StoreError),
}

impl From<KvError> for Stop {
    fn from(error: KvError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Broken(error)
    }
}

/// The two kinds apart, as the public surface has them: a refusal is an answer, a broken store is the end.
fn settle<T>(result: Result<T, Stop>) -> Result<Result<T, KvError>, StoreError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Refused(error)) => Ok(Err(error)),
        Err(Stop::Broken(error)) => Err(error),
    }
}
