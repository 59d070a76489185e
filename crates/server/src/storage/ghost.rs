//! The ghost: which items were evicted lately, as fingerprints.
//!
//! An item that is asked for again soon after it was evicted from the small queue was judged too early. The ghost
//! remembers a fingerprint of each such item for a while, so that it goes to the main queue when it is stored again.
//!
//! A table of buckets of eight fingerprints, half a cache line each. A fingerprint is 16 bits of the hash, and the time
//! at which it came, in 16 bits, counted in evictions. It stands for as many evictions as the ghost has places, and
//! then counts as absent; a new one takes the place of the oldest in its bucket. Wrong positives are one in thousands,
//! some more beyond ten million items, where place and fingerprint share bits; they cost a place in the main queue.
//!
//! In published traces a ghost for three to five items in ten of those that are stored misses least, and one for none
//! of them loses what S3-FIFO has before FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP
//! 2023). It is remade, and forgets, when the number of items has grown or shrunk by much.

use crate::message::KeyHash;
use crate::storage::prefetch;

const SLOTS: usize = 8;
/// The time counts up once in this share of the capacity.
const EPOCHS: u64 = 128;
const BUCKETS_MIN: usize = 64;

/// The ghost.
#[derive(Debug)]
pub struct Ghost {
    /// Of plain numbers, so that the system makes the zeros, page by page, when they are needed.
    buckets: Vec<[u32; SLOTS]>,
    /// Fingerprints that have come.
    inserted: u64,
}

/// Fingerprint in the upper half, time in the lower one; 0 for none, at the cost of the one fingerprint that is 0, in
/// the one epoch that is.
#[derive(Debug, Clone, Copy)]
struct Slot(u32);

impl Slot {
    fn new(fingerprint: u16, epoch: u16) -> Self {
        Self(u32::from(fingerprint) << 16 | u32::from(epoch))
    }

    fn has(self, fingerprint: u16) -> bool {
        self.0 >> 16 == u32::from(fingerprint)
    }

    /// Epochs since it came; an empty one is as old as can be.
    fn age(self, now: u16) -> u16 {
        if self.0 == 0 { u16::MAX } else { now.wrapping_sub(self.0 as u16) }
    }
}

impl Ghost {
    /// A ghost that remembers nothing, in no memory.
    #[must_use]
    pub fn new() -> Self {
        Self { buckets: Vec::new(), inserted: 0 }
    }

    /// Fits it to so many items that are stored: a place for half of them, to a power of two.
    pub fn fit(&mut self, item_count: usize) {
        let wanted = (item_count / 2 / SLOTS).next_power_of_two().max(BUCKETS_MIN);
        let has = self.buckets.len();
        if wanted > has || wanted * 4 < has {
            *self = Self { buckets: vec![[0; SLOTS]; wanted], inserted: 0 };
        }
    }

    /// Bytes of it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Fingerprints that it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// Remembers an item.
    pub fn insert(&mut self, hash: KeyHash) {
        let Some(at) = self.bucket_of(hash) else { return };
        let now = self.epoch();
        let fingerprint = hash.0 as u16;
        let bucket = &mut self.buckets[at];
        let same = bucket.iter().position(|&slot| slot != 0 && Slot(slot).has(fingerprint));
        let oldest = || (0..SLOTS).max_by_key(|&at| Slot(bucket[at]).age(now)).unwrap_or(0);
        let place = same.unwrap_or_else(oldest);
        bucket[place] = Slot::new(fingerprint, now).0;
        self.inserted += 1;
    }

    /// Whether it remembers this item, which it then forgets.
    pub fn take(&mut self, hash: KeyHash) -> bool {
        let Some(at) = self.bucket_of(hash) else { return false };
        let now = self.epoch();
        let fingerprint = hash.0 as u16;
        let remembered = |slot: &&mut u32| {
            let slot = Slot(**slot);
            slot.has(fingerprint) && u64::from(slot.age(now)) <= EPOCHS
        };
        match self.buckets[at].iter_mut().find(remembered) {
            Some(slot) => {
                *slot = 0;
                true
            }
            None => false,
        }
    }

    /// Asks the processor for where this item would stand.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash) {
        if let Some(bucket) = self.bucket_of(hash).and_then(|at| self.buckets.get(at)) {
            prefetch::line(bucket.as_ptr().cast());
        }
    }

    /// By the upper bits of the hash; the fingerprint is the lower ones.
    #[inline]
    fn bucket_of(&self, hash: KeyHash) -> Option<usize> {
        let bits = self.buckets.len().checked_ilog2()?;
        Some((u64::from(hash.0) << bits >> u32::BITS) as usize)
    }

    /// The time, which wraps around: by then no fingerprint of the last round is valid, nor, with few exceptions,
    /// there.
    fn epoch(&self) -> u16 {
        let evictions_per_epoch = (self.capacity() as u64 / EPOCHS).max(1);
        (self.inserted / evictions_per_epoch) as u16
    }
}

impl Default for Ghost {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(n: u32) -> KeyHash {
        KeyHash(n.wrapping_mul(0x9e37_79b9) ^ (n.wrapping_mul(0x85eb_ca6b) >> 15))
    }

    #[test]
    fn it_remembers_what_came_last_and_forgets_what_it_was_asked_for() {
        let mut ghost = Ghost::new();
        assert!(!ghost.take(hash_of(1)), "a ghost without memory remembers nothing");
        ghost.fit(100_000);
        let capacity = ghost.capacity() as u32;
        assert_eq!((capacity, ghost.bytes()), (65_536, 65_536 * 4));
        for n in 0..capacity * 3 {
            ghost.insert(hash_of(n));
        }
        let young = capacity * 3 - capacity / 2..capacity * 3;
        let known = young.clone().filter(|&n| ghost.take(hash_of(n))).count();
        assert!(known > young.len() * 95 / 100, "{known} of {}", young.len());
        let again = young.clone().filter(|&n| ghost.take(hash_of(n))).count();
        assert!(again < young.len() / 100, "{again} twice");
        let old = (0..capacity).filter(|&n| ghost.take(hash_of(n))).count();
        assert!(old < capacity as usize / 100, "{old} of those that came before its capacity");
    }

    #[test]
    fn strangers_are_hardly_ever_taken_for_known() {
        let mut ghost = Ghost::new();
        ghost.fit(100_000);
        for n in 0..60_000 {
            ghost.insert(hash_of(n));
        }
        let wrong = (1_000_000..1_100_000).filter(|&n| ghost.take(hash_of(n))).count();
        assert!(wrong < 200, "{wrong} of 100,000");
    }

    #[test]
    fn it_is_remade_when_the_number_of_items_has_changed_by_much() {
        let mut ghost = Ghost::new();
        ghost.fit(10_000);
        let bytes = ghost.bytes();
        ghost.insert(hash_of(1));
        ghost.fit(7_000);
        assert!(ghost.take(hash_of(1)));
        ghost.fit(40_000);
        assert_eq!(ghost.bytes(), bytes * 4);
        ghost.fit(0);
        assert_eq!(ghost.capacity(), BUCKETS_MIN * SLOTS);
    }

    #[test]
    fn the_time_wraps_around() {
        let mut ghost = Ghost::new();
        ghost.fit(0);
        // Four evictions an epoch; the clock goes round once and a half.
        for n in 1..65_536 * 6 {
            ghost.insert(hash_of(n));
            assert!(n % 1000 != 0 || ghost.take(hash_of(n)), "{n} was just inserted");
        }
    }
}
