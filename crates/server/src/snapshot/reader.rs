//! Reading the stream back: nothing is given out before a seal has vouched for it.
//!
//! The packets are those of the network, and so is the parser. A reader holds what stands between two seals, so its
//! memory is bounded by [`SNAPSHOT_UNSEALED_BYTES_MAX`] and one packet, whatever the file says.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::fmt;
use std::io::{self, Read};

use wire::{
    Command, Expiration, FRAME_BODY_BYTES_MAX, HEADER_BYTES, Loudness, Opcode, Reject, Request,
    RequestHeader, Split, StoreMode,
};

use crate::clock::UnixSeconds;
use crate::limits::{SNAPSHOT_SEAL_BYTES, SNAPSHOT_UNSEALED_BYTES_MAX};
use crate::snapshot::format::{BEGINS, Mark, Opening, Sum};

/// Reads a snapshot.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    /// Bytes of the file that are not in the buffer yet.
    unread: u64,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that were given out.
    given: usize,
    /// Where the buffer begins in the file.
    offset: u64,
    crc: u32,
    items: u64,
    opening: Opening,
    pending_flush: Option<UnixSeconds>,
    is_closed: bool,
}

/// An item as it stands in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// 1 to 250 bytes.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The client's 32 bits.
    pub flags: u32,
    /// When it ends.
    pub expiration: Expiration,
}

/// What is wrong with a snapshot, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    /// Everything before this byte is good.
    pub good_bytes: u64,
    /// The byte where it was noticed.
    pub offset: u64,
    /// What.
    pub fault: Fault,
}

/// What is wrong with a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read.
    Unreadable(String),
    /// It does not begin as a snapshot does.
    Foreign,
    /// It was written in another version of the format.
    Version(u8),
    /// It ends too early.
    Torn {
        /// Bytes that are missing at the least.
        missing: u64,
    },
    /// A packet is malformed.
    Malformed(Reject),
    /// A packet that has no place there.
    Misplaced(Opcode),
    /// No seal has come for too long.
    Unsealed,
    /// The bytes are not those that were written.
    Checksum {
        /// The checksum that was written.
        told: u32,
        /// The checksum of what was read.
        found: u32,
    },
    /// There are not as many items as were written.
    Count {
        /// The count that was written.
        told: u64,
        /// The count of what was read.
        found: u64,
    },
    /// Something stands behind the end.
    Surplus {
        /// How many bytes.
        bytes: u64,
    },
}

/// What stands at the front of some bytes.
enum Front {
    Incomplete { missing: usize },
    Item { bytes: usize },
    Flush { bytes: usize, at: UnixSeconds },
    Mark(Mark),
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of a file of `len` bytes, up to its first seal.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(from: R, len: u64) -> Result<Self, Damage> {
        let opening = Opening { created: 0, newest_cas: 0 };
        let mut reader = Self {
            from,
            unread: len,
            buffer: Vec::new(),
            given: 0,
            offset: 0,
            crc: 0,
            items: 0,
            opening,
            pending_flush: None,
            is_closed: false,
        };
        reader.begin()?;
        reader.advance()?;
        Ok(reader)
    }

    /// What it began with.
    #[must_use]
    pub fn opening(&self) -> Opening {
        self.opening
    }

    /// The time of a flush that was still to come.
    #[must_use]
    pub fn pending_flush(&self) -> Option<UnixSeconds> {
        self.pending_flush
    }

    /// Items so far.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Bytes so far.
    #[must_use]
    pub fn good_bytes(&self) -> u64 {
        self.offset.saturating_add(to_u64(self.given))
    }

