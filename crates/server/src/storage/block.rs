//! Large values: each in a mapping of its own.
//!
//! A block is made by the event loop that reads the value, filled straight from the socket, or by a command that makes
//! a value longer. From then on it is only read: the store, and every answer under way, hold it by reference. When the
//! last of them lets go, its pages go back to the system. It is charged on the [`Meter`] before it is filled, and until
//! its end, wherever it is. The meter is told as well which blocks are held by answers, and which by nobody else.

use std::io;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use memmap2::MmapMut;

use crate::meter::{Charge, Meter, Use};

/// A value that is being filled.
///
/// What may be filled has been charged before: all of it, or one [reserved](Self::reserve) step after the other.
#[derive(Debug)]
pub struct Block {
    memory: MmapMut,
    len: usize,
    filled: usize,
    reserved: usize,
    charge: Charge,
}

impl Block {
    /// An empty block for a value of `len` bytes, all of it charged.
    ///
    /// # Errors
    /// Where the system gives no memory.
    pub fn new(len: usize, meter: &Arc<Meter>) -> io::Result<Self> {
        let mut block = Self::unreserved(len, meter)?;
        block.reserve(len);
        Ok(block)
    }

    /// An empty block for a value of `len` bytes, none of which is charged, and none of which may be filled.
    ///
    /// # Errors
    /// Where the system gives no address space.
    pub fn unreserved(len: usize, meter: &Arc<Meter>) -> io::Result<Self> {
        let memory = MmapMut::map_anon(len.max(1))?;
        Ok(Self { memory, len, filled: 0, reserved: 0, charge: Charge::new(meter, Use::Blocks) })
    }

    /// Charges the next `bytes` of the value, as far as it goes, and lets them be filled. Says by how much the charge has
    /// grown.
    pub fn reserve(&mut self, bytes: usize) -> usize {
        self.reserved = self.len.min(self.reserved + bytes);
        let charged = self.charge.bytes();
        self.charge.set(page_bytes(self.reserved));
        self.charge.bytes() - charged
    }

    /// Bytes that may still be filled before more must be reserved.
    #[must_use]
    pub fn reserve_left(&self) -> usize {
        self.reserved - self.filled
    }

    /// The part that is still to be filled, as far as it is reserved, and at most `limit` bytes of it.
    pub fn room(&mut self, limit: usize) -> &mut [u8] {
        let end = self.reserved.min(self.filled + limit);
        &mut self.memory[self.filled..end]
    }

    /// Counts `len` bytes of the room as filled.
    pub fn commit(&mut self, len: usize) {
        debug_assert!(self.filled + len <= self.reserved, "committed more than was reserved");
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

/// The blocks that are stored, by number.
#[derive(Debug)]
pub struct Blocks {
    stored: Vec<Option<Stored>>,
    free: Vec<u32>,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct Stored {
    value: Bytes,
    /// What the answers under way hold.
    lease: Weak<Lease>,
}

/// A block as answers hold it, one for all of them.
#[derive(Debug)]
struct Lease {
    value: Bytes,
    _pinned: Charge,
    /// Set when the block is stored no more.
    orphaned: OnceLock<Charge>,
}

/// One answer's hold.
struct Answer(Arc<Lease>);

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.0.value
    }
}

impl Blocks {
    /// No blocks. Those that answers hold are told to `meter`.
    #[must_use]
    pub fn new(meter: Arc<Meter>) -> Self {
        Self { stored: Vec::new(), free: Vec::new(), meter }
    }

    /// Stores a block.
    pub fn insert(&mut self, value: Bytes) -> u32 {
        let stored = Some(Stored { value, lease: Weak::new() });
        if let Some(number) = self.free.pop() {
            self.stored[number as usize] = stored;
            return number;
        }
        self.stored.push(stored);
        (self.stored.len() - 1) as u32
    }

    /// A stored block.
    ///
    /// # Panics
    /// Where no block has this number.
    #[must_use]
    pub fn get(&self, number: u32) -> &Bytes {
        &self.stored(number).value
    }

    /// Whether an answer under way holds a block, so that another one costs nothing.
    #[must_use]
    pub fn is_pinned(&self, number: u32) -> bool {
        self.stored(number).lease.strong_count() > 0
    }

