//! Responses, typed.

use core::fmt;

use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::header::RESPONSE_MAGIC;
use crate::request::write_parts;
use crate::{BufferTooShort, Cas, Opcode, Packet, ResponseHeader, Status};

/// A response, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// The request's opcode.
    pub opcode: Opcode,
    /// What became of the request.
    pub status: Status,
    /// The request's mark.
    pub opaque: u32,
    /// The item's version.
    pub cas: Option<Cas>,
    /// The flags of an item, or nothing.
    pub extras: &'a [u8],
    /// The key of a response that echoes it, a statistic's name, or nothing.
    pub key: &'a [u8],
    /// A value, a counter, a statistic, or the text of an error.
    pub value: &'a [u8],
}

impl<'a> Response<'a> {
    /// What a packet says. Every packet is a response; [`flags`](Self::flags) and [`counter`](Self::counter) say
    /// whether it has the form that the request asks for.
    #[inline]
    #[must_use]
    pub fn parse(packet: &Packet<'a, ResponseHeader>) -> Self {
        let header = packet.header;
        Self {
            opcode: header.opcode,
            status: header.status,
            opaque: header.opaque.get(),
            cas: Cas::from_wire(header.cas.get()),
            extras: packet.extras,
            key: packet.key,
            value: packet.value,
        }
    }

    /// A response with nothing behind its header.
    #[must_use]
    pub const fn empty(opcode: Opcode, status: Status, opaque: u32, cas: Option<Cas>) -> Self {
        Self {
            opcode,
            status,
            opaque,
            cas,
            extras: &[],
            key: &[],
            value: &[],
        }
    }

    /// An error, with memcached's text.
    #[must_use]
    pub const fn error(opcode: Opcode, status: Status, opaque: u32) -> Self {
        Self {
            value: status.text().as_bytes(),
            ..Self::empty(opcode, status, opaque, None)
        }
    }

    /// The item's flags: in a hit of GET, GAT or TOUCH.
    #[must_use]
    pub fn flags(&self) -> Option<u32> {
        Some(U32::ref_from_bytes(self.extras).ok()?.get())
    }

    /// The counter's value: in a success of INCREMENT or DECREMENT.
    #[must_use]
    pub fn counter(&self) -> Option<u64> {
        Some(U64::ref_from_bytes(self.value).ok()?.get())
    }

    /// The header. Lengths that it cannot say (a key over 64 KiB, a body over 4 GiB) are cut to the most that it can.
    #[inline]
    #[must_use]
    pub fn header(&self) -> ResponseHeader {
        let body_len = self
            .extras
            .len()
            .saturating_add(self.key.len())
            .saturating_add(self.value.len());
        ResponseHeader {
            magic: RESPONSE_MAGIC,
            opcode: self.opcode,
            key_len: u16::try_from(self.key.len()).unwrap_or(u16::MAX).into(),
            extras_len: u8::try_from(self.extras.len()).unwrap_or(u8::MAX),
            data_type: 0,
            status: self.status,
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX).into(),
            opaque: self.opaque.into(),
            cas: Cas::to_wire(self.cas).into(),
        }
    }

    /// Writes the packet to the front of `buffer` and says how long it is.
    ///
    /// # Errors
    /// Where `buffer` is too short; nothing useful is in it then.
    pub fn encode_into(&self, buffer: &mut [u8]) -> Result<usize, BufferTooShort> {
        write_parts(
            buffer,
            &[self.header().as_bytes(), self.extras, self.key, self.value],
        )
    }

    /// Appends the packet to `buffer`.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn append_to(&self, buffer: &mut alloc::vec::Vec<u8>) {
        buffer.extend_from_slice(self.header().as_bytes());
        buffer.extend_from_slice(self.extras);
        buffer.extend_from_slice(self.key);
        buffer.extend_from_slice(self.value);
    }
}

/// Bytes of a [`Hit`].
pub const HIT_BYTES: usize = 28;

/// What stands before key and value in the answer that a cache sends most: 24 bytes of header, 4 of flags.
///
/// ```
/// use memwire_wire::{Cas, Hit, Opcode, Response, ResponseHeader, Split, FRAME_BODY_BYTES_MAX};
///
/// let head = Hit::new(Opcode::GETK, 7, Cas::from_wire(9), 0xbeef, 3, 5);
/// let bytes = [head.as_bytes(), b"key", b"value"].concat();
/// let Ok(Split::Whole { packet, .. }) = memwire_wire::split::<ResponseHeader>(&bytes, FRAME_BODY_BYTES_MAX) else {
///     panic!("the packet is whole");
/// };
/// let response = Response::parse(&packet);
/// assert_eq!((response.flags(), response.key, response.value), (Some(0xbeef), &b"key"[..], &b"value"[..]));
/// ```
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Hit {
    header: ResponseHeader,
    flags: U32,
}

const _: () = assert!(size_of::<Hit>() == HIT_BYTES);

impl Hit {
    /// The head of a hit. `key_len` is 0 where the key is not echoed; a `value_len` that no header can say is cut.
    #[inline]
    #[must_use]
    pub fn new(
        opcode: Opcode,
        opaque: u32,
        cas: Option<Cas>,
        flags: u32,
        key_len: u8,
        value_len: usize,
    ) -> Self {
        let body_len = u32::try_from(value_len)
            .unwrap_or(u32::MAX)
            .saturating_add(u32::from(key_len))
            .saturating_add(4);
        Self {
            header: ResponseHeader {
                magic: RESPONSE_MAGIC,
                opcode,
                key_len: u16::from(key_len).into(),
                extras_len: 4,
                data_type: 0,
                status: Status::OK,
                body_len: body_len.into(),
                opaque: opaque.into(),
                cas: Cas::to_wire(cas).into(),
            },
            flags: flags.into(),
        }
    }

    /// The bytes on the wire.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }
}

/// A response other than the one that was asked for, as a client's error.
impl fmt::Display for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::display::response(self, f)
    }
}
