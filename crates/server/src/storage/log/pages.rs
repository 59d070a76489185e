//! Pages: the memory that the log lies in, and who may look at it.
//!
//! One mapping, cut into segments. The storage thread reads and writes it. Besides, a value can be [lent](Pages::lend):
//! an I/O thread sends it from where it lies, while the storage thread goes on writing elsewhere. Each segment has a
//! pin, which every loan from it shares, so that nobody needs to count: a segment whose pin has one holder is not lent.
//!
//! All of the log's shared memory is in this file. Two rules make it sound, and the three functions that could break
//! them are `unsafe`:
//!
//! 1. Bytes that are lent do not change, and their pages stay ([`Pages::bytes_mut`], [`Pages::copy`],
//!    [`Pages::give_back`]).
//! 2. Everything else follows Rust's own rule: `&Pages` reads, `&mut Pages` writes.
#![expect(unsafe_code, reason = "memory that one thread reads while another writes beside it")]

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

#[cfg(not(miri))]
use mapping::Mapping;
#[cfg(miri)]
use miri_mapping::Mapping;

/// The log's memory.
#[derive(Debug)]
pub(super) struct Pages {
    mapping: Arc<Mapping>,
    start: NonNull<u8>,
    len: usize,
    segment_bytes: usize,
    /// One for each segment. Loans hold clones.
    pins: Box<[Arc<Pin>]>,
}

// SAFETY: `start` points into `mapping`, which belongs to whoever holds it, on whatever thread; see the rules above.
unsafe impl Send for Pages {}

/// Keeps the mapping alive, and its segment from being used again.
#[derive(Debug)]
struct Pin {
    _mapping: Arc<Mapping>,
}

/// Bytes of the log that someone else looks at.
struct Loan {
    start: NonNull<u8>,
    len: usize,
    _pin: Arc<Pin>,
}

// SAFETY: a loan is read only, by rule 1 nobody writes to its bytes, and the pin keeps them mapped.
unsafe impl Send for Loan {}
// SAFETY: the same.
unsafe impl Sync for Loan {}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was checked when it was lent; see above for its content.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Pages {
    /// `count` segments of `segment_bytes` each. No page is in memory before it is touched.
    ///
    /// # Errors
    /// Where the system does not give that much address space.
    pub(super) fn new(segment_bytes: usize, count: usize) -> io::Result<Self> {
        let len = segment_bytes * count;
        let mapping = Arc::new(Mapping::new(len)?);
        let start = mapping.start();
        let pins = (0..count).map(|_| Arc::new(Pin { _mapping: Arc::clone(&mapping) })).collect();
        Ok(Self { mapping, start, len, segment_bytes, pins })
    }

    /// `len` bytes from `offset` on.
    ///
    /// # Panics
    /// Where they are not all inside, here as below.
    #[inline]
    pub(super) fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        self.check(offset, len);
        // SAFETY: the range is inside of the mapping, whose bytes are initialised (anonymous memory reads as zeros).
        // Nobody writes to it while `&self` lives, since that takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), len) }
    }

    /// The same, to be written.
    ///
    /// # Safety
    /// None of these bytes is lent.
    #[inline]
    pub(super) unsafe fn bytes_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        self.check(offset, len);
        // SAFETY: as above, and `&mut self` says that nobody else looks, but for loans, of which there are none here.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), len) }
    }

    /// Copies `len` bytes to another place, which does not overlap.
    ///
    /// # Safety
    /// None of the bytes at `to` is lent.
    pub(super) unsafe fn copy(&mut self, from: usize, to: usize, len: usize) {
        self.check(from, len);
        self.check(to, len);
        assert!(from.abs_diff(to) >= len, "a copy does not overlap what it is a copy of");
        let start = self.start.as_ptr();
        // SAFETY: both ranges are inside and apart; the one that is written is not lent, the other one may be.
        unsafe { std::ptr::copy_nonoverlapping(start.add(from), start.add(to), len) };
    }

    /// Lends bytes of one segment to whoever holds them, on any thread, for as long as he does.
    pub(super) fn lend(&self, offset: usize, len: usize) -> Bytes {
        self.check(offset, len);
        let pin = &self.pins[offset / self.segment_bytes];
        debug_assert!(len > 0 && (offset + len - 1) / self.segment_bytes == offset / self.segment_bytes);
        // SAFETY: the range is inside of the mapping.
        let start = unsafe { self.start.add(offset) };
        Bytes::from_owner(Loan { start, len, _pin: Arc::clone(pin) })
    }

    /// Whether any byte of a segment may be lent. Where it says no, all who had a loan are done with it.
    pub(super) fn is_lent(&mut self, segment: usize) -> bool {
        // Not a count: `get_mut` orders what the last holder did before what happens here.
        Arc::get_mut(&mut self.pins[segment]).is_none()
    }

    /// Whether any byte of a segment may be lent, at a glance: where it says no, that may not be so for long.
    pub(super) fn may_be_lent(&self, segment: usize) -> bool {
        Arc::strong_count(&self.pins[segment]) > 1
    }

    /// Gives a segment's pages back to the system. Its bytes read as zeros afterwards.
    ///
    /// # Safety
    /// None of its bytes is lent.
    pub(super) unsafe fn give_back(&mut self, segment: usize) {
        // SAFETY: nobody looks at these bytes, and any byte is a valid byte.
        unsafe { self.mapping.give_back(segment * self.segment_bytes, self.segment_bytes) };
    }

    /// Asks the processor to fetch the line at `offset`, and the one behind it. Nothing but time depends on it.
    #[inline]
    pub(super) fn prefetch(&self, offset: usize) {
        let at = self.start.as_ptr().wrapping_add(offset);
        crate::storage::prefetch::line(at);
        crate::storage::prefetch::line(at.wrapping_add(crate::storage::prefetch::LINE_BYTES));
    }

    #[inline]
    fn check(&self, offset: usize, len: usize) {
        if offset > self.len || len > self.len - offset {
            outside(offset, len);
        }
    }
}

