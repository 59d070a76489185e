//! The log: one mapping, cut into segments, filled with records.
//!
//! General allocators do not keep a memory limit once value sizes drift, because a page stays as long as one item on
//! it lives. Here memory is taken and given back a segment at a time. A record is appended to the open segment. Its
//! marks, its expiration and, for a counter, its digits and its CAS change in place. A record that ends becomes dead
//! bytes, and a segment with nothing but dead bytes is free.
//!
//! ```text
//!   by age:   oldest ────────────────────────────────> newest
//!             [ ..xx.x ]   [ x....x ]   [ ...xx. ]   [ ...|    ]   open
//!                 ^ cursor: what is evicted next         ^ what is appended next
//! ```
//! A free segment is warm while its pages are in memory, and cold after they were given back, or before they were
//! ever touched. Only the system's zero pages stand behind a cold one, so cold segments cost nothing.

use std::collections::BTreeMap;
use std::io;

use memmap2::{MmapMut, MmapOptions};
use zerocopy::{FromBytes, IntoBytes};

use crate::clock::UnixSeconds;
use crate::limits::{RECORDS_PER_SEGMENT_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENTS_AIM};
use crate::storage::record::{
    BLOCK_NUMBER_BYTES, DEAD, LARGE, RECORD_ALIGN, RECORD_HEADER_BYTES, RecordHeader, record_bytes,
};

/// Where a record lies: its offset in the log, counted in units of [`RECORD_ALIGN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(u64);

impl Address {
    /// The address so many units from the log's beginning. 40 bits of units are 8 TiB.
    #[must_use]
    pub fn from_units(units: u64) -> Self {
        debug_assert!(units < 1 << 40, "an address has 40 bits");
        Self(units)
    }

    /// Units from the log's beginning.
    #[must_use]
    pub fn units(self) -> u64 {
        self.0
    }

    fn from_bytes(offset: usize) -> Self {
        Self::from_units((offset / RECORD_ALIGN) as u64)
    }

    fn bytes(self) -> usize {
        self.0 as usize * RECORD_ALIGN
    }
}

/// A record in the log.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// What stands before the key.
    pub header: &'a RecordHeader,
    /// The key.
    pub key: &'a [u8],
    /// What stands behind it.
    pub value: Stored<'a>,
}

/// The value of a record.
#[derive(Debug, Clone, Copy)]
pub enum Stored<'a> {
    /// It lies in the log.
    Inline(&'a [u8]),
    /// It lies in the block of this number.
    Block(u32),
}

/// The log.
#[derive(Debug)]
pub struct Log {
    memory: MmapMut,
    segment_bytes: usize,
    segments: Vec<Segment>,
    /// The segments in use, by the order in which they were opened. The last one is open.
    by_age: BTreeMap<u64, u32>,
    warm: Vec<u32>,
    cold: Vec<u32>,
    opened_count: u64,
    cursor: Cursor,
}

#[derive(Debug, Clone, Copy, Default)]
struct Segment {
    opened: u64,
    opened_at: UnixSeconds,
    used: usize,
    live_bytes: usize,
    /// When the first of its items ends, at the earliest; 0 for never.
    first_ends: UnixSeconds,
}

impl Segment {
    /// Bytes of records that have ended. The room that no record has taken is not among them.
    fn dead_bytes(&self) -> usize {
        self.used - self.live_bytes
    }
}

/// How far the oldest segment has been evicted.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    opened: u64,
    offset: usize,
}

/// Bytes of a segment where the memory limit is `limit_bytes`.
#[must_use]
pub fn segment_bytes(limit_bytes: usize) -> usize {
    let aim = (limit_bytes / SEGMENTS_AIM).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    1 << aim.ilog2()
}

/// Whether an item lies in the log whole. A larger one keeps its value in a block.
#[must_use]
pub fn is_inline(key_len: usize, value_len: usize, limit_bytes: usize) -> bool {
    record_bytes(key_len, value_len) <= segment_bytes(limit_bytes) / RECORDS_PER_SEGMENT_MIN
}

impl Log {
    /// An empty log in a mapping of `limit_bytes`, none of which is in memory yet.
    ///
    /// # Errors
    /// Where the system does not give that much address space.
    pub fn new(limit_bytes: usize) -> io::Result<Self> {
        let segment_bytes = segment_bytes(limit_bytes);
        let count = (limit_bytes / segment_bytes).max(2);
        let memory = MmapOptions::new().len(count * segment_bytes).no_reserve_swap().map_anon()?;
        Ok(Self {
            memory,
            segment_bytes,
            segments: vec![Segment::default(); count],
            by_age: BTreeMap::new(),
            warm: Vec::new(),
            cold: (0..count as u32).rev().collect(),
            opened_count: 0,
            cursor: Cursor::default(),
        })
    }

