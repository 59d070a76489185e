//! Bytes that wait: a request that is not whole, an answer that the socket did not take.
//!
//! They can be many, they come and go at random, and when they are gone their memory is the cache's. An allocator may
//! keep what is given back to it, because something else still lies beside it. So longer ones lie in mappings of their
//! own, which go back to the system as a whole.

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
    Heap(Vec<u8>),
    Mapped { memory: MmapMut, len: usize },
}

impl Default for Memory {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Buffer {
    /// An empty buffer with room for `len` bytes, in a mapping of its own where these are `mapped_from` at least.
    #[must_use]
    pub fn with_room(len: usize, mapped_from: usize) -> Self {
        let mapped = if len < mapped_from { None } else { MmapMut::map_anon(len.max(1)).ok() };
        let memory = match mapped {
            Some(memory) => Memory::Mapped { memory, len },
            None => Memory::Heap(vec![0; len]),
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
        let all = match &mut self.memory {
            Memory::Heap(bytes) => &mut bytes[..],
            Memory::Mapped { memory, len } => &mut memory[..*len],
        };
        let end = all.len().min(self.filled + limit);
        &mut all[self.filled..end]
    }

    /// Counts `len` bytes of the room as filled.
    pub fn commit(&mut self, len: usize) {
        debug_assert!(len <= self.room(len).len(), "committed more than there was room for");
        self.filled += len;
    }

    /// Fills in a copy.
    ///
    /// # Panics
    /// Where there is no room for it.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.commit(bytes.len());
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
            Memory::Heap(bytes) => Bytes::from(bytes),
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
            assert_eq!((buffer.room(4).len(), buffer.room(40).len()), (4, 7));
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
