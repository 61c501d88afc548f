//! The transaction language: compares and operations as text, in etcdctl's spelling.
//!
//! ```text
//! version("hello") = "1"
//!
//! put hello again
//!
//! get hello
//! ```
//! Beyond etcdctl's: keys and values of compares may stand without quotes or in single quotes, and a quoted text may
//! run over several lines. What is left alone: whether the operations make sense together; the server decides that.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStringExt;

use clap::{Parser, Subcommand};
use flaredb_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use flaredb_proto::etcdserverpb::{Compare, RequestOp, TxnRequest, request_op::Request};

use crate::cli::{DelArgs, GetArgs, PutArgs};
use crate::commands::requests;
use crate::values::parse_lease;

/// Reads the three parts from `input`. `prompts`, when given, gets a line before each part. The error is a sentence for
/// the user and names the line.
pub fn read_txn(input: impl BufRead, prompts: Option<&mut dyn Write>) -> Result<TxnRequest, String> {
    let mut reader = PartReader { input, line: 0, prompts };
    let compare = reader.part("compares:", parse_compare)?;
    let success = reader.part("success requests (get, put, del):", parse_op)?;
    let failure = reader.part("failure requests (get, put, del):", parse_op)?;
    Ok(TxnRequest { compare, success, failure })
}

/// Parses one compare, such as `version("hello") = "1"`.
pub fn parse_compare(text: &[u8]) -> Result<Compare, ParseError> {
    let mut cursor = Cursor { rest: text };
    cursor.skip_space();
    let target = cursor.take_while(|b| b.is_ascii_alphanumeric());
    let target = match target {
        b"version" | b"ver" => CompareTarget::Version,
        b"create" | b"c" => CompareTarget::Create,
        b"mod" | b"m" => CompareTarget::Mod,
        b"value" | b"val" => CompareTarget::Value,
        b"lease" => CompareTarget::Lease,
        b"put" | b"get" | b"del" => {
            return Err(malformed(text, "this is an operation; the compares come first and end with an empty line"));
        }
        _ => return Err(malformed(text, "it begins with mod, create, version, value or lease")),
    };
    cursor.skip_space();
    if !cursor.take(b'(') {
        return Err(malformed(text, "the key stands in parentheses"));
    }
    cursor.skip_space();
    let key = match cursor.quoted(QUOTES_IN_COMPARES)? {
        Some(key) => key,
        None => cursor.take_while(|b| b != b')').trim_ascii_end().to_vec(),
    };
    cursor.skip_space();
    if !cursor.take(b')') {
        return Err(malformed(text, "the closing parenthesis is missing"));
    }
    cursor.skip_space();
    let result = match cursor.take_while(|b| matches!(b, b'=' | b'!' | b'<' | b'>')) {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b"<" => CompareResult::Less,
        b">" => CompareResult::Greater,
        _ => return Err(malformed(text, "between key and value stands one of = != < >")),
    };
    cursor.skip_space();
    let value = match cursor.quoted(QUOTES_IN_COMPARES)? {
        Some(value) => value,
        None => {
            let word = cursor.take_while(|b| !b.is_ascii_whitespace());
            if word.is_empty() {
                return Err(malformed(text, "the value is missing"));
            }
            word.to_vec()
        }
    };
    cursor.skip_space();
    if !cursor.rest.is_empty() {
        return Err(malformed(text, "there is something after the value"));
    }
    let number = |value: &[u8]| {
        let digits = String::from_utf8_lossy(value);
        digits.parse::<i64>().map_err(|_| malformed(text, &format!("{digits:?} is not a number")))
    };
    let target_union = match target {
        CompareTarget::Version => TargetUnion::Version(number(&value)?),
        CompareTarget::Create => TargetUnion::CreateRevision(number(&value)?),
        CompareTarget::Mod => TargetUnion::ModRevision(number(&value)?),
        CompareTarget::Value => TargetUnion::Value(value.into()),
        CompareTarget::Lease => {
            let digits = String::from_utf8_lossy(&value);
            TargetUnion::Lease(parse_lease(&digits).map_err(|why| malformed(text, &why))?)
        }
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(target_union),
        ..Compare::default()
    })
}

/// Parses one operation: `put`, `get` or `del` with the flags it has on the command line.
pub fn parse_op(text: &[u8]) -> Result<RequestOp, ParseError> {
    let words = split_words(text)?;
    let line = OpLine::try_parse_from(words).map_err(|error| {
        // The first line says what is wrong; usage and hints are for whole command lines.
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let missing = text.lines().skip(1).find(|line| line.trim_start().starts_with('<')).map(str::trim);
        let first = first.strip_prefix("error: ").unwrap_or(first);
        ParseError::Malformed(match missing {
            Some(argument) => format!("{first} {argument}"),
            None => first.to_owned(),
        })
    })?;
    let request = match line.op {
        Op::Put(args) => {
            if args.value.is_none() && !args.ignore_value {
                return Err(ParseError::Malformed("put needs a key and a value".to_owned()));
            }
            // A transaction may come from stdin itself, so `-` is a value like any other here.
            let value = args.value.clone().map(OsString::into_vec).unwrap_or_default();
            Request::RequestPut(requests::put(args, value))
        }
        Op::Get(args) => Request::RequestRange(requests::range(args)),
        Op::Del(args) => Request::RequestDeleteRange(requests::delete_range(args)),
    };
    Ok(RequestOp { request: Some(request) })
}

/// Why a text is no compare or operation.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseError {
    /// A quote was opened and the text ended before it was closed: more lines may help.
    OpenQuote,
    /// It is wrong; a sentence for the user.
    Malformed(String),
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ParseError::OpenQuote => f.write_str("a quote is opened and never closed"),
            ParseError::Malformed(why) => f.write_str(why),
        }
    }
}

