//! The whole cache beside a naive [`Oracle`]: random operations from a seed, and after every step the same answers,
//! contents, eviction order, removals, statistics and sound invariants.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tenfold_cache_core::testing::{Rng, for_each_seed, steps};
use tenfold_cache_core::{Builder, Cache, Change, Clock, InsertError, ManualClock, Policy, RemovalCause};

use crate::oracle::{NEVER, Oracle, Order, Refusal, Settings, Told, Value};
use crate::recency::{VecCounts, VecFifo, VecLru};
use crate::subject::Subject;

const KEYS: u64 = 24;

/// Times to live that come with an entry.
const TIMES: &[u64] = &[0, 1, 10, 35, 100, NEVER - 1, NEVER];

/// Caches of each kind a seed.
const PARTS: u64 = if cfg!(miri) { 1 } else { 3 };

/// A cache, its oracle, and what they share.
struct Run<T> {
    cache: T,
    oracle: Oracle,
    clock: ManualClock,
    start: Instant,
    told: Arc<Mutex<Vec<Told>>>,
    rng: Rng,
    next_id: u64,
    /// The steps so far, by the numbers that chose them.
    steps: Vec<(u64, u64)>,
}

/// Says what came before a failure.
impl<T> Drop for Run<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.steps.len().saturating_sub(5);
            eprintln!("{:?}\nthe last steps (operation, key): {:?}", self.oracle, &self.steps[last..]);
        }
    }
}

fn order_of<P: Policy>() -> Order {
    match P::HIT {
        tenfold_cache_core::Hit::Exclusive => Order::Recency,
        tenfold_cache_core::Hit::Ignored => Order::Insertion,
        tenfold_cache_core::Hit::Shared => Order::Hits,
    }
}

/// One of the few durations, or none, with this probability in per cent.
fn maybe(rng: &mut Rng, per_cent: u64, of: &[u64]) -> Option<u64> {
    rng.chance(per_cent, 100).then(|| of[rng.below(of.len() as u64) as usize])
}

impl<T: Subject> Run<T> {
    fn new<P: Policy + Default>(seed: u64, build: impl FnOnce(Builder<u64, Value, P>) -> T) -> Self {
        let mut rng = Rng::new(seed);
        let settings = Settings {
            order: order_of::<P>(),
            weighed: rng.chance(1, 2),
            expiry: rng.chance(1, 4),
            time_to_live: maybe(&mut rng, 50, &[1, 40, 150, NEVER]).unwrap_or(NEVER),
            time_to_idle: maybe(&mut rng, 30, &[2, 30, 90, NEVER - 1]).unwrap_or(NEVER),
            grace: maybe(&mut rng, 30, &[1, 25, 200, NEVER]).unwrap_or(0),
        };
        let capacity = some_capacity(&mut rng);
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let log = Arc::clone(&told);
        let clock = ManualClock::new();
        let mut builder = Builder::<u64, Value, P>::default()
            .capacity(capacity)
            .shards(1)
            .clock(clock.clone())
            .listener(move |&key, value: &Value, cause| log.lock().unwrap().push((key, value.id, cause)));
        if settings.weighed {
            builder = builder.weigher(|_: &u64, value: &Value| value.weight);
        }
        if settings.expiry {
            builder = builder.expiry(|_, value| value.time_to_live.map(duration));
        }
        if settings.time_to_live != NEVER {
            builder = builder.time_to_live(duration(settings.time_to_live));
        }
        if settings.time_to_idle != NEVER {
            builder = builder.time_to_idle(duration(settings.time_to_idle));
        }
        if settings.grace != 0 {
            builder = builder.stale_if_error(duration(settings.grace));
        }
        let (oracle, start) = (Oracle::new(settings, capacity), clock.now());
        Self { cache: build(builder), oracle, clock, start, told, rng, next_id: 0, steps: Vec::new() }
    }

    fn some_key(&mut self) -> u64 {
        let bound = self.rng.below(KEYS) + 1;
        self.rng.below(bound)
    }

    fn some_value(&mut self) -> Value {
        self.next_id += 1;
        let weights = [0, 1, 1, 1, 2, 2, 3, 5, 9, self.oracle.capacity, self.oracle.capacity.saturating_add(1), NEVER];
        // Mostly light ones, lest the cache is always almost empty.
        let bound = if self.rng.chance(1, 12) { weights.len() } else { 8 };
        let weight = weights[self.rng.below(bound as u64) as usize];
        let time_to_live = maybe(&mut self.rng, 50, &[0, 1, 20, 60, 300, NEVER - 1, NEVER]);
        Value { id: self.next_id, weight, time_to_live }
    }

