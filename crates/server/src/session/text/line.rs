//! Lines, their words, and the numbers in them.
//!
//! Words stand between spaces. Numbers are what C's `strtol` and its like make of them, as in memcached: a sign may
//! stand before one, and white space behind it.

use memchr::memchr;
use wire::Expiration;

use crate::storage::counter;

/// A line without an end in so many bytes is none, unless it is a list of keys.
pub(super) const LINE_BYTES_MAX: usize = 2048;

/// When something ends whose time is negative: long ago.
const LONG_AGO: Expiration = Expiration::At(1);

/// A line of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// What stands before its end.
    pub(super) text: &'a [u8],
    /// Bytes of all of it.
    pub(super) bytes: usize,
}

/// What the front of the input is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Front<'a> {
    /// A line.
    Line(Line<'a>),
    /// Part of one.
    Part,
    /// Part of one that is longer than lines are.
    Long,
}

impl<'a> Front<'a> {
    /// The front of `rest`.
    #[inline]
    pub(super) fn of(rest: &'a [u8]) -> Self {
        let looked_at = rest.get(..=LINE_BYTES_MAX).unwrap_or(rest);
        match memchr(b'\n', looked_at) {
            Some(at) => {
                let text = looked_at.get(..at).unwrap_or_default();
                // memcached takes the carriage return off where there is anything else.
                let text = match text {
                    [before @ .., b'\r'] if !before.is_empty() => before,
                    _ => text,
                };
                Self::Line(Line { text, bytes: at.saturating_add(1) })
            }
            None if rest.len() > LINE_BYTES_MAX => Self::Long,
            None => Self::Part,
        }
    }
}

/// The words of a line.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    /// The words of `line`.
    #[inline]
    pub(super) fn of(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }

    /// The next word, and where in the line it begins.
    #[inline]
    pub(super) fn next_placed(&mut self) -> Option<(usize, &'a [u8])> {
        let rest = self.line.get(self.at..)?;
        let blanks = rest.iter().position(|&byte| byte != b' ')?;
        let start = self.at.saturating_add(blanks);
        let word = self.line.get(start..)?;
        let len = word.iter().position(|&byte| byte == b' ').unwrap_or(word.len());
        self.at = start.saturating_add(len);
        word.get(..len).map(|word| (start, word))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.next_placed().map(|(_, word)| word)
    }
}

/// As `strtoull` and `strtoul` read it.
#[inline]
pub(super) fn unsigned(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 19 {
        return counter::parse(word);
    }
    let digits = word.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| sum.wrapping_mul(10).wrapping_add(u64::from(digit)))
    });
    digits.or_else(|| counter::parse(word))
}

/// The low 32 bits of a number: what memcached makes of client flags.
#[inline]
pub(super) fn unsigned_32(word: &[u8]) -> Option<u32> {
    unsigned(word).map(|number| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0))
}

/// As `strtol` reads it, in 64 bits.
#[inline]
fn signed(word: &[u8]) -> Option<i64> {
    match word {
        [b'-', digits @ ..] => {
            let digits = Some(digits).filter(|digits| digits.first().is_some_and(u8::is_ascii_digit))?;
            0_i64.checked_sub_unsigned(unsigned(digits)?)
        }
        _ => i64::try_from(unsigned(word)?).ok(),
    }
}

/// The length of a value that follows: not negative, and short enough that its end fits into the same 31 bits.
#[inline]
pub(super) fn value_len(word: &[u8]) -> Option<usize> {
    const VALUE_LEN_MAX: i64 = 0x7fff_fffd;
    let len = signed(word).filter(|len| *len <= VALUE_LEN_MAX)?;
    usize::try_from(len).ok()
}

/// When an item ends, `None` where the word is no number. memcached keeps the low 32 bits and takes them as signed: so
/// times from 2038 on are negative, and what is negative has been long ago.
#[inline]
pub(super) fn expiration(word: &[u8]) -> Option<Expiration> {
    const NEGATIVE: u32 = 1 << 31;
    let [_, _, _, _, low @ ..] = signed(word)?.to_be_bytes();
    let seconds = u32::from_be_bytes(low);
    Some(if seconds >= NEGATIVE { LONG_AGO } else { Expiration::from_wire(seconds) })
}

/// Whether the word is a number.
pub(super) fn is_number(word: &[u8]) -> bool {
    signed(word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_a_newline_and_may_have_a_carriage_return_before_it() {
        let text = |input: &'static [u8]| match Front::of(input) {
            Front::Line(line) => Some((line.text, line.bytes)),
            Front::Part | Front::Long => None,
        };
        assert_eq!(text(b"mn\r\nget"), Some((&b"mn"[..], 4)));
        assert_eq!(text(b"mn\n"), Some((&b"mn"[..], 3)));
        assert_eq!(text(b"\r\n"), Some((&b"\r"[..], 2)));
        assert_eq!(text(b"mn\r"), None);
    }

    #[test]
    fn a_line_is_long_when_2049_bytes_hold_no_end() {
        assert!(matches!(Front::of(&[b'a'; LINE_BYTES_MAX]), Front::Part));
        assert!(matches!(Front::of(&[b'a'; LINE_BYTES_MAX + 1]), Front::Long));
        let mut line = vec![b'a'; LINE_BYTES_MAX];
        line.push(b'\n');
        assert!(matches!(Front::of(&line), Front::Line(_)));
        line.insert(0, b'a');
        assert!(matches!(Front::of(&line), Front::Long), "the end comes too late, however much was read");
    }

    #[test]
    fn words_stand_between_spaces() {
        let words: Vec<_> = Words::of(b"  get  a\tb c ").collect();
        assert_eq!(words, [&b"get"[..], b"a\tb", b"c"]);
        let mut words = Words::of(b" ab c");
        assert_eq!((words.next_placed(), words.next_placed()), (Some((1, &b"ab"[..])), Some((4, &b"c"[..]))));
        assert_eq!(Words::of(b"  ").next(), None);
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (word, number) in [
            (&b"0"[..], Some(0)),
            (b"+5", Some(5)),
            (b"9999999999999999999", Some(9_999_999_999_999_999_999)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"-1", None),
            (b"5x", None),
            (b"5\t", Some(5)),
            (b"", None),
        ] {
            assert_eq!(unsigned(word), number, "{}", word.escape_ascii());
        }
        assert_eq!(unsigned_32(b"4294967297"), Some(1));
        for (word, number) in [
            (&b"9223372036854775807"[..], Some(i64::MAX)),
            (b"9223372036854775808", None),
            (b"-9223372036854775808", Some(i64::MIN)),
            (b"-9223372036854775809", None),
            (b"--1", None),
            (b"-", None),
            (b"-+1", None),
        ] {
            assert_eq!(signed(word), number, "{}", word.escape_ascii());
        }
    }

    #[test]
    fn what_is_negative_has_ended_and_lengths_leave_room_for_their_end() {
        assert_eq!(expiration(b"-1"), Some(LONG_AGO));
        assert_eq!((expiration(b"2147483648"), expiration(b"4294967295")), (Some(LONG_AGO), Some(LONG_AGO)));
        assert_eq!(expiration(b"2147483647"), Some(Expiration::At(2_147_483_647)));
        assert_eq!(expiration(b"30"), Some(Expiration::After(30)));
        assert_eq!((value_len(b"2147483645"), value_len(b"2147483646")), (Some(2_147_483_645), None));
        assert_eq!((value_len(b"-1"), value_len(b"-0")), (None, Some(0)));
    }
}
