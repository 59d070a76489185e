//! Walking over all items, a bounded number at a time, while everything changes.
//!
//! The walk goes over the hashes and not over the items: sub-table after sub-table of the index, and within one over
//! ranges of the 16 lowest bits of the hash, which are the *places*. An item keeps its hash as long as it lives, so it
//! is met when the walk comes by its place, however often it was moved or written again, and whether or not its
//! sub-table has grown or shrunk meanwhile. The number of sub-tables is fixed. So what is there all the time is told
//! exactly once; what comes or goes may be told or not. The cursor is all that the walk needs to remember:
//!
//! ```text
//! bit  63 ................ 16 15 ............. 0
//!      sub-table              place
//! ```
//! A step reads the entries of whole sub-tables, 8 bytes each, and looks at the records in its range only.

use std::ops::Range;

use crate::message::{KeyHash, Reply, ScanPage, ScannedItem, Span};
use crate::storage::engine::{Answers, Engine};
use crate::storage::expiry::Life;
use crate::storage::log::Address;
use crate::storage::log::record::FETCHED;

/// Items that one step aims at, at most. It may meet twice as many.
pub const SCAN_ITEMS_MAX: u32 = 512;
/// Entries and sub-tables looked at before a step ends, whatever it has met.
pub(super) const LOOKS_PER_STEP: usize = 16 << 10;
/// What an item costs in the answer, about.
const ITEM_BYTES_TOLD: usize = 128;

const PLACE_BITS: u32 = 16;
const PLACES: u32 = 1 << PLACE_BITS;

/// Where the walk goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    pub(super) table: usize,
    place: u32,
}

impl Cursor {
    pub(super) fn of(told: u64) -> Self {
        Self { table: (told >> PLACE_BITS) as usize, place: told as u32 % PLACES }
    }

    pub(super) fn told(self) -> u64 {
        (self.table as u64) << PLACE_BITS | u64::from(self.place)
    }

    /// The places from here on that hold about `count` of a sub-table's `len` entries, and what is behind them.
    pub(super) fn step(self, len: usize, count: usize) -> (Range<u32>, Self) {
        let parts = len.div_ceil(count).next_power_of_two().min(PLACES as usize);
        let end = PLACES.min(self.place + PLACES / parts as u32);
        let next = if end == PLACES {
            Self { table: self.table + 1, place: 0 }
        } else {
            Self { place: end, ..self }
        };
        (self.place..end, next)
    }
}

impl Engine {
    /// The next `count` items or so behind a cursor.
    pub(super) fn scan(&mut self, cursor: u64, count: u32, answers: &mut Answers<'_>) -> Reply {
        let count = count.clamp(1, SCAN_ITEMS_MAX) as usize;
        let count = count.min(answers.value_bytes_max / ITEM_BYTES_TOLD).max(1);
        let (mut cursor, mut items, mut looks) = (Cursor::of(cursor), Vec::new(), 0);
        while items.len() < count
            && looks < LOOKS_PER_STEP
            && let Some(len) = self.index.table_len(cursor.table)
        {
            let (places, next) = cursor.step(len, count);
            self.index.each_in(cursor.table, places, |at| items.extend(self.scanned(at, answers)));
            looks += 1 + len;
            cursor = next;
        }
        let is_through = self.index.table_len(cursor.table).is_none();
        self.copied_bytes += looks;
        answers.bytes += items.len() * size_of::<ScannedItem>();
        Reply::Scanned(Box::new(ScanPage { next: if is_through { 0 } else { cursor.told() }, items }))
    }

    /// Any item: the next one from `hash` on, all the way round, or none where it comes across none.
    pub(super) fn sample(&mut self, hash: KeyHash, answers: &mut Answers<'_>) -> Reply {
        let (mut cursor, mut looks) =
            (Cursor { table: self.index.table_of(hash), place: hash.0 % PLACES }, 0);
        let mut found = None;
        // Twice round the empty ones, so that the first sub-table is looked at as a whole.
        for _ in 0..2 * self.index.table_count() + LOOKS_PER_STEP {
            let Some(len) = self.index.table_len(cursor.table) else {
                cursor = Cursor { table: 0, place: 0 };
                continue;
            };
            let (places, next) = cursor.step(len, 1);
            self.index.each_in(cursor.table, places, |at| {
                found = found.or(Some(at).filter(|at| self.is_live(*at)));
            });
            looks += len;
            if found.is_some() || looks > 4 * LOOKS_PER_STEP {
                break;
            }
            cursor = next;
        }
        self.copied_bytes += looks;
        let items = found.and_then(|at| self.scanned(at, answers)).into_iter().collect();
        Reply::Scanned(Box::new(ScanPage { next: 0, items }))
    }

    pub(super) fn is_live(&self, at: Address) -> bool {
        self.flushes.life_of(self.log.header(at), self.now) == Life::Live
    }

    /// What is told of an item, if it is there for anyone to see.
    fn scanned(&self, at: Address, answers: &mut Answers<'_>) -> Option<ScannedItem> {
        if !self.is_live(at) {
            return None;
        }
        let (header, key) = (self.log.header(at), self.log.key(at));
        let span = Span::new(answers.values.len(), key.len());
        answers.values.extend_from_slice(key);
        answers.bytes += key.len();
        Some(ScannedItem {
            key: span,
            flags: header.flags(),
            expiration: header.expiration(),
            cas: self.log.told_cas(at),
            since: self.now.saturating_sub(u32::from(header.idle(self.now))),
            value_bytes: header.value_len(),
            item_bytes: header.item_bytes(),
            fetched: header.is(FETCHED),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_cover_every_place_of_a_sub_table_once() {
        for (len, count) in [(0, 1), (1, 1), (9, 10), (10, 10), (11, 10), (5000, 10), (100_000, 1)] {
            let mut cursor = Cursor { table: 7, place: 0 };
            let mut covered = 0;
            while cursor.table == 7 {
                let (places, next) = cursor.step(len, count);
                assert_eq!(places.start, covered, "{len} entries, {count} at a time");
                assert!(places.end > places.start);
                covered = places.end;
                cursor = Cursor::of(next.told());
            }
            assert_eq!((covered, cursor.table, cursor.place), (PLACES, 8, 0));
        }
    }
}
