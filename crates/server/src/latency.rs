//! Latency: how long requests take inside the server.
//!
//! An event loop reads the clock twice for a batch: before its first byte is read, and when the last of its answers has
//! been written. All requests of the batch are counted under that time, by what they do, so a request is never told to
//! be faster than it was. Each loop has histograms of its own, which nobody else writes; who asks adds them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::message::{Batch, Command};

/// Upper bounds of the buckets of time, in microseconds. What takes longer has one bucket more.
pub const BOUNDS_US: [u64; 16] = [
    10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
];
/// Upper bounds of the buckets of batch sizes, in requests.
pub const BOUNDS_REQUESTS: [u64; 8] = [1, 4, 16, 64, 256, 1024, 4096, 16_384];

/// What a request does, as far as its latency is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It reads a value.
    Read,
    /// It stores one.
    Write,
    /// It deletes an item.
    Delete,
    /// It counts.
    Count,
    /// It changes an expiration.
    Touch,
    /// Anything else.
    Other,
}

impl Kind {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Delete, "delete"),
        (Self::Count, "count"),
        (Self::Touch, "touch"),
        (Self::Other, "other"),
    ];

    fn of(command: &Command) -> Self {
        match command {
            Command::Get | Command::GetAndTouch { .. } | Command::Take | Command::MetaGet { .. } => {
                Self::Read
            }
            Command::Store { .. }
            | Command::Concat { .. }
            | Command::Put(_)
            | Command::Patch { .. }
            | Command::Unstorable { .. }
            | Command::MetaStore { .. } => Self::Write,
            Command::Delete { .. } | Command::MetaDelete { .. } => Self::Delete,
            Command::Count { .. } | Command::Add { .. } | Command::MetaCount { .. } => Self::Count,
            Command::Touch { .. } | Command::Expire { .. } => Self::Touch,
            _ => Self::Other,
        }
    }
}

/// The histograms of all event loops.
#[derive(Debug)]
pub struct Latency {
    loops: Box<[LoopLatency]>,
}

impl Latency {
    /// None of `loops` loops has measured anything.
    #[must_use]
    pub fn new(loops: usize) -> Self {
        Self { loops: (0..loops).map(|_| LoopLatency::default()).collect() }
    }

    /// Counts a batch of loop `number` whose answers have been written.
    pub fn note(&self, number: usize, batch: &Batch, took: Duration) {
        let mut counts = [0; Kind::ALL.len()];
        let mut requests = 0;
        for run in &batch.runs {
            for op in &batch.ops[run.executed_ops()] {
                counts[Kind::of(&op.command) as usize] += 1;
                requests += 1;
            }
        }
        let Some(own) = self.loops.get(number) else { return };
        let us = took.as_micros() as u64;
        for (histogram, count) in own.kinds.iter().zip(counts).filter(|(_, count)| *count > 0) {
            histogram.add(&BOUNDS_US, us, count);
        }
        own.batches.add(&BOUNDS_REQUESTS, requests, 1);
    }

    /// What was measured of one kind of request, in microseconds.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Summary {
        Summary::of(&BOUNDS_US, self.loops.iter().map(|own| &own.kinds[kind as usize]))
    }

    /// Requests in a batch.
    #[must_use]
    pub fn batches(&self) -> Summary {
        Summary::of(&BOUNDS_REQUESTS, self.loops.iter().map(|own| &own.batches))
    }
}

/// One loop's. Two of them never share a line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LoopLatency {
    kinds: [Histogram; Kind::ALL.len()],
    batches: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    /// As many as the longest row of bounds needs.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// By the only thread that writes it, which so needs no bus lock.
    fn add(&self, bounds: &[u64], value: u64, count: u64) {
        let add = |figure: &AtomicU64, more| {
            figure.store(figure.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        };
        add(&self.buckets[bounds.partition_point(|bound| *bound < value)], count);
        add(&self.sum, value.saturating_mul(count));
    }
}

/// A histogram as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Upper bound and count of each bucket, with what is below it.
    pub buckets: Vec<(u64, u64)>,
    /// All of them.
    pub count: u64,
    /// Of all values.
    pub sum: u64,
}

impl Summary {
    fn of<'a>(bounds: &[u64], histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut counts = vec![0; bounds.len() + 1];
        let mut sum = 0;
        for histogram in histograms {
            sum += histogram.sum.load(Ordering::Relaxed);
            for (count, bucket) in counts.iter_mut().zip(&histogram.buckets) {
                *count += bucket.load(Ordering::Relaxed);
            }
        }
        let mut count = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        for (bound, own) in bounds.iter().zip(&counts) {
            count += own;
            buckets.push((*bound, count));
        }
        Self { buckets, count: count + counts[bounds.len()], sum }
    }
}

const _: () = assert!(BOUNDS_REQUESTS.len() <= BOUNDS_US.len(), "one row of buckets fits both");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ConnId, KeyHash, Op, Run, Span, Tag};

    fn batch(commands: &[Command], executed: u32) -> Batch {
        let mut batch = Batch::default();
        for command in commands {
            let (key, hash) = (Span::default(), KeyHash(0));
            batch.ops.push(Op { command: *command, key, hash, starts_at: 0, tag: Tag(0) });
        }
        batch.runs.push(Run {
            conn: ConnId { slot: 0, generation: 0 },
            first_op: 0,
            op_count: commands.len() as u32,
            input: Span::default(),
            executed,
        });
        batch
    }

    #[test]
    fn requests_are_counted_by_kind_and_time_and_those_left_unexecuted_are_not() {
        let latency = Latency::new(2);
        let commands = [Command::Get, Command::Get, Command::Delete { cas: None }, Command::Get];
        latency.note(0, &batch(&commands, 3), Duration::from_micros(25));
        latency.note(1, &batch(&[Command::Get], 1), Duration::from_secs(7));
        let read = latency.of(Kind::Read);
        assert_eq!((read.count, read.sum), (3, 2 * 25 + 7_000_000));
        assert_eq!((read.buckets[0], read.buckets[1], read.buckets[15]), ((10, 0), (25, 2), (1_000_000, 2)));
        assert_eq!(latency.of(Kind::Delete).count, 1);
        assert_eq!(latency.of(Kind::Write).count, 0);
        let batches = latency.batches();
        assert_eq!(
            (batches.count, batches.sum, batches.buckets[0], batches.buckets[1]),
            (2, 4, (1, 1), (4, 2))
        );
    }
}
