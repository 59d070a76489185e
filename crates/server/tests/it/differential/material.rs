//! Values that the generators put into requests.

use std::ops::Range;

use crate::harness::Random;

pub(super) const SMALL_BYTES_MAX: usize = 64;
pub(super) const MEDIUM_BYTES_MAX: usize = 4 << 10;
/// Past the 512 KiB from which memcached cuts an item up, and twice this is past the default limit
/// of 1 MiB: at either border the answer hangs on the size of memcached's item header.
pub(super) const LARGE_BYTES: Range<usize> = 600_000..640_000;
/// Past the limit of 1 MiB, not at it: memcached counts its item header in, and this server does not.
pub(super) const TOO_LARGE_BYTES: Range<usize> = 1_050_000..1_100_000;

/// Random bytes to cut values from, so that a large one costs no more than its copy.
pub(super) struct Pool(Vec<u8>);

impl Pool {
    pub(super) fn new(random: &mut Random) -> Self {
        Self(random.bytes(TOO_LARGE_BYTES.end * 2))
    }

    /// Up to `bytes_max` bytes that are not all white space: a counter on such a value makes memcached
    /// look for digits behind the end of the item.
    pub(super) fn bytes(&self, random: &mut Random, bytes_max: usize) -> Vec<u8> {
        let count = random.below(bytes_max + 1);
        let mut bytes = self.slice(random, count);
        if let Some(first) = bytes.first_mut() {
            *first |= 0x80;
        }
        bytes
    }

    pub(super) fn sized(&self, random: &mut Random, sizes: Range<usize>) -> Vec<u8> {
        let count = sizes.start + random.below(sizes.len());
        self.slice(random, count)
    }

    pub(super) fn slice(&self, random: &mut Random, count: usize) -> Vec<u8> {
        let start = random.below(self.0.len() - count);
        self.0[start..start + count].to_vec()
    }

    /// A value of any size, few of them large.
    pub(super) fn value(&self, random: &mut Random) -> Vec<u8> {
        let bytes_max = match random.below(1000) {
            0..3 => return self.sized(random, LARGE_BYTES),
            3..5 => return self.sized(random, TOO_LARGE_BYTES),
            5..600 => SMALL_BYTES_MAX,
            _ => MEDIUM_BYTES_MAX,
        };
        self.bytes(random, bytes_max)
    }

    /// Something to append. Digits come one at a time, so that no number grows to 2^63.
    pub(super) fn piece(&self, random: &mut Random, medium_bytes_max: usize) -> Vec<u8> {
        const PIECES: [&[u8]; 7] = [b"", b"0", b"7", b"+", b"x", b" junk", b"\0x"];
        match random.below(1000) {
            0..5 => self.sized(random, LARGE_BYTES),
            5..8 => self.sized(random, TOO_LARGE_BYTES),
            8..600 => random.pick(&PIECES).to_vec(),
            _ => self.bytes(random, medium_bytes_max),
        }
    }
}

/// What counters can meet. Negative numbers are refused, but memcached takes `-0` for 0, and the ones
/// below -2^63 for what they wrap to.
pub(super) fn number(random: &mut Random) -> Vec<u8> {
    const ODD: [&[u8]; 20] = [
        b"",
        b"12 ",
        b" 12",
        b"+12",
        b"12 junk",
        b"12\tjunk",
        b"12\r\n34",
        b"\t\n\x0b\x0c\r 12",
        b"12\0junk",
        b"12a",
        b"a12",
        b"+",
        b"++1",
        b"+ 1",
        b"-1",
        b"1.5",
        b"0x10",
        b"007",
        b"18446744073709551616",
        b"99999999999999999999999",
    ];
    const ROUND: [&[u8]; 7] = [b"0", b"1", b"9", b"10", b"99", b"100", b"1000"];
    match random.below(4) {
        0 => random.pick(&ODD).to_vec(),
        1 | 2 => random.pick(&ROUND).to_vec(),
        _ => random.below(1_000_000_000).to_string().into_bytes(),
    }
}
