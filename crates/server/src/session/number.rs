//! Decimal numbers in requests and answers. Most are short: flags, times, lengths.

use crate::storage::counter::Digits;

/// Digits of the longest number that is read here: whatever they are, it fits.
const DIGITS_MAX: usize = 9;

/// The number at the front of `bytes`, digits only, and what is behind the byte that ends it. `None` where it does not end
/// so, and where it may be too long for 32 bits.
#[inline]
pub(super) fn read_short(bytes: &[u8], end: u8) -> Option<(u32, &[u8])> {
    let mut number = 0_u32;
    for (at, &byte) in bytes.iter().enumerate().take(DIGITS_MAX.saturating_add(1)) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let is_number = byte == end && at > 0;
            return bytes.get(at.saturating_add(1)..).filter(|_| is_number).map(|behind| (number, behind));
        }
        number = number.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    None
}

/// Appends a byte and the digits of a number.
#[inline]
pub(super) fn push_number(before: u8, number: u64, bytes: &mut Vec<u8>) {
    if number < 10 {
        bytes.extend_from_slice(&[before, last_digit(number)]);
    } else {
        push_digits(before, number, bytes);
    }
}

/// The same for two digits or more.
#[inline(never)]
fn push_digits(before: u8, number: u64, bytes: &mut Vec<u8>) {
    let [last, tens] = [last_digit(number), last_digit(number / 10)];
    match number {
        ..100 => bytes.extend_from_slice(&[before, tens, last]),
        100..1000 => bytes.extend_from_slice(&[before, last_digit(number / 100), tens, last]),
        _ => {
            bytes.push(before);
            bytes.extend_from_slice(Digits::of(number).as_bytes());
        }
    }
}

#[inline]
fn last_digit(number: u64) -> u8 {
    b'0'.wrapping_add(u8::try_from(number % 10).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_number_has_one_to_nine_digits_and_its_end() {
        assert_eq!(read_short(b"0 x", b' '), Some((0, &b"x"[..])));
        assert_eq!(read_short(b"007\r\n", b'\r'), Some((7, &b"\n"[..])));
        assert_eq!(read_short(b"999999999\r", b'\r'), Some((999_999_999, &b""[..])));
        for other in [&b""[..], b" ", b"7", b"7\r", b"-1 ", b"+1 ", b"7x ", b"1234567890 ", b"1234567890"] {
            assert_eq!(read_short(other, b' '), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn numbers_of_all_lengths_are_written() {
        let ends = (0..20).map(|digits| 10_u64.pow(digits));
        for number in ends.flat_map(|end| [end - 1, end, end + 1]).chain([1234, 9876, u64::MAX]) {
            let mut bytes = Vec::new();
            push_number(b'$', number, &mut bytes);
            assert_eq!(bytes, format!("${number}").as_bytes());
        }
    }
}
