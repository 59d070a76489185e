//! A stream socket of either family, and what a connection needs of it.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use crate::net::addresses::Seat;
use crate::net::tls::TlsSocket;

/// Bytes in, bytes out: all that a connection asks of its socket. A simulation has another one.
pub trait Transport {
    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is, and what the system reports.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what the system takes.
    ///
    /// # Errors
    /// `WouldBlock` where it takes nothing, and what the system reports.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says to the peer that nothing more will come.
    ///
    /// # Errors
    /// Where the peer is gone.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Writes what it holds itself beside the answers, as far as the system takes it.
    ///
    /// # Errors
    /// What the system reports.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether it may have more to read, although a read gave less than it could and no event will come.
    fn holds_more(&self) -> bool {
        false
    }

    /// Ends a handshake that is not done. Says whether there was one.
    fn give_up_handshake(&mut self) -> bool {
        false
    }

    /// What it takes in memory, whatever comes.
    fn base_bytes(&self) -> usize {
        0
    }

    /// Bytes that it holds besides, until its client sends or reads more.
    fn waiting_bytes(&self) -> usize {
        0
    }
}

/// A connected socket. With its place among those of its address, where that has so many only.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream, Option<Box<Seat>>),
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP with TLS over it. It is long, and most connections are plain.
    Tls(Box<TlsSocket>, Option<Box<Seat>>),
}

impl Socket {
    /// Tells `registry` to report on it, by the edge: once when bytes arrive, once when there is room to write again.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Ends the reports.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }

    fn tls(&mut self) -> Option<&mut TlsSocket> {
        if let Self::Tls(stream, _) = self { Some(stream) } else { None }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream, _) => stream,
            Self::Unix(stream) => stream,
            Self::Tls(stream, _) => stream.socket(),
        }
    }
}

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| match self {
            Self::Tcp(stream, _) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream, _) => stream.read(buffer),
        })
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // One slice is what most answers are, and `send` is a little cheaper than `writev`.
        retry(|| match (&mut *self, slices) {
            (Self::Tcp(stream, _), [slice]) => stream.write(slice),
            (Self::Unix(stream), [slice]) => stream.write(slice),
            (Self::Tcp(stream, _), slices) => stream.write_vectored(slices),
            (Self::Unix(stream), slices) => stream.write_vectored(slices),
            (Self::Tls(stream, _), slices) => stream.write_vectored(slices),
        })
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream, _) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream, _) => stream.shutdown_write(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls().map_or(Ok(()), TlsSocket::flush)
    }

    fn holds_more(&self) -> bool {
        matches!(self, Self::Tls(stream, _) if stream.holds_more())
    }

    fn give_up_handshake(&mut self) -> bool {
        self.tls().is_some_and(TlsSocket::give_up_handshake)
    }

    fn base_bytes(&self) -> usize {
        if let Self::Tls(stream, _) = self { stream.base_bytes() } else { 0 }
    }

    fn waiting_bytes(&self) -> usize {
        if let Self::Tls(stream, _) = self { stream.waiting_bytes() } else { 0 }
    }
}

/// A call that a signal interrupted is made again.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
