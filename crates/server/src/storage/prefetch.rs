//! Asking for memory before it is needed.
//!
//! A lookup in a large store waits for memory three times: for the bucket, the entry, and the record. The processor can
//! wait for many lines at once if it is told early enough, so a batch is looked up in stages, each of which asks for
//! what the next one reads. Nothing but time depends on it.
#![cfg_attr(
    all(target_arch = "x86_64", not(miri)),
    expect(unsafe_code, reason = "the instruction that asks for a line")
)]

/// Bytes that come together.
pub(crate) const LINE_BYTES: usize = 64;

/// Asks for the line that holds `at`. Any address will do; a wrong one costs time.
#[inline]
pub(crate) fn line(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the instruction reads nothing as far as the program can tell, and does not fault; every x86-64 has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}
