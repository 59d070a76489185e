//! The log: one mapping, cut into segments, filled with records.
//!
//! General allocators do not keep a memory limit once value sizes drift, because a page stays as long as one item on
//! it lives. Here memory is taken and given back a segment at a time. A record is appended to the open segment of its
//! queue. Its marks, its expiration and, where it keeps its size, its value change in place. A record that ends becomes
//! dead bytes, and a segment with nothing but dead bytes is free.
//!
//! ```text
//!              oldest ──────────────────────────────> newest
//!   small:     [ ..xx.x ]   [ x....x ]   [ ...|    ]   open: what is appended next
//!   main:      [ x...x. ]   [ ....xx ]   [ .x...x ]   [ ..|     ]   open
//!   free:      [        ]   warm          [        ]   cold         [ xxxxxx ]   lent
//! ```
//! Whoever changes a record says where it lies by an address that the index holds: that is what the safety of the
//! unsafe blocks below rests on, so nobody outside of `storage` can.
//!
//! A free segment is warm while its pages are in memory, and cold after they were given back, or before they were
//! ever touched. Only the system's zero pages stand behind a cold one, so cold segments cost nothing. One that is
//! still lent when its last record ends waits until nobody looks at it any more.

mod pages;
pub mod record;

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use zerocopy::{FromBytes, IntoBytes};

use crate::clock::UnixSeconds;
use crate::limits::{
    LENT_BYTES_MIN, RECORDS_PER_SEGMENT_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENTS_AIM,
};
use crate::storage::block::page_bytes;
use pages::Pages;
use record::{
    BLOCK_NUMBER_BYTES, DEAD, LARGE, OWN_CAS, OWN_CAS_BYTES, RECORD_ALIGN, RECORD_HEADER_BYTES, RecordHeader,
    record_bytes,
};

/// Where a record lies: its offset in the log, counted in units of [`RECORD_ALIGN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(u64);

impl Address {
    /// The address so many units from the log's beginning. 40 bits of units are 8 TiB.
    #[must_use]
    pub(in crate::storage) fn from_units(units: u64) -> Self {
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

/// Which of the two queues a segment stands in; see `eviction` for what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Where items come in.
    Small,
    /// Where items stay that were asked for again.
    Main,
}

impl Queue {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Small, Self::Main];
}

/// The log.
#[derive(Debug)]
pub struct Log {
    pages: Pages,
    /// A power of two.
    segment_bytes: usize,
    segments: Vec<Segment>,
    small: Line,
    main: Line,
    warm: Vec<u32>,
    cold: Vec<u32>,
    lent: Vec<u32>,
    opened_count: u64,
    live_bytes: usize,
    poisons: bool,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Which opening of a segment this was, 0 for a free one.
    opened: u64,
    opened_at: UnixSeconds,
    used: u32,
    live_bytes: u32,
    /// When the first of its items ends, at the earliest; 0 for never.
    first_ends: UnixSeconds,
    /// When it was last looked through for items that have ended.
    swept_at: UnixSeconds,
    queue: Queue,
}

impl Segment {
    const FREE: Self = Self {
        opened: 0,
        opened_at: 0,
        used: 0,
        live_bytes: 0,
        first_ends: 0,
        swept_at: 0,
        queue: Queue::Small,
    };

    /// Bytes of records that have ended. The room that no record has taken is not among them.
    fn dead_bytes(&self) -> usize {
        (self.used - self.live_bytes) as usize
    }
}

/// The segments of a queue.
#[derive(Debug, Default)]
struct Line {
    /// By the order in which they were opened.
    by_age: BTreeMap<u64, u32>,
    /// The one that takes records.
    open: Option<u32>,
    /// Bytes of blocks that its records stand for.
    block_bytes: usize,
    record_count: usize,
}

/// A way through a segment, record by record, that ends when the segment is free or used anew.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    segment: u32,
    opened: u64,
    offset: usize,
}

