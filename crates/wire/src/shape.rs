//! Which lengths are legal for which opcode: one table, the whole truth.
//!
//! memcached decides this case by case in `dispatch_bin_command` (`proto_bin.c`). It does not look for a surplus
//! value behind TOUCH, GAT and STAT, and loses its place in the stream there; this table does look.

use crate::{Header, KEY_BYTES_MAX, Opcode, Reject, RequestHeader, frame};

/// The legal lengths of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The extras.
    pub extras: Extras,
    /// The key.
    pub key: Presence,
    /// The value.
    pub value: Presence,
}

/// The legal lengths of the extras.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extras {
    /// Exactly so many bytes.
    Exactly(u8),
    /// None, or so many bytes.
    NoneOr(u8),
    /// Any number of bytes.
    Any,
}

/// Whether a part of the packet is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// No bytes.
    Absent,
    /// At least one byte.
    Present,
    /// Any number of bytes.
    Any,
}

impl Shape {
    const EMPTY: Self = Self::of(0, Presence::Absent, Presence::Absent);
    const KEY_ONLY: Self = Self::of(0, Presence::Present, Presence::Absent);
    const STORE: Self = Self::of(8, Presence::Present, Presence::Any);
    const CONCAT: Self = Self::of(0, Presence::Present, Presence::Any);
    const COUNT: Self = Self::of(20, Presence::Present, Presence::Absent);
    const TOUCH: Self = Self::of(4, Presence::Present, Presence::Absent);

    const fn of(extras: u8, key: Presence, value: Presence) -> Self {
        Self { extras: Extras::Exactly(extras), key, value }
    }

    /// The shape that `opcode` must have, `None` for an opcode that memcached does not know.
    ///
    /// VERBOSITY has a name and any shape: memcached answers it as an unknown command, whatever it holds.
    #[must_use]
    pub const fn of_opcode(opcode: Opcode) -> Option<Self> {
        use Presence::{Absent, Any, Present};
        Some(match opcode {
            Opcode::GET | Opcode::GETQ | Opcode::GETK | Opcode::GETKQ => Self::KEY_ONLY,
            Opcode::SET | Opcode::ADD | Opcode::REPLACE => Self::STORE,
            Opcode::SETQ | Opcode::ADDQ | Opcode::REPLACEQ => Self::STORE,
            Opcode::DELETE | Opcode::DELETEQ => Self::KEY_ONLY,
            Opcode::INCREMENT | Opcode::DECREMENT | Opcode::INCREMENTQ | Opcode::DECREMENTQ => Self::COUNT,
            Opcode::QUIT | Opcode::QUITQ | Opcode::NOOP | Opcode::VERSION => Self::EMPTY,
            Opcode::FLUSH | Opcode::FLUSHQ => Self { extras: Extras::NoneOr(4), key: Absent, value: Absent },
            Opcode::APPEND | Opcode::PREPEND | Opcode::APPENDQ | Opcode::PREPENDQ => Self::CONCAT,
            Opcode::STAT => Self { extras: Extras::Exactly(0), key: Any, value: Absent },
            Opcode::VERBOSITY => Self { extras: Extras::Any, key: Any, value: Any },
            Opcode::TOUCH | Opcode::GAT | Opcode::GATQ | Opcode::GATK | Opcode::GATKQ => Self::TOUCH,
            Opcode::SASL_LIST_MECHS => Self::EMPTY,
            Opcode::SASL_AUTH | Opcode::SASL_STEP => Self::of(0, Present, Any),
            _ => return None,
        })
    }

    /// Whether a header has this shape.
    #[inline]
    #[must_use]
    pub fn fits(&self, header: &RequestHeader) -> bool {
        self.extras.fits(header.extras_len)
            && self.key.fits(usize::from(header.key_len()))
            && self.value.fits(frame::value_len(header))
    }
}

impl Extras {
    #[inline]
    const fn fits(self, len: u8) -> bool {
        match self {
            Self::Exactly(exact) => len == exact,
            Self::NoneOr(some) => len == 0 || len == some,
            Self::Any => true,
        }
    }
}

