//! A command-line client for memcached, memwire or any other server of its binary protocol, built on `wire`.
//!
//! ```text
//! cargo run --example client -- set greeting 'Hello, world'
//! cargo run --example client -- get greeting
//! cargo run --example client -- --json stats
//! cargo run --example client -- inspect /var/lib/memwire/snapshot
//! ```
//!
//! What a client on `wire` needs is in [`Connection`]: requests are encoded into one buffer, so that a pipelined batch
//! leaves in one write; what arrives is gathered until [`wire::split`] finds a whole packet in it. Everything else here
//! is arguments and output. `--verbose` shows every packet.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::{Args, Parser, Subcommand};
use memwire::snapshot::Reader;
use memwire::snapshot::reader::{Damage, Item};
use serde_json::{Map, Value, json};
use wire::header::REQUEST_MAGIC;
use wire::{
    Cas, Command, Concat, Direction, Expiration, FRAME_BODY_BYTES_MAX, Key, KeyEcho, KeyError, Loudness,
    OnMiss, Opcode, Reject, Request, Response, ResponseHeader, Split, Status, StoreMode,
};

/// Requests that are written before the first answer is read. All of them fit into the sockets' buffers: where each
/// side wrote without reading, both could wait for ever.
const BATCH_COUNT_MAX: usize = 100;
/// See `append_watch`.
const WATCH: Opcode = Opcode(0x77);
/// Statistics in one answer. A server has some hundred.
const STATISTICS_COUNT_MAX: usize = 100_000;
/// Bytes that one read asks for.
const READ_BYTES: usize = 64 << 10;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("client: {failure}");
            failure.exit_code()
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if let Task::Watch { key: name, count } = &arguments.task {
        return watch(arguments, key(name)?, *count);
    }
    if let Task::Inspect { file, keys } = &arguments.task {
        return inspect(file, *keys, arguments.json);
    }
    let value = match arguments.task.value() {
        Some(value) => value.read()?,
        None => Vec::new(),
    };
    let job = arguments.task.job(&value)?;
    let mut connection = Connection::open(&arguments.server, arguments.timeout)?;
    connection.verbose = arguments.verbose;
    let answers = job.perform(&mut connection)?;
    print(&answers, arguments.json)?;
    let codes = answers.iter().map(|answer| answer.outcome.exit_code());
    Ok(ExitCode::from(codes.max().unwrap_or(0)))
}

/// A connection to a server: requests in, responses out.
struct Connection {
    stream: TcpStream,
    /// Requests that are encoded and not yet written.
    unsent: Vec<u8>,
    /// Bytes that have arrived and are not yet a whole response.
    received: BytesMut,
    /// Where reads go first, so that memory is spent on bytes that arrive and not on bytes that are announced.
    chunk: Box<[u8]>,
    verbose: bool,
}

/// A response that owns what [`Response`] borrows.
struct OwnedResponse {
    opcode: Opcode,
    status: Status,
    opaque: u32,
    cas: Option<Cas>,
    flags: Option<u32>,
    number: Option<u64>,
    key: Bytes,
    value: Bytes,
}

impl Connection {
    /// Connects to the first address of `server`, which is HOST:PORT, that accepts.
    fn open(server: &str, timeout: Duration) -> Result<Self, Failure> {
        let no_server = |error: io::Error| match error.kind() {
            ErrorKind::InvalidInput => Failure::Usage(format!("--server {server}: {error}")),
            _ => Failure::NoServer { address: server.to_owned(), error },
        };
        let stream = connect(server, timeout).map_err(no_server)?;
        Ok(Self {
            stream,
            unsent: Vec::new(),
            received: BytesMut::new(),
            chunk: vec![0; READ_BYTES].into_boxed_slice(),
            verbose: false,
        })
    }

    /// Queues a request. It leaves with all others before it as soon as a response is waited for.
    fn send(&mut self, request: &Request<'_>) {
        if self.verbose {
            eprintln!("> {request}");
        }
        request.append_to(&mut self.unsent);
    }

