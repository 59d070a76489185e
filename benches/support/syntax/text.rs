//! memcached's text protocol. A batch is one `get` of many keys, and its fence is the `END`.

use super::line::{END_OF_LINE, first_line, flags_in, length_in, push_number, whole_len};
use super::{Answer, Ask, FenceAt, Line, Outcome, Syntax, Words};
use crate::items::KEY_BYTES;

/// The text protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text;

impl Syntax for Text {
    #[inline]
    fn has_flags(self) -> bool {
        true
    }

    #[inline]
    fn fence(self) -> FenceAt {
        FenceAt::Back
    }

    #[inline]
    fn begin_batch(self, _: u32, output: &mut Vec<u8>) {
        output.extend_from_slice(b"get");
    }

    #[inline]
    fn end_batch(self, _: u32, output: &mut Vec<u8>) {
        output.extend_from_slice(END_OF_LINE);
    }

    #[inline]
    fn write(self, ask: Ask, key: &[u8; KEY_BYTES], value: &[u8], _: u32, output: &mut Vec<u8>) {
        match ask {
            Ask::Get => {
                output.extend_from_slice(b"get ");
                output.extend_from_slice(key);
                output.extend_from_slice(END_OF_LINE);
            }
            Ask::QuietGet => {
                output.push(b' ');
                output.extend_from_slice(key);
            }
            Ask::Set { generation } => {
                output.extend_from_slice(b"set ");
                output.extend_from_slice(key);
                output.push(b' ');
                push_number(u64::from(generation), output);
                output.extend_from_slice(b" 0 ");
                push_number(value.len() as u64, output);
                output.extend_from_slice(END_OF_LINE);
                output.extend_from_slice(value);
                output.extend_from_slice(END_OF_LINE);
            }
            Ask::Fence { .. } => {}
        }
    }

    #[inline]
    fn read(self, input: &[u8], ask: Ask) -> Result<Option<Answer<'_>>, String> {
        let Some(line) = first_line(input)? else { return Ok(None) };
        let hit = line.strip_prefix(b"VALUE ").and_then(hit_in);
        let (outcome, key, value_bytes) = match (hit, line, ask) {
            (Some((key, flags, bytes)), ..) => (Outcome::Hit { flags }, Some(key), bytes),
            (None, b"END", Ask::Get) => (Outcome::Miss, None, 0),
            (None, b"END", _) => (Outcome::Fenced, None, 0),
            (None, b"STORED", _) => (Outcome::Stored, None, 0),
            (None, ..) => (Outcome::Refused(Words::Line(Line(line))), None, 0),
        };
        // The END behind the only item of a get belongs to its answer.
        let tail: &[u8] = match (key, ask) {
            (None, _) => b"",
            (Some(_), Ask::Get) => b"\r\nEND\r\n",
            (Some(_), _) => END_OF_LINE,
        };
        Ok(Some(Answer { opaque: None, outcome, key, head_bytes: whole_len(line), value_bytes, tail }))
    }
}

/// Key, flags and length of a value.
#[inline]
fn hit_in(words: &[u8]) -> Option<(&[u8], u32, usize)> {
    let mut words = words.split(|&byte| byte == b' ');
    let hit = (words.next()?, flags_in(words.next()?)?, length_in(words.next()?)?);
    words.next().is_none().then_some(hit)
}
