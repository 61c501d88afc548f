//! Requests as clients send them: etcd's protobuf messages.

use bytes::Bytes;
use flaredb_kv::{Command, CommandKind, Limits, RangeRequest};

/// What is accepted is the same request after it was encoded and read again; checks of it end.
pub(crate) fn requests(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    let Ok(kind) = CommandKind::try_from(kind % 5) else {
        let Ok(range) = RangeRequest::decode(&bytes) else { return };
        assert!(RangeRequest::decode(&range.encode()) == Ok(range.clone()), "a range is read as it was written");
        let _ = range.check();
        return;
    };
    let Ok(command) = Command::decode(kind, &bytes) else { return };
    let encoded = command.encode();
    assert!(command.encoded_len() == encoded.len(), "the length is the encoding's");
    assert!(Command::decode(kind, &encoded).as_ref() == Ok(&command), "a command is read as it was written");
    assert!(command.kind() == kind, "the kind travels beside the bytes");
    let limits = Limits { txn_ops_max: 16, ..Limits::default() };
    let strict = Limits { request_bytes_max: 64, txn_ops_max: 2, txn_depth_max: 1 };
    assert!(command.check(&limits).is_ok() || command.check(&strict).is_err(), "a stricter limit allows no more");
}
