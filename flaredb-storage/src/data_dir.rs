//! The data folder: who it belongs to, its format, and the lock that keeps a second process out.
//!
//! A folder is made in an order in which a crash leaves either nothing that counts or the whole: LOCK, identity, the folders
//! above synced, then FORMAT; each file written beside its place, synced, renamed, and the folder synced. Only a folder with
//! FORMAT is a data folder.

use crate::OpenError;
use crate::data_folder;
use crate::layout::{DATA_DIR, ETCD_DIRS, FORMAT, FORMAT_FILE, IDENTITY_FILE, LOCK_FILE, MEMBER_DIR, RAFT_DIR};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whose data a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Shared by all members of the cluster.
    pub cluster_id: u64,
    /// This member; also its Raft peer id.
    pub member_id: u64,
    /// The region whose replica this is.
    pub region_id: u64,
    /// For the reader of the identity file; not compared.
    pub name: String,
    /// The members that vote. Compared with the configuration in the log's database when that is opened.
    pub voters: Vec<u64>,
}

/// An open data folder. The lock is held until this and everything opened from it is dropped.
#[derive(Debug)]
pub struct DataDir {
    member: PathBuf,
    identity: Identity,
    lock: Arc<DirLock>,
}

/// What the identity file says beyond [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Whether the log of this member was ever made. If it was, an empty one means that votes and entries are gone.
    pub(crate) log: bool,
    /// Drawn when the folder was made. None in a folder of an earlier release, which knew no mark.
    pub(crate) storage_id: Option<u64>,
}

/// Keeps the folder locked while it lives. The databases hold one each, so that the lock outlives their last write.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DataDir {
    /// Opens `<path>/member/`, making it if there is nothing, and locks it.
    ///
    /// # Errors
    /// Every [`OpenError`] except `Inconsistent` about the log itself; nothing is changed in a folder that is refused.
    pub fn open(path: &Path, identity: &Identity) -> Result<Self, OpenError> {
        refuse_etcd(path)?;
        let member = path.join(MEMBER_DIR);
        make_dir(path)?;
        make_dir(&member)?;
        let lock = Arc::new(lock(&member.join(LOCK_FILE))?);
        match read_optional(&member.join(FORMAT_FILE))? {
            Some(found) if found == FORMAT => check_identity(&member.join(IDENTITY_FILE), identity)?,
            Some(found) => return Err(format_error(&member, &found)),
            None => {
                // A folder that holds a database but no FORMAT was not made by this code: never adopt it.
                if member.join(RAFT_DIR).exists() || member.join(DATA_DIR).exists() {
                    return Err(format_error(&member, ""));
                }
                let made = Made { log: false, storage_id: Some(draw_storage_id()?) };
                write_file(&member, IDENTITY_FILE, &identity_text(identity, made))?;
                // Before FORMAT: a start that ends here is not made up for by the next one, which finds a FORMAT and goes on.
                sync_dir(path)?;
                sync_ancestors(path)?;
                write_file(&member, FORMAT_FILE, FORMAT)?;
            }
        }
        make_private(&member)?;
        make_dir(&member.join(data_folder::current(&member)?.folder))?;
        let dir = Self { member, identity: identity.clone(), lock };
        // One that was made and is gone now is a loss, not a new one.
        if !dir.made()?.log {
            make_dir(&dir.raft_path())?;
        }
        sync_dir(&dir.member)?;
        Ok(dir)
    }

    /// Locks a folder that is only looked at, as whoever it belongs to. Nothing is made or changed.
    pub(crate) fn inspect(path: &Path) -> Result<Self, OpenError> {
        refuse_etcd(path)?;
        let member = path.join(MEMBER_DIR);
        let lock_path = member.join(LOCK_FILE);
        let file = File::open(&lock_path).map_err(|error| OpenError::io(&lock_path, &error))?;
        let lock = Arc::new(locked(file, &lock_path)?);
        match read_optional(&member.join(FORMAT_FILE))? {
            Some(found) if found == FORMAT => {}
            found => return Err(format_error(&member, &found.unwrap_or_default())),
        }
        let path = member.join(IDENTITY_FILE);
        let stored = parse_identity(&path, &read_optional(&path)?.ok_or_else(|| missing(&path))?)?;
        let StoredIdentity { cluster_id, member_id, region_id, .. } = stored;
        let identity = Identity { cluster_id, member_id, region_id, name: String::new(), voters: Vec::new() };
        Ok(Self { member, identity, lock })
    }

    /// The identity this folder was opened with.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// `<path>/member`.
    pub fn member_path(&self) -> &Path {
        &self.member
    }

    /// RocksDB's folder of the log.
    pub(crate) fn raft_path(&self) -> PathBuf {
        self.member.join(RAFT_DIR)
    }

    /// RocksDB's folder of the state machine, as it is now.
    pub(crate) fn data_path(&self) -> Result<PathBuf, OpenError> {
        Ok(self.member.join(data_folder::current(&self.member)?.folder))
    }

    pub(crate) fn lock(&self) -> Arc<DirLock> {
        Arc::clone(&self.lock)
    }

    /// What the identity file says now.
    pub(crate) fn made(&self) -> Result<Made, OpenError> {
        let path = self.member.join(IDENTITY_FILE);
        let text = read_optional(&path)?.ok_or_else(|| missing(&path))?;
        Ok(parse_identity(&path, &text)?.made)
    }

    /// To be called with `log: true` when the log's first batch and the mark are durable.
    pub(crate) fn set_made(&self, made: Made) -> Result<(), OpenError> {
        write_file(&self.member, IDENTITY_FILE, &identity_text(&self.identity, made))
    }
}

