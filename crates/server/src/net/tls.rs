//! A TCP connection with TLS over it.
//!
//! What rustls holds is bounded. It decrypts one read's worth at a time, and what it has decrypted is taken before more is
//! read; it encrypts what fits into [`TLS_BUFFER_BYTES`], and that is written before more is encrypted. What was encrypted is
//! told as written only once the socket has taken it all. Until then the connection keeps the clear bytes and offers
//! them again; the front of them is skipped then. So an answer that waits is known to wait, whoever holds it.

use std::fmt::Display;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::net::TcpStream;
use rustls::{AlertDescription, CertificateError, Error, ServerConnection};

use crate::limits::{
    SLICES_PER_WRITE, TLS_BUFFER_BYTES, TLS_CONNECTION_BYTES, TLS_RAW_BYTES_MAX, TLS_READS_PER_TURN,
};
use crate::net::socket::{Transport, retry};
use crate::tls::Context;

/// A connected socket that speaks TLS.
#[derive(Debug)]
pub struct TlsSocket {
    socket: TcpStream,
    tls: ServerConnection,
    context: Arc<Context>,
    phase: Phase,
    /// Whether the socket gave less than it could have: the next bytes come with an event.
    is_drained: bool,
    /// Decrypted bytes that nobody has taken.
    clear_bytes: usize,
    /// Bytes of records that are not whole: what has come since the last clear bytes, or since the beginning.
    raw_bytes: usize,
    /// Bytes that are encrypted, and of which the socket has not taken all.
    unsent_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    /// The peer has broken the protocol, and has been told. The connection is to know it.
    Broken,
    /// It does; what the peer still sends is forgotten.
    Forgetting,
    /// The peer has said that it is done, or has gone.
    Ended,
}

impl TlsSocket {
    /// The server's side of `socket`.
    ///
    /// # Errors
    /// What rustls reports.
    pub fn new(socket: TcpStream, context: &Arc<Context>) -> Result<Self, Error> {
        let mut tls = context.accept()?;
        tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        Ok(Self {
            socket,
            tls,
            context: Arc::clone(context),
            phase: Phase::Handshake,
            is_drained: false,
            clear_bytes: 0,
            raw_bytes: 0,
            unsent_bytes: 0,
        })
    }

    /// The socket below.
    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads records once.
    fn receive(&mut self) -> io::Result<()> {
        let mut socket = Draining { socket: &mut self.socket, is_drained: false };
        let read = retry(|| self.tls.read_tls(&mut socket));
        self.is_drained = socket.is_drained;
        let read = read?;
        if read > 0 {
            self.raw_bytes += read;
            return self.process();
        }
        self.end();
        Ok(())
    }

    /// Does what the records that were read ask for.
    fn process(&mut self) -> io::Result<()> {
        match self.tls.process_new_packets() {
            Ok(state) => {
                self.clear_bytes = state.plaintext_bytes_to_read();
                if self.phase == Phase::Handshake && !self.tls.is_handshaking() {
                    self.phase = Phase::Open;
                    self.raw_bytes = 0;
                    log::debug!("TLS handshake done: {:?}", self.tls.protocol_version());
                }
                if self.clear_bytes > 0 {
                    self.raw_bytes = 0;
                }
                let has_ended = state.peer_has_closed() && self.clear_bytes == 0;
                self.flush()?;
                if has_ended {
                    self.end();
                }
            }
            Err(error) => self.refuse(&error),
        }
        Ok(())
    }

    /// Nothing more comes. Where the peer has said so, it is told the same.
    fn end(&mut self) {
        self.count_if_handshake(&"the client has gone");
        self.phase = Phase::Ended;
        self.tls.send_close_notify();
        // Who has gone does not read it.
        let _ = self.flush();
    }

    /// The peer has broken the protocol, or shows no certificate that is taken. It is told why.
    fn refuse(&mut self, error: &Error) {
        self.count_if_handshake(&explain(error));
        self.phase = Phase::Broken;
        // Who has gone does not read it.
        let _ = self.flush();
    }

