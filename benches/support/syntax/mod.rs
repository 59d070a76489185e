//! How a request is written and an answer is read. Everything else in the generators is the same for every protocol.

mod binary;
mod line;
mod meta;
mod resp;
mod text;

use clap::ValueEnum;

use crate::items::KEY_BYTES;
use crate::server::Kind;

pub(crate) use binary::Binary;
pub(crate) use meta::Meta;
pub(crate) use resp::Resp;
pub(crate) use text::Text;

/// A request, apart from its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Get,
    /// A get of a batch: its miss may go unanswered, and its hit holds the key or comes in its order.
    QuietGet,
    Set {
        generation: u32,
    },
    /// What is answered before or behind the answers to a batch of so many quiet gets.
    Fence {
        gets: u32,
    },
}

/// Where the answer to a batch has what tells that it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FenceAt {
    /// It begins with the count of all that follows.
    Front,
    /// It ends with something that is no hit.
    Back,
}

/// A protocol.
pub(crate) trait Syntax: Copy + Send + Sync {
    /// Whether an item keeps the number of its generation, in its flags. Where it does not, all are of generation 0.
    fn has_flags(self) -> bool;

    fn fence(self) -> FenceAt;

    /// Appends what stands before the quiet gets of a batch.
    fn begin_batch(self, gets: u32, output: &mut Vec<u8>);

    /// Appends what stands behind them.
    fn end_batch(self, opaque: u32, output: &mut Vec<u8>);

    /// Appends a get, one of a batch, or a SET with its value. Fences are written with their batch.
    fn write(self, ask: Ask, key: &[u8; KEY_BYTES], value: &[u8], opaque: u32, output: &mut Vec<u8>);

    /// Reads what stands before the value in the answer at the front of `input`; `None` where it is not all there. `ask` is
    /// the oldest request without an answer.
    ///
    /// # Errors
    /// What makes the stream unreadable from here on.
    fn read(self, input: &[u8], ask: Ask) -> Result<Option<Answer<'_>>, String>;
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    /// Which request is answered, where the protocol says so.
    pub(crate) opaque: Option<u32>,
    pub(crate) outcome: Outcome<'a>,
    /// The key, where the answer holds it.
    pub(crate) key: Option<&'a [u8]>,
    /// Bytes before the value.
    pub(crate) head_bytes: usize,
    /// Bytes of the value, or of an error's text.
    pub(crate) value_bytes: usize,
    /// What must stand behind the value.
    pub(crate) tail: &'static [u8],
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome<'a> {
    Hit {
        flags: u32,
    },
    Miss,
    Stored,
    Fenced,
    /// Something else.
    Refused(Words<'a>),
}

/// An answer that is none of those that are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words<'a> {
    Packet { opcode: wire::Opcode, status: wire::Status },
    Line(Line<'a>),
}

/// A line without its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a>(pub(crate) &'a [u8]);

impl std::fmt::Debug for Line<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.0.escape_ascii().to_string())
    }
}

/// A protocol that is chosen while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// memcached's binary one.
    Binary,
    /// memcached's text protocol: get, set.
    Text,
    /// Its meta commands: mg, ms, mn.
    Meta,
    /// That of redis: GET, SET, MGET.
    Resp,
}

impl Protocol {
    /// What a server of this kind is best asked in.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Memcached | Kind::Floor => Self::Binary,
            Kind::Redis => Self::Resp,
        }
    }
}

/// For generators in which a choice for each request is cheap enough.
macro_rules! dispatch {
    ($protocol:ident.$method:ident($($argument:expr),*)) => {
        match $protocol {
            Self::Binary => Binary.$method($($argument),*),
            Self::Text => Text.$method($($argument),*),
            Self::Meta => Meta.$method($($argument),*),
            Self::Resp => Resp.$method($($argument),*),
        }
    };
}

impl Syntax for Protocol {
    fn has_flags(self) -> bool {
        dispatch!(self.has_flags())
    }

    fn fence(self) -> FenceAt {
        dispatch!(self.fence())
    }

    fn begin_batch(self, gets: u32, output: &mut Vec<u8>) {
        dispatch!(self.begin_batch(gets, output));
    }

    fn end_batch(self, opaque: u32, output: &mut Vec<u8>) {
        dispatch!(self.end_batch(opaque, output));
    }

    #[inline]
    fn write(self, ask: Ask, key: &[u8; KEY_BYTES], value: &[u8], opaque: u32, output: &mut Vec<u8>) {
        dispatch!(self.write(ask, key, value, opaque, output));
    }

    #[inline]
    fn read(self, input: &[u8], ask: Ask) -> Result<Option<Answer<'_>>, String> {
        dispatch!(self.read(input, ask))
    }
}
