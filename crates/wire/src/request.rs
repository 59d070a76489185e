//! Requests, typed.
//!
//! Quiet is a property of a request, not a second set of commands; a magic number that stands for 'none' is an
//! `Option` or a variant. [`Request::parse`] and [`Request::encode_into`] are each other's inverse.

use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::header::REQUEST_MAGIC;
use crate::{
    BufferTooShort, Cas, Expiration, HEADER_BYTES, Key, Loudness, Opcode, Packet, Reject, RequestHeader,
    shape,
};

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The client's mark, which comes back in the response.
    pub opaque: u32,
    /// Whether the uninteresting answer is sent. Only some commands have a quiet form: see [`Request::opcode`].
    pub loudness: Loudness,
    /// What is asked for.
    pub command: Command<'a>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// GET, GETK and their quiet forms.
    Get {
        /// The item's key.
        key: Key<'a>,
        /// Whether the response holds the key.
        echo: KeyEcho,
    },
    /// GAT, GATK and their quiet forms: a get that sets the expiration.
    GetAndTouch {
        /// The item's key.
        key: Key<'a>,
        /// Whether the response holds the key.
        echo: KeyEcho,
        /// When the item ends from now on.
        expiration: Expiration,
    },
    /// TOUCH: sets the expiration. It has no quiet form.
    Touch {
        /// The item's key.
        key: Key<'a>,
        /// When the item ends from now on.
        expiration: Expiration,
    },
    /// SET, ADD, REPLACE and their quiet forms.
    Store {
        /// Which of the three.
        mode: StoreMode,
        /// The item's key.
        key: Key<'a>,
        /// The value.
        value: &'a [u8],
        /// The client's 32 bits beside the value.
        flags: u32,
        /// When the item ends.
        expiration: Expiration,
        /// The version that the item must have.
        cas: Option<Cas>,
    },
    /// APPEND, PREPEND and their quiet forms.
    Concat {
        /// To which end.
        side: Concat,
        /// The item's key.
        key: Key<'a>,
        /// The bytes to add.
        value: &'a [u8],
        /// The version that the item must have.
        cas: Option<Cas>,
    },
    /// DELETE, DELETEQ.
    Delete {
        /// The item's key.
        key: Key<'a>,
        /// The version that the item must have.
        cas: Option<Cas>,
    },
    /// INCREMENT, DECREMENT and their quiet forms.
    Count {
        /// Up or down.
        direction: Direction,
        /// The item's key.
        key: Key<'a>,
        /// By how much.
        delta: u64,
        /// What becomes of a missing item.
        on_miss: OnMiss,
        /// The version that the item must have.
        cas: Option<Cas>,
    },
    /// FLUSH, FLUSHQ: ends every item, at once or later.
    Flush {
        /// `None` where the request has no extras, which means at once, as `Never` does.
        at: Option<Expiration>,
    },
    /// STAT.
    Stat {
        /// Which group, `None` for the general one.
        group: Option<Key<'a>>,
    },
    /// NOOP: answered when everything before it is.
    Noop,
    /// VERSION.
    Version,
    /// QUIT, QUITQ.
    Quit,
    /// VERBOSITY. Its lengths are unchecked, and memcached does not serve it.
    Verbosity {
        /// The extras.
        extras: &'a [u8],
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// `SASL_LIST_MECHS`.
    SaslListMechs,
    /// `SASL_AUTH`: begins an exchange.
    SaslAuth {
        /// The mechanism's name.
        mechanism: Key<'a>,
        /// The client's first message.
        message: &'a [u8],
    },
    /// `SASL_STEP`: goes on with an exchange.
    SaslStep {
        /// The mechanism's name.
        mechanism: Key<'a>,
        /// The client's next message.
        message: &'a [u8],
    },
}

/// Whether a response holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEcho {
    /// GET, GAT.
    Without,
    /// GETK, GATK: a miss answers the key, too.
    With,
}

/// Which items a store may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// SET: any.
    Set,
    /// ADD: none.
    Add,
    /// REPLACE: one.
    Replace,
}

/// To which end of a value bytes are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concat {
    /// Behind it.
    Append,
    /// Before it.
    Prepend,
}

/// Up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// INCREMENT, wraps at 2^64.
    Increment,
    /// DECREMENT, stops at 0.
    Decrement,
}

/// What a counter does where there is no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMiss {
    /// Expiration 0xffffffff on the wire: 'not found'.
    Fail,
    /// Stores the initial value, the delta not applied.
    Create {
        /// The value to begin with.
        initial: u64,
        /// When the item ends.
        expiration: Expiration,
    },
}