impl Walk {
    /// How far it has come.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// What a queue holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueueFigures {
    /// Segments in it.
    pub segments: usize,
    /// Records in it that have not ended.
    pub records: usize,
    /// Bytes of blocks that they stand for.
    pub block_bytes: usize,
    /// Bytes of the records.
    pub live_bytes: usize,
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
    is_inline_in(segment_bytes(limit_bytes), key_len, value_len)
}

fn is_inline_in(segment_bytes: usize, key_len: usize, value_len: usize) -> bool {
    record_bytes(key_len, value_len) <= segment_bytes / RECORDS_PER_SEGMENT_MIN
}

/// Segments: taking and giving back.
impl Log {
    /// An empty log in a mapping of `limit_bytes`, none of which is in memory yet.
    ///
    /// # Errors
    /// Where the system does not give that much address space.
    pub fn new(limit_bytes: usize) -> io::Result<Self> {
        let segment_bytes = segment_bytes(limit_bytes);
        let count = (limit_bytes / segment_bytes).max(2);
        Ok(Self {
            pages: Pages::new(segment_bytes, count)?,
            segment_bytes,
            segments: vec![Segment::FREE; count],
            small: Line::default(),
            main: Line::default(),
            warm: Vec::new(),
            cold: (0..count as u32).rev().collect(),
            lent: Vec::new(),
            opened_count: 0,
            live_bytes: 0,
            poisons: false,
        })
    }

    /// From here on what is free is overwritten, so that whoever still looks at it sees nonsense. For tests.
    pub fn poison_what_is_free(&mut self) {
        self.poisons = true;
    }

    /// Bytes of a segment.
    #[must_use]
    pub fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Whether an item lies in this log whole; see [`is_inline`].
    #[must_use]
    #[inline]
    pub fn is_inline(&self, key_len: usize, value_len: usize) -> bool {
        is_inline_in(self.segment_bytes, key_len, value_len)
    }

