//! Small values as they are typed: durations, lease ids, bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// Parses a duration as Go and etcdctl write it: `5s`, `500ms`, `1m30s`, `1.5s`, `2h`. A bare number has no unit and
/// is refused, except 0. The error is a sentence for the user.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("a duration needs a unit: {text}s or {text}ms"));
    }
    let refused = || format!("not a duration: {text:?}; write for example 5s, 500ms or 1m30s");
    let mut rest = text;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refused)?;
        let (number, after) = rest.split_at_checked(digits).ok_or_else(refused)?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(letters).ok_or_else(refused)?;
        let number: f64 = number.parse().map_err(|_| refused())?;
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(refused()),
            };
        rest = next;
    }
    if text.is_empty() {
        return Err(refused());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| refused())
}

/// Parses a lease id: hexadecimal, as etcdctl prints it, with or without `0x`. 0 is no lease.
pub fn parse_lease(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("not a lease id: {text:?}; lease ids are hexadecimal, like 694d71ddacfda227"));
    }
    i64::from_str_radix(digits, 16).map_err(|_| format!("lease id {text} is out of range"))
}

/// The bytes of an argument: keys and values need not be UTF-8.
pub fn bytes(argument: OsString) -> Vec<u8> {
    argument.into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        let good = [
            ("5s", 5_000_000_000),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("2h", 7_200_000_000_000),
            ("250us", 250_000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, nanos) in good {
            assert_eq!(parse_duration(text).unwrap().as_nanos(), nanos, "{text}");
        }
        for text in ["", "s", "5x", "5 s", "-5s", "five", "1..5s", ".", "5s3", "é", "99999999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("5").unwrap_err(), "a duration needs a unit: 5s or 5ms");
    }

    #[test]
    fn lease_ids_are_hexadecimal() {
        assert_eq!(parse_lease("694d71ddacfda227"), Ok(0x694d_71dd_acfd_a227));
        assert_eq!(parse_lease("0x10"), Ok(16));
        assert_eq!(parse_lease("0"), Ok(0));
        for text in ["", "0x", "xyz", "-1", "+1", "8000000000000000"] {
            assert!(parse_lease(text).is_err(), "{text}");
        }
    }
}