    /// The next items, up to a seal that vouches for them; `None` behind the last.
    ///
    /// # Errors
    /// What is wrong with what follows.
    pub fn next_items(&mut self) -> Result<Option<Items<'_>>, Damage> {
        if self.is_closed {
            return self.end().map(|()| None);
        }
        let bytes = self.advance()?;
        Ok(Some(Items { bytes: self.buffer.get(..bytes).unwrap_or_default() }))
    }

    /// The first packet, which tells a snapshot from anything else.
    fn begin(&mut self) -> Result<(), Damage> {
        let filled = self.fill(0, HEADER_BYTES);
        let begins = self.buffer.get(..BEGINS.len().min(self.buffer.len())).unwrap_or_default();
        if !BEGINS.starts_with(begins) {
            return Err(self.damage(0, Fault::Foreign));
        }
        filled?;
        let Ok(Split::Whole { packet, .. }) = wire::split::<RequestHeader>(&self.buffer, 0) else {
            return Err(self.damage(0, Fault::Foreign));
        };
        match (Mark::of(packet.header), Mark::version_of(packet.header)) {
            (Some(Mark::Opening(opening)), _) => self.opening = opening,
            (_, Some(version)) => return Err(self.damage(0, Fault::Version(version))),
            (_, None) => return Err(self.damage(0, Fault::Foreign)),
        }
        self.vouch(0);
        Ok(())
    }

    /// Goes on to the next seal, and says how many bytes of packets stand before it at the front of the buffer.
    fn advance(&mut self) -> Result<usize, Damage> {
        self.forget_given();
        let (mut at, mut items) = (0_usize, self.items);
        let is_first = self.good_bytes() == to_u64(HEADER_BYTES);
        loop {
            if at > SNAPSHOT_UNSEALED_BYTES_MAX {
                return Err(self.damage(at, Fault::Unsealed));
            }
            let rest = self.buffer.get(at..).unwrap_or_default();
            match look(rest).map_err(|fault| self.damage(at, fault))? {
                Front::Incomplete { missing } => self.fill(at, missing)?,
                Front::Item { bytes } if !is_first => {
                    at = at.saturating_add(bytes);
                    items = items.saturating_add(1);
                }
                Front::Flush { bytes, at: time } if is_first && at == 0 => {
                    self.pending_flush = Some(time);
                    at = at.saturating_add(bytes);
                }
                Front::Mark(Mark::Seal(sum)) => {
                    self.check(at, items, sum)?;
                    return Ok(at);
                }
                Front::Mark(Mark::Closing(sum)) if !is_first => {
                    self.check(at, items, sum)?;
                    self.is_closed = true;
                    return Ok(at);
                }
                Front::Item { .. } => return Err(self.damage(at, Fault::Misplaced(Opcode::SETQ))),
                Front::Flush { .. } => return Err(self.damage(at, Fault::Misplaced(Opcode::FLUSHQ))),
                Front::Mark(_) => return Err(self.damage(at, Fault::Misplaced(Opcode::NOOP))),
            }
        }
    }

    /// Holds what stands before the mark at `at` against it. If it is as it was written, both count as good.
    fn check(&mut self, at: usize, items: u64, sum: Sum) -> Result<(), Damage> {
        let found = crc32c::crc32c_append(self.crc, self.buffer.get(..at).unwrap_or_default());
        if found != sum.crc {
            return Err(self.damage(at, Fault::Checksum { told: sum.crc, found }));
        }
        if items != sum.items {
            return Err(self.damage(at, Fault::Count { told: sum.items, found: items }));
        }
        self.items = items;
        self.crc = found;
        self.vouch(at);
        Ok(())
    }

    /// Counts the mark at `at` in the buffer as good, with all before it, to be forgotten the next time.
    fn vouch(&mut self, at: usize) {
        let end = at.saturating_add(HEADER_BYTES);
        self.crc = crc32c::crc32c_append(self.crc, self.buffer.get(at..end).unwrap_or_default());
        self.given = end;
    }

    fn forget_given(&mut self) {
        let given = std::mem::take(&mut self.given).min(self.buffer.len());
        self.buffer.drain(..given);
        self.offset = self.offset.saturating_add(to_u64(given));
        // One long value does not keep its room.
        self.buffer.shrink_to(SNAPSHOT_UNSEALED_BYTES_MAX);
    }

    /// Reads until `missing` bytes more are there, and some ahead. A packet begins at `at`.
    fn fill(&mut self, at: usize, missing: usize) -> Result<(), Damage> {
        let lack = to_u64(missing).saturating_sub(self.unread);
        if (lack > 0 && self.offset > 0) || self.unread == 0 {
            return Err(self.damage(at, Fault::Torn { missing: lack }));
        }
        let wanted = to_u64(missing.max(SNAPSHOT_SEAL_BYTES)).min(self.unread);
        self.buffer.reserve_exact(usize::try_from(wanted).unwrap_or(usize::MAX));
        let read = (&mut self.from).take(wanted).read_to_end(&mut self.buffer);
        let read = read.map_err(|error| self.damage(at, Fault::Unreadable(error.to_string())))?;
        self.unread = self.unread.saturating_sub(to_u64(read));
        let lack = to_u64(missing).saturating_sub(to_u64(read));
        if lack > 0 {
            return Err(self.damage(at, Fault::Torn { missing: lack }));
        }
        Ok(())
    }

    /// Nothing follows the closing mark.
    fn end(&mut self) -> Result<(), Damage> {
        self.forget_given();
        let bytes = self.unread.saturating_add(to_u64(self.buffer.len()));
        if bytes == 0 { Ok(()) } else { Err(self.damage(0, Fault::Surplus { bytes })) }
    }

    /// Damage that was noticed at `at` in the buffer.
    fn damage(&self, at: usize, fault: Fault) -> Damage {
        Damage { good_bytes: self.good_bytes(), offset: self.offset.saturating_add(to_u64(at)), fault }
    }
}

