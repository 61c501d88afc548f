//! What a node counts while it runs: drops, mismatches and breaks that are nobody's answer. They only rise.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises; cheap enough for every path.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts since this node started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections to the peer port that did not begin with FlareDB's magic, or whose greeting was damaged.
    pub handshakes_garbage: Counter,
    /// Connections to the peer port that did not finish their greeting in time, or closed before.
    pub handshakes_incomplete: Counter,
    /// Greetings in another version of the peer protocol.
    pub handshakes_wrong_version: Counter,
    /// Greetings from another cluster.
    pub handshakes_wrong_cluster: Counter,
    /// Greetings for another region.
    pub handshakes_wrong_region: Counter,
    /// Greetings meant for another member.
    pub handshakes_wrong_target: Counter,
    /// Greetings from someone who is not a member (or claims to be this one).
    pub handshakes_unknown_sender: Counter,
    /// Greetings from an older process of a member whose newer one is connected.
    pub handshakes_superseded: Counter,
    /// Own greetings that the other side refused, or answered wrongly.
    pub handshakes_refused_by_peer: Counter,
    /// Connections to the peer port closed at once, because too many were in their handshake.
    pub connections_over_limit: Counter,
    /// `accept` failed (out of file descriptors, as a rule).
    pub accept_errors: Counter,
    /// Outgoing peer connections that broke after they had been up.
    pub connections_broken: Counter,
    /// Incoming connections that were replaced by a later one of the same peer.
    pub connections_replaced: Counter,
    /// Frames whose length is over the limit; the connection was closed.
    pub frames_oversized: Counter,
    /// Frames whose checksum is wrong; the connection was closed.
    pub frames_corrupt: Counter,
    /// Frames whose payload is not a list of messages; the connection was closed.
    pub frames_malformed: Counter,
    /// Messages whose sender, target or region is not that of their connection.
    pub messages_misaddressed: Counter,
    /// InstallSnapshot messages: the announcement of a snapshot comes with its rows, on a connection of its own.
    pub messages_unsupported: Counter,
    /// Messages not sent because the queue to their peer was full.
    pub messages_dropped_full: Counter,
    /// Messages not sent because their peer was not connected, or its connection broke.
    pub messages_dropped_unreachable: Counter,
    /// Messages not sent because they were larger than a frame may be, or addressed to nobody known.
    pub messages_unsendable: Counter,
    /// Requests refused because too many, or too many bytes, waited for the driver.
    pub requests_over_limit: Counter,
    /// Times that the other members said that this member's disk is not the one they knew.
    pub recoveries: Counter,
    /// Snapshots that a follower has taken.
    pub snapshots_sent: Counter,
    /// Snapshots that were begun and did not arrive, or were not taken.
    pub snapshots_not_delivered: Counter,
    /// Snapshots that came whole and are durable beside the live state.
    pub snapshots_received: Counter,
    /// Snapshots that took the place of the live state.
    pub snapshots_installed: Counter,
    /// Offers of snapshots that this node does not need.
    pub snapshots_not_wanted: Counter,
    /// Snapshots whose connection ended in the middle.
    pub snapshots_incomplete: Counter,
    /// Snapshots that arrived damaged, or were not what they said.
    pub snapshots_damaged: Counter,
    /// Snapshots that this node's disk could not take.
    pub snapshots_not_stored: Counter,
}
