//! What is asked of a server, and what it must answer.

use std::ops::{Range, RangeInclusive};

use crate::items::{Pattern, item_hash};
use crate::random::{Random, Zipf};
use crate::syntax::Ask;

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
    /// So many gets that are answered as one: GETKQs and a NOOP, as libmemcached sends them, or a `get` of many keys.
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

/// What a client sends in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    One(Ask),
    /// So many gets, and what tells that all are answered.
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

    /// What comes next. Without flags there is one generation.
    #[inline]
    pub(crate) fn turn(&self, random: &mut Random, has_flags: bool) -> Turn {
        let generation = |random: &mut Random| if has_flags { random.next() as u32 } else { 0 };
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

/// The values of all keys.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    pattern: Pattern,
    sizes: RangeInclusive<usize>,
}

impl Values {
    /// Values of `sizes` bytes, each size as frequent as another.
    pub(crate) fn new(sizes: RangeInclusive<usize>) -> Self {
        Self { pattern: Pattern::new(*sizes.end()), sizes }
    }

    pub(crate) fn sizes(&self) -> &RangeInclusive<usize> {
        &self.sizes
    }

    /// Where the value stands in the [`pattern`](Self::pattern).
    #[inline]
    pub(crate) fn span(&self, key: u32, generation: u32) -> Range<usize> {
        let hash = item_hash(key, generation);
        let spread = (self.sizes.end() - self.sizes.start() + 1) as u64;
        Pattern::span(hash, self.sizes.start() + (((hash >> 32) * spread) >> 32) as usize)
    }

    pub(crate) fn pattern(&self) -> &[u8] {
        self.pattern.bytes()
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
