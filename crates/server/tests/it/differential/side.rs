//! One of two servers: a connection to it, and how that stands after a batch.

use std::fmt;
use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use super::MEMCACHED_ARGS;
use crate::harness::{Memcached, Server, skip_or_fail};

/// A batch up to this size fits the socket buffers and cannot block while the server waits for us to read.
const UNBLOCKED_BYTES_MAX: usize = 32 << 10;

/// The memcached that others are held against. Where it is not installed, that is said.
pub(super) fn memcached() -> Option<Server> {
    let server = Memcached::start(&MEMCACHED_ARGS);
    if server.is_none() {
        skip_or_fail("memcached");
    }
    server
}

/// One that every comparison must tell from it.
pub(super) fn memcached_without_cas() -> Server {
    Memcached::start(&[&MEMCACHED_ARGS[..], &["-C"]].concat()).expect("memcached is installed")
}

/// What comes behind the bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Others.
    Batches,
    /// We send no more.
    Nothing,
}

/// A connection to one server.
pub(super) struct Side {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Side {
    pub(super) fn connect(server: &Server) -> Self {
        let writer = server.connect();
        let reader = BufReader::new(writer.try_clone().expect("a socket can be cloned"));
        Self { writer, reader }
    }

    /// Sends a batch, so many bytes at a time, while its answers are read: by `next`, until `is_last` says so of those that
    /// were read, or the connection ends.
    pub(super) fn exchange<A: Send>(
        &mut self,
        (bytes, write_bytes, behind): (&[u8], usize, Behind),
        next: fn(&mut BufReader<TcpStream>) -> io::Result<Option<A>>,
        is_last: impl Fn(&[A]) -> bool,
    ) -> Answers<A> {
        let Self { writer, reader } = self;
        let mut send = || {
            // A failed write needs no report: the answers behind it are missing.
            let _ = bytes.chunks(write_bytes).try_for_each(|piece| writer.write_all(piece));
            if behind == Behind::Nothing {
                let _ = writer.shutdown(Shutdown::Write);
            }
        };
        if bytes.len() <= UNBLOCKED_BYTES_MAX {
            send();
            return Answers::read(reader, next, is_last);
        }
        thread::scope(|scope| {
            scope.spawn(send);
            Answers::read(reader, next, is_last)
        })
    }
}

/// All that one server sent for a batch.
pub(super) struct Answers<A> {
    pub(super) answers: Vec<A>,
    pub(super) end: End,
}

impl<A> Answers<A> {
    fn read(
        reader: &mut BufReader<TcpStream>,
        next: fn(&mut BufReader<TcpStream>) -> io::Result<Option<A>>,
        is_last: impl Fn(&[A]) -> bool,
    ) -> Self {
        let mut answers = Vec::new();
        loop {
            if is_last(&answers) {
                return Self { answers, end: End::Open };
            }
            match next(reader) {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => return Self { answers, end: End::Closed },
                Err(error) => return Self { answers, end: End::Failed(error.kind()) },
            }
        }
    }
}

/// How a connection stands after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Closed,
    Failed(io::ErrorKind),
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => formatter.write_str("open"),
            Self::Closed => formatter.write_str("closed"),
            Self::Failed(kind) => write!(formatter, "failed: {kind}"),
        }
    }
}
