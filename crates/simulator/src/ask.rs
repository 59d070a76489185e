//! One operation of an engine, and what it is answered, apart from any batch.

use std::fmt;

use bytes::Bytes;
use memwire::message::{Batch, Command, Payload, Refusal, Reply, Span, Value as Place};
use wire::{Cas, Concat, Direction, Expiration, OnMiss, StoreMode};

/// The Unix time at which every story begins.
pub const START: u32 = 1_700_000_000;

/// One operation, as a test asks for it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Empty for a command without one.
    pub key: Bytes,
    /// What is to be done. Where the value lies is said by `given`.
    pub command: Command,
    /// The value that it brings.
    pub given: Option<Given>,
}

/// A value, and how it comes.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its bytes.
    pub value: Value,
    /// Where they lie.
    pub placement: Placement,
}

/// Where the front end puts a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// With the requests.
    Input,
    /// In a mapping of its own.
    Block,
}

/// The bytes of a value, printed in short.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(pub Bytes);

/// What an operation was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done, or statistics.
    Done,
    /// An item's value.
    Hit {
        /// The client's 32 bits.
        flags: u32,
        /// The version.
        cas: u64,
        /// The value.
        value: Value,
    },
    /// An item's expiration was set.
    Touched {
        /// The client's 32 bits.
        flags: u32,
        /// The version.
        cas: u64,
    },
    /// A value was stored.
    Stored {
        /// Its version.
        cas: u64,
    },
    /// A counter was changed or created.
    Counted {
        /// What it holds.
        value: u64,
        /// Its version.
        cas: u64,
    },
    /// No such item.
    NotFound,
    /// There is such an item, or its version is another.
    Exists,
    /// No such item to add bytes to, or it would grow too long.
    NotStored,
    /// The item is no number.
    NonNumeric,
    /// The value was refused.
    Refused(Refusal),
    /// Nothing yet: it waits for a change.
    Waiting,
    /// It may not wait, because too many do.
    TooManyWait,
}

impl Ask {
    /// Whether it can be put off. One that brings a block cannot, whatever its command.
    #[must_use]
    pub fn can_wait(&self) -> bool {
        let brings_block =
            self.given.as_ref().is_some_and(|given| matches!(given.placement, Placement::Block));
        self.command.can_wait() && !brings_block
    }

    /// An operation without a value.
    #[must_use]
    pub fn new(key: impl AsRef<[u8]>, command: Command) -> Self {
        Self { key: Bytes::copy_from_slice(key.as_ref()), command, given: None }
    }

    /// The same with a value.
    #[must_use]
    pub fn with(self, value: impl AsRef<[u8]>) -> Self {
        let given =
            Given { value: Value(Bytes::copy_from_slice(value.as_ref())), placement: Placement::Input };
        Self { given: Some(given), ..self }
    }

    /// GET.
    #[must_use]
    pub fn get(key: &str) -> Self {
        Self::new(key, Command::Get)
    }

    /// SET, without flags, for ever.
    #[must_use]
    pub fn set(key: &str, value: impl AsRef<[u8]>) -> Self {
        Self::store(StoreMode::Set, key, value, None)
    }

    /// SET, ADD or REPLACE, without flags, for ever.
    #[must_use]
    pub fn store(mode: StoreMode, key: &str, value: impl AsRef<[u8]>, cas: Option<u64>) -> Self {
        let command = Command::Store {
            mode,
            flags: 0,
            expiration: Expiration::Never,
            cas: cas.filter(|cas| *cas != 0),
            value: NOWHERE,
        };
        Self::new(key, command).with(value)
    }

    /// APPEND or PREPEND.
    #[must_use]
    pub fn concat(side: Concat, key: &str, value: impl AsRef<[u8]>) -> Self {
        let command = Command::Concat { side, cas: None, value: NOWHERE };
        Self::new(key, command).with(value)
    }

    /// DELETE.
    #[must_use]
    pub fn delete(key: &str) -> Self {
        Self::new(key, Command::Delete { cas: None })
    }

    /// INCREMENT or DECREMENT of an item that is there.
    #[must_use]
    pub fn count(key: &str, direction: Direction, delta: u64) -> Self {
        let command = Command::Count { direction, delta, on_miss: OnMiss::Fail, cas: None };
        Self::new(key, command)
    }

    /// FLUSH.
    #[must_use]
    pub fn flush(at: Expiration) -> Self {
        Self::new("", Command::Flush { at })
    }
}

/// Stands where a value has no place yet.
pub const NOWHERE: Payload = Payload::Inline(Span { start: 0, len: 0 });

impl Answer {
    /// What a reply says.
    #[must_use]
    pub fn of(reply: &Reply, batch: &Batch) -> Self {
        match reply {
            Reply::Hit { flags, cas, value } => {
                let value = match *value {
                    Place::Copied(span) => &batch.values[span.range()],
                    Place::Large(at) => &batch.large[at as usize],
                    Place::Lent(at) => &batch.lent[at as usize],
                };
                // A copy: an answer that is looked at later must not keep the block alive.
                Self::Hit {
                    flags: *flags,
                    cas: Cas::to_wire(*cas),
                    value: Value(Bytes::copy_from_slice(value)),
                }
            }
            Reply::Touched { flags, cas } => Self::Touched { flags: *flags, cas: Cas::to_wire(*cas) },
            Reply::Stored { cas } => Self::Stored { cas: Cas::to_wire(*cas) },
            Reply::Counted { value, cas } => Self::Counted { value: *value, cas: Cas::to_wire(*cas) },
            Reply::Done
            | Reply::Stats(_)
            | Reply::Scanned(_)
            | Reply::Snapshot(_)
            | Reply::Found { .. }
            | Reply::MetaStored { .. }
            | Reply::MetaCounted { .. }
            | Reply::Described { .. } => Self::Done,
            Reply::NotFound => Self::NotFound,
            Reply::Exists => Self::Exists,
            Reply::NotStored => Self::NotStored,
            Reply::Waiting => Self::Waiting,
            Reply::TooManyWait => Self::TooManyWait,
            Reply::Peeked { .. } | Reply::Length(_) | Reply::Sum(_) => Self::Done,
            Reply::NonNumeric | Reply::Overflow => Self::NonNumeric,
            Reply::Refused(why) => Self::Refused(*why),
        }
    }

    /// Bytes of the value in it.
    #[must_use]
    pub fn value_len(&self) -> usize {
        match self {
            Self::Hit { value, .. } => value.0.len(),
            _ => 0,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(40)];
        write!(f, "\"{}\" ({} bytes)", shown.escape_ascii(), self.0.len())
    }
}
