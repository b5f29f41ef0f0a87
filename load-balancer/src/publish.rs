//! A value that is read all the time and replaced now and then.
//!
//! Readers keep an `Arc` of their own and compare one word, the generation, before each use. The word lies in a cache
//! line that only a publication writes, so a read costs one load from the reader's own cache, whatever the number of
//! readers: an order of magnitude less than any scheme in which reading takes part in counting references.
//!
//! | writer | reader |
//! |---|---|
//! | lock, put the new `Arc` in place, generation + 1 (Release), unlock | load the generation (Acquire); same as mine? use my `Arc` |
//! | | otherwise lock, clone the `Arc`, note the generation, unlock |
//!
//! # Invariants
//! - **P1** A reader that sees generation `g` uses a value at least as new as publication `g`.
//! - **P2** A reader's values never go back in time.

use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// The writer's side, shared by all.
pub(crate) struct Published<V> {
    generation: AtomicU64,
    current: Mutex<Arc<V>>,
}

impl<V> Published<V> {
    pub(crate) fn new(value: V) -> Self {
        Self { generation: AtomicU64::new(0), current: Mutex::new(Arc::new(value)) }
    }

    /// Replaces the value; readers see it at their next use. What it was comes back, to be dropped where no lock is held:
    /// what the host keeps beside a backend may go with it.
    #[must_use = "it is dropped once no lock is held"]
    pub(crate) fn publish(&self, value: V) -> Arc<V> {
        let value = Arc::new(value);
        let mut current = self.current.lock();
        let old = std::mem::replace(&mut *current, value);
        // Ordering: a reader that sees this generation finds at least this value behind the lock (P1); writers
        // are kept apart by the lock, so no count is lost.
        self.generation.fetch_add(1, Ordering::Release);
        old
    }

    /// A reader that is up to date.
    pub(crate) fn reader(&self) -> Reader<V> {
        let current = self.current.lock();
        Reader { generation: self.generation.load(Ordering::Relaxed), value: Arc::clone(&current) }
    }
}

/// A reader's own copy.
pub(crate) struct Reader<V> {
    generation: u64,
    value: Arc<V>,
}

impl<V> Reader<V> {
    /// The value as it is now.
    #[inline]
    pub(crate) fn read(&mut self, published: &Published<V>) -> &V {
        // Ordering: pairs with the publication's Release, so that the lock below is not even needed to see the value.
        if published.generation.load(Ordering::Acquire) != self.generation {
            drop(self.renew(published));
        }
        &self.value
    }

    /// Brings it up to date. What it read until then comes back if that is old, to be dropped where no lock is held.
    #[inline]
    #[must_use = "it is dropped once no lock is held"]
    pub(crate) fn renew_if_old(&mut self, published: &Published<V>) -> Option<Arc<V>> {
        let is_old = published.generation.load(Ordering::Acquire) != self.generation;
        if is_old { Some(self.renew(published)) } else { None }
    }

    /// The value as of the last renewal.
    #[inline]
    pub(crate) fn value(&self) -> &V {
        &self.value
    }

    #[cold]
    fn renew(&mut self, published: &Published<V>) -> Arc<V> {
        std::mem::replace(self, published.reader()).value
    }
}

impl<V> Clone for Reader<V> {
    fn clone(&self) -> Self {
        Self { generation: self.generation, value: Arc::clone(&self.value) }
    }
}

#[cfg(all(test, not(tenfold_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reader_follows() {
        let published = Published::new(1);
        let mut reader = published.reader();
        let mut copy = reader.clone();
        assert_eq!(*reader.read(&published), 1);
        assert_eq!(*published.publish(2), 1);
        assert_eq!(*published.publish(3), 2);
        assert_eq!(copy.renew_if_old(&published).as_deref(), Some(&1));
        assert_eq!(copy.renew_if_old(&published), None);
        assert_eq!((*reader.read(&published), *copy.read(&published)), (3, 3));
    }
}

#[cfg(all(test, tenfold_loom))]
mod loom_tests {
    use super::*;

    /// P1 and P2 in every interleaving (of up to three preemptions) of two publications with two readers.
    #[test]
    fn loom_readers_never_go_back_and_never_lag_a_generation() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let published = Arc::new(Published::new(0_u64));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let published = Arc::clone(&published);
                    loom::thread::spawn(move || {
                        let mut reader = published.reader();
                        let first = *reader.read(&published);
                        let generation = published.generation.load(Ordering::Acquire);
                        let second = *reader.read(&published);
                        assert!(second >= generation, "P1: generation {generation} with value {second}");
                        assert!(second >= first, "P2: {second} after {first}");
                    })
                })
                .collect();
            drop(published.publish(1));
            drop(published.publish(2));
            for reader in readers {
                reader.join().unwrap();
            }
            assert_eq!(*published.reader().value, 2);
        });
    }
}
