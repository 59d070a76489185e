//! The protocols that servers are asked in: memcached's binary one, and as much of RESP as GET, SET and PING need.

use crate::server::Kind;
use crate::syntax::{Answer, Ask, Binary, Outcome, Syntax};

/// A protocol that is chosen while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Binary,
    Resp,
}

impl Protocol {
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Memcached => Self::Binary,
            Kind::Redis => Self::Resp,
        }
    }
}

impl Syntax for Protocol {
    #[inline]
    fn write(self, ask: Ask, key: &[u8], value: &[u8], opaque: u32, output: &mut Vec<u8>) {
        match self {
            Self::Binary => Binary.write(ask, key, value, opaque, output),
            Self::Resp => write(ask, key, value, output),
        }
    }

    #[inline]
    fn read(self, input: &[u8]) -> Result<Option<Answer<'_>>, String> {
        match self {
            Self::Binary => Binary.read(input),
            Self::Resp => read(input),
        }
    }
}

/// A command as an array of bulk strings.
fn write(ask: Ask, key: &[u8], value: &[u8], output: &mut Vec<u8>) {
    let words: &[&[u8]] = match ask {
        Ask::Get | Ask::QuietGet => &[b"GET", key],
        Ask::Set { .. } => &[b"SET", key, value],
        Ask::Fence => &[b"PING"],
    };
    output.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        output.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

/// A line this long is none of the answers that are expected here.
const LINE_BYTES_MAX: usize = 1024;

/// The end of line behind a value is read as the beginning of what follows: no answer begins with one. There are no
/// flags, so a hit has 0.
fn read(input: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let skipped = if input.starts_with(b"\r\n") { 2 } else { 0 };
    let answer = &input[skipped..];
    let Some(len) = answer.windows(2).take(LINE_BYTES_MAX).position(|pair| pair == b"\r\n") else {
        let is_endless = answer.len() > LINE_BYTES_MAX;
        return if is_endless {
            Err("unreadable answer: a line without an end".to_owned())
        } else {
            Ok(None)
        };
    };
    let line = String::from_utf8_lossy(&answer[..len]);
    let length = || line.get(1..).and_then(|digits| digits.parse::<usize>().ok());
    let (outcome, value_bytes) = match (line.as_bytes().first(), &*line) {
        (Some(b'+'), "+OK") => (Outcome::Stored, 0),
        (Some(b'+'), "+PONG") => (Outcome::Fenced, 0),
        (Some(b'-'), _) => (Outcome::Refused(line.to_string()), 0),
        (Some(b'$'), "$-1") => (Outcome::Miss, 0),
        (Some(b'$'), _) => {
            let bytes = length().ok_or_else(|| format!("unreadable answer: {line:?}"))?;
            (Outcome::Hit { flags: 0 }, bytes)
        }
        _ => return Err(format!("unreadable answer: {line:?}")),
    };
    Ok(Some(Answer { opaque: None, outcome, key: None, head_bytes: skipped + len + 2, value_bytes }))
}
