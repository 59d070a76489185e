//! Eviction: S3-FIFO, laid on the log.
//!
//! Most items of a cache are never asked for again, so the first question about a new one is whether it is worth a
//! place. S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023) asks it early: items come
//! into a small queue, a tenth of the memory, and at its end they leave, unless they were read meanwhile. Those move to
//! the main queue, at whose end an item that was read again gets another round. It needs no links between items and
//! moves nothing on a read, which only counts up two bits of the record's header.
//!
//! On the log, a queue is a row of segments, and its order is the order of writing:
//!
//! ```text
//!   SET, unknown key ──> [ small ] ───────── read ────────> [ main ] ──────── read ───────┐
//!                            │                                │  ^─── counts one less ────┘
//!                     rest: evicted                     rest: evicted
//!                            v
//!   SET, key in ghost ──> straight into main
//! ```
//! - The rule is the same for both queues: a move to the end of the main queue costs one read of those that were
//!   counted. An item longer than the average costs a [second or a third one](reads_to_stay), since for its place
//!   several others have to go.
//! - An item that is written again keeps its queue and its count. Where it is written in its old place, it keeps its age
//!   as well, and has one more round before it instead.
//! - What leaves the small queue is remembered in the [ghost](super::ghost).
//! - Before anything is evicted, dead bytes are looked for: if some segment has a fifth of them or more, what lives
//!   in the deadest one is moved to the end of its own queue instead (cleaning), with its counts as they are. With
//!   `-M`, cleaning is all that there is.
//!
//! A *victim* is the segment that is being emptied in one of these ways. It is read through a few records at a time, with
//! a look ahead in the index, so that no write waits for more than that: while few segments are free, each write looks
//! at sixteen records of a victim, or at six bytes for each of its own if that is more, and at ten times as many
//! where hardly any are free. When the segment is through, nothing in it lives, and it is free.
//!
//! Where everything was read often, nothing can be evicted until all counts are down, which takes up to three rounds
//! through the main queue. A write that has looked through some MiB in vain does not wait for that: from then on it
//! evicts what it meets.
//!
//! What was tried (look-aside cache of a tenth of the data, values of some 230 B, Zipf's law with 1.0 and 0.9; and sizes
//! that shift between 100 B and 4 KiB): to ask for two reads in the small queue, as the paper does, and to forget them
//! with the move, misses 18.5, 30.9, 15.2 %; one read, forgotten, 18.0, 30.6, 15.1; one read, and the rest kept,
//! 18.0, 30.6, 14.2; with the price for long items 17.7, 29.9, 14.0.

use crate::storage::engine::{Engine, WhenFull};
use crate::storage::expiry::Life;
use crate::storage::log::record::{FETCHED, FREQUENCY_MAX, LARGE};
use crate::storage::log::{Address, Queue, Stored, Walk};

/// The small queue's share of the memory is one part in so many.
const SMALL_SHARE: usize = 10;
/// Records looked at in one step.
const RECORDS_PER_STEP: usize = 16;
/// A segment is cleaned where one part in so many of it is dead: what lives is copied for the sake of what does not.
const CLEAN_DEAD_SHARE: usize = 5;
/// The same, where the alternative is to refuse. Each cleaning takes so much off the dead bytes, so it comes to an end.
const CLEAN_DEAD_SHARE_OR_REFUSE: usize = 16;

/// The segment that is being emptied, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Victim {
    walk: Walk,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// What lives stays in the queue.
    Clean,
    /// What was not read enough goes.
    Evict,
}

/// What a victim's items are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mercy {
    /// As many rounds as they were read.
    Rule,
    /// Nothing.
    None,
}

impl Engine {
    /// Looks at the next few records of the victim, or of a new one. Says how many bytes that was, 0 where there is no
    /// victim.
    pub(super) fn empty_victim(&mut self, mercy: Mercy, urgent: bool) -> usize {
        let Some(mut victim) = self.victim.take().or_else(|| self.choose_victim(urgent)) else {
            return 0;
        };
        let from = victim.walk.offset();
        while self.empty_step(&mut victim, mercy) {
            // Where nothing may be evicted, no write may come between a victim and the room that it is moved to.
            if self.config.when_full == WhenFull::Evict {
                self.victim = Some(victim);
                break;
            }
        }
        // A victim without a live record was worth a look, too.
        (victim.walk.offset() - from).max(1)
    }

    /// Says whether there may be more.
    fn empty_step(&mut self, victim: &mut Victim, mercy: Mercy) -> bool {
        let mut records = [None; RECORDS_PER_STEP];
        let mut is_through = false;
        for record in &mut records {
            *record = self.log.next_live(&mut victim.walk);
            let Some(at) = *record else {
                is_through = true;
                break;
            };
            let header = self.log.header(at);
            self.index.prefetch_bucket(header.hash());
            // A large value may be room enough.
            if header.is(LARGE) {
                break;
            }
        }
        let mean_bytes = self.item_bytes / self.index.len().max(1);
        for at in records.into_iter().flatten() {
            self.judge(at, victim.purpose, mercy, mean_bytes);
        }
        !is_through
    }