    /// Segments there are, free or not.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
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
        self.small.by_age.len() + self.main.by_age.len()
    }

    /// Free segments whose pages are in memory.
    #[must_use]
    pub fn warm_segments(&self) -> usize {
        self.warm.len()
    }

    /// Whether any segment is free, in reserve or not.
    #[must_use]
    pub fn has_free_segment(&self) -> bool {
        !(self.warm.is_empty() && self.cold.is_empty())
    }

    /// Segments without an item that somebody still looks at.
    #[must_use]
    pub fn lent_segments(&self) -> usize {
        self.lent.len()
    }

    /// Free segments besides `reserve` that can be used without taking more than `bytes_left`: a warm one takes no more
    /// memory, a cold one does.
    #[must_use]
    #[inline]
    pub fn free_segments(&self, reserve: usize, bytes_left: usize) -> usize {
        let warm = self.warm.len().saturating_sub(reserve);
        let cold = self.cold.len().saturating_sub(reserve.saturating_sub(self.warm.len()));
        warm + cold.min(bytes_left >> self.segment_bytes.trailing_zeros())
    }

    /// Bytes of live records in the log.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// What a queue holds.
    #[must_use]
    pub fn queue_figures(&self, queue: Queue) -> QueueFigures {
        let line = self.line(queue);
        QueueFigures {
            segments: line.by_age.len(),
            records: line.record_count,
            block_bytes: line.block_bytes,
            live_bytes: line.by_age.values().map(|&id| self.segments[id as usize].live_bytes as usize).sum(),
        }
    }

    /// Bytes of the blocks that a queue's records stand for.
    #[must_use]
    pub fn block_bytes_of(&self, queue: Queue) -> usize {
        self.line(queue).block_bytes
    }

    /// Memory that a queue takes, values in blocks included.
    #[must_use]
    pub fn queue_bytes(&self, queue: Queue) -> usize {
        let line = self.line(queue);
        line.by_age.len() * self.segment_bytes + line.block_bytes
    }

    /// How many segments in use have up to a quarter, a half, three quarters, and all of their bytes alive.
    #[must_use]
    pub fn segments_by_live_quarter(&self) -> [usize; 4] {
        let mut quarters = [0; 4];
        for segment in self.segments.iter().filter(|segment| segment.opened != 0) {
            let quarter = segment.live_bytes as usize * 4 / (self.segment_bytes + 1);
            quarters[quarter] += 1;
        }
        quarters
    }

    /// When the oldest segment of a queue was opened.
    #[must_use]
    pub fn oldest_since(&self, queue: Queue) -> Option<UnixSeconds> {
        let (_, &id) = self.line(queue).by_age.first_key_value()?;
        Some(self.segments[id as usize].opened_at)
    }

    /// Whether the open segment of a queue has `bytes` left.
    #[must_use]
    #[inline]
    pub fn has_room(&self, queue: Queue, bytes: usize) -> bool {
        self.line(queue)
            .open
            .is_some_and(|id| self.segments[id as usize].used as usize + bytes <= self.segment_bytes)
    }

    /// Opens a free segment for a queue, a warm one if there is one. The segment that was open takes no more records.
    /// Says whether there was one.
    pub fn open_segment(&mut self, queue: Queue, now: UnixSeconds) -> bool {
        let Some(id) = self.warm.pop().or_else(|| self.cold.pop()) else { return false };
        self.seal(queue);
        self.opened_count += 1;
        let opened = self.opened_count;
        self.segments[id as usize] = Segment { opened, opened_at: now, queue, ..Segment::FREE };
        let line = self.line_mut(queue);
        line.by_age.insert(opened, id);
        line.open = Some(id);
        true
    }

    /// Closes the open segment of a queue; it is free if nothing in it lives.
    pub fn seal(&mut self, queue: Queue) {
        if let Some(id) = self.line_mut(queue).open.take() {
            self.free_if_dead(id);
        }
    }

    /// Looks whether what is lent has come back. Says whether a segment is free because of it.
    pub fn take_back(&mut self) -> bool {
        let waiting = self.lent.len();
        for at in (0..waiting).rev() {
            if !self.pages.is_lent(self.lent[at] as usize) {
                let id = self.lent.swap_remove(at);
                self.free(id);
            }
        }
        self.lent.len() < waiting
    }

    /// Gives back the pages of a warm segment. Says whether there was one.
    #[expect(unsafe_code, reason = "see pages")]
    pub fn cool(&mut self) -> bool {
        let Some(id) = self.warm.pop() else { return false };
        // SAFETY: a warm segment was not lent when it became one, and has had no records since.
        unsafe { self.pages.give_back(id as usize) };
        self.cold.push(id);
        true
    }

    fn line(&self, queue: Queue) -> &Line {
        match queue {
            Queue::Small => &self.small,
            Queue::Main => &self.main,
        }
    }

    fn line_mut(&mut self, queue: Queue) -> &mut Line {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    fn is_open(&self, id: u32) -> bool {
        self.line(self.segments[id as usize].queue).open == Some(id)
    }

    /// An open segment stays: it takes further records.
    fn free_if_dead(&mut self, id: u32) {
        let Segment { opened, queue, live_bytes: 0, .. } = self.segments[id as usize] else { return };
        if !self.is_open(id) {
            self.line_mut(queue).by_age.remove(&opened);
            self.segments[id as usize] = Segment::FREE;
            self.free(id);
        }
    }

    fn free(&mut self, id: u32) {
        if self.pages.is_lent(id as usize) {
            return self.lent.push(id);
        }
        if self.poisons {
            self.poison(id);
        }
        self.warm.push(id);
    }

    #[expect(unsafe_code, reason = "see pages")]
    fn poison(&mut self, id: u32) {
        const POISON: u8 = 0xdd;
        // SAFETY: it is not lent, as its only caller has made sure.
        unsafe { self.pages.bytes_mut(id as usize * self.segment_bytes, self.segment_bytes) }.fill(POISON);
    }

    fn segment_of(&self, at: Address) -> u32 {
        (at.bytes() >> self.segment_bytes.trailing_zeros()) as u32
    }
}

