//! Lets old etcd clients in: etcdctl 3.4 (Debian's) asks one endpoint for its status, hash or leadership with the endpoint's
//! whole URL, `http://…`, where HTTP/2 wants the authority alone. Go's server does not look; the HTTP/2 library under tonic
//! resets the stream, before any code of ours runs. So the bytes are set right before it sees them.
//!
//! `http://` becomes `httpx--`: a valid host name of the same length, also in the Huffman code of HPACK (RFC 7541), so that no
//! length on the wire and no size in the header table changes. Nothing reads the authority afterwards. A connection whose
//! first request needs no help is passed through untouched for good; HTTP/2 frames are followed on the others only.

/// Bytes with which a client begins (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
/// Length u24, type u8, flags u8, stream u32.
const FRAME_HEAD_BYTES: usize = 9;
/// Frames beyond it are not allowed, as this server announces nothing else; they are passed on to be refused.
const FRAME_BYTES_MAX: usize = 16_384;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// `:authority` in HPACK's static table.
const AUTHORITY: usize = 1;
/// `http://` in HPACK's Huffman code: 41 bits, of which the last is 0 in both forms and shares its byte with what follows.
const URL_HUFFMAN: [u8; 5] = [0x9d, 0x29, 0xae, 0xe3, 0x0c];
/// `httpx--`, likewise.
const HOST_HUFFMAN: [u8; 5] = [0x9d, 0x29, 0xaf, 0xca, 0xcb];
const URL: &[u8] = b"http://";
const HOST: &[u8] = b"httpx--";

/// Follows what a client sends and sets authorities right.
pub(super) struct AuthorityFix {
    state: State,
    /// The first request needed help. Later ones of the same connection may repeat the text or refer to the header table.
    needed: bool,
}

enum State {
    /// So many bytes are not looked at: the preface, or the rest of a frame.
    Skip(usize),
    /// The head of a frame, or a HEADERS frame, as far as it has come.
    Collect(Vec<u8>),
    /// The first request was in order, and a connection has one authority.
    PassThrough,
}

impl AuthorityFix {
    pub(super) fn new() -> Self {
        Self { state: State::Skip(PREFACE_BYTES), needed: false }
    }

    /// True once nothing will be changed any more, and nothing is held back.
    pub(super) fn is_pass_through(&self) -> bool {
        matches!(self.state, State::PassThrough)
    }

    /// Takes what the client sent and appends to `out` what may be passed on. A HEADERS frame is held back until it is whole.
    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            match &mut self.state {
                State::PassThrough => {
                    out.extend_from_slice(input);
                    return;
                }
                State::Skip(bytes) => {
                    let (skipped, rest) = input.split_at(input.len().min(*bytes));
                    out.extend_from_slice(skipped);
                    *bytes -= skipped.len();
                    input = rest;
                    if *bytes == 0 {
                        self.state = State::Collect(Vec::new());
                    }
                }
                State::Collect(frame) => {
                    let wanted = frame_bytes(frame).unwrap_or(FRAME_HEAD_BYTES) - frame.len();
                    let (taken, rest) = input.split_at(input.len().min(wanted));
                    frame.extend_from_slice(taken);
                    input = rest;
                    self.collected(out);
                }
            }
        }
    }

    /// What is still held back; the client sends no more.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if let State::Collect(frame) = &mut self.state {
            out.append(frame);
        }
        self.state = State::PassThrough;
    }

    /// Passes a frame on as soon as nothing more is wanted of it.
    fn collected(&mut self, out: &mut Vec<u8>) {
        let State::Collect(frame) = &mut self.state else { return };
        let (Some(whole), Some(&kind)) = (frame_bytes(frame), frame.get(3)) else { return };
        let missing = whole - frame.len();
        let headers = kind == HEADERS && whole <= FRAME_HEAD_BYTES + FRAME_BYTES_MAX;
        if headers && missing > 0 {
            return;
        }
        self.needed |= headers && fix_headers(frame).unwrap_or(false);
        out.append(frame);
        self.state = if headers && !self.needed {
            State::PassThrough
        } else if missing > 0 {
            State::Skip(missing)
        } else {
            State::Collect(Vec::new())
        };
    }
}

/// Length of the frame that begins like this, head included, once its head is whole.
fn frame_bytes(frame: &[u8]) -> Option<usize> {
    let [high, middle, low, _, _, _, _, _, _, ..] = frame else { return None };
    Some(FRAME_HEAD_BYTES + ((usize::from(*high) << 16) | (usize::from(*middle) << 8) | usize::from(*low)))
}

/// Sets the authority of a whole HEADERS frame right. True if that was needed; None if the frame is damaged, which the
/// library will say.
fn fix_headers(frame: &mut [u8]) -> Option<bool> {
    let flags = *frame.get(4)?;
    let padding = usize::from(flags & PADDED != 0);
    let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
    fix_fields(frame.get_mut(FRAME_HEAD_BYTES + padding + priority..)?)
}

/// Walks over the header fields (RFC 7541 §6). Needs no header table: an authority that is in the table came as text before.
fn fix_fields(block: &mut [u8]) -> Option<bool> {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        let name = match first {
            0x80.. => {
                integer(block, &mut at, 7)?;
                continue;
            }
            0x40.. => integer(block, &mut at, 6)?,
            0x20.. => {
                integer(block, &mut at, 5)?;
                continue;
            }
            _ => integer(block, &mut at, 4)?,
        };
        if name == 0 {
            text(block, &mut at)?;
        }
        let huffman = *block.get(at)? & 0x80 != 0;
        let value = text(block, &mut at)?;
        if name == AUTHORITY {
            return Some(fix_value(huffman, value));
        }
    }
    // Padding at the end reads as fields with unknown names of no length, and ends here too.
    Some(false)
}

