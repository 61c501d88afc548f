//! The bytes that a member's log leaves on a disk, and the judgement of what is found there at a start. Pure: the storage
//! engine (RocksDB in production, a model disk in the simulator) is the caller's, so that both run the same judgement.

pub mod judgement;
pub mod mark;
pub mod record;
mod take;
