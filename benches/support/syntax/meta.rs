//! memcached's meta commands. A batch is quiet `mg`s and an `mn`.

use super::line::{END_OF_LINE, first_line, flags_in, length_in, push_number, whole_len};
use super::{Answer, Ask, FenceAt, Line, Outcome, Syntax, Words};
use crate::items::KEY_BYTES;

/// The meta commands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta;

impl Syntax for Meta {
    #[inline]
    fn has_flags(self) -> bool {
        true
    }

    #[inline]
    fn fence(self) -> FenceAt {
        FenceAt::Back
    }

    #[inline]
    fn begin_batch(self, _: u32, _: &mut Vec<u8>) {}

    #[inline]
    fn end_batch(self, _: u32, output: &mut Vec<u8>) {
        output.extend_from_slice(b"mn\r\n");
    }

    #[inline]
    fn write(self, ask: Ask, key: &[u8; KEY_BYTES], value: &[u8], _: u32, output: &mut Vec<u8>) {
        match ask {
            Ask::Get => {
                output.extend_from_slice(b"mg ");
                output.extend_from_slice(key);
                output.extend_from_slice(b" f v\r\n");
            }
            Ask::QuietGet => {
                output.extend_from_slice(b"mg ");
                output.extend_from_slice(key);
                output.extend_from_slice(b" f k v q\r\n");
            }
            Ask::Set { generation } => {
                output.extend_from_slice(b"ms ");
                output.extend_from_slice(key);
                output.push(b' ');
                push_number(value.len() as u64, output);
                output.extend_from_slice(b" F");
                push_number(u64::from(generation), output);
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
        let hit = line.strip_prefix(b"VA ").and_then(hit_in);
        let (outcome, key, value_bytes, tail) = match (hit, line, ask) {
            (Some((bytes, flags, None)), _, Ask::Get) => (Outcome::Hit { flags }, None, bytes, END_OF_LINE),
            (Some((bytes, flags, key @ Some(_))), _, Ask::QuietGet) => {
                (Outcome::Hit { flags }, key, bytes, END_OF_LINE)
            }
            (None, b"EN", Ask::Get) => (Outcome::Miss, None, 0, &b""[..]),
            (None, b"MN", Ask::QuietGet | Ask::Fence { .. }) => (Outcome::Fenced, None, 0, &b""[..]),
            (None, b"HD", Ask::Set { .. }) => (Outcome::Stored, None, 0, &b""[..]),
            (hit, ..) => {
                let bytes = hit.map_or(0, |(bytes, ..)| bytes + END_OF_LINE.len());
                (Outcome::Refused(Words::Line(Line(line))), None, bytes, &b""[..])
            }
        };
        Ok(Some(Answer { opaque: None, outcome, key, head_bytes: whole_len(line), value_bytes, tail }))
    }
}

/// Length and flags of a value, and its key where it is told.
#[inline]
fn hit_in(words: &[u8]) -> Option<(usize, u32, Option<&[u8]>)> {
    let mut words = words.split(|&byte| byte == b' ');
    let bytes = length_in(words.next()?)?;
    let flags = flags_in(words.next()?.strip_prefix(b"f")?)?;
    let key = match words.next() {
        Some(word) => Some(word.strip_prefix(b"k")?),
        None => None,
    };
    words.next().is_none().then_some((bytes, flags, key))
}
