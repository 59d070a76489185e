//! How a thread waits before it sleeps.
//!
//! Waking a thread that sleeps costs microseconds, tens of them where its core sleeps, too. At low load that is most of
//! what a request costs, so a thread that expects work soon stays awake for a moment and offers its core to
//! others with `sched_yield` meanwhile. Two experiences make it stop:
//!
//! - A yield that took longer than [`YIELD_TAKEN_US`] handed a time slice to somebody who has nothing to do with us. Then
//!   the thread sleeps at once for a while, twice as long each time that it happens again.
//! - A yield that took longer than [`YIELD_ALONE_NS`] has let somebody run at all: the core is shared, with the other
//!   threads or with the clients. Where several connections are busy they have work in any case, nobody's wake-up is
//!   waited for, and the scheduler takes a yield for a wish to come last: each answer would wake a client at once, and
//!   find the next batch small. So then, too, the thread sleeps at once. For one connection alone it goes on yielding.

use std::thread;
use std::time::{Duration, Instant};

use crate::message::{Batch, ConnId};

/// How long a thread stays awake without work.
const AWAKE_US: u64 = 50;
/// A yield that takes longer has let somebody else run.
const YIELD_TAKEN_US: u64 = 1000;
/// How long a thread sleeps at once after either: at first, and at most.
const CAUTION_MS_MIN: u64 = 10;
/// See [`CAUTION_MS_MIN`].
const CAUTION_MS_MAX: u64 = 1000;

/// A yield that takes no longer found nobody else who wants the core.
const YIELD_ALONE_NS: u64 = 1500;
/// After so many batches of the same connection the load is low.
const SMALL_BATCHES: u32 = 8;

/// How much there was to do lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Requests of one connection.
    Low,
    /// Of several.
    High,
}

/// One thread's experience with yielding.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Others that need the core for long.
    neighbours: Caution,
    /// Others that want it at all: the threads that work is done with, on a core that they share.
    sharers: Caution,
    /// Whose the last batch was, if it was of one connection, and how many of its batches have come in a row.
    alone: Option<ConnId>,
    small_batches: u32,
}

impl Patience {
    /// Stays awake until `has_work` says so, or for a moment. Says whether there is work.
    pub(crate) fn wait(&mut self, mut has_work: impl FnMut() -> bool) -> bool {
        let started = Instant::now();
        let mut before = started;
        while !self.is_cautious(before) {
            if has_work() {
                return true;
            }
            if before - started >= Duration::from_micros(AWAKE_US) {
                return false;
            }
            thread::yield_now();
            let now = Instant::now();
            self.neighbours.learn(now, now - before > Duration::from_micros(YIELD_TAKEN_US));
            self.sharers.learn(now, now - before > Duration::from_nanos(YIELD_ALONE_NS));
            before = now;
        }
        false
    }

    /// Whether it sleeps rather than to yield.
    fn is_cautious(&self, now: Instant) -> bool {
        self.neighbours.holds(now) || (self.load() == Load::High && self.sharers.holds(now))
    }

    /// Learns how much there is to do.
    pub(crate) fn note(&mut self, batch: &Batch) {
        let alone = match &batch.runs[..] {
            [run] => Some(run.conn),
            _ => None,
        };
        let goes_on = alone.is_some() && alone == self.alone;
        self.small_batches = if goes_on { self.small_batches.saturating_add(1) } else { 0 };
        self.alone = alone;
    }

    pub(crate) fn load(&self) -> Load {
        if self.small_batches >= SMALL_BATCHES { Load::Low } else { Load::High }
    }
}

/// For how long something is not tried again.
#[derive(Debug, Default)]
struct Caution {
    until: Option<Instant>,
    length: Duration,
}

impl Caution {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// What was tried went badly or well at `now`.
    fn learn(&mut self, now: Instant, badly: bool) {
        if badly {
            self.length = (self.length * 2)
                .clamp(Duration::from_millis(CAUTION_MS_MIN), Duration::from_millis(CAUTION_MS_MAX));
            self.until = Some(now + self.length);
        } else if self.until.take().is_some() {
            // After the caution it went well: the reason may be gone, and is forgotten step by step.
            self.length /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::message::{Run, Span};

    fn batch(connections: u32) -> Batch {
        let run = |slot| Run {
            conn: ConnId { slot, generation: 0 },
            first_op: 0,
            op_count: 0,
            input: Span::default(),
            executed: 0,
        };
        let mut batch = Batch::default();
        batch.runs.extend((0..connections).map(run));
        batch
    }

    #[test]
    fn work_that_is_there_is_seen_without_a_yield() {
        assert!(Patience::default().wait(|| true));
    }

    #[test]
    fn work_that_comes_soon_is_waited_for() {
        let comes_at_third_look = || {
            let looks = Cell::new(0);
            let mut patience = Patience::default();
            (0..=SMALL_BATCHES).for_each(|_| patience.note(&batch(1)));
            patience.wait(|| {
                looks.set(looks.get() + 1);
                looks.get() == 3
            })
        };
        // On a busy machine a yield may take all the time that there is.
        assert!((0..1000).any(|_| comes_at_third_look()));
    }

    #[test]
    fn a_thread_that_is_cautious_does_not_even_look() {
        let mut patience = Patience::default();
        patience.neighbours.learn(Instant::now() + Duration::from_mins(1), true);
        assert!(!patience.wait(|| unreachable!("it sleeps, and looks then")));
    }

    #[test]
    fn a_core_that_is_shared_is_yielded_for_one_connection_only() {
        let mut patience = Patience::default();
        let now = Instant::now();
        patience.sharers.learn(now, true);
        assert!(patience.is_cautious(now));
        for _ in 0..=SMALL_BATCHES {
            assert_eq!(patience.load(), Load::High);
            patience.note(&batch(1));
        }
        assert!(!patience.is_cautious(now));
        patience.note(&batch(2));
        assert!(patience.is_cautious(now));
        // Many connections with little to do are not one.
        for slot in 0..100 {
            let mut other = batch(1);
            other.runs[0].conn.slot = slot % 2;
            patience.note(&other);
            assert!(patience.is_cautious(now));
        }
    }

    #[test]
    fn caution_doubles_up_to_a_bound_and_is_forgotten_step_by_step() {
        let mut caution = Caution::default();
        let start = Instant::now();
        let ms = Duration::from_millis;
        for expected in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            caution.learn(start, true);
            assert!(caution.holds(start + ms(expected - 1)) && !caution.holds(start + ms(expected)));
        }
        caution.learn(start, false);
        assert!(!caution.holds(start));
        caution.learn(start, true);
        assert_eq!(caution.until, Some(start + ms(1000)), "half of it, doubled");
    }
}