fn fix_value(huffman: bool, value: &mut [u8]) -> bool {
    let (from, to): (&[u8], &[u8]) = if huffman { (&URL_HUFFMAN, &HOST_HUFFMAN) } else { (URL, HOST) };
    // In Huffman code the last bit of `/` is the first of the next byte; a 1 there is another character.
    if !value.starts_with(from) || (huffman && value.get(from.len()).is_none_or(|next| next & 0x80 != 0)) {
        return false;
    }
    value.iter_mut().zip(to).for_each(|(byte, right)| *byte = *right);
    true
}

/// An integer with a prefix of so many bits (RFC 7541 §5.1); `at` moves behind it. None if it is cut off or absurd.
fn integer(block: &[u8], at: &mut usize, prefix_bits: u32) -> Option<usize> {
    let max = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & max;
    *at += 1;
    if value < max {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string's bytes as they are on the wire (RFC 7541 §5.2); `at` moves behind them.
fn text<'a>(block: &'a mut [u8], at: &mut usize) -> Option<&'a mut [u8]> {
    let length = integer(block, at, 7)?;
    let start = *at;
    *at = start.checked_add(length)?;
    block.get_mut(start..*at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// `http://127.0.0.1:1` in Huffman code, and `httpx--127.0.0.1:1`.
    const URL_VALUE: [u8; 13] = [0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x04, 0x4e, 0xae, 0x05, 0xc0, 0xb8, 0x6e, 0x07];
    const HOST_VALUE: [u8; 13] = [0x9d, 0x29, 0xaf, 0xca, 0xcb, 0x04, 0x4e, 0xae, 0x05, 0xc0, 0xb8, 0x6e, 0x07];

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0, length[0], length[1], kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// As Go sends it: POST, http, a new path, the authority as a new text, one more field.
    fn request(authority: &[u8], huffman: bool) -> Vec<u8> {
        let length = u8::try_from(authority.len()).unwrap() | if huffman { 0x80 } else { 0 };
        [&[0x83, 0x86, 0x45, 3, b'/', b'K', b'V', 0x41, length], authority, &[0x40, 1, b't', 1, b'v']].concat()
    }

    fn sent(parts: &[Vec<u8>]) -> Vec<u8> {
        [&[b'P'; PREFACE_BYTES][..], &SETTINGS, &parts.concat()].concat()
    }

    /// What is passed on when the bytes arrive in pieces of this size.
    fn passed(input: &[u8], piece: usize) -> (Vec<u8>, AuthorityFix) {
        let (mut fix, mut out) = (AuthorityFix::new(), Vec::new());
        input.chunks(piece).for_each(|piece| fix.feed(piece, &mut out));
        (out, fix)
    }

    #[test]
    fn a_url_becomes_a_host_of_the_same_length_however_it_arrives() {
        let data = frame(0, 1, b"http://stays in a value");
        for (url, host, huffman) in [(&URL_VALUE[..], &HOST_VALUE[..], true), (b"http://a:1", b"httpx--a:1", false)] {
            let input = sent(&[frame(1, 4, &request(url, huffman)), data.clone(), frame(1, 4, &request(url, huffman))]);
            let right =
                sent(&[frame(1, 4, &request(host, huffman)), data.clone(), frame(1, 4, &request(host, huffman))]);
            for piece in 1..=input.len() {
                let (out, fix) = passed(&input, piece);
                assert_eq!(out, right, "in pieces of {piece}");
                assert!(!fix.is_pass_through(), "later requests may need it too");
            }
        }
    }

    #[test]
    fn a_right_first_request_switches_it_off() {
        for authority in [&b"127.0.0.1:2379"[..], b"httpd.example", b"http:/x", b""] {
            let input = sent(&[frame(1, 4, &request(authority, false)), frame(1, 4, &request(b"http://x", false))]);
            let (out, fix) = passed(&input, 7);
            assert_eq!(out, input);
            assert!(fix.is_pass_through());
        }
    }

    #[test]
    fn another_character_that_begins_like_a_slash_is_left_alone() {
        let mut value = URL_VALUE;
        value[5] |= 0x80;
        let input = sent(&[frame(1, 4, &request(&value, true))]);
        assert_eq!(passed(&input, input.len()).0, input);
    }

    #[test]
    fn padding_and_priority_are_stepped_over() {
        let with = |authority: &[u8]| {
            let padded = [&[2, 0, 0, 0, 0, 16], &request(authority, false)[..], &[0, 0]].concat();
            sent(&[frame(1, 4 | PADDED | PRIORITY, &padded)])
        };
        assert_eq!(passed(&with(b"http://a"), 5).0, with(b"httpx--a"));
    }

    #[test]
    fn whatever_arrives_is_passed_on_in_full_and_in_order() {
        // A linear congruential generator, so that a failure repeats itself.
        let mut seed = 1_u32;
        for round in 0..2_000 {
            let mut input = sent(&[]);
            for _ in 0..60 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let byte = seed.to_be_bytes()[0];
                // Small numbers are common, so that frames are short and of known kinds.
                input.push(if byte < 128 { byte % 6 } else { byte });
            }
            let (mut out, mut fix) = passed(&input, 1 + round % 9);
            fix.finish(&mut out);
            assert_eq!(out.len(), input.len(), "round {round}: {input:?}");
            assert_eq!(out, input, "round {round}");
        }
    }
}
