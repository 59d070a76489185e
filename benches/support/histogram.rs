//! Latencies, counted in buckets whose width grows with what they hold, as `HdrHistogram` does it.
//!
//! 64 buckets for each power of two: a value read back is at most 1/64 too large. Recording is a shift and an
//! increment, and the memory is the same for a thousand values and for a billion.

const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;
const BUCKETS: usize = (u64::BITS - STEP_BITS + 1) as usize * STEPS;

/// How often each duration was seen, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }

    #[inline]
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket_of(nanoseconds)] += 1;
        self.total += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The shortest duration that `share` (0 to 1) of all do not exceed; 0 where there are none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

/// Below `STEPS` every value has its bucket. Above, the bits behind the highest one choose it.
#[inline]
fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - STEP_BITS - 1).saturating_sub(value.leading_zeros());
    ((shift as usize) << STEP_BITS) + (value >> shift) as usize
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let shift = (bucket >> STEP_BITS).saturating_sub(1);
    let first = (bucket - (shift << STEP_BITS)) as u64;
    (first << shift) + ((1 << shift) - 1)
}
