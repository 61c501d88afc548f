//! What a power cut leaves: the layer's journals say what each file held before every change that was not synced. Here they are
//! taken back, wholly or in part, as a disk may have kept some of it: nothing; the first changes; any sectors.

use crate::error::{Result, SoakError, Why};
use flaredb_sim::prf::Draw;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// `RECORD_MAGIC` of faulty_disk.c.
const MAGIC: u64 = 0x3130_4f44_4e55_4c46;
const HEADER: usize = 40;

/// What a power cut took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes of bytes that were not synced.
    pub writes: u64,
    /// Of these, those kept, by sector or by order.
    pub kept: u64,
    /// Files made, renamed or removed whose folder was not synced.
    pub names: u64,
}

/// How much of what was not synced reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mercy {
    Nothing,
    FirstChanges,
    AnySectors,
}

struct Change {
    offset: u64,
    length: u64,
    old_size: u64,
    old: Vec<u8>,
}

/// Applies and clears the journals in `state` to the files under `root`.
pub(super) fn apply(root: &Path, state: &Path, salt: u64) -> Result<Lost> {
    let mut draw = Draw::new(salt, "power", 0);
    let mut lost = Lost::default();
    let mercy = *draw.pick(&[Mercy::Nothing, Mercy::FirstChanges, Mercy::AnySectors]);
    // Bytes first: the files have all their names still, also those in the backups.
    let mut by_inode = BTreeMap::new();
    find_files(root, &mut by_inode)?;
    find_files(state, &mut by_inode)?;
    for entry in list(state)? {
        let Some(inode) = entry.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".undo"))
        else {
            continue;
        };
        let Some(path) = inode.parse::<u64>().ok().and_then(|inode| by_inode.get(&inode)) else { continue };
        let changes = read_journal(&entry)?;
        lost.writes += u64::try_from(changes.len()).unwrap_or(0);
        lost.kept += take_back(path, &changes, mercy, &mut draw)?;
    }
    lost.names = take_back_names(state, mercy, &mut draw)?;
    clear(state)?;
    Ok(lost)
}

/// Empties the folder of journals.
pub(super) fn clear(state: &Path) -> Result<()> {
    for path in list(state)? {
        fs::remove_file(&path).why(path.display())?;
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).why(folder.display())? {
        paths.push(entry.why(folder.display())?.path());
    }
    paths.sort();
    Ok(paths)
}

fn find_files(folder: &Path, found: &mut BTreeMap<u64, PathBuf>) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for path in list(folder)? {
        let about = fs::symlink_metadata(&path).why(path.display())?;
        if about.is_dir() {
            find_files(&path, found)?;
        } else if about.is_file() && path.extension().is_none_or(|extension| extension != "undo") {
            found.insert(about.ino(), path);
        }
    }
    Ok(())
}

/// The last record may be torn by the kill; its change was then not made.
fn read_journal(path: &Path) -> Result<Vec<Change>> {
    let bytes = fs::read(path).why(path.display())?;
    let mut rest = bytes.as_slice();
    let mut changes = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(HEADER) {
        let mut words = header.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut word = || words.next().unwrap_or(0);
        let (magic, offset, length, old_size, kept) = (word(), word(), word(), word(), word());
        if magic != MAGIC {
            return Err(SoakError(format!("{}: not a journal", path.display())));
        }
        let Some((old, next)) = usize::try_from(kept).ok().and_then(|kept| after.split_at_checked(kept)) else { break };
        changes.push(Change { offset, length, old_size, old: old.to_vec() });
        rest = next;
    }
    Ok(changes)
}

/// Gives how many changes were kept, in whole or in part.
fn take_back(path: &Path, changes: &[Change], mercy: Mercy, draw: &mut Draw) -> Result<u64> {
    if changes.is_empty() {
        return Ok(0);
    }
    let file = File::options().read(true).write(true).open(path).why(path.display())?;
    let total = u64::try_from(changes.len()).unwrap_or(0);
    let first_lost = if mercy == Mercy::FirstChanges { draw.below(total + 1) } else { 0 };
    let now = if mercy == Mercy::AnySectors { fs::read(path).why(path.display())? } else { Vec::new() };
    for change in changes.iter().skip(usize::try_from(first_lost).unwrap_or(0)).rev() {
        file.set_len(change.old_size).why(path.display())?;
        file.write_all_at(&change.old, change.offset).why(path.display())?;
    }
    if mercy != Mercy::AnySectors {
        return Ok(first_lost);
    }
    // Each sector that was written since the last sync: as it is now, or as it was then.
    let sector = *draw.pick(&[512, 4096]);
    let share = *draw.pick(&[10, 50, 90]);
    let mut sectors = BTreeSet::new();
    for change in changes {
        // A cut has its length in its old bytes only.
        let end = change.offset.saturating_add(change.length).min(u64::try_from(now.len()).unwrap_or(0));
        let mut at = change.offset / sector;
        while at * sector < end {
            sectors.insert(at);
            at += 1;
        }
    }
    let mut kept = 0;
    for at in sectors {
        let start = usize::try_from(at * sector).unwrap_or(usize::MAX).min(now.len());
        let end = usize::try_from((at + 1) * sector).unwrap_or(usize::MAX).min(now.len());
        if draw.below(100) < share
            && let Some(bytes) = now.get(start..end)
        {
            file.write_all_at(bytes, at * sector).why(path.display())?;
            kept += 1;
        }
    }
    Ok(kept)
}

/// Files made, renamed and removed: a file system keeps the first of them, in order, if it keeps any; those of a folder that was
/// synced since are kept.
fn take_back_names(state: &Path, mercy: Mercy, draw: &mut Draw) -> Result<u64> {
    let journal = state.join("meta");
    if !journal.exists() {
        return Ok(0);
    }
    let text = fs::read(&journal).why(journal.display())?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut synced: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (number, line) in lines.iter().enumerate() {
        if let ["S", folder] = line.as_slice() {
            synced.insert(PathBuf::from(folder), number);
        }
    }
    let durable = |number: usize, path: &str| {
        let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
        synced.get(folder).is_some_and(|synced| *synced > number)
    };
    let open: Vec<&Vec<&str>> = lines
        .iter()
        .enumerate()
        .filter(|(number, line)| match line.as_slice() {
            ["C" | "L", path] | ["U", path, _] | ["R", _, path, _] => !durable(*number, path),
            _ => false,
        })
        .map(|(_, line)| line)
        .collect();
    let total = u64::try_from(open.len()).unwrap_or(0);
    let first_lost = if mercy == Mercy::Nothing { 0 } else { draw.below(total + 1) };
    for line in open.iter().skip(usize::try_from(first_lost).unwrap_or(0)).rev() {
        match line.as_slice() {
            ["C" | "L", path] if Path::new(path).exists() => fs::remove_file(path).why(path)?,
            ["U", path, backup] if !Path::new(path).exists() && parent_exists(path) => {
                fs::rename(state.join(backup), path).why(path)?;
            }
            ["R", from, to, backup] if !Path::new(from).exists() && Path::new(to).exists() => {
                fs::rename(to, from).why(to)?;
                if *backup != "-" && state.join(backup).exists() {
                    fs::rename(state.join(backup), to).why(to)?;
                }
            }
            _ => {}
        }
    }
    Ok(total - first_lost)
}

fn parent_exists(path: &str) -> bool {
    Path::new(path).parent().is_some_and(Path::exists)
}
