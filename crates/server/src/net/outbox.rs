//! Answers that the socket did not take at once.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};

use crate::limits::SLICES_PER_WRITE;
use crate::net::socket::Transport;
use crate::session::Output;

/// Bytes to be written, in order. While there are any, the connection reads nothing, so it holds the answers of one
/// run at most.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: VecDeque<Bytes>,
}

impl Outbox {
    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Writes `output`, and keeps what the socket does not take. Nothing is waiting: a connection with answers to write
    /// asks for no further ones. `written` counts the bytes.
    ///
    /// # Errors
    /// What the system reports: the connection is lost.
    pub fn send(
        &mut self,
        output: &Output,
        socket: &mut impl Transport,
        written: &mut u64,
    ) -> io::Result<()> {
        debug_assert!(self.is_empty(), "answers keep their order");
        let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let count = output.fill_slices(&mut slices);
        let (sent, takes_more) = write(socket, &slices[..count], written)?;
        if sent == output.len() {
            return Ok(());
        }
        self.parts.extend(output.behind(sent));
        if takes_more { self.flush(socket, written) } else { Ok(()) }
    }

    /// Writes what is waiting, as far as the socket takes it.
    ///
    /// # Errors
    /// What the system reports: the connection is lost.
    pub fn flush(&mut self, socket: &mut impl Transport, written: &mut u64) -> io::Result<()> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let parts = slices.iter_mut().zip(&self.parts);
            let count = parts.map(|(slice, part)| *slice = IoSlice::new(part)).count();
            let (sent, takes_more) = write(socket, &slices[..count], written)?;
            self.advance(sent);
            if !takes_more {
                return Ok(());
            }
        }
        // An idle connection holds no buffer.
        self.parts = VecDeque::new();
        Ok(())
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

/// Bytes that the socket took, and whether it may take more.
fn write(
    socket: &mut impl Transport,
    slices: &[IoSlice<'_>],
    written: &mut u64,
) -> io::Result<(usize, bool)> {
    let offered: usize = slices.iter().map(|slice| slice.len()).sum();
    let sent = match socket.write_vectored(slices) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Ok(0) if offered > 0 => return Err(io::ErrorKind::WriteZero.into()),
        result => result?,
    };
    *written += sent as u64;
    Ok((sent, sent == offered))
}
