//! What a run gave, and what it comes to in figures. Not how they are shown: that is each program's own.

use hdrhistogram::Histogram;
use std::time::Duration;

/// What a run gave.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Good answers within the measurement.
    pub operations: u64,
    /// Other answers, within and outside of it.
    pub errors: u64,
    /// The first of them: who answered, and what.
    pub first_error: Option<String>,
    /// How long was measured.
    pub elapsed: Duration,
    /// Latencies in nanoseconds.
    pub latencies: Histogram<u64>,
}

/// Latencies that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The largest latency in it; it begins where the one before ends.
    pub up_to: Duration,
    /// How many.
    pub count: u64,
}

/// Ends of the buckets are 1, 2 and 5 of each power of ten, from a microsecond to more than any call takes.
const POWERS: u32 = 10;

impl Outcome {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that so large a part of the operations did not exceed (0.5: the median; 1.0: the longest), in
    /// milliseconds.
    pub fn latency_ms(&self, part: f64) -> f64 {
        self.latencies.value_at_quantile(part) as f64 / 1e6
    }

    /// What each operation takes of a total, in microseconds.
    pub fn share_us(&self, total: Duration) -> f64 {
        total.as_secs_f64() * 1e6 / self.operations as f64
    }

    /// All latencies, from the first bucket that holds any to the last one.
    pub fn buckets(&self) -> Vec<Bucket> {
        let ends = (0..POWERS).flat_map(|power| [1, 2, 5].map(|of| of * 10u64.pow(power)));
        let mut buckets: Vec<_> = ends.map(|us| Bucket { up_to: Duration::from_micros(us), count: 0 }).collect();
        for some in self.latencies.iter_recorded() {
            let latency = Duration::from_nanos(some.value_iterated_to());
            if let Some(bucket) = buckets.iter_mut().find(|bucket| latency <= bucket.up_to) {
                bucket.count += some.count_at_value();
            }
        }
        let first = buckets.iter().position(|bucket| bucket.count > 0).unwrap_or(buckets.len());
        let last = buckets.iter().rposition(|bucket| bucket.count > 0).map_or(first, |last| last + 1);
        buckets.drain(first..last).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Outcome};
    use hdrhistogram::Histogram;
    use std::time::Duration;

    fn outcome(latencies_us: &[u64]) -> Outcome {
        let mut latencies = Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3).unwrap();
        for latency in latencies_us {
            latencies.record(latency * 1_000).unwrap();
        }
        Outcome {
            operations: latencies.len(),
            errors: 0,
            first_error: None,
            elapsed: Duration::from_millis(500),
            latencies,
        }
    }

    #[test]
    fn buckets_hold_every_latency_once() {
        let bucket = |us, count| Bucket { up_to: Duration::from_micros(us), count };
        // An end of a bucket is known to three digits only: 1.9 ms is well inside.
        let some = outcome(&[150, 160, 1_900, 1_100, 3_000, 3_600_000_000]);
        let buckets = some.buckets();
        assert_eq!(
            buckets[..5],
            [bucket(200, 2), bucket(500, 0), bucket(1_000, 0), bucket(2_000, 2), bucket(5_000, 1)]
        );
        assert_eq!(buckets.last(), Some(&bucket(5_000_000_000, 1)), "the longest that the engine records");
        assert_eq!(outcome(&[]).buckets(), []);
    }

    #[test]
    fn figures() {
        let some = outcome(&[1_000, 2_000, 3_000, 4_000]);
        assert_eq!(some.rate(), 8.0);
        assert_eq!(some.share_us(Duration::from_micros(6)), 1.5);
        assert!((some.latency_ms(0.5) - 2.0).abs() < 0.01 && (some.latency_ms(1.0) - 4.0).abs() < 0.01);
    }
}
