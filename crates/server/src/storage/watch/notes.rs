//! The notes of who waits: 32 bytes each in one row, and 5 bytes in a table that finds them.
//!
//! The table knows the first note under a hash, which knows the next one. A row that grows leaves nothing behind, as
//! lists and a table of whole notes would: the allocator keeps what they have outgrown.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Watcher;
use crate::clock::UnixSeconds;
use crate::limits::WATCHERS_PER_KEY_MAX;
use crate::message::KeyHash;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Notes {
    first: HashTable<u32>,
    row: Vec<Note>,
    /// The first place that nobody has, and behind the row's end if there is none.
    free: u32,
    count: usize,
}

#[derive(Debug)]
struct Note {
    watcher: Watcher,
    hash: KeyHash,
    /// The next one under this hash, or the next free place. [`NONE`] behind the last.
    next: u32,
    /// Of the first one: when the item ends, 0 for never.
    end: UnixSeconds,
    /// Of the first one: how many there are under this hash.
    count: u32,
}

const _: () = assert!(size_of::<Note>() <= 32, "a note stays small");

const NONE: u32 = u32::MAX;

impl Notes {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Notes who waits for an item that ends at `end`, 0 for never, unless too many wait for that.
    pub(super) fn insert(&mut self, hash: KeyHash, watcher: Watcher, end: UnixSeconds) -> bool {
        let at = self.place();
        let Self { first, row, .. } = self;
        let mut note = Note { watcher, hash, next: NONE, end, count: 1 };
        match first.entry(spread(hash), |at| is_of(row, *at, hash), |at| spread(row[*at as usize].hash)) {
            Entry::Vacant(place) => {
                place.insert(at);
            }
            Entry::Occupied(first) => {
                let first = &mut row[*first.get() as usize];
                if first.count as usize >= WATCHERS_PER_KEY_MAX {
                    return false;
                }
                first.count += 1;
                note.next = std::mem::replace(&mut first.next, at);
            }
        }
        self.put(at, note);
        true
    }

    /// Takes all notes under a hash.
    pub(super) fn take(&mut self, hash: KeyHash, taken: &mut Vec<Watcher>) {
        let Self { first, row, .. } = self;
        let Ok(entry) = first.find_entry(spread(hash), |at| is_of(row, *at, hash)) else { return };
        let (at, _) = entry.remove();
        self.take_chain(at, taken);
        self.forget_room();
    }

    /// Takes all notes.
    pub(super) fn take_all(&mut self, taken: &mut Vec<Watcher>) {
        for at in std::mem::take(&mut self.first) {
            self.take_chain(at, taken);
        }
        self.forget_room();
    }

    /// Forgets those under a hash for whom `leaves` holds.
    pub(super) fn remove(&mut self, hash: KeyHash, leaves: impl Fn(&Watcher) -> bool) {
        let Self { first, row, .. } = self;
        let Ok(mut entry) = first.find_entry(spread(hash), |at| is_of(row, *at, hash)) else { return };
        let Note { end, count, .. } = row[*entry.get() as usize];
        let (mut at, mut left) = (*entry.get(), Vec::new());
        let (mut new_first, mut last) = (NONE, NONE);
        while at != NONE {
            let next = row[at as usize].next;
            if leaves(&row[at as usize].watcher) {
                left.push(at);
            } else {
                match row.get_mut(last as usize) {
                    Some(last) => last.next = at,
                    None => new_first = at,
                }
                last = at;
            }
            at = next;
        }
        if new_first == NONE {
            entry.remove();
        } else {
            *entry.get_mut() = new_first;
            row[last as usize].next = NONE;
            row[new_first as usize].end = end;
            row[new_first as usize].count = count - left.len() as u32;
        }
        for at in left {
            self.free(at);
        }
        self.forget_room();
    }

    /// When the item ends that is waited for under a hash, if one is.
    pub(super) fn end_mut(&mut self, hash: KeyHash) -> Option<&mut UnixSeconds> {
        let Self { first, row, .. } = self;
        let at = *first.find(spread(hash), |at| is_of(row, *at, hash))?;
        Some(&mut row[at as usize].end)
    }

    /// What is waited for, and when it ends.
    pub(super) fn ends(&self) -> impl Iterator<Item = (KeyHash, UnixSeconds)> {
        let first = self.first.iter().map(|at| &self.row[*at as usize]);
        first.filter(|note| note.end != 0).map(|note| (note.hash, note.end))
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.row.capacity() * size_of::<Note>() + self.first.allocation_size()
    }

    /// A place that nobody has.
    fn place(&mut self) -> u32 {
        if self.free as usize >= self.row.len() { self.row.len() as u32 } else { self.free }
    }

    fn put(&mut self, at: u32, note: Note) {
        self.count += 1;
        if let Some(place) = self.row.get_mut(at as usize) {
            self.free = place.next;
            *place = note;
        } else {
            self.row.push(note);
            self.free = NONE;
        }
    }

    fn take_chain(&mut self, mut at: u32, taken: &mut Vec<Watcher>) {
        while at != NONE {
            let next = self.row[at as usize].next;
            taken.push(self.free(at));
            at = next;
        }
    }

    fn free(&mut self, at: u32) -> Watcher {
        self.count -= 1;
        let note = &mut self.row[at as usize];
        note.next = std::mem::replace(&mut self.free, at);
        Watcher { conn: note.watcher.conn, home: note.watcher.home.take() }
    }

    fn forget_room(&mut self) {
        if self.count == 0 {
            *self = Self::default();
        }
    }
}

fn is_of(row: &[Note], at: u32, hash: KeyHash) -> bool {
    row[at as usize].hash == hash
}

/// The table looks at both ends of 64 bits.
fn spread(KeyHash(hash): KeyHash) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::message::ConnId;

    fn watcher(slot: u32) -> Watcher {
        Watcher { conn: ConnId { slot, generation: 0 }, home: None }
    }

    fn slots(watchers: &[Watcher]) -> Vec<u32> {
        let mut slots: Vec<_> = watchers.iter().map(|watcher| watcher.conn.slot).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn notes_are_those_of_a_map_of_lists_whatever_comes_and_goes() {
        let (mut notes, mut map) = (Notes::default(), HashMap::<u32, Vec<u32>>::new());
        let mut state = 1_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % bound) as u32
        };
        for step in 0..20_000 {
            let hash = below(8);
            match below(20) {
                0 => {
                    let mut taken = Vec::new();
                    notes.take(KeyHash(hash), &mut taken);
                    assert_eq!(slots(&taken), map.remove(&hash).unwrap_or_default());
                }
                1..8 => {
                    let gone = below(30);
                    notes.remove(KeyHash(hash), |watcher| watcher.conn.slot % 30 == gone);
                    let list = map.entry(hash).or_default();
                    list.retain(|slot| slot % 30 != gone);
                    if list.is_empty() {
                        map.remove(&hash);
                    }
                }
                _ => {
                    assert!(notes.insert(KeyHash(hash), watcher(step), step));
                    map.entry(hash).or_default().push(step);
                }
            }
            assert_eq!(notes.count(), map.values().map(Vec::len).sum::<usize>());
            assert_eq!(notes.first.len(), map.len());
        }
        assert!(notes.row.len() < 2000, "places are taken again: {}", notes.row.len());
        let mut taken = Vec::new();
        notes.take_all(&mut taken);
        let mut all: Vec<_> = map.into_values().flatten().collect();
        all.sort_unstable();
        assert_eq!((slots(&taken), notes.count()), (all, 0));
    }
}
