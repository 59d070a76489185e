//! RESP2, the protocol of Redis.
//!
//! ```text
//! > *5\r\n $3\r\nSET\r\n $3\r\nkey\r\n $5\r\nvalue\r\n $2\r\nEX\r\n $3\r\n100\r\n
//! < +OK\r\n
//! > *2\r\n $3\r\nGET\r\n $3\r\nkey\r\n
//! < $5\r\nvalue\r\n
//! ```
//!
//! A request is an array of strings, each behind its length, so that any of them may hold anything. (The spaces above
//! are not sent.) An answer begins with its type: `+` a line, `-` an error, `:` an integer, `$` a string, whose length
//! -1 says that there is none. Each request has one answer, in the order of the requests.
//!
//! Redis knows neither flags nor CAS. Where there is no item, INCRBY and DECRBY begin at 0, and APPEND stores.

use std::borrow::Cow;

use bytes::Bytes;
use wire::{Command, Concat, Direction, Expiration, Key, OnMiss, StoreMode};

use crate::connection::{Connection, Requests};
use crate::failure::{Failure, Unsayable};
use crate::lines::{number, read_data, read_line, unexpected, write_data};
use crate::output::printable;
use crate::protocol::{Outcome, Protocol, Refusal};

/// What a request shows of an argument with `--verbose`.
const SHOWN_BYTES_MAX: usize = 60;

pub(crate) struct Resp;

impl Protocol for Resp {
    fn write(&self, command: &Command<'_>, requests: &mut Requests) -> Result<(), Unsayable> {
        let args = args(command)?;
        requests.show(args.iter().map(|arg| shown(arg)).collect::<Vec<_>>().join(" "));
        write_data(format!("*{}", args.len()).as_bytes(), requests);
        for arg in args {
            write_data(format!("${}", arg.len()).as_bytes(), requests);
            write_data(&arg, requests);
        }
        Ok(())
    }

    fn read(&self, command: &Command<'_>, connection: &mut Connection) -> Result<Outcome, Failure> {
        let line = read_line(connection)?;
        let reply = read_reply(&line, connection)?;
        if let Reply::Error(error) = reply {
            return Ok(Outcome::Refused(Refusal::Said(error)));
        }
        outcome(command, reply).ok_or_else(|| unexpected(&line, "this command"))
    }
}

type Args<'a> = Vec<Cow<'a, [u8]>>;

/// What is asked: the command's name and its arguments.
fn args<'a>(command: &Command<'a>) -> Result<Args<'a>, Unsayable> {
    Ok(match *command {
        Command::Get { key, .. } => vec![word("GET"), arg(key)],
        Command::GetAndTouch { key, expiration, .. } => get_and_touch(key, expiration),
        Command::Touch { key, expiration } => match expiration {
            // PERSIST answers 0 for an item that never ends, as for one that is not there. This tells them apart.
            Expiration::Never => get_and_touch(key, expiration),
            Expiration::After(seconds) => vec![word("EXPIRE"), arg(key), decimal(seconds)],
            Expiration::At(time) => vec![word("EXPIREAT"), arg(key), decimal(time)],
        },
        Command::Store { cas: Some(_), .. }
        | Command::Concat { cas: Some(_), .. }
        | Command::Delete { cas: Some(_), .. }
        | Command::Count { cas: Some(_), .. } => return Err(Unsayable("CAS")),
        Command::Store { flags: 1.., .. } => return Err(Unsayable("flags")),
        Command::Store { mode, key, value, expiration, .. } => set(mode, key, value, expiration),
        Command::Concat { side: Concat::Append, key, value, .. } => {
            vec![word("APPEND"), arg(key), value.into()]
        }
        Command::Concat { side: Concat::Prepend, .. } => return Err(Unsayable("prepend")),
        Command::Delete { key, .. } => vec![word("DEL"), arg(key)],
        Command::Count { on_miss: OnMiss::Create { .. }, .. } => {
            return Err(Unsayable("initial number: a missing one is 0 before it is counted"));
        }
        Command::Count { delta, .. } if i64::try_from(delta).is_err() => {
            return Err(Unsayable("number above 9223372036854775807"));
        }
        Command::Count { direction, key, delta, .. } => vec![
            word(match direction {
                Direction::Increment => "INCRBY",
                Direction::Decrement => "DECRBY",
            }),
            arg(key),
            decimal(delta),
        ],
        Command::Flush { at: None } => vec![word("FLUSHALL")],
        Command::Flush { at: Some(_) } => return Err(Unsayable("flush with a delay")),
        Command::Stat { group: None } => vec![word("INFO")],
        Command::Stat { group: Some(group) } if is_reset(group) => vec![word("CONFIG"), word("RESETSTAT")],
        Command::Stat { group: Some(group) } => vec![word("INFO"), arg(group)],
        Command::Version => vec![word("INFO"), word("server")],
        Command::Noop => vec![word("PING")],
        _ => return Err(Unsayable("such command")),
    })
}

