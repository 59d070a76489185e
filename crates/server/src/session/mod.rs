//! Sessions: bytes in, operations out; answers in, bytes out. No I/O.
//!
//! A session is the protocol's side of one connection. The event loop hands it what it has read, and the session says
//! what is asked for and how much of the bytes that took. When the answers are back, the session puts them into words.
//! The first byte of a connection decides which protocol it speaks: 0x80 is [`binary`], `*` is [`resp`], anything else
//! is [`text`]. Nothing below the session knows the difference.
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
pub mod gate;
mod number;
pub mod output;
pub mod resp;
pub mod text;

use crate::config::Protocol;
use crate::message::{Batch, Op, Reply, Span};
use crate::server::Server;
use gate::Gate;
pub use output::Output;

/// The protocol's side of one connection.
#[derive(Debug, Default)]
pub enum Session {
    /// Nothing has been read.
    #[default]
    Fresh,
    /// A client of whom nobody knows who he is, where that is asked.
    Stranger(Box<Gate>),
    /// memcached's binary protocol.
    Binary,
    /// memcached's text protocol, classic and meta.
    Text(text::Text),
    /// Redis's protocol.
    Resp(resp::Resp),
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
        /// Bytes of what stands before the value.
        head_bytes: usize,
        /// Bytes of the value, and of what ends it.
        value_bytes: usize,
    },
    /// To answer what has been asked for. An answer may be of many operations, each of which [`Session::resume`] makes
    /// when the one before it has been answered; the rest of the input comes behind all of them.
    Pause,
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
        if matches!(self, Self::Fresh) {
            let Some(first) = batch.input.filled().get(input.range()).and_then(<[u8]>::first) else {
                return Parsed { consumed: 0, next: Next::Read { missing: 1 } };
            };
            let session = match (server.config.protocol, first) {
                (Protocol::Binary, _) | (Protocol::Auto, &wire::header::REQUEST_MAGIC) => Self::Binary,
                (Protocol::Auto, b'*') => Self::Resp(resp::Resp::default()),
                (Protocol::Auto | Protocol::Text, _) => Self::Text(text::Text::default()),
            };
            *self = if server.access.is_some() { Gate::before(session) } else { session };
        }
        match self {
            Self::Stranger(gate) => match &server.access {
                Some(access) => gate.parse(batch, input, server, access),
                None => Parsed { consumed: 0, next: Next::Close },
            },
            Self::Fresh | Self::Binary => binary::parse(batch, input, server),
            Self::Text(text) => text.parse(batch, input, server),
            Self::Resp(resp) => resp.parse(batch, input, server),
        }
    }

    /// Whether its client has yet to say who he is.
    #[must_use]
    pub fn is_stranger(&self, server: &Server) -> bool {
        matches!(self, Self::Fresh | Self::Stranger(_)) && server.access.is_some()
    }

    /// Whether its client is yet to be let in: to say who he is, or to say anything at all, where there is TLS before that.
    #[must_use]
    #[inline]
    pub fn is_newcomer(&self, server: &Server) -> bool {
        match self {
            Self::Fresh => server.tls.is_some() || server.access.is_some(),
            Self::Stranger(_) => true,
            Self::Binary | Self::Text(_) | Self::Resp(_) => false,
        }
    }

    /// Bytes that may be read in one turn, whatever else there is: a stranger is not worth more than his longest request.
    #[must_use]
    pub fn read_bytes_max(&self, server: &Server) -> usize {
        match (self, &server.access) {
            (Self::Fresh | Self::Stranger(_), Some(access)) => access.limits.request_bytes_max,
            _ => usize::MAX,
        }
    }

    /// Makes the next operation of a request that is answered in many parts. Says whether there is one: nothing else is
    /// read before its answer.
    pub fn resume(&mut self, batch: &mut Batch) -> bool {
        match self {
            Self::Fresh | Self::Stranger(_) | Self::Binary => false,
            Self::Text(text) => text.resume(batch),
            Self::Resp(resp) => resp.resume(batch),
        }
    }

    /// Whether [`resume`](Self::resume) would make an operation.
    #[must_use]
    pub fn has_more(&self) -> bool {
        match self {
            Self::Fresh | Self::Stranger(_) | Self::Binary => false,
            Self::Text(text) => text.has_more(),
            Self::Resp(resp) => resp.has_more(),
        }
    }

    /// Whether it holds a large value until the rest of its request is there.
    #[must_use]
    pub fn holds_value(&self) -> bool {
        match self {
            Self::Fresh | Self::Stranger(_) | Self::Binary | Self::Text(_) => false,
            Self::Resp(resp) => resp.holds_value(),
        }
    }

    /// Learns that `first` and all operations behind it were left unexecuted. Their bytes, from [`Op::starts_at`] on, are
    /// going to be parsed again.
    pub fn take_back(&mut self, first: &Op) {
        match self {
            Self::Fresh | Self::Stranger(_) | Self::Binary => {}
            Self::Text(text) => text.take_back(first),
            Self::Resp(resp) => resp.take_back(first),
        }
    }

    /// Makes the operation of a request whose value was read into a block: its head is `head` in `batch`'s input, and
    /// the value lies at `large` among `batch`'s large values.
    pub fn finish_large(&mut self, batch: &mut Batch, head: Span, large: u32, server: &Server) {
        match self {
            Self::Stranger(_) => {}
            Self::Fresh | Self::Binary => binary::finish_large(batch, head, large, server),
            Self::Text(_) => text::finish_large(batch, head, large, server),
            Self::Resp(resp) => resp.finish_large(batch, head, large, server),
        }
    }

    /// Makes the operation of a request whose value was not read for want of memory.
    pub fn refuse_large(&mut self, batch: &mut Batch, head: Span, server: &Server) {
        match self {
            Self::Stranger(_) => {}
            Self::Fresh | Self::Binary => binary::refuse_large(batch, head, server),
            Self::Text(_) => text::refuse_large(batch, head, server),
            Self::Resp(resp) => resp.refuse_large(batch, head, server),
        }
    }

    /// Puts the answer to `op` into words.
    pub fn render(&mut self, op: &Op, reply: &Reply, batch: &Batch, server: &Server, output: &mut Output) {
        if matches!(self, Self::Binary) && binary::is_exchange(op) {
            *self = Gate::before(Self::Binary);
        }
        match self {
            Self::Stranger(gate) => {
                let access = server.access.as_ref();
                let session = access.and_then(|access| gate.render(op, reply, batch, server, access, output));
                if let Some(session) = session {
                    *self = session;
                }
            }
            Self::Fresh | Self::Binary => binary::render(op, reply, batch, server, output),
            Self::Text(text) => text.render(op, reply, batch, server, output),
            Self::Resp(resp) => resp.render(op, reply, batch, server, output),
        }
    }
}
