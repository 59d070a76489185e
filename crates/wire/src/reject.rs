//! Requests that are malformed: what to answer, and what then.

use core::fmt;

use crate::{KEY_BYTES_MAX, Opcode, Status};

/// Why a request is refused before anyone looks at what it asks for.
///
/// The variants stand in the order in which memcached looks at them; the first that holds is the answer.
/// (Whether the peer may ask at all comes between `BodyTooLong` and `KeyTooLong`; a server that
/// authenticates looks at that itself.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// The first byte is none of this direction: not our protocol, or we have lost our place.
    BadMagic {
        /// What stood there.
        magic: u8,
    },
    /// Extras and key are longer than the body that should hold them.
    Overrun {
        /// Bytes of the key.
        key_len: u16,
        /// Bytes of the extras.
        extras_len: u8,
        /// Bytes of the body.
        body_len: u32,
    },
    /// The body is longer than the receiver ever reads.
    BodyTooLong {
        /// Bytes of the body.
        body_len: u32,
        /// The most that the receiver takes.
        limit: u32,
    },
    /// The key is longer than [`KEY_BYTES_MAX`].
    KeyTooLong {
        /// Bytes of the key.
        key_len: u16,
    },
    /// The lengths are not those that the opcode asks for ([`shape`](crate::shape)).
    WrongShape {
        /// The opcode.
        opcode: Opcode,
    },
    /// An opcode that the receiver does not serve. The body is read past, whatever it holds.
    UnknownOpcode {
        /// The opcode.
        opcode: Opcode,
    },
}

/// What becomes of the connection after a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing behind this request can be trusted.
    Close,
    /// The body is skipped and the next request is read.
    SkipBody,
}

impl Reject {
    /// The status to answer, `None` where the connection is closed without a word.
    #[must_use]
    pub const fn answer(&self) -> Option<Status> {
        match self {
            Self::BadMagic { .. } => None,
            Self::Overrun { .. } | Self::UnknownOpcode { .. } => Some(Status::UNKNOWN_COMMAND),
            Self::BodyTooLong { .. } | Self::KeyTooLong { .. } | Self::WrongShape { .. } => {
                Some(Status::INVALID)
            }
        }
    }

    /// What becomes of the connection once the answer is sent.
    #[must_use]
    pub const fn next(&self) -> Next {
        match self {
            Self::UnknownOpcode { .. } => Next::SkipBody,
            _ => Next::Close,
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic { magic } => write!(f, "bad magic: 0x{magic:02x}"),
            Self::Overrun { key_len, extras_len, body_len } => {
                write!(
                    f,
                    "body too short: {body_len} bytes for a key of {key_len} and extras of {extras_len}"
                )
            }
            Self::BodyTooLong { body_len, limit } => {
                write!(f, "body too long: {body_len} bytes, limit is {limit}")
            }
            Self::KeyTooLong { key_len } => {
                write!(f, "key too long: {key_len} bytes, limit is {KEY_BYTES_MAX}")
            }
            Self::WrongShape { opcode } => write!(f, "{opcode} does not have the lengths that it must have"),
            Self::UnknownOpcode { opcode } => write!(f, "unknown opcode {opcode}"),
        }
    }
}

impl core::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_answered_as_memcached_answers_it() {
        let opcode = Opcode(0x1f);
        let (key_len, extras_len, body_len) = (251, 8, 9);
        for (reject, answer, next) in [
            (Reject::BadMagic { magic: b'g' }, None, Next::Close),
            (Reject::Overrun { key_len, extras_len, body_len }, Some(0x81), Next::Close),
            (Reject::BodyTooLong { body_len, limit: 8 }, Some(0x04), Next::Close),
            (Reject::KeyTooLong { key_len }, Some(0x04), Next::Close),
            (Reject::WrongShape { opcode }, Some(0x04), Next::Close),
            (Reject::UnknownOpcode { opcode }, Some(0x81), Next::SkipBody),
        ] {
            assert_eq!(reject.answer().map(Status::code), answer, "{reject}");
            assert_eq!(reject.next(), next, "{reject}");
        }
    }

    #[test]
    fn the_text_names_the_value_and_the_limit() {
        assert_eq!(Reject::KeyTooLong { key_len: 251 }.to_string(), "key too long: 251 bytes, limit is 250");
        assert_eq!(
            Reject::BodyTooLong { body_len: 1 << 31, limit: 1 << 30 }.to_string(),
            "body too long: 2147483648 bytes, limit is 1073741824"
        );
        assert_eq!(Reject::BadMagic { magic: b'g' }.to_string(), "bad magic: 0x67");
    }
}
