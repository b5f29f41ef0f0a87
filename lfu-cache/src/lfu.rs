//! Frequency order, exact and aged, in O(1).
//!
//! A heap would order entries by count at O(log n) a hit. But a hit raises a count by one (or by a small constant),
//! so the entry's new place is next door: entries of equal count stand in one bucket, buckets stand in ascending
//! order in a list, and a hit moves an entry from its bucket to the next one, which is made if need be.
//!
//! ```text
//! buckets    1 ------> 2 ------> 5          count; the front bucket has the next victim
//!            |         |         |
//! entries    d         c         a          most recently moved here first
//!            e                   b
//!            f  <- victim                   least recently: ties go to the least recently used
//! ```
//!
//! # Source
//! K. Shah, A. Mitra, D. Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010. Ageing:
//! M. Arlitt, L. Cherkasova, J. Dilley, R. Friedrich, T. Jin, "Evaluating content management techniques for web
//! proxy caches", SIGMETRICS Performance Evaluation Review 27(4), 2000 (LFU with dynamic ageing); see [`Ageing`] for
//! how we differ.

use tenfold_cache_core::list::{Links, List};
use tenfold_cache_core::{Hit, Newcomer, Policy, Slot};

use crate::Ageing;

#[cfg(test)]
mod tests;

/// Evicts the entry that was used least often, and among equals the one used longest ago.
///
/// Counts are those of residents: an entry starts at one when it comes and is forgotten when it leaves. A
/// replacement counts as a hit. Counts are 64 bits wide and saturate, which no program will live to see.
///
/// [`Lfu::new`] is exact LFU. It never forgets: what was popular last week keeps its place against everything
/// that came since. That is right when popularity does not change, and ruinous when it does; [`Lfu::aged`] is the
/// one to choose for most loads. Figures are given at [`Ageing`].
///
/// # Invariants
/// - **I1** A tracked slot is in exactly one bucket, the one that its data names.
/// - **I2** Buckets stand in strictly ascending order of count, and none of them is empty.
/// - **I3** In a bucket, entries stand in the order in which they came to that count, latest first.
/// - **I4** Every bucket ever made is either in order or spare.
/// - **I5** With ageing, every count is at least the age and at most the age plus `max_lead`. Without, the age
///   is 0.
/// - **I6** `len` is the sum of the buckets' lengths.
///
/// # Complexity
/// O(1) each, but for the growth of tables: a hit that leads to a count for which there is no spare bucket may double the
/// table of buckets, O(1) amortised. 12 bytes an entry and 32 bytes a distinct count. With ageing there are never more
/// distinct counts than `max_lead` plus one. Without, k distinct counts need k² / 2 hits to arise.
///
/// # Examples
/// ```
/// use tenfold_lfu_cache::{Ageing, Lfu, LfuCache};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: LfuCache<u32, &str> = LfuCache::builder().capacity(1_000).policy(Lfu::aged(Ageing::default())).build()?;
/// cache.insert(1, "one");
/// assert_eq!(cache.get(&1), Some("one"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Lfu {
    /// Beside each entry: the index of its bucket.
    entries: Links<u32>,
    /// Buckets, by index; an index stands in a `Slot` to be linked.
    buckets: Links<Bucket>,
    /// Buckets in use, lowest count first.
    order: List,
    /// Buckets without entries, to be used again.
    spare: List,
    /// How many buckets were ever made.
    made: u32,
    len: usize,
    ageing: Option<Ageing>,
    age: u64,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    count: u64,
    entries: List,
}

impl Lfu {
    /// Exact LFU, which tracks nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// LFU that forgets by degrees, as `ageing` says.
    #[must_use]
    pub fn aged(ageing: Ageing) -> Self {
        Self { ageing: Some(ageing), ..Self::default() }
    }

    fn count(&self, bucket: Slot) -> u64 {
        self.buckets.data(bucket).count
    }

    /// The bucket that stands before any with a larger count than `count`, looked for from `from` on; no bucket if
    /// the first one there is larger. Steps over as many buckets as counts lie between, at most `hit_worth`.
    fn last_up_to(&self, count: u64, from: Option<Slot>) -> Option<Slot> {
        let mut last = from;
        loop {
            let next = last.map_or_else(|| self.order.front(), |bucket| self.buckets.next(bucket));
            match next {
                Some(bucket) if self.count(bucket) <= count => last = Some(bucket),
                _ => return last,
            }
        }
    }

    /// The bucket of this count, made if there is none. All buckets up to `from` must have smaller counts.
    fn bucket(&mut self, count: u64, from: Option<Slot>) -> Slot {
        let place = self.last_up_to(count, from);
        match place {
            Some(bucket) if self.count(bucket) == count => return bucket,
            _ => {}
        }
        let bucket = self.spare.pop_back(&mut self.buckets).unwrap_or_else(|| {
            self.made += 1;
            Slot::new(self.made - 1)
        });
        match place {
            Some(place) => self.order.insert_after(&mut self.buckets, place, bucket),
            None => self.order.push_front(&mut self.buckets, bucket),
        }
        self.buckets.data_mut(bucket).count = count;
        bucket
    }

