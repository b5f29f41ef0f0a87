//! A request sequence with the popularity and the recency of a measured one, without the measured one.
//!
//! Zipf's law with independent draws gets a cache's work wrong twice: real requests come back soon or not at all, and a
//! web site keeps being asked for things it was never asked for before. A [`Profile`] records both from a real trace as
//! three dozen figures. [`ProfileKeys`] makes a sequence of any length from them:
//!
//! - With the measured probability the next access is a *first access*. Otherwise a stack distance is drawn from the
//!   measured distribution, as a range of depths in the recency order; a depth that does not exist yet is a first access.
//! - Which key of that range is asked for follows popularity: every key has a quota from the popularity curve, and the
//!   draw is weighted by what is left of it. So hit ratios of LRU are right by construction, whatever the cache's size,
//!   and those of LFU follow from the quotas.
//! - Keys make their first access in random order, the popular ones rather early. When all have, the key unused for the
//!   longest time takes the place of a new one, with a new quota: the sequence has no end and no trend.
//!
//! # Source
//! Mattson, Gecsei, Slutz and Traiger, Evaluation techniques for storage hierarchies, 1970 (stack distance). Efraimidis
//! and Spirakis, Weighted random sampling with a reservoir, 2006 (the order of first accesses).

mod measure;
mod recency;
mod web07;

pub use web07::WEB07;

use std::borrow::Cow;

use recency::Recency;

use crate::rng::Rng;

/// How much earlier popular keys appear: a key's weight in the order of first accesses is its quota to this power.
const EARLY_POPULAR: f64 = 0.4;

/// What was measured on a sequence of accesses.
///
/// Buckets are log-spaced: bucket 0 holds 1, bucket b holds 2^(b−1) + 1 to 2^b.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The sequence's name.
    pub name: Cow<'static, str>,
    /// Whose data it was measured on, and under which licence; empty for a sequence of one's own.
    pub source: Cow<'static, str>,
    /// Accesses measured.
    pub accesses: u64,
    /// Different keys among them.
    pub keys: u32,
    /// Share of the accesses that were the first to their key.
    pub first: f64,
    /// Share of the accesses that go to the keys of each rank bucket, the most popular key having rank 1.
    pub popularity: Cow<'static, [f64]>,
    /// Share of the accesses whose stack distance lies in each bucket; with `first` they sum to 1.
    ///
    /// The distance is 1 for the key accessed last, and in general the size of the smallest LRU cache that hits.
    pub reuse: Cow<'static, [f64]>,
}

impl Profile {
    /// Least and greatest rank or distance of a bucket.
    pub fn bucket_range(bucket: usize) -> (u64, u64) {
        let high = 1u64.checked_shl(bucket as u32).unwrap_or(u64::MAX);
        (if bucket == 0 { 1 } else { high / 2 + 1 }, high)
    }

    /// The bucket that holds a rank or distance of at least 1.
    pub fn bucket_of(at: u64) -> usize {
        (64 - at.saturating_sub(1).leading_zeros()) as usize
    }

    /// Accesses that each key gets over the measured length, most popular first; at least 1.
    ///
    /// A bucket's share is spread evenly over its ranks; what is left of whole accesses is drawn.
    fn quotas(&self, rng: &mut Rng) -> Vec<u32> {
        (1..=u64::from(self.keys))
            .map(|rank| {
                let bucket = Self::bucket_of(rank);
                let (low, high) = Self::bucket_range(bucket);
                let width = high.min(u64::from(self.keys)) - low + 1;
                let share = self.popularity.get(bucket).copied().unwrap_or(0.0);
                let quota = share * self.accesses as f64 / width as f64;
                ((quota + rng.next_f64()) as u32).max(1)
            })
            .collect()
    }
}

/// An endless sequence of keys with a profile's popularity and recency.
#[derive(Clone, Debug)]
pub struct ProfileKeys {
    first: f64,
    /// `reuse` summed up from the left.
    reuse_up_to: Vec<f64>,
    /// By key; keys are numbered in the order of their first access.
    quotas: Vec<u32>,
    left: Vec<u32>,
    appeared: u32,
    recency: Recency,
    rng: Rng,
}

impl ProfileKeys {
    /// The sequence of this profile that `seed` determines. Keys are 0 to `profile.keys - 1`; none if that is 0.
    pub fn new(profile: &Profile, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut order: Vec<(f64, u32)> = profile
            .quotas(&mut rng)
            .into_iter()
            .map(|quota| (rng.next_exponential() / f64::from(quota).powf(EARLY_POPULAR), quota))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let quotas: Vec<u32> = order.into_iter().map(|(_, quota)| quota).collect();
        let mut sum = 0.0;
        let reuse_up_to = profile.reuse.iter().map(|share| {
            sum += share;
            sum
        });
        Self {
            first: profile.first,
            reuse_up_to: reuse_up_to.collect(),
            left: quotas.clone(),
            recency: Recency::new(quotas.len()),
            quotas,
            appeared: 0,
            rng,
        }
    }

    /// A key that was accessed before, by stack distance and popularity; `None` for a first access.
    fn reused(&mut self) -> Option<u32> {
        let at = self.rng.next_f64() - self.first;
        if at < 0.0 {
            return None;
        }
        let bucket = self.reuse_up_to.iter().position(|up_to| at < *up_to)?;
        let (low, high) = Profile::bucket_range(bucket);
        let (low, high) = (low as usize, high.min(self.recency.len() as u64) as usize);
        if low > high { None } else { self.recency.take(low, high, &mut self.rng) }
    }

    /// A key that was never accessed, or as good as that.
    fn fresh(&mut self) -> Option<u32> {
        if (self.appeared as usize) < self.quotas.len() {
            self.appeared += 1;
            return Some(self.appeared - 1);
        }
        let oldest = self.recency.take_oldest()?;
        let quota = self.quotas[self.rng.below(self.quotas.len() as u64) as usize];
        self.left[oldest as usize] = quota;
        Some(oldest)
    }
}

impl Iterator for ProfileKeys {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let key = match self.reused() {
            Some(key) => key,
            None => self.fresh()?,
        };
        let left = &mut self.left[key as usize];
        *left = left.saturating_sub(1);
        self.recency.push(key, *left);
        Some(u64::from(key))
    }
}

#[cfg(test)]
mod tests;
