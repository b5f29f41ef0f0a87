//! How heavy an entry is.

use std::sync::Arc;

/// Tells the weight of an entry in the units in which the capacity is given.
///
/// Asked once for each value that enters, outside all locks. Any closure from `(&K, &V)` to `u64` is a weigher. A
/// weight of 0 counts as 1, or entries without weight could fill the memory. The compiler wants the types of a closure's
/// arguments written out: `|key: &String, value: &Vec<u8>| (key.len() + value.len()) as u64`.
///
/// A weigher should saturate rather than overflow: an entry heavier than the capacity is refused and handed back,
/// whereas a panic in a weigher reaches the caller of the insertion, with the cache unchanged.
pub trait Weigher<K, V>: Send + Sync {
    /// The entry's weight.
    fn weigh(&self, key: &K, value: &V) -> u64;
}

impl<K, V, F: Fn(&K, &V) -> u64 + Send + Sync> Weigher<K, V> for F {
    fn weigh(&self, key: &K, value: &V) -> u64 {
        self(key, value)
    }
}

pub(crate) type DynWeigher<K, V> = Arc<dyn Weigher<K, V> + 'static>;
