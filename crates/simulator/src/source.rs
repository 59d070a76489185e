//! Choices: from a seed without end, or from a fuzzer's bytes as far as they go.

/// Where all choices of a run come from. The same seed, or the same bytes, give the same choices.
#[derive(Debug, Clone)]
pub struct Source {
    entropy: Entropy,
    origin: Origin,
}

/// What a run can be repeated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This seed.
    Seed(u64),
    /// So many bytes from outside.
    Bytes(usize),
}

#[derive(Debug, Clone)]
enum Entropy {
    /// The state of a `SplitMix64`: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    Seed(u64),
    Bytes {
        bytes: Vec<u8>,
        at: usize,
    },
}

impl Source {
    /// Choices from a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { entropy: Entropy::Seed(seed), origin: Origin::Seed(seed) }
    }

    /// Choices from bytes. Behind their end every choice is the first one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self { entropy: Entropy::Bytes { bytes: bytes.to_vec(), at: 0 }, origin: Origin::Bytes(bytes.len()) }
    }

    /// What the run can be repeated from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether there are no more choices to be made.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(&self.entropy, Entropy::Bytes { bytes, at } if *at >= bytes.len())
    }

    /// A number below `count`. It costs as many bytes as it takes to write it.
    ///
    /// # Panics
    /// Where `count` is 0.
    pub fn below(&mut self, count: u32) -> u32 {
        assert!(count > 0, "a choice among nothing");
        match &mut self.entropy {
            Entropy::Seed(state) => ((u64::from(split_mix(state) as u32) * u64::from(count)) >> 32) as u32,
            Entropy::Bytes { bytes, at } => {
                let len = (u32::BITS - (count - 1).leading_zeros()).div_ceil(8) as usize;
                let rest = bytes.get(*at..).unwrap_or_default();
                let taken = &rest[..rest.len().min(len)];
                *at += len;
                taken.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte)) % count
            }
        }
    }

    /// A number between the two, both included.
    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        least + self.below(most - least + 1)
    }

    /// Whether something happens that happens once in `count` times. Behind the end it never does.
    pub fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == count - 1
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    /// One of several, by weight.
    pub fn weighted<T: Copy>(&mut self, from: &[(u32, T)]) -> T {
        let mut at = self.below(from.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in from {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        unreachable!("the weights add up to more than was drawn")
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::Bytes(len) => write!(f, "{len} bytes from outside"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_last_byte_every_choice_is_the_first() {
        let mut source = Source::from_bytes(&[7, 1, 2]);
        assert_eq!((source.below(10), source.below(1 << 16)), (7, 0x102));
        assert!(source.is_exhausted());
        assert_eq!((source.below(1 << 20), source.one_in(2), source.pick(&[3, 4])), (0, false, 3));
    }

    #[test]
    fn a_seed_chooses_everything_at_some_time() {
        let mut source = Source::from_seed(1);
        let mut met = [0; 5];
        for _ in 0..200 {
            met[source.below(5) as usize] += 1;
        }
        assert!(met.iter().all(|count| *count > 20), "{met:?}");
        assert!(!source.is_exhausted());
    }

    #[test]
    fn what_is_weighted_with_nothing_is_never_chosen() {
        let mut source = Source::from_seed(2);
        assert!((0..100).all(|_| source.weighted(&[(0, 'a'), (3, 'b'), (0, 'c')]) == 'b'));
    }
}
