//! An item as it lies in the log: a SETQ packet, ready to be sent.
//!
//! ```text
//!      0        1        2        3        4        5        6        7
//!  0 | 0x80   | 0x11   | key length      | 8      | read   | marks           |
//!  8 | body length: 8 + key + value      | hash                              |
//! 16 | CAS                                                                   |
//! 24 | flags                             | expiration: Unix time, 0 for none |
//! 32 | key, value, [the client's CAS], padding to 8                          |
//! ```
//! The three fields of a SET that nobody reads, data type, vbucket and opaque, hold what the engine needs: when the item
//! was read, marks, and 32 bits of the key's hash. The answer to a GET is built from the header and the flags, and the
//! value follows; a packet for a snapshot is the record with those three fields and the CAS cleared.
//!
//! When the item was read last is kept as 16 bits of seconds, 8 of them among the marks: what is further back than 18
//! hours is not told right. It is written where a read is counted anyway, and else once a minute at most.
//!
//! The CAS is the engine's: it tells what was written before a flush. A client may have its own told instead (the flag
//! `E` of the meta commands). Such an item is marked [`OWN_CAS`], and the client's 8 bytes stand behind its value.
//!
//! A large value lies in a block of its own. Its record is marked [`LARGE`], says the value's real length, and holds
//! the block's number in the value's place.

use wire::{Cas, HEADER_BYTES};
use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::message::KeyHash;

/// Bytes before the key.
pub const RECORD_HEADER_BYTES: usize = 32;
/// Records begin at multiples of this.
pub const RECORD_ALIGN: usize = 8;
/// Bytes in the place of a value that lies in a block.
pub const BLOCK_NUMBER_BYTES: usize = 4;

const EXTRAS_BYTES: usize = RECORD_HEADER_BYTES - HEADER_BYTES;

/// The record is no item any more; its bytes are free space.
pub const DEAD: u16 = 1 << 15;
/// The item has been read.
pub const FETCHED: u16 = 1 << 14;
/// The value lies in a block of its own.
pub const LARGE: u16 = 1 << 13;
/// The value is out of date: it is told, until a client brings another.
pub const STALE: u16 = 1 << 12;
/// A client was told to bring another value.
pub const TOKEN_SENT: u16 = 1 << 11;
/// Clients are told a version of their own, which stands behind the value.
pub const OWN_CAS: u16 = 1 << 10;
/// The low 8 bits of when the item was read last.
const ACCESSED: u16 = 0xff << ACCESSED_SHIFT;
const ACCESSED_SHIFT: u32 = 2;
/// How often the item was read, up to [`FREQUENCY_MAX`]; see `eviction`.
const FREQUENCY: u16 = 0b11;

/// Bytes of a client's version.
pub const OWN_CAS_BYTES: usize = 8;
/// A read so many seconds behind the last one that was noted is noted, however often the item was read.
const ACCESS_STEP_SECONDS: u16 = 60;

/// More reads than these are not told apart.
pub const FREQUENCY_MAX: u16 = FREQUENCY;

/// What stands before the key.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub struct RecordHeader {
    magic: u8,
    opcode: wire::Opcode,
    key_len: U16,
    extras_len: u8,
    accessed_high: u8,
    marks: U16,
    body_len: U32,
    hash: U32,
    cas: U64,
    flags: U32,
    expiration: U32,
}

const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES);

/// What an item is besides its key and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The key's hash.
    pub hash: KeyHash,
    /// The version.
    pub cas: Cas,
    /// The client's 32 bits.
    pub flags: u32,
    /// The Unix time at which it ends, 0 for never.
    pub expiration: u32,
}

impl RecordHeader {
    /// The header of a new record.
    #[must_use]
    pub fn new(meta: &Meta, key_len: usize, value_len: usize, marks: u16) -> Self {
        Self {
            magic: wire::header::REQUEST_MAGIC,
            opcode: wire::Opcode::SETQ,
            key_len: (key_len as u16).into(),
            extras_len: EXTRAS_BYTES as u8,
            accessed_high: 0,
            marks: marks.into(),
            body_len: ((EXTRAS_BYTES + key_len + value_len) as u32).into(),
            hash: meta.hash.0.into(),
            cas: meta.cas.get().into(),
            flags: meta.flags.into(),
            expiration: meta.expiration.into(),
        }
    }

