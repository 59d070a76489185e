//! Random numbers that are the same in every run, and ranks by Zipf's law.

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
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        (((self.next() >> 32) * u64::from(limit)) >> 32) as u32
    }

    /// 0 to less than 1.
    #[inline]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A mixing function: its results look random, and each comes from one value only.
#[inline]
pub(crate) fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
