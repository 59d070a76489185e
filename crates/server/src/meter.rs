//! The meter: what is in memory besides segments, index and ghost, and whether clients hold too much of it.
//!
//! Whoever holds bytes owns a [`Charge`] for them, which is given back when it is dropped, so that nothing can be
//! forgotten. The engine adds the sum to what it has itself, keeps `-m` by evicting, and refuses what cannot be held.
//!
//! Eviction helps only against what the cache holds. What clients hold is bounded here: answers that they do not
//! read, requests that they do not end. Large values are sent by reference, so an answer under way costs nothing as
//! long as its value is stored, too; but it is [pinned](Use::Pinned): once the value is deleted or overwritten, it is
//! the answer's alone ([orphaned](Use::Orphaned)), and no eviction brings it back. Where all this has grown too much, the
//! server is [crowded](Crowding): it goes on serving small values, reads less at a time, and refuses to pin more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{
    BYTES_PER_RUN, CROWD_BYTES_MIN, CROWDED_BYTES_PER_RUN, CROWDED_READ_BYTES_PER_TURN, HEAP_WAITING_BYTES,
    MAPPED_WAITING_BYTES, PACKED_BYTES_PER_RUN, PACKED_READ_BYTES_PER_TURN, READ_BYTES_PER_TURN,
};

/// What bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Mappings of large values, wherever they are: arriving, stored, being sent.
    Blocks,
    /// Unfinished requests that have a place among what is being received.
    Arriving,
    /// What connections hold: input that waits, and answers that their sockets did not take.
    Waiting,
    /// What is there in any case: connections, batches, outputs.
    Working,
    /// Blocks that an answer under way holds. They are [`Blocks`](Self::Blocks), too.
    Pinned,
    /// Those of them that are not stored any more.
    Orphaned,
}

/// How many [`Use`]s there are.
const USES: usize = 6;

/// Counts bytes by their use.
#[derive(Debug)]
pub struct Meter {
    gauges: [AtomicUsize; USES],
    room: AtomicUsize,
    /// See [`Meter::crowding`].
    held_bytes_max: usize,
    pinned_bytes_max: usize,
    packed_bytes: usize,
}

/// Whether clients hold too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowding {
    /// They do not.
    Ample,
    /// They do: no further large values are pinned, and less is read and answered at a time.
    Crowded,
    /// It grows all the same, by the number of clients: hardly anything is answered at a time.
    Packed,
}

impl Default for Meter {
    /// A meter without limits.
    fn default() -> Self {
        Self {
            gauges: Default::default(),
            room: AtomicUsize::new(0),
            held_bytes_max: usize::MAX,
            pinned_bytes_max: usize::MAX,
            packed_bytes: usize::MAX,
        }
    }
}

impl Meter {
    /// The meter of a server with so much memory, where a value may have so many bytes.
    #[must_use]
    pub fn new(memory_bytes_max: usize, item_bytes_max: usize) -> Self {
        let quarter = memory_bytes_max / 4;
        // One value of any size may be sent while another takes its place.
        let held_bytes_max = quarter.max(item_bytes_max).max(CROWD_BYTES_MIN);
        let pinned_bytes_max = held_bytes_max + quarter;
        let packed_bytes = pinned_bytes_max + quarter / 2;
        Self { held_bytes_max, pinned_bytes_max, packed_bytes, ..Self::default() }
    }

    /// Bytes charged for a use.
    #[must_use]
    pub fn gauge(&self, r#use: Use) -> usize {
        self.gauges[r#use as usize].load(Ordering::Relaxed)
    }

    /// Bytes of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.gauge(Use::Blocks)
    }

    /// Bytes of buffers.
    #[must_use]
    pub fn buffers(&self) -> usize {
        self.gauge(Use::Arriving) + self.gauge(Use::Waiting) + self.gauge(Use::Working)
    }

    /// All bytes charged.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks() + self.buffers()
    }

    /// Whether clients hold too much.
    #[must_use]
    pub fn crowding(&self) -> Crowding {
        let waiting = self.gauge(Use::Waiting);
        let pinned = waiting.saturating_add(self.gauge(Use::Pinned));
        let orphaned = waiting.saturating_add(self.gauge(Use::Orphaned));
        if pinned > self.packed_bytes {
            Crowding::Packed
        } else if pinned > self.pinned_bytes_max || orphaned > self.held_bytes_max {
            Crowding::Crowded
        } else {
            Crowding::Ample
        }
    }

    /// From which length on a buffer that waits is to have a mapping of its own.
    #[must_use]
    pub fn mapped_from(&self) -> usize {
        let waiting = self.gauge(Use::Arriving) + self.gauge(Use::Waiting);
        if waiting < HEAP_WAITING_BYTES { usize::MAX } else { MAPPED_WAITING_BYTES }
    }

    /// The engine tells how much may be taken before the memory is full.
    pub fn publish_room(&self, bytes: usize) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    /// Takes `bytes` of the room that the engine has told, if there are so many. They are charged by whoever uses them;
    /// what is taken here is forgotten when the engine tells its room again.
    #[must_use]
    pub fn take_room(&self, bytes: usize) -> bool {
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes)).is_ok()
    }
}

