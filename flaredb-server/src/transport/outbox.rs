//! What waits to be sent to one peer: bounded by count and bytes, filled by the driver, emptied whole by the peer's writer.
//!
//! Raft tolerates loss, so a full queue drops. While the connection is up the newest is dropped: a prefix of a sequence of
//! appends is worth more than a suffix. While it is down the oldest is: what was said long ago helps nobody.

use super::frame;
use crate::counters::Counters;
use flaredb_raft::Message;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Twice the bytes that a leader has in flight to one follower (`inflight_bytes_max`, 8 MiB).
const BYTES_MAX: usize = 16 << 20;
const MESSAGES_MAX: usize = 4096;
/// While the peer is not connected: enough for a vote or a probe that is asked before the connection is up.
const DOWN_BYTES_MAX: usize = 4 << 20;
const DOWN_MESSAGES_MAX: usize = 64;

pub(super) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    up: bool,
}

impl Outbox {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), counters }
    }

    /// Adds a message, or drops one. The writer sleeps on until `wake`.
    pub(super) fn push(&self, message: Message) {
        let mut queue = self.lock();
        let bytes = frame::size(&message);
        if queue.up {
            if queue.messages.len() >= MESSAGES_MAX || queue.bytes.saturating_add(bytes) > BYTES_MAX {
                // One message is always taken, however large.
                if !queue.messages.is_empty() {
                    self.counters.messages_dropped_full.add(1);
                    return;
                }
            }
        } else {
            while queue.messages.len() >= DOWN_MESSAGES_MAX || queue.bytes.saturating_add(bytes) > DOWN_BYTES_MAX {
                let Some(oldest) = queue.messages.pop_front() else { break };
                queue.bytes -= frame::size(&oldest);
                self.counters.messages_dropped_unreachable.add(1);
            }
        }
        queue.bytes += bytes;
        queue.messages.push_back(message);
    }

    /// Wakes the writer; once per batch.
    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    /// Waits for messages and takes all of them. Loses nothing when it is dropped while waiting.
    pub(super) async fn take(&self) -> Vec<Message> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.messages.is_empty() {
                    queue.bytes = 0;
                    return std::mem::take(&mut queue.messages).into();
                }
            }
            self.filled.notified().await;
        }
    }

    pub(super) fn set_up(&self) {
        self.lock().up = true;
    }

    /// What waited for the broken connection is dropped: the core starts over with probes.
    pub(super) fn set_down(&self) {
        let mut queue = self.lock();
        let dropped = queue.messages.len();
        *queue = Queue::default();
        self.counters.messages_dropped_unreachable.add(u64::try_from(dropped).unwrap_or(u64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere ends the node; the queue itself is never left half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use flaredb_raft::{Body, EntryId, RaftLogEntry};

    fn append(round: u64, bytes: usize) -> Message {
        let entry = RaftLogEntry { index: 1, term: 1, command: Bytes::from(vec![0; bytes]), context: None };
        let body = Body::AppendEntries { prev: EntryId::default(), commit_index: 0, round, entries: vec![entry] };
        Message { from: 1, to: 2, region_id: 1, term: 1, body }
    }

    fn rounds(messages: &[Message]) -> Vec<u64> {
        messages
            .iter()
            .filter_map(|m| if let Body::AppendEntries { round, .. } = m.body { Some(round) } else { None })
            .collect()
    }

    #[tokio::test]
    async fn while_up_the_newest_is_dropped() {
        let counters = Arc::new(Counters::default());
        let outbox = Outbox::new(counters.clone());
        outbox.set_up();
        for round in 0..20 {
            outbox.push(append(round, 1 << 20));
        }
        assert_eq!(rounds(&outbox.take().await), (0..15).collect::<Vec<_>>());
        assert_eq!(counters.messages_dropped_full.get(), 5);
        outbox.push(append(99, 2 * BYTES_MAX));
        assert_eq!(rounds(&outbox.take().await), [99]);
    }

    #[tokio::test]
    async fn while_down_the_oldest_is_dropped() {
        let counters = Arc::new(Counters::default());
        let outbox = Outbox::new(counters.clone());
        for round in 0..100 {
            outbox.push(append(round, 1));
        }
        assert_eq!(rounds(&outbox.take().await), (36..100).collect::<Vec<_>>());
        assert_eq!(counters.messages_dropped_unreachable.get(), 36);
    }

    #[tokio::test]
    async fn a_sleeping_taker_is_woken_by_one_wake() {
        let outbox = Arc::new(Outbox::new(Arc::default()));
        let taker = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.take().await.len() }
        });
        tokio::task::yield_now().await;
        outbox.push(append(1, 1));
        outbox.push(append(2, 1));
        outbox.wake();
        assert_eq!(taker.await.unwrap(), 2);
    }
}
