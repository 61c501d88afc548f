//! How another terminal reaches the dev cluster's process: a Unix socket in its folder, one JSON line each way.
//!
//! Whoever may write into the folder may give orders; there is no other protection, and none is needed.

use super::{
    DevError,
    folder::{command_line, file_error, socket},
    status::NodeReport,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

/// Longer than a request or an answer ever is.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// For a request to arrive once its connection is there.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A node that starts may have to read much.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What is asked of the process that has the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Request {
    Status,
    Kill { node: String },
    Start { node: String },
    Stop,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reply {
    Done { text: String },
    Nodes { nodes: Vec<NodeReport> },
    Refused { text: String },
}

/// A request and the way to answer it.
pub(super) struct Order {
    pub(super) request: Request,
    stream: UnixStream,
}

impl Order {
    /// Answers; a terminal that has gone does not matter.
    pub(super) fn answer(mut self, reply: &Reply) {
        let Ok(mut line) = serde_json::to_vec(reply) else { return };
        line.push(b'\n');
        let _ = self.stream.write_all(&line);
    }
}

/// The socket, removed when dropped. Its thread ends with the process.
pub(super) struct ControlSocket {
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens on the folder's socket; the caller holds the folder's lock, so that a socket found there is a dead
/// process's.
pub(super) fn listen<E: Send + 'static>(
    folder: &Path,
    events: mpsc::Sender<E>,
    event: fn(Order) -> E,
) -> Result<ControlSocket, DevError> {
    let path = socket(folder);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(file_error("cannot remove the old", &path, source));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => DevError::SocketPath { path: path.clone() },
        _ => file_error("cannot listen on", &path, source),
    })?;
    let control = ControlSocket { path };
    fs::set_permissions(&control.path, fs::Permissions::from_mode(0o600))
        .map_err(|source| file_error("cannot protect", &control.path, source))?;
    std::thread::Builder::new().name("dev-control".into()).spawn(move || {
        for stream in listener.incoming() {
            // Out of file descriptors, say: the other terminal sees a closed connection and may try again.
            let Ok(stream) = stream else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            match read_request(&stream) {
                Ok(request) => {
                    if events.send(event(Order { request, stream })).is_err() {
                        return;
                    }
                }
                Err(error) => Order { request: Request::Status, stream }
                    .answer(&Reply::Refused { text: format!("not a request of `flaredb dev`: {error}") }),
            }
        }
    })?;
    Ok(control)
}

fn read_request(stream: &UnixStream) -> io::Result<Request> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    Ok(serde_json::from_str(&read_line(stream)?)?)
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

/// Asks the process that has the folder.
pub(super) fn ask(folder: &Path, request: &Request) -> Result<Reply, DevError> {
    let path = socket(folder);
    let mut stream = UnixStream::connect(&path).map_err(|source| match source.kind() {
        // Refused: the file is left over from a process that was killed.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            DevError::NotRunning { folder: folder.to_owned(), start: command_line(folder, "") }
        }
        io::ErrorKind::InvalidInput => DevError::SocketPath { path: path.clone() },
        _ => file_error("cannot connect to", &path, source),
    })?;
    let bad = |wrong: String| DevError::Answer { folder: folder.to_owned(), wrong };
    let mut line = serde_json::to_vec(request).map_err(|error| bad(error.to_string()))?;
    line.push(b'\n');
    let answer = stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .and_then(|()| stream.write_all(&line))
        .and_then(|()| read_line(&stream))
        .map_err(|error| bad(error.to_string()))?;
    if answer.is_empty() {
        return Err(bad("it closed the connection".into()));
    }
    serde_json::from_str(&answer).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_answer_over_the_socket() {
        let temp = tempfile::tempdir().unwrap();
        let (sender, orders) = mpsc::channel();
        let control = listen(temp.path(), sender, |order| order).unwrap();
        assert_eq!(fs::metadata(socket(temp.path())).unwrap().permissions().mode() & 0o777, 0o600);
        let asked = Request::Kill { node: "leader".into() };
        let reply = Reply::Done { text: "n1 killed".into() };
        let answering = {
            let (asked, reply) = (asked.clone(), reply.clone());
            std::thread::spawn(move || {
                let order: Order = orders.recv().unwrap();
                assert_eq!(order.request, asked);
                order.answer(&reply);
            })
        };
        assert_eq!(ask(temp.path(), &asked).unwrap(), reply);
        answering.join().unwrap();
        drop(control);
        let error = ask(temp.path(), &asked).unwrap_err().to_string();
        let folder = temp.path().display();
        assert_eq!(
            error,
            format!("no dev cluster is running on {folder}; start one with `flaredb dev --data-dir {folder}`")
        );
    }

    #[test]
    fn nonsense_is_answered_and_a_left_over_socket_means_nobody_is_there() {
        let temp = tempfile::tempdir().unwrap();
        let (sender, _orders) = mpsc::channel();
        let _control = listen(temp.path(), sender, |order| order).unwrap();
        let mut stream = UnixStream::connect(socket(temp.path())).unwrap();
        stream.write_all(b"{\"do\":\"explode\"}\n").unwrap();
        let answer = read_line(&stream).unwrap();
        assert!(answer.contains("not a request of `flaredb dev`"), "{answer}");

        let other = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(socket(other.path())).unwrap());
        assert!(matches!(ask(other.path(), &Request::Status), Err(DevError::NotRunning { .. })));
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_said() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("x".repeat(120));
        fs::create_dir(&folder).unwrap();
        let (sender, _orders) = mpsc::channel::<Order>();
        let error = listen(&folder, sender, |order| order).err().unwrap().to_string();
        assert!(error.contains("too long for a control socket"), "{error}");
    }
}