impl Crowding {
    /// Bytes that a connection may read in a turn.
    #[must_use]
    pub fn read_bytes_per_turn(self) -> usize {
        match self {
            Self::Ample => READ_BYTES_PER_TURN,
            Self::Crowded => CROWDED_READ_BYTES_PER_TURN,
            Self::Packed => PACKED_READ_BYTES_PER_TURN,
        }
    }

    /// Bytes of answers after which the rest of a connection's requests is left for a later batch.
    #[must_use]
    pub fn bytes_per_run(self) -> usize {
        match self {
            Self::Ample => BYTES_PER_RUN,
            Self::Crowded => CROWDED_BYTES_PER_RUN,
            Self::Packed => PACKED_BYTES_PER_RUN,
        }
    }

    /// The longest value that is answered, except one that is pinned already.
    #[must_use]
    pub fn value_bytes_max(self) -> usize {
        match self {
            Self::Ample => usize::MAX,
            crowded => crowded.bytes_per_run(),
        }
    }
}

/// Bytes that somebody holds, on a meter. They are given back on drop.
#[derive(Debug, Default)]
pub struct Charge {
    bytes: usize,
    /// None for bytes that nobody counts, as in a test of something else.
    on: Option<(Arc<Meter>, Use)>,
}

impl Charge {
    /// A charge of nothing, for the time being.
    #[must_use]
    pub fn new(meter: &Arc<Meter>, r#use: Use) -> Self {
        Self { bytes: 0, on: Some((Arc::clone(meter), r#use)) }
    }

    /// A charge of `bytes`.
    #[must_use]
    pub fn of(bytes: usize, meter: &Arc<Meter>, r#use: Use) -> Self {
        let mut charge = Self::new(meter, r#use);
        charge.set(bytes);
        charge
    }

    /// Bytes charged.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes it to `bytes`. One that does not change costs nothing.
    #[inline]
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.change(bytes);
        }
    }

    fn change(&mut self, bytes: usize) {
        if let Some((meter, r#use)) = &self.on {
            let gauge = &meter.gauges[*r#use as usize];
            if bytes > self.bytes {
                gauge.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            } else {
                gauge.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            }
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_charge_follows_what_is_held_and_ends_with_its_holder() {
        let meter = Arc::new(Meter::default());
        let mut input = Charge::new(&meter, Use::Waiting);
        let block = Charge::of(4096, &meter, Use::Blocks);
        let pinned = Charge::of(4096, &meter, Use::Pinned);
        assert_eq!((meter.bytes(), meter.blocks(), meter.buffers()), (4096, 4096, 0));
        input.set(100);
        input.set(70);
        assert_eq!((meter.bytes(), meter.buffers(), input.bytes()), (4166, 70, 70));
        drop((input, block));
        assert_eq!(
            (meter.bytes(), meter.gauge(Use::Pinned)),
            (0, 4096),
            "pinned bytes are not counted twice"
        );
        drop(pinned);
        assert_eq!(meter.gauge(Use::Pinned), 0);
    }

    #[test]
    fn every_use_has_a_gauge_of_its_own() {
        let meter = Arc::new(Meter::default());
        let uses = [Use::Blocks, Use::Arriving, Use::Waiting, Use::Working, Use::Pinned, Use::Orphaned];
        let charges = uses.map(|r#use| Charge::of(1 << (r#use as usize), &meter, r#use));
        assert_eq!(uses.map(|r#use| meter.gauge(r#use)), [1, 2, 4, 8, 16, 32]);
        assert_eq!(charges.len(), USES);
    }

    #[test]
    fn what_clients_hold_makes_it_crowded_and_then_packed() {
        let meter = Arc::new(Meter::new(64 * MIB, MIB));
        let mut waiting = Charge::new(&meter, Use::Waiting);
        let mut pinned = Charge::new(&meter, Use::Pinned);
        let mut orphaned = Charge::new(&meter, Use::Orphaned);
        let _stored = Charge::of(60 * MIB, &meter, Use::Blocks);
        let _working = Charge::of(60 * MIB, &meter, Use::Working);
        for (waits, pins, orphans, expected) in [
            (16, 0, 0, Crowding::Ample),
            (17, 0, 0, Crowding::Crowded),
            (0, 32, 0, Crowding::Ample),
            (1, 32, 0, Crowding::Crowded),
            (0, 16, 16, Crowding::Ample),
            (1, 16, 16, Crowding::Crowded),
            (40, 0, 0, Crowding::Crowded),
            (41, 0, 0, Crowding::Packed),
            (9, 32, 0, Crowding::Packed),
        ] {
            waiting.set(waits * MIB);
            pinned.set(pins * MIB);
            orphaned.set(orphans * MIB);
            assert_eq!(meter.crowding(), expected, "{waits} wait, {pins} are pinned, {orphans} orphaned");
        }
    }

    #[test]
    fn one_value_of_any_size_may_be_on_its_way_out() {
        let meter = Arc::new(Meter::new(64 * MIB, 32 * MIB));
        let _answer = Charge::of(32 * MIB, &meter, Use::Pinned);
        let _overwritten = Charge::of(32 * MIB, &meter, Use::Orphaned);
        assert_eq!(meter.crowding(), Crowding::Ample);
    }

    #[test]
    fn room_is_taken_until_there_is_none() {
        let meter = Meter::default();
        assert!(!meter.take_room(1), "nothing has been told");
        meter.publish_room(10);
        assert!(meter.take_room(6));
        assert!(!meter.take_room(5));
        assert!(meter.take_room(4));
    }
}
