//! Sessions: bytes in, operations out; answers in, bytes out. No I/O.
//!
//! A session is the protocol's side of one connection. The event loop hands it what it has read, and the session says
//! what is asked for and how much of the bytes that took. When the answers are back, the session puts them into words.
//! The first byte of a connection decides which protocol it speaks: 0x80 is binary. Text and RESP have their place
//! here, beside [`binary`]; nothing below the session knows the difference.
//!
//! The parsers refuse no length that a peer may legally send and trust none: indexing, unchecked arithmetic, `as` and
//! `unwrap` are forbidden in them.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod binary;
pub mod output;

use crate::message::{Batch, Op, Reply, Span};
use crate::server::Server;
pub use output::Output;

/// The protocol's side of one connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Nothing has been read.
    #[default]
    Fresh,
    /// The binary protocol.
    Binary,
}

/// What became of the bytes that a session was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Bytes that are done with, from the front. The rest is the beginning of a request.
    pub consumed: usize,
    /// What must happen next.
    pub next: Next,
}

/// What a session needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At least so many bytes more.
    Read {
        /// Bytes that are missing, as far as can be said.
        missing: usize,
    },
    /// A place for a large value: the next `head_bytes` are followed by `value_bytes`, which are read straight into
    /// a block. Then [`Session::finish_large`] makes the operation.
    ReadLarge {
        /// Bytes of header, extras and key.
        head_bytes: usize,
        /// Bytes of the value.
        value_bytes: usize,
    },
    /// So many bytes to be read and forgotten.
    Skip {
        /// How many.
        bytes: usize,
    },
    /// The end: what has been asked for is answered, then the connection is closed.
    Close,
}

impl Session {
    /// Reads the requests in `input`, a range of `batch`'s input, and puts their operations into the batch.
    pub fn parse(&mut self, batch: &mut Batch, input: Span, server: &Server) -> Parsed {
        if *self == Self::Fresh {
            match batch.input.filled().get(input.range()).and_then(<[u8]>::first) {
                None => {
                    return Parsed { consumed: 0, next: Next::Read { missing: 1 } };
                }
                Some(_) => *self = Self::Binary,
            }
        }
        binary::parse(batch, input, server)
    }

    /// Makes the operation of a request whose value was read into a block: its head is `head` in `batch`'s input, and
    /// the value lies at `large` among `batch`'s large values.
    pub fn finish_large(&self, batch: &mut Batch, head: Span, large: u32, server: &Server) {
        binary::finish_large(batch, head, large, server);
    }

    /// Makes the operation of a request whose value was not read for want of memory.
    pub fn refuse_large(&self, batch: &mut Batch, head: Span, server: &Server) {
        binary::refuse_large(batch, head, server);
    }

    /// Puts the answer to `op` into words.
    pub fn render(&self, op: &Op, reply: &Reply, batch: &Batch, server: &Server, output: &mut Output) {
        binary::render(op, reply, batch, server, output);
    }
}
