//! Who waits for an item to change.
//!
//! [`Command::Watch`](crate::message::Command::Watch) names the version that a client knows. Where the item has another
//! one, that is the answer; else the connection is noted here under the key's hash, in the same step, so that no change
//! comes between. The next change of anything under that hash ends the note and wakes the connection, whose front end
//! asks again: it finds the change, or is noted anew where the change was another key's of the same hash, or none. How
//! long a client waits is its front end's business; one that waits no longer is taken out by
//! [`Command::Unwatch`](crate::message::Command::Unwatch).
//!
//! Nothing of the item is held, and it may go like any other. While nobody waits, a write pays for one comparison.

mod notes;

use std::sync::Arc;

use crate::clock::UnixSeconds;
use crate::hop::Home;
use crate::limits::{WATCHER_BYTES, WATCHERS_MAX};
use crate::message::{ConnId, KeyHash};
use crate::meter::{Charge, Meter, Use};
use notes::Notes;

/// Someone who waits: a connection, and the front end that it belongs to. In a test it may belong to none.
#[derive(Debug)]
pub struct Watcher {
    /// The connection.
    pub conn: ConnId,
    /// Where its front end is told.
    pub home: Option<Arc<Home>>,
}

/// Everybody who waits.
#[derive(Debug)]
pub(super) struct Watch {
    notes: Notes,
    /// No item that somebody waits for ends earlier.
    next_end: UnixSeconds,
    /// The front end whose batch is executed.
    pub(super) asking: Option<Arc<Home>>,
    woken: Vec<Watcher>,
    charge: Charge,
}

