//! HPACK (RFC 7541), as much as a gRPC client needs: requests whose headers sit in the dynamic table after their first use, as
//! real clients have them, and of each response the three fields that say how the call ended. Header blocks that do not change
//! the table are remembered by their bytes: a response in the steady state costs one look-up.

use crate::call::Method;
use crate::huffman;
use std::collections::{HashMap, VecDeque};

/// RFC 7541, appendix A, from index 1.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""),
    ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// Size of both dynamic tables: what HTTP/2 gives without a word.
const TABLE_BYTES: usize = 4096;
/// What an entry costs beside its text.
const ENTRY_BYTES: usize = 32;

/// An integer with `bits` bits in the first byte, whose other bits are `high` (5.1).
fn put_integer(out: &mut Vec<u8>, high: u8, bits: u32, value: usize) {
    let most = (1usize << bits) - 1;
    if value < most {
        out.push(high | u8::try_from(value).unwrap_or(0));
        return;
    }
    out.push(high | u8::try_from(most).unwrap_or(u8::MAX));
    let mut rest = value - most;
    while rest >= 128 {
        out.push(0x80 | u8::try_from(rest % 128).unwrap_or(0));
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_integer(out, 0, 7, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// A field of a request that goes into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Path(Method),
    Authority,
    ContentType,
    Te,
    UserAgent,
}

/// Writes the header blocks of requests.
#[derive(Debug)]
pub(crate) struct Encoder {
    authority: String,
    /// What the peer's table holds, oldest first.
    table: Vec<Field>,
    /// Whether the peer keeps a table large enough for all of it.
    keeps: bool,
    /// Blocks that only name entries; none of them is valid after the table grew.
    blocks: HashMap<Method, Vec<u8>>,
}

impl Encoder {
    /// For a peer that allows a table of `peer_table` bytes.
    pub(crate) fn new(authority: &str, peer_table: usize) -> Self {
        // Some ten entries of at most 100 bytes: the default table holds them all, and nothing is ever evicted.
        Self {
            authority: authority.to_owned(),
            table: Vec::new(),
            keeps: peer_table >= TABLE_BYTES,
            blocks: HashMap::new(),
        }
    }

    /// Appends the header block of a call.
    pub(crate) fn encode(&mut self, method: Method, out: &mut Vec<u8>) {
        if let Some(block) = self.blocks.get(&method) {
            out.extend_from_slice(block);
            return;
        }
        let (begin, entries) = (out.len(), self.table.len());
        out.extend_from_slice(&[0x83, 0x86]); // :method POST, :scheme http
        for field in [Field::Path(method), Field::Authority, Field::ContentType, Field::Te, Field::UserAgent] {
            self.field(field, out);
        }
        if self.table.len() > entries {
            self.blocks.clear();
        } else {
            self.blocks.insert(method, out.get(begin..).unwrap_or_default().to_vec());
        }
    }

    fn field(&mut self, field: Field, out: &mut Vec<u8>) {
        if let Some(age) = self.table.iter().rev().position(|entry| *entry == field) {
            put_integer(out, 0x80, 7, STATIC.len() + 1 + age);
            return;
        }
        let (name, value) = match field {
            Field::Path(method) => (":path", method.path()),
            Field::Authority => (":authority", self.authority.as_str()),
            Field::ContentType => ("content-type", "application/grpc"),
            Field::Te => ("te", "trailers"),
            Field::UserAgent => ("user-agent", "flaredb-load"),
        };
        let (high, bits) = if self.keeps { (0x40, 6) } else { (0x00, 4) };
        match STATIC.iter().position(|(known, _)| *known == name) {
            Some(index) => put_integer(out, high, bits, index + 1),
            None => {
                put_integer(out, high, bits, 0);
                put_text(out, name);
            }
        }
        put_text(out, value);
        if self.keeps {
            self.table.push(field);
        }
    }
}

/// What a header block says that matters to a gRPC client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) http_status: Option<u32>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) grpc_message: Option<String>,
}

/// Reads the header blocks of responses, in the order in which they come.
#[derive(Debug)]
pub(crate) struct Decoder {
    huffman: huffman::Table,
    /// Newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    limit: usize,
    /// Blocks that change nothing in the table, and mean this as long as nothing else does.
    known: HashMap<Vec<u8>, Fields>,
}

/// The block is not HPACK.
#[derive(Debug)]
pub(crate) struct Malformed;

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            huffman: huffman::Table::new(),
            table: VecDeque::new(),
            bytes: 0,
            limit: TABLE_BYTES,
            known: HashMap::new(),
        }
    }

    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Fields, Malformed> {
        if let Some(fields) = self.known.get(block) {
            return Ok(fields.clone());
        }
        let mut fields = Fields::default();
        let mut rest = block;
        let mut changed = false;
        while let Some(first) = rest.first().copied() {
            let (name, value) = if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                self.entry(index)?
            } else if first & 0xe0 == 0x20 {
                self.limit = integer(&mut rest, 5)?;
                if self.limit > TABLE_BYTES {
                    return Err(Malformed);
                }
                self.evict();
                changed = true;
                continue;
            } else {
                let keep = first & 0xc0 == 0x40;
                let index = integer(&mut rest, if keep { 6 } else { 4 })?;
                let name = if index == 0 { self.text(&mut rest)? } else { self.entry(index)?.0 };
                let value = self.text(&mut rest)?;
                if keep {
                    self.bytes += name.len() + value.len() + ENTRY_BYTES;
                    self.table.push_front((name.clone(), value.clone()));
                    self.evict();
                    changed = true;
                }
                (name, value)
            };
            let text = String::from_utf8_lossy(&value);
            match name.as_slice() {
                b":status" => fields.http_status = text.parse().ok(),
                b"grpc-status" => fields.grpc_status = text.parse().ok(),
                b"grpc-message" => fields.grpc_message = Some(percent_decoded(&value)),
                _ => {}
            }
        }
        if changed {
            self.known.clear();
        } else if self.known.len() < 1024 {
            self.known.insert(block.to_vec(), fields.clone());
        }
        Ok(fields)
    }

    fn evict(&mut self) {
        while self.bytes > self.limit {
            let Some((name, value)) = self.table.pop_back() else { break };
            self.bytes -= name.len() + value.len() + ENTRY_BYTES;
        }
    }

    fn entry(&self, index: usize) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        match STATIC.get(place) {
            Some((name, value)) => Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.table.get(place - STATIC.len()).cloned().ok_or(Malformed),
        }
    }

    fn text(&self, rest: &mut &[u8]) -> Result<Vec<u8>, Malformed> {
        let coded = rest.first().ok_or(Malformed)? & 0x80 != 0;
        let length = integer(rest, 7)?;
        let (text, after) = rest.split_at_checked(length).ok_or(Malformed)?;
        *rest = after;
        if coded { self.huffman.decode(text).ok_or(Malformed) } else { Ok(text.to_vec()) }
    }
}

