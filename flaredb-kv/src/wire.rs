//! Protobuf's wire encoding: varints, tags, length-delimited fields, read from a request without copying it.
//!
//! Every length is checked against the enclosing message before it is used, so that no input can make the reader look or
//! allocate beyond it. What the fields mean is `command.rs`. A scalar given twice: the last one counts. A known field with a
//! foreign wire type is malformed; unknown fields are skipped, whatever their type.

use bytes::Bytes;

use crate::KvError;

/// Nesting of groups inside an unknown field. Groups are a relic that no etcd message uses.
const GROUP_DEPTH_MAX: usize = 16;
/// Field numbers have 29 bits.
const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const DELIMITED: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// A field's head: which one, and how its payload is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    wire_type: u8,
}

/// Reads one message: the bytes `at..end` of `source`.
#[derive(Clone, Debug)]
pub(crate) struct WireReader<'a> {
    source: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> WireReader<'a> {
    pub(crate) fn new(source: &'a Bytes) -> Self {
        Self { source, at: 0, end: source.len() }
    }

    /// The next field's head, or None at the end of the message.
    pub(crate) fn field(&mut self) -> Result<Option<Field>, KvError> {
        if self.at == self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > FIELD_NUMBER_MAX {
            return Err(KvError::Malformed);
        }
        let number = u32::try_from(number).map_err(|_| KvError::Malformed)?;
        let wire_type = u8::try_from(tag & 7).map_err(|_| KvError::Malformed)?;
        Ok(Some(Field { number, wire_type }))
    }

    /// A slice of the request, not a copy.
    pub(crate) fn bytes(&mut self, field: Field) -> Result<Bytes, KvError> {
        let inner = self.message(field)?;
        Ok(self.source.slice(inner.at..inner.end))
    }

    /// The message inside this field.
    pub(crate) fn message(&mut self, field: Field) -> Result<WireReader<'a>, KvError> {
        expect_type(field, DELIMITED)?;
        let length = self.varint()?;
        let start = self.at;
        self.advance(length)?;
        Ok(WireReader { source: self.source, at: start, end: self.at })
    }

    pub(crate) fn int64(&mut self, field: Field) -> Result<i64, KvError> {
        expect_type(field, VARINT)?;
        Ok(self.varint()?.cast_signed())
    }

    pub(crate) fn boolean(&mut self, field: Field) -> Result<bool, KvError> {
        expect_type(field, VARINT)?;
        Ok(self.varint()? != 0)
    }

    /// Enums are 32 bits wide: the upper half of the varint is dropped, as Go and prost do.
    pub(crate) fn enumeration(&mut self, field: Field) -> Result<u32, KvError> {
        expect_type(field, VARINT)?;
        u32::try_from(self.varint()? & u64::from(u32::MAX)).map_err(|_| KvError::Malformed)
    }

    /// Passes over the payload of a field that this version does not know.
    pub(crate) fn skip(&mut self, field: Field) -> Result<(), KvError> {
        let mut open_groups: Vec<u32> = Vec::new();
        let mut field = field;
        loop {
            match field.wire_type {
                VARINT => {
                    self.varint()?;
                }
                FIXED64 => self.advance(8)?,
                FIXED32 => self.advance(4)?,
                DELIMITED => {
                    let length = self.varint()?;
                    self.advance(length)?;
                }
                GROUP_START if open_groups.len() < GROUP_DEPTH_MAX => open_groups.push(field.number),
                GROUP_END if open_groups.last() == Some(&field.number) => {
                    open_groups.pop();
                }
                _ => return Err(KvError::Malformed),
            }
            if open_groups.is_empty() {
                return Ok(());
            }
            field = self.field()?.ok_or(KvError::Malformed)?;
        }
    }

    fn advance(&mut self, length: u64) -> Result<(), KvError> {
        let length = usize::try_from(length).map_err(|_| KvError::Malformed)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.end).ok_or(KvError::Malformed)?;
        self.at = end;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, KvError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at == self.end {
                return Err(KvError::Malformed);
            }
            let byte = *self.source.get(self.at).ok_or(KvError::Malformed)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return Err(KvError::Malformed);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(KvError::Malformed)
    }
}

fn expect_type(field: Field, wire_type: u8) -> Result<(), KvError> {
    if field.wire_type == wire_type { Ok(()) } else { Err(KvError::Malformed) }
}

/// Where an encoder writes to: a buffer, or a counter that only measures. Fields at their default are left out.
pub(crate) trait Sink: Sized {
    fn raw(&mut self, bytes: &[u8]);
    /// Writes `content` as the message in field `number`, its length in front.
    fn message(&mut self, number: u32, content: impl FnOnce(&mut Self));

    fn varint(&mut self, value: u64) {
        let mut rest = value;
        while rest >= 0x80 {
            self.raw(&[low_bits(rest) | 0x80]);
            rest >>= 7;
        }
        self.raw(&[low_bits(rest)]);
    }

    fn tag(&mut self, number: u32, wire_type: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire_type));
    }

    fn bytes(&mut self, number: u32, value: &[u8]) {
        if !value.is_empty() {
            self.bytes_always(number, value);
        }
    }

    /// A member of a oneof is written even when it is empty: its presence says which member it is.
    fn bytes_always(&mut self, number: u32, value: &[u8]) {
        self.tag(number, DELIMITED);
        self.varint(length(value.len()));
        self.raw(value);
    }

    fn int64(&mut self, number: u32, value: i64) {
        if value != 0 {
            self.int64_always(number, value);
        }
    }

    fn int64_always(&mut self, number: u32, value: i64) {
        self.tag(number, VARINT);
        self.varint(value.cast_unsigned());
    }

    fn boolean(&mut self, number: u32, value: bool) {
        self.int64(number, i64::from(value));
    }
}

impl Sink for Vec<u8> {
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn message(&mut self, number: u32, content: impl FnOnce(&mut Self)) {
        self.tag(number, DELIMITED);
        let start = self.len();
        content(self);
        let mut prefix = Vec::with_capacity(5);
        prefix.varint(length(self.len() - start));
        self.splice(start..start, prefix);
    }
}

/// Counts the bytes that an encoding would have.
#[derive(Debug, Default)]
pub(crate) struct Measure(pub(crate) usize);

impl Sink for Measure {
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn message(&mut self, number: u32, content: impl FnOnce(&mut Self)) {
        self.tag(number, DELIMITED);
        let start = self.0;
        content(self);
        self.varint(length(self.0 - start));
    }
}

fn low_bits(value: u64) -> u8 {
    let [.., low] = value.to_be_bytes();
    low & 0x7f
}

/// usize is at most 64 bits wide on every target that Rust has.
fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