    fn link(&mut self, slot: Slot, bucket: Slot) {
        self.buckets.data_mut(bucket).entries.push_front(&mut self.entries, slot);
        *self.entries.data_mut(slot) = bucket.get();
    }

    fn bucket_of(&self, slot: Slot) -> Slot {
        Slot::new(*self.entries.data(slot))
    }

    /// Puts the bucket aside if its last entry has left.
    fn retire_if_empty(&mut self, bucket: Slot) {
        if self.buckets.data(bucket).entries.is_empty() {
            self.order.remove(&mut self.buckets, bucket);
            self.spare.push_back(&mut self.buckets, bucket);
        }
    }

    /// The count that an entry of this count has after a hit.
    fn raised(&self, count: u64) -> u64 {
        match &self.ageing {
            None => count.saturating_add(1),
            Some(ageing) => {
                let limit = self.age.saturating_add(u64::from(ageing.max_lead));
                count.saturating_add(u64::from(ageing.hit_worth)).min(limit)
            }
        }
    }
}

impl Policy for Lfu {
    const HIT: Hit = Hit::Exclusive;

    fn insert(&mut self, slot: Slot, _: Newcomer) {
        // No count is below the age, so at most two buckets are looked at.
        let bucket = self.bucket(self.age.saturating_add(1), None);
        self.link(slot, bucket);
        self.len += 1;
    }

    fn hit(&mut self, slot: Slot) {
        let old = self.bucket_of(slot);
        let count = self.count(old);
        let raised = self.raised(count);
        let data = self.buckets.data_mut(old);
        if raised == count {
            data.entries.move_to_front(&mut self.entries, slot);
            return;
        }
        let alone = data.entries.len() == 1;
        let next = self.buckets.next(old);
        if alone && next.is_none_or(|next| self.count(next) > raised) {
            // Nobody stands in between: the bucket itself takes the new count.
            self.buckets.data_mut(old).count = raised;
            return;
        }
        let new = self.bucket(raised, Some(old));
        self.buckets.data_mut(old).entries.remove(&mut self.entries, slot);
        self.link(slot, new);
        self.retire_if_empty(old);
    }

    fn remove(&mut self, slot: Slot) {
        let bucket = self.bucket_of(slot);
        let Bucket { count, entries } = self.buckets.data_mut(bucket);
        let was_next_victim = self.order.front() == Some(bucket) && entries.back() == Some(slot);
        if was_next_victim && self.ageing.is_some() {
            self.age = *count;
        }
        entries.remove(&mut self.entries, slot);
        self.retire_if_empty(bucket);
        self.len -= 1;
    }

    #[inline]
    fn victim(&mut self) -> Option<Slot> {
        self.buckets.data(self.order.front()?).entries.back()
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.buckets.clear();
        (self.order, self.spare, self.made) = (List::new(), List::new(), 0);
        (self.len, self.age) = (0, 0);
    }

    fn order(&self) -> Vec<Slot> {
        let buckets = self.order.iter(&self.buckets);
        buckets.flat_map(|bucket| self.buckets.data(bucket).entries.iter(&self.entries).rev()).collect()
    }

    fn check_invariants(&self) {
        self.order.check_invariants(&self.buckets);
        self.spare.check_invariants(&self.buckets);
        assert_eq!(self.order.len() + self.spare.len(), self.made as usize, "I4: buckets in order and spare");
        let (mut len, mut before) = (0, None);
        for bucket in self.order.iter(&self.buckets) {
            let Bucket { count, entries } = self.buckets.data(bucket);
            entries.check_invariants(&self.entries);
            assert!(!entries.is_empty(), "I2: the bucket of count {count} is empty");
            assert!(before < Some(*count), "I2: count {count} follows {before:?}");
            for slot in entries.iter(&self.entries) {
                assert_eq!(self.bucket_of(slot), bucket, "I1: the bucket that {slot:?} names");
            }
            let lead = self.ageing.as_ref().map_or(u64::MAX, |ageing| u64::from(ageing.max_lead));
            assert!(*count >= self.age, "I5: count {count} is below the age {}", self.age);
            assert!(*count - self.age <= lead, "I5: count {count} leads the age {} too far", self.age);
            (len, before) = (len + entries.len(), Some(*count));
        }
        assert_eq!(len, self.len, "I6: entries in buckets");
        assert!(self.ageing.is_some() || self.age == 0, "I5: age {} without ageing", self.age);
    }
}
