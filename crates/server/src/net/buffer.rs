//! Bytes that wait: a request that is not whole, an answer that the socket did not take.
//!
//! They can be many, they come and go at random, and when they are gone their memory is the cache's. An allocator may
//! keep what is given back to it, because something else still lies beside it. So where there are many, the longer ones
//! lie in mappings of their own, which go back to the system as a whole.

use bytes::Bytes;
use memmap2::MmapMut;

use crate::storage::block::page_bytes;

/// Room for so many bytes, filled from front to back.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Memory,
    filled: usize,
}

#[derive(Debug)]
enum Memory {
    /// As many bytes as were filled or offered, with room for all.
    Heap(Vec<u8>),
    Mapped {
        memory: MmapMut,
        len: usize,
    },
}

impl Default for Memory {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Buffer {
    /// An empty buffer with room for `len` bytes at least, in a mapping of its own where these are `mapped_from` or more.
    #[must_use]
    pub fn with_room(len: usize, mapped_from: usize) -> Self {
        let mapped = if len < mapped_from { None } else { MmapMut::map_anon(len.max(1)).ok() };
        let memory = match mapped {
            Some(memory) => Memory::Mapped { memory, len },
            None => Memory::Heap(Vec::with_capacity(len)),
        };
        Self { memory, filled: 0 }
    }

    /// A copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8], mapped_from: usize) -> Self {
        let mut buffer = Self::with_room(bytes.len(), mapped_from);
        buffer.extend(bytes);
        buffer
    }

    /// What has been filled.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(bytes) => &bytes[..self.filled],
            Memory::Mapped { memory, .. } => &memory[..self.filled],
        }
    }

    /// The part that is to be filled next, at most `limit` bytes of it. What is written there counts once it is
    /// [committed](Self::commit).
    pub fn room(&mut self, limit: usize) -> &mut [u8] {
        let end = self.filled + limit;
        match &mut self.memory {
            Memory::Heap(bytes) => {
                bytes.resize(bytes.capacity().min(end), 0);
                &mut bytes[self.filled..]
            }
            Memory::Mapped { memory, len } => &mut memory[self.filled..end.min(*len)],
        }
    }

    /// Counts `len` bytes of the room as filled.
    pub fn commit(&mut self, len: usize) {
        self.filled += len;
    }

    /// Fills in a copy.
    ///
    /// # Panics
    /// Where there is no room for it.
    pub fn extend(&mut self, bytes: &[u8]) {
        match &mut self.memory {
            Memory::Heap(heap) => {
                assert!(
                    self.filled + bytes.len() <= heap.capacity(),
                    "filled in more than there is room for"
                );
                heap.truncate(self.filled);
                heap.extend_from_slice(bytes);
            }
            Memory::Mapped { memory, len } => {
                memory[self.filled..*len][..bytes.len()].copy_from_slice(bytes);
            }
        }
        self.filled += bytes.len();
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Heap(bytes) => bytes.capacity(),
            Memory::Mapped { len, .. } => page_bytes(*len),
        }
    }

    /// The full buffer, to be shared.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        match self.memory {
            Memory::Heap(mut bytes) => {
                bytes.truncate(self.filled);
                Bytes::from(bytes)
            }
            memory @ Memory::Mapped { .. } => Bytes::from_owner(Frozen(Self { memory, filled: self.filled })),
        }
    }
}

struct Frozen(Buffer);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self.0.filled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_filled_from_front_to_back_wherever_it_lies() {
        for (mapped_from, bytes) in [(1000, 10), (10, 4096)] {
            let mut buffer = Buffer::with_room(10, mapped_from);
            assert_eq!(buffer.bytes(), bytes);
            buffer.extend(b"abc");
            assert_eq!((buffer.room(40).len(), buffer.room(4).len()), (7, 4));
            buffer.room(2).copy_from_slice(b"de");
            assert_eq!(buffer.filled(), b"abc");
            buffer.commit(2);
            buffer.extend(b"fghij");
            assert_eq!(buffer.filled(), b"abcdefghij");
            assert_eq!(buffer.freeze(), &b"abcdefghij"[..]);
        }
    }

    #[test]
    fn an_empty_one_takes_nothing() {
        assert_eq!(Buffer::default().bytes(), 0);
        assert_eq!((Buffer::copy_of(b"", 0).filled(), Buffer::copy_of(b"", 0).bytes()), (&b""[..], 0));
    }
}
