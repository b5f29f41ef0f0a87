//! Zipf's law over a bounded number of keys, exactly.
//!
//! # Source
//! Hörmann and Derflinger, Rejection-inversion to generate variates from monotone discrete distributions, ACM TOMACS
//! 6(3), 1996. The integral of the continuous hat is inverted; a draw is rejected where hat and histogram differ, on
//! average less than once in ten. No table, so a thousand million keys cost as little as ten.

use thiserror::Error;

use crate::rng::Rng;

/// Why there is no such distribution.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ZipfError {
    /// There must be at least one key.
    #[error("a Zipf distribution needs at least one key")]
    NoKeys,
    /// The exponent must be finite and not negative.
    #[error("the Zipf exponent {exponent} is not a finite number of at least 0")]
    Exponent {
        /// The exponent given.
        exponent: f64,
    },
}

/// Ranks 1 to `keys`, rank k with probability proportional to k to the power of −`exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zipf {
    keys: u64,
    exponent: f64,
    hat_of_half: f64,
    hat_of_end: f64,
    sure_below: f64,
}

impl Zipf {
    /// The distribution over ranks 1 to `keys`; an exponent of 0 is uniform.
    ///
    /// # Errors
    /// No keys, or an exponent that is negative or not finite.
    pub fn new(keys: u64, exponent: f64) -> Result<Self, ZipfError> {
        if keys == 0 {
            return Err(ZipfError::NoKeys);
        }
        if !exponent.is_finite() || exponent < 0.0 {
            return Err(ZipfError::Exponent { exponent });
        }
        let mut zipf = Self { keys, exponent, hat_of_half: 0.0, hat_of_end: 0.0, sure_below: 0.0 };
        zipf.hat_of_half = zipf.hat(1.5) - 1.0;
        zipf.hat_of_end = zipf.hat(keys as f64 + 0.5);
        zipf.sure_below = 2.0 - zipf.hat_inverse(zipf.hat(2.5) - zipf.density(2.0));
        Ok(zipf)
    }

    /// Draws a rank, 1 the most popular.
    ///
    /// # Complexity
    /// Expected O(1), no allocation.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let area = self.hat_of_end + rng.next_f64() * (self.hat_of_half - self.hat_of_end);
            let at = self.hat_inverse(area);
            let rank = (at + 0.5).clamp(1.0, self.keys as f64).floor();
            if rank - at <= self.sure_below || area >= self.hat(rank + 0.5) - self.density(rank) {
                return rank as u64;
            }
        }
    }

    /// The probability of a rank, by summation over all keys: for checks, not for drawing.
    pub fn probability(&self, rank: u64) -> f64 {
        let sum: f64 = (1..=self.keys).rev().map(|k| self.density(k as f64)).sum();
        if (1..=self.keys).contains(&rank) { self.density(rank as f64) / sum } else { 0.0 }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of the density from 1 to `x`: (x^(1−s) − 1) ÷ (1−s), and ln x for s = 1.
    fn hat(&self, x: f64) -> f64 {
        let log = x.ln();
        let power = (1.0 - self.exponent) * log;
        log * if power.abs() > 1e-8 { power.exp_m1() / power } else { 1.0 + power / 2.0 }
    }

    fn hat_inverse(&self, area: f64) -> f64 {
        // Rounding may pass the pole of the logarithm by a hair.
        let power = (area * (1.0 - self.exponent)).max(-1.0);
        (area * if power.abs() > 1e-8 { power.ln_1p() / power } else { 1.0 - power / 2.0 }).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: u64, exponent: f64) {
        let zipf = Zipf::new(keys, exponent).unwrap();
        let mut rng = Rng::new(11);
        let draws = 400_000;
        let mut counts = vec![0u32; keys as usize + 1];
        for _ in 0..draws {
            counts[zipf.draw(&mut rng) as usize] += 1;
        }
        assert_eq!(counts[0], 0);
        for rank in (1..=keys).step_by((keys / 50).max(1) as usize) {
            let expected = zipf.probability(rank) * f64::from(draws);
            let off = (f64::from(counts[rank as usize]) - expected).abs();
            assert!(off < 5.0 * expected.sqrt() + 5.0, "rank {rank} of {keys}, s = {exponent}: {off} off {expected}");
        }
    }

    #[test]
    fn shares_are_those_of_the_law() {
        for exponent in [0.0, 0.6, 0.99, 1.0, 1.2, 2.5] {
            check(1, exponent);
            check(2, exponent);
            check(1000, exponent);
        }
    }

    #[test]
    fn a_large_universe_needs_no_table() {
        let zipf = Zipf::new(1 << 40, 0.99).unwrap();
        let mut rng = Rng::new(3);
        assert!((0..10_000).all(|_| (1..=1 << 40).contains(&zipf.draw(&mut rng))));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Zipf::new(0, 1.0), Err(ZipfError::NoKeys));
        assert!(matches!(Zipf::new(5, -1.0), Err(ZipfError::Exponent { .. })));
        assert!(matches!(Zipf::new(5, f64::NAN), Err(ZipfError::Exponent { .. })));
        assert!(matches!(Zipf::new(5, f64::INFINITY), Err(ZipfError::Exponent { .. })));
    }
}