/// Never 0, and never the same twice: from the operating system.
pub(crate) fn draw_storage_id() -> Result<u64, OpenError> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0; 8];
    let drawn = File::open(SOURCE).and_then(|mut source| source.read_exact(&mut bytes));
    drawn.map_err(|error| OpenError::io(SOURCE, &error))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

fn refuse_etcd(path: &Path) -> Result<(), OpenError> {
    let found = ETCD_DIRS.iter().map(|name| path.join(MEMBER_DIR).join(name)).find(|dir| dir.exists());
    found.map_or(Ok(()), |path| Err(OpenError::EtcdFolder { path }))
}

fn make_dir(path: &Path) -> Result<(), OpenError> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(OpenError::NotADirectory { path: path.to_path_buf() }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| OpenError::io(path, &error))
        }
        Err(error) => Err(OpenError::io(path, &error)),
    }
}

/// Takes group's and others' rights away from a folder that someone opened up.
fn make_private(path: &Path) -> Result<(), OpenError> {
    let mode = fs::metadata(path).map_err(|error| OpenError::io(path, &error))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format_args!("{mode:o}"), "the data folder was open to others, set to 700");
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(|error| OpenError::io(path, &error))?;
    }
    Ok(())
}

fn lock(path: &Path) -> Result<DirLock, OpenError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| OpenError::io(path, &error))?;
    locked(file, path)
}

fn locked(file: File, path: &Path) -> Result<DirLock, OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(DirLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(OpenError::io(path, &error)),
    }
}

fn format_error(member: &Path, found: &str) -> OpenError {
    let found = found.trim_end().chars().take(80).collect();
    OpenError::Format { path: member.join(FORMAT_FILE), found, expected: FORMAT.trim_end().to_owned() }
}

fn identity_text(identity: &Identity, made: Made) -> String {
    let storage = made.storage_id.map(|id| format!("storage: {id:016x}\n")).unwrap_or_default();
    let body = format!(
        "name: {}\ncluster: {:016x}\nmember: {:016x}\nregion: {:016x}\n{storage}log-made: {}\n",
        identity.name.escape_debug(),
        identity.cluster_id,
        identity.member_id,
        identity.region_id,
        if made.log { "yes" } else { "no" },
    );
    let crc = crc32fast::hash(body.as_bytes());
    format!("{body}crc32: {crc:08x}\n")
}

pub(crate) struct StoredIdentity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) region_id: u64,
    pub(crate) made: Made,
}

fn parse_identity(path: &Path, text: &str) -> Result<StoredIdentity, OpenError> {
    let wrong =
        |what: &str| OpenError::Inconsistent { path: path.to_path_buf(), what: format!("the identity file {what}") };
    let (body, crc) = text.rsplit_once("crc32: ").ok_or_else(|| wrong("has no checksum"))?;
    if u32::from_str_radix(crc.trim_end(), 16) != Ok(crc32fast::hash(body.as_bytes())) {
        return Err(wrong("does not match its checksum"));
    }
    let field = |name: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.ok_or_else(|| wrong(&format!("has no {name}")))
    };
    let id =
        |name: &str| u64::from_str_radix(field(name)?, 16).map_err(|_| wrong(&format!("has a {name} that is no id")));
    Ok(StoredIdentity {
        cluster_id: id("cluster")?,
        member_id: id("member")?,
        region_id: id("region")?,
        made: Made {
            log: field("log-made")? == "yes",
            storage_id: field("storage").is_ok().then(|| id("storage")).transpose()?,
        },
    })
}

fn check_identity(path: &Path, identity: &Identity) -> Result<(), OpenError> {
    let text = read_optional(path)?.ok_or_else(|| missing(path))?;
    let stored = parse_identity(path, &text)?;
    for (what, found, expected) in [
        ("cluster", stored.cluster_id, identity.cluster_id),
        ("member", stored.member_id, identity.member_id),
        ("region", stored.region_id, identity.region_id),
    ] {
        if found != expected {
            return Err(OpenError::Identity { path: path.to_path_buf(), what, found, expected });
        }
    }
    Ok(())
}

fn missing(path: &Path) -> OpenError {
    OpenError::Inconsistent { path: path.to_path_buf(), what: "the identity file is missing".to_owned() }
}

pub(crate) fn read_optional(path: &Path) -> Result<Option<String>, OpenError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(path, &error)),
    }
}

/// The whole new content or the whole old one, whatever happens.
pub(crate) fn write_file(dir: &Path, name: &str, text: &str) -> Result<(), OpenError> {
    let (path, beside) = (dir.join(name), dir.join(format!("{name}.new")));
    let written = (|| {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    })();
    written.map_err(|error| OpenError::io(&path, &error))?;
    sync_dir(dir)
}

/// `path` may have been made with folders above it. One that may not be opened, or whose file system knows no sync of
/// folders, cannot be what was just made.
fn sync_ancestors(path: &Path) -> Result<(), OpenError> {
    for above in path.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match File::open(above).and_then(|dir| dir.sync_all()) {
            Err(error) if !matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => {
                return Err(OpenError::io(above, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A name in a folder is durable only when the folder is.
pub(crate) fn sync_dir(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| OpenError::io(path, &error))
}