/// The expiration by which a counter says that it creates nothing.
const CREATE_NOTHING: u32 = u32::MAX;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct StoreExtras {
    flags: U32,
    expiration: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct CountExtras {
    delta: U64,
    initial: U64,
    expiration: U32,
}

/// Bytes of the longest extras of any request.
const EXTRAS_BYTES_MAX: usize = size_of::<CountExtras>();

impl<'a> Request<'a> {
    /// What a packet asks for.
    ///
    /// The lengths are checked by the header, the parts are taken as they are: a packet whose value lies elsewhere
    /// can be parsed with an empty one in its place.
    ///
    /// # Errors
    /// As [`shape::check`].
    #[inline]
    pub fn parse(packet: &Packet<'a, RequestHeader>) -> Result<Self, Reject> {
        shape::check(packet.header)?;
        let wrong_shape = Reject::WrongShape {
            opcode: packet.header.opcode,
        };
        Ok(Self {
            opaque: packet.header.opaque.get(),
            loudness: packet.header.opcode.loudness(),
            command: Command::of(packet).ok_or(wrong_shape)?,
        })
    }

    /// The opcode that says command and loudness. TOUCH, STAT, NOOP, VERSION, VERBOSITY and SASL are always loud.
    #[inline]
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        let (loud, quiet) = self.command.opcodes();
        match self.loudness {
            Loudness::Loud => loud,
            Loudness::Quiet => quiet,
        }
    }

    /// Bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let (key, value) = self.command.key_and_value();
        self.head()
            .len()
            .saturating_add(key.len())
            .saturating_add(value.len())
    }

    /// Header and extras: what stands before key and value.
    ///
    /// A value longer than 4 GiB cannot be said in the header, which then says 4 GiB; no server takes either.
    #[must_use]
    pub fn head(&self) -> RequestHead {
        let (key, value) = self.command.key_and_value();
        let mut head = RequestHead {
            bytes: [0; HEADER_BYTES + EXTRAS_BYTES_MAX],
            len: HEADER_BYTES,
        };
        head.push_extras(&self.command);
        let extras_len = head.len.saturating_sub(HEADER_BYTES);
        let body_len = extras_len.saturating_add(key.len()).saturating_add(value.len());
        let header = RequestHeader {
            magic: REQUEST_MAGIC,
            opcode: self.opcode(),
            key_len: u16::try_from(key.len()).unwrap_or(u16::MAX).into(),
            extras_len: u8::try_from(extras_len).unwrap_or(u8::MAX),
            data_type: 0,
            vbucket: 0.into(),
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX).into(),
            opaque: self.opaque.into(),
            cas: Cas::to_wire(self.command.cas()).into(),
        };
        // The head is longer than a header by its type, so this write does not fail.
        let _ = header.write_to_prefix(&mut head.bytes);
        head
    }

    /// Writes the packet to the front of `buffer` and says how long it is.
    ///
    /// # Errors
    /// Where `buffer` is shorter than [`encoded_len`](Self::encoded_len); nothing useful is in it then.
    pub fn encode_into(&self, buffer: &mut [u8]) -> Result<usize, BufferTooShort> {
        let (key, value) = self.command.key_and_value();
        write_parts(buffer, &[self.head().as_bytes(), key, value])
    }

    /// Appends the packet to `buffer`.
    #[cfg(feature = "alloc")]
    pub fn append_to(&self, buffer: &mut alloc::vec::Vec<u8>) {
        let (key, value) = self.command.key_and_value();
        buffer.extend_from_slice(self.head().as_bytes());
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(value);
    }
}

