//! Decimal numbers in values.
//!
//! memcached reads them with `strtoull`, and so do clients that were written against it: leading white space and a
//! sign are taken, and the number ends at white space, at a NUL or at the end of the value.

/// Bytes of the longest number.
pub const COUNTER_BYTES_MAX: usize = 20;

/// The number at the front of `value`, `None` where memcached would call it non-numeric.
#[must_use]
pub fn parse(value: &[u8]) -> Option<u64> {
    let blanks = value.iter().take_while(|byte| is_space(**byte)).count();
    let signed = &value[blanks..];
    let (negative, digits) = match signed.first()? {
        b'-' => (true, &signed[1..]),
        b'+' => (false, &signed[1..]),
        _ => (false, signed),
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ends_well = digits.get(count).is_none_or(|byte| is_space(*byte) || *byte == 0);
    if count == 0 || !ends_well {
        return None;
    }
    let number = digits[..count]
        .iter()
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    // A negative number wraps around, and is refused where it wraps to the upper half: `-0` is 0, `-1` is none.
    match negative.then(|| number.wrapping_neg()) {
        None => Some(number),
        Some(wrapped) => (wrapped < 1 << 63).then_some(wrapped),
    }
}

/// The number that is the whole of `value`, as Redis reads it: its shortest digits, with a `-` if there must be one.
#[must_use]
pub fn parse_exact(value: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match value.split_first()? {
        (b'-', digits) => (true, digits),
        _ => (false, value),
    };
    match digits {
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() < COUNTER_BYTES_MAX => {}
        _ => return None,
    }
    // Nineteen digits fit into 64 bits.
    let mut number = 0_u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    if is_negative { 0_i64.checked_sub_unsigned(number) } else { number.try_into().ok() }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// A number as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Digits {
    bytes: [u8; COUNTER_BYTES_MAX],
    start: usize,
}

impl Digits {
    /// The digits of `number`, without leading zeros.
    #[must_use]
    pub fn of(mut number: u64) -> Self {
        let mut digits = Self { bytes: [b'0'; COUNTER_BYTES_MAX], start: COUNTER_BYTES_MAX - 1 };
        for at in (0..COUNTER_BYTES_MAX).rev() {
            digits.bytes[at] = b'0' + (number % 10) as u8;
            digits.start = at;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        digits
    }

    /// The same with a sign, where it is negative.
    #[must_use]
    pub fn of_signed(number: i64) -> Self {
        let mut digits = Self::of(number.unsigned_abs());
        if number < 0 {
            // No number has twenty digits with a sign.
            digits.start -= 1;
            digits.bytes[digits.start] = b'-';
        }
        digits
    }

    /// The digits.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtoull_reads_them() {
        let max = u64::MAX.to_string();
        for (text, number) in [
            ("12", Some(12)),
            ("12 ", Some(12)),
            (" \t12", Some(12)),
            ("+12", Some(12)),
            ("12 junk", Some(12)),
            ("12\0junk", Some(12)),
            ("007", Some(7)),
            ("-0", Some(0)),
            (max.as_str(), Some(u64::MAX)),
            ("18446744073709551616", None),
            ("12a", None),
            ("a", None),
            ("", None),
            (" ", None),
            ("+", None),
            ("-1", None),
            ("- 1", None),
            ("-18446744073709551615", Some(1)),
            ("1.5", None),
        ] {
            assert_eq!(parse(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn an_exact_number_has_nothing_around_it() {
        for number in [0, 1, -1, 9, 10, -10, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(parse_exact(number.to_string().as_bytes()), Some(number));
            assert_eq!(Digits::of_signed(number).as_bytes(), number.to_string().as_bytes());
        }
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            "00",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "18446744073709551617",
            "1a",
            "a",
        ] {
            assert_eq!(parse_exact(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn digits_have_no_leading_zeros() {
        for number in [0, 1, 9, 10, 99, 100, u64::MAX] {
            assert_eq!(Digits::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
