//! The codecs of raft messages, log records and entry contexts.

use bytes::Bytes;
use flaredb_raft::RaftLogEntry;
use flaredb_record::record;
use flaredb_replica::{acquaintance::Acquaintances, wire};

#[path = "../../flaredb-replica/src/context.rs"]
#[allow(dead_code, unreachable_pub, reason = "the replica's own file, private there")]
mod context;

/// Raft messages: what is accepted has one encoding, the one that came in.
pub(crate) fn peer_messages(data: &[u8]) {
    let Ok(messages) = wire::decode_messages(Bytes::copy_from_slice(data)) else { return };
    let mut again = Vec::new();
    wire::encode_messages(&messages, &mut again);
    assert!(again == data, "a payload that is accepted encodes back to itself");
}

/// A log record. The first byte says whether the checksum is put right first: nothing behind it would be reached otherwise.
pub(crate) fn log_record(data: &[u8]) {
    let Some((&[mode, index, previous], rest)) = data.split_first_chunk::<3>() else { return };
    let region = u64::from(mode >> 4);
    let index = u64::from(index);
    let previous = (mode & 2 != 0).then_some(u64::from(previous));
    let mut bytes = rest.to_vec();
    if mode & 1 != 0
        && let Some((crc, covered)) = bytes.split_first_chunk_mut::<4>()
    {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&region.to_be_bytes());
        hasher.update(covered);
        *crc = hasher.finalize().to_le_bytes();
    }
    let bytes = Bytes::from(bytes);
    let Ok(view) = record::decode(region, index, previous, &bytes) else { return };
    let entry: RaftLogEntry = view.to_entry(&bytes);
    let mut again = Vec::new();
    let chain = record::encode(region, previous.unwrap_or(0), &entry, &mut again);
    assert!(previous.is_none() || chain == view.chain, "a record that is accepted continues its chain");
    assert!(again.len() == bytes.len(), "a record has one length");
    assert!(again.get(16..) == bytes.get(16..), "a record has one encoding behind its chain value");
    let again = Bytes::from(again);
    let read = record::decode(region, index, Some(previous.unwrap_or(0)), &again);
    assert!(read.is_ok_and(|read| read.to_entry(&again) == entry), "what is encoded is read again");
}

/// An entry's context: what is accepted encodes back to itself.
pub(crate) fn entry_context(data: &[u8]) {
    let Some(context) = context::Context::decode(data) else { return };
    assert!(context.encode() == data, "a context that is accepted encodes back to itself");
}

/// What a member remembers of the others: what is accepted encodes back to itself.
pub(crate) fn acquaintances(data: &[u8]) {
    let Ok(known) = Acquaintances::decode(data) else { return };
    assert!(known.encode() == data, "what is accepted encodes back to itself");
}