    /// Bytes of a segment.
    #[must_use]
    pub fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Segments whose pages are in memory.
    #[must_use]
    pub fn resident_segments(&self) -> usize {
        self.segments.len() - self.cold.len()
    }

    /// Bytes in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.resident_segments() * self.segment_bytes
    }

    /// Segments that hold records.
    #[must_use]
    pub fn used_segments(&self) -> usize {
        self.by_age.len()
    }

    /// Free segments whose pages are in memory.
    #[must_use]
    pub fn warm_segments(&self) -> usize {
        self.warm.len()
    }

    /// Free segments besides `reserve` that can be used without taking more than `bytes_left`: a warm one takes no more
    /// memory, a cold one does.
    #[must_use]
    pub fn free_segments(&self, reserve: usize, bytes_left: usize) -> usize {
        let warm = self.warm.len().saturating_sub(reserve);
        let cold = self.cold.len().saturating_sub(reserve.saturating_sub(self.warm.len()));
        warm + cold.min(bytes_left / self.segment_bytes)
    }

    /// Free segments whose pages are not in memory.
    #[must_use]
    pub fn cold_segments(&self) -> usize {
        self.cold.len()
    }

    /// Bytes of live records in the log.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.by_age.values().map(|&id| self.segments[id as usize].live_bytes).sum()
    }

    /// When the oldest segment was opened.
    #[must_use]
    pub fn oldest_since(&self) -> Option<UnixSeconds> {
        let (_, &id) = self.by_age.first_key_value()?;
        Some(self.segments[id as usize].opened_at)
    }

    /// Whether the open segment has `bytes` left.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.open().is_some_and(|id| self.segments[id as usize].used + bytes <= self.segment_bytes)
    }

    /// Opens a free segment, a warm one if there is one. The segment that was open takes no more records.
    ///
    /// # Panics
    /// Where no segment is free.
    pub fn open_segment(&mut self, now: UnixSeconds) {
        self.seal();
        let id = self.warm.pop().or_else(|| self.cold.pop()).expect("a free segment");
        self.opened_count += 1;
        let opened = self.opened_count;
        self.segments[id as usize] = Segment { opened, opened_at: now, ..Segment::default() };
        self.by_age.insert(opened, id);
    }

    /// A segment some of whose items may have ended by `now`, with the number of its opening. It is not due again until
    /// somebody [notes](Self::note_expiration) when its items end.
    pub fn take_due(&mut self, now: UnixSeconds) -> Option<(u64, u32)> {
        let is_due = |id: u32| (1..=now).contains(&self.segments[id as usize].first_ends);
        let (&opened, &id) = self.by_age.iter().find(|(_, id)| is_due(**id))?;
        self.segments[id as usize].first_ends = 0;
        Some((opened, id))
    }

    /// The segment with this number of its opening, if it is still in use.
    #[must_use]
    pub fn segment_opened(&self, opened: u64) -> Option<u32> {
        self.by_age.get(&opened).copied()
    }

    /// Sets when the item at `at` ends, 0 for never.
    pub fn set_expiration(&mut self, at: Address, expiration: UnixSeconds) {
        self.header_mut(at).set_expiration(expiration);
        self.note_expiration(at);
    }

    /// Lets its segment know when the item at `at` ends.
    pub fn note_expiration(&mut self, at: Address) {
        let ends = self.header(at).expiration();
        let first_ends = &mut self.segments[at.bytes() / self.segment_bytes].first_ends;
        if ends != 0 && (*first_ends == 0 || ends < *first_ends) {
            *first_ends = ends;
        }
    }

    /// Gives back the pages of a warm segment. Says whether there was one.
    pub fn cool(&mut self) -> bool {
        let Some(id) = self.warm.pop() else { return false };
        self.give_back_pages(id);
        self.cold.push(id);
        true
    }

    /// Frees the open segment if nothing in it lives. Says whether that made a segment free.
    pub fn free_open_segment_if_dead(&mut self) -> bool {
        let free = self.warm.len();
        self.seal();
        self.warm.len() > free
    }

    /// Appends a record whose value lies inline.
    ///
    /// # Panics
    /// Where the open segment has no room for it.
    pub fn append(&mut self, header: &RecordHeader, key: &[u8], value: &[u8]) -> Address {
        let bytes = header.record_bytes();
        let offset = self.take_room(bytes);
        let mut room = &mut self.memory[offset..offset + bytes];
        for part in [header.as_bytes(), key, value] {
            let (to, behind) = room.split_at_mut(part.len());
            to.copy_from_slice(part);
            room = behind;
        }
        let at = Address::from_bytes(offset);
        self.note_expiration(at);
        at
    }

    /// Appends a record whose value lies in a block. The header is marked [`LARGE`].
    ///
    /// # Panics
    /// Where the open segment has no room for it.
    pub fn append_large(&mut self, header: &RecordHeader, key: &[u8], block: u32) -> Address {
        debug_assert!(header.is(LARGE), "a record with a block is marked");
        self.append(header, key, &block.to_be_bytes())
    }

    /// The record at `at`.
    ///
    /// # Panics
    /// Where the log has no record there, as for every address that the index does not hold.
    #[must_use]
    pub fn record(&self, at: Address) -> Record<'_> {
        let (header, behind) = header_at(&self.memory, at.bytes());
        let (key, behind) = behind.split_at(header.key_len());
        let value = if header.is(LARGE) {
            let (number, _) = behind.split_first_chunk::<BLOCK_NUMBER_BYTES>().expect("a block number");
            Stored::Block(u32::from_be_bytes(*number))
        } else {
            Stored::Inline(&behind[..header.value_len()])
        };
        Record { header, key, value }
    }

    /// The header of the record at `at`.
    #[must_use]
    pub fn header(&self, at: Address) -> &RecordHeader {
        header_at(&self.memory, at.bytes()).0
    }

    /// The key of the record at `at`.
    #[must_use]
    pub fn key(&self, at: Address) -> &[u8] {
        let (header, behind) = header_at(&self.memory, at.bytes());
        &behind[..header.key_len()]
    }

    /// The header of the record at `at`, to be changed.
    ///
    /// # Panics
    /// Where the log has no record there.
    pub fn header_mut(&mut self, at: Address) -> &mut RecordHeader {
        let (header, _) =
            RecordHeader::mut_from_prefix(&mut self.memory[at.bytes()..]).expect("a record has a header");
        header
    }

    /// The value of the record at `at`, to be changed in place.
    pub fn inline_value_mut(&mut self, at: Address) -> &mut [u8] {
        let header = *self.header(at);
        debug_assert!(!header.is(LARGE), "a block does not change");
        let start = at.bytes() + RECORD_HEADER_BYTES + header.key_len();
        &mut self.memory[start..start + header.value_len()]
    }

    /// Ends a record. A segment in which nothing lives any more is free.
    ///
    /// # Panics
    /// Where the record has ended before.
    pub fn end(&mut self, at: Address) {
        let header = self.header_mut(at);
        assert!(!header.is(DEAD), "a record ends once");
        header.mark(DEAD);
        let bytes = header.record_bytes();
        let id = (at.bytes() / self.segment_bytes) as u32;
        self.segments[id as usize].live_bytes -= bytes;
        if self.open() != Some(id) {
            self.free_if_dead(id);
        }
    }

    /// The segment, other than the open one, with the most dead bytes, if these are `dead_bytes_min` at least.
    #[must_use]
    pub fn deadest(&self, dead_bytes_min: usize) -> Option<u32> {
        let open = self.open();
        let closed = self.by_age.values().copied().filter(|id| Some(*id) != open);
        let deadest = closed.max_by_key(|id| self.segments[*id as usize].dead_bytes())?;
        (self.segments[deadest as usize].dead_bytes() >= dead_bytes_min).then_some(deadest)
    }

    /// The first live record of a segment.
    #[must_use]
    pub fn first_live(&self, segment: u32) -> Option<Address> {
        self.live_from(segment, 0)
    }

    /// The first live record of a segment behind the one at `at`.
    #[must_use]
    pub fn next_live(&self, segment: u32, at: Address) -> Option<Address> {
        let offset = at.bytes() - segment as usize * self.segment_bytes;
        self.live_from(segment, offset + self.header(at).record_bytes())
    }

    /// The first live record of a segment from `offset` on.
    fn live_from(&self, segment: u32, mut offset: usize) -> Option<Address> {
        let base = segment as usize * self.segment_bytes;
        while offset < self.segments[segment as usize].used {
            let at = Address::from_bytes(base + offset);
            let header = self.header(at);
            if !header.is(DEAD) {
                return Some(at);
            }
            offset += header.record_bytes();
        }
        None
    }

    /// Appends a copy of the record at `at`. That one is to be [ended](Self::end).
    ///
    /// # Panics
    /// Where the open segment has no room for it.
    pub fn append_copy(&mut self, at: Address) -> Address {
        let bytes = self.header(at).record_bytes();
        let offset = self.take_room(bytes);
        self.memory.copy_within(at.bytes()..at.bytes() + bytes, offset);
        let copy = Address::from_bytes(offset);
        self.note_expiration(copy);
        copy
    }

    /// The live record that was written first.
    pub fn oldest(&mut self) -> Option<Address> {
        let (&opened, &id) = self.by_age.first_key_value()?;
        if self.cursor.opened != opened {
            self.cursor = Cursor { opened, offset: 0 };
        }
        let live = self.live_from(id, self.cursor.offset);
        let end = self.segments[id as usize].used;
        self.cursor.offset = live.map_or(end, |at| at.bytes() - id as usize * self.segment_bytes);
        live
    }

    /// The offset of `bytes` at the end of the open segment, which are then taken.
    fn take_room(&mut self, bytes: usize) -> usize {
        assert!(self.has_room(bytes), "room is made before a record is appended");
        let id = self.open().expect("the segment that has room");
        let segment = &mut self.segments[id as usize];
        let offset = id as usize * self.segment_bytes + segment.used;
        segment.used += bytes;
        segment.live_bytes += bytes;
        offset
    }

    fn open(&self) -> Option<u32> {
        Some(*self.by_age.last_key_value()?.1)
    }

    fn seal(&mut self) {
        if let Some(id) = self.open() {
            self.free_if_dead(id);
        }
    }

    fn free_if_dead(&mut self, id: u32) {
        let segment = self.segments[id as usize];
        if segment.live_bytes == 0 {
            self.by_age.remove(&segment.opened);
            self.warm.push(id);
        }
    }

    #[expect(unsafe_code, reason = "the safe advices do not give pages back")]
    fn give_back_pages(&mut self, id: u32) {
        let (start, len) = (id as usize * self.segment_bytes, self.segment_bytes);
        // SAFETY: `&mut self` says that nobody looks at the range; the mapping is private and anonymous, so the
        // pages read as zeros afterwards, and any byte is a valid byte.
        let advised =
            unsafe { self.memory.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
        // The range is page-aligned and inside of the mapping; the system has no reason to refuse.
        debug_assert!(advised.is_ok(), "{advised:?}");
    }
}

