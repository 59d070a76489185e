//! One connection, and what goes over it: requests, answers and how they are compared.
//!
//! An [`Answer`] is a packet of which everything that follows from the request has been checked already: magic, opcode,
//! data type, opaque and the sum of the lengths. What is left is compared as a whole, so no byte goes unlooked at.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Response, Server, packet};

/// The opcodes, as `PROTOCOL_BINARY_CMD_*` in memcached's `protocol_binary.h`.
pub(crate) mod op {
    pub(crate) const GET: u8 = 0x00;
    pub(crate) const SET: u8 = 0x01;
    pub(crate) const ADD: u8 = 0x02;
    pub(crate) const REPLACE: u8 = 0x03;
    pub(crate) const DELETE: u8 = 0x04;
    pub(crate) const INCR: u8 = 0x05;
    pub(crate) const DECR: u8 = 0x06;
    pub(crate) const QUIT: u8 = 0x07;
    pub(crate) const FLUSH: u8 = 0x08;
    pub(crate) const GETQ: u8 = 0x09;
    pub(crate) const NOOP: u8 = 0x0a;
    pub(crate) const VERSION: u8 = 0x0b;
    pub(crate) const GETK: u8 = 0x0c;
    pub(crate) const GETKQ: u8 = 0x0d;
    pub(crate) const APPEND: u8 = 0x0e;
    pub(crate) const PREPEND: u8 = 0x0f;
    pub(crate) const STAT: u8 = 0x10;
    pub(crate) const SETQ: u8 = 0x11;
    pub(crate) const ADDQ: u8 = 0x12;
    pub(crate) const REPLACEQ: u8 = 0x13;
    pub(crate) const DELETEQ: u8 = 0x14;
    pub(crate) const INCRQ: u8 = 0x15;
    pub(crate) const DECRQ: u8 = 0x16;
    pub(crate) const QUITQ: u8 = 0x17;
    pub(crate) const FLUSHQ: u8 = 0x18;
    pub(crate) const APPENDQ: u8 = 0x19;
    pub(crate) const PREPENDQ: u8 = 0x1a;
    pub(crate) const VERBOSITY: u8 = 0x1b;
    pub(crate) const TOUCH: u8 = 0x1c;
    pub(crate) const GAT: u8 = 0x1d;
    pub(crate) const GATQ: u8 = 0x1e;
    pub(crate) const SASL_LIST_MECHS: u8 = 0x20;
    pub(crate) const SASL_AUTH: u8 = 0x21;
    pub(crate) const SASL_STEP: u8 = 0x22;
    pub(crate) const GATK: u8 = 0x23;
    pub(crate) const GATKQ: u8 = 0x24;
}

/// The statuses of error replies.
pub(crate) mod status {
    pub(crate) const NOT_FOUND: u16 = 0x01;
    pub(crate) const EXISTS: u16 = 0x02;
    pub(crate) const TOO_LARGE: u16 = 0x03;
    pub(crate) const INVALID: u16 = 0x04;
    pub(crate) const NOT_STORED: u16 = 0x05;
    pub(crate) const NON_NUMERIC: u16 = 0x06;
    pub(crate) const AUTH_ERROR: u16 = 0x20;
    pub(crate) const UNKNOWN_COMMAND: u16 = 0x81;
    pub(crate) const OUT_OF_MEMORY: u16 = 0x82;
}

/// An expiration that makes INCR and DECR fail on a missing key.
pub(crate) const FAIL_ON_MISS: u32 = u32::MAX;

/// A request that is put together.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) opcode: u8,
    key: Vec<u8>,
    extras: Vec<u8>,
    value: Vec<u8>,
    cas: u64,
    opaque: u32,
}

impl Request {
    /// A request without a body.
    pub(crate) fn new(opcode: u8) -> Self {
        Self { opcode, key: Vec::new(), extras: Vec::new(), value: Vec::new(), cas: 0, opaque: 0 }
    }

    /// GET and its forms, DELETE, STAT.
    pub(crate) fn of(opcode: u8, key: impl AsRef<[u8]>) -> Self {
        Self::new(opcode).key(key)
    }

    /// SET, ADD, REPLACE with flags 0 and no expiration.
    pub(crate) fn store(opcode: u8, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self::of(opcode, key).extras(stored(0, 0)).value(value)
    }

    /// APPEND, PREPEND.
    pub(crate) fn concat(opcode: u8, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self::of(opcode, key).value(value)
    }

    /// INCR, DECR.
    pub(crate) fn count(
        opcode: u8,
        key: impl AsRef<[u8]>,
        delta: u64,
        initial: u64,
        expiration: u32,
    ) -> Self {
        let (delta, initial) = (delta.to_be_bytes(), initial.to_be_bytes());
        Self::of(opcode, key).extras([&delta[..], &initial, &expiration.to_be_bytes()].concat())
    }