    /// One operation on both, whose answers must be the same.
    fn step(&mut self) {
        let (operation, key) = (self.rng.below(100), self.some_key());
        self.steps.push((operation, key));
        match operation {
            0..22 => {
                let found = self.cache.get(key);
                assert_eq!(found, self.oracle.get(key), "get {key}");
            }
            22..25 => assert_eq!(self.cache.peek(key), self.oracle.peek(key), "peek {key}"),
            25..50 => {
                let value = self.some_value();
                let old = self.cache.insert(key, value.clone());
                self.hear();
                assert_eq!(old, self.oracle.insert(key, value, None), "insert {key}");
            }
            50..55 => self.try_insert(key),
            55..60 => {
                let value = self.some_value();
                let own = maybe(&mut self.rng, 100, TIMES).unwrap_or(0);
                let old = self.cache.insert_with_ttl(key, value.clone(), duration(own));
                self.hear();
                assert_eq!(old, self.oracle.insert(key, value, Some(own)), "insert {key} for {own} ns");
            }
            60..65 => {
                let old = self.cache.remove(key);
                self.hear();
                assert_eq!(old, self.oracle.remove(key), "remove {key}");
            }
            65..71 => self.compute(key),
            71..75 => self.update(key),
            75..79 => assert_eq!(self.cache.pin(key), self.oracle.pin(key), "pin {key}"),
            79..83 => {
                let found = self.cache.unpin(key);
                self.hear();
                assert_eq!(found, self.oracle.unpin(key), "unpin {key}");
            }
            83..95 => self.advance(),
            _ => self.rare(),
        }
    }

    fn try_insert(&mut self, key: u64) {
        let value = self.some_value();
        let stored = self.cache.try_insert(key, value.clone());
        self.hear();
        let expected = self.oracle.store(key, value.clone(), None);
        match (stored, expected) {
            (Ok(old), Ok(expected)) => assert_eq!(old, expected, "try_insert {key}"),
            (Err(refused), Err(expected)) => {
                match &refused {
                    InsertError::TooHeavy { weight, capacity, .. } => {
                        assert_eq!((expected, *capacity), (Refusal::TooHeavy, self.oracle.capacity));
                        assert!(weight > capacity);
                    }
                    other => assert_eq!(expected, Refusal::NoRoom, "{other:?}"),
                }
                assert_eq!(refused.into_parts(), (key, value), "a refused entry comes back");
            }
            (stored, expected) => panic!("try_insert {key}: {stored:?} instead of {expected:?}"),
        }
    }

    fn compute(&mut self, key: u64) {
        let own = maybe(&mut self.rng, 100, TIMES).unwrap_or(0);
        let change = match self.rng.below(5) {
            0 => Change::Keep,
            1 => Change::Remove,
            2 => Change::PutWithTtl(self.some_value(), duration(own)),
            _ => Change::Put(self.some_value()),
        };
        let mut seen = None;
        let after = self.cache.compute(key, &mut |present| {
            seen = present.cloned();
            change.clone()
        });
        self.hear();
        assert_eq!(seen, self.oracle.peek(key), "compute {key} sees");
        let expected = match change {
            Change::Keep => seen,
            Change::Remove => {
                self.oracle.remove(key);
                None
            }
            Change::Put(value) => self.put_by_compute(key, value, None),
            Change::PutWithTtl(value, _) => self.put_by_compute(key, value, Some(own)),
            other => unreachable!("not drawn: {other:?}"),
        };
        assert_eq!(after, expected, "compute {key}");
    }

    /// What the oracle says of a value that a conditional update stores.
    fn put_by_compute(&mut self, key: u64, value: Value, own: Option<u64>) -> Option<Value> {
        if T::COMPUTE_RETURNS_REFUSED {
            let _ = self.oracle.store(key, value.clone(), own);
            Some(value)
        } else {
            self.oracle.insert(key, value, own);
            self.oracle.peek(key)
        }
    }

    fn update(&mut self, key: u64) {
        let value = self.some_value();
        if let Some(found) = self.cache.update(key, value.clone()) {
            self.hear();
            assert_eq!(found, self.oracle.update(key, value), "update {key}");
        }
    }

    fn advance(&mut self) {
        let by = match self.rng.below(50) {
            0 => 1 << 40,
            1..5 => 200,
            5..15 => 20,
            _ => 1 + self.rng.below(3),
        };
        self.clock.advance(duration(by));
        self.oracle.now += by;
    }

    fn rare(&mut self) {
        match self.rng.below(10) {
            0 => {
                self.cache.clear();
                self.hear();
                self.oracle.clear();
            }
            1..3 => {
                let (modulus, rest) = (2 + self.rng.below(6), self.rng.below(6));
                self.cache.retain(&|key| key % modulus != rest);
                self.hear();
                if T::RETAIN_COLLECTS {
                    self.oracle.collect_expired();
                }
                self.oracle.retain(|key| key % modulus != rest);
            }
            3..5 => {
                let collected = self.cache.collect_expired();
                self.hear();
                assert_eq!(collected, self.oracle.collect_expired(), "collect_expired");
            }
            5..7 => {
                let capacity = some_capacity(&mut self.rng);
                self.cache.resize(capacity);
                self.hear();
                self.oracle.resize(capacity);
            }
            _ => {
                if let Some(popped) = self.cache.pop_victim() {
                    self.hear();
                    assert_eq!(popped, self.oracle.pop_victim(), "pop_victim");
                }
            }
        }
    }

    /// Hands the oracle what the listener was told.
    fn hear(&mut self) {
        self.oracle.log.extend(self.told.lock().unwrap().drain(..));
    }