    /// The header as others are to have it: what is the engine's alone is cleared, the version with it, so that the
    /// packet sets the item whatever there is.
    #[must_use]
    pub fn public(&self) -> Self {
        Self { accessed_high: 0, marks: 0.into(), hash: 0.into(), cas: 0.into(), ..*self }
    }

    /// Bytes of the key.
    #[must_use]
    pub fn key_len(&self) -> usize {
        self.key_len.get() as usize
    }

    /// Bytes of the value, wherever it lies.
    #[must_use]
    pub fn value_len(&self) -> usize {
        self.body_len.get() as usize - EXTRAS_BYTES - self.key_len()
    }

    /// Bytes that the record takes in the log, padding included.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        record_bytes(self.key_len(), self.stored_len() + self.own_cas_len())
    }

    /// Bytes in the value's place.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        if self.is(LARGE) { BLOCK_NUMBER_BYTES } else { self.value_len() }
    }

    fn own_cas_len(&self) -> usize {
        if self.is(OWN_CAS) { OWN_CAS_BYTES } else { 0 }
    }

    /// Bytes of the whole item: the record, and the value where that lies in a block.
    #[must_use]
    pub fn item_bytes(&self) -> usize {
        record_bytes(self.key_len(), self.value_len() + self.own_cas_len())
    }

    /// Whether all of `marks` are set.
    #[must_use]
    pub fn is(&self, marks: u16) -> bool {
        self.marks.get() & marks == marks
    }

    /// Whether any of `marks` is set.
    #[must_use]
    pub fn is_any(&self, marks: u16) -> bool {
        self.marks.get() & marks != 0
    }

    /// Whether it is no item any more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.is(DEAD)
    }

    /// Sets `marks`.
    pub fn mark(&mut self, marks: u16) {
        self.marks.set(self.marks.get() | marks);
    }

    /// Clears `marks`.
    pub fn unmark(&mut self, marks: u16) {
        self.marks.set(self.marks.get() & !marks);
    }

    /// How often the item was read, as far as that counts.
    #[must_use]
    pub fn frequency(&self) -> u16 {
        self.marks.get() & FREQUENCY
    }

    /// Sets it.
    pub fn set_frequency(&mut self, frequency: u16) {
        debug_assert!(frequency <= FREQUENCY_MAX, "two bits");
        self.marks.set(self.marks.get() & !FREQUENCY | frequency);
    }

    /// The same header, read so often at least.
    #[must_use]
    pub fn with_frequency_min(mut self, frequency: u16) -> Self {
        self.set_frequency(self.frequency().max(frequency));
        self
    }

    /// Whether a read at `now` would change nothing that matters.
    #[must_use]
    pub fn is_read_often(&self, now: u32) -> bool {
        self.marks.get() & (FREQUENCY | FETCHED) == FREQUENCY | FETCHED
            && self.idle(now) < ACCESS_STEP_SECONDS
    }

    /// Remembers a read at `now`.
    pub fn note_read(&mut self, now: u32) {
        self.set_frequency((self.frequency() + 1).min(FREQUENCY_MAX));
        self.mark(FETCHED);
        self.set_accessed(now);
    }

    /// Remembers when the item was read or written.
    pub fn set_accessed(&mut self, now: u32) {
        let [_, _, high, low] = now.to_be_bytes();
        self.accessed_high = high;
        self.marks.set(self.marks.get() & !ACCESSED | u16::from(low) << ACCESSED_SHIFT);
    }

    /// Seconds since then at `now`, less whole turns of 2^16.
    #[must_use]
    pub fn idle(&self, now: u32) -> u16 {
        let low = (self.marks.get() & ACCESSED) >> ACCESSED_SHIFT;
        let accessed = u16::from(self.accessed_high) << 8 | low;
        (now as u16).wrapping_sub(accessed)
    }

    /// Sets the expiration.
    pub fn set_expiration(&mut self, expiration: u32) {
        self.expiration.set(expiration);
    }

    /// Gives the item a new version.
    pub fn set_cas(&mut self, cas: Cas) {
        self.cas.set(cas.get());
    }

    /// The key's hash.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(self.hash.get())
    }

    /// The version. Every record has one, whether or not clients are told.
    #[must_use]
    pub fn cas(&self) -> u64 {
        self.cas.get()
    }

    /// The client's 32 bits.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags.get()
    }

    /// The Unix time at which it ends, 0 for never.
    #[must_use]
    pub fn expiration(&self) -> u32 {
        self.expiration.get()
    }
}

