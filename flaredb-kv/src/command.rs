//! Requests to and from etcd's protobuf messages (rpc.proto of etcdserverpb), written by hand: keys and values of a decoded
//! request are slices of the bytes that arrived, so that a value is not copied between the wire and the store.
//!
//! Decoding says only whether the bytes are a request; whether the request may be made is `check.rs`. One refusal of the
//! latter kind is made here because the plain types cannot express the offence: an unknown sort order or target.

use bytes::Bytes;

use crate::{
    CommandKind, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, KvError, PutRequest,
    RangeRequest, RequestOp, SortOrder, SortTarget, TxnRequest,
    wire::{Measure, Sink, WireReader},
};

/// Nested transactions deeper than this are refused by the decoder. It is part of the state machine's definition, the same
/// on every member, and bounds the recursion; what an operator allows is [`crate::Limits::txn_depth_max`].
pub const TXN_DEPTH_MAX: usize = 32;

/// A write, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Store a value under a key.
    Put(PutRequest),
    /// Delete a key or a range of keys.
    DeleteRange(DeleteRangeRequest),
    /// Compare, then execute one of two lists of operations, as one change.
    Txn(TxnRequest),
    /// Forget what was overwritten up to a revision.
    Compact(CompactRequest),
}

impl Command {
    /// Reads the message of kind `kind`. The result holds slices of `bytes`.
    pub fn decode(kind: CommandKind, bytes: &Bytes) -> Result<Self, KvError> {
        Ok(match kind {
            CommandKind::Put => Self::Put(PutRequest::decode(bytes)?),
            CommandKind::DeleteRange => Self::DeleteRange(DeleteRangeRequest::decode(bytes)?),
            CommandKind::Txn => Self::Txn(TxnRequest::decode(bytes)?),
            CommandKind::Compact => Self::Compact(CompactRequest::decode(bytes)?),
        })
    }

    /// The message, without the kind.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Put(request) => request.encode(),
            Self::DeleteRange(request) => request.encode(),
            Self::Txn(request) => request.encode(),
            Self::Compact(request) => request.encode(),
        }
    }

    /// Length of [`Command::encode`]'s result, in bytes, without making it.
    pub fn encoded_len(&self) -> usize {
        let mut measure = Measure::default();
        match self {
            Self::Put(request) => request.write(&mut measure),
            Self::DeleteRange(request) => request.write(&mut measure),
            Self::Txn(request) => request.write(&mut measure),
            Self::Compact(request) => request.write(&mut measure),
        }
        measure.0
    }

    /// Which message this is; travels beside the bytes.
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Put(_) => CommandKind::Put,
            Self::DeleteRange(_) => CommandKind::DeleteRange,
            Self::Txn(_) => CommandKind::Txn,
            Self::Compact(_) => CommandKind::Compact,
        }
    }
}

impl TryFrom<u8> for CommandKind {
    type Error = KvError;

    fn try_from(kind: u8) -> Result<Self, KvError> {
        Ok(match kind {
            1 => Self::Put,
            2 => Self::DeleteRange,
            3 => Self::Txn,
            4 => Self::Compact,
            _ => return Err(KvError::Malformed),
        })
    }
}

impl From<CommandKind> for u8 {
    fn from(kind: CommandKind) -> u8 {
        match kind {
            CommandKind::Put => 1,
            CommandKind::DeleteRange => 2,
            CommandKind::Txn => 3,
            CommandKind::Compact => 4,
        }
    }
}

/// The two public directions, the same for every message.
macro_rules! message {
    ($request:ty, $read:expr) => {
        impl $request {
            /// Reads the message; byte fields are slices of `bytes`.
            pub fn decode(bytes: &Bytes) -> Result<Self, KvError> {
                $read(WireReader::new(bytes))
            }

            /// The message as protobuf; fields at their default are left out.
            pub fn encode(&self) -> Bytes {
                let mut out = Vec::new();
                self.write(&mut out);
                Bytes::from(out)
            }
        }
    };
}

message!(RangeRequest, RangeRequest::read);
message!(PutRequest, PutRequest::read);
message!(DeleteRangeRequest, DeleteRangeRequest::read);
message!(TxnRequest, |reader| TxnRequest::read(reader, 1));
message!(CompactRequest, CompactRequest::read);