fn header_at(memory: &[u8], offset: usize) -> (&RecordHeader, &[u8]) {
    RecordHeader::ref_from_prefix(&memory[offset..]).expect("a record has a header")
}

#[cfg(test)]
mod tests {
    use wire::Cas;

    use super::*;
    use crate::message::KeyHash;
    use crate::storage::record::Meta;

    const LIMIT: usize = 256 << 10;

    fn header(key_len: usize, value_len: usize, marks: u16) -> RecordHeader {
        let meta = Meta { hash: KeyHash(1), cas: Cas::from_wire(1).unwrap(), flags: 0, expiration: 0 };
        RecordHeader::new(&meta, key_len, value_len, marks)
    }

    fn append(log: &mut Log, value: &[u8]) -> Address {
        let header = header(1, value.len(), 0);
        if !log.has_room(header.record_bytes()) {
            log.open_segment(0);
        }
        log.append(&header, b"k", value)
    }

    #[test]
    fn records_read_as_they_were_written() {
        let mut log = Log::new(LIMIT).unwrap();
        let first = append(&mut log, b"first");
        let second = log.append(&header(3, 5, 0), b"key", b"abcde");
        let large = log.append_large(&header(3, 1 << 20, LARGE), b"big", 7);
        assert!(matches!(log.record(first).value, Stored::Inline(b"first")));
        let record = log.record(second);
        assert_eq!(record.key, b"key");
        assert!(matches!(record.value, Stored::Inline(b"abcde")));
        assert!(matches!(log.record(large).value, Stored::Block(7)));
    }

