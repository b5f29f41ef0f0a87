//! Insertion order.

use tenfold_cache_core::list::{Links, List};
use tenfold_cache_core::{Hit, Newcomer, Policy, Slot};

#[cfg(test)]
mod tests;

/// Evicts the entry that came first, however often it was used.
///
/// A hit changes nothing, so hits need no exclusive access; a replaced value keeps its entry's place.
///
/// # Complexity
/// A constant number of steps each, none for a hit; 8 bytes an entry.
#[derive(Clone, Debug, Default)]
pub struct Fifo {
    /// Newest first.
    order: List,
    links: Links,
}

impl Fifo {
    /// An order that tracks nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { order: List::new(), links: Links::new() }
    }
}

impl Policy for Fifo {
    const HIT: Hit = Hit::Ignored;

    #[inline]
    fn insert(&mut self, slot: Slot, _: Newcomer) {
        self.order.push_front(&mut self.links, slot);
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
