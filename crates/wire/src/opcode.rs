//! Opcodes: the number on the wire, its name, and whether it is a quiet form.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The second byte of a packet. Any value can arrive; the constants are the ones that memcached knows.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Opcode(pub u8);

/// Whether the uninteresting answer is sent: a quiet mutation hides its success, a quiet read its miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loudness {
    /// Every answer is sent.
    Loud,
    /// The expected answer is left out.
    Quiet,
}

macro_rules! opcodes {
    ($($name:ident = $value:literal, $text:literal, $loudness:ident;)*) => {
        impl Opcode {
            $(#[doc = concat!("`", stringify!($value), "`, ", $text, ".")]
            pub const $name: Self = Self($value);)*

            /// Every opcode with a name, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in memcached's documents, `None` for an opcode that it does not know.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }

            /// Whether this is a quiet form. An opcode without a name is loud: its error is always sent.
            #[must_use]
            pub const fn loudness(self) -> Loudness {
                match self {
                    $(Self::$name => Loudness::$loudness,)*
                    _ => Loudness::Loud,
                }
            }
        }
    };
}

opcodes! {
    GET = 0x00, "GET", Loud;
    SET = 0x01, "SET", Loud;
    ADD = 0x02, "ADD", Loud;
    REPLACE = 0x03, "REPLACE", Loud;
    DELETE = 0x04, "DELETE", Loud;
    INCREMENT = 0x05, "INCREMENT", Loud;
    DECREMENT = 0x06, "DECREMENT", Loud;
    QUIT = 0x07, "QUIT", Loud;
    FLUSH = 0x08, "FLUSH", Loud;
    GETQ = 0x09, "GETQ", Quiet;
    NOOP = 0x0a, "NOOP", Loud;
    VERSION = 0x0b, "VERSION", Loud;
    GETK = 0x0c, "GETK", Loud;
    GETKQ = 0x0d, "GETKQ", Quiet;
    APPEND = 0x0e, "APPEND", Loud;
    PREPEND = 0x0f, "PREPEND", Loud;
    STAT = 0x10, "STAT", Loud;
    SETQ = 0x11, "SETQ", Quiet;
    ADDQ = 0x12, "ADDQ", Quiet;
    REPLACEQ = 0x13, "REPLACEQ", Quiet;
    DELETEQ = 0x14, "DELETEQ", Quiet;
    INCREMENTQ = 0x15, "INCREMENTQ", Quiet;
    DECREMENTQ = 0x16, "DECREMENTQ", Quiet;
    QUITQ = 0x17, "QUITQ", Quiet;
    FLUSHQ = 0x18, "FLUSHQ", Quiet;
    APPENDQ = 0x19, "APPENDQ", Quiet;
    PREPENDQ = 0x1a, "PREPENDQ", Quiet;
    VERBOSITY = 0x1b, "VERBOSITY", Loud;
    TOUCH = 0x1c, "TOUCH", Loud;
    GAT = 0x1d, "GAT", Loud;
    GATQ = 0x1e, "GATQ", Quiet;
    SASL_LIST_MECHS = 0x20, "SASL_LIST_MECHS", Loud;
    SASL_AUTH = 0x21, "SASL_AUTH", Loud;
    SASL_STEP = 0x22, "SASL_STEP", Loud;
    GATK = 0x23, "GATK", Loud;
    GATKQ = 0x24, "GATKQ", Quiet;
}

impl core::fmt::Display for Opcode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "0x{:02x}", self.0),
        }
    }
}

impl core::fmt::Debug for Opcode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Opcode({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_q_exactly_where_the_opcode_is_quiet() {
        for opcode in Opcode::ALL {
            let quiet = opcode.loudness() == Loudness::Quiet;
            assert_eq!(opcode.name().unwrap().ends_with('Q'), quiet, "{opcode}");
        }
    }

    #[test]
    fn thirty_six_opcodes_have_names() {
        assert_eq!((0..=255).filter(|&n| Opcode(n).name().is_some()).count(), 36);
        assert_eq!(Opcode::ALL.len(), 36);
    }

    #[test]
    fn an_unknown_opcode_prints_its_number() {
        assert_eq!(Opcode(0x1f).to_string(), "0x1f");
        assert_eq!(Opcode::GETKQ.to_string(), "GETKQ");
    }
}
