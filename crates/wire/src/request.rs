//! Requests, typed.
//!
//! Quiet is a property of a request, not a second set of commands; a magic number that stands for 'none' is an
//! `Option` or a variant.
//!
//! [`Request::parse`] and [`Request::encode_into`] are each other's inverse but for what no server looks at, which is
//! 0 when it is sent on: the reserved fields, the CAS of a command that has none here, the initial value of a counter
//! that creates nothing.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

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
        /// When the item ends. The time 0xffffffff cannot be said here, and is sent as the second before it.
        expiration: Expiration,
    },
}

/// The expiration by which a counter says that it creates nothing.
const CREATE_NOTHING: u32 = u32::MAX;

impl OnMiss {
    /// From the fields `initial` and `expiration`.
    #[inline]
    const fn from_wire(initial: u64, expiration: u32) -> Self {
        match expiration {
            CREATE_NOTHING => Self::Fail,
            seconds => Self::Create { initial, expiration: Expiration::from_wire(seconds) },
        }
    }

    /// Into the fields `initial` and `expiration`.
    #[inline]
    const fn to_wire(self) -> (u64, u32) {
        match self {
            Self::Fail => (0, CREATE_NOTHING),
            Self::Create { initial, expiration } => match expiration.to_wire() {
                CREATE_NOTHING => (initial, CREATE_NOTHING.saturating_sub(1)),
                seconds => (initial, seconds),
            },
        }
    }
}

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

/// Bytes of the longest extras that have a fixed form.
const EXTRAS_BYTES_MAX: usize = size_of::<CountExtras>();

impl<'a> Request<'a> {
    /// What a packet asks for.
    ///
    /// Extras and key must be there whole; the value is taken as it is, so a packet whose value lies elsewhere can be
    /// parsed with an empty one in its place.
    ///
    /// # Errors
    /// As [`shape::check`], and [`Reject::WrongShape`] where extras or key are not as long as the header says.
    #[inline]
    pub fn parse(packet: &Packet<'a, RequestHeader>) -> Result<Self, Reject> {
        shape::check(packet.header)?;
        Self::parse_checked(packet)
    }

    /// The same for a packet whose header has passed [`shape::check`] already.
    ///
    /// # Errors
    /// [`Reject::WrongShape`] where the packet is not whole.
    #[inline]
    pub fn parse_checked(packet: &Packet<'a, RequestHeader>) -> Result<Self, Reject> {
        let header = packet.header;
        let whole = packet.extras.len() == usize::from(header.extras_len)
            && packet.key.len() == usize::from(header.key_len.get());
        let command = whole.then(|| Command::of(packet)).flatten();
        Ok(Self {
            opaque: header.opaque.get(),
            loudness: header.opcode.loudness(),
            command: command.ok_or(Reject::WrongShape { opcode: header.opcode })?,
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
        total_len(&self.parts(&self.head()))
    }

    /// Header and extras: what stands before key and value. Of a [`Command::Verbosity`] the header alone, since no
    /// limit short of the protocol's own 255 bytes holds for its extras.
    ///
    /// A value longer than 4 GiB cannot be said in the header, which then says 4 GiB; no server takes either.
    #[inline]
    #[must_use]
    pub fn head(&self) -> RequestHead {
        let (key, value) = self.command.key_and_value();
        let loose_extras = self.command.loose_extras();
        let mut extras = [0; EXTRAS_BYTES_MAX];
        let packed_len = self.command.write_extras(&mut extras);
        let extras_len = packed_len.saturating_add(loose_extras.len());
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
        RequestHead { packed: PackedHead { header, extras }, len: HEADER_BYTES.saturating_add(packed_len) }
    }

    /// Writes the packet to the front of `buffer` and says how long it is.
    ///
    /// # Errors
    /// Where `buffer` is shorter than [`encoded_len`](Self::encoded_len); nothing is written then.
    pub fn encode_into(&self, buffer: &mut [u8]) -> Result<usize, BufferTooShort> {
        write_parts(buffer, &self.parts(&self.head()))
    }

    /// Appends the packet to `buffer`.
    #[cfg(feature = "alloc")]
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        for part in self.parts(&self.head()) {
            buffer.extend_from_slice(part);
        }
    }

    /// The packet, in the order of its bytes.
    #[inline]
    fn parts<'b>(&'b self, head: &'b RequestHead) -> [&'b [u8]; 4] {
        let (key, value) = self.command.key_and_value();
        [head.as_bytes(), self.command.loose_extras(), key, value]
    }
}

