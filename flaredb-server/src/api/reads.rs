//! Where reads are made: of few rows on the node's own thread, of many on threads beside it, and not too many at once.

use std::sync::Arc;

use flaredb_kv::{KvError, StoreError};
use tokio::sync::Semaphore;
use tonic::Status;

use super::status;

/// Long reads at once. The runtime has more threads than that: what else needs one (flushes, names of peers) must not wait
/// behind clients. A burst of them queues up instead of taking all memory.
pub const LONG_READS_MAX: usize = 8;

/// Steps of a read on the node's own thread: by reckoning some 50 µs if all is in memory, near the way to another thread and back;
/// at most 640 KiB of values and one more value.
const STEPS_HERE: usize = 160;

/// A place for every long read of a node.
#[derive(Clone)]
pub(super) struct Reads(Arc<Semaphore>);

impl Reads {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LONG_READS_MAX)))
    }

    /// Runs a read. One key is read here; what may walk over many goes to a thread of its own, because this thread also
    /// carries the node's heartbeats. A read that nobody waits for any more is not begun.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        long: bool,
        read: impl FnOnce() -> Result<Result<T, KvError>, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let outcome = if long {
            // Nothing closes it.
            let place = Arc::clone(&self.0).acquire_owned().await.map_err(|_| status::stopped())?;
            let read = tokio::task::spawn_blocking(move || {
                let outcome = read();
                drop(place);
                outcome
            });
            read.await.map_err(|error| status::read_ended(&error))?
        } else {
            read()
        };
        settled(outcome)
    }

    /// Runs a read of unknown length, which gives up (None) after so many steps: here, and if they are too few once more, on a
    /// thread of its own.
    pub(super) async fn run_either<T: Send + 'static>(
        &self,
        read: impl Fn(usize) -> Result<Result<Option<T>, KvError>, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        if let Some(answer) = settled(read(STEPS_HERE))? {
            return Ok(answer);
        }
        let answer = self.run(true, move || read(usize::MAX)).await?;
        answer.ok_or_else(|| status::internal("a read without a bound gave up"))
    }
}

fn settled<T>(outcome: Result<Result<T, KvError>, StoreError>) -> Result<T, Status> {
    outcome.map_err(|error| status::store_failed(&error))?.map_err(status::refused)
}
