//! The file: a stream of requests of the binary protocol that fills any memcached, drawn in `docs/snapshot.md`.
//!
//! What is no item is told by packets that change nothing, or what they say: a [mark](Mark) is a NOOP, whose reserved
//! fields, opaque and CAS nobody looks at, and a flush that was still to come is a FLUSHQ.
//!
//! ```text
//!      0        1        2        3        4        5        6        7
//!  0 | 0x80   | 0x0a   | 0               | 0      | version| kind: two letters |
//!  8 | 0                                 | created, or CRC-32C                 |
//! 16 | newest CAS, or items so far                                             |
//! ```

use wire::{HEADER_BYTES, Opcode, RequestHeader};
use zerocopy::IntoBytes;

use crate::clock::UnixSeconds;

/// The version of the format. A reader refuses any other.
pub const VERSION: u8 = 1;

/// How every snapshot begins: a NOOP with [`VERSION`] behind it.
pub const BEGINS: [u8; 5] = [wire::header::REQUEST_MAGIC, Opcode::NOOP.0, 0, 0, 0];

const OPENING: u16 = u16::from_be_bytes(*b"MW");
const SEAL: u16 = u16::from_be_bytes(*b"SE");
const CLOSING: u16 = u16::from_be_bytes(*b"CL");

/// What begins the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The Unix time.
    pub created: UnixSeconds,
    /// The newest version at that time.
    pub newest_cas: u64,
}

/// What vouches for all bytes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Items so far.
    pub items: u64,
    /// CRC-32C of all bytes so far.
    pub crc: u32,
}

/// A NOOP that says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The first packet.
    Opening(Opening),
    /// Behind every few items.
    Seal(Sum),
    /// The last packet.
    Closing(Sum),
}

impl Mark {
    /// As a packet.
    #[must_use]
    pub fn packet(self) -> [u8; HEADER_BYTES] {
        let (kind, opaque, cas) = match self {
            Self::Opening(Opening { created, newest_cas }) => (OPENING, created, newest_cas),
            Self::Seal(Sum { items, crc }) => (SEAL, crc, items),
            Self::Closing(Sum { items, crc }) => (CLOSING, crc, items),
        };
        let header =
            RequestHeader { opaque: opaque.into(), cas: cas.into(), ..bare(Opcode::NOOP, VERSION, kind) };
        zerocopy::transmute!(header)
    }

    /// From the header of a NOOP, `None` where it is no mark of this version.
    #[must_use]
    pub fn of(header: &RequestHeader) -> Option<Self> {
        let (opaque, cas) = (header.opaque.get(), header.cas.get());
        let sum = Sum { items: cas, crc: opaque };
        match (header.data_type, header.vbucket.get()) {
            (VERSION, OPENING) => Some(Self::Opening(Opening { created: opaque, newest_cas: cas })),
            (VERSION, SEAL) => Some(Self::Seal(sum)),
            (VERSION, CLOSING) => Some(Self::Closing(sum)),
            _ => None,
        }
    }

    /// The version of a snapshot whose first packet this may be.
    #[must_use]
    pub fn version_of(header: &RequestHeader) -> Option<u8> {
        let opens = header.opcode == Opcode::NOOP && header.vbucket.get() == OPENING;
        opens.then_some(header.data_type)
    }
}

/// The packet of a flush that is still to come.
#[must_use]
pub fn flush_packet(at: UnixSeconds) -> [u8; HEADER_BYTES + 4] {
    let header = RequestHeader { extras_len: 4, body_len: 4.into(), ..bare(Opcode::FLUSHQ, 0, 0) };
    let mut packet = [0; HEADER_BYTES + 4];
    let (head, time) = packet.split_at_mut(HEADER_BYTES);
    head.copy_from_slice(header.as_bytes());
    time.copy_from_slice(&at.to_be_bytes());
    packet
}

fn bare(opcode: Opcode, data_type: u8, vbucket: u16) -> RequestHeader {
    RequestHeader {
        magic: wire::header::REQUEST_MAGIC,
        opcode,
        key_len: 0.into(),
        extras_len: 0,
        data_type,
        vbucket: vbucket.into(),
        body_len: 0.into(),
        opaque: 0.into(),
        cas: 0.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        let sum = Sum { items: u64::MAX, crc: 7 };
        let opening = Opening { created: 1_700_000_000, newest_cas: 1 << 50 };
        for mark in [Mark::Opening(opening), Mark::Seal(sum), Mark::Closing(sum)] {
            let packet = mark.packet();
            let Ok(wire::Split::Whole { packet, rest: [] }) = wire::split::<RequestHeader>(&packet, 100)
            else {
                panic!("{packet:?}")
            };
            assert_eq!(Mark::of(packet.header), Some(mark));
            assert!(matches!(wire::Request::parse(&packet).unwrap().command, wire::Command::Noop));
        }
    }
}
