//! What is wrong with a request, in Redis's words.

use crate::session::resp::frame::Broken;

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// There is no such command. The text quotes the request.
    Unknown,
    /// Who asks has not said who he is.
    NoAuth,
    /// Too few arguments, or too many.
    Arity,
    Syntax,
    NoInteger,
    DecrementOverflow,
    ExpireTime,
    Offset,
    Cursor,
    /// Of EXPIRE. The text quotes it.
    Option,
    NxAndOthers,
    GtAndLt,
    EmptyKey,
    KeyTooLong,
    ArgTooLong,
    TooLarge,
    OutOfMemory,
    FlushRefused,
    MSetNxTooLong,
    NoArray,
    ArrayLength,
    NoBulk,
    BulkLength,
}

/// All of them, and their texts; the command's name stands for `{}`.
const TEXTS: &[(Complaint, &str)] = &[
    (Complaint::Unknown, ""),
    (Complaint::NoAuth, "NOAUTH Authentication required."),
    (Complaint::Arity, "ERR wrong number of arguments for '{}' command"),
    (Complaint::Syntax, "ERR syntax error"),
    (Complaint::NoInteger, "ERR value is not an integer or out of range"),
    (Complaint::DecrementOverflow, "ERR decrement would overflow"),
    (Complaint::ExpireTime, "ERR invalid expire time in '{}' command"),
    (Complaint::Offset, "ERR offset is out of range"),
    (Complaint::Cursor, "ERR invalid cursor"),
    (Complaint::Option, "ERR Unsupported option {}"),
    (Complaint::NxAndOthers, "ERR NX and XX, GT or LT options at the same time are not compatible"),
    (Complaint::GtAndLt, "ERR GT and LT options at the same time are not compatible"),
    (Complaint::EmptyKey, "ERR key is empty"),
    (Complaint::KeyTooLong, "ERR key is too long, limit is 250 bytes"),
    (Complaint::ArgTooLong, "ERR argument is too long for '{}' command, limit is 32768 bytes"),
    (Complaint::TooLarge, "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
    (Complaint::OutOfMemory, "OOM command not allowed when used memory > 'maxmemory'."),
    (Complaint::FlushRefused, "ERR '{}' command is disabled by the server's configuration"),
    (Complaint::MSetNxTooLong, "ERR request is too long for '{}' command, limit is 131072 bytes"),
    (Complaint::NoArray, "ERR Protocol error: expected '*', got '{}'"),
    (Complaint::ArrayLength, "ERR Protocol error: invalid multibulk length"),
    (Complaint::NoBulk, "ERR Protocol error: expected '$', got '{}'"),
    (Complaint::BulkLength, "ERR Protocol error: invalid bulk length"),
];

impl Complaint {
    /// Its number in a tag, which is never 0.
    pub(super) fn code(self) -> u8 {
        let at = TEXTS.iter().position(|(complaint, _)| *complaint == self);
        at.and_then(|at| u8::try_from(at).ok()).map_or(u8::MAX, |at| at.saturating_add(1))
    }

    /// The complaint of this number.
    #[inline]
    pub(super) fn of_code(code: u8) -> Option<Self> {
        let at = usize::from(code.checked_sub(1)?);
        TEXTS.get(at).map(|(complaint, _)| *complaint)
    }

    /// Appends its text to `output`, with `quoted` for the place that is left open.
    pub(super) fn write(self, quoted: &[u8], output: &mut Vec<u8>) {
        let text = TEXTS.iter().find(|(complaint, _)| *complaint == self).map_or("", |(_, text)| text);
        let (before, behind) = text.split_once("{}").unwrap_or((text, ""));
        let quoted = if before.len() == text.len() { &[] } else { quoted };
        output.push(b'-');
        output.extend_from_slice(before.as_bytes());
        output.extend(quoted.iter().map(|byte| in_line(*byte)));
        output.extend_from_slice(behind.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
}

impl From<Broken> for Complaint {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::NoArray(_) => Self::NoArray,
            Broken::ArrayLength => Self::ArrayLength,
            Broken::NoBulk(_) => Self::NoBulk,
            Broken::BulkLength => Self::BulkLength,
        }
    }
}

/// What stands in an error must not end its line.
pub(super) fn in_line(byte: u8) -> u8 {
    if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_is_found_again_by_its_number() {
        for (complaint, _) in TEXTS {
            assert_eq!(Complaint::of_code(complaint.code()), Some(*complaint));
        }
        assert_eq!(Complaint::of_code(0), None);
        assert_eq!(Complaint::of_code(u8::MAX), None);
    }

    #[test]
    fn a_text_stays_in_its_line() {
        let mut output = Vec::new();
        Complaint::Option.write(b"a\r\nb", &mut output);
        Complaint::Syntax.write(b"set", &mut output);
        assert_eq!(output, b"-ERR Unsupported option a  b\r\n-ERR syntax error\r\n");
    }
}
