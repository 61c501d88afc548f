//! Text to time, size, count and switch, in etcd's spellings and the human ones.

use super::{ConfigError, Origin};
use std::time::Duration;

fn bad(origin: &Origin, value: &str, wrong: impl Into<String>, fix: &str) -> ConfigError {
    ConfigError::BadValue { origin: origin.clone(), value: value.to_owned(), wrong: wrong.into(), fix: fix.to_owned() }
}

/// `100ms`, `1.5s`, `2m`, or bare milliseconds; whole milliseconds, more than none.
pub(super) fn duration(origin: &Origin, text: &str) -> Result<Duration, ConfigError> {
    const FIX: &str = "write 100ms, 1s, or bare milliseconds";
    let (number, unit) = split_unit(text);
    let per_unit = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(bad(origin, text, "not a duration", FIX)),
    };
    let millis = scaled(number, per_unit).ok_or_else(|| bad(origin, text, "not a duration", FIX))?;
    if millis == 0 {
        return Err(bad(origin, text, "must be at least 1ms", FIX));
    }
    Ok(Duration::from_millis(millis))
}

/// Bytes: `1572864`, `1.5MiB`, `8GiB`, `2GB`. None: negative, which means no limit.
pub(super) fn size(origin: &Origin, text: &str) -> Result<Option<u64>, ConfigError> {
    const FIX: &str = "write bytes, or a number with KiB, MiB, GiB (1024) or KB, MB, GB (1000)";
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (number, unit) = split_unit(digits);
    let per_unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" | "ki" => 1 << 10,
        "mib" | "m" | "mi" => 1 << 20,
        "gib" | "g" | "gi" => 1 << 30,
        "tib" | "t" | "ti" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(bad(origin, text, "not a size", FIX)),
    };
    let bytes = scaled(number, per_unit).ok_or_else(|| bad(origin, text, "not a size", FIX))?;
    Ok(if negative && bytes > 0 { None } else { Some(bytes) })
}

/// A whole number within bounds.
pub(super) fn count(origin: &Origin, text: &str, min: u64, max: u64) -> Result<u64, ConfigError> {
    let fix = format!("write a whole number from {min} to {max}");
    let number: u64 = text.parse().map_err(|_| bad(origin, text, "not a whole number", &fix))?;
    if number < min || number > max {
        return Err(bad(origin, text, "out of range", &fix));
    }
    Ok(number)
}

/// Go's spellings of true and false.
pub(super) fn switch(origin: &Origin, text: &str) -> Result<bool, ConfigError> {
    match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(bad(origin, text, "not a switch", "write true or false")),
    }
}

/// One word of several.
pub(super) fn one_of<'a, T: Copy>(origin: &Origin, text: &str, choices: &[(&'a str, T)]) -> Result<T, ConfigError> {
    choices.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<&'a str> = choices.iter().map(|(word, _)| *word).collect();
        bad(origin, text, "unknown", &format!("choose {}", words.join(", ")))
    })
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// `number` (digits, perhaps with a fraction) times `per_unit`, in whole units without a float; None if not a number.
fn scaled(number: &str, per_unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 6 || number.ends_with('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let mut scale: u64 = 1;
    for _ in 0..fraction.len() {
        scale *= 10;
    }
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let parts = fraction.checked_mul(per_unit)?;
    if parts % scale != 0 && per_unit == 1 {
        return None;
    }
    whole.checked_mul(per_unit)?.checked_add(parts / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::Flag("x")
    }

    #[test]
    fn durations_in_all_spellings() {
        for (text, millis) in [("100", 100), ("100ms", 100), ("1s", 1_000), ("1.5s", 1_500), ("2m", 120_000)] {
            assert_eq!(duration(&origin(), text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "ms", "1h", "-5ms", "abc", "1.", "0.5", "1,5s", "99999999999999999999"] {
            let error = duration(&origin(), text).unwrap_err().to_string();
            assert_eq!(error, format!("--x={text:?}: not a duration; write 100ms, 1s, or bare milliseconds"));
        }
        let error = duration(&origin(), "0").unwrap_err().to_string();
        assert_eq!(error, "--x=\"0\": must be at least 1ms; write 100ms, 1s, or bare milliseconds");
    }

    #[test]
    fn sizes_in_all_spellings() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1572864", Some(1_572_864)),
            ("1.5MiB", Some(1_572_864)),
            ("8GiB", Some(8 << 30)),
            ("8 GiB", Some(8 << 30)),
            ("2gb", Some(2_000_000_000)),
            ("-1", None),
        ] {
            assert_eq!(size(&origin(), text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "8X", "1.5", "--1", "99999999TiB"] {
            assert!(size(&origin(), text).unwrap_err().to_string().contains("not a size"), "{text}");
        }
    }

    #[test]
    fn counts_have_bounds() {
        assert_eq!(count(&origin(), "128", 1, 1_000), Ok(128));
        assert_eq!(
            count(&origin(), "0", 1, 1_000).unwrap_err().to_string(),
            "--x=\"0\": out of range; write a whole number from 1 to 1000"
        );
        assert!(count(&origin(), "1e3", 1, 1_000).unwrap_err().to_string().contains("not a whole number"));
    }

    #[test]
    fn switches_are_gos() {
        assert_eq!(switch(&origin(), "T"), Ok(true));
        assert_eq!(switch(&origin(), "0"), Ok(false));
        assert_eq!(switch(&origin(), "yes").unwrap_err().to_string(), "--x=\"yes\": not a switch; write true or false");
    }
}