/// The text of a grpc-message: `%` and two hexadecimal digits are a byte; what else follows a `%` stands for itself.
fn percent_decoded(value: &[u8]) -> String {
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        text.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// An integer that begins in the low `bits` bits of the first byte.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let mut next = || {
        let (first, after) = rest.split_first().ok_or(Malformed)?;
        *rest = after;
        Ok(usize::from(*first))
    };
    let most = (1usize << bits) - 1;
    let mut value = next()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Encoder, Fields};
    use crate::call::Method;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn status(status: u32) -> Fields {
        Fields { http_status: Some(status), ..Fields::default() }
    }

    /// C.6 of the RFC, but with its table of 4096 bytes: three responses with Huffman codes, each using the entries before.
    #[test]
    fn responses_of_the_rfc() {
        let mut decoder = Decoder::new();
        let first = "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3";
        assert_eq!(decoder.decode(&bytes(first)).unwrap(), status(302));
        assert_eq!(decoder.decode(&bytes("4883640effc1c0bf")).unwrap(), status(307));
        // With all four entries kept, the newest is :status 307.
        assert_eq!(decoder.decode(&bytes("be")).unwrap(), status(307));
        assert_eq!(decoder.decode(&bytes("be")).unwrap(), status(307), "remembered");
    }

    #[test]
    fn what_the_encoder_writes_is_read_back_and_shrinks() {
        let (mut encoder, mut decoder) = (Encoder::new("127.0.0.1:2379", 4096), Decoder::new());
        let mut sizes = Vec::new();
        for method in [Method::Put, Method::Put, Method::Range, Method::Put, Method::Range, Method::Range] {
            let mut block = Vec::new();
            encoder.encode(method, &mut block);
            sizes.push(block.len());
            decoder.decode(&block).unwrap();
            let path = decoder.table.iter().find(|(name, _)| name == b":path").unwrap();
            assert!(path.1.ends_with(if sizes.len() < 3 { b"Put" } else { b"ange" }) || sizes.len() == 4);
        }
        assert!(sizes[0] > 80, "literals: {sizes:?}");
        assert_eq!(&sizes[3..], [7, 7, 7], "two static and five dynamic entries, a byte each: {sizes:?}");
    }

    #[test]
    fn messages_are_percent_decoded() {
        for (value, text) in [("no%20leader%3A", "no leader:"), ("100%", "100%"), ("%zz%2", "%zz%2"), ("%+1", "%+1")] {
            assert_eq!(super::percent_decoded(value.as_bytes()), text);
        }
    }

    #[test]
    fn damaged_blocks_are_refused() {
        for hex in ["ff", "c5", "40", "7f", "0085"] {
            assert!(Decoder::new().decode(&bytes(hex)).is_err(), "{hex}");
        }
    }
}
