//! What the storage thread does for a snapshot: one piece of all items after another, as packets.
//!
//! The walk is that of [`scan`](super::scan), so that what is there all the time is told exactly once. A piece is
//! bounded by bytes: small items are copied, large values lent as they are, and the snapshot thread asks for the next
//! piece when it has written the last one. What has expired or was flushed is left out, and so is what is stale: without
//! its mark, which no packet can hold, it would be told as if it were not.

use wire::Expiration;
use zerocopy::IntoBytes;

use crate::clock::UnixSeconds;
use crate::figures::Counters;
use crate::limits::SNAPSHOT_PIECE_BYTES;
use crate::message::{Batch, Reply, Span};
use crate::storage::engine::{Answers, Engine};
use crate::storage::expiry::Flushes;
use crate::storage::log::record::STALE;
use crate::storage::log::{Address, Stored};
use crate::storage::scan::{Cursor, LOOKS_PER_STEP, SCAN_ITEMS_MAX};

/// A piece of all items.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Where the walk goes on, 0 at its end.
    pub next: u64,
    /// Items in it. There may be none, and yet more behind them.
    pub items: u64,
    /// Their packets in [`Batch::values`](crate::message::Batch::values).
    pub packets: Span,
    /// Values that belong between them: where in the batch's values, and which of
    /// [`Batch::large`](crate::message::Batch::large).
    pub large: Vec<(u32, u32)>,
    /// Items that are stored at its time.
    pub stored_items: u64,
    /// The newest version at its time.
    pub newest_cas: u64,
    /// The flushes at its time.
    pub flushes: Flushes,
}

impl Piece {
    /// Its packets, whole or in parts, one behind the other. `batch` is the one that it was asked for with.
    pub fn parts<'a>(&self, batch: &'a Batch) -> impl Iterator<Item = &'a [u8]> {
        let mut at = self.packets.start as usize;
        let mut parts = Vec::with_capacity(2 * self.large.len() + 1);
        for &(value_at, number) in &self.large {
            parts.push(&batch.values[at..value_at as usize]);
            parts.push(&batch.large[number as usize][..]);
            at = value_at as usize;
        }
        parts.push(&batch.values[at..self.packets.end()]);
        parts.into_iter()
    }
}

/// Records that are told together.
struct Gathered {
    records: Vec<Address>,
    bytes: usize,
    next: Cursor,
}

impl Engine {
    /// The next piece of all items behind a cursor.
    pub(super) fn snapshot(&mut self, cursor: u64, answers: &mut Answers<'_>) -> Reply {
        let start = answers.values.len();
        let (mut cursor, mut items, mut large) = (Cursor::of(cursor), 0, Vec::new());
        let (mut looks, mut bytes) = (0, 0);
        while looks < LOOKS_PER_STEP && self.index.table_len(cursor.table).is_some() {
            let gathered = self.gather(cursor, &mut looks);
            if bytes > 0 && bytes + gathered.bytes > SNAPSHOT_PIECE_BYTES {
                break;
            }
            bytes += gathered.bytes;
            items += gathered.records.len() as u64;
            for &at in &gathered.records {
                self.tell_packet(at, answers, &mut large);
            }
            cursor = gathered.next;
        }
        let is_through = self.index.table_len(cursor.table).is_none();
        let packets = Span::new(start, answers.values.len() - start);
        answers.bytes += packets.len as usize;
        self.copied_bytes += looks;
        let next = if is_through { 0 } else { cursor.told() };
        let stored_items = self.index.len() as u64;
        let (newest_cas, flushes) = (self.newest_cas, self.flushes);
        Reply::Snapshot(Box::new(Piece { next, items, packets, large, stored_items, newest_cas, flushes }))
    }

    /// The items of a range of places that is small enough for one piece: it is halved until it is.
    fn gather(&self, cursor: Cursor, looks: &mut usize) -> Gathered {
        let len = self.index.table_len(cursor.table).unwrap_or(0);
        let mean_bytes = self.item_bytes / self.index.len().max(1);
        let count = (SNAPSHOT_PIECE_BYTES / mean_bytes.max(1)).clamp(1, SCAN_ITEMS_MAX as usize);
        let (mut records, mut halvings) = (Vec::new(), 0);
        loop {
            let (places, next) = cursor.step(len << halvings, count);
            let is_smallest = places.len() == 1;
            *looks += 1 + len;
            records.clear();
            self.index.each_in(cursor.table, places, |at| {
                self.log.prefetch(at);
                records.push(at);
            });
            let bytes = records.iter().map(|at| self.log.header(*at).item_bytes()).sum();
            if bytes <= SNAPSHOT_PIECE_BYTES || records.len() == 1 || is_smallest {
                records.retain(|at| self.is_live(*at) && !self.log.header(*at).is(STALE));
                return Gathered { records, bytes, next };
            }
            halvings += 1;
        }
    }

    /// The packet that sets an item. A large value stays where it is, and keeps its memory until it is written. That is
    /// not counted against clients: the snapshot thread holds one piece at a time, and always lets go.
    fn tell_packet(&self, at: Address, answers: &mut Answers<'_>, large: &mut Vec<(u32, u32)>) {
        let record = self.log.record(at);
        answers.values.extend_from_slice(record.header.public().as_bytes());
        answers.values.extend_from_slice(record.key);
        match record.value {
            Stored::Inline(value) => answers.values.extend_from_slice(value),
            Stored::Block(number) => {
                large.push((answers.values.len() as u32, answers.large.len() as u32));
                answers.large.push(self.blocks.get(number).clone());
            }
        }
    }

    /// Versions go on behind `newest_cas`. To be called before anything is stored.
    pub fn resume_behind(&mut self, newest_cas: u64) {
        self.newest_cas = newest_cas;
    }

    /// Ends a restart: draws the line of a flush that was to come, now if its time has passed, and counts from zero what
    /// clients do.
    pub fn finish_restore(&mut self, pending_flush: Option<UnixSeconds>, now: UnixSeconds) {
        self.now = now;
        if let Some(time) = pending_flush {
            self.flushes.flush(Expiration::At(time), now);
            self.advance_flushes();
        }
        let Counters { total_items, evictions, evicted_unfetched, evicted_small, evicted_main, .. } =
            self.counters;
        self.counters = Counters {
            total_items,
            evicted_unfetched,
            evictions,
            evicted_small,
            evicted_main,
            ..Counters::default()
        };
    }
}
