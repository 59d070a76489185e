//! The text protocol, as memcached has had it from the beginning.
//!
//! ```text
//! > set key 7 100 5\r\n        command, key, flags, TTL, length
//! > value\r\n
//! < STORED\r\n
//! > gets key\r\n
//! < VALUE key 7 5 1\r\n        key, flags, length, CAS
//! < value\r\n
//! < END\r\n
//! ```
//!
//! A request is a line of words, and a line of data where there is a value. Each has one answer, in the order of the
//! requests, so that several can be on their way. Errors are lines that begin with ERROR, `CLIENT_ERROR` or `SERVER_ERROR`.

use bytes::Bytes;
use wire::{Command, Concat, Direction, Key, OnMiss, StoreMode};

use crate::connection::{Connection, Requests};
use crate::failure::{Failure, Unsayable};
use crate::lines::{Line, number, read_data, read_line, unexpected, write_data};
use crate::output::printable;
use crate::protocol::{Outcome, Protocol, Refusal, STATISTICS_COUNT_MAX};

pub(crate) struct Text;

impl Protocol for Text {
    fn write(&self, command: &Command<'_>, requests: &mut Requests) -> Result<(), Unsayable> {
        request(command)?.write(requests);
        if let Command::Store { value, .. } | Command::Concat { value, .. } = command {
            write_data(value, requests);
        }
        Ok(())
    }

    fn read(&self, command: &Command<'_>, connection: &mut Connection) -> Result<Outcome, Failure> {
        let line = read_line(connection)?;
        if let Some(error) = error(&line) {
            return Ok(error);
        }
        match command {
            Command::Get { key, .. } | Command::GetAndTouch { key, .. } => read_hit(*key, &line, connection),
            Command::Stat { .. } => read_statistics(line, connection),
            _ => outcome(command, &line).ok_or_else(|| unexpected(&line, name(command))),
        }
    }
}

/// The line that asks.
fn request(command: &Command<'_>) -> Result<Line, Unsayable> {
    let line = Line::of(name(command));
    Ok(match *command {
        Command::Get { key, .. } => line.word(key_word(key)?),
        Command::GetAndTouch { key, expiration, .. } => {
            line.number(expiration.to_wire()).word(key_word(key)?)
        }
        Command::Touch { key, expiration } => line.word(key_word(key)?).number(expiration.to_wire()),
        Command::Store { mode, key, value, flags, expiration, cas } => {
            let line = line.word(key_word(key)?).number(flags).number(expiration.to_wire()).len_of(value);
            match (mode, cas) {
                (_, None) => line,
                (StoreMode::Set, Some(cas)) => line.number(cas.get()),
                _ => return Err(Unsayable("add or replace with a CAS")),
            }
        }
        Command::Concat { cas: Some(_), .. } => return Err(Unsayable("append or prepend with a CAS")),
        // Flags and TTL have their places here, too, and say nothing.
        Command::Concat { key, value, .. } => {
            line.word(key_word(key)?).number(0_u32).number(0_u32).len_of(value)
        }
        Command::Delete { cas: Some(_), .. } => return Err(Unsayable("delete with a CAS")),
        Command::Delete { key, .. } => line.word(key_word(key)?),
        Command::Count { on_miss: OnMiss::Create { .. }, .. } => {
            return Err(Unsayable("initial number for incr and decr"));
        }
        Command::Count { cas: Some(_), .. } => return Err(Unsayable("incr or decr with a CAS")),
        Command::Count { key, delta, .. } => line.word(key_word(key)?).number(delta),
        Command::Flush { at: Some(delay) } => line.number(delay.to_wire()),
        Command::Stat { group: Some(group) } => line.word(group_words(group)?),
        Command::Flush { at: None } | Command::Stat { group: None } | Command::Version => line,
        _ => return Err(Unsayable("such command; version asks whether the server answers")),
    })
}

/// What a command is called.
fn name(command: &Command<'_>) -> &'static str {
    match command {
        Command::Get { .. } => "gets",
        Command::GetAndTouch { .. } => "gats",
        Command::Touch { .. } => "touch",
        Command::Store { mode: StoreMode::Set, cas: Some(_), .. } => "cas",
        Command::Store { mode: StoreMode::Set, .. } => "set",
        Command::Store { mode: StoreMode::Add, .. } => "add",
        Command::Store { mode: StoreMode::Replace, .. } => "replace",
        Command::Concat { side: Concat::Append, .. } => "append",
        Command::Concat { side: Concat::Prepend, .. } => "prepend",
        Command::Delete { .. } => "delete",
        Command::Count { direction: Direction::Increment, .. } => "incr",
        Command::Count { direction: Direction::Decrement, .. } => "decr",
        Command::Flush { .. } => "flush_all",
        Command::Stat { .. } => "stats",
        Command::Version => "version",
        _ => "",
    }
}

/// Words end at a space and lines at their end, so that a key can hold neither.
fn key_word(key: Key<'_>) -> Result<&[u8], Unsayable> {
    let key = key.as_bytes();
    if is_word(key) { Ok(key) } else { Err(Unsayable("key with a space or a control character")) }
}

/// Whether a word of a line can hold these bytes.
pub(crate) fn is_word(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| *byte == b' ' || byte.is_ascii_control())
}

