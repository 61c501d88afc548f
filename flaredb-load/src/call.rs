//! What a client asks and hears: the methods of etcd v3 that are called here, the few protobuf fields they need, written and
//! read by hand. Not a protobuf library: nothing here knows a message it does not need.

/// A method that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// KV.Put
    Put,
    /// KV.Range
    Range,
    /// KV.Txn
    Txn,
    /// Maintenance.Status
    Status,
    /// A method that no server has: answered by the RPC layer alone.
    Nothing,
}

impl Method {
    /// Its path in HTTP/2.
    pub fn path(self) -> &'static str {
        match self {
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Status => "/etcdserverpb.Maintenance/Status",
            Self::Nothing => "/etcdserverpb.KV/Nothing",
        }
    }
}

/// gRPC's code for a method that does not exist.
pub const UNIMPLEMENTED: u32 = 12;
/// gRPC's code for a connection that broke.
pub const UNAVAILABLE: u32 = 14;

/// How many bytes of an answer are kept; the rest is only counted.
pub const KEPT_BYTES: usize = 1024;

/// What came back for a call.
#[derive(Debug)]
pub struct Answer {
    /// gRPC status; 0 is good.
    pub status: u32,
    /// What the server says about a status that is not 0.
    pub message: Option<String>,
    /// The first bytes of the message, without gRPC's prefix.
    pub head: Vec<u8>,
    /// Its length.
    pub length: usize,
}

impl Answer {
    /// An answer that is not good, as text.
    pub fn refusal(&self) -> String {
        format!("gRPC status {}: {}", self.status, self.message.as_deref().unwrap_or("no message"))
    }
}

/// Appends a varint.
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(0x80 | u8::try_from(value % 128).unwrap_or(0));
        value /= 128;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Appends a field of bytes.
pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, length(bytes));
    out.extend_from_slice(bytes);
}

/// Appends a field with a number.
pub fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

/// A PutRequest.
pub fn put_request(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_bytes(out, 1, key);
    put_bytes(out, 2, value);
}

/// A RangeRequest for one key.
pub fn get_request(out: &mut Vec<u8>, key: &[u8], serializable: bool) {
    put_bytes(out, 1, key);
    if serializable {
        put_number(out, 7, 1);
    }
}

/// A RangeRequest for the keys from `from` on, before `end`, at most `limit` of them unless it is 0.
pub fn scan_request(out: &mut Vec<u8>, from: &[u8], end: &[u8], limit: u64) {
    put_bytes(out, 1, from);
    put_bytes(out, 2, end);
    if limit > 0 {
        put_number(out, 3, limit);
    }
}

/// A put inside of a transaction: a RequestOp in field `branch` (2 success, 3 failure).
pub fn put_in_txn(out: &mut Vec<u8>, branch: u64, key: &[u8], value: &[u8]) {
    let mut put = Vec::with_capacity(key.len() + value.len() + 16);
    put_request(&mut put, key, value);
    let mut op = Vec::with_capacity(put.len() + 8);
    put_bytes(&mut op, 2, &put);
    put_bytes(out, branch, &op);
}

/// A TxnRequest: if the key's last change was at `revision` (0: the key does not exist), put the value.
pub fn compare_and_put(out: &mut Vec<u8>, key: &[u8], revision: u64, value: &[u8]) {
    let mut compare = Vec::with_capacity(key.len() + 16);
    put_number(&mut compare, 2, 2); // target MOD; the result EQUAL is 0, the default
    put_bytes(&mut compare, 3, key);
    put_number(&mut compare, 6, revision);
    put_bytes(out, 1, &compare);
    put_in_txn(out, 2, key, value);
}

/// A value in a message: a number, or bytes.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The next field; bytes that are cut short are given as far as they go (only the head of an answer is kept).
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(rest)?;
    match tag & 7 {
        0 => Some((tag >> 3, Value::Number(varint(rest)?))),
        2 => {
            let wanted = usize::try_from(varint(rest)?).ok()?;
            let (bytes, after) = rest.split_at(wanted.min(rest.len()));
            *rest = after;
            Some((tag >> 3, Value::Bytes(bytes)))
        }
        _ => None,
    }
}

/// The number in a field of a message; 0, as in proto3, if it is not there.
pub fn number(mut message: &[u8], wanted: u64) -> u64 {
    while let Some((at, value)) = field(&mut message) {
        if let (true, Value::Number(value)) = (at == wanted, value) {
            return value;
        }
    }
    0
}

/// The bytes in a field of a message, empty if it is not there.
pub fn bytes(mut message: &[u8], wanted: u64) -> &[u8] {
    while let Some((at, value)) = field(&mut message) {
        if let (true, Value::Bytes(value)) = (at == wanted, value) {
            return value;
        }
    }
    &[]
}

/// The header's member.
pub fn member_id(answer: &[u8]) -> u64 {
    number(bytes(answer, 1), 2)
}

/// The header's revision.
pub fn revision(answer: &[u8]) -> u64 {
    number(bytes(answer, 1), 3)
}

/// Whether a transaction's comparisons held.
pub fn succeeded(answer: &[u8]) -> bool {
    number(answer, 2) == 1
}

/// The leader that a StatusResponse names, 0 for none.
pub fn leader(answer: &[u8]) -> u64 {
    number(answer, 4)
}

#[cfg(test)]
mod tests {
    use super::{bytes, compare_and_put, number, put_bytes, put_number, put_request};

    #[test]
    fn fields_are_found_again() {
        let mut header = Vec::new();
        put_number(&mut header, 2, u64::MAX);
        put_number(&mut header, 3, 300);
        let mut message = Vec::new();
        put_bytes(&mut message, 1, &header);
        put_number(&mut message, 2, 1);
        assert_eq!((super::member_id(&message), super::revision(&message)), (u64::MAX, 300));
        assert!(super::succeeded(&message) && super::leader(&message) == 0);
        assert_eq!(bytes(&message[..4], 1), &header[..2], "cut short");
    }

    #[test]
    fn requests_are_what_protobuf_says() {
        let mut put = Vec::new();
        put_request(&mut put, b"k", b"v");
        assert_eq!(put, [0x0a, 1, b'k', 0x12, 1, b'v']);
        let mut txn = Vec::new();
        compare_and_put(&mut txn, b"k", 7, b"v");
        assert_eq!(number(bytes(&txn, 1), 6), 7);
        assert_eq!(bytes(bytes(&txn, 2), 2), put);
    }
}