/// Records: writing, reading, ending.
impl Log {
    /// Appends a record. Its value is the item's own, or where the header is marked [`LARGE`], the number of its block.
    /// A client's version is given where the header is marked [`OWN_CAS`].
    ///
    /// # Panics
    /// Where the open segment has no room for it.
    #[expect(unsafe_code, reason = "see pages")]
    #[inline]
    pub(in crate::storage) fn append(
        &mut self,
        queue: Queue,
        header: &RecordHeader,
        key: &[u8],
        value: &[u8],
        own_cas: Option<u64>,
    ) -> Address {
        debug_assert!(own_cas.is_some() == header.is(OWN_CAS), "a version of the client's is marked");
        let own_cas = own_cas.map(u64::to_be_bytes);
        let own_cas = own_cas.as_ref().map_or(&[][..], |bytes| bytes);
        let bytes = header.record_bytes();
        let offset = self.take_room(queue, bytes);
        // SAFETY: no record has been here since the segment was opened, and then it was not lent.
        let mut room = unsafe { self.pages.bytes_mut(offset, bytes) };
        for part in [header.as_bytes(), key, value, own_cas] {
            let (to, behind) = room.split_at_mut(part.len());
            to.copy_from_slice(part);
            room = behind;
        }
        self.enter(queue, offset)
    }

    /// Appends a copy of the record at `at`. That one is to be [ended](Self::end).
    ///
    /// # Panics
    /// Where the open segment has no room for it.
    #[expect(unsafe_code, reason = "see pages")]
    pub(in crate::storage) fn append_copy(&mut self, queue: Queue, at: Address) -> Address {
        let bytes = self.header(at).record_bytes();
        let offset = self.take_room(queue, bytes);
        // SAFETY: as for `append`.
        unsafe { self.pages.copy(at.bytes(), offset, bytes) };
        self.enter(queue, offset)
    }

    /// The offset of `bytes` at the end of the open segment, which are then taken.
    fn take_room(&mut self, queue: Queue, bytes: usize) -> usize {
        assert!(self.has_room(queue, bytes), "room is made before a record is appended");
        let line = self.line_mut(queue);
        line.record_count += 1;
        let id = line.open.expect("the segment that has room");
        let segment = &mut self.segments[id as usize];
        let offset = id as usize * self.segment_bytes + segment.used as usize;
        segment.used += bytes as u32;
        segment.live_bytes += bytes as u32;
        self.live_bytes += bytes;
        offset
    }

    /// Takes note of what a new record brings besides its bytes.
    fn enter(&mut self, queue: Queue, offset: usize) -> Address {
        let at = Address::from_bytes(offset);
        self.note_expiration(at);
        let block_bytes = self.block_bytes(at);
        self.line_mut(queue).block_bytes += block_bytes;
        at
    }

    fn block_bytes(&self, at: Address) -> usize {
        let header = self.header(at);
        if header.is(LARGE) { page_bytes(header.value_len()) } else { 0 }
    }

