//! The disk layer of a member: the library that is loaded into the server (`preload/faulty_disk.c`, compiled here with `cc`),
//! its control file and its folder of journals.

pub mod rot;
pub mod undo;

use crate::error::{Result, SoakError, Why};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("../../preload/faulty_disk.c");
const MAGIC: u64 = u64::from_le_bytes(*b"FLTDISK1");
const SYNC_MODE: u64 = 1;
const WRITE_MODE: u64 = 2;
const WRITES: u64 = 4;
const SYNCS: u64 = 5;
const FAULTS: u64 = 6;
const WORDS: u64 = 8;

/// What syncs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// Their work.
    Good,
    /// EIO.
    Fail,
    /// They do not return.
    Block,
    /// They return at once and do nothing.
    Lie,
}

/// What writes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Their work.
    Good,
    /// ENOSPC, if the file would grow.
    Full,
}

/// Compiles the library into a folder.
///
/// # Errors
/// No C compiler, or it refuses.
pub fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("faulty_disk.c"), folder.join("faulty_disk.so"));
    std::fs::write(&source, SOURCE).why(source.display())?;
    let output = Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", "-pthread", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output()
        .why("cc (a C compiler is needed for disk faults)")?;
    if output.status.success() {
        return Ok(library);
    }
    Err(SoakError(format!("cc: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Whether a library can be loaded into this program: it must not be statically linked.
pub fn takes_libraries(program: &Path) -> bool {
    /// The program header that names the dynamic loader.
    const INTERPRETER: u32 = 3;
    let Ok(bytes) = std::fs::read(program) else { return false };
    let u16_at =
        |at: usize| -> Option<usize> { Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into()) };
    let headers = || -> Option<bool> {
        let table = u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?);
        let table = usize::try_from(table).ok()?;
        let (size, count) = (u16_at(54)?, u16_at(56)?);
        Some((0..count).any(|number| {
            let at = table + number * size;
            bytes.get(at..at + 4).is_some_and(|kind| kind == INTERPRETER.to_le_bytes())
        }))
    };
    bytes.starts_with(b"\x7fELF") && headers().unwrap_or(false)
}

/// One member's.
#[derive(Debug)]
pub struct Layer {
    library: PathBuf,
    root: PathBuf,
    state: PathBuf,
    control_path: PathBuf,
    control: File,
}

impl Layer {
    /// For the files under `root`, with its own files in `folder`, on the same file system.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn new(library: &Path, root: &Path, folder: &Path) -> Result<Self> {
        let state = folder.join("journals");
        std::fs::create_dir_all(&state).why(state.display())?;
        let control_path = folder.join("control");
        let control = File::options().create(true).truncate(true).read(true).write(true).open(&control_path);
        let control = control.why(control_path.display())?;
        control.set_len(WORDS * 8).why(control_path.display())?;
        let this = Self { library: library.to_owned(), root: root.to_owned(), state, control_path, control };
        this.put(0, MAGIC)?;
        Ok(this)
    }

    /// What the server's environment needs.
    pub fn environment(&self) -> [(&'static str, &Path); 4] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAULTY_DISK_ROOT", &self.root),
            ("FAULTY_DISK_STATE", &self.state),
            ("FAULTY_DISK_CONTROL", &self.control_path),
        ]
    }

    /// From now on.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn syncs(&self, how: Syncs) -> Result<()> {
        let mode = match how {
            Syncs::Good => 0,
            Syncs::Fail => 1,
            Syncs::Block => 2,
            Syncs::Lie => 3,
        };
        self.put(SYNC_MODE, mode)
    }

    /// From now on.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn writes(&self, how: Writes) -> Result<()> {
        self.put(WRITE_MODE, u64::from(how == Writes::Full))
    }

    /// Writes, syncs and faults so far.
    ///
    /// # Errors
    /// The control file cannot be read.
    pub fn counts(&self) -> Result<(u64, u64, u64)> {
        Ok((self.get(WRITES)?, self.get(SYNCS)?, self.get(FAULTS)?))
    }

    /// A power cut, after the process was killed: loses, by `salt`, what was not synced.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn cut_power(&self, salt: u64) -> Result<undo::Lost> {
        undo::apply(&self.root, &self.state, salt)
    }

    /// Forgets the journals: the folder is new.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn forget(&self) -> Result<()> {
        undo::clear(&self.state)
    }

    fn put(&self, word: u64, value: u64) -> Result<()> {
        self.control.write_all_at(&value.to_le_bytes(), word * 8).why("control file")
    }

    fn get(&self, word: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, word * 8).why("control file")?;
        Ok(u64::from_le_bytes(bytes))
    }
}