impl Watch {
    pub(super) fn new(meter: &Arc<Meter>) -> Self {
        Self {
            notes: Notes::default(),
            next_end: UnixSeconds::MAX,
            asking: None,
            woken: Vec::new(),
            charge: Charge::new(meter, Use::Working),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.notes.count() == 0
    }

    pub(super) fn count(&self) -> usize {
        self.notes.count()
    }

    /// Notes that a connection waits for a change of an item that ends at `end`, 0 for never. Says whether there is room
    /// for it.
    pub(super) fn add(&mut self, hash: KeyHash, conn: ConnId, end: UnixSeconds) -> bool {
        let watcher = Watcher { conn, home: self.asking.clone() };
        let is_noted = self.notes.count() < WATCHERS_MAX && self.notes.insert(hash, watcher, end);
        if is_noted {
            self.recharge();
            self.note_end(hash, end);
        }
        is_noted
    }

    /// Forgets a connection of the front end that asks.
    pub(super) fn remove(&mut self, hash: KeyHash, conn: ConnId) {
        let asking = self.asking.as_ref().map(Arc::as_ptr);
        let is_he =
            |watcher: &Watcher| watcher.conn == conn && watcher.home.as_ref().map(Arc::as_ptr) == asking;
        self.notes.remove(hash, is_he);
        self.recharge();
    }

    /// An item that somebody may wait for ends at `end` from here on. Of two under one hash the first end counts.
    pub(super) fn note_end(&mut self, hash: KeyHash, end: UnixSeconds) {
        if end == 0 {
            return;
        }
        let Some(noted) = self.notes.end_mut(hash) else { return };
        *noted = if *noted == 0 { end } else { end.min(*noted) };
        self.next_end = self.next_end.min(*noted);
    }

    /// Something under a hash has changed.
    #[cold]
    pub(super) fn wake(&mut self, hash: KeyHash) {
        self.notes.take(hash, &mut self.woken);
        self.recharge();
    }

    /// The same where an item's time has come.
    pub(super) fn wake_ended(&mut self, now: UnixSeconds) {
        if self.next_end > now {
            return;
        }
        let over: Vec<_> = self.notes.ends().filter(|(_, end)| *end <= now).map(|(hash, _)| hash).collect();
        for hash in over {
            self.wake(hash);
        }
        self.next_end = self.notes.ends().map(|(_, end)| end).min().unwrap_or(UnixSeconds::MAX);
    }

    /// Everything has changed.
    pub(super) fn wake_all(&mut self) {
        self.notes.take_all(&mut self.woken);
        self.next_end = UnixSeconds::MAX;
        self.recharge();
    }

    /// Some of those that were woken, `limit` at most.
    pub(super) fn take_woken(&mut self, limit: usize) -> impl Iterator<Item = Watcher> {
        self.woken.drain(self.woken.len().saturating_sub(limit)..)
    }

    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    fn recharge(&mut self) {
        self.charge.set(self.notes.count() * WATCHER_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WATCHERS_PER_KEY_MAX;

    /// Of a watcher's part of the memory.
    const NOTE_BYTES: usize = 46;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 0 }
    }

    fn slots(watch: &mut Watch) -> Vec<u32> {
        let mut slots: Vec<_> = watch.take_woken(usize::MAX).map(|watcher| watcher.conn.slot).collect();
        slots.sort_unstable();
        slots
    }

    fn watch() -> Watch {
        Watch::new(&Arc::new(Meter::default()))
    }

    #[test]
    fn a_change_wakes_all_that_wait_for_it_once_and_nobody_else() {
        let mut watch = watch();
        for (hash, slot) in [(1, 10), (1, 11), (2, 20)] {
            assert!(watch.add(KeyHash(hash), conn(slot), 0));
        }
        watch.wake(KeyHash(3));
        assert!(!watch.has_woken());
        watch.wake(KeyHash(1));
        assert_eq!(slots(&mut watch), [10, 11]);
        watch.wake(KeyHash(1));
        assert!(!watch.has_woken() && !watch.is_empty());
        watch.wake_all();
        assert_eq!(slots(&mut watch), [20]);
        assert!(watch.is_empty());
    }

    #[test]
    fn the_end_of_an_item_wakes_when_it_comes_and_when_it_is_brought_forward() {
        let mut watch = watch();
        watch.add(KeyHash(1), conn(1), 100);
        watch.add(KeyHash(2), conn(2), 0);
        watch.add(KeyHash(3), conn(3), 300);
        watch.wake_ended(99);
        assert!(!watch.has_woken());
        watch.wake_ended(100);
        assert_eq!(slots(&mut watch), [1]);
        watch.note_end(KeyHash(3), 200);
        watch.note_end(KeyHash(2), 250);
        watch.wake_ended(200);
        assert_eq!(slots(&mut watch), [3]);
        watch.wake_ended(1000);
        assert_eq!(slots(&mut watch), [2]);
    }

    #[test]
    fn one_that_waits_no_longer_is_forgotten_and_another_front_ends_stays() {
        let (first, second) = (Arc::new(Home::nowhere()), Arc::new(Home::nowhere()));
        let mut watch = watch();
        for home in [&first, &second] {
            watch.asking = Some(Arc::clone(home));
            watch.add(KeyHash(1), conn(7), 0);
        }
        watch.asking = Some(first);
        watch.remove(KeyHash(1), conn(8));
        watch.remove(KeyHash(1), conn(7));
        watch.wake(KeyHash(1));
        let woken: Vec<_> = watch.take_woken(10).collect();
        assert!(woken.len() == 1 && Arc::ptr_eq(woken[0].home.as_ref().unwrap(), &second));
        assert!(watch.is_empty());
    }

    #[test]
    fn watchers_are_bounded_by_key_and_in_all_and_small() {
        let meter = Arc::new(Meter::default());
        let mut watch = Watch::new(&meter);
        for slot in 0..WATCHERS_PER_KEY_MAX as u32 {
            assert!(watch.add(KeyHash(0), conn(slot), 0));
        }
        assert!(!watch.add(KeyHash(0), conn(u32::MAX), 0));
        let mut hash = 1;
        while watch.add(KeyHash(hash), conn(hash), 0) {
            hash += 1;
        }
        assert_eq!((watch.count(), meter.bytes()), (WATCHERS_MAX, WATCHERS_MAX * WATCHER_BYTES));
        // Room for twice as many, as it is when it has just grown, is the worst; the rest is the front end's.
        let bytes = watch.notes.bytes();
        assert!(bytes <= 2 * WATCHERS_MAX * NOTE_BYTES, "{bytes}");
        watch.wake(KeyHash(0));
        assert_eq!(watch.take_woken(100).count(), 100);
        assert!(watch.has_woken(), "the rest comes later");
        watch.wake_all();
        assert_eq!(meter.bytes(), 0);
    }
}
