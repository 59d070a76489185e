//! The values that packets carry, as types that cannot hold an illegal one.

use core::fmt;
use core::num::NonZeroU64;

/// Bytes of the longest key.
pub const KEY_BYTES_MAX: usize = 250;

/// A key: 1 to [`KEY_BYTES_MAX`] bytes, any bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key<'a>(&'a [u8]);

/// Why some bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// No bytes at all.
    Empty,
    /// More than [`KEY_BYTES_MAX`].
    TooLong {
        /// Bytes there were.
        len: usize,
    },
}

impl<'a> Key<'a> {
    /// These bytes as a key.
    ///
    /// # Errors
    /// Where `bytes` is empty or longer than [`KEY_BYTES_MAX`].
    pub const fn new(bytes: &'a [u8]) -> Result<Self, KeyError> {
        match bytes.len() {
            0 => Err(KeyError::Empty),
            1..=KEY_BYTES_MAX => Ok(Self(bytes)),
            len => Err(KeyError::TooLong { len }),
        }
    }

    /// The bytes of the key.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(\"{}\")", self.0.escape_ascii())
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "key is empty"),
            Self::TooLong { len } => write!(f, "key too long: {len} bytes, limit is {KEY_BYTES_MAX}"),
        }
    }
}

impl core::error::Error for KeyError {}

/// The version of an item. On the wire 0 says 'none', so that is an `Option` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cas(NonZeroU64);

impl Cas {
    /// From the header's field: `None` for 0.
    #[must_use]
    pub const fn from_wire(value: u64) -> Option<Self> {
        match NonZeroU64::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Into the header's field: 0 for `None`.
    #[must_use]
    pub const fn to_wire(cas: Option<Self>) -> u64 {
        match cas {
            Some(cas) => cas.0.get(),
            None => 0,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// Seconds up to which an expiration counts from now; anything above is a Unix time.
pub const RELATIVE_SECONDS_MAX: u32 = 60 * 60 * 24 * 30;

/// When an item ends. On the wire one unsigned number of seconds says all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expiration {
    /// 0: never.
    Never,
    /// 1 to [`RELATIVE_SECONDS_MAX`]: that many seconds from now.
    After(u32),
    /// Above that: at this Unix time.
    At(u32),
}

impl Expiration {
    /// From the field of a packet.
    #[must_use]
    pub const fn from_wire(seconds: u32) -> Self {
        match seconds {
            0 => Self::Never,
            1..=RELATIVE_SECONDS_MAX => Self::After(seconds),
            _ => Self::At(seconds),
        }
    }

    /// Into the field of a packet. An `After` or `At` outside of its range means there what its number means.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Never => 0,
            Self::After(seconds) | Self::At(seconds) => seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_250_bytes() {
        assert_eq!(Key::new(b""), Err(KeyError::Empty));
        assert!(Key::new(&[0; 250]).is_ok());
        assert_eq!(Key::new(&[0; 251]), Err(KeyError::TooLong { len: 251 }));
        assert_eq!(KeyError::TooLong { len: 251 }.to_string(), "key too long: 251 bytes, limit is 250");
    }

    #[test]
    fn thirty_days_are_relative_and_a_second_more_is_a_date() {
        assert_eq!(Expiration::from_wire(0), Expiration::Never);
        assert_eq!(Expiration::from_wire(1), Expiration::After(1));
        assert_eq!(Expiration::from_wire(2_592_000), Expiration::After(2_592_000));
        assert_eq!(Expiration::from_wire(2_592_001), Expiration::At(2_592_001));
        assert_eq!(Expiration::from_wire(u32::MAX), Expiration::At(u32::MAX));
    }
}