    /// Waits for the next response.
    fn receive(&mut self) -> Result<OwnedResponse, Failure> {
        self.stream.write_all(&self.unsent).map_err(Failure::Lost)?;
        self.unsent.clear();
        loop {
            if let Some(response) = self.take_response()? {
                return Ok(response);
            }
            let count = read_some(&mut self.stream, &mut self.chunk).map_err(Failure::Lost)?;
            self.received.extend_from_slice(&self.chunk[..count]);
        }
    }

    /// Takes the next response out of what has arrived, if it is whole.
    fn take_response(&mut self) -> Result<Option<OwnedResponse>, Failure> {
        let split = wire::split::<ResponseHeader>(&self.received, FRAME_BODY_BYTES_MAX)
            .map_err(|reject| self.nonsense(reject))?;
        let Split::Whole { packet, rest } = split else {
            return Ok(None);
        };
        if self.verbose {
            eprintln!("< {packet}");
        }
        let response = Response::parse(&packet);
        let mut owned = OwnedResponse {
            opcode: response.opcode,
            status: response.status,
            opaque: response.opaque,
            cas: response.cas,
            flags: response.flags(),
            number: response.counter(),
            key: Bytes::copy_from_slice(response.key),
            value: Bytes::new(),
        };
        // The value ends the packet, and stays where it lies: it may be long.
        let (value_len, packet_len) = (response.value.len(), self.received.len() - rest.len());
        owned.value = self.received.split_to(packet_len).split_off(packet_len - value_len).freeze();
        Ok(Some(owned))
    }

    /// A server that speaks another protocol, or is full, says so in plain text.
    fn nonsense(&self, reject: Reject) -> Failure {
        let begins = &self.received[..self.received.len().min(60)];
        Failure::Nonsense(format!("{reject}; it begins '{}'", begins.escape_ascii()))
    }
}

fn connect(server: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Reads at least one byte.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed it")),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// What is to be asked, borrowed from the arguments.
enum Job<'a> {
    /// One request, one answer.
    Single(Command<'a>),
    /// Quiet reads, pipelined. Only hits are answered.
    Reads(Vec<Command<'a>>),
    /// One request, an answer for each statistic.
    Statistics(Command<'a>),
}

/// What the server said about one key, or about no key.
struct Answer<'a> {
    key: Option<Key<'a>>,
    outcome: Outcome,
}

/// An answer, understood.
enum Outcome {
    Done,
    Stored { cas: Option<Cas> },
    Hit { value: Bytes, flags: u32, cas: Option<Cas> },
    Number { number: u64, cas: Option<Cas> },
    Version(String),
    Statistics(Vec<(String, String)>),
    Refused(Status),
}

impl<'a> Job<'a> {
    fn perform(&self, connection: &mut Connection) -> Result<Vec<Answer<'a>>, Failure> {
        match self {
            Self::Single(command) => Ok(vec![ask(connection, *command)?]),
            Self::Reads(commands) => ask_quietly(connection, commands),
            Self::Statistics(command) => Ok(vec![ask_statistics(connection, *command)?]),
        }
    }
}

/// Sends one request and waits for its answer.
fn ask<'a>(connection: &mut Connection, command: Command<'a>) -> Result<Answer<'a>, Failure> {
    let request = request(0, Loudness::Loud, command);
    connection.send(&request);
    let response = connection.receive()?;
    response.must_answer(&request)?;
    Ok(Answer { key: key_of(&command), outcome: Outcome::of(response)? })
}

/// Sends quiet reads and a NOOP. The server answers the hits, then the NOOP: whatever has no answer by then is a miss.
fn ask_quietly<'a>(
    connection: &mut Connection,
    commands: &[Command<'a>],
) -> Result<Vec<Answer<'a>>, Failure> {
    let mut answers = Vec::new();
    for batch in commands.chunks(BATCH_COUNT_MAX) {
        answers.extend(ask_batch(connection, batch)?);
    }
    Ok(answers)
}

