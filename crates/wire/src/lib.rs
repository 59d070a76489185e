//! The memcached binary protocol, both directions, for servers, clients, proxies and tools.
//!
//! Packets are read where they lie. A header is a view of 24 bytes in network order, so parsing is a cast and a
//! bounds check; encoding is writing those 24 bytes. Values are never copied and never looked at.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`header`] | the two 24-byte headers as `#[repr(C)]` views |
//! | [`opcode`], [`status`] | the numbers on the wire, and their names |
//! | [`field`] | keys, versions and expirations, as types that cannot hold an illegal one |
//! | [`shape`] | which lengths are legal for which opcode: one table |
//! | [`frame`] | a byte stream into packets, incrementally |
//! | [`request`], [`response`] | typed packets, parsed, encoded and printed |
//! | [`reject`] | what to answer to a malformed request, and whether to close |
//!
//! # What never happens
//! Nothing in this crate panics, whatever the input: it is `no_std`, has no `unsafe` and does no I/O, and the lints
//! forbid indexing, unchecked arithmetic, `as` and `unwrap` in it. Encoding into a buffer that is too short is an
//! `Err`, too. No length that a peer sent is ever used to allocate.
//!
//! # A request, from bytes and back
//! ```
//! use memwire_wire::{Split, Request, Command, KeyEcho, RequestHeader, FRAME_BODY_BYTES_MAX};
//!
//! let bytes = b"\x80\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00foo";
//! let Ok(Split::Whole { packet, rest }) = memwire_wire::split::<RequestHeader>(bytes, FRAME_BODY_BYTES_MAX) else {
//!     panic!("the packet is whole");
//! };
//! let request = Request::parse(&packet).unwrap();
//! assert_eq!(request.opaque, 7);
//! assert!(matches!(request.command, Command::Get { key, echo: KeyEcho::Without } if key.as_bytes() == b"foo"));
//! assert!(rest.is_empty());
//!
//! let mut again = [0; 27];
//! assert_eq!(request.encode_into(&mut again), Ok(27));
//! assert_eq!(&again, bytes);
//! ```
//!
//! The layout and the rules are those of memcached 1.6: `protocol_binary.h`, `proto_bin.c`, and the protocol's
//! description in its wiki.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod display;
pub mod field;
pub mod frame;
pub mod header;
pub mod opcode;
pub mod reject;
pub mod request;
pub mod response;
pub mod shape;
pub mod status;

pub use field::{Cas, Expiration, KEY_BYTES_MAX, Key, KeyError};
pub use frame::{FRAME_BODY_BYTES_MAX, Packet, Split, split};
pub use header::{HEADER_BYTES, Header, RequestHeader, ResponseHeader};
pub use opcode::{Loudness, Opcode};
pub use reject::{Next, Reject};
pub use request::{Command, Concat, Direction, KeyEcho, OnMiss, Request, StoreMode};
pub use response::{Hit, Response};
pub use status::Status;

/// A buffer that was too short to encode into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferTooShort {
    /// Bytes the packet needs.
    pub needed: usize,
    /// Bytes the buffer has.
    pub available: usize,
}

impl core::fmt::Display for BufferTooShort {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "buffer too short: {} bytes, the packet needs {}", self.available, self.needed)
    }
}

impl core::error::Error for BufferTooShort {}
