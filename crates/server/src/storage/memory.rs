//! Memory: how the limit is kept.
//!
//! Segments, index, ghost, large values, and the buffers of connections are charged against one limit. A write makes
//! room for itself, in the first of these ways that there is:
//!
//! 1. the open segment of its queue has room;
//! 2. a segment is free, besides some that are kept in reserve;
//! 3. a segment is emptied: cleaned, or by the rules of `eviction`;
//! 4. what has expired is taken out.
//!
//! What others have taken since the last batch (large values on their way in or out, buffers, a grown index) goes off
//! the cache at the next one: free segments give their pages back, and if there are none, some are emptied.
//!
//! So that a write seldom waits for 3, each write that finds few segments free goes on emptying the next one, by some
//! times as much as it has written itself.

use crate::message::{Refusal, Reply};
use crate::storage::engine::{Engine, WhenFull};
use crate::storage::eviction::Mercy;
use crate::storage::log::Queue;

/// Free segments that only moving may use.
///
/// What lives in a victim fits into one segment, but writes to the same queue may take some of its room before the
/// victim is empty: then a second one is opened, and if that is taken, too, what is left of the victim is evicted. Where
/// nothing may be evicted no write comes between, and one is enough.
const RESERVE_SEGMENTS: usize = 2;

/// Free segments, besides the reserve, below which writes go on emptying: one in so many, and at most so many.
const SPARE_SHARE: usize = 128;
/// See [`SPARE_SHARE`].
const SPARE_MAX: usize = 8;
/// Bytes of a victim that are looked at for each byte written, while few segments are free: sixteen records at least.
const LOOK_BYTES: usize = 6;
/// The same, while hardly any are.
const LOOK_BYTES_URGENT: usize = 64;
/// Bytes that one write looks through by the rules, before it evicts what it meets. That takes a millisecond or two,
/// and hardly ever happens where there are segments to spare.
const PATIENCE_BYTES: usize = 4 << 20;

