//! Processor time of this thread: what others on the machine do hardly shows in it.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of processor time that this thread has used.
///
/// # Panics
/// Where the system has no such clock, which Linux and the BSDs have.
#[inline]
pub(crate) fn cpu_ns() -> u64 {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread has a clock of its processor time");
    Duration::from(time).as_nanos() as u64
}