impl<'a> Command<'a> {
    /// `None` where the parts are not those of the opcode.
    #[inline]
    fn of(packet: &Packet<'a, RequestHeader>) -> Option<Self> {
        let key = || Key::new(packet.key).ok();
        let value = packet.value;
        let cas = Cas::from_wire(packet.header.cas.get());
        Some(match packet.header.opcode {
            Opcode::GET | Opcode::GETQ => Self::Get { key: key()?, echo: KeyEcho::Without },
            Opcode::GETK | Opcode::GETKQ => Self::Get { key: key()?, echo: KeyEcho::With },
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
            Opcode::TOUCH => Self::Touch { key: key()?, expiration: expiration_of(packet.extras)? },
            Opcode::SET | Opcode::SETQ => Self::store(StoreMode::Set, packet, cas)?,
            Opcode::ADD | Opcode::ADDQ => Self::store(StoreMode::Add, packet, cas)?,
            Opcode::REPLACE | Opcode::REPLACEQ => Self::store(StoreMode::Replace, packet, cas)?,
            Opcode::APPEND | Opcode::APPENDQ => {
                Self::Concat { side: Concat::Append, key: key()?, value, cas }
            }
            Opcode::PREPEND | Opcode::PREPENDQ => {
                Self::Concat { side: Concat::Prepend, key: key()?, value, cas }
            }
            Opcode::DELETE | Opcode::DELETEQ => Self::Delete { key: key()?, cas },
            Opcode::INCREMENT | Opcode::INCREMENTQ => Self::count(Direction::Increment, packet, cas)?,
            Opcode::DECREMENT | Opcode::DECREMENTQ => Self::count(Direction::Decrement, packet, cas)?,
            Opcode::FLUSH | Opcode::FLUSHQ => Self::Flush { at: expiration_of(packet.extras) },
            Opcode::STAT => Self::Stat { group: key() },
            Opcode::NOOP => Self::Noop,
            Opcode::VERSION => Self::Version,
            Opcode::QUIT | Opcode::QUITQ => Self::Quit,
            Opcode::VERBOSITY => Self::Verbosity { extras: packet.extras, key: packet.key, value },
            Opcode::SASL_LIST_MECHS => Self::SaslListMechs,
            Opcode::SASL_AUTH => Self::SaslAuth { mechanism: key()?, message: value },
            Opcode::SASL_STEP => Self::SaslStep { mechanism: key()?, message: value },
            _ => return None,
        })
    }

    #[inline]
    fn store(mode: StoreMode, packet: &Packet<'a, RequestHeader>, cas: Option<Cas>) -> Option<Self> {
        let (flags, expiration) = store_extras(packet.extras)?;
        Some(Self::Store {
            mode,
            key: Key::new(packet.key).ok()?,
            value: packet.value,
            flags,
            expiration,
            cas,
        })
    }

    #[inline]
    fn count(direction: Direction, packet: &Packet<'a, RequestHeader>, cas: Option<Cas>) -> Option<Self> {
        let extras = CountExtras::ref_from_bytes(packet.extras).ok()?;
        Some(Self::Count {
            direction,
            key: Key::new(packet.key).ok()?,
            delta: extras.delta.get(),
            on_miss: OnMiss::from_wire(extras.initial.get(), extras.expiration.get()),
            cas,
        })
    }

