//! Bytes to messages. The bytes came from the network: nothing in them is believed, nothing in them can panic, and what is
//! allocated is bounded by a constant times their number.
//!
//! Commands and contexts are slices of the received payload: no copy, and the payload lives as long as one of them does.

use super::tag;
use bytes::Bytes;
use flaredb_raft::{
    AppendResult, Body, ConfState, EntryId, ForwardedProposal, Message, RaftLogEntry, RefuseReason, SnapshotMeta,
};

/// Why a payload is not a list of messages. The sender is confused or the bytes were damaged: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The payload ends inside a value.
    #[error("the payload ends early, at byte {at}")]
    Truncated {
        /// Offset of the value that is cut off.
        at: usize,
    },
    /// Bytes follow the last message.
    #[error("{left} bytes follow the last message")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// A tag that names nothing.
    #[error("unknown {what} tag {tag} at byte {at}")]
    UnknownTag {
        /// What was to be read.
        what: &'static str,
        /// The tag found.
        tag: u8,
        /// Its offset.
        at: usize,
    },
    /// A list claims more items, or a byte string more bytes, than the rest of the payload could hold.
    #[error("a length of {claimed} at byte {at} is more than the payload holds")]
    TooLong {
        /// Items or bytes claimed.
        claimed: u64,
        /// Offset of the length.
        at: usize,
    },
    /// An integer of more than 64 bits, or not in its shortest form.
    #[error("malformed integer at byte {at}")]
    MalformedInteger {
        /// Its offset.
        at: usize,
    },
}

/// Reads a payload made by [`encode_messages`](super::encode_messages).
///
/// # Errors
/// [`WireError`] for anything else; then nothing of the payload counts.
pub fn decode_messages(payload: Bytes) -> Result<Vec<Message>, WireError> {
    let mut reader = Reader { payload, at: 0 };
    let messages = reader.list(MESSAGE_SIZE_MIN, Reader::message)?;
    match reader.left() {
        0 => Ok(messages),
        left => Err(WireError::TrailingBytes { left }),
    }
}

/// Least encoded sizes, in bytes: what bounds the number of items that a payload can really hold.
const MESSAGE_SIZE_MIN: usize = 5;
const ENTRY_SIZE_MIN: usize = 4;
const PROPOSAL_SIZE_MIN: usize = 3;
const INTEGER_SIZE_MIN: usize = 1;

struct Reader {
    payload: Bytes,
    /// Offset of the next byte; never past the end.
    at: usize,
}

impl Reader {
    fn message(&mut self) -> Result<Message, WireError> {
        Ok(Message {
            from: self.integer()?,
            to: self.integer()?,
            region_id: self.integer()?,
            term: self.integer()?,
            body: self.body()?,
        })
    }

    fn body(&mut self) -> Result<Body, WireError> {
        let at = self.at;
        Ok(match self.byte()? {
            tag::PRE_VOTE => Body::PreVote { last: self.entry_id()? },
            tag::PRE_VOTE_RESPONSE => Body::PreVoteResponse { granted: self.boolean()? },
            tag::REQUEST_VOTE => Body::RequestVote { last: self.entry_id()?, transfer: self.boolean()? },
            tag::REQUEST_VOTE_RESPONSE => Body::RequestVoteResponse { granted: self.boolean()? },
            tag::APPEND_ENTRIES => Body::AppendEntries {
                prev: self.entry_id()?,
                commit_index: self.integer()?,
                round: self.integer()?,
                entries: self.list(ENTRY_SIZE_MIN, Self::entry)?,
            },
            tag::APPEND_ENTRIES_RESPONSE => {
                Body::AppendEntriesResponse { round: self.integer()?, result: self.append_result()? }
            }
            tag::PLEDGE => Body::Pledge { round: self.integer()?, for_us: self.integer()? },
            tag::INSTALL_SNAPSHOT => Body::InstallSnapshot {
                snapshot: SnapshotMeta {
                    last: self.entry_id()?,
                    conf_state: ConfState { voters: self.list(INTEGER_SIZE_MIN, Self::integer)? },
                },
            },
            tag::TIMEOUT_NOW => Body::TimeoutNow,
            tag::READ_INDEX => Body::ReadIndex { id: self.integer()? },
            tag::READ_INDEX_RESPONSE => Body::ReadIndexResponse {
                id: self.integer()?,
                index: if self.boolean()? { Some(self.integer()?) } else { None },
            },
            tag::PROPOSE => {
                Body::Propose { seq: self.integer()?, proposals: self.list(PROPOSAL_SIZE_MIN, Self::proposal)? }
            }
            tag::PROPOSE_REFUSED => Body::ProposeRefused {
                tickets: self.list(INTEGER_SIZE_MIN, Self::integer)?,
                reason: self.refuse_reason()?,
            },
            tag => return Err(WireError::UnknownTag { what: "message", tag, at }),
        })
    }

