//! When the turns of an open loop are due, and what wakes the generator for them.
//!
//! A timer of the kernel's does, and not a loop that asks for the time: on a shared core the server would have to share
//! it with that.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Turns at equal distances, whatever the server does.
#[derive(Debug)]
pub(crate) struct Pace {
    begin: u64,
    interval: f64,
    sent: u64,
    /// Nothing is due from here on.
    end: u64,
    /// What the timer is set to.
    alarm: u64,
    timer: TimerFd,
}

impl Pace {
    /// From `begin` on one turn each `interval` nanoseconds; `token` is how the timer is told from connections.
    ///
    /// # Errors
    /// Where the system has no timer.
    pub(crate) fn new(begin: u64, interval: f64, registry: &Registry, token: Token) -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { begin, interval, sent: 0, end: u64::MAX, alarm: 0, timer })
    }

    /// When the next turn is due, where there is one.
    #[inline]
    pub(crate) fn next_due(&self) -> Option<u64> {
        let due = self.begin + (self.sent as f64 * self.interval) as u64;
        (due < self.end).then_some(due)
    }

    /// The next turn has been sent.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.sent += 1;
    }

    /// Nothing is due from `end` on. What was due before still is.
    pub(crate) fn end_at(&mut self, end: u64) {
        self.end = end;
    }

    /// Turns that were due at `now` and have not been sent.
    pub(crate) fn overdue(&self, now: u64) -> u64 {
        let until = now.min(self.end).saturating_sub(self.begin) as f64;
        ((until / self.interval) as u64).saturating_sub(self.sent)
    }

    /// Sets the timer to the next turn.
    ///
    /// # Errors
    /// The system's.
    #[inline]
    pub(crate) fn set_alarm(&mut self, now: u64) -> io::Result<()> {
        match self.next_due() {
            Some(due) if due != self.alarm => {
                self.alarm = due;
                // A timer that is set to nothing is off.
                let wait = Duration::from_nanos(due.saturating_sub(now).max(1));
                let wait = Expiration::OneShot(TimeSpec::from_duration(wait));
                self.timer.set(wait, TimerSetTimeFlags::empty()).map_err(io::Error::from)
            }
            _ => Ok(()),
        }
    }
}
