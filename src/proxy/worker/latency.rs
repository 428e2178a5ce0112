use std::cell::Cell;
use std::time::Duration;

/// Upper ends of the buckets, in µs. What takes longer has a bucket of its own.
const BOUNDS: [u64; 15] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000,
];

/// How long the requests of one worker took.
#[derive(Debug, Default)]
pub(super) struct Latency {
    buckets: [Cell<u64>; BOUNDS.len() + 1],
    micros: Cell<u64>,
}

/// How long requests took: a copy of one worker's figures, or the sum over several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Latencies {
    buckets: [u64; BOUNDS.len() + 1],
    micros: u64,
}

impl Latency {
    pub(super) fn record(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        let bucket = &self.buckets[BOUNDS.partition_point(|bound| *bound < micros)];
        bucket.set(bucket.get() + 1);
        self.micros.set(self.micros.get() + micros);
    }

    pub(super) fn copy(&self) -> Latencies {
        Latencies {
            buckets: std::array::from_fn(|place| self.buckets[place].get()),
            micros: self.micros.get(),
        }
    }
}

impl Latencies {
    /// Adds another worker's.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, more) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += more;
        }
        self.micros += other.micros;
    }

    /// The upper end of each bucket in seconds, and how many requests lie in it and in none before.
    pub(in crate::proxy) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.buckets).collect()
    }

    /// How many requests.
    pub(in crate::proxy) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long all of them took together.
    pub(in crate::proxy) fn seconds(&self) -> f64 {
        self.micros as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_lies_in_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        for micros in [0, 50, 51, 5_000_000, 5_000_001] {
            latency.record(Duration::from_micros(micros));
        }
        let mut sum = latency.copy();
        sum.add(&latency.copy());
        let filled: Vec<_> = sum.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_05, 4), (0.000_1, 2), (5.0, 2), (f64::INFINITY, 2)]);
        assert_eq!((sum.count(), sum.seconds()), (10, 20.000_204));
    }
}