impl<'a> Command<'a> {
    /// `None` where a part is shorter than the header says.
    #[inline]
    fn of(packet: &Packet<'a, RequestHeader>) -> Option<Self> {
        let key = || Key::new(packet.key).ok();
        let value = packet.value;
        let cas = Cas::from_wire(packet.header.cas.get());
        Some(match packet.header.opcode {
            Opcode::GET | Opcode::GETQ => Self::Get {
                key: key()?,
                echo: KeyEcho::Without,
            },
            Opcode::GETK | Opcode::GETKQ => Self::Get {
                key: key()?,
                echo: KeyEcho::With,
            },
            Opcode::GAT | Opcode::GATQ => Self::GetAndTouch {
                key: key()?,
                echo: KeyEcho::Without,
                expiration: expiration_of(packet.extras)?,
            },
            Opcode::GATK | Opcode::GATKQ => Self::GetAndTouch {
                key: key()?,
                echo: KeyEcho::With,
                expiration: expiration_of(packet.extras)?,
            },
            Opcode::TOUCH => Self::Touch {
                key: key()?,
                expiration: expiration_of(packet.extras)?,
            },
            Opcode::SET | Opcode::SETQ => Self::store(StoreMode::Set, packet, cas)?,
            Opcode::ADD | Opcode::ADDQ => Self::store(StoreMode::Add, packet, cas)?,
            Opcode::REPLACE | Opcode::REPLACEQ => Self::store(StoreMode::Replace, packet, cas)?,
            Opcode::APPEND | Opcode::APPENDQ => Self::Concat {
                side: Concat::Append,
                key: key()?,
                value,
                cas,
            },
            Opcode::PREPEND | Opcode::PREPENDQ => Self::Concat {
                side: Concat::Prepend,
                key: key()?,
                value,
                cas,
            },
            Opcode::DELETE | Opcode::DELETEQ => Self::Delete { key: key()?, cas },
            Opcode::INCREMENT | Opcode::INCREMENTQ => Self::count(Direction::Increment, packet, cas)?,
            Opcode::DECREMENT | Opcode::DECREMENTQ => Self::count(Direction::Decrement, packet, cas)?,
            Opcode::FLUSH | Opcode::FLUSHQ => Self::Flush {
                at: expiration_of(packet.extras),
            },
            Opcode::STAT => Self::Stat { group: key() },
            Opcode::NOOP => Self::Noop,
            Opcode::VERSION => Self::Version,
            Opcode::QUIT | Opcode::QUITQ => Self::Quit,
            Opcode::VERBOSITY => Self::Verbosity {
                extras: packet.extras,
                key: packet.key,
                value,
            },
            Opcode::SASL_LIST_MECHS => Self::SaslListMechs,
            Opcode::SASL_AUTH => Self::SaslAuth {
                mechanism: key()?,
                message: value,
            },
            Opcode::SASL_STEP => Self::SaslStep {
                mechanism: key()?,
                message: value,
            },
            _ => return None,
        })
    }

    #[inline]
    fn store(mode: StoreMode, packet: &Packet<'a, RequestHeader>, cas: Option<Cas>) -> Option<Self> {
        let extras = StoreExtras::ref_from_bytes(packet.extras).ok()?;
        Some(Self::Store {
            mode,
            key: Key::new(packet.key).ok()?,
            value: packet.value,
            flags: extras.flags.get(),
            expiration: Expiration::from_wire(extras.expiration.get()),
            cas,
        })
    }

    #[inline]
    fn count(direction: Direction, packet: &Packet<'a, RequestHeader>, cas: Option<Cas>) -> Option<Self> {
        let extras = CountExtras::ref_from_bytes(packet.extras).ok()?;
        let on_miss = match extras.expiration.get() {
            CREATE_NOTHING => OnMiss::Fail,
            seconds => OnMiss::Create {
                initial: extras.initial.get(),
                expiration: Expiration::from_wire(seconds),
            },
        };
        Some(Self::Count {
            direction,
            key: Key::new(packet.key).ok()?,
            delta: extras.delta.get(),
            on_miss,
            cas,
        })
    }

    /// The loud and the quiet opcode; the loud one twice where there is no quiet one.
    const fn opcodes(&self) -> (Opcode, Opcode) {
        match self {
            Self::Get {
                echo: KeyEcho::Without,
                ..
            } => (Opcode::GET, Opcode::GETQ),
            Self::Get {
                echo: KeyEcho::With, ..
            } => (Opcode::GETK, Opcode::GETKQ),
            Self::GetAndTouch {
                echo: KeyEcho::Without,
                ..
            } => (Opcode::GAT, Opcode::GATQ),
            Self::GetAndTouch {
                echo: KeyEcho::With, ..
            } => (Opcode::GATK, Opcode::GATKQ),
            Self::Touch { .. } => (Opcode::TOUCH, Opcode::TOUCH),
            Self::Store {
                mode: StoreMode::Set, ..
            } => (Opcode::SET, Opcode::SETQ),
            Self::Store {
                mode: StoreMode::Add, ..
            } => (Opcode::ADD, Opcode::ADDQ),
            Self::Store {
                mode: StoreMode::Replace,
                ..
            } => (Opcode::REPLACE, Opcode::REPLACEQ),
            Self::Concat {
                side: Concat::Append, ..
            } => (Opcode::APPEND, Opcode::APPENDQ),
            Self::Concat {
                side: Concat::Prepend,
                ..
            } => (Opcode::PREPEND, Opcode::PREPENDQ),
            Self::Delete { .. } => (Opcode::DELETE, Opcode::DELETEQ),
            Self::Count {
                direction: Direction::Increment,
                ..
            } => (Opcode::INCREMENT, Opcode::INCREMENTQ),
            Self::Count {
                direction: Direction::Decrement,
                ..
            } => (Opcode::DECREMENT, Opcode::DECREMENTQ),
            Self::Flush { .. } => (Opcode::FLUSH, Opcode::FLUSHQ),
            Self::Stat { .. } => (Opcode::STAT, Opcode::STAT),
            Self::Noop => (Opcode::NOOP, Opcode::NOOP),
            Self::Version => (Opcode::VERSION, Opcode::VERSION),
            Self::Quit => (Opcode::QUIT, Opcode::QUITQ),
            Self::Verbosity { .. } => (Opcode::VERBOSITY, Opcode::VERBOSITY),
            Self::SaslListMechs => (Opcode::SASL_LIST_MECHS, Opcode::SASL_LIST_MECHS),
            Self::SaslAuth { .. } => (Opcode::SASL_AUTH, Opcode::SASL_AUTH),
            Self::SaslStep { .. } => (Opcode::SASL_STEP, Opcode::SASL_STEP),
        }
    }