    /// The victim that frees most for what it costs.
    fn choose_victim(&mut self, urgent: bool) -> Option<Victim> {
        let dead_share = match self.config.when_full {
            WhenFull::Refuse if urgent => CLEAN_DEAD_SHARE_OR_REFUSE,
            _ => CLEAN_DEAD_SHARE,
        };
        let has_room = self.log.has_free_segment();
        if has_room && let Some(walk) = self.log.walk_deadest(self.log.segment_bytes() / dead_share) {
            return Some(Victim { walk, purpose: Purpose::Clean });
        }
        if self.config.when_full == WhenFull::Refuse {
            return None;
        }
        self.ghost.fit(self.index.len());
        let [small, main] = Queue::ALL.map(|queue| self.log.queue_bytes(queue));
        let is_small_full = small * SMALL_SHARE > small + main;
        let queues = if is_small_full { Queue::ALL } else { [Queue::Main, Queue::Small] };
        queues.into_iter().find_map(|queue| {
            let walk = self.log.walk_oldest(queue)?;
            Some(Victim { walk, purpose: Purpose::Evict })
        })
    }

    /// Decides about one item of the victim.
    fn judge(&mut self, at: Address, purpose: Purpose, mercy: Mercy, mean_bytes: usize) {
        let header = self.log.header(at);
        if self.flushes.life_of(header, self.now) != Life::Live {
            return self.reclaim(at);
        }
        let frequency = header.frequency();
        let to = match (purpose, mercy) {
            (Purpose::Clean, _) => Some((self.log.queue_of(at), frequency)),
            (Purpose::Evict, Mercy::None) => None,
            // It stays in memory whether or not it stays an item, so its eviction frees nothing.
            (Purpose::Evict, Mercy::Rule) if self.is_being_sent(at) => Some((Queue::Main, frequency)),
            (Purpose::Evict, Mercy::Rule) => {
                let left = frequency.checked_sub(reads_to_stay(header.item_bytes(), mean_bytes));
                left.map(|left| (Queue::Main, left))
            }
        };
        match to {
            Some((queue, frequency)) if self.relocate(at, queue, frequency) => {}
            // Where nothing may be evicted there is room: what lives in a segment fits into another, which is free.
            _ => self.evict(at),
        }
    }

    fn is_being_sent(&self, at: Address) -> bool {
        matches!(self.log.record(at).value, Stored::Block(number) if self.blocks.is_pinned(number))
    }

    /// Moves an item to the end of a queue. Says whether there was room.
    pub(super) fn relocate(&mut self, at: Address, queue: Queue, frequency: u16) -> bool {
        debug_assert!(frequency <= FREQUENCY_MAX);
        let header = self.log.header(at);
        let (hash, bytes) = (header.hash(), header.record_bytes());
        if !self.log.has_room(queue, bytes) {
            let has_opened = self.may_open_for_moving() && self.log.open_segment(queue, self.now);
            if !has_opened {
                return false;
            }
        }
        let to = self.log.append_copy(queue, at);
        self.log.header_mut(to).set_frequency(frequency);
        self.index.relocate(hash, at, to);
        self.log.end(at);
        self.counters.items_moved += 1;
        self.counters.bytes_moved += bytes as u64;
        true
    }

    fn evict(&mut self, at: Address) {
        debug_assert!(self.config.when_full == WhenFull::Evict, "where nothing is evicted there was room");
        let queue = self.log.queue_of(at);
        let header = self.log.header(at);
        let hash = header.hash();
        self.counters.evictions += 1;
        if !header.is(FETCHED) {
            self.counters.evicted_unfetched += 1;
        }
        match queue {
            Queue::Small => {
                self.counters.evicted_small += 1;
                self.ghost.insert(hash);
            }
            Queue::Main => self.counters.evicted_main += 1,
        }
        let since = self.log.opened_at(at);
        self.counters.evicted_age = self.now.saturating_sub(since);
        if let Some(evicted) = &mut self.evicted {
            evicted.push(self.log.key(at).into());
        }
        self.unlink(at);
    }
}

/// How many reads a round in the main queue costs an item: of average length one, of twice that two, of eight times
/// that or more three.
fn reads_to_stay(item_bytes: usize, mean_bytes: usize) -> u16 {
    match item_bytes / mean_bytes.max(1) {
        0..2 => 1,
        2..8 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_item_is_too_long_to_stay() {
        assert_eq!(
            [0, 100, 199, 200, 799, 800, 1 << 30].map(|bytes| reads_to_stay(bytes, 100)),
            [1, 1, 1, 2, 2, 3, 3]
        );
        assert_eq!(reads_to_stay(usize::MAX, 0), FREQUENCY_MAX);
    }
}
