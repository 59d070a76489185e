//! Time in whole seconds, as memcached has it.
//!
//! The Unix time is read once, at the start; from there on a monotonic clock counts, so that nobody who sets the
//! machine's clock makes items expire.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A Unix time in seconds. 32 bits last until 2106, and the protocol's field has no more.
pub type UnixSeconds = u32;

/// The server's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_unix_ms: u64,
}

impl Clock {
    /// A clock that starts at the machine's time.
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_unix_ms: since_epoch.as_millis() as u64 }
    }

    /// The Unix time, in whole seconds.
    #[must_use]
    pub fn now(&self) -> UnixSeconds {
        (self.now_ms() / 1000) as UnixSeconds
    }

    /// The same in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.started_unix_ms + self.started.elapsed().as_millis() as u64
    }

    /// Seconds since the start.
    #[must_use]
    pub fn uptime(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}