/// The opaque of a request is its place in the batch, which its answer returns.
fn ask_batch<'a>(connection: &mut Connection, commands: &[Command<'a>]) -> Result<Vec<Answer<'a>>, Failure> {
    let requests: Vec<Request<'a>> =
        (0..).zip(commands).map(|(opaque, command)| request(opaque, Loudness::Quiet, *command)).collect();
    for request in &requests {
        connection.send(request);
    }
    let last = request(u32::MAX, Loudness::Loud, Command::Noop);
    connection.send(&last);

    let missed = |command| Answer { key: key_of(command), outcome: Outcome::Refused(Status::NOT_FOUND) };
    let mut answers: Vec<Answer<'a>> = commands.iter().map(missed).collect();
    loop {
        let response = connection.receive()?;
        let index = response.opaque as usize;
        let Some(request) = requests.get(index) else {
            response.must_answer(&last)?;
            return Ok(answers);
        };
        response.must_answer(request)?;
        answers[index].outcome = Outcome::of(response)?;
    }
}

/// Collects statistics up to the packet that has neither name nor value.
fn ask_statistics<'a>(connection: &mut Connection, command: Command<'a>) -> Result<Answer<'a>, Failure> {
    let request = request(0, Loudness::Loud, command);
    connection.send(&request);
    let mut statistics = Vec::new();
    let outcome = loop {
        let response = connection.receive()?;
        response.must_answer(&request)?;
        if !response.status.is_ok() {
            break Outcome::Refused(response.status);
        }
        if response.key.is_empty() && response.value.is_empty() {
            break Outcome::Statistics(statistics);
        }
        if statistics.len() == STATISTICS_COUNT_MAX {
            return Err(Failure::Nonsense(format!("over {STATISTICS_COUNT_MAX} statistics")));
        }
        statistics.push((printable(&response.key), printable(&response.value)));
    };
    Ok(Answer { key: key_of(&command), outcome })
}