    /// The loud and the quiet opcode; the loud one twice where there is no quiet one.
    const fn opcodes(&self) -> (Opcode, Opcode) {
        match self {
            Self::Get { echo: KeyEcho::Without, .. } => (Opcode::GET, Opcode::GETQ),
            Self::Get { echo: KeyEcho::With, .. } => (Opcode::GETK, Opcode::GETKQ),
            Self::GetAndTouch { echo: KeyEcho::Without, .. } => (Opcode::GAT, Opcode::GATQ),
            Self::GetAndTouch { echo: KeyEcho::With, .. } => (Opcode::GATK, Opcode::GATKQ),
            Self::Touch { .. } => (Opcode::TOUCH, Opcode::TOUCH),
            Self::Store { mode: StoreMode::Set, .. } => (Opcode::SET, Opcode::SETQ),
            Self::Store { mode: StoreMode::Add, .. } => (Opcode::ADD, Opcode::ADDQ),
            Self::Store { mode: StoreMode::Replace, .. } => (Opcode::REPLACE, Opcode::REPLACEQ),
            Self::Concat { side: Concat::Append, .. } => (Opcode::APPEND, Opcode::APPENDQ),
            Self::Concat { side: Concat::Prepend, .. } => (Opcode::PREPEND, Opcode::PREPENDQ),
            Self::Delete { .. } => (Opcode::DELETE, Opcode::DELETEQ),
            Self::Count { direction: Direction::Increment, .. } => (Opcode::INCREMENT, Opcode::INCREMENTQ),
            Self::Count { direction: Direction::Decrement, .. } => (Opcode::DECREMENT, Opcode::DECREMENTQ),
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

    /// Writes the extras to the front of `room` and says how long they are.
    #[inline]
    fn write_extras(&self, room: &mut [u8; EXTRAS_BYTES_MAX]) -> usize {
        match *self {
            Self::Store { flags, expiration, .. } => {
                let (flags, expiration) = (flags.into(), expiration.to_wire().into());
                write_to_front(&StoreExtras { flags, expiration }, room)
            }
            Self::Count { delta, on_miss, .. } => {
                let (initial, expiration) = on_miss.to_wire();
                let (delta, initial, expiration) = (delta.into(), initial.into(), expiration.into());
                write_to_front(&CountExtras { delta, initial, expiration }, room)
            }
            Self::Touch { expiration, .. }
            | Self::GetAndTouch { expiration, .. }
            | Self::Flush { at: Some(expiration) } => write_to_front(&U32::new(expiration.to_wire()), room),
            _ => 0,
        }
    }

    /// Extras of no fixed form, cut to what a header can say.
    #[inline]
    fn loose_extras(&self) -> &'a [u8] {
        match *self {
            Self::Verbosity { extras, .. } => extras.get(..usize::from(u8::MAX)).unwrap_or(extras),
            _ => &[],
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
    packed: PackedHead,
    len: usize,
}

#[derive(IntoBytes, Immutable, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
struct PackedHead {
    header: RequestHeader,
    extras: [u8; EXTRAS_BYTES_MAX],
}

impl RequestHead {
    /// The bytes on the wire.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let bytes = self.packed.as_bytes();
        bytes.get(..self.len).unwrap_or(bytes)
    }
}

/// Flags and expiration in the extras of SET, ADD and REPLACE; `None` where they are not as long as they must be.
#[inline]
#[must_use]
pub fn store_extras(extras: &[u8]) -> Option<(u32, Expiration)> {
    let extras = StoreExtras::ref_from_bytes(extras).ok()?;
    Some((extras.flags.get(), Expiration::from_wire(extras.expiration.get())))
}

#[inline]
fn expiration_of(extras: &[u8]) -> Option<Expiration> {
    Some(Expiration::from_wire(U32::ref_from_bytes(extras).ok()?.get()))
}

/// Writes `extras` to the front of `room` and says how long they are.
#[inline]
fn write_to_front(extras: &(impl IntoBytes + Immutable), room: &mut [u8; EXTRAS_BYTES_MAX]) -> usize {
    match extras.write_to_prefix(room) {
        Ok(()) => size_of_val(extras),
        Err(_) => 0,
    }
}

/// Writes `parts` one behind the other.
pub(crate) fn write_parts(buffer: &mut [u8], parts: &[&[u8]]) -> Result<usize, BufferTooShort> {
    let needed = total_len(parts);
    let too_short = BufferTooShort { needed, available: buffer.len() };
    let mut rest = buffer.get_mut(..needed).ok_or(too_short)?;
    for part in parts {
        let (to, behind) = rest.split_at_mut_checked(part.len()).ok_or(too_short)?;
        to.copy_from_slice(part);
        rest = behind;
    }
    Ok(needed)
}

fn total_len(parts: &[&[u8]]) -> usize {
    parts.iter().fold(0, |sum, part| sum.saturating_add(part.len()))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::field::RELATIVE_SECONDS_MAX;
    use crate::{FRAME_BODY_BYTES_MAX, KEY_BYTES_MAX, Split, split};

    /// What a [`Request`] borrows from and is built of.
    #[derive(Debug, Clone)]
    pub(crate) struct Sample {
        opcode: Opcode,
        opaque: u32,
        key: Vec<u8>,
        value: Vec<u8>,
        loose_extras: Vec<u8>,
        numbers: (u64, u64),
        seconds: u32,
        cas: u64,
    }

    /// Every command, loud and quiet, with keys and values of every kind of length.
    pub(crate) fn samples() -> impl Strategy<Value = Sample> {
        let seconds = prop_oneof![
            select(vec![0, 1, RELATIVE_SECONDS_MAX, RELATIVE_SECONDS_MAX + 1, u32::MAX - 1, u32::MAX]),
            any::<u32>(),
        ];
        (
            select(Opcode::ALL),
            any::<u32>(),
            vec(any::<u8>(), 1..=KEY_BYTES_MAX),
            vec(any::<u8>(), 0..300),
            vec(any::<u8>(), 0..=255),
            any::<(u64, u64)>(),
            seconds,
            prop_oneof![Just(0), any::<u64>()],
        )
            .prop_map(|(opcode, opaque, key, value, loose_extras, numbers, seconds, cas)| Sample {
                opcode,
                opaque,
                key,
                value,
                loose_extras,
                numbers,
                seconds,
                cas,
            })
    }

    impl Sample {
        pub(crate) fn request(&self) -> Request<'_> {
            Request { opaque: self.opaque, loudness: self.opcode.loudness(), command: self.command() }
        }

        fn command(&self) -> Command<'_> {
            let key = Key::new(&self.key).unwrap();
            let (value, message) = (&self.value[..], &self.value[..]);
            let expiration = Expiration::from_wire(self.seconds);
            let cas = Cas::from_wire(self.cas);
            let get = |echo| Command::Get { key, echo };
            let get_and_touch = |echo| Command::GetAndTouch { key, echo, expiration };
            let store = |mode| Command::Store {
                mode,
                key,
                value,
                flags: self.opaque.rotate_left(7),
                expiration,
                cas,
            };
            let concat = |side| Command::Concat { side, key, value, cas };
            let count = |direction| Command::Count {
                direction,
                key,
                delta: self.numbers.0,
                on_miss: OnMiss::from_wire(self.numbers.1, self.seconds),
                cas,
            };
            match self.opcode {
                Opcode::GET | Opcode::GETQ => get(KeyEcho::Without),
                Opcode::GETK | Opcode::GETKQ => get(KeyEcho::With),
                Opcode::GAT | Opcode::GATQ => get_and_touch(KeyEcho::Without),
                Opcode::GATK | Opcode::GATKQ => get_and_touch(KeyEcho::With),
                Opcode::TOUCH => Command::Touch { key, expiration },
                Opcode::SET | Opcode::SETQ => store(StoreMode::Set),
                Opcode::ADD | Opcode::ADDQ => store(StoreMode::Add),
                Opcode::REPLACE | Opcode::REPLACEQ => store(StoreMode::Replace),
                Opcode::APPEND | Opcode::APPENDQ => concat(Concat::Append),
                Opcode::PREPEND | Opcode::PREPENDQ => concat(Concat::Prepend),
                Opcode::DELETE | Opcode::DELETEQ => Command::Delete { key, cas },
                Opcode::INCREMENT | Opcode::INCREMENTQ => count(Direction::Increment),
                Opcode::DECREMENT | Opcode::DECREMENTQ => count(Direction::Decrement),
                Opcode::FLUSH | Opcode::FLUSHQ => {
                    Command::Flush { at: (!self.value.is_empty()).then_some(expiration) }
                }
                Opcode::STAT => Command::Stat { group: (!self.value.is_empty()).then_some(key) },
                Opcode::NOOP => Command::Noop,
                Opcode::VERSION => Command::Version,
                Opcode::QUIT | Opcode::QUITQ => Command::Quit,
                Opcode::VERBOSITY => Command::Verbosity { extras: &self.loose_extras, key: &self.key, value },
                Opcode::SASL_LIST_MECHS => Command::SaslListMechs,
                Opcode::SASL_AUTH => Command::SaslAuth { mechanism: key, message },
                Opcode::SASL_STEP => Command::SaslStep { mechanism: key, message },
                other => panic!("no request has the opcode {other}"),
            }
        }
    }

