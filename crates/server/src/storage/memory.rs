//! Memory: how the limit is kept.
//!
//! Segments, index and large values are charged against one limit. A write makes room for itself: in the open segment,
//! in a free one, or in the place of the oldest items, which are evicted record by record until a segment is free.
//! Large values that are on their way in or out count as well; memory that they have taken goes off the cache at the
//! next batch.

use crate::message::Refusal;
use crate::storage::engine::{Engine, WhenFull};
use crate::storage::expiry::Life;
use crate::storage::record::FETCHED;

impl Engine {
    /// Bytes charged against the limit.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.log.resident_bytes() + self.index.bytes() + self.meter.bytes()
    }

    /// Gives back what blocks or a grown index have taken since the last batch.
    pub(super) fn settle(&mut self) {
        while self.used_bytes() > self.config.memory_bytes_max {
            if !self.log.cool() && !self.evict() {
                return;
            }
        }
    }

    /// Makes room for a record of `bytes`: in the open segment, in a free one, or in the place of the oldest items.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), Refusal> {
        loop {
            let free_bytes = self.config.memory_bytes_max.checked_sub(self.used_bytes());
            let may_warm_up = free_bytes.is_some_and(|free| free >= self.log.segment_bytes());
            match free_bytes {
                Some(_) if self.log.has_room(bytes) => return Ok(()),
                Some(_) if self.log.warm_segments() > 0 => self.log.open_segment(self.now),
                Some(_) if may_warm_up && self.log.cold_segments() > 0 => self.log.open_segment(self.now),
                None if self.log.cool() => {}
                _ if self.evict() => {}
                _ => return Err(Refusal::OutOfMemory),
            }
        }
    }

    /// Ends the oldest item. Says whether that, or an open segment in which nothing lives, made any progress.
    fn evict(&mut self) -> bool {
        let Some(at) = self.log.oldest() else {
            return self.log.free_open_segment_if_dead();
        };
        if self.flushes.life_of(self.log.header(at), self.now) != Life::Live {
            self.reclaim(at);
            return true;
        }
        if self.config.when_full == WhenFull::Refuse {
            return false;
        }
        self.counters.evictions += 1;
        if !self.log.header(at).is(FETCHED) {
            self.counters.evicted_unfetched += 1;
        }
        self.counters.evicted_age = self.now - self.log.oldest_since().unwrap_or(self.now);
        self.unlink(at);
        true
    }

    /// Takes out the oldest items as long as a flush has ended them, at most `limit`. Says whether there are more.
    pub(super) fn sweep_flushed(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            match self.log.oldest() {
                Some(at) if self.flushes.is_flushed(self.log.header(at).cas()) => self.reclaim(at),
                _ => return false,
            }
        }
        true
    }
}
