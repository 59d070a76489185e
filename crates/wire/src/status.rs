//! Response statuses and the text that goes with them.

use core::fmt;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The status field of a response. Any value can arrive; the constants are the ones that memcached sends.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(U16);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Status {
            $($(#[$doc])*
            #[doc = concat!("(`", stringify!($value), "`)")]
            pub const $name: Self = Self(U16::new($value));)*

            /// Every status with a name, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The body that memcached sends with it; empty for success, for a challenge, and for a number that it does
            /// not know.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.code() {
                    $($value => $text,)*
                    _ => "",
                }
            }
        }
    };
}

statuses! {
    /// Done.
    OK = 0x0000, "";
    /// There is no such item.
    NOT_FOUND = 0x0001, "Not found";
    /// There is such an item, or it has another CAS.
    EXISTS = 0x0002, "Data exists for key.";
    /// The value is longer than the server stores.
    TOO_LARGE = 0x0003, "Too large.";
    /// The request is malformed.
    INVALID = 0x0004, "Invalid arguments";
    /// APPEND or PREPEND to an item that is not there, or that would grow too large.
    NOT_STORED = 0x0005, "Not stored.";
    /// INCREMENT or DECREMENT of a value that is no number.
    NON_NUMERIC = 0x0006, "Non-numeric server-side value for incr or decr";
    /// Wrong credentials or none, or a command that is forbidden.
    AUTH_ERROR = 0x0020, "Auth failure.";
    /// The exchange goes on; the body is the server's challenge.
    AUTH_CONTINUE = 0x0021, "";
    /// The server does not know the opcode.
    UNKNOWN_COMMAND = 0x0081, "Unknown command";
    /// The server has no room.
    OUT_OF_MEMORY = 0x0082, "Out of memory allocating item";
}

impl Status {
    /// A status by its number.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self(U16::new(code))
    }

    /// The number.
    #[must_use]
    pub const fn code(self) -> u16 {
        u16::from_be_bytes(self.0.to_bytes())
    }

    /// Whether the request did what it asked for.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.code() == 0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.text()) {
            (0, _) => f.pad("OK"),
            (0x21, _) => f.pad("Auth continue"),
            (code, "") => write!(f, "status 0x{code:04x}"),
            (_, text) => f.pad(text),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status(0x{:04x}: {self})", self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_but_a_challenge_has_its_text() {
        for status in Status::ALL {
            let silent = [Status::OK, Status::AUTH_CONTINUE].contains(status);
            assert_eq!(status.text().is_empty(), silent, "{status:?}");
        }
    }

    #[test]
    fn only_zero_is_ok() {
        let ok: Vec<u16> = (0..=u16::MAX).filter(|&code| Status::new(code).is_ok()).collect();
        assert_eq!(ok, [0]);
    }

    #[test]
    fn a_status_lies_in_the_header_big_endian() {
        assert_eq!(Status::new(0x0102).as_bytes(), [1, 2]);
        assert_eq!(Status::ref_from_bytes(&[0x00, 0x81]), Ok(&Status::UNKNOWN_COMMAND));
    }

    #[test]
    fn a_status_prints_words_and_an_unknown_one_its_number() {
        assert_eq!(Status::OK.to_string(), "OK");
        assert_eq!(Status::AUTH_CONTINUE.to_string(), "Auth continue");
        assert_eq!(Status::NOT_FOUND.to_string(), "Not found");
        assert_eq!(Status::new(0x85).to_string(), "status 0x0085");
        assert_eq!(format!("{:?}", Status::EXISTS), "Status(0x0002: Data exists for key.)");
    }
}
