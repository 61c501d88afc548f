//! What the operating system says of the disk under a folder.

use std::{io, path::Path};

/// Bytes that this process may still write.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
