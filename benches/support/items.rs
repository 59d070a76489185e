//! Keys, and the bytes of their values.
//!
//! A value is a function of its key and of a generation that travels in the item's flags: whoever reads an item knows
//! every byte that it must have, although other connections overwrite it at the same time. It is a slice of one
//! pattern, so neither making nor checking it computes anything: encoding is a copy, checking a comparison.

use std::ops::Range;

use crate::random::{Random, scramble};

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 16;

/// The key with this number: `load:key` and eight hexadecimal digits.
#[inline]
pub(crate) fn key_text(number: u32) -> [u8; KEY_BYTES] {
    let mut key = *b"load:key00000000";
    for (at, byte) in number.to_be_bytes().into_iter().enumerate() {
        let [high, low] = DIGITS[usize::from(byte)];
        (key[8 + 2 * at], key[9 + 2 * at]) = (high, low);
    }
    key
}

/// Of every byte, in hexadecimal.
const DIGITS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// What decides about the value that a key has in one generation.
#[inline]
pub(crate) fn item_hash(key: u32, generation: u32) -> u64 {
    scramble(u64::from(key) << 32 | u64::from(generation))
}

/// The bytes that all values are slices of.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    /// Where a value can begin. Together with a spread of sizes that is how unlike two values are, and it fits the
    /// caches of a small core.
    const STARTS: u64 = 1 << 16;

    /// For values of up to `len_max` bytes.
    pub(crate) fn new(len_max: usize) -> Self {
        let mut random = Random::new(0x006d_656d_7769_7265);
        let words = (len_max + Self::STARTS as usize).div_ceil(8);
        Self((0..words).flat_map(|_| random.next().to_le_bytes()).collect())
    }

    /// Where the value stands that has this [`item_hash`] and `len` bytes.
    #[inline]
    pub(crate) fn span(hash: u64, len: usize) -> Range<usize> {
        let start = (hash % Self::STARTS) as usize;
        start..start + len
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