    #[test]
    fn a_segment_is_free_when_its_last_record_ends() {
        let mut log = Log::new(LIMIT).unwrap();
        let value = vec![0; 20_000];
        let records: Vec<_> = (0..9).map(|_| append(&mut log, &value)).collect();
        assert_eq!((log.used_segments(), log.warm_segments(), log.cold_segments()), (3, 0, 1));
        for &at in &records[3..6] {
            log.end(at);
        }
        assert_eq!((log.used_segments(), log.warm_segments()), (2, 1));
        assert_eq!(log.live_bytes(), 6 * 20_040);
        assert!(log.cool());
        assert_eq!((log.warm_segments(), log.cold_segments(), log.resident_bytes()), (0, 2, 128 << 10));
        assert!(!log.cool());
    }

    #[test]
    fn the_oldest_live_record_is_found_across_segments() {
        let mut log = Log::new(LIMIT).unwrap();
        let value = vec![0; 20_000];
        let records: Vec<_> = (0..7).map(|_| append(&mut log, &value)).collect();
        log.end(records[1]);
        for at in [0, 2, 3, 4, 5, 6] {
            assert_eq!(log.oldest(), Some(records[at]));
            log.end(records[at]);
        }
        assert_eq!(log.oldest(), None);
        assert!(log.free_open_segment_if_dead());
        assert_eq!((log.used_segments(), log.warm_segments()), (0, 3));
    }

    #[test]
    fn segments_are_powers_of_two_within_their_bounds() {
        for (limit, bytes) in
            [(1 << 20, 64 << 10), (64 << 20, 64 << 10), (200 << 20, 128 << 10), (8 << 30, 1 << 20)]
        {
            assert_eq!(segment_bytes(limit), bytes);
        }
    }
}