    /// TOUCH, GAT and its forms; FLUSH with a delay has no key.
    pub(crate) fn touch(opcode: u8, key: impl AsRef<[u8]>, expiration: u32) -> Self {
        Self::of(opcode, key).extras(expiration.to_be_bytes())
    }

    pub(crate) fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = key.as_ref().to_vec();
        self
    }

    pub(crate) fn extras(mut self, extras: impl AsRef<[u8]>) -> Self {
        self.extras = extras.as_ref().to_vec();
        self
    }

    pub(crate) fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = value.as_ref().to_vec();
        self
    }

    pub(crate) fn cas(mut self, cas: u64) -> Self {
        self.cas = cas;
        self
    }

    pub(crate) fn opaque(mut self, opaque: u32) -> Self {
        self.opaque = opaque;
        self
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        packet(self.opcode, &self.key, &self.extras, &self.value, self.cas, self.opaque)
    }
}

/// The extras of SET, ADD and REPLACE.
pub(crate) fn stored(flags: u32, expiration: u32) -> [u8; 8] {
    (u64::from(flags) << 32 | u64::from(expiration)).to_be_bytes()
}

/// What an answer says, beyond which request it answers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) extras: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) cas: u64,
}

impl Answer {
    /// Success without a body.
    pub(crate) fn done(cas: u64) -> Self {
        Self { status: 0, extras: Vec::new(), key: Vec::new(), value: Vec::new(), cas }
    }

    /// An error, with its text.
    pub(crate) fn error(status: u16) -> Self {
        let text = match status {
            status::NOT_FOUND => "Not found",
            status::EXISTS => "Data exists for key.",
            status::TOO_LARGE => "Too large.",
            status::INVALID => "Invalid arguments",
            status::NOT_STORED => "Not stored.",
            status::NON_NUMERIC => "Non-numeric server-side value for incr or decr",
            status::AUTH_ERROR => "Auth failure.",
            status::UNKNOWN_COMMAND => "Unknown command",
            status::OUT_OF_MEMORY => "Out of memory allocating item",
            other => panic!("status {other:#06x} has no text"),
        };
        Self { status, value: text.into(), ..Self::done(0) }
    }

    /// An item.
    pub(crate) fn hit(flags: u32, value: impl AsRef<[u8]>, cas: u64) -> Self {
        Self { extras: flags.to_be_bytes().to_vec(), value: value.as_ref().to_vec(), ..Self::done(cas) }
    }

    /// The value of a counter.
    pub(crate) fn number(number: u64, cas: u64) -> Self {
        Self { value: number.to_be_bytes().to_vec(), ..Self::done(cas) }
    }

    /// The same with a key in it.
    pub(crate) fn with_key(self, key: impl AsRef<[u8]>) -> Self {
        Self { key: key.as_ref().to_vec(), ..self }
    }
}

/// Long values are not printed whole: a failed comparison should be readable.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN_BYTES: usize = 64;
        let shown = |bytes: &[u8]| {
            let start = bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii();
            format!("{start} ({} bytes)", bytes.len())
        };
        write!(
            f,
            "status {:#06x}, extras {:02x?}, key {}, value {}, cas {}",
            self.status,
            self.extras,
            shown(&self.key),
            shown(&self.value),
            self.cas
        )
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    opaque: u32,
}

impl Client {
    /// A new connection to `server`.
    pub(crate) fn connect(server: &Server) -> Self {
        Self::over(server.connect())
    }