    /// The record at `at`.
    ///
    /// # Panics
    /// Where the log has no record there, as for every address that the index does not hold.
    #[must_use]
    #[inline]
    pub fn record(&self, at: Address) -> Record<'_> {
        let header = self.header(at);
        let key = self.key(at);
        let value_at = at.bytes() + RECORD_HEADER_BYTES + key.len();
        let value = if header.is(LARGE) {
            let number = self.pages.bytes(value_at, BLOCK_NUMBER_BYTES);
            Stored::Block(u32::from_be_bytes(number.try_into().expect("as many bytes as a number has")))
        } else {
            Stored::Inline(self.pages.bytes(value_at, header.value_len()))
        };
        Record { header, key, value }
    }

    /// The header of the record at `at`.
    #[must_use]
    #[inline]
    pub fn header(&self, at: Address) -> &RecordHeader {
        header_in(self.pages.bytes(at.bytes(), RECORD_HEADER_BYTES))
    }

    /// The key of the record at `at`.
    #[must_use]
    #[inline]
    pub fn key(&self, at: Address) -> &[u8] {
        self.pages.bytes(at.bytes() + RECORD_HEADER_BYTES, self.header(at).key_len())
    }

    /// The header of the record at `at`, to be changed.
    ///
    /// # Panics
    /// Where the log has no record there.
    #[expect(unsafe_code, reason = "see pages")]
    #[inline]
    pub(in crate::storage) fn header_mut(&mut self, at: Address) -> &mut RecordHeader {
        // SAFETY: what is lent is values, behind a header and a key; see `lend_value`.
        let bytes = unsafe { self.pages.bytes_mut(at.bytes(), RECORD_HEADER_BYTES) };
        RecordHeader::mut_from_bytes(bytes).expect("a header has as many bytes")
    }

    /// The version that clients are told of the record at `at`.
    #[must_use]
    #[inline]
    pub(in crate::storage) fn told_cas(&self, at: Address) -> u64 {
        let header = self.header(at);
        if !header.is(OWN_CAS) {
            return header.cas();
        }
        let own_cas = self.pages.bytes(at.bytes() + own_cas_offset(header), OWN_CAS_BYTES);
        u64::from_be_bytes(own_cas.try_into().expect("as many bytes as a version has"))
    }

    /// Gives the record at `at` a new version, which is the one that clients are told.
    #[expect(unsafe_code, reason = "see pages")]
    pub(in crate::storage) fn set_cas(&mut self, at: Address, cas: wire::Cas) {
        let header = self.header_mut(at);
        header.set_cas(cas);
        if header.is(OWN_CAS) {
            let offset = at.bytes() + own_cas_offset(header);
            // SAFETY: what is lent is values, before a client's version; see `lend_value`.
            let own_cas = unsafe { self.pages.bytes_mut(offset, OWN_CAS_BYTES) };
            own_cas.copy_from_slice(&cas.get().to_be_bytes());
        }
    }

    /// Lends the value of the record at `at`, and keeps its segment until it is let go: `None` for a small one, which is
    /// to be copied, and for one that lies in a block, which has holders of its own.
    #[must_use]
    #[inline]
    pub(in crate::storage) fn lend_value(&self, at: Address) -> Option<Bytes> {
        let header = self.header(at);
        let (key_len, value_len) = (header.key_len(), header.value_len());
        let is_worth_it = value_len >= LENT_BYTES_MIN && !header.is(LARGE);
        is_worth_it.then(|| self.pages.lend(at.bytes() + RECORD_HEADER_BYTES + key_len, value_len))
    }

    /// The value of the record at `at`, to be changed in place: `None` where it lies in a block, or where somebody may
    /// be looking at it.
    #[expect(unsafe_code, reason = "see pages")]
    pub(in crate::storage) fn value_mut(&mut self, at: Address) -> Option<&mut [u8]> {
        let header = *self.header(at);
        if header.is(LARGE) || self.may_be_lent(at) {
            return None;
        }
        let value_at = at.bytes() + RECORD_HEADER_BYTES + header.key_len();
        // SAFETY: it is not lent.
        Some(unsafe { self.pages.bytes_mut(value_at, header.value_len()) })
    }

    /// Writes another header and value in the place of those at `at`, under the same key. Says whether it could: the
    /// new record must be as long as the old one, both must lie in the log, and nobody may be looking at the old one.
    #[expect(unsafe_code, reason = "see pages")]
    pub(in crate::storage) fn rewrite(&mut self, at: Address, header: &RecordHeader, value: &[u8]) -> bool {
        let old = self.header(at);
        let key_len = old.key_len();
        assert!(key_len == header.key_len() && header.value_len() == value.len(), "a header of this record");
        let lies_alone = |header: &RecordHeader| !header.is_any(LARGE | OWN_CAS);
        let is_alike = lies_alone(old)
            && lies_alone(header)
            && record_bytes(key_len, old.value_len()) == record_bytes(key_len, value.len());
        if !is_alike || self.may_be_lent(at) {
            return false;
        }
        *self.header_mut(at) = *header;
        let value_at = at.bytes() + RECORD_HEADER_BYTES + key_len;
        // SAFETY: the old value is not lent, and the new one is not longer than the record, of which the key has kept
        // its part.
        unsafe { self.pages.bytes_mut(value_at, value.len()) }.copy_from_slice(value);
        self.note_expiration(at);
        true
    }

    /// Whether somebody may be looking at the value of the record at `at`.
    #[inline]
    fn may_be_lent(&mut self, at: Address) -> bool {
        // A shorter one is never lent, see `lend_value`.
        self.header(at).value_len() >= LENT_BYTES_MIN && self.pages.is_lent(self.segment_of(at) as usize)
    }

    /// Ends a record. A segment in which nothing lives any more is free.
    ///
    /// # Panics
    /// Where the record has ended before.
    pub(in crate::storage) fn end(&mut self, at: Address) {
        let block_bytes = self.block_bytes(at);
        let header = self.header_mut(at);
        assert!(!header.is(DEAD), "a record ends once");
        header.mark(DEAD);
        let bytes = header.record_bytes();
        let id = self.segment_of(at);
        let segment = &mut self.segments[id as usize];
        segment.live_bytes -= bytes as u32;
        let queue = segment.queue;
        self.live_bytes -= bytes;
        let line = self.line_mut(queue);
        line.block_bytes -= block_bytes;
        line.record_count -= 1;
        self.free_if_dead(id);
    }

    /// When the segment of the record at `at` was opened.
    #[must_use]
    pub fn opened_at(&self, at: Address) -> UnixSeconds {
        self.segments[self.segment_of(at) as usize].opened_at
    }

    /// The queue of the record at `at`.
    #[must_use]
    pub fn queue_of(&self, at: Address) -> Queue {
        self.segments[self.segment_of(at) as usize].queue
    }

    /// Asks the processor for the record at `at`.
    #[inline]
    pub fn prefetch(&self, at: Address) {
        self.pages.prefetch(at.bytes());
    }

    /// Sets when the item at `at` ends, 0 for never.
    pub(in crate::storage) fn set_expiration(&mut self, at: Address, expiration: UnixSeconds) {
        self.header_mut(at).set_expiration(expiration);
        self.note_expiration(at);
    }

    /// Lets its segment know when the item at `at` ends.
    pub(in crate::storage) fn note_expiration(&mut self, at: Address) {
        let ends = self.header(at).expiration();
        if ends != 0 {
            let id = self.segment_of(at);
            let first_ends = &mut self.segments[id as usize].first_ends;
            if *first_ends == 0 || ends < *first_ends {
                *first_ends = ends;
            }
        }
    }
}

