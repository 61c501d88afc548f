//! FlareDB's disk: the data folder, the Raft log and the state machine's rows.
//!
//! Three things live here and nothing else does:
//! - [`DataDir`]: `<path>/member/`, who it belongs to, and the lock that keeps a second process out;
//! - [`RaftLog`]: one RocksDB with the column families `raft_log` and `raft_state`, opened into a [`LogReader`] (the core's
//!   [`flaredb_raft::RaftStorage`]) and a [`LogWriter`] (owned by the log thread: one batch, one sync);
//! - [`DataStore`]: a second RocksDB without a WAL, the [`flaredb_kv::OrderedStore`] under the state machine.
//!
//! They are two databases because RocksDB refuses writes without WAL in a database that recycles its WAL files, and each
//! half needs one of the two (docs/storage.md). `layout.rs` is the table of every key and byte.
//!
//! [`open`] opens all of it. A folder whose disk lost something is judged (`flaredb_record::judgement`) by the mark that is kept
//! outside the log, and repaired as far as the other members can make good the rest.
//!
//! What is *not* here: consensus, the meaning of the rows, and what a member may do while it is being repaired.

mod data_dir;
mod data_folder;
mod data_store;
mod error;
mod evidence;
mod examine;
mod inspect;
mod layout;
mod log;
mod log_reader;
mod log_reset;
mod log_writer;
mod mark_file;
mod open;
mod options;
mod recovery;
mod repair;
mod state_rows;
mod suspect;
mod wal_prefill;

use flaredb_record::record;

pub use data_dir::{DataDir, Identity};
pub use data_folder::{Settled, Staged, Staging};
pub use data_store::{DataCursor, DataReader, DataStore, Flusher, Sizes};
pub use error::{LogError, OpenError};
pub use inspect::{Finding, Inspection};
pub use layout::{DATA_CF, FORMAT, RAFT_LOG_CF, RAFT_STATE_CF};
pub use log::{RaftLog, Recovery};
pub use log_reader::LogReader;
pub use log_writer::LogWriter;
pub use open::{Opened, open};
pub use options::{DataOptions, LogOptions};
pub use recovery::check_recovery;