    fn bytes_of(request: &Request<'_>) -> Vec<u8> {
        let mut bytes = vec![0; request.encoded_len()];
        assert_eq!(request.encode_into(&mut bytes), Ok(bytes.len()));
        bytes
    }

    fn packet_of(bytes: &[u8]) -> Packet<'_, RequestHeader> {
        match split(bytes, FRAME_BODY_BYTES_MAX) {
            Ok(Split::Whole { packet, rest: [] }) => packet,
            other => panic!("not one packet: {other:?}"),
        }
    }

    fn loud(command: Command<'_>) -> Request<'_> {
        Request { opaque: 7, loudness: Loudness::Loud, command }
    }

    fn key(bytes: &[u8]) -> Key<'_> {
        Key::new(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn every_request_encodes_and_parses_back_to_itself(sample in samples()) {
            let request = sample.request();
            let bytes = bytes_of(&request);
            prop_assert_eq!(bytes[1], sample.opcode.0);
            prop_assert_eq!(Request::parse(&packet_of(&bytes)), Ok(request));
        }

        #[test]
        fn appending_writes_what_encoding_writes(sample in samples()) {
            let mut appended = b"before".to_vec();
            sample.request().append_to(&mut appended);
            prop_assert_eq!(&appended[6..], bytes_of(&sample.request()));
        }

        #[test]
        fn a_short_buffer_is_an_error_and_stays_untouched(sample in samples(), cut in any::<prop::sample::Index>()) {
            let request = sample.request();
            let needed = request.encoded_len();
            let available = cut.index(needed);
            let mut buffer = vec![0x55; available];
            prop_assert_eq!(request.encode_into(&mut buffer), Err(BufferTooShort { needed, available }));
            prop_assert!(buffer.iter().all(|&byte| byte == 0x55));
        }

        /// A key that was cut must not become another key, nor a delayed FLUSH one at once.
        #[test]
        fn a_packet_without_all_of_extras_and_key_is_refused(sample in samples(), cut in any::<prop::sample::Index>()) {
            let request = sample.request();
            let bytes = bytes_of(&request);
            let header = packet_of(&bytes).header;
            let before_value = usize::from(header.extras_len) + usize::from(header.key_len.get());
            prop_assume!(before_value > 0);
            let part = Packet::carve(header, &bytes[24..24 + cut.index(before_value)]);
            prop_assert_eq!(Request::parse(&part), Err(Reject::WrongShape { opcode: sample.opcode }));
        }
    }

    #[test]
    fn a_store_can_be_parsed_before_its_value_is_there() {
        let store = |value| {
            loud(Command::Store {
                mode: StoreMode::Set,
                key: key(b"k"),
                value,
                flags: 1,
                expiration: Expiration::After(60),
                cas: None,
            })
        };
        let bytes = bytes_of(&store(b"the value"));
        let part = Packet::carve(packet_of(&bytes).header, &bytes[24..33]);
        assert_eq!(Request::parse(&part), Ok(store(b"")));
        assert_eq!(part.value_len(), 9);
    }

    #[test]
    fn a_command_without_a_quiet_form_is_sent_loud() {
        for command in [Command::Noop, Command::Version, Command::Stat { group: None }] {
            let quiet = Request { loudness: Loudness::Quiet, ..loud(command) };
            assert_eq!(bytes_of(&quiet), bytes_of(&loud(command)));
        }
    }

    #[test]
    fn the_last_second_of_2106_does_not_turn_a_counter_into_one_that_creates_nothing() {
        let count = |expiration| {
            loud(Command::Count {
                direction: Direction::Increment,
                key: key(b"n"),
                delta: 1,
                on_miss: OnMiss::Create { initial: 5, expiration },
                cas: None,
            })
        };
        let bytes = bytes_of(&count(Expiration::At(u32::MAX)));
        assert_eq!(Request::parse(&packet_of(&bytes)), Ok(count(Expiration::At(u32::MAX - 1))));
    }

    #[test]
    fn flush_without_a_delay_and_with_a_delay_of_0_are_told_apart() {
        let at_once = bytes_of(&loud(Command::Flush { at: None }));
        let zero = bytes_of(&loud(Command::Flush { at: Some(Expiration::Never) }));
        assert_eq!((at_once.len(), zero.len()), (24, 28));
        assert_eq!(
            Request::parse(&packet_of(&zero)).unwrap().command,
            Command::Flush { at: Some(Expiration::Never) }
        );
    }

    #[test]
    fn fields_that_no_server_looks_at_are_0_when_a_request_is_sent_on() {
        let mut bytes = bytes_of(&loud(Command::Get { key: key(b"k"), echo: KeyEcho::Without }));
        let sent = bytes.clone();
        bytes[5..8].fill(0xff);
        bytes[16..24].fill(0xff);
        assert_eq!(bytes_of(&Request::parse(&packet_of(&bytes)).unwrap()), sent);
    }

    #[test]
    fn the_head_is_what_stands_before_key_and_value() {
        let request = loud(Command::Concat {
            side: Concat::Append,
            key: key(b"key"),
            value: b"value",
            cas: Cas::from_wire(9),
        });
        let whole = [request.head().as_bytes(), b"key", b"value"].concat();
        assert_eq!(whole, bytes_of(&request));
    }
}
