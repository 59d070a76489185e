//! Requests in the form that most of them have: `GET key`, and `SET key value` without options.
//!
//! They take a way of their own, with the same answer at its end. Whatever is unusual about a request is left to those who
//! know all forms.

use wire::KEY_BYTES_MAX;

use crate::message::{Command, Payload};
use crate::session::resp::commands::{self, Word};
use crate::session::resp::frame::Reader;
use crate::session::resp::{Desk, Note, key_fault, place_of};

/// What stands before the key.
const HEAD_BYTES: usize = 13;

/// Puts the operation of a whole request at the front of `reader` into the batch, and says where the next one begins.
#[inline]
pub(super) fn request<'a>(reader: Reader<'a>, desk: &mut Desk<'a>) -> Option<Reader<'a>> {
    let start = reader.at();
    let (head, mut reader) = reader.chunk::<HEAD_BYTES>()?;
    let row = row(head)?;
    let key = reader.arg(0, KEY_BYTES_MAX).ok().filter(|key| key_fault(*key).is_none())?;
    let command = if row == commands::GET {
        Command::Get
    } else {
        let value = reader.arg(0, desk.server.config.item_bytes_max).ok()?;
        commands::pair_command(Word::Set, Payload::Inline(value))
    };
    desk.push(command, key, place_of(start), Note::of_row(row));
    Some(reader)
}

/// The command's place in the table. Clients write the name in capitals, or in small letters.
#[inline]
fn row(head: &[u8; HEAD_BYTES]) -> Option<u8> {
    if head == b"*2\r\n$3\r\nGET\r\n" || head == b"*2\r\n$3\r\nget\r\n" {
        Some(commands::GET)
    } else if head == b"*3\r\n$3\r\nSET\r\n" || head == b"*3\r\n$3\r\nset\r\n" {
        Some(commands::SET)
    } else {
        None
    }
}
