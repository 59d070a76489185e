//! When items end.
//!
//! An item whose time has come is gone for everyone who asks, at once, and its memory is taken back by whoever
//! notices. The same holds for a flush: it draws a line through the versions. Every version is greater than all
//! earlier ones, so 'stored before the flush' is one comparison, and a flush of any number of items takes no time.

use wire::Expiration;

use crate::clock::UnixSeconds;
use crate::storage::log::record::RecordHeader;

/// The Unix time that an expiration means at `now`, 0 for never.
#[must_use]
pub fn unix_time(expiration: Expiration, now: UnixSeconds) -> UnixSeconds {
    match expiration {
        Expiration::Never => 0,
        Expiration::After(seconds) => now.saturating_add(seconds),
        Expiration::At(seconds) => seconds,
    }
}

/// Why an item is gone, or that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is there.
    Live,
    /// Its time has come.
    Expired,
    /// It was flushed.
    Flushed,
}

/// The flushes so far, and the one to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushes {
    /// Items up to this version are gone.
    line: Option<u64>,
    /// When the next line is drawn.
    pending: Option<UnixSeconds>,
}

impl Flushes {
    /// Flushes, now or later, at the next [`advance`](Self::advance). A later command replaces an earlier one that is
    /// still to come.
    pub fn flush(&mut self, at: Expiration, now: UnixSeconds) {
        self.pending = Some(unix_time(at, now));
    }

    /// Draws the line of a flush whose time has come, and says whether that ended anything. To be called before anything
    /// else is done at `now`.
    pub fn advance(&mut self, now: UnixSeconds, newest: u64) -> bool {
        let has_come = self.pending.is_some_and(|time| time <= now);
        if !has_come {
            return false;
        }
        self.pending = None;
        self.line.replace(newest) != Some(newest)
    }

    /// When the flush is due that is still to come.
    #[must_use]
    pub fn pending(&self) -> Option<UnixSeconds> {
        self.pending
    }

    /// Whether an item is still there at `now`.
    #[must_use]
    pub fn life_of(&self, record: &RecordHeader, now: UnixSeconds) -> Life {
        if self.is_flushed(record.cas()) {
            Life::Flushed
        } else if record.expiration() != 0 && record.expiration() <= now {
            Life::Expired
        } else {
            Life::Live
        }
    }

    /// Whether a flush ended every item of this version and older. Versions wrap around, so the older one of two is
    /// the one from which the other is less than half the way round.
    #[must_use]
    pub fn is_flushed(&self, cas: u64) -> bool {
        self.line.is_some_and(|line| line.wrapping_sub(cas) <= u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_flush_draws_its_line_when_its_time_has_come() {
        let mut flushes = Flushes::default();
        flushes.flush(Expiration::After(10), 100);
        flushes.advance(109, 7);
        assert!(!flushes.is_flushed(1));
        flushes.advance(110, 9);
        assert!(flushes.is_flushed(9), "items stored after the command are gone, too");
        assert!(!flushes.is_flushed(10));
    }

    #[test]
    fn a_later_flush_replaces_the_pending_one() {
        let mut flushes = Flushes::default();
        flushes.flush(Expiration::After(10), 100);
        flushes.flush(Expiration::After(1000), 100);
        flushes.advance(200, 6);
        assert!(!flushes.is_flushed(1));
        flushes.flush(Expiration::Never, 200);
        flushes.advance(200, 6);
        assert!(flushes.is_flushed(6));
        flushes.advance(5000, 8);
        assert!(!flushes.is_flushed(7), "the immediate one has replaced the pending one");
    }

    #[test]
    fn versions_wrap_around() {
        let mut flushes = Flushes::default();
        assert!(!flushes.is_flushed(u64::MAX) && !flushes.is_flushed(1));
        flushes.flush(Expiration::Never, 100);
        assert!(flushes.advance(100, u64::MAX - 1));
        assert!(flushes.is_flushed(u64::MAX - 1) && flushes.is_flushed(u64::MAX - 1000));
        assert!(!flushes.is_flushed(u64::MAX) && !flushes.is_flushed(1));
        flushes.flush(Expiration::Never, 100);
        flushes.advance(100, 3);
        assert!(flushes.is_flushed(u64::MAX) && flushes.is_flushed(3) && !flushes.is_flushed(4));
    }

    #[test]
    fn a_date_in_the_past_flushes_at_once() {
        let mut flushes = Flushes::default();
        flushes.flush(Expiration::At(3_000_000), 4_000_000);
        assert!(flushes.advance(4_000_000, 5));
        assert!(flushes.is_flushed(5));
    }
}
