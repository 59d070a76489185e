//! Large values: each in a mapping of its own.
//!
//! A block is made by the event loop that reads the value, filled straight from the socket, or by a command that makes
//! a value longer. From then on it is only read: the store, and every answer under way, hold it by reference. When the
//! last of them lets go, its pages go back to the system. From its making to its end it is charged on the [`Meter`],
//! wherever it is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::MmapMut;

/// Counts the bytes of all blocks, those that are stored and those on their way in or out.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicUsize,
}

impl Meter {
    /// Bytes charged now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A value that is being filled.
#[derive(Debug)]
pub struct Block {
    memory: MmapMut,
    len: usize,
    filled: usize,
    charge: Charge,
}

impl Block {
    /// An empty block for a value of `len` bytes.
    ///
    /// # Errors
    /// Where the system gives no memory.
    pub fn new(len: usize, meter: &Arc<Meter>) -> io::Result<Self> {
        let memory = MmapMut::map_anon(len.max(1))?;
        Ok(Self { memory, len, filled: 0, charge: Charge::new(page_bytes(len), meter) })
    }

    /// The part that is still to be filled, at most `limit` bytes of it.
    pub fn room(&mut self, limit: usize) -> &mut [u8] {
        let end = self.len.min(self.filled + limit);
        &mut self.memory[self.filled..end]
    }

    /// Counts `len` bytes of the room as filled.
    pub fn commit(&mut self, len: usize) {
        debug_assert!(self.filled + len <= self.len, "committed more than the value has");
        self.filled += len;
    }

    /// Fills in a copy of as many bytes as there is room for, and says how many.
    pub fn extend(&mut self, bytes: &[u8]) -> usize {
        let room = self.room(bytes.len());
        let len = room.len();
        room.copy_from_slice(&bytes[..len]);
        self.commit(len);
        len
    }

    /// Bytes that are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.len - self.filled
    }

    /// The full block, to be shared.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        debug_assert!(self.missing() == 0, "a value is shared when it is whole");
        Bytes::from_owner(Frozen { memory: self.memory, len: self.len, _charge: self.charge })
    }
}

struct Frozen {
    memory: MmapMut,
    len: usize,
    _charge: Charge,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

#[derive(Debug)]
struct Charge {
    bytes: usize,
    meter: Arc<Meter>,
}

impl Charge {
    fn new(bytes: usize, meter: &Arc<Meter>) -> Self {
        meter.bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, meter: Arc::clone(meter) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The blocks that are stored, by number.
#[derive(Debug, Default)]
pub struct Blocks {
    values: Vec<Option<Bytes>>,
    free: Vec<u32>,
}

impl Blocks {
    /// Stores a block.
    pub fn insert(&mut self, value: Bytes) -> u32 {
        if let Some(number) = self.free.pop() {
            self.values[number as usize] = Some(value);
            return number;
        }
        self.values.push(Some(value));
        (self.values.len() - 1) as u32
    }

    /// A stored block.
    ///
    /// # Panics
    /// Where no block has this number.
    #[must_use]
    pub fn get(&self, number: u32) -> &Bytes {
        self.values[number as usize].as_ref().expect("a live record's block is stored")
    }

    /// Lets go of a block. Answers under way keep it.
    ///
    /// # Panics
    /// Where no block has this number.
    pub fn remove(&mut self, number: u32) {
        assert!(self.values[number as usize].take().is_some(), "a block is removed once");
        self.free.push(number);
    }

    /// How many are stored.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len() - self.free.len()
    }
}

/// What a mapping of `len` bytes takes.
pub(crate) fn page_bytes(len: usize) -> usize {
    const PAGE_BYTES: usize = 4096;
    len.max(1).next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_charged_until_its_last_holder_lets_go() {
        let meter = Arc::new(Meter::default());
        let mut block = Block::new(10_000, &meter).unwrap();
        assert_eq!(meter.bytes(), 12_288);
        assert_eq!(block.extend(&vec![7; 20_000]), 10_000);
        let value = block.freeze();
        let answer = value.clone();
        let mut blocks = Blocks::default();
        let number = blocks.insert(value);
        assert_eq!(blocks.get(number).len(), 10_000);
        blocks.remove(number);
        assert_eq!((blocks.count(), meter.bytes()), (0, 12_288));
        drop(answer);
        assert_eq!(meter.bytes(), 0);
        assert_eq!(blocks.insert(Bytes::new()), number, "numbers are used again");
    }
}
