//! As much of redis's protocol as GET, SET and MGET need. A batch is an MGET, whose answer begins with its length.

use super::line::{END_OF_LINE, first_line, length_in, push_number, shown, whole_len};
use super::{Answer, Ask, FenceAt, Line, Outcome, Syntax, Words};
use crate::items::KEY_BYTES;

/// Redis's protocol, in its version 2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resp;

impl Syntax for Resp {
    #[inline]
    fn has_flags(self) -> bool {
        false
    }

    #[inline]
    fn fence(self) -> FenceAt {
        FenceAt::Front
    }

    #[inline]
    fn begin_batch(self, gets: u32, output: &mut Vec<u8>) {
        output.push(b'*');
        push_number(u64::from(gets) + 1, output);
        output.extend_from_slice(b"\r\n$4\r\nMGET\r\n");
    }

    #[inline]
    fn end_batch(self, _: u32, _: &mut Vec<u8>) {}

    #[inline]
    fn write(self, ask: Ask, key: &[u8; KEY_BYTES], value: &[u8], _: u32, output: &mut Vec<u8>) {
        match ask {
            Ask::Get => {
                output.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
                push_bulk(key, output);
            }
            Ask::QuietGet => push_bulk(key, output),
            Ask::Set { .. } => {
                output.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
                push_bulk(key, output);
                push_bulk(value, output);
            }
            Ask::Fence { .. } => {}
        }
    }

    #[inline]
    fn read(self, input: &[u8], ask: Ask) -> Result<Option<Answer<'_>>, String> {
        let Some(line) = first_line(input)? else { return Ok(None) };
        let length = line.get(1..).and_then(length_in);
        let mut tail: &[u8] = b"";
        let mut value_bytes = 0;
        let outcome = match (line.first(), line, length, ask) {
            (Some(b'$'), _, Some(bytes), _) => {
                (value_bytes, tail) = (bytes, END_OF_LINE);
                Outcome::Hit { flags: 0 }
            }
            (_, b"$-1", ..) => Outcome::Miss,
            (_, b"+OK", ..) => Outcome::Stored,
            (Some(b'*'), _, Some(count), Ask::Fence { gets }) if count == gets as usize => Outcome::Fenced,
            (Some(b'-'), ..) => Outcome::Refused(Words::Line(Line(line))),
            _ => return Err(format!("unreadable answer: {}", shown(line))),
        };
        Ok(Some(Answer { opaque: None, outcome, key: None, head_bytes: whole_len(line), value_bytes, tail }))
    }
}

#[inline]
fn push_bulk(word: &[u8], output: &mut Vec<u8>) {
    output.push(b'$');
    push_number(word.len() as u64, output);
    output.extend_from_slice(END_OF_LINE);
    output.extend_from_slice(word);
    output.extend_from_slice(END_OF_LINE);
}