/// Bytes that a record takes in the log, padding included.
#[must_use]
pub fn record_bytes(key_len: usize, value_len: usize) -> usize {
    (RECORD_HEADER_BYTES + key_len + value_len).next_multiple_of(RECORD_ALIGN)
}

#[cfg(test)]
mod tests {
    use wire::{Command, Request, RequestHeader, Split, StoreMode, split};

    use super::*;

    #[test]
    fn a_record_is_a_setq_packet() {
        let meta = Meta {
            hash: KeyHash(0xdead_beef),
            cas: Cas::from_wire(77).unwrap(),
            flags: 5,
            expiration: 1 << 30,
        };
        let header = RecordHeader::new(&meta, 3, 5, FETCHED);
        let bytes = [header.as_bytes(), b"key", b"value"].concat();
        let Ok(Split::Whole { packet, rest: [] }) = split::<RequestHeader>(&bytes, 100) else {
            panic!("not whole")
        };
        let request = Request::parse(&packet).unwrap();
        assert_eq!(request.opcode(), wire::Opcode::SETQ);
        let Command::Store { mode: StoreMode::Set, key, value, flags, expiration, cas } = request.command
        else {
            panic!("no store")
        };
        assert_eq!((key.as_bytes(), value, flags), (&b"key"[..], &b"value"[..], 5));
        assert_eq!((expiration, cas), (wire::Expiration::At(1 << 30), Cas::from_wire(77)));
        assert_eq!((header.record_bytes(), header.value_len()), (40, 5));
    }

    #[test]
    fn reads_are_counted_to_three() {
        let meta = Meta { hash: KeyHash(0), cas: Cas::from_wire(1).unwrap(), flags: 0, expiration: 0 };
        let mut header = RecordHeader::new(&meta, 3, 5, LARGE);
        let seen: Vec<_> =
            (0..5).map(|_| (header.frequency(), header.is_read_often(9), header.note_read(9)).0).collect();
        assert_eq!(seen, [0, 1, 2, 3, 3]);
        assert!(header.is_read_often(9) && header.is(LARGE | FETCHED) && !header.is_dead());
        header.set_frequency(1);
        assert!(header.frequency() == 1 && header.is(LARGE | FETCHED));
    }

    #[test]
    fn the_last_read_is_known_to_the_second_for_18_hours() {
        let meta = Meta { hash: KeyHash(0), cas: Cas::from_wire(1).unwrap(), flags: 0, expiration: 0 };
        let mut header = RecordHeader::new(&meta, 3, 5, FETCHED | STALE | TOKEN_SENT | OWN_CAS);
        header.set_frequency(FREQUENCY_MAX);
        for now in [0, 255, 256, 65_535, 65_536, 1_800_000_000, u32::MAX] {
            header.set_accessed(now);
            for idle in [0, 1, 59, 60, 3600, 65_535] {
                assert_eq!(header.idle(now.wrapping_add(u32::from(idle))), idle);
                assert_eq!(header.is_read_often(now.wrapping_add(u32::from(idle))), idle < 60);
            }
            assert!(header.is(FETCHED | STALE | TOKEN_SENT | OWN_CAS) && !header.is(LARGE));
            assert_eq!((header.frequency(), header.value_len()), (FREQUENCY_MAX, 5));
        }
        header.unmark(STALE | TOKEN_SENT);
        assert!(!header.is(STALE) && !header.is(TOKEN_SENT) && header.is(OWN_CAS));
    }

    #[test]
    fn a_large_record_takes_the_room_of_a_block_number() {
        let meta = Meta { hash: KeyHash(0), cas: Cas::from_wire(1).unwrap(), flags: 0, expiration: 0 };
        let header = RecordHeader::new(&meta, 3, 1 << 20, LARGE);
        assert_eq!((header.record_bytes(), header.value_len()), (40, 1 << 20));
        let header = RecordHeader::new(&meta, 3, 1 << 20, LARGE | OWN_CAS);
        assert_eq!((header.record_bytes(), header.value_len()), (48, 1 << 20));
    }
}
