//! How a thread waits before it sleeps.
//!
//! Waking a thread that sleeps costs microseconds, tens of them where its core sleeps, too. At low load that is most of
//! what a request costs, so a thread that expects work soon stays awake for a moment and offers its core to
//! others with `sched_yield` meanwhile. Where others want the core, that is a bad bargain: a yield hands away a whole
//! time slice. One yield that took longer than [`YIELD_TAKEN_US`] says so, and then the thread sleeps at once for
//! a while, twice as long each time that it happens again.

use std::thread;
use std::time::{Duration, Instant};

/// How long a thread stays awake without work.
const AWAKE_US: u64 = 50;
/// A yield that takes longer has let somebody else run.
const YIELD_TAKEN_US: u64 = 1000;
/// How long a thread sleeps at once after that: at first, and at most.
const CAUTION_MS_MIN: u64 = 10;
/// See [`CAUTION_MS_MIN`].
const CAUTION_MS_MAX: u64 = 1000;

/// One thread's experience with yielding.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    cautious_until: Option<Instant>,
    caution: Duration,
}

impl Patience {
    /// Stays awake until `has_work` says so, or for a moment. Says whether there is work.
    pub(crate) fn wait(&mut self, has_work: impl Fn() -> bool) -> bool {
        let started = Instant::now();
        if has_work() || self.cautious_until.is_some_and(|until| started < until) {
            return has_work();
        }
        let mut before = started;
        loop {
            thread::yield_now();
            let now = Instant::now();
            self.learn(before, now);
            if has_work() {
                return true;
            }
            if self.cautious_until.is_some() || now - started >= Duration::from_micros(AWAKE_US) {
                return false;
            }
            before = now;
        }
    }

    /// What a yield from `before` to `now` teaches.
    fn learn(&mut self, before: Instant, now: Instant) {
        if now - before > Duration::from_micros(YIELD_TAKEN_US) {
            self.caution = (self.caution * 2)
                .clamp(Duration::from_millis(CAUTION_MS_MIN), Duration::from_millis(CAUTION_MS_MAX));
            self.cautious_until = Some(now + self.caution);
        } else if self.cautious_until.take().is_some() {
            // A yield after the caution that went well: the neighbour may be gone, and is forgotten step by step.
            self.caution /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn work_that_is_there_is_seen_without_a_yield() {
        assert!(Patience::default().wait(|| true));
    }

    #[test]
    fn work_that_comes_soon_is_waited_for() {
        let comes_at_third_look = || {
            let looks = Cell::new(0);
            Patience::default().wait(|| {
                looks.set(looks.get() + 1);
                looks.get() == 3
            })
        };
        // On a busy machine a yield may take all the time that there is.
        assert!((0..1000).any(|_| comes_at_third_look()));
    }

    #[test]
    fn a_yield_that_others_took_is_learnt_from() {
        let mut patience = Patience::default();
        let start = Instant::now();
        let ms = Duration::from_millis;
        for expected in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            patience.learn(start, start + ms(2));
            assert_eq!(patience.cautious_until, Some(start + ms(2) + ms(expected)));
        }
        let far = Instant::now();
        assert!(!patience.wait(|| false), "cautious");
        assert!(far.elapsed() < ms(500));
        patience.learn(start, start + Duration::from_micros(1));
        assert_eq!((patience.cautious_until, patience.caution), (None, ms(500)));
    }
}
