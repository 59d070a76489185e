//! The floor: a server that stores nothing. It reads requests of the binary protocol, and answers each GET with the value
//! that its key has in generation 0, on one thread. No cache can be faster with the same system calls, and what a cache
//! costs beyond this is its own.
//!
//! Its answers are as right as those of the other servers and are checked like them.

use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;
use std::time::Duration;
use std::{env, fs};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use wire::{Hit, Opcode, RequestHeader, Response, Status};
use zerocopy::FromBytes;

use crate::items::KEY_BYTES;
use crate::neighbour::has_parent;
use crate::workload::Values;

const LISTENER: Token = Token(usize::MAX);

/// As in memwire: what one connection may bring in a turn.
const INPUT_BYTES: usize = 64 << 10;

/// Values from here on are sent from where they lie.
const COPIED_BYTES_MAX: usize = 2 << 10;

/// It looks this often for its parent.
const TICK: Duration = Duration::from_secs(1);

/// Serves until it is stopped, or its parent has gone, on a port that is told before.
///
/// # Errors
/// Where it cannot listen or poll.
pub(crate) fn serve(values: &Values, tell: impl FnOnce(u16) -> io::Result<()>) -> io::Result<()> {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().map_err(io::Error::other)?)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    tell(listener.local_addr()?.port())?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut input = vec![0; INPUT_BYTES];
    while has_parent() {
        match poll.poll(&mut events, Some(TICK)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(clients.len()), interest)?;
                    clients.push(Some(Client::new(stream)));
                }
            } else if let Some(place) = clients.get_mut(event.token().0)
                && let Some(client) = place
                && client.turn(&mut input, values).is_err()
            {
                *place = None;
            }
        }
    }
    Ok(())
}

/// Writes the port to a file, as memcached does, where one is asked for.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn tell_port(port: u16) -> io::Result<()> {
    match env::var_os("MEMCACHED_PORT_FILENAME") {
        Some(file) => fs::write(file, format!("TCP INET: {port}\n")),
        None => Ok(()),
    }
}

/// A connection.
struct Client {
    stream: TcpStream,
    /// Read, but not answered: less than a request, or what comes behind a value that is being sent.
    carried: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// A value behind the output, by its place in the pattern.
    value: Range<usize>,
    /// Whether it is behind a value that answering stopped.
    has_stopped: bool,
    /// A SET whose value is being read and forgotten.
    set: Option<Set>,
}

#[derive(Clone, Copy)]
struct Set {
    opaque: u32,
    bytes_left: usize,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            carried: Vec::new(),
            output: Vec::new(),
            written: 0,
            value: 0..0,
            has_stopped: false,
            set: None,
        }
    }

    /// Reads, answers and writes until one of these has to wait.
    fn turn(&mut self, buffer: &mut [u8], values: &Values) -> io::Result<()> {
        loop {
            if !self.flush(values)? {
                return Ok(());
            }
            let carried = self.carried.len();
            buffer[..carried].copy_from_slice(&self.carried);
            let mut end = carried;
            let is_short = if self.has_stopped {
                false
            } else {
                match self.stream.read(&mut buffer[carried..]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(read) => end += read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
                end < buffer.len()
            };
            let answered = self.answer(&buffer[..end], values)?;
            self.carried.clear();
            self.carried.extend_from_slice(&buffer[answered..end]);
            self.has_stopped = !self.value.is_empty();
            if is_short && !self.has_stopped {
                self.flush(values)?;
                return Ok(());
            }
        }
    }

    /// Answers what is whole, up to a large value, and says how many bytes that was.
    fn answer(&mut self, input: &[u8], values: &Values) -> io::Result<usize> {
        let mut rest = input;
        while self.value.is_empty() {
            if let Some(set) = &mut self.set {
                let skipped = set.bytes_left.min(rest.len());
                set.bytes_left -= skipped;
                rest = &rest[skipped..];
                if set.bytes_left > 0 {
                    break;
                }
                Response::empty(Opcode::SET, Status::OK, set.opaque, None).append_to(&mut self.output);
                self.set = None;
            }
            let Ok((header, body)) = RequestHeader::ref_from_prefix(rest) else { break };
            let opaque = header.opaque.get();
            match header.opcode {
                Opcode::SET => {
                    self.set = Some(Set { opaque, bytes_left: header.body_len.get() as usize });
                    rest = body;
                }
                Opcode::NOOP => {
                    Response::empty(Opcode::NOOP, Status::OK, opaque, None).append_to(&mut self.output);
                    rest = body;
                }
                opcode @ (Opcode::GET | Opcode::GETKQ) => {
                    let Some((key, behind)) = body.split_at_checked(KEY_BYTES) else { break };
                    self.hit(opcode, opaque, key, values);
                    rest = behind;
                }
                opcode => return Err(io::Error::other(format!("{opcode}"))),
            }
        }
        Ok(input.len() - rest.len())
    }

    fn hit(&mut self, opcode: Opcode, opaque: u32, key: &[u8], values: &Values) {
        let span = values.span(number_in(key), 0);
        let echoed = if opcode == Opcode::GETKQ { key } else { &[] };
        let head = Hit::new(opcode, opaque, None, 0, echoed.len() as u8, span.len());
        self.output.extend_from_slice(head.as_bytes());
        self.output.extend_from_slice(echoed);
        if span.len() < COPIED_BYTES_MAX {
            self.output.extend_from_slice(&values.pattern()[span]);
        } else {
            self.value = span;
        }
    }

    /// Writes what the socket takes, and says whether that was all.
    fn flush(&mut self, values: &Values) -> io::Result<bool> {
        while self.written < self.output.len() || !self.value.is_empty() {
            let head = &self.output[self.written..];
            let written = if self.value.is_empty() {
                self.stream.write(head)
            } else {
                let value = &values.pattern()[self.value.clone()];
                self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(value)])
            };
            match written {
                Ok(written) => {
                    let of_head = written.min(self.output.len() - self.written);
                    self.written += of_head;
                    self.value.start += written - of_head;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
    }
}

/// The number of a key, which ends with it in hexadecimal.
#[inline]
fn number_in(key: &[u8]) -> u32 {
    key.iter().skip(8).fold(0, |number, digit| number << 4 | u32::from((digit & 15) + 9 * (digit >> 6)))
}
