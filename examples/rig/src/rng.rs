//! A seeded source of random numbers: the same seed gives the same run.
//!
//! # Source
//! Steele, Lea and Flood: Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix64). One addition and
//! three multiplications a number, good enough for arrivals and service times, and nothing to depend on.

use std::time::Duration;

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A stream that `seed` determines.
    pub fn new(seed: u64) -> Self {
        Self { state: mix(seed.wrapping_add(GOLDEN_GAMMA)) }
    }

    /// An independent stream for the part numbered `lane`; does not advance this one.
    #[must_use]
    pub fn fork(&self, lane: u64) -> Self {
        Self::new(mix(self.state ^ lane.wrapping_mul(GOLDEN_GAMMA)))
    }

    /// The next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[0, bound)`; 0 if `bound` is 0.
    ///
    /// The bias of the multiplication (Lemire 2019) is below `bound / 2^64`, which no run here can see.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Exponential with mean 1.
    pub fn next_exponential(&mut self) -> f64 {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        -(1.0 - self.next_f64()).ln()
    }

    /// Exponential with the given mean.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(self.next_exponential())
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_its_stream_and_forks_differ() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        let (mut left, mut right) = (a.fork(0), a.fork(1));
        assert!((0..100).all(|_| left.next_u64() != right.next_u64()));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Rng::new(1);
        let count = 200_000;
        let mean = (0..count).map(|_| rng.next_exponential()).sum::<f64>() / f64::from(count);
        assert!((mean - 1.0).abs() < 0.01, "mean of the exponential: {mean}");
        let mut buckets = [0u32; 10];
        for _ in 0..count {
            buckets[rng.below(10) as usize] += 1;
        }
        assert!(buckets.iter().all(|&n| (19_000..21_000).contains(&n)), "{buckets:?}");
        assert_eq!(rng.below(0), 0);
    }
}
