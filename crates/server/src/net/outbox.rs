//! Answers that the socket did not take at once.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};

use crate::limits::SLICES_PER_WRITE;
use crate::net::buffer::Buffer;
use crate::net::socket::Transport;
use crate::session::Output;
use crate::session::output::Rest;

/// Bytes to be written, in order. While there are any, the connection reads nothing, so it holds the answers of one
/// run at most.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: VecDeque<Part>,
    /// Of all parts.
    copied_bytes: usize,
}

#[derive(Debug)]
struct Part {
    bytes: Bytes,
    /// What its copy takes for as long as any of it is left; nothing where the bytes are shared.
    copied_bytes: usize,
}

impl Outbox {
    /// Bytes that it holds alone.
    #[must_use]
    pub fn copied_bytes(&self) -> usize {
        self.copied_bytes + self.parts.capacity() * size_of::<Part>()
    }

    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Writes `output`, and keeps what the socket does not take. Nothing is waiting: a connection with answers to write
    /// asks for no further ones. `written` counts the bytes. Copies have mappings of their own from `mapped_from` bytes on.
    ///
    /// # Errors
    /// What the system reports: the connection is lost.
    pub fn send(
        &mut self,
        output: &Output,
        socket: &mut impl Transport,
        written: &mut u64,
        mapped_from: usize,
    ) -> io::Result<()> {
        debug_assert!(self.is_empty(), "answers keep their order");
        let mut sent = 0;
        while sent < output.len() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let count = output.fill_slices(sent, &mut slices);
            let (taken, takes_more) = write(socket, &slices[..count], written)?;
            sent += taken;
            if !takes_more {
                self.keep(output, sent, mapped_from);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes what is waiting, as far as the socket takes it.
    ///
    /// # Errors
    /// What the system reports: the connection is lost.
    pub fn flush(&mut self, socket: &mut impl Transport, written: &mut u64) -> io::Result<()> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let parts = slices.iter_mut().zip(&self.parts);
            let count = parts.map(|(slice, part)| *slice = IoSlice::new(&part.bytes)).count();
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

    /// Keeps what is behind the first `sent` bytes. What stands side by side is copied together.
    fn keep(&mut self, output: &Output, sent: usize, mapped_from: usize) {
        let mut to_copy = Vec::new();
        for part in output.behind(sent) {
            match part {
                Rest::Copy(bytes) => to_copy.push(bytes),
                Rest::Keep(bytes) => {
                    self.push_copy(&to_copy, mapped_from);
                    to_copy.clear();
                    self.parts.push_back(Part { bytes, copied_bytes: 0 });
                }
            }
        }
        self.push_copy(&to_copy, mapped_from);
    }

    fn push_copy(&mut self, parts: &[&[u8]], mapped_from: usize) {
        let len = parts.iter().map(|part| part.len()).sum();
        if len == 0 {
            return;
        }
        let mut copy = Buffer::with_room(len, mapped_from);
        for part in parts {
            copy.extend(part);
        }
        let copied_bytes = copy.bytes();
        self.copied_bytes += copied_bytes;
        self.parts.push_back(Part { bytes: copy.freeze(), copied_bytes });
    }

    fn advance(&mut self, mut sent: usize) {
        while let Some(front) = self.parts.front_mut() {
            if sent < front.bytes.len() {
                front.bytes.advance(sent);
                return;
            }
            sent -= front.bytes.len();
            self.copied_bytes -= front.copied_bytes;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::block::page_bytes;

    /// Longer than what is copied to the heap.
    const LONG_BYTES: usize = 64 << 10;

    /// Takes so many bytes more, and remembers them.
    struct Narrow {
        takes: usize,
        taken: Vec<u8>,
    }

    impl Transport for Narrow {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let offered = slices.iter().flat_map(|slice| slice.iter().copied());
            let before = self.taken.len();
            self.taken.extend(offered.take(self.takes));
            let took = self.taken.len() - before;
            self.takes -= took;
            if took == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(took) }
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Copied, shared and lent bytes, and the same as one.
    fn output() -> (Output, Vec<u8>) {
        let mut output = Output::default();
        output.bytes().extend_from_slice(&[1; 100]);
        output.push_lent(Bytes::from(vec![2; LONG_BYTES]));
        output.bytes().extend_from_slice(&[3; 100]);
        output.push_shared(Bytes::from(vec![4; 1000]));
        output.bytes().extend_from_slice(&[5; 100]);
        output.push_lent(Bytes::from(vec![6; 1000]));
        let all =
            [vec![1; 100], vec![2; LONG_BYTES], vec![3; 100], vec![4; 1000], vec![5; 100], vec![6; 1000]];
        (output, all.concat())
    }

    #[test]
    fn what_the_socket_does_not_take_is_copied_or_kept_and_written_later() {
        let (output, all) = output();
        for step in [1, 99, 30_000, 66_000, 66_500, all.len()] {
            let mut socket = Narrow { takes: 0, taken: Vec::new() };
            let (mut outbox, mut written) = (Outbox::default(), 0);
            outbox.send(&output, &mut socket, &mut written, LONG_BYTES).unwrap();
            assert_eq!(outbox.parts.len(), 3, "neighbours are copied together");
            assert_eq!(outbox.copied_bytes, page_bytes(LONG_BYTES + 200) + 1100);
            while !outbox.is_empty() {
                socket.takes = step;
                outbox.flush(&mut socket, &mut written).unwrap();
            }
            assert!(socket.taken == all, "{step} bytes at a time");
            assert_eq!((written, outbox.copied_bytes()), (all.len() as u64, 0));
        }
    }

    #[test]
    fn what_the_socket_takes_at_once_is_not_copied() {
        let (output, all) = output();
        for (takes, copied_bytes) in [(all.len(), 0), (all.len() - 1100, 1100), (all.len() - 1101, 1100)] {
            let mut socket = Narrow { takes, taken: Vec::new() };
            let (mut outbox, mut written) = (Outbox::default(), 0);
            outbox.send(&output, &mut socket, &mut written, LONG_BYTES).unwrap();
            assert_eq!((socket.taken.len(), outbox.copied_bytes), (takes, copied_bytes));
        }
    }
}
