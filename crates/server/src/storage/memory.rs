//! Memory: how the limit is kept.
//!
//! Segments, index and large values are charged against one limit. A write makes room for itself, in the first of
//! these ways that there is:
//!
//! 1. the open segment has room;
//! 2. a segment is free, besides one that is kept in reserve;
//! 3. a segment is mostly dead bytes, of items that were overwritten or deleted: what lives in it is moved to the open
//!    segment, or to the reserve, and it is free (cleaning);
//! 4. the oldest items are evicted, record by record, until a segment is free.
//!
//! Where items are not to be evicted, cleaning goes on until hardly anything is dead, and then the write is refused.
//! Large values that are on their way in or out count as well; memory that they have taken goes off the cache at the
//! next batch.

use crate::message::Refusal;
use crate::storage::engine::{Engine, WhenFull};
use crate::storage::expiry::Life;
use crate::storage::log::Address;
use crate::storage::record::FETCHED;

/// Free segments that only cleaning may use: what lives in one segment fits into another.
const RESERVE_SEGMENTS: usize = 1;

/// A segment is cleaned where one part in so many of it is dead: what lives is copied for the sake of what does not.
const CLEAN_DEAD_SHARE: usize = 2;
/// The same, where the alternative is to refuse. Each cleaning takes so much off the dead bytes, so it comes to an end.
const CLEAN_DEAD_SHARE_OR_REFUSE: usize = 16;

impl Engine {
    /// Bytes charged against the limit.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.log.resident_bytes() + self.index.bytes() + self.meter.bytes()
    }

    /// Bytes that may still be taken, `None` where there are too many already. The reserve is always counted as taken.
    fn bytes_left(&self) -> Option<usize> {
        let reserve = RESERVE_SEGMENTS.saturating_sub(self.log.warm_segments()) * self.log.segment_bytes();
        self.config.memory_bytes_max.checked_sub(self.used_bytes() + reserve)
    }

    /// Whether a segment is free besides the reserve.
    fn has_free_segment(&self) -> bool {
        self.bytes_left().is_some_and(|left| self.log.free_segments(RESERVE_SEGMENTS, left) > 0)
    }

    /// Gives back what blocks or a grown index have taken since the last batch.
    pub(super) fn settle(&mut self) {
        while self.bytes_left().is_none() {
            if !self.cool() && !self.evict() {
                return;
            }
        }
    }

    /// Makes room for a record of `bytes`.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), Refusal> {
        loop {
            let made_progress = if self.bytes_left().is_none() {
                self.cool() || self.evict()
            } else if self.log.has_room(bytes) {
                return Ok(());
            } else if self.has_free_segment() {
                self.log.open_segment(self.now);
                true
            } else {
                self.clean() || self.evict_segment()
            };
            if !made_progress && !self.sweep_everything() {
                return Err(Refusal::OutOfMemory);
            }
        }
    }

    /// Gives back the pages of a free segment, other than the reserve. Says whether there was one.
    fn cool(&mut self) -> bool {
        self.log.warm_segments() > RESERVE_SEGMENTS && self.log.cool()
    }

    /// Moves what lives in the deadest segment, so that it is free. Says whether there was one that was worth it.
    fn clean(&mut self) -> bool {
        let dead_share = match self.config.when_full {
            WhenFull::Evict => CLEAN_DEAD_SHARE,
            WhenFull::Refuse => CLEAN_DEAD_SHARE_OR_REFUSE,
        };
        let Some(segment) = self.log.deadest(self.log.segment_bytes() / dead_share) else { return false };
        let mut next = self.log.first_live(segment);
        while let Some(at) = next {
            next = self.log.next_live(segment, at);
            self.relocate(at);
        }
        true
    }

    /// Moves an item to the end of the log, if it is still one.
    fn relocate(&mut self, at: Address) {
        let header = self.log.header(at);
        if self.flushes.life_of(header, self.now) != Life::Live {
            return self.reclaim(at);
        }
        let (hash, bytes) = (header.hash(), header.record_bytes());
        if !self.log.has_room(bytes) {
            self.log.open_segment(self.now);
        }
        let to = self.log.append_copy(at);
        self.index.relocate(hash, at, to);
        self.log.end(at);
    }

    /// Evicts until a segment is free, or until large values have given back as much as one takes. Says whether
    /// anything went.
    fn evict_segment(&mut self) -> bool {
        let mut went = false;
        while !self.has_free_segment() && self.evict() {
            went = true;
        }
        went
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
        self.counters.evicted_age = self.now.saturating_sub(self.log.oldest_since().unwrap_or(self.now));
        self.unlink(at);
        true
    }
}
