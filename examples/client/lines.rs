//! What protocols of lines share: lines, data behind a length, numbers in digits.

use std::str::FromStr;

use bytes::Bytes;
use wire::FRAME_BODY_BYTES_MAX;

use crate::connection::{Connection, Requests};
use crate::failure::Failure;
use crate::output::printable;

/// What ends a line, and data.
const CRLF: &[u8] = b"\r\n";
/// Bytes of the longest line that is read. The longest that a server has reason to send holds a key and some numbers.
const LINE_BYTES_MAX: usize = 8 << 10;

/// A line of words.
pub(crate) struct Line(Vec<u8>);

impl Line {
    pub(crate) fn of(command: &str) -> Self {
        Self(command.as_bytes().to_vec())
    }

    pub(crate) fn word(mut self, word: &[u8]) -> Self {
        self.0.push(b' ');
        self.0.extend_from_slice(word);
        self
    }

    pub(crate) fn number(self, number: impl Into<u64>) -> Self {
        self.word(number.into().to_string().as_bytes())
    }

    /// The length of data that follows in a line of its own.
    pub(crate) fn len_of(self, data: &[u8]) -> Self {
        self.number(data.len() as u64)
    }

    /// A letter with its token.
    pub(crate) fn flag(self, letter: char, token: impl Into<u64>) -> Self {
        self.word(format!("{letter}{}", token.into()).as_bytes())
    }

    pub(crate) fn write(&self, requests: &mut Requests) {
        requests.show(printable(&self.0));
        write_data(&self.0, requests);
    }
}

/// Appends data, which may hold anything, and what ends it.
pub(crate) fn write_data(data: &[u8], requests: &mut Requests) {
    requests.bytes.extend_from_slice(data);
    requests.bytes.extend_from_slice(CRLF);
}

/// Waits for a line, and takes it without its end.
pub(crate) fn read_line(connection: &mut Connection) -> Result<Bytes, Failure> {
    loop {
        let begins = &connection.received()[..connection.received().len().min(LINE_BYTES_MAX)];
        if let Some(end) = begins.iter().position(|&byte| byte == b'\n') {
            if !begins[..=end].ends_with(CRLF) {
                return Err(connection.nonsense("a line that does not end with \\r\\n"));
            }
            let line = connection.take(end + 1)?.slice(..end - 1);
            connection.show(printable(&line));
            return Ok(line);
        }
        if begins.len() == LINE_BYTES_MAX {
            return Err(connection.nonsense(format_args!("a line of over {LINE_BYTES_MAX} bytes")));
        }
        connection.receive()?;
    }
}

/// Waits for data of this length, and takes it without its end.
pub(crate) fn read_data(len: u32, connection: &mut Connection) -> Result<Bytes, Failure> {
    if len > FRAME_BODY_BYTES_MAX {
        return Err(Failure::Nonsense(format!("data of {len} bytes, limit is {FRAME_BODY_BYTES_MAX}")));
    }
    let len = len as usize;
    let mut data = connection.take(len + CRLF.len())?;
    if data.split_off(len) != CRLF {
        return Err(Failure::Nonsense(format!("data that goes on behind its {len} bytes")));
    }
    Ok(data)
}

/// A number in digits, and nothing else. A sign stands only where the type has one.
pub(crate) fn number<T: FromStr>(word: &[u8]) -> Option<T> {
    // `parse` takes a plus, which no server writes.
    let digits = str::from_utf8(word).ok().filter(|digits| !digits.starts_with('+'))?;
    digits.parse().ok()
}

/// A line that is no answer to what was asked.
pub(crate) fn unexpected(line: &[u8], asked: &str) -> Failure {
    Failure::Nonsense(format!("'{}' for an answer to {asked}", printable(line)))
}
