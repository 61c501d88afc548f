//! Raft messages as bytes: the payload of a peer frame.
//!
//! What it is not: framing, checksum and version. Those belong to the transport (the version to its handshake), so a
//! payload is only ever read by a peer that agreed on this layout.
//!
//! The encoding is a bijection: a list of messages has one encoding, and every payload that is accepted encodes back to
//! itself. Integers are LEB128 in their shortest form, booleans one byte 0 or 1, byte strings and lists carry their length
//! in front. An absent context is 0, a present one its length + 1.
//!
//! ```text
//! payload  = count, count * message
//! message  = from, to, region_id, term, tag u8, body
//! entry    = index, term, command, optional context
//! proposal = ticket, command, optional context
//! ```
//! The bodies' fields follow in the order in which `flaredb_raft::Body` declares them; `Tag` numbers them.

mod decode;
mod encode;

pub use decode::{WireError, decode_messages};
pub use encode::encode_messages;

/// The first byte of a body. Numbers are never used again for something else.
pub(crate) mod tag {
    pub(crate) const PRE_VOTE: u8 = 1;
    pub(crate) const PRE_VOTE_RESPONSE: u8 = 2;
    pub(crate) const REQUEST_VOTE: u8 = 3;
    pub(crate) const REQUEST_VOTE_RESPONSE: u8 = 4;
    pub(crate) const APPEND_ENTRIES: u8 = 5;
    pub(crate) const APPEND_ENTRIES_RESPONSE: u8 = 6;
    pub(crate) const INSTALL_SNAPSHOT: u8 = 7;
    pub(crate) const TIMEOUT_NOW: u8 = 8;
    pub(crate) const READ_INDEX: u8 = 9;
    pub(crate) const READ_INDEX_RESPONSE: u8 = 10;
    pub(crate) const PROPOSE: u8 = 11;
    pub(crate) const PROPOSE_REFUSED: u8 = 12;
    pub(crate) const PLEDGE: u8 = 13;

    pub(crate) const ACCEPTED: u8 = 1;
    pub(crate) const REJECTED: u8 = 2;
    pub(crate) const LOST: u8 = 3;

    pub(crate) const NO_LEADER: u8 = 1;
    pub(crate) const TOO_MANY_UNCOMMITTED: u8 = 2;
    pub(crate) const TRANSFERRING: u8 = 3;
}