    /// Encrypts what stands behind the first `skipped` bytes, as far as there is room for it.
    fn encrypt(&mut self, slices: &[IoSlice<'_>], skipped: usize) -> io::Result<usize> {
        let mut copies = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let count = slices.len().min(SLICES_PER_WRITE);
        copies[..count].copy_from_slice(&slices[..count]);
        let mut rest = &mut copies[..count];
        IoSlice::advance_slices(&mut rest, skipped);
        if rest.is_empty() {
            return Ok(0);
        }
        self.tls.writer().write_vectored(rest)
    }

    /// A handshake that comes to nothing is counted.
    fn count_if_handshake(&self, why: &dyn Display) {
        if self.phase == Phase::Handshake {
            self.context.counters.handshake_errors.fetch_add(1, Ordering::Relaxed);
            let peer = self.socket.peer_addr().map_or("a client".into(), |address| address.to_string());
            log::debug!("{peer}: no TLS handshake: {why}");
        }
    }
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        self.count_if_handshake(&"the connection was lost");
    }
}

impl Transport for TlsSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        self.is_drained = false;
        for _ in 0..TLS_READS_PER_TURN {
            match self.phase {
                Phase::Broken if filled > 0 => return Ok(filled),
                Phase::Broken => {
                    self.phase = Phase::Forgetting;
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Phase::Forgetting => return retry(|| self.socket.read(buffer)),
                Phase::Handshake | Phase::Open | Phase::Ended => {}
            }
            if self.clear_bytes > 0 {
                let taken = self.tls.reader().read(&mut buffer[filled..])?;
                self.clear_bytes -= taken;
                filled += taken;
            }
            if filled == buffer.len() || self.phase == Phase::Ended {
                return Ok(filled);
            }
            // Where that brought nothing, the end may stand right behind it, and is told by no other event.
            if self.is_drained && filled > 0 {
                break;
            }
            match self.receive() {
                Err(_) if filled > 0 => return Ok(filled),
                received => received?,
            }
        }
        if filled > 0 { Ok(filled) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (mut written, mut encrypted) = (0, self.unsent_bytes);
        loop {
            self.flush()?;
            self.unsent_bytes = encrypted - written;
            if self.tls.wants_write() {
                break;
            }
            (written, self.unsent_bytes) = (encrypted, 0);
            let more = self.encrypt(slices, encrypted)?;
            if more == 0 {
                return Ok(written);
            }
            encrypted += more;
        }
        if written > 0 { Ok(written) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Where the socket takes no more at all the goodbye is not waited for: the answers before it have gone.
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush()?;
        self.socket.shutdown(Shutdown::Write)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match retry(|| self.tls.write_tls(&mut self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                written => written?,
            };
        }
        Ok(())
    }

    fn holds_more(&self) -> bool {
        !self.is_drained || self.clear_bytes > 0
    }

    fn give_up_handshake(&mut self) -> bool {
        if self.phase != Phase::Handshake {
            return false;
        }
        self.count_if_handshake(&"it took too long");
        self.context.counters.handshake_timeouts.fetch_add(1, Ordering::Relaxed);
        self.phase = Phase::Ended;
        true
    }

    fn base_bytes(&self) -> usize {
        TLS_CONNECTION_BYTES
    }

    fn waiting_bytes(&self) -> usize {
        self.clear_bytes + self.unsent_bytes + self.raw_bytes.min(TLS_RAW_BYTES_MAX)
    }
}

/// A socket that is read from, and whether it gave less than it could have.
struct Draining<'a> {
    socket: &'a mut TcpStream,
    is_drained: bool,
}

impl Read for Draining<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buffer);
        self.is_drained = match &read {
            Ok(read) => *read < buffer.len(),
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        read
    }
}

/// What an operator can do about it.
fn explain(error: &Error) -> String {
    let known = match error {
        Error::NoCertificatesPresented => "the client shows no certificate, and must (ssl_verify_mode 2)",
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the client's certificate has expired"
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the client's certificate is signed by nobody in ssl_ca_cert"
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        ) => "the client does not take the certificate of ssl_chain_cert",
        Error::InvalidMessage(_) => "the client speaks no TLS",
        _ => return error.to_string(),
    };
    format!("{known} ({error})")
}
