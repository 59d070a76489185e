//! Answers that the socket did not take at once.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};

use crate::limits::SLICES_PER_WRITE;
use crate::net::socket::Socket;
use crate::session::Output;

/// Bytes to be written, in order. While there are any, the connection reads nothing, so it holds the answers of one
/// run at most.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: VecDeque<Bytes>,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Everything.
    All,
    /// The socket takes no more for now.
    Part,
}

impl Outbox {
    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Writes `output` behind what is waiting, and keeps what the socket does not take. `written` counts the bytes.
    ///
    /// # Errors
    /// What the system reports: the connection is lost.
    pub fn send(&mut self, output: &Output, socket: &mut Socket, written: &mut u64) -> io::Result<Written> {
        let mut sent = 0;
        if self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let count = output.fill_slices(&mut slices);
            let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            sent = write(socket, &slices[..count])?;
            *written += sent as u64;
            if sent == output.len() {
                return Ok(Written::All);
            }
            if sent < offered {
                self.parts.extend(output.behind(sent));
                return Ok(Written::Part);
            }
        }
        self.parts.extend(output.behind(sent));
        self.flush(socket, written)
    }

    /// Writes what is waiting.
    ///
    /// # Errors
    /// What the system reports: the connection is lost.
    pub fn flush(&mut self, socket: &mut Socket, written: &mut u64) -> io::Result<Written> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let count =
                slices.iter_mut().zip(&self.parts).map(|(slice, part)| *slice = IoSlice::new(part)).count();
            let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            let sent = write(socket, &slices[..count])?;
            *written += sent as u64;
            self.advance(sent);
            if sent < offered {
                return Ok(Written::Part);
            }
        }
        // An idle connection holds no buffer.
        self.parts = VecDeque::new();
        Ok(Written::All)
    }

    fn advance(&mut self, mut sent: usize) {
        while let Some(front) = self.parts.front_mut() {
            if sent < front.len() {
                front.advance(sent);
                return;
            }
            sent -= front.len();
            self.parts.pop_front();
        }
    }
}

/// Bytes that the socket took, 0 where it takes none for now.
fn write(socket: &mut Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match socket.write_vectored(slices) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => Err(io::ErrorKind::WriteZero.into()),
        result => result,
    }
}