/// A group of statistics may be two words, as 'detail on' is.
fn group_words(group: Key<'_>) -> Result<&[u8], Unsayable> {
    let group = group.as_bytes();
    let has_control = group.iter().any(u8::is_ascii_control);
    if has_control { Err(Unsayable("group with a control character")) } else { Ok(group) }
}

/// Errors may come for an answer to any command.
pub(crate) fn error(line: &[u8]) -> Option<Outcome> {
    let word = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    let is_error = [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"].contains(&word);
    is_error.then(|| Outcome::Refused(Refusal::Said(printable(line))))
}

/// What a line says, that is the whole answer.
fn outcome(command: &Command<'_>, line: &[u8]) -> Option<Outcome> {
    Some(match (command, line) {
        (Command::Store { .. } | Command::Concat { .. }, b"STORED") => Outcome::Stored { cas: None },
        (Command::Store { .. } | Command::Concat { .. }, b"NOT_STORED") => Outcome::NOT_STORED,
        (Command::Store { cas: Some(_), .. }, b"EXISTS") => Outcome::EXISTS,
        (Command::Store { cas: Some(_), .. }, b"NOT_FOUND") => Outcome::NOT_FOUND,
        (Command::Delete { .. }, b"DELETED") => Outcome::Done,
        (Command::Touch { .. }, b"TOUCHED") => Outcome::Done,
        (Command::Delete { .. } | Command::Touch { .. } | Command::Count { .. }, b"NOT_FOUND") => {
            Outcome::NOT_FOUND
        }
        (Command::Count { .. }, digits) => {
            Outcome::Number { number: number::<u64>(digits)?.into(), cas: None }
        }
        (Command::Flush { .. }, b"OK") => Outcome::Done,
        (Command::Version, line) => Outcome::Version(printable(line.strip_prefix(b"VERSION ")?)),
        _ => return None,
    })
}

/// A hit is a line `VALUE key flags length CAS`, the data, and END. A miss is END alone.
fn read_hit(key: Key<'_>, line: &[u8], connection: &mut Connection) -> Result<Outcome, Failure> {
    if line == b"END" {
        return Ok(Outcome::NOT_FOUND);
    }
    let (flags, len, cas) = value_line(key, line).ok_or_else(|| unexpected(line, "a read"))?;
    let value = read_data(len, connection)?;
    let end = read_line(connection)?;
    if end != "END" {
        return Err(unexpected(&end, "a read of one key"));
    }
    Ok(Outcome::Hit { value, flags: Some(flags), cas: Some(cas) })
}

/// Flags, length and CAS.
fn value_line(key: Key<'_>, line: &[u8]) -> Option<(u32, u32, u64)> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    match words[..] {
        [b"VALUE", name, flags, len, cas] if name == key.as_bytes() => {
            Some((number(flags)?, number(len)?, number(cas)?))
        }
        _ => None,
    }
}

/// Collects lines `STAT name value` up to END. RESET is all that `stats reset` answers.
fn read_statistics(mut line: Bytes, connection: &mut Connection) -> Result<Outcome, Failure> {
    let mut statistics = Vec::new();
    if line == "RESET" {
        return Ok(Outcome::Statistics(statistics));
    }
    while line != "END" {
        let statistic = line.strip_prefix(b"STAT ").ok_or_else(|| unexpected(&line, "stats"))?;
        if statistics.len() == STATISTICS_COUNT_MAX {
            return Err(Failure::Nonsense(format!("over {STATISTICS_COUNT_MAX} statistics")));
        }
        let name_len = statistic.iter().position(|&byte| byte == b' ').unwrap_or(statistic.len());
        let (name, value) = statistic.split_at(name_len);
        statistics.push((printable(name), printable(value.strip_prefix(b" ").unwrap_or_default())));
        line = read_line(connection)?;
    }
    Ok(Outcome::Statistics(statistics))
}