/// The items between two seals.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    bytes: &'a [u8],
}

impl Items<'_> {
    /// Bytes that are held for those still to come.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let Ok(Split::Whole { packet, rest }) =
            wire::split::<RequestHeader>(self.bytes, FRAME_BODY_BYTES_MAX)
        else {
            return None;
        };
        self.bytes = rest;
        match Request::parse(&packet).ok()?.command {
            Command::Store { key, value, flags, expiration, .. } => {
                Some(Item { key: key.as_bytes(), value, flags, expiration })
            }
            _ => None,
        }
    }
}

fn look(bytes: &[u8]) -> Result<Front, Fault> {
    let (packet, rest) = match wire::split::<RequestHeader>(bytes, FRAME_BODY_BYTES_MAX)
        .map_err(Fault::Malformed)?
    {
        Split::Whole { packet, rest } => (packet, rest),
        Split::Head { missing } | Split::Body { missing, .. } => return Ok(Front::Incomplete { missing }),
    };
    let bytes = bytes.len().saturating_sub(rest.len());
    let request = Request::parse(&packet).map_err(Fault::Malformed)?;
    let front = match (request.command, request.loudness) {
        (Command::Store { mode: StoreMode::Set, cas: None, .. }, Loudness::Quiet) => {
            Some(Front::Item { bytes })
        }
        (Command::Flush { at: Some(Expiration::At(at)) }, Loudness::Quiet) => {
            Some(Front::Flush { bytes, at })
        }
        (Command::Noop, _) => Mark::of(packet.header).map(Front::Mark),
        _ => None,
    };
    front.ok_or(Fault::Misplaced(packet.header.opcode))
}

/// No `usize` is longer.
fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

impl Damage {
    /// Of a file that cannot be read at all.
    #[must_use]
    pub fn unreadable(error: &io::Error) -> Self {
        Self { good_bytes: 0, offset: 0, fault: Fault::Unreadable(error.to_string()) }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { good_bytes, offset, fault } = self;
        match fault {
            Fault::Checksum { .. } | Fault::Count { .. } => {
                write!(f, "bytes {good_bytes} to {offset}: {fault}")
            }
            _ => write!(f, "byte {offset}: {fault}"),
        }
    }
}

impl std::error::Error for Damage {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Foreign => write!(f, "this is no snapshot"),
            Self::Version(version) => write!(f, "a snapshot of version {version}, which is not known here"),
            Self::Torn { missing } => write!(f, "it ends here, {missing} bytes or more are missing"),
            Self::Malformed(reject) => write!(f, "a malformed packet: {reject}"),
            Self::Misplaced(opcode) => write!(f, "a packet that does not belong here: {opcode}"),
            Self::Unsealed => write!(f, "no seal for too long"),
            Self::Checksum { told, found } => {
                write!(f, "not what was written: their checksum is {found:08x}, it was {told:08x}")
            }
            Self::Count { told, found } => write!(f, "{found} items up to here, there were {told}"),
            Self::Surplus { bytes } => write!(f, "{bytes} bytes behind the end"),
        }
    }
}
