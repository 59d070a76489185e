//! The meta commands of the text protocol.
//!
//! ```text
//! > ms key 5 c F7 T100\r\n     set: key, length; tell the CAS, flags 7, TTL 100
//! > value\r\n
//! < HD c1\r\n
//! > mg key v f c\r\n           get: key; tell value, flags, CAS
//! < VA 5 f7 c1\r\n             length, flags, CAS
//! < value\r\n
//! ```
//!
//! The command has two letters: `mg` reads and touches, `ms` stores, `md` deletes, `ma` counts, `mn` is a noop. What
//! is special about a request stands behind its key, as flags of a letter and perhaps a token. The answer begins with a
//! code of two letters: VA has a value, HD has none, EN and NF found nothing, NS did not store, EX met another CAS.
//! The flags that were asked for follow.
//!
//! A key that no word can hold goes as base64, which the flag `b` says. Statistics, version and flush have no meta
//! command; on the same connection [`Text`] has them.

use std::borrow::Cow;

use bytes::Bytes;
use wire::{Cas, Command, Concat, Direction, Expiration, KEY_BYTES_MAX, Key, OnMiss, StoreMode};

use crate::connection::{Connection, Requests};
use crate::failure::{Failure, Unsayable};
use crate::lines::{Line, number, read_data, read_line, unexpected, write_data};
use crate::protocol::{Outcome, Protocol};
use crate::text::{Text, error, is_word};

pub(crate) struct Meta;

impl Protocol for Meta {
    fn write(&self, command: &Command<'_>, requests: &mut Requests) -> Result<(), Unsayable> {
        let Some(line) = request(command) else {
            return Text.write(command, requests);
        };
        let (key, _) = command.key_and_value();
        if !is_word(key) && base64(key).len() > KEY_BYTES_MAX {
            return Err(Unsayable("key of over 250 bytes in base64"));
        }
        line.write(requests);
        if let Command::Store { value, .. } | Command::Concat { value, .. } = command {
            write_data(value, requests);
        }
        Ok(())
    }

    fn read(&self, command: &Command<'_>, connection: &mut Connection) -> Result<Outcome, Failure> {
        if request(command).is_none() {
            return Text.read(command, connection);
        }
        let line = read_line(connection)?;
        if let Some(error) = error(&line) {
            return Ok(error);
        }
        let answer = Answer::of(&line).ok_or_else(|| unexpected(&line, "a meta command"))?;
        let value = answer.value_len.map(|len| read_data(len, connection)).transpose()?;
        outcome(command, &answer, value).ok_or_else(|| unexpected(&line, "a meta command"))
    }
}

/// Appends a [watch](crate::watch): a read that waits for another CAS.
pub(crate) fn append_watch(requests: &mut Requests, key: Key<'_>, known: u64, wait_ms: u32) {
    read(key).flag('C', known).flag('U', wait_ms).write(requests);
}

/// Waits for the answer to it. Where nothing has changed, that is a hit with a CAS of 0.
pub(crate) fn receive_change(connection: &mut Connection, known: u64) -> Result<Outcome, Failure> {
    let line = read_line(connection)?;
    if let Some(error) = error(&line) {
        return Ok(error);
    }
    let answer = Answer::of(&line).ok_or_else(|| unexpected(&line, "a watch"))?;
    let (value, cas) = match (answer.code, answer.value_len) {
        (b"VA", Some(len)) => (read_data(len, connection)?, answer.cas),
        (b"EN", _) if known != 0 => return Ok(Outcome::NOT_FOUND),
        (b"EN" | b"HD", _) => (Bytes::new(), Some(0)),
        _ => return Err(unexpected(&line, "a watch")),
    };
    Ok(Outcome::Hit { value, flags: answer.flags, cas })
}

/// The line that asks, of what has a meta command.
fn request(command: &Command<'_>) -> Option<Line> {
    Some(match *command {
        Command::Get { key, .. } => read(key),
        Command::GetAndTouch { key, expiration, .. } => read(key).flag('T', expiration.to_wire()),
        Command::Touch { key, expiration } => about("mg", key, None).flag('T', expiration.to_wire()),
        Command::Store { mode, key, value, flags, expiration, cas } => {
            let mode: &[u8] = match mode {
                StoreMode::Set => b"MS",
                StoreMode::Add => b"ME",
                StoreMode::Replace => b"MR",
            };
            let line = store(key, value, mode, cas);
            line.flag('F', flags).flag('T', expiration.to_wire())
        }
        Command::Concat { side: Concat::Append, key, value, cas } => store(key, value, b"MA", cas),
        Command::Concat { side: Concat::Prepend, key, value, cas } => store(key, value, b"MP", cas),
        Command::Delete { key, cas } => with_cas(about("md", key, None), cas),
        Command::Count { direction, key, delta, on_miss, cas } => {
            let mode: &[u8] = match direction {
                Direction::Increment => b"MI",
                Direction::Decrement => b"MD",
            };
            let line = about("ma", key, None).word(b"v").word(b"c").word(mode).flag('D', delta);
            let line = match on_miss {
                OnMiss::Fail => line,
                OnMiss::Create { initial, expiration } => create(line, initial, expiration),
            };
            with_cas(line, cas)
        }
        Command::Noop => Line::of("mn"),
        _ => return None,
    })
}

