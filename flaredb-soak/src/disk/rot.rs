//! Bits that change while a member is down.

use crate::error::{Result, SoakError, Why};
use flaredb_sim::prf::Draw;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Flips a bit in each of one to three places of one file of the member. Gives the file and the places, for the report.
///
/// # Errors
/// There is no file, or it cannot be changed.
pub fn flip(root: &Path, salt: u64) -> Result<String> {
    let mut draw = Draw::new(salt, "rot", 0);
    let mut files = Vec::new();
    collect(root, &mut files)?;
    if files.is_empty() {
        return Err(SoakError(format!("{}: nothing to damage", root.display())));
    }
    let (path, length) = draw.pick(&files).clone();
    let file = File::options().read(true).write(true).open(&path).why(path.display())?;
    let mut places = Vec::new();
    for _ in 0..draw.between(1, 3) {
        // Half of the time in the first part: files that are filled ahead have their content there.
        let bound = if draw.below(2) == 0 { length } else { length.min(64 * 1024) };
        let at = draw.below(bound);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).why(path.display())?;
        let bit = *draw.pick(&[1_u8, 2, 4, 8, 16, 32, 64, 128]);
        file.write_all_at(&byte.map(|byte| byte ^ bit), at).why(path.display())?;
        places.push(at.to_string());
    }
    let name = path.strip_prefix(root).unwrap_or(&path);
    Ok(format!("{} at {}", name.display(), places.join(", ")))
}

/// Every file that holds data; not locks, nor logs for people.
fn collect(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).why(folder.display())? {
        entries.push(entry.why(folder.display())?.path());
    }
    entries.sort();
    for path in entries {
        let about = fs::symlink_metadata(&path).why(path.display())?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if about.is_dir() {
            collect(&path, files)?;
        } else if about.is_file() && about.len() > 0 && !name.starts_with("LOG") && !name.starts_with("LOCK") {
            files.push((path, about.len()));
        }
    }
    Ok(())
}
