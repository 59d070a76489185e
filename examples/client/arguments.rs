//! The command line, and the commands that it asks for.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wire::{
    Cas, Command, Concat, Direction, Expiration, FRAME_BODY_BYTES_MAX, Key, KeyEcho, OnMiss, StoreMode,
};

use crate::binary::Binary;
use crate::connection::Tell;
use crate::failure::Failure;
use crate::meta::Meta;
use crate::protocol::Protocol;
use crate::resp::Resp;
use crate::text::Text;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the server said no: not found, not stored, exists, or another CAS; or the snapshot is damaged
  2  wrong usage, or a file that cannot be read or written
  3  no server, or the connection was lost
  4  the server answered another error, or nonsense

What a protocol has no words for is refused before anything is sent: text has no noop, RESP neither flags nor CAS.
Over RESP a missing number is 0 before it is counted, decr goes on below 0, and append stores where nothing is.
A TTL is in seconds: 0 never ends, up to 30 days count from now, anything above is a Unix time.";

/// Asks a memcached server, or Redis about strings.
#[derive(Debug, Parser)]
#[command(name = "client", after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The server to ask
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:11211", global = true)]
    pub(crate) server: String,
    /// The protocol to ask in
    #[arg(long, value_enum, default_value_t = Speech::Binary, global = true)]
    pub(crate) protocol: Speech,
    /// Print JSON: an object, or an array of them where several keys were asked for
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Longest wait for the connection, for each read and for each write
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_timeout, global = true)]
    pub(crate) timeout: Duration,
    /// Print what goes back and forth to stderr
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// A protocol by its name.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Speech {
    Binary,
    Text,
    Meta,
    Resp,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Print the values of keys: of one key its exact bytes, of several keys a line each
    Get {
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<OsString>,
    },
    /// Store a value
    Set(StoreArguments),
    /// Store a value where there is none
    Add(StoreArguments),
    /// Store a value where there is one
    Replace(StoreArguments),
    /// Add bytes behind a value
    Append(ConcatArguments),
    /// Add bytes before a value
    Prepend(ConcatArguments),
    /// Store a value if the item still has this CAS
    Cas {
        key: OsString,
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        cas: u64,
        #[command(flatten)]
        value: ValueArguments,
        #[command(flatten)]
        item: ItemArguments,
    },
    /// Add to a number
    Incr(CountArguments),
    /// Subtract from a number, down to 0
    Decr(CountArguments),
    /// Delete an item
    Delete {
        key: OsString,
        /// Only if the item has this CAS
        #[arg(long, default_value_t = 0)]
        cas: u64,
    },
    /// Set a new TTL
    Touch {
        key: OsString,
        #[arg(value_name = "TTL")]
        ttl: u32,
    },
    /// Print the values of keys, as get does, and set a new TTL
    Gat {
        #[arg(value_name = "TTL")]
        ttl: u32,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<OsString>,
    },
    /// Delete every item
    Flush {
        /// Not at once, but in so many seconds
        #[arg(long, value_name = "SECONDS")]
        delay: Option<u32>,
    },
    /// Print statistics
    Stats {
        /// settings, items, slabs, sizes, reset; the general ones without it
        group: Option<OsString>,
    },
    /// Print a value, and again whenever it changes (memwire with --watch; binary or meta)
    Watch {
        key: OsString,
        /// End after so many
        #[arg(long, value_name = "NUMBER")]
        count: Option<u64>,
    },
    /// Print the server's version
    Version,
    /// Ask whether the server answers
    Noop,
    /// Tell what a snapshot of memwire's holds, as far as it is good
    Inspect {
        file: PathBuf,
        /// Print a line for each item first: flags, expiration, bytes of the value, key
        #[arg(long)]
        keys: bool,
    },
    /// Print a line for memwire's password file, with the password that stands on stdin
    Passwd { user: String },
}

#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    key: OsString,
    #[command(flatten)]
    value: ValueArguments,
    #[command(flatten)]
    item: ItemArguments,
    /// Only if the item has this CAS
    #[arg(long, default_value_t = 0)]
    cas: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ConcatArguments {
    key: OsString,
    #[command(flatten)]
    value: ValueArguments,
    /// Only if the item has this CAS
    #[arg(long, default_value_t = 0)]
    cas: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ValueArguments {
    /// The value, - for stdin
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_negative_numbers = true)]
    value: Option<OsString>,
    /// Read the value from a file
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ItemArguments {
    /// 32 bits that are kept beside the value
    #[arg(long, default_value_t = 0)]
    flags: u32,
    /// When the item ends
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    ttl: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CountArguments {
    key: OsString,
    /// How much to add or to subtract
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    by: u64,
    /// Create a missing item with this number
    #[arg(long, value_name = "NUMBER")]
    initial: Option<u64>,
    /// When a created item ends
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "initial")]
    ttl: u32,
}

impl Arguments {
    pub(crate) fn tell(&self) -> Tell {
        if self.verbose { Tell::Verbose } else { Tell::Silent }
    }
}

impl Speech {
    pub(crate) fn speaker(self) -> &'static dyn Protocol {
        match self {
            Self::Binary => &Binary,
            Self::Text => &Text,
            Self::Meta => &Meta,
            Self::Resp => &Resp,
        }
    }
}

