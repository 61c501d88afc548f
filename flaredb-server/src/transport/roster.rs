//! What this node knows of its peers' connections: who is connected, by which process, and where clients reach them.

use super::handshake::Greeting;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// The peers, as far as their greetings told.
#[derive(Default)]
pub struct Roster {
    peers: Mutex<BTreeMap<u64, Peer>>,
}

#[derive(Default)]
struct Peer {
    /// Where clients reach it; learnt from either side's greeting.
    client_urls: Vec<String>,
    /// This node's outgoing connection is up.
    outgoing: bool,
    incoming: Option<Incoming>,
    admitted: u64,
}

struct Incoming {
    incarnation: u64,
    number: u64,
    /// Dropped when a later connection takes over.
    _current: watch::Sender<()>,
}

/// The right to speak for a peer on an incoming connection. Ends when a later connection takes over, or with this value.
pub(super) struct Admission {
    roster: Arc<Roster>,
    peer: u64,
    number: u64,
    taken_over: watch::Receiver<()>,
}

impl Admission {
    /// Returns once a later connection of the same peer was admitted.
    pub(super) async fn taken_over(&mut self) {
        // Nothing is ever sent: the only thing that can happen is that the sender is dropped.
        while self.taken_over.changed().await.is_ok() {}
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut peers = self.roster.lock();
        let Some(peer) = peers.get_mut(&self.peer) else { return };
        if peer.incoming.as_ref().is_some_and(|current| current.number == self.number) {
            peer.incoming = None;
        }
    }
}

impl Roster {
    /// Where clients reach this peer; empty until one of its greetings arrived.
    pub fn client_urls(&self, peer: u64) -> Vec<String> {
        self.lock().get(&peer).map_or_else(Vec::new, |peer| peer.client_urls.clone())
    }

    /// Peers to which this node's outgoing connection is up.
    pub fn connected(&self) -> Vec<u64> {
        self.lock().iter().filter(|(_, peer)| peer.outgoing).map(|(id, _)| *id).collect()
    }

    pub(super) fn on_outgoing(&self, peer: u64, greeting: Option<&Greeting>) {
        let mut peers = self.lock();
        let peer = peers.entry(peer).or_default();
        peer.outgoing = greeting.is_some();
        if let Some(greeting) = greeting {
            peer.client_urls.clone_from(&greeting.client_urls);
        }
    }

    /// Admits an incoming connection, which replaces the one there is; the flag says whether there was one. None if that one
    /// belongs to a newer process. An older incarnation is admitted when nothing else is connected: clocks can go back.
    pub(super) fn admit(self: &Arc<Self>, greeting: &Greeting) -> Option<(Admission, bool)> {
        let mut peers = self.lock();
        let peer = peers.entry(greeting.sender).or_default();
        if peer.incoming.as_ref().is_some_and(|current| current.incarnation > greeting.incarnation) {
            return None;
        }
        peer.client_urls.clone_from(&greeting.client_urls);
        peer.admitted += 1;
        let number = peer.admitted;
        let (sender, taken_over) = watch::channel(());
        let incoming = Incoming { incarnation: greeting.incarnation, number, _current: sender };
        let replaced = peer.incoming.replace(incoming).is_some();
        Some((Admission { roster: Arc::clone(self), peer: greeting.sender, number, taken_over }, replaced))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::handshake::Purpose;
    use flaredb_replica::acquaintance::Acquaintances;

    fn greeting(incarnation: u64) -> Greeting {
        Greeting {
            cluster_id: 1,
            region_id: 1,
            sender: 7,
            target: 8,
            incarnation,
            purpose: Purpose::Messages,
            position: None,
            acquaintances: Acquaintances::default(),
            name: "n7".into(),
            client_urls: vec![format!("http://c:{incarnation}")],
        }
    }

    #[tokio::test]
    async fn a_later_connection_takes_over_and_an_older_process_is_fenced() {
        let roster = Arc::new(Roster::default());
        let (mut first, replaced) = roster.admit(&greeting(5)).unwrap();
        assert!(!replaced);
        let (second, replaced) = roster.admit(&greeting(6)).unwrap();
        assert!(replaced);
        first.taken_over().await;
        drop(first);
        assert!(roster.admit(&greeting(5)).is_none(), "the newer process is still connected");
        assert_eq!(roster.client_urls(7), ["http://c:6"]);
        drop(second);
        assert!(roster.admit(&greeting(5)).is_some(), "a clock that went back must not lock a member out");
    }
}
