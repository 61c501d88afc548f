//! FlareDB's consensus core: Raft as a pure function of events.
#![no_std]
extern crate alloc;

mod config;
mod effects;
mod entry;
mod event;
mod message;
mod state;
mod storage;

pub use config::Config;
pub use effects::{Effects, LeadershipChange, ReadReady, RefuseReason, Refused, SendSnapshot, Write};
pub use entry::{EntryId, RaftLogEntry};
pub use event::Event;
pub use message::{AppendResult, Body, ForwardedProposal, Message};
pub use state::{ConfState, HardState, PeerState, PeerStatus, SnapshotMeta};
pub use storage::{InitialState, RaftStorage, StorageError};
