//! The dev cluster's folder: n1/, n2/, n3/, dev.log, ports.json, control.sock, and dev.lock, which one process holds.

use super::{
    DevError,
    args::{CLIENT_PORTS, DevArgs, NODES, PEER_PORTS},
};
use crate::disk;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What the data was made with.
const PORTS_FILE: &str = "ports.json";
/// A log beyond this is set aside at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// The ports of n1, n2, n3. Kept in the folder, because the members' ids are computed from their peer URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ports {
    pub(super) client: [u16; 3],
    pub(super) peer: [u16; 3],
}

/// A folder that this process has for itself.
pub(super) struct DevFolder {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

impl DevFolder {
    /// Makes the folder if need be and takes it for this process.
    pub(super) fn open(path: &Path) -> Result<Self, DevError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| file_error("cannot make the folder", path, source))?;
        let lock_path = path.join("dev.lock");
        if !lock_path.exists() && !is_empty(path)? {
            return Err(DevError::ForeignFolder { folder: path.to_owned() });
        }
        let lock = lock(path, &lock_path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn node(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The nodes' log; a large old one is set aside as dev.log.old.
    pub(super) fn log(&self) -> PathBuf {
        let path = self.path.join("dev.log");
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            // Kept large if this fails: nothing depends on it.
            let _ = fs::rename(&path, self.path.join("dev.log.old"));
        }
        path
    }

    /// The ports to use: those given, then those that the data was made with, then etcd's. Remembered for the next run.
    pub(super) fn ports(&self, args: &DevArgs) -> Result<Ports, DevError> {
        let path = self.path.join(PORTS_FILE);
        let has_data = NODES.iter().any(|name| self.node(name).exists());
        let saved = match fs::read(&path) {
            // Of a first start that failed: its ports bind nobody.
            Ok(_) if !has_data => None,
            Ok(bytes) => Some(serde_json::from_slice::<Ports>(&bytes).map_err(|error| {
                file_error("cannot understand", &path, io::Error::new(io::ErrorKind::InvalidData, error))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(file_error("cannot read", &path, source)),
        };
        let ports = Ports {
            client: args.client_ports.or(saved.map(|ports| ports.client)).unwrap_or(CLIENT_PORTS),
            peer: args.peer_ports.or(saved.map(|ports| ports.peer)).unwrap_or(PEER_PORTS),
        };
        if let Some(saved) = saved
            && saved.peer != ports.peer
        {
            return Err(DevError::PeerPortsFixed {
                folder: self.path.clone(),
                made_with: list(saved.peer),
                given: list(ports.peer),
            });
        }
        if saved != Some(ports) {
            disk::replace(&self.path, PORTS_FILE, &serde_json::to_vec(&ports).map_err(io::Error::from)?)
                .map_err(|source| file_error("cannot write", &path, source))?;
        }
        Ok(ports)
    }
}

/// `1,2,3`.
pub(super) fn list(ports: [u16; 3]) -> String {
    ports.map(|port| port.to_string()).join(",")
}

/// The control socket of a folder.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// `flaredb dev <words>` for this folder, as the operator would type it.
pub(super) fn command_line(folder: &Path, words: &str) -> String {
    let words = if words.is_empty() { String::new() } else { format!(" {words}") };
    if folder == Path::new("./.flaredb-dev") {
        format!("flaredb dev{words}")
    } else {
        format!("flaredb dev{words} --data-dir {}", folder.display())
    }
}

fn lock(folder: &Path, path: &Path) -> Result<File, DevError> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| file_error("cannot open", path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Without the number the message is still true.
            let _ = file.read_to_string(&mut text);
            return Err(DevError::AlreadyRunning {
                folder: folder.to_owned(),
                pid: text.trim().parse().ok(),
                status: command_line(folder, "status"),
            });
        }
        Err(TryLockError::Error(source)) => return Err(file_error("cannot lock", path, source)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| writeln!(file, "{}", std::process::id()));
    written.map_err(|source| file_error("cannot write", path, source))?;
    Ok(file)
}

fn is_empty(folder: &Path) -> Result<bool, DevError> {
    let mut entries = fs::read_dir(folder).map_err(|source| file_error("cannot read", folder, source))?;
    Ok(entries.next().is_none())
}

pub(super) fn file_error(doing: &'static str, path: &Path, source: io::Error) -> DevError {
    DevError::File { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(client_ports: Option<[u16; 3]>, peer_ports: Option<[u16; 3]>) -> DevArgs {
        DevArgs { data_dir: "x".into(), client_ports, peer_ports, action: None }
    }

    #[test]
    fn one_process_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("dev");
        let first = DevFolder::open(&path).unwrap();
        let error = DevFolder::open(&path).err().unwrap().to_string();
        let expected = format!(
            "a dev cluster runs on {} already (process {}); see `flaredb dev status --data-dir {}`, or use",
            path.display(),
            std::process::id(),
            path.display()
        );
        assert!(error.starts_with(&expected), "{error}");
        drop(first);
        assert!(DevFolder::open(&path).is_ok());
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("thesis.tex"), "").unwrap();
        let error = DevFolder::open(temp.path()).err().unwrap().to_string();
        assert!(
            error.ends_with("is not empty and was not made by `flaredb dev`; choose another --data-dir, or empty it")
        );
    }

    #[test]
    fn ports_are_remembered_and_peer_ports_stay() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DevFolder::open(temp.path()).unwrap();
        // A first start that failed leaves nothing that would be in the way of other ports.
        folder.ports(&args(None, Some([7, 8, 9]))).unwrap();
        let first = folder.ports(&args(Some([1, 2, 3]), Some([4, 5, 6]))).unwrap();
        fs::create_dir(folder.node("n1")).unwrap();
        assert_eq!(first, Ports { client: [1, 2, 3], peer: [4, 5, 6] });
        assert_eq!(folder.ports(&args(None, None)).unwrap(), first);
        assert_eq!(folder.ports(&args(Some([7, 8, 9]), None)).unwrap().client, [7, 8, 9]);
        assert_eq!(folder.ports(&args(None, None)).unwrap().client, [7, 8, 9]);
        let error = folder.ports(&args(None, Some([4, 5, 7]))).unwrap_err().to_string();
        assert!(error.contains("belongs to peer ports 4,5,6, not 4,5,7"), "{error}");
        fs::write(temp.path().join(PORTS_FILE), "{}").unwrap();
        let error = folder.ports(&args(None, None)).unwrap_err().to_string();
        assert!(error.starts_with("cannot understand "), "{error}");
    }
}
