//! The two integer conversions this crate needs, so that no other file converts.

#[expect(clippy::as_conversions, reason = "usize has at most 64 bits on every target that Rust supports")]
pub(crate) const fn to_u64(n: usize) -> u64 {
    n as u64
}

/// Saturates on 32-bit targets; used for offsets that are compared with a length at once.
pub(crate) fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Terms and indices beyond this are refused as malformed. No honest cluster gets there (10 million entries a second for
/// 29,000 years), and below it the next term or index always exists, so that no addition can overflow.
pub(crate) const POSITION_MAX: u64 = u64::MAX >> 1;