#[cold]
#[inline(never)]
fn outside(offset: usize, len: usize) -> ! {
    panic!("{len} bytes at {offset} are not in the log");
}

#[cfg(not(miri))]
mod mapping {
    use std::io;
    use std::ptr::NonNull;

    use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};

    /// Anonymous memory.
    #[derive(Debug)]
    pub(super) struct Mapping(MmapRaw);

    impl Mapping {
        pub(super) fn new(len: usize) -> io::Result<Self> {
            let mapping: MmapRaw = MmapOptions::new().len(len).no_reserve_swap().map_anon()?.into();
            // A huge page would bring back what was given back beside what is used. A system that has none refuses.
            #[cfg(target_os = "linux")]
            let _ = mapping.advise(memmap2::Advice::NoHugePage);
            Ok(Self(mapping))
        }

        pub(super) fn start(&self) -> NonNull<u8> {
            NonNull::new(self.0.as_mut_ptr()).expect("a mapping does not begin at 0")
        }

        /// # Safety
        /// Nobody looks at these bytes.
        pub(super) unsafe fn give_back(&self, offset: usize, len: usize) {
            // SAFETY: the mapping is private and anonymous, so the pages read as zeros afterwards.
            let advised = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
            // The range is page-aligned and inside of the mapping; the system has no reason to refuse.
            debug_assert!(advised.is_ok(), "{advised:?}");
        }
    }
}

/// Miri has no `madvise`: memory from the heap, which it watches all the better.
#[cfg(miri)]
mod miri_mapping {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;
    use std::ptr::NonNull;

    #[derive(Debug)]
    pub(super) struct Mapping(NonNull<u8>, Layout);

    // SAFETY: it is memory, and no more than that.
    unsafe impl Send for Mapping {}
    // SAFETY: the same.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        pub(super) fn new(len: usize) -> io::Result<Self> {
            let layout = Layout::from_size_align(len, 4096).map_err(io::Error::other)?;
            // SAFETY: a log is not empty.
            let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Self(start, layout))
        }

        pub(super) fn start(&self) -> NonNull<u8> {
            self.0
        }

        /// # Safety
        /// Nobody looks at these bytes.
        pub(super) unsafe fn give_back(&self, offset: usize, len: usize) {
            // SAFETY: the range is inside, and nobody looks at it.
            unsafe { self.0.add(offset).write_bytes(0, len) };
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: allocated above, with this layout.
            unsafe { dealloc(self.0.as_ptr(), self.1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SEGMENT: usize = 64 << 10;

    fn write(pages: &mut Pages, offset: usize, bytes: &[u8]) {
        // SAFETY: the tests lend what they have written before, elsewhere.
        unsafe { pages.bytes_mut(offset, bytes.len()) }.copy_from_slice(bytes);
    }

    #[test]
    fn what_is_lent_outlives_the_pages_and_pins_its_segment_alone() {
        let mut pages = Pages::new(SEGMENT, 3).unwrap();
        write(&mut pages, SEGMENT + 10, b"value");
        let loan = pages.lend(SEGMENT + 10, 5);
        assert_eq!([0, 1, 2].map(|segment| pages.is_lent(segment)), [false, true, false]);
        let part = loan.slice(2..);
        drop(loan);
        assert!(pages.is_lent(1));
        drop(pages);
        assert_eq!(part, "lue");
    }

    #[test]
    fn a_loan_is_read_on_another_thread_while_its_neighbours_are_written() {
        let mut pages = Pages::new(SEGMENT, 2).unwrap();
        write(&mut pages, 0, &[7; 100]);
        let loan = pages.lend(0, 100);
        let reader = thread::spawn(move || (0..1000).all(|_| loan.iter().all(|&byte| byte == 7)));
        for at in 0..100 {
            write(&mut pages, 100 + at * 8, &[at as u8; 8]);
        }
        assert!(reader.join().unwrap());
        assert!(!pages.is_lent(0));
    }

    #[test]
    fn pages_that_were_given_back_read_as_zeros() {
        let mut pages = Pages::new(SEGMENT, 2).unwrap();
        write(&mut pages, SEGMENT, b"x");
        assert!(!pages.is_lent(1));
        // SAFETY: it is not.
        unsafe { pages.give_back(1) };
        assert_eq!(pages.bytes(SEGMENT, 1), [0]);
    }

    #[test]
    #[should_panic(expected = "not in the log")]
    fn there_is_nothing_behind_the_end() {
        let pages = Pages::new(SEGMENT, 1).unwrap();
        let _ = pages.bytes(SEGMENT - 4, 5);
    }
}