    fn append_result(&mut self) -> Result<AppendResult, WireError> {
        let at = self.at;
        match self.byte()? {
            tag::ACCEPTED => Ok(AppendResult::Accepted { match_index: self.integer()? }),
            tag::REJECTED => Ok(AppendResult::Rejected { prev_index: self.integer()?, hint: self.entry_id()? }),
            tag::LOST => Ok(AppendResult::Lost { last: self.entry_id()? }),
            tag => Err(WireError::UnknownTag { what: "append result", tag, at }),
        }
    }

    fn refuse_reason(&mut self) -> Result<RefuseReason, WireError> {
        let at = self.at;
        match self.byte()? {
            tag::NO_LEADER => Ok(RefuseReason::NoLeader),
            tag::TOO_MANY_UNCOMMITTED => Ok(RefuseReason::TooManyUncommitted),
            tag::TRANSFERRING => Ok(RefuseReason::Transferring),
            tag => Err(WireError::UnknownTag { what: "refusal", tag, at }),
        }
    }

    fn entry(&mut self) -> Result<RaftLogEntry, WireError> {
        Ok(RaftLogEntry {
            index: self.integer()?,
            term: self.integer()?,
            command: self.byte_string()?,
            context: self.optional_byte_string()?,
        })
    }

    fn proposal(&mut self) -> Result<ForwardedProposal, WireError> {
        Ok(ForwardedProposal {
            ticket: self.integer()?,
            command: self.byte_string()?,
            context: self.optional_byte_string()?,
        })
    }

    fn entry_id(&mut self) -> Result<EntryId, WireError> {
        Ok(EntryId { index: self.integer()?, term: self.integer()? })
    }

    /// A list of items that take at least `item_size_min` bytes each; refused before it is allocated.
    fn list<T>(
        &mut self,
        item_size_min: usize,
        item: impl Fn(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let at = self.at;
        let claimed = self.integer()?;
        let count = usize::try_from(claimed)
            .ok()
            .filter(|count| *count <= self.left() / item_size_min)
            .ok_or(WireError::TooLong { claimed, at })?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn byte_string(&mut self) -> Result<Bytes, WireError> {
        let at = self.at;
        let claimed = self.integer()?;
        self.bytes(claimed, at)
    }

    fn optional_byte_string(&mut self) -> Result<Option<Bytes>, WireError> {
        let at = self.at;
        match self.integer()?.checked_sub(1) {
            None => Ok(None),
            Some(claimed) => self.bytes(claimed, at).map(Some),
        }
    }

    /// The next `claimed` bytes, shared with the payload. `at`: where the claim stands.
    fn bytes(&mut self, claimed: u64, at: usize) -> Result<Bytes, WireError> {
        let end = usize::try_from(claimed)
            .ok()
            .and_then(|length| self.at.checked_add(length))
            .filter(|end| *end <= self.payload.len())
            .ok_or(WireError::TooLong { claimed, at })?;
        let bytes = self.payload.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    fn boolean(&mut self) -> Result<bool, WireError> {
        let at = self.at;
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(WireError::UnknownTag { what: "boolean", tag, at }),
        }
    }

    fn integer(&mut self) -> Result<u64, WireError> {
        let at = self.at;
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte().map_err(|_| WireError::Truncated { at })?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only; a zero last byte is a longer form of a shorter integer.
            if (shift == 63 && byte > 1) || (byte == 0 && shift > 0) {
                return Err(WireError::MalformedInteger { at });
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::MalformedInteger { at })
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        let byte = self.payload.get(self.at).copied().ok_or(WireError::Truncated { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    fn left(&self) -> usize {
        self.payload.len() - self.at
    }
}
