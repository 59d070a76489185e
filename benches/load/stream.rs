//! A connection's socket: in clear, or with TLS over it.
//!
//! Both are read and written without waiting, and a read that gives less than it could was the last for now: with TLS, too,
//! whose records are read until the socket has no more.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What servers' certificates are for.
const SERVER_NAME: &str = "localhost";

/// What stands between a connection and its first request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Greeting {
    /// Whom it trusts, where it comes with TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// What it says first, and is answered.
    pub(crate) login: Option<Login>,
}

/// A user's name and password, in the text protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Login {
    pub(crate) words: &'static [u8],
    pub(crate) answer: &'static [u8],
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Stream {
    Clear(TcpStream),
    Tls(Box<Tls>),
}

/// A socket and what goes over it.
#[derive(Debug)]
pub(crate) struct Tls {
    socket: TcpStream,
    tls: ClientConnection,
}

impl Stream {
    /// Connects, and waits until a handshake is done, and an answer is there that says who may come in.
    ///
    /// # Errors
    /// As [`connect`](BlockingStream::connect_timeout), and where the server is not who it should be.
    pub(crate) fn open(address: SocketAddr, greeting: &Greeting) -> io::Result<Self> {
        let mut socket = BlockingStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        let Some(config) = &greeting.tls else {
            if let Some(login) = greeting.login {
                login.say(&mut socket)?;
            }
            socket.set_nonblocking(true)?;
            return Ok(Self::Clear(TcpStream::from_std(socket)));
        };
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        if let Some(login) = greeting.login {
            login.say(&mut rustls::Stream::new(&mut tls, &mut socket))?;
        }
        socket.set_nonblocking(true)?;
        Ok(Self::Tls(Box::new(Tls { socket: TcpStream::from_std(socket), tls })))
    }

    /// What a poll is told of.
    pub(crate) fn source(&mut self) -> &mut impl Source {
        match self {
            Self::Clear(socket) => socket,
            Self::Tls(tls) => &mut tls.socket,
        }
    }
}

impl Login {
    fn say(self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        stream.write_all(self.words)?;
        let mut answer = vec![0; self.answer.len()];
        stream.read_exact(&mut answer)?;
        if answer == self.answer { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    /// Writes what is encrypted and was not taken.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            match self.tls.reader().read(&mut buffer[filled..]) {
                // A goodbye.
                Ok(0) => return Ok(filled),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.tls.read_tls(&mut self.socket) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock && filled > 0 => {
                            return Ok(filled);
                        }
                        Ok(0) => return Ok(filled),
                        received => received?,
                    };
                    self.tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) => return Err(error),
            }
            if filled == buffer.len() {
                return Ok(filled);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let written = self.tls.writer().write(bytes)?;
        match self.flush() {
            // It waits here, and not with who writes.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(written),
            flushed => flushed.map(|()| written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}