fn set<'a>(mode: StoreMode, key: Key<'a>, value: &'a [u8], expiration: Expiration) -> Args<'a> {
    let mut args = vec![word("SET"), arg(key), value.into()];
    match mode {
        StoreMode::Set => {}
        StoreMode::Add => args.push(word("NX")),
        StoreMode::Replace => args.push(word("XX")),
    }
    args.extend(ends(expiration));
    args
}

fn get_and_touch(key: Key<'_>, expiration: Expiration) -> Args<'_> {
    let mut args = vec![word("GETEX"), arg(key)];
    match expiration {
        Expiration::Never => args.push(word("PERSIST")),
        _ => args.extend(ends(expiration)),
    }
    args
}

/// The option that says when an item ends. A SET without one stores an item that never does.
fn ends(expiration: Expiration) -> Args<'static> {
    match expiration {
        Expiration::Never => Vec::new(),
        Expiration::After(seconds) => vec![word("EX"), decimal(seconds)],
        Expiration::At(time) => vec![word("EXAT"), decimal(time)],
    }
}

fn word(word: &'static str) -> Cow<'static, [u8]> {
    Cow::Borrowed(word.as_bytes())
}

fn arg(key: Key<'_>) -> Cow<'_, [u8]> {
    Cow::Borrowed(key.as_bytes())
}

fn decimal(number: impl Into<u64>) -> Cow<'static, [u8]> {
    Cow::Owned(number.into().to_string().into_bytes())
}

fn is_reset(group: Key<'_>) -> bool {
    group.as_bytes() == b"reset"
}

fn shown(arg: &[u8]) -> String {
    match arg.get(..SHOWN_BYTES_MAX) {
        Some(begins) => format!("{}...", printable(begins)),
        None => printable(arg),
    }
}

/// An answer. Arrays, and what RESP3 has, are not among those to what is asked here.
enum Reply {
    Line(Bytes),
    Error(String),
    Integer(i64),
    /// None where there is none.
    String(Option<Bytes>),
}

fn read_reply(line: &Bytes, connection: &mut Connection) -> Result<Reply, Failure> {
    let what = || unexpected(line, "a command");
    let (kind, rest) = line.split_first().ok_or_else(what)?;
    Ok(match kind {
        b'+' => Reply::Line(line.slice(1..)),
        b'-' => Reply::Error(printable(rest)),
        b':' => Reply::Integer(number(rest).ok_or_else(what)?),
        b'$' if rest == b"-1" => Reply::String(None),
        b'$' => Reply::String(Some(read_data(number(rest).ok_or_else(what)?, connection)?)),
        _ => return Err(what()),
    })
}

/// What an answer says, if it is one to this command.
fn outcome(command: &Command<'_>, reply: Reply) -> Option<Outcome> {
    Some(match (command, reply) {
        (Command::Get { .. } | Command::GetAndTouch { .. }, Reply::String(Some(value))) => {
            Outcome::Hit { value, flags: None, cas: None }
        }
        (Command::Touch { expiration: Expiration::Never, .. }, Reply::String(Some(_))) => Outcome::Done,
        (
            Command::Get { .. }
            | Command::GetAndTouch { .. }
            | Command::Touch { expiration: Expiration::Never, .. },
            Reply::String(None),
        ) => Outcome::NOT_FOUND,
        (Command::Touch { .. } | Command::Delete { .. }, Reply::Integer(1)) => Outcome::Done,
        (Command::Touch { .. } | Command::Delete { .. }, Reply::Integer(0)) => Outcome::NOT_FOUND,
        (Command::Store { mode: StoreMode::Add | StoreMode::Replace, .. }, Reply::String(None)) => {
            Outcome::NOT_STORED
        }
        (Command::Store { .. }, Reply::Line(line)) if line == "OK" => Outcome::Stored { cas: None },
        // How long the value is by now.
        (Command::Concat { .. }, Reply::Integer(0..)) => Outcome::Stored { cas: None },
        (Command::Count { .. }, Reply::Integer(number)) => {
            Outcome::Number { number: number.into(), cas: None }
        }
        (Command::Flush { .. }, Reply::Line(line)) if line == "OK" => Outcome::Done,
        (Command::Noop, Reply::Line(line)) if line == "PONG" => Outcome::Done,
        (Command::Stat { group: Some(group) }, Reply::Line(line)) if is_reset(*group) && line == "OK" => {
            Outcome::Statistics(Vec::new())
        }
        (Command::Stat { .. }, Reply::String(Some(info))) => Outcome::Statistics(statistics(&info)?),
        (Command::Version, Reply::String(Some(info))) => {
            let mut statistics = statistics(&info)?.into_iter();
            Outcome::Version(statistics.find(|(name, _)| name == "redis_version")?.1)
        }
        _ => return None,
    })
}

/// What INFO tells: lines `name:value` below headings that begin with `#`.
fn statistics(info: &[u8]) -> Option<Vec<(String, String)>> {
    let lines = info.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    lines.map(statistic).collect()
}

fn statistic(line: &[u8]) -> Option<(String, String)> {
    let name_len = line.iter().position(|&byte| byte == b':')?;
    Some((printable(&line[..name_len]), printable(&line[name_len + 1..])))
}