/// A command about a key, with the length of its data.
fn about(name: &str, key: Key<'_>, data: Option<&[u8]>) -> Line {
    let key = key.as_bytes();
    let word = if is_word(key) { Cow::Borrowed(key) } else { Cow::Owned(base64(key)) };
    let line = Line::of(name).word(&word);
    let line = data.into_iter().fold(line, Line::len_of);
    if is_word(key) { line } else { line.word(b"b") }
}

fn read(key: Key<'_>) -> Line {
    about("mg", key, None).word(b"v").word(b"f").word(b"c")
}

fn store(key: Key<'_>, value: &[u8], mode: &[u8], cas: Option<Cas>) -> Line {
    with_cas(about("ms", key, Some(value)).word(b"c").word(mode), cas)
}

/// Makes a number where there is none.
fn create(line: Line, initial: u64, expiration: Expiration) -> Line {
    line.flag('N', expiration.to_wire()).flag('J', initial)
}

fn with_cas(line: Line, cas: Option<Cas>) -> Line {
    cas.into_iter().fold(line, |line, cas| line.flag('C', cas.get()))
}

/// Bytes as RFC 4648 writes them: each three as four characters, with `=` for what is missing at the end.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quad = |three: &[u8]| {
        let bits = (0..3).fold(0_usize, |bits, at| bits << 8 | three.get(at).copied().map_or(0, usize::from));
        [18, 12, 6, 0].map(|shift| ALPHABET[bits >> shift & 63])
    };
    let mut text: Vec<u8> = bytes.chunks(3).flat_map(quad).collect();
    let missing = (3 - bytes.len() % 3) % 3;
    let whole = text.len() - missing;
    text[whole..].fill(b'=');
    text
}

/// The line of an answer.
struct Answer<'a> {
    code: &'a [u8],
    value_len: Option<u32>,
    flags: Option<u32>,
    cas: Option<u64>,
}

impl<'a> Answer<'a> {
    /// None where the line is none, or has a flag that was not asked for.
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ');
        let mut answer = Self { code: words.next()?, value_len: None, flags: None, cas: None };
        if answer.code == b"VA" {
            answer.value_len = Some(number(words.next()?)?);
        }
        for word in words {
            let (letter, token) = word.split_first()?;
            match (letter, token) {
                (b'f', token) if answer.flags.is_none() => answer.flags = Some(number(token)?),
                (b'c', token) if answer.cas.is_none() => answer.cas = Some(number(token)?),
                // memcached tells with what it was asked, and that an item is stale or who may make it anew.
                (b'b' | b'W' | b'X' | b'Z', []) => {}
                _ => return None,
            }
        }
        Some(answer)
    }
}

/// What an answer says, if it is one to this command.
fn outcome(command: &Command<'_>, answer: &Answer<'_>, value: Option<Bytes>) -> Option<Outcome> {
    let cas = answer.cas;
    Some(match (command, answer.code) {
        (Command::Get { .. } | Command::GetAndTouch { .. }, b"VA") => {
            Outcome::Hit { value: value?, flags: Some(answer.flags?), cas: Some(cas?) }
        }
        (Command::Get { .. } | Command::GetAndTouch { .. } | Command::Touch { .. }, code) => match code {
            b"HD" if matches!(command, Command::Touch { .. }) => Outcome::Done,
            b"EN" => Outcome::NOT_FOUND,
            _ => return None,
        },
        (Command::Noop, b"MN") => Outcome::Done,
        (Command::Noop, _) => return None,
        (Command::Store { .. } | Command::Concat { .. }, b"HD") => Outcome::Stored { cas: Some(cas?) },
        (Command::Delete { .. }, b"HD") => Outcome::Done,
        (Command::Count { .. }, b"VA") => {
            Outcome::Number { number: number::<u64>(&value?)?.into(), cas: Some(cas?) }
        }
        (_, b"NF") => Outcome::NOT_FOUND,
        (_, b"NS") => Outcome::NOT_STORED,
        (_, b"EX") => Outcome::EXISTS,
        _ => return None,
    })
}