fn malformed(text: &[u8], why: &str) -> ParseError {
    ParseError::Malformed(format!("not a compare: {}: {why}", String::from_utf8_lossy(text)))
}

/// An operation's words as clap parses them.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct OpLine {
    #[command(subcommand)]
    op: Op,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_flag = true)]
enum Op {
    Put(PutArgs),
    Get(GetArgs),
    Del(DelArgs),
}

struct PartReader<'a, R> {
    input: R,
    line: usize,
    prompts: Option<&'a mut dyn Write>,
}

impl<R: BufRead> PartReader<'_, R> {
    /// Reads lines up to an empty one or the end, and parses each.
    fn part<T>(&mut self, title: &str, parse: impl Fn(&[u8]) -> Result<T, ParseError>) -> Result<Vec<T>, String> {
        if let Some(prompts) = self.prompts.as_mut() {
            // Without the prompt the transaction is still read: a closed stderr is no reason to fail.
            let _ = writeln!(prompts, "{title}");
        }
        let mut parsed = Vec::new();
        while let Some(line) = self.line()? {
            let mut text = line.trim_ascii().to_vec();
            if text.is_empty() {
                break;
            }
            let first_line = self.line;
            loop {
                match parse(&text) {
                    Ok(one) => break parsed.push(one),
                    // An open quote may be closed on a later line; the line break belongs to the text.
                    Err(ParseError::OpenQuote) => match self.line()? {
                        Some(more) => {
                            text.push(b'\n');
                            text.extend_from_slice(&more);
                        }
                        None => return Err(format!("line {first_line}: {}", ParseError::OpenQuote)),
                    },
                    Err(error) => return Err(format!("line {first_line}: {error}")),
                }
            }
        }
        Ok(parsed)
    }

    /// The next line without its line break; `None` at the end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        let read = self.input.read_until(b'\n', &mut line).map_err(|e| format!("cannot read stdin: {e}"))?;
        if read == 0 {
            return Ok(None);
        }
        self.line = self.line.saturating_add(1);
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}

/// Go's `%q`, which etcdctl uses for compares, knows back quotes as well.
const QUOTES_IN_COMPARES: &[u8] = b"\"'`";
const QUOTES_IN_OPS: &[u8] = b"\"'";

/// Splits an operation into words. A quote counts only at the beginning of a word: `it's` is one word.
fn split_words(text: &[u8]) -> Result<Vec<OsString>, ParseError> {
    let mut cursor = Cursor { rest: text };
    let mut words = Vec::new();
    loop {
        cursor.skip_space();
        if cursor.rest.is_empty() {
            return Ok(words);
        }
        let word = match cursor.quoted(QUOTES_IN_OPS)? {
            Some(word) => word,
            None => cursor.take_while(|b| !b.is_ascii_whitespace()).to_vec(),
        };
        words.push(OsString::from_vec(word));
    }
}

/// What is left of the text.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().take_while(|b| keep(**b)).count();
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// A quoted text, when one of `quotes` comes next. Only double quotes know escapes.
    fn quoted(&mut self, quotes: &[u8]) -> Result<Option<Vec<u8>>, ParseError> {
        let Some(&quote) = self.rest.first().filter(|first| quotes.contains(first)) else { return Ok(None) };
        self.next();
        let mut text = Vec::new();
        loop {
            match self.next().ok_or(ParseError::OpenQuote)? {
                byte if byte == quote => return Ok(Some(text)),
                b'\\' if quote == b'"' => self.escape(&mut text)?,
                byte => text.push(byte),
            }
        }
    }

    /// What follows a backslash, as Go's string literals have it.
    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), ParseError> {
        let letter = self.next().ok_or(ParseError::OpenQuote)?;
        match letter {
            b'a' => text.push(0x07),
            b'b' => text.push(0x08),
            b'f' => text.push(0x0c),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'v' => text.push(0x0b),
            b'\\' | b'"' | b'\'' => text.push(letter),
            b'x' => text.push(self.byte(2, 16, "\\x takes two hexadecimal digits")?),
            b'0'..=b'7' => {
                let high = letter & 7;
                let low = self.byte(2, 8, "a backslash and a digit take three octal digits, at most \\377")?;
                let byte = high.checked_mul(64).and_then(|high| high.checked_add(low));
                text.push(byte.ok_or_else(|| ParseError::Malformed("\\377 is the largest octal escape".to_owned()))?);
            }
            b'u' => self.unicode(4, text)?,
            b'U' => self.unicode(8, text)?,
            other => {
                let why =
                    format!("unknown escape \\{} in double quotes; write \\\\", char::from(other).escape_default());
                return Err(ParseError::Malformed(why));
            }
        }
        Ok(())
    }

    fn byte(&mut self, digits: usize, radix: u32, why: &str) -> Result<u8, ParseError> {
        let number = self.number(digits, radix)?;
        number.and_then(|n| u8::try_from(n).ok()).ok_or_else(|| ParseError::Malformed(why.to_owned()))
    }

    fn unicode(&mut self, digits: usize, text: &mut Vec<u8>) -> Result<(), ParseError> {
        let why = "\\u takes four and \\U eight hexadecimal digits of a character";
        let number = self.number(digits, 16)?;
        let character = number.and_then(char::from_u32).ok_or_else(|| ParseError::Malformed(why.to_owned()))?;
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    /// `None` when a digit is wrong.
    fn number(&mut self, digits: usize, radix: u32) -> Result<Option<u32>, ParseError> {
        let mut number = Some(0_u32);
        for _ in 0..digits {
            let digit = char::from(self.next().ok_or(ParseError::OpenQuote)?).to_digit(radix);
            number = number.zip(digit).and_then(|(n, d)| n.checked_mul(radix)?.checked_add(d));
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests;
