//! The model disk of a simulated node, and on it a model of what RocksDB does for the Raft log and the state machine.
//!
//! - [`SimDisk`]: files over sectors with a cache; power cuts, latent faults, EIO, a full disk, latencies. It outlives the node.
//! - [`ModelLog`]: the log (`RaftStorage`) and the image of the state machine, opened on a disk at each start of the node and
//!   dropped when the node dies. The bytes of records and of the durable mark, and the judgement of what is found at a start,
//!   are production's (`flaredb-record`); the files around them are a model: a recycled WAL of framed batches, tables to which
//!   it is flushed, a manifest, and recovery that ends the log at the first bad frame without a word.
//! - [`Survey`]: what a start would find.
//!
//! A node's life: [`ModelLog::open`]; then [`ModelLog::begin_write`] and [`ModelLog::sync`] for each write, `save_image` and
//! `sync_image` now and then, `truncate` up to what the image holds; any error ends the process. Dying is dropping the log;
//! losing power is [`SimDisk::crash`] after that; [`SimDisk::cut_power_after`] makes it happen in the middle of anything.

mod bytes;
mod engine;
mod faults;
mod identity;
mod image;
mod manifest;
mod mark_file;
mod opening;
mod power;
mod reader;
mod recovery;
mod rows;
mod sectors;
mod survey;
mod table;
mod timing;
mod wal;

pub use engine::{LogOptions, ModelLog};
pub use faults::{Injected, SECTOR_FAULTS, SectorFault};
pub use identity::Identity;
pub use opening::{OpenError, Opened};
pub use power::CrashMode;
pub use sectors::{Backup, DiskError, FileId, SECTOR, SimDisk};
pub use survey::Survey;
pub use timing::{DiskOp, Timing};