    /// Over a connection that is there.
    pub(crate) fn over(writer: TcpStream) -> Self {
        let reader = BufReader::new(writer.try_clone().expect("a socket can be cloned"));
        Self { writer, reader, opaque: 0x0b5e_0000 }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).expect("the server reads");
    }

    /// Sends bytes while `receive` reads, for when they are more than the sockets hold. What cannot be written is
    /// dropped: the answers tell.
    pub(crate) fn send_meanwhile<T>(&mut self, bytes: &[u8], receive: impl FnOnce(&mut Self) -> T) -> T {
        let mut writer = self.writer.try_clone().expect("a socket can be cloned");
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(bytes));
            receive(self)
        })
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&self) {
        self.writer.shutdown(Shutdown::Write).expect("a connected socket can be shut down");
    }

    /// The next answer, which is to be one to this opcode and opaque.
    #[track_caller]
    pub(crate) fn receive(&mut self, opcode: u8, opaque: u32) -> Answer {
        let response = Response::read(&mut self.reader)
            .unwrap_or_else(|error| panic!("no answer to opcode {opcode:#04x}: {error}"))
            .unwrap_or_else(|| panic!("closed instead of an answer to opcode {opcode:#04x}"));
        assert_eq!(
            (response.opcode(), response.opaque()),
            (opcode, opaque),
            "another request was answered, with status {:#06x}",
            response.status()
        );
        carve(&response)
    }

    /// Sends one request and reads its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        self.opaque += 1;
        let opaque = self.opaque;
        self.send(&request.clone().opaque(opaque).bytes());
        self.receive(request.opcode, opaque)
    }

    /// Sends one request and reads its answer, or sees that there is none: the answer to a NOOP behind it comes first.
    #[track_caller]
    pub(crate) fn ask_quietly(&mut self, request: &Request) -> Option<Answer> {
        self.opaque += 2;
        let (opaque, noop) = (self.opaque, self.opaque + 1);
        let requests = [request.clone().opaque(opaque).bytes(), Request::new(op::NOOP).opaque(noop).bytes()];
        self.opaque += 1;
        self.send(&requests.concat());
        let first =
            Response::read(&mut self.reader).expect("a NOOP is answered").expect("the connection stays open");
        if first.opaque() == noop {
            assert_eq!((first.opcode(), carve(&first)), (op::NOOP, Answer::done(0)));
            return None;
        }
        assert_eq!((first.opcode(), first.opaque()), (request.opcode, opaque));
        assert_eq!(self.receive(op::NOOP, noop), Answer::done(0));
        Some(carve(&first))
    }

    /// Sees that everything before has been answered, and that the stream is in step.
    #[track_caller]
    pub(crate) fn assert_in_step(&mut self) {
        assert_eq!(self.ask(&Request::new(op::NOOP)), Answer::done(0));
    }

    /// Sees that the server has closed, and has sent nothing more.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let rest = self.rest().expect("the server closes in order");
        assert_eq!(rest.escape_ascii().to_string(), "", "nothing before the close");
    }

    /// Everything up to the close.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Stores, and answers the CAS.
    #[track_caller]
    pub(crate) fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> u64 {
        let answer = self.ask(&Request::store(op::SET, key, value));
        assert_ne!(answer.cas, 0, "a store draws a version: {answer:?}");
        assert_eq!(answer, Answer::done(answer.cas));
        answer.cas
    }

    /// The value, `None` on a miss.
    #[track_caller]
    pub(crate) fn get(&mut self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let answer = self.ask(&Request::of(op::GET, key));
        if answer.status == 0 {
            return Some(answer.value);
        }
        assert_eq!(answer, Answer::error(status::NOT_FOUND));
        None
    }

    /// All statistics of a group, by name.
    #[track_caller]
    pub(crate) fn stats(&mut self, group: &str) -> BTreeMap<String, String> {
        self.ask_for_stats(group);
        self.receive_stats()
    }

    /// Asks for them, and waits for nothing.
    pub(crate) fn ask_for_stats(&mut self, group: &str) {
        self.opaque += 1;
        self.send(&Request::of(op::STAT, group).opaque(self.opaque).bytes());
    }

    /// Those that were asked for last.
    #[track_caller]
    pub(crate) fn receive_stats(&mut self) -> BTreeMap<String, String> {
        let opaque = self.opaque;
        let mut stats = BTreeMap::new();
        loop {
            let answer = self.receive(op::STAT, opaque);
            if answer == Answer::done(0) {
                return stats;
            }
            assert_eq!((answer.status, answer.cas, &answer.extras[..]), (0, 0, &[][..]));
            let text = |bytes| String::from_utf8(bytes).expect("statistics are text");
            let doubled = stats.insert(text(answer.key), text(answer.value));
            assert_eq!(doubled, None, "a statistic comes once");
        }
    }

    /// One statistic of the general group, as a number.
    #[track_caller]
    pub(crate) fn stat(&mut self, name: &str) -> u64 {
        number(&self.stats(""), name)
    }
}

/// One statistic as a number.
#[track_caller]
pub(crate) fn number(stats: &BTreeMap<String, String>, name: &str) -> u64 {
    let text = stats.get(name).unwrap_or_else(|| panic!("no statistic {name}"));
    text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}"))
}

/// Waits until `holds`, and fails where it does not in time.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Takes a response apart by its lengths.
#[track_caller]
fn carve(response: &Response) -> Answer {
    let header = &response.header;
    let key_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let extras_len = usize::from(header[4]);
    assert_eq!((header[0], header[5]), (0x81, 0), "magic and data type");
    assert!(
        extras_len + key_len <= response.body.len(),
        "extras of {extras_len} bytes and a key of {key_len} in a body of {}",
        response.body.len()
    );
    let (extras, rest) = response.body.split_at(extras_len);
    let (key, value) = rest.split_at(key_len);
    Answer {
        status: response.status(),
        extras: extras.to_vec(),
        key: key.to_vec(),
        value: value.to_vec(),
        cas: response.cas(),
    }
}
