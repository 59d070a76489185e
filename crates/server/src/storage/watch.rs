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

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::clock::UnixSeconds;
use crate::hop::Home;
use crate::limits::{WATCHER_BYTES, WATCHERS_MAX, WATCHERS_PER_KEY_MAX};
use crate::message::{ConnId, KeyHash};
use crate::meter::{Charge, Meter, Use};

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
    keys: HashMap<KeyHash, Watched, FixedState>,
    count: usize,
    /// No item that somebody waits for ends earlier.
    next_end: UnixSeconds,
    /// The front end whose batch is executed.
    pub(super) asking: Option<Arc<Home>>,
    woken: Vec<Watcher>,
    charge: Charge,
}

#[derive(Debug)]
struct Watched {
    watchers: Vec<Watcher>,
    /// When the item ends, 0 for never.
    end: UnixSeconds,
}

impl Watch {
    pub(super) fn new(meter: &Arc<Meter>) -> Self {
        Self {
            keys: HashMap::with_hasher(FixedState::default()),
            count: 0,
            next_end: UnixSeconds::MAX,
            asking: None,
            woken: Vec::new(),
            charge: Charge::new(meter, Use::Working),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Notes that a connection waits for a change of an item that ends at `end`, 0 for never. Says whether there is room
    /// for it.
    pub(super) fn add(&mut self, hash: KeyHash, conn: ConnId, end: UnixSeconds) -> bool {
        if self.count >= WATCHERS_MAX {
            return false;
        }
        let watched =
            self.keys.entry(hash).or_insert_with(|| Watched { watchers: Vec::with_capacity(1), end });
        if watched.watchers.len() >= WATCHERS_PER_KEY_MAX {
            return false;
        }
        watched.watchers.push(Watcher { conn, home: self.asking.clone() });
        self.recount(self.count + 1);
        self.note_end(hash, end);
        true
    }

    /// Forgets a connection of the front end that asks.
    pub(super) fn remove(&mut self, hash: KeyHash, conn: ConnId) {
        let Some(watched) = self.keys.get_mut(&hash) else { return };
        let before = watched.watchers.len();
        let asking = self.asking.as_ref().map(Arc::as_ptr);
        watched
            .watchers
            .retain(|watcher| watcher.conn != conn || watcher.home.as_ref().map(Arc::as_ptr) != asking);
        let removed = before - watched.watchers.len();
        if watched.watchers.is_empty() {
            self.keys.remove(&hash);
        }
        self.recount(self.count - removed);
    }

    /// An item that somebody may wait for ends at `end` from here on. Of two under one hash the first end counts.
    pub(super) fn note_end(&mut self, hash: KeyHash, end: UnixSeconds) {
        let Some(watched) = self.keys.get_mut(&hash).filter(|_| end != 0) else { return };
        watched.end = if watched.end == 0 { end } else { watched.end.min(end) };
        self.next_end = self.next_end.min(watched.end);
    }

    /// Something under a hash has changed.
    pub(super) fn wake(&mut self, hash: KeyHash) {
        if let Some(watched) = self.keys.remove(&hash) {
            self.recount(self.count - watched.watchers.len());
            self.woken.extend(watched.watchers);
        }
    }

    /// The same where an item's time has come.
    pub(super) fn wake_ended(&mut self, now: UnixSeconds) {
        if self.next_end > now {
            return;
        }
        let is_over = |watched: &Watched| watched.end != 0 && watched.end <= now;
        let over: Vec<_> =
            self.keys.iter().filter(|(_, watched)| is_over(watched)).map(|(hash, _)| *hash).collect();
        for hash in over {
            self.wake(hash);
        }
        let ends = self.keys.values().map(|watched| watched.end).filter(|end| *end != 0);
        self.next_end = ends.min().unwrap_or(UnixSeconds::MAX);
    }

    /// Everything has changed.
    pub(super) fn wake_all(&mut self) {
        self.woken.extend(self.keys.drain().flat_map(|(_, watched)| watched.watchers));
        self.next_end = UnixSeconds::MAX;
        self.recount(0);
    }

    /// Some of those that were woken, `limit` at most.
    pub(super) fn take_woken(&mut self, limit: usize) -> impl Iterator<Item = Watcher> {
        self.woken.drain(self.woken.len().saturating_sub(limit)..)
    }

    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    fn recount(&mut self, count: usize) {
        self.count = count;
        self.charge.set(count * WATCHER_BYTES);
        if count == 0 {
            self.keys.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((watch.count, meter.bytes()), (WATCHERS_MAX, WATCHERS_MAX * WATCHER_BYTES));
        let entry_bytes = size_of::<(KeyHash, Watched)>() + 1;
        let lists: usize = watch.keys.values().map(|watched| watched.watchers.capacity()).sum();
        let bytes = watch.keys.capacity() * 8 / 7 * entry_bytes + lists * size_of::<Watcher>();
        assert!(bytes / watch.count < 200 && WATCHER_BYTES < 200, "{bytes} for {}", watch.count);
        watch.wake(KeyHash(0));
        assert_eq!(watch.take_woken(100).count(), 100);
        assert!(watch.has_woken(), "the rest comes later");
        watch.wake_all();
        assert_eq!(meter.bytes(), 0);
    }
}
