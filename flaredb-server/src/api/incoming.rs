//! Client connections are accepted within a bound: a stranger must not use up the process's file descriptors, on which the
//! database's files depend too.

use std::{
    fs,
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

/// After a failed accept (usually: out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Open files assumed if the process's limit cannot be read.
const OPEN_FILES_ASSUMED: usize = 1024;

/// Accepts clients on all listeners of a node.
pub(super) struct Incoming {
    listeners: Vec<TcpListener>,
    /// The listener to ask first, so that a busy one does not starve the rest.
    next: usize,
    connections: Arc<AtomicUsize>,
    connections_max: usize,
}

impl Incoming {
    pub(super) fn new(listeners: Vec<TcpListener>, connections_max: usize) -> Self {
        Self { listeners, next: 0, connections: Arc::default(), connections_max }
    }

    /// The next client, with its place. Loses nobody when it is dropped while waiting.
    pub(super) async fn accept(&mut self) -> (TcpStream, Place) {
        loop {
            match self.accept_any().await {
                Ok((stream, client)) => match Place::take(&self.connections, self.connections_max) {
                    Some(place) => {
                        // Answers are waited for. A socket that refuses the option is broken and will say so on its first read.
                        let _ = stream.set_nodelay(true);
                        return (stream, place);
                    }
                    None => tracing::warn!(%client, max = self.connections_max, "too many client connections: closed"),
                },
                Err(error) => {
                    tracing::warn!(%error, "accepting a client failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept_any(&mut self) -> io::Result<(TcpStream, std::net::SocketAddr)> {
        poll_fn(|context| {
            let count = self.listeners.len();
            for offset in 0..count {
                let index = (self.next + offset) % count;
                let Some(listener) = self.listeners.get(index) else { continue };
                if let Poll::Ready(outcome) = listener.poll_accept(context) {
                    self.next = index + 1;
                    return Poll::Ready(outcome);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A quarter of the files that the process may open: `flaredb dev` runs three nodes in one process, and the rest is for
/// the database and the peers.
pub(super) fn connections_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    open_files_max(&limits).unwrap_or(OPEN_FILES_ASSUMED) / 4
}

/// The soft limit, from the text of /proc/<pid>/limits.
fn open_files_max(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

/// One of the bounded number of connections; given back when dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(super) fn take(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = Self(Arc::clone(taken));
        // `place` gives back what is counted here, also if it was one too many.
        (taken.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn the_limit_of_open_files_is_read_from_the_kernels_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units\n\
                     Max processes             95731                95731                processes\n\
                     Max open files            1024                 524288               files\n";
        assert_eq!(open_files_max(table), Some(1024));
        assert_eq!(
            open_files_max("Max open files            unlimited            unlimited            files\n"),
            Some(usize::MAX)
        );
        assert_eq!(open_files_max(""), None);
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_is_closed_and_its_place_is_free_after_another_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Incoming::new(vec![listener], 1);
        let _first_client = TcpStream::connect(address).await.unwrap();
        let first = incoming.accept().await;
        let mut second_client = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = incoming.accept() => panic!("admitted one too many"),
            read = second_client.read_u8() => assert!(read.is_err(), "the second is closed"),
        }
        drop(first);
        let _third_client = TcpStream::connect(address).await.unwrap();
        let _third = incoming.accept().await;
    }
}
