//! The context of a log entry: who proposed it, and what its command is.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | kind: 1 Put, 2 DeleteRange, 3 Txn, 4 Compact, 128 all-have |
//! | 8 | origin node, u64 little-endian |
//! | 8 | origin's incarnation, u64 LE |
//! | 8 | the attempt, u64 LE; in an all-have entry the index instead |
//!
//! It is part of the log's format: every version must read what an earlier one wrote. What cannot be read has no effect,
//! on no node.

use bytes::Bytes;
use flaredb_kv::CommandKind;

const VERSION: u8 = 1;
const ALL_HAVE: u8 = 128;

/// An entry's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// A client's write.
    Request { kind: CommandKind, origin: Origin },
    /// The leader `node` saw every voter hold everything up to `index` durably (see `truncation`).
    AllHave { node: u64, incarnation: u64, index: u64 },
}

/// One attempt to propose a write; no two entries of the log have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) node: u64,
    pub(crate) incarnation: u64,
    pub(crate) attempt: u64,
}

impl Context {
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, node, incarnation, value) = match *self {
            Self::Request { kind, origin } => (kind_byte(kind), origin.node, origin.incarnation, origin.attempt),
            Self::AllHave { node, incarnation, index } => (ALL_HAVE, node, incarnation, index),
        };
        let mut bytes = Vec::with_capacity(26);
        bytes.extend_from_slice(&[VERSION, kind]);
        for field in [node, incarnation, value] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.into()
    }

    /// None if these bytes are not a context of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, kind], fields) = bytes.split_first_chunk::<2>()?;
        let ([node, incarnation, value], []) = fields.as_chunks::<8>() else { return None };
        let [node, incarnation, value] = [node, incarnation, value].map(|field| u64::from_le_bytes(*field));
        if version != VERSION {
            return None;
        }
        if kind == ALL_HAVE {
            return Some(Self::AllHave { node, incarnation, index: value });
        }
        Some(Self::Request { kind: byte_kind(kind)?, origin: Origin { node, incarnation, attempt: value } })
    }
}

fn kind_byte(kind: CommandKind) -> u8 {
    match kind {
        CommandKind::Put => 1,
        CommandKind::DeleteRange => 2,
        CommandKind::Txn => 3,
        CommandKind::Compact => 4,
    }
}

fn byte_kind(byte: u8) -> Option<CommandKind> {
    [CommandKind::Put, CommandKind::DeleteRange, CommandKind::Txn, CommandKind::Compact]
        .into_iter()
        .find(|kind| kind_byte(*kind) == byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin { node: 2, incarnation: 0x0102, attempt: u64::MAX };

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = Context::Request { kind: CommandKind::Txn, origin: ORIGIN }.encode();
        assert_eq!(bytes[..2], [1, 3]);
        assert_eq!(bytes[2..10], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[10..18], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[18..], [255; 8]);
    }

    #[test]
    fn every_context_comes_back_as_it_was() {
        let kinds = [CommandKind::Put, CommandKind::DeleteRange, CommandKind::Txn, CommandKind::Compact];
        let mut contexts = kinds.map(|kind| Context::Request { kind, origin: ORIGIN }).to_vec();
        contexts.push(Context::AllHave { node: 1, incarnation: 2, index: 3 });
        for context in contexts {
            assert_eq!(Context::decode(&context.encode()), Some(context));
        }
    }

    #[test]
    fn another_version_kind_or_length_is_not_a_context() {
        let good = Context::Request { kind: CommandKind::Put, origin: ORIGIN }.encode().to_vec();
        for (at, value) in [(0, 0), (0, 2), (1, 0), (1, 5), (1, 127), (1, 129)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Context::decode(&bad), None, "byte {at} = {value}");
        }
        for length in 0..good.len() {
            assert_eq!(Context::decode(&good[..length]), None, "length {length}");
        }
        let longer = [good.as_slice(), &[0]].concat();
        assert_eq!(Context::decode(&longer), None);
        let by_a_field = [good.as_slice(), &[0; 8]].concat();
        assert_eq!(Context::decode(&by_a_field), None);
    }
}