/// Segments: reading them through.
impl Log {
    /// The oldest segment of a queue. If it is the open one, it is closed.
    pub fn walk_oldest(&mut self, queue: Queue) -> Option<Walk> {
        let (_, &id) = self.line(queue).by_age.first_key_value()?;
        if self.is_open(id) {
            self.seal(queue);
        }
        // An open one in which nothing lived is free now, and was the only one.
        self.walk(id)
    }

    /// The segment, other than an open or a lent one, with the most dead bytes, if these are `dead_bytes_min` at least.
    #[must_use]
    pub fn walk_deadest(&self, dead_bytes_min: usize) -> Option<Walk> {
        let mut deadest = (dead_bytes_min.max(1) - 1, None);
        for (id, segment) in self.segments.iter().enumerate() {
            // A free segment has no dead bytes.
            let is_deader = segment.dead_bytes() > deadest.0;
            if is_deader && !self.is_open(id as u32) && !self.pages.may_be_lent(id) {
                deadest = (segment.dead_bytes(), Some(id as u32));
            }
        }
        self.walk(deadest.1?)
    }

    /// The next segment from number `from` on, some of whose items may have ended by `now`, with its number. It is not
    /// due again until somebody notes when its items end, and `pause` seconds have passed.
    pub fn take_due(&mut self, from: usize, now: UnixSeconds, pause: UnixSeconds) -> Option<(usize, Walk)> {
        let is_due = |segment: &Segment| {
            (1..=now).contains(&segment.first_ends)
                && (segment.swept_at == 0 || segment.swept_at.saturating_add(pause) <= now)
        };
        let id = from + self.segments.get(from..)?.iter().position(is_due)?;
        self.segments[id].first_ends = 0;
        self.segments[id].swept_at = now;
        Some((id, self.walk(id as u32)?))
    }