impl RangeRequest {
    fn read(mut reader: WireReader<'_>) -> Result<Self, KvError> {
        let mut request = Self::default();
        while let Some(field) = reader.field()? {
            match field.number {
                1 => request.key = reader.bytes(field)?,
                2 => request.range_end = reader.bytes(field)?,
                3 => request.limit = reader.int64(field)?,
                4 => request.revision = reader.int64(field)?,
                5 => request.sort_order = sort_order(reader.enumeration(field)?)?,
                6 => request.sort_target = sort_target(reader.enumeration(field)?)?,
                7 => request.serializable = reader.boolean(field)?,
                8 => request.keys_only = reader.boolean(field)?,
                9 => request.count_only = reader.boolean(field)?,
                10 => request.min_mod_revision = reader.int64(field)?,
                11 => request.max_mod_revision = reader.int64(field)?,
                12 => request.min_create_revision = reader.int64(field)?,
                13 => request.max_create_revision = reader.int64(field)?,
                _ => reader.skip(field)?,
            }
        }
        Ok(request)
    }

    fn write(&self, out: &mut impl Sink) {
        out.bytes(1, &self.key);
        out.bytes(2, &self.range_end);
        out.int64(3, self.limit);
        out.int64(4, self.revision);
        out.int64(
            5,
            match self.sort_order {
                SortOrder::None => 0,
                SortOrder::Ascend => 1,
                SortOrder::Descend => 2,
            },
        );
        out.int64(
            6,
            match self.sort_target {
                SortTarget::Key => 0,
                SortTarget::Version => 1,
                SortTarget::Create => 2,
                SortTarget::Mod => 3,
                SortTarget::Value => 4,
            },
        );
        out.boolean(7, self.serializable);
        out.boolean(8, self.keys_only);
        out.boolean(9, self.count_only);
        out.int64(10, self.min_mod_revision);
        out.int64(11, self.max_mod_revision);
        out.int64(12, self.min_create_revision);
        out.int64(13, self.max_create_revision);
    }
}

fn sort_order(value: u32) -> Result<SortOrder, KvError> {
    Ok(match value {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        _ => return Err(KvError::InvalidSortOption),
    })
}

fn sort_target(value: u32) -> Result<SortTarget, KvError> {
    Ok(match value {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        _ => return Err(KvError::InvalidSortOption),
    })
}

impl PutRequest {
    fn read(mut reader: WireReader<'_>) -> Result<Self, KvError> {
        let mut request = Self::default();
        while let Some(field) = reader.field()? {
            match field.number {
                1 => request.key = reader.bytes(field)?,
                2 => request.value = reader.bytes(field)?,
                3 => request.lease = reader.int64(field)?,
                4 => request.prev_kv = reader.boolean(field)?,
                5 => request.ignore_value = reader.boolean(field)?,
                6 => request.ignore_lease = reader.boolean(field)?,
                _ => reader.skip(field)?,
            }
        }
        Ok(request)
    }

    fn write(&self, out: &mut impl Sink) {
        out.bytes(1, &self.key);
        out.bytes(2, &self.value);
        out.int64(3, self.lease);
        out.boolean(4, self.prev_kv);
        out.boolean(5, self.ignore_value);
        out.boolean(6, self.ignore_lease);
    }
}

impl DeleteRangeRequest {
    fn read(mut reader: WireReader<'_>) -> Result<Self, KvError> {
        let mut request = Self::default();
        while let Some(field) = reader.field()? {
            match field.number {
                1 => request.key = reader.bytes(field)?,
                2 => request.range_end = reader.bytes(field)?,
                3 => request.prev_kv = reader.boolean(field)?,
                _ => reader.skip(field)?,
            }
        }
        Ok(request)
    }

    fn write(&self, out: &mut impl Sink) {
        out.bytes(1, &self.key);
        out.bytes(2, &self.range_end);
        out.boolean(3, self.prev_kv);
    }
}

impl CompactRequest {
    fn read(mut reader: WireReader<'_>) -> Result<Self, KvError> {
        let mut request = Self::default();
        while let Some(field) = reader.field()? {
            match field.number {
                1 => request.revision = reader.int64(field)?,
                2 => request.physical = reader.boolean(field)?,
                _ => reader.skip(field)?,
            }
        }
        Ok(request)
    }

    fn write(&self, out: &mut impl Sink) {
        out.int64(1, self.revision);
        out.boolean(2, self.physical);
    }
}

impl TxnRequest {
    fn read(mut reader: WireReader<'_>, depth: usize) -> Result<Self, KvError> {
        if depth > TXN_DEPTH_MAX {
            return Err(KvError::TooManyOps);
        }
        let mut request = Self::default();
        while let Some(field) = reader.field()? {
            match field.number {
                1 => request.compare.push(Compare::read(reader.message(field)?)?),
                2 => request.success.push(RequestOp::read(reader.message(field)?, depth)?),
                3 => request.failure.push(RequestOp::read(reader.message(field)?, depth)?),
                _ => reader.skip(field)?,
            }
        }
        Ok(request)
    }

    fn write(&self, out: &mut impl Sink) {
        for compare in &self.compare {
            out.message(1, |out| compare.write(out));
        }
        for op in &self.success {
            out.message(2, |out| op.write(out));
        }
        for op in &self.failure {
            out.message(3, |out| op.write(out));
        }
    }
}

