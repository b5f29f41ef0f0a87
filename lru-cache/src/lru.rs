//! Recency order.

use tenfold_cache_core::list::{Links, List};
use tenfold_cache_core::{Hit, Newcomer, Policy, Slot};

#[cfg(test)]
mod tests;

/// Evicts the entry that was used longest ago.
///
/// An insertion, a hit and a replacement are uses. The order is exact within a shard.
///
/// # Complexity
/// A constant number of steps each; 8 bytes an entry.
#[derive(Clone, Debug, Default)]
pub struct Lru {
    /// Most recently used first.
    order: List,
    links: Links,
}

impl Lru {
    /// An order that tracks nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { order: List::new(), links: Links::new() }
    }
}

impl Policy for Lru {
    const HIT: Hit = Hit::Exclusive;

    #[inline]
    fn insert(&mut self, slot: Slot, _: Newcomer) {
        self.order.push_front(&mut self.links, slot);
    }

    #[inline]
    fn hit(&mut self, slot: Slot) {
        self.order.move_to_front(&mut self.links, slot);
    }

    #[inline]
    fn remove(&mut self, slot: Slot) {
        self.order.remove(&mut self.links, slot);
    }

    #[inline]
    fn victim(&mut self) -> Option<Slot> {
        self.order.back()
    }

    #[inline]
    fn len(&self) -> usize {
        self.order.len()
    }

    fn clear(&mut self) {
        self.order = List::new();
        self.links.clear();
    }

    fn order(&self) -> Vec<Slot> {
        self.order.iter(&self.links).rev().collect()
    }

    fn check_invariants(&self) {
        self.order.check_invariants(&self.links);
    }
}