    /// Every segment is due.
    pub fn make_all_due(&mut self) {
        for segment in self.segments.iter_mut().filter(|segment| segment.opened != 0) {
            segment.first_ends = 1;
            segment.swept_at = 0;
        }
    }

    /// The next live record on the way, behind which the way then goes on.
    pub fn next_live(&self, walk: &mut Walk) -> Option<Address> {
        let segment = self.segments[walk.segment as usize];
        if segment.opened != walk.opened {
            return None;
        }
        let base = walk.segment as usize * self.segment_bytes;
        while walk.offset < segment.used as usize {
            let at = Address::from_bytes(base + walk.offset);
            let header = self.header(at);
            walk.offset += header.record_bytes();
            if !header.is_dead() {
                return Some(at);
            }
        }
        None
    }

    fn walk(&self, segment: u32) -> Option<Walk> {
        let opened = self.segments[segment as usize].opened;
        (opened != 0).then_some(Walk { segment, opened, offset: 0 })
    }

    /// Holds what is known of each segment against its records, and calls `each` for every live one.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn verify(&self, mut each: impl FnMut(Address) -> Result<(), String>) -> Result<(), String> {
        let mut live_bytes = 0;
        let mut lines = [(0, 0); 2];
        for (id, segment) in self.segments.iter().enumerate() {
            let Some(mut walk) = self.walk(id as u32) else { continue };
            let mut live = 0;
            while let Some(at) = self.next_live(&mut walk) {
                live += self.header(at).record_bytes();
                let (records, block_bytes) = &mut lines[segment.queue as usize];
                *records += 1;
                *block_bytes += self.block_bytes(at);
                each(at)?;
            }
            let known = (segment.live_bytes as usize, segment.used as usize);
            if known != (live, walk.offset) {
                return Err(format!("segment {id}: {known:?} live and used, it has {live}, {}", walk.offset));
            }
            if self.line(segment.queue).by_age.get(&segment.opened) != Some(&(id as u32)) {
                return Err(format!("segment {id} is in use, and stands in no queue"));
            }
            live_bytes += live;
        }
        for (queue, (records, block_bytes)) in Queue::ALL.into_iter().zip(lines) {
            let line = self.line(queue);
            if (line.record_count, line.block_bytes) != (records, block_bytes) {
                return Err(format!(
                    "{queue:?}: {} records and {} bytes in blocks, it has {records}, {block_bytes}",
                    line.record_count, line.block_bytes
                ));
            }
        }
        let free = self.warm.len() + self.cold.len() + self.lent.len();
        if free + self.used_segments() != self.segments.len() || live_bytes != self.live_bytes {
            return Err(format!(
                "{free} free and {} used of {} segments; {live_bytes} live, {} known",
                self.used_segments(),
                self.segments.len(),
                self.live_bytes
            ));
        }
        Ok(())
    }
}

/// Where a client's version stands in its record.
fn own_cas_offset(header: &RecordHeader) -> usize {
    RECORD_HEADER_BYTES + header.key_len() + header.stored_len()
}

fn header_in(bytes: &[u8]) -> &RecordHeader {
    RecordHeader::ref_from_bytes(bytes).expect("a header has as many bytes")
}

#[cfg(test)]
mod tests;
