//! What the protocols of lines have in common.

/// No answer that is expected here has a line as long as this.
const LINE_BYTES_MAX: usize = 1024;

/// The end of every line, and of every value.
pub(super) const END_OF_LINE: &[u8] = b"\r\n";

/// The line at the front, without its end; `None` where the end is not there.
///
/// # Errors
/// Where it is too long for an answer, or does not end as lines do.
#[inline]
pub(super) fn first_line(input: &[u8]) -> Result<Option<&[u8]>, String> {
    match input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') {
        Some(end) => match input[..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some(line)),
            None => Err(format!("unreadable answer: a line with a bare line feed: {}", shown(&input[..end]))),
        },
        None if input.len() >= LINE_BYTES_MAX => {
            Err(format!("unreadable answer: a line without an end: {}", shown(&input[..80])))
        }
        None => Ok(None),
    }
}

/// Bytes of a line and of its end.
#[inline]
pub(super) fn whole_len(line: &[u8]) -> usize {
    line.len() + END_OF_LINE.len()
}

/// The number that these digits are, and nothing else.
#[inline]
pub(super) fn number_in(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// The same, of a value's length.
#[inline]
pub(super) fn length_in(digits: &[u8]) -> Option<usize> {
    number_in(digits).map(|number| number as usize)
}

/// The same, of flags.
#[inline]
pub(super) fn flags_in(digits: &[u8]) -> Option<u32> {
    number_in(digits).and_then(|number| u32::try_from(number).ok())
}

/// Appends a number in decimal.
#[inline]
pub(super) fn push_number(mut number: u64, output: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[at..]);
}

/// For a message.
pub(super) fn shown(bytes: &[u8]) -> String {
    format!("{:?}", bytes.escape_ascii().to_string())
}
