//! Taking out what is over before anyone asks for it.
//!
//! Exactness needs no sweep: an item that has expired or was flushed is gone for whoever asks. But its memory is not,
//! and the next one to be evicted may be an item that is alive. So the storage thread looks at a bounded number of
//! records with every batch, and at more when it has nothing else to do.
//!
//! Each segment knows when the first of its items ends, and a flush makes all of them due. Once a second the segments
//! are looked over, and those that are due are read through, record by record; what lives on tells when the segment is
//! due again. A segment whose items end one after another is read through every few seconds, not every second.

use crate::clock::UnixSeconds;
use crate::storage::engine::Engine;
use crate::storage::expiry::Life;
use crate::storage::log::Walk;

/// Records looked at with each batch, and when there is nothing else to do.
const RECORDS_PER_BATCH: usize = 32;
const RECORDS_WHEN_IDLE: usize = 4096;
/// Records looked at before a write is refused, at most. The next one that is refused goes on from there.
const RECORDS_WHEN_REFUSED: usize = 16 * RECORDS_WHEN_IDLE;
/// Seconds between two readings of a segment, at least.
const PAUSE_S: UnixSeconds = 10;

/// How far the sweep has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The segment that is being read through.
    walk: Option<Walk>,
    /// The segment to be looked over next.
    next: usize,
    /// Until when no segment is due, as far as was seen.
    seen_until: UnixSeconds,
    /// When nothing was left that was over.
    clean_at: UnixSeconds,
}

impl Engine {
    /// The part that goes with a batch.
    pub(super) fn sweep_with_batch(&mut self) {
        self.sweep(RECORDS_PER_BATCH, PAUSE_S);
    }

    /// The part for idle times. Says whether there is more.
    pub(super) fn sweep_when_idle(&mut self) -> bool {
        self.sweep(RECORDS_WHEN_IDLE, PAUSE_S)
    }

    /// Takes out some of what is over, for someone who would be refused otherwise. Says whether there was anything, as
    /// far as it has looked.
    pub(super) fn sweep_everything(&mut self) -> bool {
        if self.sweep.clean_at == self.now {
            return false;
        }
        let before = self.counters.reclaimed;
        self.sweep_anew();
        for _ in 0..RECORDS_WHEN_REFUSED / RECORDS_WHEN_IDLE {
            if !self.sweep(RECORDS_WHEN_IDLE, 0) {
                self.sweep.clean_at = self.now;
                break;
            }
            if self.counters.reclaimed > before {
                break;
            }
        }
        self.counters.reclaimed > before
    }

    /// Makes the next sweep look over all segments.
    pub(super) fn sweep_anew(&mut self) {
        self.sweep.next = 0;
        self.sweep.seen_until = 0;
        self.sweep.clean_at = 0;
    }

    /// Looks at `limit` records of segments that are due. Says whether there are more.
    fn sweep(&mut self, limit: usize, pause: UnixSeconds) -> bool {
        for _ in 0..limit {
            let Some(mut walk) = self.sweep.walk.take().or_else(|| self.next_due(pause)) else {
                return false;
            };
            let Some(at) = self.log.next_live(&mut walk) else { continue };
            self.sweep.walk = Some(walk);
            match self.flushes.life_of(self.log.header(at), self.now) {
                Life::Live => self.log.note_expiration(at),
                Life::Expired | Life::Flushed => self.reclaim(at),
            }
        }
        true
    }

    /// A segment that is due.
    fn next_due(&mut self, pause: UnixSeconds) -> Option<Walk> {
        if self.sweep.seen_until > self.now {
            return None;
        }
        let Some((id, walk)) = self.log.take_due(self.sweep.next, self.now, pause) else {
            self.sweep.next = 0;
            self.sweep.seen_until = self.now + 1;
            return None;
        };
        self.sweep.next = id + 1;
        Some(walk)
    }
}