impl Presence {
    #[inline]
    const fn fits(self, len: usize) -> bool {
        match self {
            Self::Absent => len == 0,
            Self::Present => len > 0,
            Self::Any => true,
        }
    }
}

/// Whether a request may be looked at: the key's length, then the shape. To be asked of a header that
/// [`split`](crate::split) has passed, before its body is there.
///
/// # Errors
/// [`Reject::KeyTooLong`], [`Reject::WrongShape`] or [`Reject::UnknownOpcode`], in this order.
#[inline]
pub fn check(header: &RequestHeader) -> Result<(), Reject> {
    if usize::from(header.key_len()) > KEY_BYTES_MAX {
        return Err(Reject::KeyTooLong { key_len: header.key_len() });
    }
    let opcode = header.opcode;
    match Shape::of_opcode(opcode) {
        Some(shape) if shape.fits(header) => Ok(()),
        Some(_) => Err(Reject::WrongShape { opcode }),
        None => Err(Reject::UnknownOpcode { opcode }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(opcode: u8, extras: u8, key: u16, value: u32) -> RequestHeader {
        RequestHeader {
            magic: 0x80,
            opcode: Opcode(opcode),
            key_len: key.into(),
            extras_len: extras,
            data_type: 0,
            vbucket: 0.into(),
            body_len: (u32::from(extras) + u32::from(key) + value).into(),
            opaque: 0.into(),
            cas: 0.into(),
        }
    }

    /// The rows of memcached's `dispatch_bin_command`, written down a second time: legal extras, key, value.
    fn legal(opcode: u8, extras: u8, key: bool, value: bool) -> Option<bool> {
        Some(match opcode {
            0x00 | 0x09 | 0x0c | 0x0d | 0x04 | 0x14 => extras == 0 && key && !value,
            0x01..=0x03 | 0x11..=0x13 => extras == 8 && key,
            0x05 | 0x06 | 0x15 | 0x16 => extras == 20 && key && !value,
            0x07 | 0x17 | 0x0a | 0x0b | 0x20 => extras == 0 && !key && !value,
            0x08 | 0x18 => (extras == 0 || extras == 4) && !key && !value,
            0x0e | 0x0f | 0x19 | 0x1a | 0x21 | 0x22 => extras == 0 && key,
            0x10 => extras == 0 && !value,
            0x1b => true,
            0x1c | 0x1d | 0x1e | 0x23 | 0x24 => extras == 4 && key && !value,
            _ => return None,
        })
    }

    #[test]
    fn all_256_opcodes_take_exactly_their_legal_shapes() {
        let mut accepted = 0;
        for opcode in 0..=255 {
            for extras in 0..=255 {
                for (key, value) in [(0, 0), (0, 3), (1, 0), (1, 3), (250, 0), (250, 3)] {
                    let verdict = check(&header(opcode, extras, key, value));
                    let op = Opcode(opcode);
                    match legal(opcode, extras, key > 0, value > 0) {
                        None => assert_eq!(verdict, Err(Reject::UnknownOpcode { opcode: op })),
                        Some(false) => assert_eq!(
                            verdict,
                            Err(Reject::WrongShape { opcode: op }),
                            "{op} {extras} {key} {value}"
                        ),
                        Some(true) => {
                            assert_eq!(verdict, Ok(()), "{op} {extras} {key} {value}");
                            accepted += 1;
                        }
                    }
                }
            }
        }
        assert!(accepted > 0x1b);
    }

    #[test]
    fn a_long_key_wins_over_shape_and_opcode() {
        for opcode in [0x00, 0x0a, 0x1f, 0xff] {
            assert_eq!(check(&header(opcode, 7, 251, 0)), Err(Reject::KeyTooLong { key_len: 251 }));
        }
    }

    #[test]
    fn exactly_the_opcodes_with_a_name_have_a_shape() {
        for opcode in (0..=255).map(Opcode) {
            assert_eq!(Shape::of_opcode(opcode).is_some(), opcode.name().is_some(), "{opcode}");
        }
    }
}
