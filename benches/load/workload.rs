//! What is asked of a server, and what it must answer.
//!
//! A value is a function of its key and of a generation that travels in the item's flags: whoever reads an item knows
//! every byte that it must have, although other connections overwrite it at the same time. It is a slice of one
//! pattern, so neither making nor checking it computes anything: encoding is a copy, checking a comparison.

use std::ops::RangeInclusive;

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 16;

/// The parts of a workload that decide which requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    Get,
    Set,
    /// So many SETs for so many GETs, in random order.
    Ratio {
        sets: u32,
        gets: u32,
    },
    /// So many GETKQ and a NOOP, written as one: the batched read of libmemcached.
    Batch {
        gets: u32,
    },
}

/// Which keys are asked for how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Popularity {
    /// All keys alike.
    Uniform,
    /// The key of rank r with a weight of 1 / r^exponent.
    Zipf { exponent: f64 },
    /// One after another: to store each of them once.
    InOrder,
}

/// A request, apart from its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Get,
    /// A get whose miss is not answered, and whose hit holds the key.
    QuietGet,
    Set {
        generation: u32,
    },
    /// What is answered when everything before it is.
    Fence,
}

/// What a client sends in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    One(Ask),
    /// So many quiet gets and a fence.
    Batch {
        gets: u32,
    },
}

/// Requests by their kind and frequency, and the keys and values in them.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) mix: Mix,
    pub(crate) popularity: Popularity,
    pub(crate) key_count: u32,
    pub(crate) values: Values,
}

impl Workload {
    /// The workload that stores every key once.
    pub(crate) fn preload(&self) -> Self {
        Self { mix: Mix::Set, popularity: Popularity::InOrder, ..self.clone() }
    }

    #[inline]
    pub(crate) fn turn(&self, random: &mut Random) -> Turn {
        let generation = |random: &mut Random| random.next() as u32;
        match self.mix {
            Mix::Get => Turn::One(Ask::Get),
            Mix::Set => Turn::One(Ask::Set { generation: generation(random) }),
            Mix::Ratio { sets, gets } if random.below(sets.saturating_add(gets)) >= sets => {
                Turn::One(Ask::Get)
            }
            Mix::Ratio { .. } => Turn::One(Ask::Set { generation: generation(random) }),
            Mix::Batch { gets } => Turn::Batch { gets },
        }
    }
}

/// The key with this number: `load:key` and eight hexadecimal digits.
#[inline]
pub(crate) fn key_text(number: u32) -> [u8; KEY_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut key = *b"load:key00000000";
    for (at, digit) in key.iter_mut().skip(8).enumerate() {
        *digit = DIGITS[(number >> (28 - 4 * at)) as usize & 15];
    }
    key
}

/// The values of all keys.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    pattern: Vec<u8>,
    sizes: RangeInclusive<usize>,
}

impl Values {
    /// Where a value can begin in the pattern. Together with a spread of sizes that is how unlike two values are, and
    /// it fits the caches of a small core.
    const STARTS: u64 = 1 << 16;

    /// Values of `sizes` bytes, each size as frequent as another.
    pub(crate) fn new(sizes: RangeInclusive<usize>) -> Self {
        let mut random = Random::new(0x006d_656d_7769_7265);
        let words = (*sizes.end() + Self::STARTS as usize).div_ceil(8);
        Self { pattern: (0..words).flat_map(|_| random.next().to_le_bytes()).collect(), sizes }
    }

    pub(crate) fn sizes(&self) -> &RangeInclusive<usize> {
        &self.sizes
    }

    /// Where the value stands in the [`pattern`](Self::pattern).
    #[inline]
    pub(crate) fn span(&self, key: u32, generation: u32) -> std::ops::Range<usize> {
        let hash = scramble(u64::from(key) << 32 | u64::from(generation));
        let spread = (self.sizes.end() - self.sizes.start() + 1) as u64;
        let start = (hash % Self::STARTS) as usize;
        let len = self.sizes.start() + (((hash >> 32) * spread) >> 32) as usize;
        start..start + len
    }

    pub(crate) fn pattern(&self) -> &[u8] {
        &self.pattern
    }
}

/// Chooses keys; every thread has its own.
#[derive(Debug, Clone)]
pub(crate) struct KeyChoice {
    key_count: u32,
    next: u32,
    zipf: Option<Zipf>,
    popularity: Popularity,
}

impl KeyChoice {
    pub(crate) fn new(workload: &Workload) -> Self {
        Self {
            key_count: workload.key_count,
            next: 0,
            zipf: match workload.popularity {
                Popularity::Zipf { exponent } => Some(Zipf::new(workload.key_count, exponent)),
                Popularity::Uniform | Popularity::InOrder => None,
            },
            popularity: workload.popularity,
        }
    }

    #[inline]
    pub(crate) fn choose(&mut self, random: &mut Random) -> u32 {
        match (self.popularity, &self.zipf) {
            (_, Some(zipf)) => self.scatter(zipf.rank(random)),
            (Popularity::InOrder, None) => {
                let key = self.next;
                self.next = (key + 1) % self.key_count;
                key
            }
            (Popularity::Uniform | Popularity::Zipf { .. }, None) => random.below(self.key_count),
        }
    }

    /// Popular keys are not the ones that were stored first: a prime that is larger than the count of keys permutes
    /// the ranks.
    #[inline]
    pub(crate) fn scatter(&self, rank: u32) -> u32 {
        const PRIME: u64 = 4_294_967_291;
        (u64::from(rank) * PRIME % u64::from(self.key_count)) as u32
    }
}

/// Ranks by Zipf's law in constant time and memory, by rejection-inversion (Hörmann and Derflinger, 'Rejection-inversion
/// to generate variates from monotone discrete distributions', 1996; the form of Apache Commons RNG).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zipf {
    count: f64,
    exponent: f64,
    area_of_first: f64,
    area_of_all: f64,
    shortcut: f64,
}

impl Zipf {
    pub(crate) fn new(count: u32, exponent: f64) -> Self {
        let mut zipf =
            Self { count: f64::from(count), exponent, area_of_first: 0.0, area_of_all: 0.0, shortcut: 0.0 };
        zipf.area_of_first = zipf.area(1.5) - 1.0;
        zipf.area_of_all = zipf.area(zipf.count + 0.5);
        zipf.shortcut = 2.0 - zipf.area_to_x(zipf.area(2.5) - zipf.weight(2.0));
        zipf
    }

    /// 0 is the most popular.
    pub(crate) fn rank(&self, random: &mut Random) -> u32 {
        loop {
            let area = self.area_of_all + random.unit() * (self.area_of_first - self.area_of_all);
            let x = self.area_to_x(area);
            let rank = x.round().clamp(1.0, self.count);
            if rank - x <= self.shortcut || area >= self.area(rank + 0.5) - self.weight(rank) {
                return rank as u32 - 1;
            }
        }
    }

    fn weight(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// The integral of the weight from 1 to `x`.
    fn area(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { x.ln() } else { (x.powf(power) - 1.0) / power }
    }

    fn area_to_x(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 {
            area.exp()
        } else {
            (1.0 + area * power).max(f64::MIN_POSITIVE).powf(1.0 / power)
        }
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014): a counter and a mixing function.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// 0 to `limit` - 1, to within 2^-32 of evenly.
    #[inline]
    fn below(&mut self, limit: u32) -> u32 {
        (((self.next() >> 32) * u64::from(limit)) >> 32) as u32
    }

    /// 0 to less than 1.
    #[inline]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[inline]
fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
