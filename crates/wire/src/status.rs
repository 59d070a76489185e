//! Response statuses and the text that goes with them.

use core::fmt;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The status field of a response. Any value can arrive; the constants are the ones that memcached sends.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(U16);

macro_rules! statuses {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Status {
            $(#[doc = concat!("`", stringify!($value), "`: ", $text)]
            pub const $name: Self = Self(U16::new($value));)*

            /// Every status with a name, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The body that memcached sends with it; empty for success and for a number that it does not know.
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
    OK = 0x0000, "";
    NOT_FOUND = 0x0001, "Not found";
    EXISTS = 0x0002, "Data exists for key.";
    TOO_LARGE = 0x0003, "Too large.";
    INVALID = 0x0004, "Invalid arguments";
    NOT_STORED = 0x0005, "Not stored.";
    NON_NUMERIC = 0x0006, "Non-numeric server-side value for incr or decr";
    AUTH_ERROR = 0x0020, "Auth failure.";
    AUTH_CONTINUE = 0x0021, "";
    UNKNOWN_COMMAND = 0x0081, "Unknown command";
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