/// Prints an item, and each change of it that is seen: of several that come together the last one. The server answers
/// with no CAS when the time is up that it was given.
fn watch(arguments: &Arguments, key: Key<'_>, count: Option<u64>) -> Result<ExitCode, Failure> {
    let mut connection = Connection::open(&arguments.server, arguments.timeout)?;
    // The server may take a sixteenth more.
    let wait_ms = u32::try_from(arguments.timeout.as_millis() / 2).unwrap_or(u32::MAX);
    let (mut known, mut seen) = (None, 0);
    while count.is_none_or(|count| seen < count) {
        append_watch(&mut connection.unsent, key, known, wait_ms);
        let response = connection.receive()?;
        if response.opcode != WATCH {
            return Err(Failure::Nonsense(format!("{} for an answer to a watch", response.opcode)));
        }
        let (status, cas, value) = (response.status, response.cas, response.value);
        let outcome = match (status, cas) {
            (Status::OK, None) => continue,
            (Status::OK, _) => Outcome::Hit { value, flags: response.flags.unwrap_or(0), cas },
            _ => Outcome::Refused(status),
        };
        known = cas;
        seen += 1;
        let answer = Answer { key: Some(key), outcome };
        if arguments.json {
            print(&[answer], true)?;
        } else {
            let mut out = io::stdout().lock();
            print_line(&mut out, &answer).and_then(|()| out.flush()).map_err(Failure::Output)?;
        }
        if !status.is_ok() && status != Status::NOT_FOUND {
            return Ok(ExitCode::from(Outcome::Refused(status).exit_code()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// memwire's own request: the key, the CAS that is known, and how long to wait for another one.
fn append_watch(packet: &mut Vec<u8>, key: Key<'_>, known: Option<Cas>, wait_ms: u32) {
    let key = key.as_bytes();
    let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
    packet.extend([REQUEST_MAGIC, WATCH.0]);
    packet.extend(key_len.to_be_bytes());
    packet.extend([4, 0, 0, 0]);
    packet.extend((u32::from(key_len) + 4).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(Cas::to_wire(known).to_be_bytes());
    packet.extend(wait_ms.to_be_bytes());
    packet.extend(key);
}

fn request(opaque: u32, loudness: Loudness, command: Command<'_>) -> Request<'_> {
    Request { opaque, loudness, command }
}

fn key_of<'a>(command: &Command<'a>) -> Option<Key<'a>> {
    Key::new(command.key_and_value().0).ok()
}

impl OwnedResponse {
    fn must_answer(&self, request: &Request<'_>) -> Result<(), Failure> {
        if (self.opcode, self.opaque) == (request.opcode(), request.opaque) {
            Ok(())
        } else {
            Err(Failure::Nonsense(format!(
                "{} with opaque 0x{:x} for an answer to {request}",
                self.opcode, self.opaque
            )))
        }
    }
}

impl Outcome {
    fn of(response: OwnedResponse) -> Result<Self, Failure> {
        let (opcode, cas) = (response.opcode, response.cas);
        let without = |part| Failure::Nonsense(format!("{opcode} without {part}"));
        if !response.status.is_ok() {
            return Ok(Self::Refused(response.status));
        }
        Ok(match opcode {
            Opcode::GETKQ | Opcode::GATKQ => Self::Hit {
                value: response.value,
                flags: response.flags.ok_or_else(|| without("flags"))?,
                cas,
            },
            Opcode::INCREMENT | Opcode::DECREMENT => {
                Self::Number { number: response.number.ok_or_else(|| without("a number"))?, cas }
            }
            Opcode::VERSION => Self::Version(printable(&response.value)),
            Opcode::SET | Opcode::ADD | Opcode::REPLACE | Opcode::APPEND | Opcode::PREPEND => {
                Self::Stored { cas }
            }
            _ => Self::Done,
        })
    }

    fn exit_code(&self) -> u8 {
        match *self {
            Self::Refused(Status::NOT_FOUND | Status::EXISTS | Status::NOT_STORED) => 1,
            Self::Refused(_) => 4,
            _ => 0,
        }
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the server said no: not found, not stored, exists, or another CAS; or the snapshot is damaged
  2  wrong usage, or a file that cannot be read or written
  3  no server, or the connection was lost
  4  the server answered another error, or nonsense

A TTL is in seconds: 0 never ends, up to 30 days count from now, anything above is a Unix time.";

/// Asks a memcached server over the binary protocol.
#[derive(Debug, Parser)]
#[command(name = "client", after_help = EXIT_CODES)]
struct Arguments {
    /// The server to ask
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:11211", global = true)]
    server: String,
    /// Print JSON: an object, or an array of them where several keys were asked for
    #[arg(long, global = true)]
    json: bool,
    /// Longest wait for the connection, for each read and for each write
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_timeout, global = true)]
    timeout: Duration,
    /// Print every packet to stderr
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
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
    /// Print a value, and again whenever it changes (memwire with --watch)
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
}

#[derive(Debug, Args)]
struct StoreArguments {
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
struct ConcatArguments {
    key: OsString,
    #[command(flatten)]
    value: ValueArguments,
    /// Only if the item has this CAS
    #[arg(long, default_value_t = 0)]
    cas: u64,
}

#[derive(Debug, Args)]
struct ValueArguments {
    /// The value, - for stdin
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_negative_numbers = true)]
    value: Option<OsString>,
    /// Read the value from a file
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ItemArguments {
    /// 32 bits that are kept beside the value
    #[arg(long, default_value_t = 0)]
    flags: u32,
    /// When the item ends
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    ttl: u32,
}

#[derive(Debug, Args)]
struct CountArguments {
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

impl Task {
    /// Where the value comes from, of a task that has one.
    fn value(&self) -> Option<&ValueArguments> {
        match self {
            Self::Set(store) | Self::Add(store) | Self::Replace(store) => Some(&store.value),
            Self::Append(concat) | Self::Prepend(concat) => Some(&concat.value),
            Self::Cas { value, .. } => Some(value),
            _ => None,
        }
    }

    fn job<'a>(&'a self, value: &'a [u8]) -> Result<Job<'a>, Failure> {
        Ok(Job::Single(match self {
            Self::Get { keys } => return reads(keys, get),
            Self::Gat { ttl, keys } => return reads(keys, |key| get_and_touch(key, *ttl)),
            Self::Stats { group } => {
                let group = group.as_deref().map(key).transpose()?;
                return Ok(Job::Statistics(Command::Stat { group }));
            }
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
            // Watching is no job: it is asked for again and again.
            Self::Watch { .. } => Command::Noop,
            Self::Version => Command::Version,
            Self::Noop => Command::Noop,
            Self::Inspect { .. } => return Err(Failure::Usage("inspect asks no server".to_owned())),
        }))
    }
}

fn key(argument: &OsStr) -> Result<Key<'_>, Failure> {
    Ok(Key::new(argument.as_encoded_bytes())?)
}

fn reads<'a>(keys: &'a [OsString], read: impl Fn(Key<'a>) -> Command<'a>) -> Result<Job<'a>, Failure> {
    let commands: Result<_, _> = keys.iter().map(|name| key(name).map(&read)).collect();
    Ok(Job::Reads(commands?))
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

/// A reader that has seen enough, as `head` has, is no failure.
fn print(answers: &[Answer<'_>], as_json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let printed = match answers {
        [answer] if as_json => writeln!(out, "{}", answer.to_json()),
        _ if as_json => writeln!(out, "{}", answers.iter().map(Answer::to_json).collect::<Value>()),
        [answer] => print_one(&mut out, answer),
        _ => answers.iter().try_for_each(|answer| print_line(&mut out, answer)),
    };
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

fn print_one(out: &mut (impl Write + IsTerminal), answer: &Answer<'_>) -> io::Result<()> {
    match &answer.outcome {
        Outcome::Hit { value, .. } => {
            out.write_all(value)?;
            if out.is_terminal() { writeln!(out) } else { Ok(()) }
        }
        Outcome::Done => writeln!(out, "done"),
        Outcome::Stored { cas } => writeln!(out, "stored, CAS {}", Cas::to_wire(*cas)),
        Outcome::Number { number, .. } => writeln!(out, "{number}"),
        Outcome::Version(version) => writeln!(out, "{version}"),
        Outcome::Statistics(statistics) => {
            statistics.iter().try_for_each(|(name, value)| writeln!(out, "{name} {value}"))
        }
        Outcome::Refused(status) => {
            answer.complain(*status);
            Ok(())
        }
    }
}

/// One of several keys.
fn print_line(out: &mut impl Write, answer: &Answer<'_>) -> io::Result<()> {
    match (&answer.outcome, answer.key) {
        (Outcome::Hit { value, .. }, Some(key)) => {
            writeln!(out, "{}: {}", printable(key.as_bytes()), printable(value))
        }
        (Outcome::Refused(status), _) => {
            answer.complain(*status);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What a snapshot holds.
#[derive(Default)]
struct Contents {
    created: u32,
    newest_cas: u64,
    pending_flush: Option<u32>,
    items: u64,
    volatile_items: u64,
    key_bytes: usize,
    value_bytes: usize,
}

/// Reads a snapshot up to its end, or to where it is damaged, and prints what it holds.
fn inspect(path: &Path, lists_keys: bool, as_json: bool) -> Result<ExitCode, Failure> {
    let unreadable = |error| Failure::File { path: path.display().to_string(), error };
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut contents = Contents::default();
    let damage = contents.read(file, len, |item| {
        if !lists_keys {
            return Ok(());
        }
        let (seconds, value_len, key) = (item.expiration.to_wire(), item.value.len(), printable(item.key));
        writeln!(out, "{} {seconds} {value_len} {key}", item.flags)
    })?;
    let lines = contents.lines(len, damage.as_ref());
    let printed = if as_json {
        let fields: Map<_, _> = lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        writeln!(out, "{}", Value::Object(fields))
    } else {
        let plain = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.into_iter().try_for_each(|(name, value)| writeln!(out, "{name:<14} {}", plain(value)))
    };
    match printed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(ExitCode::from(u8::from(damage.is_some()))),
    }
}

impl Contents {
    /// Adds up what is good, and says what is not.
    fn read(
        &mut self,
        file: File,
        len: u64,
        mut each: impl FnMut(&Item<'_>) -> io::Result<()>,
    ) -> Result<Option<Damage>, Failure> {
        let mut reader = match Reader::open(file, len) {
            Ok(reader) => reader,
            Err(damage) => return Ok(Some(damage)),
        };
        (self.created, self.newest_cas) = (reader.opening().created, reader.opening().newest_cas);
        self.pending_flush = reader.pending_flush();
        loop {
            let items = match reader.next_items() {
                Ok(Some(items)) => items,
                Ok(None) => return Ok(None),
                Err(damage) => return Ok(Some(damage)),
            };
            for item in items {
                self.items += 1;
                self.volatile_items += u64::from(item.expiration != Expiration::Never);
                self.key_bytes += item.key.len();
                self.value_bytes += item.value.len();
                each(&item).map_err(Failure::Output)?;
            }
        }
    }

    fn lines(&self, file_bytes: u64, damage: Option<&Damage>) -> Vec<(&'static str, Value)> {
        vec![
            ("state", damage.map_or_else(|| json!("good"), |damage| json!(format!("damaged: {damage}")))),
            ("file_bytes", json!(file_bytes)),
            ("good_bytes", json!(damage.map_or(file_bytes, |damage| damage.good_bytes))),
            ("created", json!(self.created)),
            ("newest_cas", json!(self.newest_cas)),
            ("pending_flush", json!(self.pending_flush)),
            ("items", json!(self.items)),
            ("volatile_items", json!(self.volatile_items)),
            ("key_bytes", json!(self.key_bytes)),
            ("value_bytes", json!(self.value_bytes)),
        ]
    }
}

/// Text as it is; anything that would disturb a terminal, or is no text, escaped.
fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

impl Answer<'_> {
    fn complain(&self, status: Status) {
        match self.key {
            Some(key) => eprintln!("client: {}: {status}", printable(key.as_bytes())),
            None => eprintln!("client: {status}"),
        }
    }

    fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if let Some(key) = self.key {
            insert_bytes(&mut fields, "key", key.as_bytes());
        }
        let status = match self.outcome {
            Outcome::Refused(status) => status,
            _ => Status::OK,
        };
        fields.insert("ok".to_owned(), json!(status.is_ok()));
        fields.insert("status".to_owned(), json!(status.to_string()));
        self.outcome.insert_json(&mut fields);
        Value::Object(fields)
    }
}

impl Outcome {
    fn insert_json(&self, fields: &mut Map<String, Value>) {
        let mut insert = |name: &str, value| fields.insert(name.to_owned(), value);
        match self {
            Self::Done | Self::Refused(_) => {}
            Self::Stored { cas } => {
                insert("cas", json!(Cas::to_wire(*cas)));
            }
            Self::Number { number, cas } => {
                insert("number", json!(number));
                insert("cas", json!(Cas::to_wire(*cas)));
            }
            Self::Hit { value, flags, cas } => {
                insert("flags", json!(flags));
                insert("cas", json!(Cas::to_wire(*cas)));
                insert_bytes(fields, "value", value);
            }
            Self::Version(version) => {
                insert("version", json!(version));
            }
            Self::Statistics(statistics) => {
                let statistics = statistics.iter().map(|(name, value)| (name.clone(), json!(value)));
                insert("statistics", Value::Object(statistics.collect()));
            }
        }
    }
}

/// JSON has no bytes: those that are no UTF-8 go under another name, in hexadecimal.
fn insert_bytes(fields: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => fields.insert(name.to_owned(), json!(text)),
        Err(_) => fields.insert(format!("{name}_hex"), json!(hex(bytes))),
    };
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Why there is nothing to print.
enum Failure {
    Usage(String),
    File { path: String, error: io::Error },
    NoServer { address: String, error: io::Error },
    Lost(io::Error),
    Nonsense(String),
    Output(io::Error),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::File { .. } | Self::Output(_) => 2,
            Self::NoServer { .. } | Self::Lost(_) => 3,
            Self::Nonsense(_) => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "{what}"),
            Self::File { path, error } => write!(f, "cannot read {path}: {error}"),
            Self::NoServer { address, error } => write!(
                f,
                "no server at {address}: {error}\n\
                 Start one with `cargo run --release --bin memwire`, or name another with --server HOST:PORT."
            ),
            Self::Lost(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    write!(f, "no answer in time; --timeout SECONDS waits longer")
                }
                _ => write!(f, "connection lost: {error}"),
            },
            Self::Nonsense(what) => write!(f, "the server answered nonsense: {what}"),
            Self::Output(error) => write!(f, "cannot write to stdout: {error}"),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Usage(error.to_string())
    }
}
