//! The two headers, as views of the bytes on the wire.
//!
//! ```text
//!      0        1        2        3        4        5        6        7
//!  0 | magic  | opcode | key length      | extras | data   | vbucket (request)
//!    |        |        |                 | length | type   | status (response) |
//!  8 | body length: extras + key + value | opaque                              |
//! 16 | CAS                                                                     |
//! ```
//! All integers are big-endian. Source: memcached's `protocol_binary.h`.

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Opcode, Status};

/// Bytes of a header, in either direction.
pub const HEADER_BYTES: usize = 24;

/// First byte of every request.
pub const REQUEST_MAGIC: u8 = 0x80;
/// First byte of every response.
pub const RESPONSE_MAGIC: u8 = 0x81;

/// The header of a request.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RequestHeader {
    /// [`REQUEST_MAGIC`].
    pub magic: u8,
    /// What is asked for.
    pub opcode: Opcode,
    /// Bytes of the key.
    pub key_len: U16,
    /// Bytes of the extras.
    pub extras_len: u8,
    /// Reserved. memcached never looks at it.
    pub data_type: u8,
    /// Reserved. memcached never looks at it.
    pub vbucket: U16,
    /// Bytes behind the header: extras, key and value.
    pub body_len: U32,
    /// The client's own mark, returned untouched.
    pub opaque: U32,
    /// The CAS that the item must have, 0 for any.
    pub cas: U64,
}

/// The header of a response.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ResponseHeader {
    /// [`RESPONSE_MAGIC`].
    pub magic: u8,
    /// The request's opcode, quiet forms included.
    pub opcode: Opcode,
    /// Bytes of the key.
    pub key_len: U16,
    /// Bytes of the extras.
    pub extras_len: u8,
    /// Reserved, 0.
    pub data_type: u8,
    /// What became of the request.
    pub status: Status,
    /// Bytes behind the header: extras, key and value.
    pub body_len: U32,
    /// The request's opaque.
    pub opaque: U32,
    /// The item's CAS, 0 where there is none.
    pub cas: U64,
}

const _: () = assert!(size_of::<RequestHeader>() == HEADER_BYTES && align_of::<RequestHeader>() == 1);
const _: () = assert!(size_of::<ResponseHeader>() == HEADER_BYTES && align_of::<ResponseHeader>() == 1);

/// What both directions have in common: enough to frame a stream.
pub trait Header: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Copy {
    /// The first byte that tells the direction.
    const MAGIC: u8;

    /// The first byte as it was sent.
    fn magic(&self) -> u8;
    /// Bytes of the extras.
    fn extras_len(&self) -> u8;
    /// Bytes of the key.
    fn key_len(&self) -> u16;
    /// Bytes behind the header.
    fn body_len(&self) -> u32;
}

macro_rules! impl_header {
    ($header:ident, $magic:ident) => {
        impl Header for $header {
            const MAGIC: u8 = $magic;

            #[inline]
            fn magic(&self) -> u8 {
                self.magic
            }
            #[inline]
            fn extras_len(&self) -> u8 {
                self.extras_len
            }
            #[inline]
            fn key_len(&self) -> u16 {
                self.key_len.get()
            }
            #[inline]
            fn body_len(&self) -> u32 {
                self.body_len.get()
            }
        }
    };
}

impl_header!(RequestHeader, REQUEST_MAGIC);
impl_header!(ResponseHeader, RESPONSE_MAGIC);