    fn compare(&mut self) {
        self.hear();
        let oracle = &self.oracle;
        assert!(oracle.log.is_empty(), "the listener was told too much: {:?}", oracle.log);
        self.cache.check_invariants();
        let mut contents = self.cache.contents();
        contents.sort_by_key(|&(key, _)| key);
        assert_eq!(contents, oracle.contents(), "contents");
        let mut order = oracle.eviction_order();
        order.retain(|&key| T::ORDER_HAS_EXPIRED || oracle.peek(key).is_some());
        assert_eq!(self.cache.eviction_order(), order, "eviction order");
        for key in 0..KEYS {
            assert_eq!(self.cache.contains(key), oracle.peek(key).is_some(), "contains {key}");
            let left = oracle.time_left(key).map(|left| if left == NEVER { Duration::MAX } else { duration(left) });
            assert_eq!(self.cache.time_left(key), left, "time left of {key}");
        }
        assert_eq!(self.cache.len(), oracle.len(), "len");
        assert_eq!(self.cache.weight(), oracle.weight(), "weight");
        let mut expected = oracle.stats;
        (expected.entries, expected.weight) = (oracle.len() as u64, oracle.weight());
        assert_eq!(self.cache.stats(), expected, "statistics");
        match (self.cache.next_expiry(), oracle.next_expiry()) {
            (None, None) => {}
            (Some(wake), Some(due)) => assert!(wake <= self.start + duration(due), "next_expiry is too late"),
            // A hit has made it immortal; the wheel will notice when it turns it up.
            (Some(_), None) if oracle.settings.time_to_idle != NEVER => {}
            (wake, due) => panic!("next_expiry is {wake:?}, the first is due at {due:?}"),
        }
    }
}

fn duration(nanos: u64) -> Duration {
    if nanos == NEVER { Duration::MAX } else { Duration::from_nanos(nanos) }
}

fn some_capacity(rng: &mut Rng) -> u64 {
    let capacities = [0, 1, 2, 5, 10, 10, 20, 20, 40, NEVER - 1, NEVER];
    capacities[rng.below(capacities.len() as u64) as usize]
}

fn check<P: Policy + Default, T: Subject>(seed: u64, build: impl FnOnce(Builder<u64, Value, P>) -> T) {
    let mut run = Run::new(seed, build);
    for _ in 0..if cfg!(miri) { 25 } else { 500 } {
        run.step();
        run.compare();
        let pinned_alone = run.oracle.eviction_order().is_empty();
        assert!(run.cache.weight() <= run.oracle.capacity || pinned_alone, "B2: above the capacity");
    }
    let told_of = run.oracle.stats;
    assert!(cfg!(miri) || told_of.hits + told_of.misses > 0, "the run did nothing");
}

fn check_policy<P: Policy + Default>(seed: u64) {
    check(seed, |builder: Builder<_, _, P>| builder.build_unsync().unwrap());
    check(seed, |builder: Builder<_, _, P>| builder.build().unwrap());
}

#[test]
fn a_cache_behaves_as_its_oracle_by_recency() {
    for_each_seed(|seed| (0..PARTS).for_each(|part| check_policy::<VecLru>(seed.wrapping_add(part << 32))));
}

#[test]
fn a_cache_behaves_as_its_oracle_by_insertion() {
    for_each_seed(|seed| (0..PARTS).for_each(|part| check_policy::<VecFifo>(seed.wrapping_add(part << 32))));
}

#[test]
fn a_cache_behaves_as_its_oracle_by_shared_hits() {
    for_each_seed(|seed| (0..PARTS).for_each(|part| check_policy::<VecCounts>(seed.wrapping_add(part << 32))));
}

#[test]
fn the_causes_add_up() {
    for_each_seed(|seed| {
        let mut run = Run::<Cache<u64, Value, VecLru>>::new(seed, |builder| builder.build().unwrap());
        let mut causes = std::collections::HashMap::new();
        for _ in 0..steps(2_000) {
            // Insertions and removals only: what `try_insert` refuses goes back to the caller, and the listener not told.
            let key = run.some_key();
            let value = run.some_value();
            match run.rng.below(8) {
                0 => drop(Cache::remove(&run.cache, &key)),
                1 => run.clock.advance(Duration::from_nanos(5)),
                _ => drop(Cache::insert(&run.cache, key, value)),
            }
            for (_, _, cause) in run.told.lock().unwrap().drain(..) {
                *causes.entry(cause).or_insert(0) += 1;
            }
        }
        let stats = run.cache.stats();
        let told = |cause| causes.get(&cause).copied().unwrap_or(0);
        assert_eq!(stats.removals, told(RemovalCause::Explicit));
        assert_eq!(stats.replacements, told(RemovalCause::Replaced));
        assert_eq!(stats.expirations, told(RemovalCause::Expired));
        assert_eq!(stats.evictions + stats.rejections, told(RemovalCause::Size));
        if stats.rejections == 0 {
            let left = stats.evictions + stats.expirations + stats.removals;
            assert_eq!(stats.insertions, left + stats.entries, "what came is here or has left");
        }
    });
}
