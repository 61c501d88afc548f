//! Decodes HPACK's Huffman code (RFC 7541, appendix B). The code is canonical: the codes of one length follow each other in the
//! order of their symbols, so that the lengths say everything.

/// The length in bits of each symbol's code; the last one is the end of the string, which never appears in one.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Longest code, in bits.
const LONGEST: usize = 30;

/// Symbols in the order of their codes, and for each length the first code and where its symbols begin.
#[derive(Debug)]
pub(crate) struct Table {
    symbols: Vec<u16>,
    /// For each length: first code, number of codes, position of the first symbol.
    lengths: [(u32, u32, usize); LONGEST + 1],
}

impl Table {
    pub(crate) fn new() -> Self {
        let mut symbols = Vec::with_capacity(LENGTHS.len());
        let mut lengths = [(0, 0, 0); LONGEST + 1];
        let mut code = 0u32;
        for (length, slot) in (0u8..).zip(&mut lengths) {
            let first = symbols.len();
            symbols
                .extend((0u16..).zip(LENGTHS).filter(|(_, of)| *of == length && length > 0).map(|(symbol, _)| symbol));
            let count = u32::try_from(symbols.len() - first).unwrap_or(0);
            *slot = (code, count, first);
            code = (code + count) << 1;
        }
        Self { symbols, lengths }
    }

    /// The text, or nothing if the bytes are not a code.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(bytes.len() * 2);
        let (mut code, mut length) = (0u32, 0usize);
        for byte in bytes {
            for bit in (0..8).rev() {
                code = (code << 1) | u32::from((byte >> bit) & 1);
                length += 1;
                let (first, count, position) = *self.lengths.get(length)?;
                let offset = code.wrapping_sub(first);
                if offset < count {
                    let symbol = *self.symbols.get(position + usize::try_from(offset).ok()?)?;
                    text.push(u8::try_from(symbol).ok()?);
                    (code, length) = (0, 0);
                }
            }
        }
        // What is left is padding: fewer than eight bits, all ones.
        (length < 8 && code == (1 << length) - 1).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn the_examples_of_the_rfc() {
        let table = Table::new();
        let decode = |hex: &str| {
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            table.decode(&bytes).map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(decode("f1e3c2e5f23a6ba0ab90f4ff").as_deref(), Some("www.example.com"));
        assert_eq!(decode("a8eb10649cbf").as_deref(), Some("no-cache"));
        assert_eq!(decode("aec3771a4b").as_deref(), Some("private"));
        assert_eq!(decode("").as_deref(), Some(""));
        assert_eq!(decode("f1e3c2e500"), None, "bad padding");
    }
}
