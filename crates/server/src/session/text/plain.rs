//! Requests in the form that most of them have: a `get` of one key, a `set` with one blank between its words.
//!
//! They take a way of their own, in one pass, with the same operation at its end. Whatever is unusual about a request is left
//! to those who know all forms.

use memchr::memchr2;
use wire::{Expiration, KEY_BYTES_MAX, StoreMode};

use crate::message::{Command, Payload, Span};
use crate::server::Server;
use crate::session::number::read_short;
use crate::session::text::classic::Key;
use crate::session::text::note::{Kind, Note, Traits};
use crate::session::text::{Asked, Place};
use crate::storage::log::is_inline;

/// Bytes of `get ` and of `set `.
const COMMAND_BYTES: usize = 4;

/// Takes a whole request at the front of the input, and says how long it is.
#[inline]
pub(super) fn take(place: Place<'_>, asked: &mut Asked<'_>, server: &Server) -> Option<usize> {
    let (command, behind) = place.rest.split_first_chunk::<COMMAND_BYTES>()?;
    match command {
        b"get " if !log::log_enabled!(log::Level::Trace) => get(behind, place, asked, server),
        b"set " if !log::log_enabled!(log::Level::Trace) => set(behind, place, asked, server),
        _ => None,
    }
}

#[inline]
fn get(behind: &[u8], place: Place<'_>, asked: &mut Asked<'_>, server: &Server) -> Option<usize> {
    let (word, b'\n', rest) = word(behind)? else { return None };
    let key = key(word.strip_suffix(b"\r").unwrap_or(word), place)?;
    let note = Note::new(Kind::VALUE, Traits::LAST);
    asked.ops.push(key.op_at(Command::Get, note, place, server));
    Some(place.rest.len().saturating_sub(rest.len()))
}

/// `set KEY FLAGS EXPTIME BYTES`, and the value.
#[inline]
fn set(behind: &[u8], place: Place<'_>, asked: &mut Asked<'_>, server: &Server) -> Option<usize> {
    let (word, b' ', rest) = word(behind)? else { return None };
    let (flags, rest) = read_short(rest, b' ')?;
    let (exptime, rest) = read_short(rest, b' ')?;
    let (value_len, rest) = read_short(rest, b'\r')?;
    let rest = rest.strip_prefix(b"\n")?;
    let value_len = usize::try_from(value_len).ok()?;
    let [b'\r', b'\n', rest @ ..] = rest.get(value_len..)? else { return None };
    let config = &server.config;
    if value_len > config.item_bytes_max || !is_inline(word.len(), value_len, config.memory_bytes_max) {
        return None;
    }
    let bytes = place.rest.len().saturating_sub(rest.len());
    let value_at = place.at.saturating_add(bytes).saturating_sub(value_len).saturating_sub(2);
    let command = Command::Store {
        mode: StoreMode::Set,
        flags,
        expiration: Expiration::from_wire(exptime),
        cas: None,
        value: Payload::Inline(Span::new(value_at, value_len)),
    };
    let note = Note::new(Kind::STORE, Traits::NONE);
    asked.ops.push(key(word, place)?.op_at(command, note, place, server));
    Some(bytes)
}

/// The key behind the command.
#[inline]
fn key<'a>(word: &'a [u8], place: Place<'_>) -> Option<Key<'a>> {
    if word.is_empty() { None } else { Key::of((COMMAND_BYTES, word), place) }
}

/// What stands before the first blank or end of line, which of both that is, and what is behind it.
#[inline]
fn word(rest: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    // One byte more than a key may be a carriage return.
    let looked_at = rest.get(..KEY_BYTES_MAX.saturating_add(2)).unwrap_or(rest);
    let (word, behind) = rest.split_at_checked(memchr2(b' ', b'\n', looked_at)?)?;
    let (&end, rest) = behind.split_first()?;
    Some((word, end, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_ends_with_a_blank_or_a_line_and_is_hardly_longer_than_a_key() {
        assert_eq!(word(b"a\r\nb"), Some((&b"a\r"[..], b'\n', &b"b"[..])));
        assert_eq!(word(b"a b\n"), Some((&b"a"[..], b' ', &b"b\n"[..])));
        assert_eq!(word(b"a"), None);
        let mut long = vec![b'a'; KEY_BYTES_MAX + 1];
        long.push(b'\n');
        assert!(word(&long).is_some());
        long.insert(0, b'a');
        assert_eq!(word(&long), None);
    }
}