impl RequestOp {
    /// Of several members of the oneof the last one counts, and replaces the earlier ones whole, as in etcd's decoder.
    fn read(mut reader: WireReader<'_>, depth: usize) -> Result<Self, KvError> {
        let mut op = Self::Nothing;
        while let Some(field) = reader.field()? {
            match field.number {
                1 => op = Self::Range(RangeRequest::read(reader.message(field)?)?),
                2 => op = Self::Put(PutRequest::read(reader.message(field)?)?),
                3 => op = Self::DeleteRange(DeleteRangeRequest::read(reader.message(field)?)?),
                4 => op = Self::Txn(TxnRequest::read(reader.message(field)?, depth + 1)?),
                _ => reader.skip(field)?,
            }
        }
        Ok(op)
    }

    fn write<S: Sink>(&self, out: &mut S) {
        match self {
            Self::Range(request) => out.message(1, |out: &mut S| request.write(out)),
            Self::Put(request) => out.message(2, |out: &mut S| request.write(out)),
            Self::DeleteRange(request) => out.message(3, |out: &mut S| request.write(out)),
            Self::Txn(request) => out.message(4, |out: &mut S| request.write(out)),
            Self::Nothing => {}
        }
    }
}

/// The oneof `target_union` as it stands on the wire.
enum TargetUnion {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(Bytes),
    Lease(i64),
}

impl Compare {
    /// A result or target that this version does not know is malformed. (etcd lets such a comparison succeed, which would
    /// turn a newer client's question into a yes.)
    fn read(mut reader: WireReader<'_>) -> Result<Self, KvError> {
        let (mut result, mut target, mut union) = (0, 0, None);
        let (mut key, mut range_end) = (Bytes::new(), Bytes::new());
        while let Some(field) = reader.field()? {
            match field.number {
                1 => result = reader.enumeration(field)?,
                2 => target = reader.enumeration(field)?,
                3 => key = reader.bytes(field)?,
                4 => union = Some(TargetUnion::Version(reader.int64(field)?)),
                5 => union = Some(TargetUnion::Create(reader.int64(field)?)),
                6 => union = Some(TargetUnion::Mod(reader.int64(field)?)),
                7 => union = Some(TargetUnion::Value(reader.bytes(field)?)),
                8 => union = Some(TargetUnion::Lease(reader.int64(field)?)),
                64 => range_end = reader.bytes(field)?,
                _ => reader.skip(field)?,
            }
        }
        Ok(Self { result: compare_result(result)?, target: compare_target(target, union)?, key, range_end })
    }

    fn write(&self, out: &mut impl Sink) {
        out.int64(
            1,
            match self.result {
                CompareResult::Equal => 0,
                CompareResult::Greater => 1,
                CompareResult::Less => 2,
                CompareResult::NotEqual => 3,
            },
        );
        out.int64(
            2,
            match self.target {
                CompareTarget::Version(_) => 0,
                CompareTarget::Create(_) => 1,
                CompareTarget::Mod(_) => 2,
                CompareTarget::Value(_) => 3,
                CompareTarget::Lease(_) => 4,
            },
        );
        out.bytes(3, &self.key);
        match &self.target {
            CompareTarget::Version(version) => out.int64_always(4, *version),
            CompareTarget::Create(revision) => out.int64_always(5, *revision),
            CompareTarget::Mod(revision) => out.int64_always(6, *revision),
            CompareTarget::Value(value) => out.bytes_always(7, value),
            CompareTarget::Lease(lease) => out.int64_always(8, *lease),
        }
        out.bytes(64, &self.range_end);
    }
}

fn compare_result(value: u32) -> Result<CompareResult, KvError> {
    Ok(match value {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        _ => return Err(KvError::Malformed),
    })
}

/// A target whose member of the union is absent, or another's, is compared with zero or the empty value, as in etcd.
fn compare_target(target: u32, union: Option<TargetUnion>) -> Result<CompareTarget, KvError> {
    use TargetUnion as Union;
    Ok(match (target, union) {
        (0, Some(Union::Version(version))) => CompareTarget::Version(version),
        (0, _) => CompareTarget::Version(0),
        (1, Some(Union::Create(revision))) => CompareTarget::Create(revision),
        (1, _) => CompareTarget::Create(0),
        (2, Some(Union::Mod(revision))) => CompareTarget::Mod(revision),
        (2, _) => CompareTarget::Mod(0),
        (3, Some(Union::Value(value))) => CompareTarget::Value(value),
        (3, _) => CompareTarget::Value(Bytes::new()),
        (4, Some(Union::Lease(lease))) => CompareTarget::Lease(lease),
        (4, _) => CompareTarget::Lease(0),
        _ => return Err(KvError::Malformed),
    })
}
