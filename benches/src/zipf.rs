//! Popularity by rank: the k-th most popular of n items is asked for in proportion to 1 / k^s.

use crate::rng::Rng;

/// A Zipf distribution over the ranks `0..n`, rank 0 the most popular.
///
/// The cumulative probabilities lie in a table, 8 bytes an item, and a draw is a binary search: exact, and simple enough to be
/// seen to be right. Draws are made before the clock starts.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// `cumulative[rank]` is the probability of drawing `rank` or one more popular; the last is 1 up to rounding.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Prepares a distribution over `item_count` ranks (at least 1) with the given exponent.
    #[must_use]
    pub fn new(item_count: usize, exponent: f64) -> Self {
        let mut cumulative = Vec::with_capacity(item_count.max(1));
        let mut total = 0.0;
        for rank in 1..=item_count.max(1) {
            total += (rank as f64).powf(-exponent);
            cumulative.push(total);
        }
        for sum in &mut cumulative {
            *sum /= total;
        }
        Self { cumulative }
    }

    /// Draws a rank.
    pub fn rank(&self, rng: &mut Rng) -> usize {
        let point = rng.fraction();
        // Rounding may leave the last sum a little below 1, and a draw above it.
        self.cumulative.partition_point(|&sum| sum <= point).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and standard deviation of the rank, straight from the definition.
    fn moments(item_count: usize, exponent: f64) -> (f64, f64) {
        let weight = |rank: usize| ((rank + 1) as f64).powf(-exponent);
        let total: f64 = (0..item_count).map(weight).sum();
        let mean = (0..item_count).map(|rank| rank as f64 * weight(rank)).sum::<f64>() / total;
        let square = (0..item_count).map(|rank| (rank as f64).powi(2) * weight(rank)).sum::<f64>() / total;
        (mean, (square - mean * mean).sqrt())
    }

    #[test]
    fn sample_mean_is_the_distributions() {
        for (item_count, exponent) in [(10, 0.5), (1_000, 0.99), (100_000, 0.99), (1_000, 1.5)] {
            let zipf = Zipf::new(item_count, exponent);
            let mut rng = Rng::new(42);
            let draws = 200_000;
            let sum: f64 = (0..draws).map(|_| zipf.rank(&mut rng) as f64).sum();
            let (mean, deviation) = moments(item_count, exponent);
            let error = (sum / f64::from(draws) - mean) / (deviation / f64::from(draws).sqrt());
            assert!(error.abs() < 4.0, "{item_count} items, exponent {exponent}: {error} standard errors off");
        }
    }

    #[test]
    fn the_first_rank_has_its_share() {
        let zipf = Zipf::new(100, 1.0);
        let mut rng = Rng::new(9);
        let firsts = (0..100_000).filter(|_| zipf.rank(&mut rng) == 0).count() as f64;
        let expected = 100_000.0 / (1..=100).map(|rank| 1.0 / f64::from(rank)).sum::<f64>();
        assert!((firsts / expected - 1.0).abs() < 0.03, "{firsts} of {expected}");
    }

    #[test]
    fn exponent_zero_is_uniform_and_one_item_is_certain() {
        let mut rng = Rng::new(5);
        let uniform = Zipf::new(4, 0.0);
        let mut seen = [0_u32; 4];
        for _ in 0..40_000 {
            seen[uniform.rank(&mut rng)] += 1;
        }
        assert!(seen.iter().all(|&count| (9_500..10_500).contains(&count)), "{seen:?}");
        assert_eq!(Zipf::new(1, 0.99).rank(&mut rng), 0);
        assert_eq!(Zipf::new(0, 0.99).rank(&mut rng), 0);
    }
}
