//! The connection: requests leave in one write, what arrives is gathered until an answer is whole.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::failure::Failure;

/// Bytes that one read asks for.
const READ_BYTES: usize = 64 << 10;
/// Bytes of an answer that an error shows.
const SHOWN_BYTES_MAX: usize = 60;

/// Requests that are encoded and not yet sent.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) bytes: Vec<u8>,
    /// Each of them as `--verbose` shows it.
    shown: Vec<String>,
}

impl Requests {
    /// Notes how a request is to be shown.
    pub(crate) fn show(&mut self, request: impl fmt::Display) {
        self.shown.push(request.to_string());
    }
}

/// Whether what goes back and forth is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Silent,
    Verbose,
}

/// A connection to a server: requests in, bytes out.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes that have arrived and have not been taken.
    received: BytesMut,
    /// Where reads go first, so that memory is spent on bytes that arrive and not on bytes that are announced.
    chunk: Box<[u8]>,
    tell: Tell,
}

impl Connection {
    /// Connects to the first address of `server`, which is HOST:PORT, that accepts.
    pub(crate) fn open(server: &str, timeout: Duration, tell: Tell) -> Result<Self, Failure> {
        let no_server = |error: io::Error| match error.kind() {
            ErrorKind::InvalidInput => Failure::Usage(format!("--server {server}: {error}")),
            _ => Failure::NoServer { address: server.to_owned(), error },
        };
        let stream = connect(server, timeout).map_err(no_server)?;
        let chunk = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Self { stream, received: BytesMut::new(), chunk, tell })
    }

    pub(crate) fn send(&mut self, requests: &Requests) -> Result<(), Failure> {
        if self.tell == Tell::Verbose {
            requests.shown.iter().for_each(|request| eprintln!("> {request}"));
        }
        self.stream.write_all(&requests.bytes).map_err(Failure::Lost)
    }

    /// Shows an answer, or a part of one.
    pub(crate) fn show(&self, answer: impl fmt::Display) {
        if self.tell == Tell::Verbose {
            eprintln!("< {answer}");
        }
    }

    /// What has arrived and has not been taken.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Waits for more to arrive.
    pub(crate) fn receive(&mut self) -> Result<(), Failure> {
        let count = read_some(&mut self.stream, &mut self.chunk).map_err(Failure::Lost)?;
        self.received.extend_from_slice(&self.chunk[..count]);
        Ok(())
    }

    /// Takes so many bytes, as soon as they are there.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<Bytes, Failure> {
        while self.received.len() < bytes {
            self.receive()?;
        }
        Ok(self.received.split_to(bytes).freeze())
    }

    /// What has arrived is no answer. A server that speaks another protocol, or is full, may say so in words, so
    /// these are shown.
    pub(crate) fn nonsense(&self, what: impl fmt::Display) -> Failure {
        let begins = &self.received[..self.received.len().min(SHOWN_BYTES_MAX)];
        Failure::Nonsense(format!("{what}; it begins '{}'", begins.escape_ascii()))
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
