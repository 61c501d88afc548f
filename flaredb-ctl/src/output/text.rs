//! Bytes, sizes and durations as text.

use std::time::Duration;

/// `\x68\x69`, as etcdctl's `--hex` prints it.
pub(super) fn hex_escapes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// Bytes as one line of printable text: what is neither becomes an escape.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        text.push_str(&hex_escapes(chunk.invalid()));
    }
    text
}

/// Bytes in powers of 1000, with one decimal below ten, as etcdctl prints sizes: `20 kB`, `1.5 MB`.
pub(super) fn size(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let bytes = i128::from(bytes);
    let mut scale = 1_i128;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    while bytes >= scale.saturating_mul(1000)
        && let Some(next) = units.next()
    {
        scale = scale.saturating_mul(1000);
        unit = next;
    }
    if scale == 1 {
        return format!("{bytes} B");
    }
    let tenths = bytes.saturating_mul(10).saturating_add(scale.div_euclid(2)).div_euclid(scale);
    let (whole, tenth) = (tenths.div_euclid(10), tenths.rem_euclid(10));
    if whole < 10 {
        return format!("{whole}.{tenth} {unit}");
    }
    // The half goes to the even side, as Go's formatting has it.
    let up = tenth > 5 || (tenth == 5 && whole.rem_euclid(2) == 1);
    format!("{} {unit}", if up { whole.saturating_add(1) } else { whole })
}

/// Milliseconds with microseconds: `1.234ms`, `2.000001s` would be more digits than it is worth.
pub(super) fn took(duration: Duration) -> String {
    let micros = duration.as_micros();
    format!("{}.{:03}ms", micros.div_euclid(1000), micros.rem_euclid(1000))
}

/// A duration of one digit and zeros, in the largest unit in which it is whole: `200 µs`, `5 ms`, `2 s`.
pub(super) fn round_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    match (micros % 1_000_000, micros % 1_000) {
        (0, _) => format!("{} s", micros / 1_000_000),
        (_, 0) => format!("{} ms", micros / 1_000),
        _ => format!("{micros} µs"),
    }
}

/// A cause without the advice after it, for the cell of a table.
pub(super) fn short_cause(cause: &str) -> &str {
    cause.split(';').next().unwrap_or(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_like_etcdctl() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_500, "1.5 kB"),
            (20_480, "20 kB"),
            (99_000, "99 kB"),
            (999_400, "999 kB"),
            (999_600, "1000 kB"),
            (21_500, "22 kB"),
            (24_576, "25 kB"),
            (1_000_000, "1.0 MB"),
            (2_147_483_648, "2.1 GB"),
            (i64::MAX, "9.2 EB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn bytes_as_text() {
        assert_eq!(hex_escapes(b"hi\0"), "\\x68\\x69\\x00");
        assert_eq!(printable("naïve\n\u{1b}[0m".as_bytes()), "naïve\\n\\u{1b}[0m");
        assert_eq!(printable(b"a\xff\xfeb"), "a\\xff\\xfeb");
        assert_eq!(took(Duration::from_micros(1_234)), "1.234ms");
        assert_eq!(
            [200, 5_000, 2_000_000].map(|us| round_duration(Duration::from_micros(us))),
            ["200 µs", "5 ms", "2 s"]
        );
        assert_eq!(short_cause("connection refused; is the server up?"), "connection refused");
    }
}