impl Engine {
    /// Bytes charged against the limit.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.log.resident_bytes() + self.index.bytes() + self.ghost.bytes() + self.meter.bytes()
    }

    /// Bytes that may still be taken, `None` where there are too many already. The reserve is always counted as taken.
    fn bytes_left(&self) -> Option<usize> {
        let reserve = RESERVE_SEGMENTS.saturating_sub(self.log.warm_segments()) * self.log.segment_bytes();
        self.config.memory_bytes_max.checked_sub(self.used_bytes() + reserve)
    }

    /// Segments that writes may open.
    fn free_segments(&self) -> usize {
        self.bytes_left().map_or(0, |left| self.log.free_segments(RESERVE_SEGMENTS, left))
    }

    /// Gives back what others have taken since the last batch.
    pub(super) fn settle(&mut self) {
        let mut effort = Effort::default();
        self.log.take_back();
        while self.bytes_left().is_none() {
            if !self.cool() && !self.empty_for(&mut effort) && !self.log.take_back() {
                return;
            }
        }
    }

    /// Makes room for `bytes` that are charged already, and about to arrive.
    pub(super) fn reserve(&mut self, bytes: usize) -> Reply {
        self.copied_bytes += bytes;
        match self.make_room_for_charged(0) {
            Ok(()) => Reply::Done,
            Err(why) => Reply::Refused(why),
        }
    }

    /// Makes room for everything that is charged, where `held_bytes` of large values stay in memory even if they are
    /// evicted.
    pub(super) fn make_room_for_charged(&mut self, held_bytes: usize) -> Result<(), Refusal> {
        let mut effort = Effort::default();
        while self.bytes_left().is_none() {
            // What cannot be held does not empty the cache first.
            if self.bytes_without_items() + held_bytes > self.config.memory_bytes_max {
                return Err(Refusal::OutOfMemory);
            }
            let made_progress = self.log.take_back() || self.cool() || self.empty_for(&mut effort);
            if !made_progress && !self.sweep_everything() {
                return Err(Refusal::OutOfMemory);
            }
        }
        Ok(())
    }

    /// What would be used if everything were evicted.
    fn bytes_without_items(&self) -> usize {
        let block_bytes: usize = Queue::ALL.iter().map(|queue| self.log.block_bytes_of(*queue)).sum();
        let items = self.log.resident_bytes() + block_bytes;
        self.used_bytes().saturating_sub(items) + RESERVE_SEGMENTS * self.log.segment_bytes()
    }

    /// Lets the front ends know what they may take without asking.
    pub(super) fn publish_room(&self) {
        self.meter.publish_room(self.bytes_left().unwrap_or(0));
    }

    /// Makes room for a record of `bytes` in a queue.
    pub(super) fn make_room(&mut self, queue: Queue, bytes: usize) -> Result<(), Refusal> {
        let mut effort = Effort::default();
        loop {
            let made_progress = if self.bytes_left().is_none() {
                self.log.take_back() || self.cool() || self.empty_for(&mut effort)
            } else if self.log.has_room(queue, bytes) {
                return Ok(());
            } else if self.free_segments() > 0 {
                self.log.open_segment(queue, self.now)
            } else {
                self.log.take_back() || self.empty_for(&mut effort)
            };
            if !made_progress && !self.sweep_everything() {
                return Err(Refusal::OutOfMemory);
            }
        }
    }

    /// Goes on emptying, as far as it befits a write of `bytes`, if few segments are free. Where nothing may be evicted,
    /// that is left until there is need: a segment with a few dead bytes may soon have more.
    pub(super) fn keep_spare(&mut self, bytes: usize) {
        if self.config.when_full == WhenFull::Refuse {
            return;
        }
        let aim = (self.log.segment_count() / SPARE_SHARE).min(SPARE_MAX);
        let mut free = self.free_segments();
        let factor = if free * 2 < aim { LOOK_BYTES_URGENT } else { LOOK_BYTES };
        let mut due = (bytes * factor).min(PATIENCE_BYTES);
        // Those that are lent are free in a moment.
        while due > 0 && free + self.log.lent_segments() < aim {
            match self.empty_victim(Mercy::Rule, false) {
                0 => return,
                looked => due = due.saturating_sub(looked),
            }
            free = self.free_segments();
        }
    }

    /// Whether moving may open a segment for a queue: if that takes no more memory than there is, or if what is moved
    /// must not be lost.
    pub(super) fn may_open_for_moving(&self) -> bool {
        self.config.when_full == WhenFull::Refuse
            || self.log.warm_segments() > 0
            || self.used_bytes() + self.log.segment_bytes() <= self.config.memory_bytes_max
    }

    /// Gives back the pages of a free segment, other than the reserve. Says whether there was one.
    fn cool(&mut self) -> bool {
        self.log.warm_segments() > RESERVE_SEGMENTS && self.log.cool()
    }

    /// Empties a little, for someone who waits. Says whether there was anything to do.
    fn empty_for(&mut self, effort: &mut Effort) -> bool {
        let has_patience = effort.looked_bytes < PATIENCE_BYTES;
        let mercy = match self.config.when_full {
            WhenFull::Evict if !has_patience => Mercy::None,
            _ => Mercy::Rule,
        };
        let free_before = self.log.warm_segments();
        let looked = self.empty_victim(mercy, true);
        effort.looked_bytes += looked;
        looked > 0 || self.log.warm_segments() > free_before
    }

    /// Moves everything in the oldest segments, as far as there is room for it. For tests.
    pub(super) fn relocate_oldest(&mut self) {
        for queue in Queue::ALL {
            let Some(mut walk) = self.log.walk_oldest(queue) else { continue };
            while let Some(at) = self.log.next_live(&mut walk) {
                let frequency = self.log.header(at).frequency();
                if !self.relocate(at, queue, frequency) {
                    return;
                }
            }
        }
    }
}

/// What one write has looked at to make room for itself.
#[derive(Debug, Default)]
struct Effort {
    looked_bytes: usize,
}
