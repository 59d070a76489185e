//! Taking out what is over before anyone asks for it.
//!
//! Exactness needs no sweep: an item that has expired or was flushed is gone for whoever asks. But its memory is not,
//! and the next one to be evicted may be an item that is alive. So the storage thread looks a bounded number of records
//! ahead with every batch, and more when it has nothing else to do.
//!
//! - What a flush has ended stands at the old end of the log, and is taken out from there.
//! - For expiry each segment knows when the first of its items ends. Once a second the segments that are due are
//!   looked up, and then read through, record by record; what lives on tells when the segment is due again.

use crate::clock::UnixSeconds;
use crate::storage::engine::Engine;
use crate::storage::expiry::Life;
use crate::storage::log::Address;

/// Records looked at with each batch, and when there is nothing else to do.
const RECORDS_PER_BATCH: usize = 32;
const RECORDS_WHEN_IDLE: usize = 4096;

/// How far the sweep for expired items has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The segment that is being read through, and the record to go on with.
    at: Option<(u64, Option<Address>)>,
    /// Until when no segment is due, as far as was seen.
    seen_until: UnixSeconds,
}

impl Engine {
    /// The part that goes with a batch.
    pub(super) fn sweep_with_batch(&mut self) {
        self.sweep_flushed(RECORDS_PER_BATCH);
        self.sweep_expired(RECORDS_PER_BATCH);
    }

    /// The part for idle times. Says whether there is more.
    pub(super) fn sweep_when_idle(&mut self) -> bool {
        let more_flushed = self.sweep_flushed(RECORDS_WHEN_IDLE);
        self.sweep_expired(RECORDS_WHEN_IDLE) || more_flushed
    }

    /// Takes out everything that has expired. Says whether that was anything.
    pub(super) fn sweep_everything(&mut self) -> bool {
        let before = self.counters.reclaimed;
        while self.sweep_expired(RECORDS_WHEN_IDLE) {}
        self.counters.reclaimed > before
    }

    /// Takes out the oldest items as long as a flush has ended them, at most `limit`. Says whether there are more.
    fn sweep_flushed(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            match self.log.oldest() {
                Some(at) if self.flushes.is_flushed(self.log.header(at).cas()) => self.reclaim(at),
                _ => return false,
            }
        }
        true
    }

    /// Looks at `limit` records of segments that are due. Says whether there are more.
    fn sweep_expired(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            let Some((opened, next)) = self.sweep.at.take().or_else(|| self.next_due()) else { return false };
            // A segment that was freed meanwhile has nothing left, whoever has taken its place.
            let Some(segment) = self.log.segment_opened(opened) else { continue };
            let Some(at) = next else { continue };
            self.sweep.at = Some((opened, self.log.next_live(segment, at)));
            if self.log.header(at).is_dead() {
                continue;
            }
            match self.flushes.life_of(self.log.header(at), self.now) {
                Life::Live => self.log.note_expiration(at),
                Life::Expired | Life::Flushed => self.reclaim(at),
            }
        }
        true
    }

    /// A segment that is due, to be read through from its first live record.
    fn next_due(&mut self) -> Option<(u64, Option<Address>)> {
        if self.sweep.seen_until > self.now {
            return None;
        }
        let due = self.log.take_due(self.now);
        if due.is_none() {
            self.sweep.seen_until = self.now + 1;
        }
        let (opened, segment) = due?;
        Some((opened, self.log.first_live(segment)))
    }
}
