//! What is stored under a key: how long it is, and every byte of it.
//!
//! A generation is a phase of the run and a version in it, and travels in the item's flags. The phase decides how
//! long values are, so a key has one length in a phase, whatever happens to it, and every server gets the same items.

use crate::items::{Pattern, item_hash};
use crate::random::scramble;

/// How long the values of a phase are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sizes {
    /// All alike.
    Exactly(usize),
    /// From half of it to one and a half, all alike frequent.
    Around(usize),
    /// Lognormal: half of them are shorter than the median, and some are very long.
    Lognormal { median: f64, sigma: f64 },
}

/// What is left of a lognormal distribution.
const SPREAD_BYTES_MAX: usize = 100 << 10;

const PHASE_SHIFT: u32 = 24;

/// The values of all keys in all phases.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pattern: Pattern,
    phases: Vec<Sizes>,
    /// One key in so many has a value of so many bytes.
    large: Option<(u32, usize)>,
}

impl Contents {
    pub(crate) fn new(phases: &[Sizes]) -> Self {
        let bytes_max = phases.iter().map(|sizes| sizes.bytes_max()).max().unwrap_or_default();
        Self { pattern: Pattern::new(bytes_max), phases: phases.to_vec(), large: None }
    }

    /// The same, but one key in `one_in` has a value of `bytes`.
    pub(crate) fn with_large(mut self, one_in: u32, bytes: usize) -> Self {
        let bytes_max = self.phases.iter().map(|sizes| sizes.bytes_max()).max().unwrap_or_default();
        self.pattern = Pattern::new(bytes.max(bytes_max));
        self.large = Some((one_in, bytes));
        self
    }

    pub(crate) fn phase_count(&self) -> u32 {
        self.phases.len() as u32
    }

    /// The value under `key`; `None` for a generation that was never stored.
    #[inline]
    pub(crate) fn value(&self, key: u32, generation: u32) -> Option<&[u8]> {
        let len = self.len(key, phase_of(generation))?;
        Some(&self.pattern.bytes()[Pattern::span(item_hash(key, generation), len)])
    }

    /// How long the values of `key` are in `phase`; `None` where there is no such phase.
    #[inline]
    pub(crate) fn len(&self, key: u32, phase: u32) -> Option<usize> {
        let sizes = self.phases.get(phase as usize)?;
        // Another hash than the one that chooses the bytes.
        let hash = scramble(!item_hash(key, phase << PHASE_SHIFT));
        match self.large {
            Some((one_in, bytes)) if (hash >> 32).is_multiple_of(u64::from(one_in)) => Some(bytes),
            _ => Some(sizes.draw(scramble(hash))),
        }
    }
}

/// The generation of a version in a phase.
#[inline]
pub(crate) fn generation(phase: u32, version: u32) -> u32 {
    phase << PHASE_SHIFT | (version & ((1 << PHASE_SHIFT) - 1))
}

/// The phase of a generation.
#[inline]
pub(crate) fn phase_of(generation: u32) -> u32 {
    generation >> PHASE_SHIFT
}

impl Sizes {
    fn bytes_max(self) -> usize {
        match self {
            Self::Exactly(bytes) => bytes,
            Self::Around(bytes) => bytes / 2 + bytes,
            Self::Lognormal { .. } => SPREAD_BYTES_MAX,
        }
    }

    fn draw(self, hash: u64) -> usize {
        match self {
            Self::Exactly(bytes) => bytes,
            Self::Around(bytes) => bytes / 2 + (hash % (bytes as u64 + 1)) as usize,
            Self::Lognormal { median, sigma } => {
                // Box and Muller, 'A note on the generation of random normal deviates', 1958.
                let unit = |bits: u64| (bits as u32 as f64 + 0.5) / 2_f64.powi(32);
                let radius = (-2.0 * unit(hash).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * unit(hash >> 32)).cos();
                ((median * (sigma * normal).exp()) as usize).clamp(1, SPREAD_BYTES_MAX)
            }
        }
    }
}
