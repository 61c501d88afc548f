//! A log entry as a protobuf message, for raft-engine.
//!
//! By hand, so that no compiler of message files is needed. The field numbers are those of Raft's own entry message in TiKV, less
//! the fields that a normal entry leaves empty; the bytes, and the work to make them, are the same.

use bytes::Bytes;
use protobuf::reflect::MessageDescriptor;
use protobuf::wire_format::{WireTypeLengthDelimited, WireTypeVarint};
use protobuf::{CachedSize, Clear, CodedInputStream, CodedOutputStream, Message, ProtobufResult, UnknownFields, rt};
use std::any::Any;
use std::sync::LazyLock;

const TERM: u32 = 2;
const INDEX: u32 = 3;
const DATA: u32 = 4;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) data: Bytes,
    size: CachedSize,
    unknown: UnknownFields,
}

impl Entry {
    pub(crate) fn of(term: u64, index: u64, data: Bytes) -> Self {
        Self { term, index, data, ..Self::default() }
    }
}

impl Clear for Entry {
    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for Entry {
    /// Only for reflection, which nobody asks for.
    fn descriptor(&self) -> &'static MessageDescriptor {
        Self::descriptor_static()
    }

    fn is_initialized(&self) -> bool {
        true
    }

    fn merge_from(&mut self, is: &mut CodedInputStream<'_>) -> ProtobufResult<()> {
        while !is.eof()? {
            match is.read_tag_unpack()? {
                (TERM, WireTypeVarint) => self.term = is.read_uint64()?,
                (INDEX, WireTypeVarint) => self.index = is.read_uint64()?,
                (DATA, WireTypeLengthDelimited) => self.data = is.read_bytes()?.into(),
                (field, wire_type) => rt::read_unknown_or_skip_group(field, wire_type, is, &mut self.unknown)?,
            }
        }
        Ok(())
    }

    fn write_to_with_cached_sizes(&self, os: &mut CodedOutputStream<'_>) -> ProtobufResult<()> {
        os.write_uint64(TERM, self.term)?;
        os.write_uint64(INDEX, self.index)?;
        os.write_bytes(DATA, &self.data)?;
        os.write_unknown_fields(&self.unknown)
    }

    fn compute_size(&self) -> u32 {
        let size = rt::value_size(TERM, self.term, WireTypeVarint)
            + rt::value_size(INDEX, self.index, WireTypeVarint)
            + rt::bytes_size(DATA, &self.data)
            + rt::unknown_fields_size(&self.unknown);
        self.size.set(size);
        size
    }

    fn get_cached_size(&self) -> u32 {
        self.size.get()
    }

    fn get_unknown_fields(&self) -> &UnknownFields {
        &self.unknown
    }

    fn mut_unknown_fields(&mut self) -> &mut UnknownFields {
        &mut self.unknown
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn new() -> Self {
        Self::default()
    }

    fn default_instance() -> &'static Self {
        static DEFAULT: LazyLock<Entry> = LazyLock::new(Entry::default);
        &DEFAULT
    }
}