impl fmt::Display for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binary => "binary",
            Self::Text => "text",
            Self::Meta => "meta",
            Self::Resp => "resp",
        })
    }
}

impl Task {
    /// The value to store, of a task that has one.
    pub(crate) fn value(&self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Set(store) | Self::Add(store) | Self::Replace(store) => store.value.read(),
            Self::Append(concat) | Self::Prepend(concat) => concat.value.read(),
            Self::Cas { value, .. } => value.read(),
            _ => Ok(Vec::new()),
        }
    }

    /// What is to be asked: one command, or one for each key that is read.
    pub(crate) fn commands<'a>(&'a self, value: &'a [u8]) -> Result<Vec<Command<'a>>, Failure> {
        Ok(vec![match self {
            Self::Get { keys } => return reads(keys, get),
            Self::Gat { ttl, keys } => return reads(keys, |key| get_and_touch(key, *ttl)),
            Self::Set(store) => store.command(StoreMode::Set, value)?,
            Self::Add(store) => store.command(StoreMode::Add, value)?,
            Self::Replace(store) => store.command(StoreMode::Replace, value)?,
            Self::Cas { key: name, cas, item, .. } => item.store(StoreMode::Set, key(name)?, value, *cas),
            Self::Append(concat) => concat.command(Concat::Append, value)?,
            Self::Prepend(concat) => concat.command(Concat::Prepend, value)?,
            Self::Incr(count) => count.command(Direction::Increment)?,
            Self::Decr(count) => count.command(Direction::Decrement)?,
            Self::Delete { key: name, cas } => Command::Delete { key: key(name)?, cas: Cas::from_wire(*cas) },
            Self::Touch { key: name, ttl } => {
                Command::Touch { key: key(name)?, expiration: Expiration::from_wire(*ttl) }
            }
            Self::Flush { delay } => Command::Flush { at: delay.map(Expiration::from_wire) },
            Self::Stats { group } => Command::Stat { group: group.as_deref().map(key).transpose()? },
            // These are no commands: see `main`.
            Self::Watch { .. } | Self::Inspect { .. } | Self::Passwd { .. } => return Ok(Vec::new()),
            Self::Version => Command::Version,
            Self::Noop => Command::Noop,
        }])
    }
}

pub(crate) fn key(argument: &OsStr) -> Result<Key<'_>, Failure> {
    Ok(Key::new(argument.as_encoded_bytes())?)
}

fn reads<'a>(
    keys: &'a [OsString],
    read: impl Fn(Key<'a>) -> Command<'a>,
) -> Result<Vec<Command<'a>>, Failure> {
    keys.iter().map(|name| key(name).map(&read)).collect()
}

fn get(key: Key<'_>) -> Command<'_> {
    Command::Get { key, echo: KeyEcho::With }
}

fn get_and_touch(key: Key<'_>, ttl: u32) -> Command<'_> {
    Command::GetAndTouch { key, echo: KeyEcho::With, expiration: Expiration::from_wire(ttl) }
}

impl StoreArguments {
    fn command<'a>(&'a self, mode: StoreMode, value: &'a [u8]) -> Result<Command<'a>, Failure> {
        Ok(self.item.store(mode, key(&self.key)?, value, self.cas))
    }
}

impl ItemArguments {
    fn store<'a>(&self, mode: StoreMode, key: Key<'a>, value: &'a [u8], cas: u64) -> Command<'a> {
        Command::Store {
            mode,
            key,
            value,
            flags: self.flags,
            expiration: Expiration::from_wire(self.ttl),
            cas: Cas::from_wire(cas),
        }
    }
}

impl ConcatArguments {
    fn command<'a>(&'a self, side: Concat, value: &'a [u8]) -> Result<Command<'a>, Failure> {
        Ok(Command::Concat { side, key: key(&self.key)?, value, cas: Cas::from_wire(self.cas) })
    }
}

impl CountArguments {
    fn command(&self, direction: Direction) -> Result<Command<'_>, Failure> {
        let create = |initial| OnMiss::Create { initial, expiration: Expiration::from_wire(self.ttl) };
        Ok(Command::Count {
            direction,
            key: key(&self.key)?,
            delta: self.by,
            on_miss: self.initial.map_or(OnMiss::Fail, create),
            cas: None,
        })
    }
}

impl ValueArguments {
    fn read(&self) -> Result<Vec<u8>, Failure> {
        match (&self.file, &self.value) {
            (Some(path), _) => read_all(&path.display().to_string(), || File::open(path)),
            (None, Some(value)) if value == "-" => read_all("stdin", || Ok(io::stdin())),
            (None, Some(value)) => Ok(value.as_encoded_bytes().to_vec()),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// Reads a value that a request can hold, and not one byte more.
fn read_all<R: Read>(path: &str, open: impl FnOnce() -> io::Result<R>) -> Result<Vec<u8>, Failure> {
    let limit = u64::from(FRAME_BODY_BYTES_MAX);
    let mut value = Vec::new();
    let count = open()
        .and_then(|source| source.take(limit + 1).read_to_end(&mut value))
        .map_err(|error| Failure::File { path: path.to_owned(), error })?;
    if count as u64 > limit {
        return Err(Failure::Usage(format!("{path}: value too long, limit is {limit} bytes")));
    }
    Ok(value)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() => Ok(timeout),
        _ => Err("not above 0".to_owned()),
    }
}