    /// A block for an answer, pinned until the last of its answers lets go.
    ///
    /// # Panics
    /// Where no block has this number.
    pub fn share(&mut self, number: u32) -> Bytes {
        let stored = self.stored[number as usize].as_mut().expect("a live record's block is stored");
        let lease = stored.lease.upgrade().unwrap_or_else(|| {
            let lease = Arc::new(Lease {
                value: stored.value.clone(),
                _pinned: Charge::of(page_bytes(stored.value.len()), &self.meter, Use::Pinned),
                orphaned: OnceLock::new(),
            });
            stored.lease = Arc::downgrade(&lease);
            lease
        });
        Bytes::from_owner(Answer(lease))
    }

    /// Lets go of a block. Answers under way keep it.
    ///
    /// # Panics
    /// Where no block has this number.
    pub fn remove(&mut self, number: u32) {
        let stored = self.stored[number as usize].take().expect("a block is removed once");
        self.free.push(number);
        if let Some(lease) = stored.lease.upgrade() {
            let bytes = page_bytes(stored.value.len());
            lease.orphaned.get_or_init(|| Charge::of(bytes, &self.meter, Use::Orphaned));
        }
    }

    /// How many are stored.
    #[must_use]
    pub fn count(&self) -> usize {
        self.stored.len() - self.free.len()
    }

    fn stored(&self, number: u32) -> &Stored {
        self.stored[number as usize].as_ref().expect("a live record's block is stored")
    }
}

/// What a mapping of `len` bytes takes.
#[must_use]
pub fn page_bytes(len: usize) -> usize {
    const PAGE_BYTES: usize = 4096;
    len.next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_charged_until_its_last_holder_lets_go() {
        let meter = Arc::new(Meter::default());
        let mut block = Block::new(10_000, &meter).unwrap();
        assert_eq!(meter.blocks(), 12_288);
        assert_eq!(block.extend(&vec![7; 20_000]), 10_000);
        let mut blocks = Blocks::new(Arc::clone(&meter));
        let number = blocks.insert(block.freeze());
        assert_eq!(blocks.get(number).len(), 10_000);
        let answer = blocks.share(number);
        blocks.remove(number);
        assert_eq!((blocks.count(), meter.bytes()), (0, 12_288));
        assert!(answer == [7; 10_000][..]);
        drop(answer);
        assert_eq!(meter.bytes(), 0);
        assert_eq!(blocks.insert(Bytes::new()), number, "numbers are used again");
    }

    #[test]
    fn a_block_is_charged_step_by_step_and_filled_no_further() {
        let meter = Arc::new(Meter::default());
        let mut block = Block::unreserved(10_000, &meter).unwrap();
        assert_eq!((meter.blocks(), block.extend(b"too early"), block.reserve_left()), (0, 0, 0));
        assert_eq!((block.reserve(5000), meter.blocks()), (8192, 8192));
        assert_eq!((block.extend(&[1; 9000]), block.reserve_left(), block.missing()), (5000, 0, 5000));
        assert_eq!(block.reserve(3000), 0, "the page was charged before");
        assert_eq!((block.reserve(3000), block.extend(&[2; 9000])), (4096, 5000));
        assert_eq!(block.missing(), 0);
        drop(block);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn a_block_is_pinned_once_by_all_its_answers_and_orphaned_when_it_is_removed_under_them() {
        let meter = Arc::new(Meter::default());
        let gauges = || (meter.gauge(Use::Pinned), meter.gauge(Use::Orphaned));
        let mut blocks = Blocks::new(Arc::clone(&meter));
        let [read, unread] = [4096, 100].map(|len| blocks.insert(Bytes::from(vec![0; len])));
        assert!(!blocks.is_pinned(read));
        let answers = [blocks.share(read), blocks.share(read)];
        assert!(blocks.is_pinned(read) && !blocks.is_pinned(unread));
        assert_eq!(gauges(), (4096, 0));
        blocks.remove(unread);
        assert_eq!(gauges(), (4096, 0), "nobody holds it");
        let [first, second] = answers;
        drop(first);
        blocks.remove(read);
        assert_eq!(gauges(), (4096, 4096));
        drop(second);
        assert_eq!(gauges(), (0, 0));
        let again = blocks.insert(Bytes::from(vec![0; 10]));
        assert!(!blocks.is_pinned(again), "the number's last holder is forgotten");
        drop(blocks.share(again));
        blocks.remove(again);
        assert_eq!(gauges(), (0, 0), "an answer that is sent holds nothing");
    }
}
