//! The two faces of the engine, as one.

use std::time::{Duration, Instant};

use tenfold_cache_core::{Cache, Change, InsertError, Policy, StatsSnapshot, unsync};

use crate::oracle::Value;

/// What the two faces of the engine have in common.
pub(crate) trait Subject {
    fn get(&mut self, key: u64) -> Option<Value>;
    fn peek(&self, key: u64) -> Option<Value>;
    fn contains(&self, key: u64) -> bool;
    fn time_left(&self, key: u64) -> Option<Duration>;
    fn insert(&mut self, key: u64, value: Value) -> Option<Value>;
    fn insert_with_ttl(&mut self, key: u64, value: Value, time_to_live: Duration) -> Option<Value>;
    fn try_insert(&mut self, key: u64, value: Value) -> Result<Option<Value>, InsertError<u64, Value>>;
    fn remove(&mut self, key: u64) -> Option<Value>;
    /// Also says whether a refused value is told to the listener, and is returned.
    fn compute(&mut self, key: u64, decide: &mut dyn FnMut(Option<&Value>) -> Change<Value>) -> Option<Value>;
    const COMPUTE_RETURNS_REFUSED: bool;
    /// `None` where the face has no such operation.
    fn update(&mut self, key: u64, value: Value) -> Option<bool>;
    #[allow(clippy::option_option, reason = "the outer one says whether there is such an operation")]
    fn pop_victim(&mut self) -> Option<Option<(u64, Value)>>;
    fn pin(&mut self, key: u64) -> bool;
    fn unpin(&mut self, key: u64) -> bool;
    fn resize(&mut self, capacity: u64);
    fn clear(&mut self);
    fn retain(&mut self, keep: &dyn Fn(u64) -> bool);
    const RETAIN_COLLECTS: bool;
    fn collect_expired(&mut self) -> usize;
    fn contents(&self) -> Vec<(u64, Value)>;
    fn eviction_order(&self) -> Vec<u64>;
    const ORDER_HAS_EXPIRED: bool;
    fn len(&self) -> usize;
    fn weight(&self) -> u64;
    fn stats(&self) -> StatsSnapshot;
    fn next_expiry(&self) -> Option<Instant>;
    fn check_invariants(&self);
}

/// The operations that read alike in both faces.
macro_rules! common {
    () => {
        fn contains(&self, key: u64) -> bool {
            self.contains(&key)
        }
        fn time_left(&self, key: u64) -> Option<Duration> {
            self.time_left(&key)
        }
        fn insert(&mut self, key: u64, value: Value) -> Option<Value> {
            Self::insert(self, key, value)
        }
        fn insert_with_ttl(&mut self, key: u64, value: Value, time_to_live: Duration) -> Option<Value> {
            Self::insert_with_ttl(self, key, value, time_to_live)
        }
        fn try_insert(&mut self, key: u64, value: Value) -> Result<Option<Value>, InsertError<u64, Value>> {
            Self::try_insert(self, key, value)
        }
        fn remove(&mut self, key: u64) -> Option<Value> {
            Self::remove(self, &key)
        }
        fn pin(&mut self, key: u64) -> bool {
            Self::pin(self, &key)
        }
        fn unpin(&mut self, key: u64) -> bool {
            Self::unpin(self, &key)
        }
        fn resize(&mut self, capacity: u64) {
            Self::resize(self, capacity);
        }
        fn clear(&mut self) {
            Self::clear(self);
        }
        fn retain(&mut self, keep: &dyn Fn(u64) -> bool) {
            Self::retain(self, |&key, _| keep(key));
        }
        fn collect_expired(&mut self) -> usize {
            Self::collect_expired(self)
        }
        fn len(&self) -> usize {
            assert_eq!(self.is_empty(), self.len() == 0);
            self.len()
        }
        fn weight(&self) -> u64 {
            self.weight()
        }
        fn stats(&self) -> StatsSnapshot {
            self.stats()
        }
        fn next_expiry(&self) -> Option<Instant> {
            self.next_expiry()
        }
        fn check_invariants(&self) {
            self.check_invariants();
        }
    };
}

impl<P: Policy> Subject for unsync::Cache<u64, Value, P> {
    common!();
    const COMPUTE_RETURNS_REFUSED: bool = false;
    const RETAIN_COLLECTS: bool = true;
    const ORDER_HAS_EXPIRED: bool = false;

    fn get(&mut self, key: u64) -> Option<Value> {
        Self::get(self, &key).cloned()
    }
    fn peek(&self, key: u64) -> Option<Value> {
        self.peek(&key).cloned()
    }
    fn compute(&mut self, key: u64, decide: &mut dyn FnMut(Option<&Value>) -> Change<Value>) -> Option<Value> {
        Self::compute(self, key, decide).cloned()
    }
    fn update(&mut self, key: u64, value: Value) -> Option<bool> {
        Some(Self::update(self, &key, |present| *present = value).is_some())
    }
    fn pop_victim(&mut self) -> Option<Option<(u64, Value)>> {
        Some(Self::pop_victim(self))
    }
    fn contents(&self) -> Vec<(u64, Value)> {
        self.iter().map(|(&key, value)| (key, value.clone())).collect()
    }
    fn eviction_order(&self) -> Vec<u64> {
        self.iter_by_eviction().map(|(&key, _)| key).collect()
    }
}

impl<P: Policy> Subject for Cache<u64, Value, P> {
    common!();
    const COMPUTE_RETURNS_REFUSED: bool = true;
    const RETAIN_COLLECTS: bool = false;
    const ORDER_HAS_EXPIRED: bool = true;

    fn get(&mut self, key: u64) -> Option<Value> {
        Self::get(self, &key)
    }
    fn peek(&self, key: u64) -> Option<Value> {
        self.peek(&key)
    }
    fn compute(&mut self, key: u64, decide: &mut dyn FnMut(Option<&Value>) -> Change<Value>) -> Option<Value> {
        self.entry(key).and_compute(decide)
    }
    fn update(&mut self, _: u64, _: Value) -> Option<bool> {
        None
    }
    fn pop_victim(&mut self) -> Option<Option<(u64, Value)>> {
        None
    }
    fn contents(&self) -> Vec<(u64, Value)> {
        self.iter().collect()
    }
    fn eviction_order(&self) -> Vec<u64> {
        self.eviction_order().concat()
    }
}
