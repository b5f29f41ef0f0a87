//! From settings to a cache.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Budget;
use crate::clock::{Clock, Timeline};
use crate::config::{Config, ConfigError};
use crate::expire::{ExpiryFn, Lifetimes};
use crate::removal::{Listener, RemovalCause};
use crate::rules::Rules;
use crate::sync::atomic::AtomicBool;
use crate::weigh::{DynWeigher, Weigher};
use crate::{Cache, DefaultHashBuilder, Policy, unsync};

/// Sets up a cache: [`Config`] for what is data, methods for what is code, and one check at the end.
///
/// Each method that names a `Config` field sets that field; the field's documentation gives default, unit and range.
pub struct Builder<K, V, P, S = DefaultHashBuilder> {
    config: Config,
    policy: P,
    hasher: S,
    weigher: Option<DynWeigher<K, V>>,
    expiry: Option<ExpiryFn<K, V>>,
    listener: Option<Listener<K, V>>,
    clock: Option<Arc<dyn Clock>>,
    seed: Option<u64>,
    entry: PhantomData<fn(K, V)>,
}

impl<K, V, P: Policy + Default> Default for Builder<K, V, P> {
    fn default() -> Self {
        Self::with_policy(P::default())
    }
}

impl<K, V, P: Policy> Builder<K, V, P> {
    /// Sets up a cache with a policy that has no default.
    #[must_use]
    pub fn with_policy(policy: P) -> Self {
        Self {
            config: Config::default(),
            policy,
            hasher: DefaultHashBuilder::default(),
            weigher: None,
            expiry: None,
            listener: None,
            clock: None,
            seed: None,
            entry: PhantomData,
        }
    }
}

/// Setters of optional durations, named as their fields.
macro_rules! durations {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, duration: Duration) -> Self {
            self.config.$field = duration.into();
            self
        }
    )*};
}

/// Setters of numbers, named as their fields.
macro_rules! numbers {
    ($($(#[$doc:meta])* $field:ident: $type:ty),* $(,)?) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, $field: $type) -> Self {
            self.config.$field = $field.into();
            self
        }
    )*};
}

impl<K, V, P: Policy, S> Builder<K, V, P, S> {
    /// Takes all the data at once; later calls change single fields.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    numbers! {
        /// Sets [`Config::capacity`]: entries, or units of weight.
        capacity: u64,
        /// Sets [`Config::shards`], the number of independently locked parts.
        shards: usize,
        /// Sets [`Config::time_to_live_jitter_percent`], from 0 to 100.
        time_to_live_jitter_percent: u8,
        /// Sets [`Config::max_refreshes`], how many may run at once.
        max_refreshes: usize,
        /// Sets [`Config::negative_capacity`], a count of keys.
        negative_capacity: usize,
        /// Sets [`Config::max_leases`], how many may be outstanding.
        max_leases: usize,
    }

    durations! {
        /// Sets [`Config::time_to_live`].
        time_to_live,
        /// Sets [`Config::time_to_idle`].
        time_to_idle,
        /// Sets [`Config::refresh_after`].
        refresh_after,
        /// Sets [`Config::stale_if_error`].
        stale_if_error,
        /// Sets [`Config::negative_time_to_live`].
        negative_time_to_live,
        /// Sets [`Config::lease_timeout`].
        lease_timeout,
        /// Sets [`Config::load_timeout`].
        load_timeout,
    }

    /// Weighs entries; the capacity is then in the weigher's units. By default each entry weighs 1.
    #[must_use]
    pub fn weigher(mut self, weigher: impl Weigher<K, V> + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Gives each entry a time to live of its own when it is written; `None` leaves the cache-wide one. No jitter is
    /// applied to it. Called outside locks.
    #[must_use]
    pub fn expiry(mut self, expiry: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.expiry = Some(Arc::new(expiry));
        self
    }

    /// Tells this closure of each entry that has left, and why: after the fact, outside locks, on the thread that caused it. It
    /// may call the cache. If it panics, the panic reaches that thread; the cache stays sound, but the rest of that
    /// call's removals goes untold.
    #[must_use]
    pub fn listener(mut self, listener: impl Fn(&K, &V, RemovalCause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Reads the time here instead of from the operating system. Threads that wait for a load count `load_timeout` in real
    /// time all the same.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Seeds the jitter. By default the hasher's seed is used, which the operating system gives.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Uses this policy, each shard a clone of it.
    #[must_use]
    pub fn policy(mut self, policy: P) -> Self {
        self.policy = policy;
        self
    }

    /// Hashes keys with this instead of foldhash. Keys chosen by an adversary want a keyed hash such as std's
    /// `RandomState`.
    #[must_use]
    pub fn hasher<T>(self, hasher: T) -> Builder<K, V, P, T> {
        Builder {
            config: self.config,
            policy: self.policy,
            hasher,
            weigher: self.weigher,
            expiry: self.expiry,
            listener: self.listener,
            clock: self.clock,
            seed: self.seed,
            entry: PhantomData,
        }
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Builder<K, V, P, S> {
    /// Makes a cache that threads and tasks share.
    ///
    /// # Errors
    /// [`ConfigError`], if a value is out of its range.
    pub fn build(self) -> Result<Cache<K, V, P, S>, ConfigError> {
        self.config.check()?;
        let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = self.config.shard_count(parallelism, self.weigher.is_some());
        let (policy, rules) = self.rules(shards);
        Ok(Cache::from_rules(&policy, rules, shards))
    }

    /// Makes the single-threaded twin.
    ///
    /// # Errors
    /// [`ConfigError`], if a value is out of its range.
    pub fn build_unsync(self) -> Result<unsync::Cache<K, V, P, S>, ConfigError> {
        self.config.check()?;
        let (policy, rules) = self.rules(1);
        Ok(unsync::Cache::from_rules(policy, rules))
    }

    /// What follows from a configuration that has been checked.
    fn rules(self, shards: usize) -> (P, Rules<K, V, S>) {
        let lifetimes = Lifetimes::new(&self.config);
        let per_shard = self.config.capacity / shards as u64;
        let rules = Rules {
            lifetimes,
            budget: Budget::new(self.config.capacity),
            timeline: Timeline::new(self.clock),
            seed: self.seed.unwrap_or_else(|| self.hasher.hash_one(0_u64)),
            expected_per_shard: match self.weigher {
                // A little above the mean, since keys do not spread evenly.
                None => usize::try_from(per_shard.saturating_add(per_shard / 32)).unwrap_or(usize::MAX),
                Some(_) => 0,
            },
            absences_per_shard: self.config.negative_capacity.div_ceil(shards),
            timed: AtomicBool::new(lifetimes.any() || self.expiry.is_some()),
            hasher: self.hasher,
            config: self.config,
            weigher: self.weigher,
            expiry: self.expiry,
            listener: self.listener,
        };
        (self.policy, rules)
    }
}

impl<K, V, P: Policy + fmt::Debug, S> fmt::Debug for Builder<K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).field("policy", &self.policy).finish_non_exhaustive()
    }
}
