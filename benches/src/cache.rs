//! What the harness asks of a cache, and the batches of operations that it times.
//!
//! A virtual call costs as much as a hit in the fastest caches here, so that the boundary lies around a *batch*: the loops
//! below are compiled once for each cache, and only the choice of the loop is dynamic.

/// A cache from `u64` to `u64` driven by one thread.
pub trait Cache {
    /// Looks `key` up, counting as a use.
    fn get(&mut self, key: u64) -> Option<u64>;

    /// Stores a value, evicting another entry if the cache is full.
    fn insert(&mut self, key: u64, value: u64);

    /// Counts the entries held, after any work the cache had put off.
    fn held(&mut self) -> usize;
}

/// A cache from `u64` to `u64` that threads may share.
pub trait SharedCache: Send + Sync {
    /// Looks `key` up, counting as a use.
    fn get(&self, key: u64) -> Option<u64>;

    /// Stores a value, evicting another entry if the cache is full.
    fn insert(&self, key: u64, value: u64);

    /// Counts the entries held, after any work the cache had put off.
    fn held(&self) -> usize;
}

impl<C: SharedCache> Cache for &C {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        SharedCache::get(*self, key)
    }

    #[inline]
    fn insert(&mut self, key: u64, value: u64) {
        SharedCache::insert(*self, key, value);
    }

    fn held(&mut self) -> usize {
        SharedCache::held(*self)
    }
}

/// The value that belongs to `key` in every measurement, so that a wrong answer shows.
#[inline]
#[must_use]
pub fn value_of(key: u64) -> u64 {
    key ^ 0x5bd1_e995_9e37_79b9
}

/// What a batch of operations found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Look-ups made.
    pub gets: u64,
    /// Look-ups answered.
    pub hits: u64,
    /// Answers whose value does not belong to the key asked for. Anything but 0 is a broken cache.
    pub wrong: u64,
}

impl Tally {
    /// Adds the counts of another batch.
    pub fn add(&mut self, other: Self) {
        self.gets += other.gets;
        self.hits += other.hits;
        self.wrong += other.wrong;
    }

    #[inline]
    fn note(&mut self, key: u64, found: Option<u64>) -> bool {
        self.gets += 1;
        let Some(value) = found else { return false };
        self.hits += 1;
        self.wrong += u64::from(value != value_of(key));
        true
    }
}

/// The batches a measurement is made of. Implemented for every [`Cache`].
pub trait Batches {
    /// Inserts each key in order.
    fn fill(&mut self, keys: &[u64]);

    /// Looks each key up.
    fn gets(&mut self, keys: &[u64]) -> Tally;

    /// Looks keys up and inserts every `insert_every`-th instead; a miss is not filled.
    fn mix(&mut self, keys: &[u64], insert_every: usize) -> Tally;

    /// Looks each key up and inserts it on a miss.
    fn read_through(&mut self, keys: &[u64]) -> Tally;

    /// Tells which keys are answered.
    fn resident(&mut self, keys: &[u64]) -> Vec<bool>;

    /// Counts the entries held, after any work the cache had put off.
    fn entry_count(&mut self) -> usize;
}

impl<C: Cache> Batches for C {
    fn fill(&mut self, keys: &[u64]) {
        for &key in keys {
            self.insert(key, value_of(key));
        }
    }

    fn gets(&mut self, keys: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for &key in keys {
            let found = self.get(key);
            tally.note(key, found);
        }
        tally
    }

    fn mix(&mut self, keys: &[u64], insert_every: usize) -> Tally {
        let mut tally = Tally::default();
        for run in keys.chunks(insert_every) {
            let Some((&last, reads)) = run.split_last() else {
                break;
            };
            for &key in reads {
                let found = self.get(key);
                tally.note(key, found);
            }
            self.insert(last, value_of(last));
        }
        tally
    }

    fn read_through(&mut self, keys: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for &key in keys {
            let found = self.get(key);
            if !tally.note(key, found) {
                self.insert(key, value_of(key));
            }
        }
        tally
    }

    fn resident(&mut self, keys: &[u64]) -> Vec<bool> {
        keys.iter().map(|&key| self.get(key).is_some()).collect()
    }

    fn entry_count(&mut self) -> usize {
        self.held()
    }
}

/// A cache that can hand each thread its own [`Batches`]. Implemented for every [`SharedCache`].
pub trait Shared: Send + Sync {
    /// Opens a handle for one thread.
    fn handle(&self) -> Box<dyn Batches + '_>;
}

impl<C: SharedCache> Shared for C {
    fn handle(&self) -> Box<dyn Batches + '_> {
        Box::new(self)
    }
}

/// A cache that has been built, ready to be driven.
pub enum Built {
    /// For one thread.
    Local(Box<dyn Batches>),
    /// For any number of threads.
    Shared(Box<dyn Shared>),
}

impl Built {
    /// Wraps a cache for one thread.
    pub fn local(cache: impl Cache + 'static) -> Self {
        Self::Local(Box::new(cache))
    }

    /// Wraps a cache that threads may share.
    pub fn shared(cache: impl SharedCache + 'static) -> Self {
        Self::Shared(Box::new(cache))
    }

    /// Runs `job` on the calling thread.
    pub fn drive<T>(&mut self, job: impl FnOnce(&mut dyn Batches) -> T) -> T {
        match self {
            Self::Local(batches) => job(batches.as_mut()),
            Self::Shared(shared) => job(shared.handle().as_mut()),
        }
    }
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Local(_) => "Built::Local",
            Self::Shared(_) => "Built::Shared",
        })
    }
}
