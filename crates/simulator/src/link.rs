//! A connection as the network between client and server has it: two bounded buffers, and what the server's poll
//! would report about them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use memwire::net::socket::Transport;

/// Both directions of a connection.
#[derive(Debug)]
pub struct Link {
    /// What the client has sent and the server has not read.
    pub up: VecDeque<u8>,
    /// What the server has sent and the client has not read.
    pub down: VecDeque<u8>,
    /// Bytes that each buffer holds.
    pub up_bytes_max: usize,
    /// See [`up_bytes_max`](Self::up_bytes_max).
    pub down_bytes_max: usize,
    client: Client,
    /// The server has said that it sends no more.
    down_has_ended: bool,
    /// The server has closed its socket.
    server_is_gone: bool,
    /// Something has arrived since the last event.
    has_news: bool,
    /// The last write was not taken whole: an event follows when there is room.
    is_blocked: bool,
    tears: Tears,
    /// Writes that were not taken whole.
    pub short_writes: u64,
}

/// What the client still does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Sends,
    /// It sends no more, and reads.
    HasEnded,
    /// It is gone.
    IsGone,
}

/// Whether the network spoils what is written in more than one piece, as a value would that changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tears {
    /// It does not.
    Never,
    /// It does.
    Always,
}

/// What a poll reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// There is something to read.
    pub readable: bool,
    /// The peer sends no more than what is there.
    pub read_closed: bool,
    /// There is room to write again.
    pub writable: bool,
}

/// A link, as its ends share it.
pub type Shared = Rc<RefCell<Link>>;

/// The server's end.
#[derive(Debug)]
pub struct Socket(Shared);

impl Link {
    /// A link with buffers of these sizes.
    #[must_use]
    pub fn new(up_bytes_max: usize, down_bytes_max: usize, tears: Tears) -> Shared {
        Rc::new(RefCell::new(Self {
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_bytes_max,
            down_bytes_max,
            client: Client::Sends,
            down_has_ended: false,
            server_is_gone: false,
            has_news: false,
            is_blocked: false,
            tears,
            short_writes: 0,
        }))
    }

    /// The client sends: says how many of the bytes there was room for.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.up_bytes_max.saturating_sub(self.up.len()));
        if self.server_is_gone {
            // The system takes it, and the peer's refusal comes later.
            return bytes.len();
        }
        self.up.extend(&bytes[..len]);
        self.has_news |= len > 0;
        len
    }

    /// The client says that it sends no more.
    pub fn end(&mut self) {
        self.client = Client::HasEnded;
        self.has_news = true;
    }

    /// The client's machine is gone, and what it had sent is lost.
    pub fn reset(&mut self) {
        self.client = Client::IsGone;
        self.up.clear();
        self.down.clear();
        self.has_news = true;
    }

    /// Whether the client will read nothing any more.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.client == Client::IsGone
    }

    /// Whether the client has read all that the server will ever send.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.down.is_empty() && (self.down_has_ended || self.server_is_gone)
    }

    /// Whether the server holds it no more.
    #[must_use]
    pub fn server_is_gone(&self) -> bool {
        self.server_is_gone
    }

    /// What the next poll would report.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        let writable =
            self.is_blocked && (self.down.len() < self.down_bytes_max || self.client == Client::IsGone);
        (self.has_news || writable).then_some(Event {
            readable: self.has_news,
            read_closed: self.has_news && self.client != Client::Sends,
            writable,
        })
    }

    fn take_event(&mut self) -> Option<Event> {
        let event = self.event()?;
        self.has_news = false;
        self.is_blocked &= !event.writable;
        Some(event)
    }
}

impl Socket {
    /// The server's end of a link.
    #[must_use]
    pub fn new(link: &Shared) -> Self {
        Self(Rc::clone(link))
    }

    /// What a poll would report, for the next time only.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        self.0.borrow().event()
    }

    /// What a poll reports: each thing once.
    pub fn take_event(&mut self) -> Option<Event> {
        self.0.borrow_mut().take_event()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut link = self.0.borrow_mut();
        link.server_is_gone = true;
        link.up.clear();
    }
}

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut link = self.0.borrow_mut();
        let len = buffer.len().min(link.up.len());
        if len == 0 && !buffer.is_empty() {
            return match link.client {
                Client::Sends => Err(io::ErrorKind::WouldBlock.into()),
                Client::HasEnded => Ok(0),
                Client::IsGone => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        copy_front(&link.up, &mut buffer[..len]);
        link.up.drain(..len);
        Ok(len)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut link = self.0.borrow_mut();
        assert!(!link.down_has_ended, "nothing is written behind the end");
        if link.client == Client::IsGone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let was_cut = link.is_blocked || link.short_writes > 0;
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut sent = 0;
        for slice in slices {
            let len = slice.len().min(link.down_bytes_max.saturating_sub(link.down.len()));
            link.down.extend(&slice[..len]);
            sent += len;
        }
        if sent > 0 && was_cut && link.tears == Tears::Always {
            let last = link.down.len() - 1;
            link.down[last] ^= 1;
        }
        if sent < offered {
            link.is_blocked = true;
            link.short_writes += 1;
        }
        if sent == 0 && offered > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut link = self.0.borrow_mut();
        if link.client == Client::IsGone {
            return Err(io::ErrorKind::NotConnected.into());
        }
        link.down_has_ended = true;
        Ok(())
    }
}

/// Copies the first bytes of `from`, of which there are enough.
fn copy_front(from: &VecDeque<u8>, to: &mut [u8]) {
    let (first, second) = from.as_slices();
    let split = first.len().min(to.len());
    let (front, back) = to.split_at_mut(split);
    front.copy_from_slice(&first[..split]);
    back.copy_from_slice(&second[..back.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_full_buffer_does_not_take_is_told_by_an_event() {
        let link = Link::new(10, 3, Tears::Never);
        let mut socket = Socket::new(&link);
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
        assert_eq!(socket.write_vectored(&slices).unwrap(), 3);
        let full = socket.write_vectored(&slices).unwrap_err();
        assert_eq!((full.kind(), socket.take_event()), (io::ErrorKind::WouldBlock, None));
        link.borrow_mut().down.drain(..1);
        let event = Event { readable: false, read_closed: false, writable: true };
        assert_eq!((socket.take_event(), socket.take_event()), (Some(event), None));
    }

    #[test]
    fn what_was_sent_before_the_end_is_read_before_it() {
        let link = Link::new(2, 1, Tears::Never);
        assert_eq!(link.borrow_mut().send(b"abc"), 2);
        link.borrow_mut().end();
        let mut socket = Socket::new(&link);
        assert!(socket.take_event().is_some_and(|event| event.readable && event.read_closed));
        let mut buffer = [0; 8];
        assert_eq!((socket.read(&mut buffer).unwrap(), &buffer[..2]), (2, &b"ab"[..]));
        assert_eq!(socket.read(&mut buffer).unwrap(), 0);
        drop(socket);
        assert!(link.borrow().is_at_end());
    }
}