    /// The version that the item must have.
    #[must_use]
    pub const fn cas(&self) -> Option<Cas> {
        match *self {
            Self::Store { cas, .. }
            | Self::Concat { cas, .. }
            | Self::Delete { cas, .. }
            | Self::Count { cas, .. } => cas,
            _ => None,
        }
    }

    /// The two parts of the packet that no header holds; empty where there is none.
    #[must_use]
    pub const fn key_and_value(&self) -> (&'a [u8], &'a [u8]) {
        match *self {
            Self::Get { key, .. }
            | Self::GetAndTouch { key, .. }
            | Self::Touch { key, .. }
            | Self::Delete { key, .. }
            | Self::Count { key, .. }
            | Self::Stat { group: Some(key) } => (key.as_bytes(), &[]),
            Self::Store { key, value, .. } | Self::Concat { key, value, .. } => (key.as_bytes(), value),
            Self::SaslAuth { mechanism, message } | Self::SaslStep { mechanism, message } => {
                (mechanism.as_bytes(), message)
            }
            Self::Verbosity { key, value, .. } => (key, value),
            Self::Flush { .. }
            | Self::Stat { group: None }
            | Self::Noop
            | Self::Version
            | Self::Quit
            | Self::SaslListMechs => (&[], &[]),
        }
    }
}

/// Header and extras of a request that is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead {
    bytes: [u8; HEADER_BYTES + EXTRAS_BYTES_MAX],
    len: usize,
}

impl RequestHead {
    /// The bytes that stand before key and value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn push_extras(&mut self, command: &Command<'_>) {
        match *command {
            Command::Store {
                flags, expiration, ..
            } => {
                let expiration = expiration.to_wire().into();
                self.push(
                    StoreExtras {
                        flags: flags.into(),
                        expiration,
                    }
                    .as_bytes(),
                );
            }
            Command::Count { delta, on_miss, .. } => {
                let (initial, expiration) = match on_miss {
                    OnMiss::Fail => (0, CREATE_NOTHING),
                    OnMiss::Create { initial, expiration } => (initial, expiration.to_wire()),
                };
                let (delta, initial, expiration) = (delta.into(), initial.into(), expiration.into());
                self.push(
                    CountExtras {
                        delta,
                        initial,
                        expiration,
                    }
                    .as_bytes(),
                );
            }
            Command::Touch { expiration, .. }
            | Command::GetAndTouch { expiration, .. }
            | Command::Flush { at: Some(expiration) } => self.push(U32::new(expiration.to_wire()).as_bytes()),
            Command::Verbosity { extras, .. } => self.push(extras),
            _ => {}
        }
    }

    /// Extras longer than any that a command has (VERBOSITY's are unchecked) are cut.
    fn push(&mut self, extras: &[u8]) {
        let Some(room) = self.bytes.get_mut(self.len..) else {
            return;
        };
        for (to, from) in room.iter_mut().zip(extras) {
            *to = *from;
            self.len = self.len.saturating_add(1);
        }
    }
}

#[inline]
fn expiration_of(extras: &[u8]) -> Option<Expiration> {
    Some(Expiration::from_wire(U32::ref_from_bytes(extras).ok()?.get()))
}

/// Writes `parts` one behind the other.
pub(crate) fn write_parts(buffer: &mut [u8], parts: &[&[u8]]) -> Result<usize, BufferTooShort> {
    let needed = parts
        .iter()
        .fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let too_short = BufferTooShort {
        needed,
        available: buffer.len(),
    };
    let mut rest = buffer.get_mut(..needed).ok_or(too_short)?;
    for part in parts {
        let (to, behind) = rest.split_at_mut_checked(part.len()).ok_or(too_short)?;
        to.copy_from_slice(part);
        rest = behind;
    }
    Ok(needed)
}
