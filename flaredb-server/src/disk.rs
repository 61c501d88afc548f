//! What the operating system says of the disk under a folder, space that is kept on it, and small files that change as a whole.

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Bytes that this process may still write.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes a file of this many bytes, with its blocks. Blocks where the file system cannot do so without writing. Removed again
/// if it cannot be made.
pub(crate) fn set_aside(path: &Path, bytes: u64) -> io::Result<()> {
    let made = File::create(path).and_then(|mut file| match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(&mut file, bytes),
        other => Ok(other?),
    });
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made
}

/// Gives the file in `folder` this content, durably. A crash leaves all of the new content or all of the old.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn fill(file: &mut File, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all(ZEROS.get(..length).unwrap_or(&ZEROS))?;
        bytes -= u64::try_from(length).unwrap_or(bytes);
    }
    Ok(())
}
