//! What leaves: told once, with its cause, outside all locks.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tenfold_cache_core::testing::{Rng, for_each_seed, steps};
use tenfold_cache_core::{Builder, Cache, ManualClock, RemovalCause};

use crate::recency::{VecCounts, VecLru};
use crate::staged::{INTENDED, must_end, must_panic};

#[test]
fn every_entry_leaves_once_with_its_cause() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let clock = ManualClock::new();
    let cache: Cache<u64, u64, VecLru> = Builder::default()
        .capacity(3)
        .shards(1)
        .clock(clock.clone())
        .listener(move |&key, &value, cause| log.lock().unwrap().push((key, value, cause)))
        .build()
        .unwrap();
    let heard = || std::mem::take(&mut *told.lock().unwrap());
    cache.insert(1, 10);
    cache.insert(1, 11);
    assert_eq!(heard(), [(1, 10, RemovalCause::Replaced)]);
    cache.insert(2, 20);
    cache.insert_with_ttl(3, 30, Duration::from_secs(1));
    cache.insert(4, 40);
    assert_eq!(heard(), [(1, 11, RemovalCause::Size)]);
    clock.advance(Duration::from_secs(1));
    assert_eq!(cache.get(&3), None);
    assert_eq!(heard(), [], "expired, not collected yet");
    cache.insert(5, 50);
    assert_eq!(heard(), [(3, 30, RemovalCause::Expired)], "expired ones make room first");
    cache.remove(&4);
    cache.remove(&4);
    assert_eq!(heard(), [(4, 40, RemovalCause::Explicit)]);
    cache.retain(|&key, _| key != 2);
    assert_eq!(heard(), [(2, 20, RemovalCause::Explicit)]);
    cache.insert(6, 60);
    cache.resize(1);
    assert_eq!(heard(), [(5, 50, RemovalCause::Size)]);
    cache.clear();
    assert_eq!(heard(), [(6, 60, RemovalCause::Explicit)]);
    cache.resize(0);
    cache.insert(7, 70);
    assert_eq!(heard(), [(7, 70, RemovalCause::Size)], "refused");
    assert!(cache.try_insert(8, 80).is_err());
    assert_eq!(heard(), [], "the caller has it back");
    assert!(RemovalCause::Size.is_eviction() && !RemovalCause::Replaced.is_eviction());
}

#[test]
fn values_are_told_and_dropped_as_often_as_they_were_inserted() {
    for_each_seed(|seed| {
        let told = Arc::new(Mutex::new(HashMap::<u64, u32>::new()));
        let log = Arc::clone(&told);
        let clock = ManualClock::new();
        let cache: Cache<u64, Arc<u64>, VecCounts> = Builder::default()
            .capacity(30)
            .shards(4)
            .time_to_live(Duration::from_secs(50))
            .clock(clock.clone())
            .listener(move |_, value: &Arc<u64>, _| *log.lock().unwrap().entry(**value).or_default() += 1)
            .build()
            .unwrap();
        let mut rng = Rng::new(seed);
        let mut values = Vec::new();
        for id in 0..steps(2_000) as u64 {
            let key = rng.below(60);
            match rng.below(12) {
                0 => drop(cache.remove(&key)),
                1 => clock.advance(Duration::from_secs(rng.below(20))),
                2 => cache.resize(20 + rng.below(20)),
                3 if rng.chance(1, 20) => cache.clear(),
                _ => {
                    let value = Arc::new(id);
                    values.push(Arc::clone(&value));
                    cache.insert(key, value);
                }
            }
        }
        cache.clear();
        let told = told.lock().unwrap();
        for value in values {
            assert_eq!(told.get(&value), Some(&1), "value {value}");
            assert_eq!(Arc::strong_count(&value), 1, "nobody else has value {value}");
        }
    });
}

type Hook = Arc<OnceLock<Cache<u64, u64, VecLru>>>;

#[test]
fn a_listener_may_call_the_cache() {
    must_end(|| {
        let hook: Hook = Arc::default();
        let inner = Arc::clone(&hook);
        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        let clock = ManualClock::new();
        let cache: Cache<u64, u64, VecLru> = Builder::default()
            .capacity(8)
            .shards(2)
            .clock(clock.clone())
            .listener(move |&key, &value, _| {
                let Some(cache) = inner.get() else { return };
                count.fetch_add(1, Ordering::Relaxed);
                // The same key, others, the whole; each removal so caused comes here again, hence the bound.
                let depth = value / 1_000;
                if depth < 3 {
                    cache.get(&key);
                    cache.insert(key, value + 1_000);
                    cache.insert(key + 1, value + 1_000);
                    cache.remove(&(key + 2));
                    let _ = cache.entry(key).and_modify(|_| {});
                    cache.resize(8);
                    cache.collect_expired();
                    cache.retain(|_, _| true);
                    assert!(cache.iter().count() <= 8);
                }
            })
            .build()
            .unwrap();
        assert!(hook.set(cache.clone()).is_ok());
        let keys = if cfg!(miri) { 2 } else { 40 };
        for key in 0..keys {
            cache.insert(key, key);
            cache.insert(key, key);
            cache.insert_with_ttl(key, key, Duration::from_secs(1));
            clock.advance(Duration::from_secs(key % 2));
        }
        cache.resize(2);
        cache.clear();
        cache.check_invariants();
        assert!(calls.load(Ordering::Relaxed) > 2 * keys);
    });
}

/// Calls the cache when it is dropped.
#[derive(Clone)]
struct Calling {
    id: u64,
    hook: Arc<OnceLock<Cache<Calling, Calling, VecLru>>>,
    active: Arc<AtomicBool>,
}

impl PartialEq for Calling {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Calling {}

impl Hash for Calling {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        // What is dropped on the way must not do so again.
        if !self.active.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(cache) = self.hook.get() {
            // Any lock held now, by this thread, would never be got: every shard is visited.
            assert!(cache.iter().count() <= 100);
            cache.resize(cache.capacity());
            cache.retain(|_, _| true);
            cache.remove(&Calling { id: 1_000, hook: Arc::clone(&self.hook), active: Arc::clone(&self.active) });
        }
        self.active.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_drop_of_keys_and_values_may_call_the_cache() {
    must_end(|| {
        let hook: Arc<OnceLock<Cache<Calling, Calling, VecLru>>> = Arc::default();
        let active = Arc::new(AtomicBool::new(false));
        let make = |id| Calling { id, hook: Arc::clone(&hook), active: Arc::clone(&active) };
        let clock = ManualClock::new();
        let cache: Cache<Calling, Calling, VecLru> = Builder::default()
            .capacity(5)
            .shards(2)
            .max_leases(4)
            .lease_timeout(Duration::from_secs(1))
            .negative_time_to_live(Duration::from_secs(1))
            .negative_capacity(2)
            .clock(clock.clone())
            .build()
            .unwrap();
        assert!(hook.set(cache.clone()).is_ok());
        active.store(true, Ordering::Relaxed);
        for id in 0..if cfg!(miri) { 6 } else { 30 } {
            drop(cache.insert(make(id), make(id)));
            drop(cache.insert(make(id), make(id)));
            drop(cache.insert_with_ttl(make(id), make(id), Duration::from_secs(id % 3)));
            drop(cache.lease(&make(id + 100)));
            drop(cache.lease(&make(id + 200)));
            drop(cache.get_or_load_optional(make(id + 300), |_| Ok::<_, u64>(None)));
            drop(cache.get_or_load(make(id + 400), |_| Err::<Calling, _>(make(0))));
            drop(cache.get_or_load(make(id + 400), |key| Ok::<_, u64>(key.clone())));
            drop(cache.entry(make(id)).and_compute(|_| tenfold_cache_core::Change::Remove));
            drop(cache.remove(&make(id + 400)));
            drop(cache.try_insert(make(id + 100), make(id)));
            clock.advance(Duration::from_millis(300));
        }
        cache.collect_expired();
        cache.resize(1);
        cache.clear();
        active.store(false, Ordering::Relaxed);
        cache.check_invariants();
        // The values hold the hook, the hook holds the cache: it must be empty, or nothing would ever be freed.
        assert!(cache.is_empty());
    });
}

#[test]
fn a_panic_in_the_listener_leaves_a_sound_cache() {
    let armed = Arc::new(AtomicBool::new(false));
    let fuse = Arc::clone(&armed);
    let cache: Cache<u64, u64, VecLru> = Builder::default()
        .capacity(100)
        .shards(2)
        .listener(move |_, _, _| assert!(!fuse.load(Ordering::Relaxed), "{INTENDED}"))
        .build()
        .unwrap();
    let fill = || {
        armed.store(false, Ordering::Relaxed);
        (0..100).for_each(|key| _ = cache.insert(key, key));
        armed.store(true, Ordering::Relaxed);
    };
    let check = || {
        cache.check_invariants();
        assert!(cache.weight() <= 100);
    };
    fill();
    must_panic(|| cache.insert(7, 8));
    assert_eq!(cache.get(&7), Some(8), "what was done is done");
    check();
    must_panic(|| cache.insert(1_000, 8));
    assert_eq!(cache.get(&1_000), Some(8));
    check();
    must_panic(|| cache.remove(&7));
    assert_eq!(cache.get(&7), None);
    check();
    fill();
    must_panic(|| cache.retain(|_, _| false));
    check();
    must_panic(|| cache.clear());
    check();
    must_panic(|| cache.insert_with_ttl(1, 1, Duration::ZERO));
    check();
    fill();
    must_panic(|| cache.insert_with_ttl(1, 1, Duration::ZERO));
    assert_eq!(cache.get(&1), None);
    check();
    fill();
    (0..100).for_each(|key| assert_eq!(cache.get(&key), Some(key)));
}

#[test]
fn a_panic_in_the_listener_does_not_leave_an_overdrawn_cache_for_good() {
    let armed = Arc::new(AtomicBool::new(false));
    let fuse = Arc::clone(&armed);
    let cache: Cache<u64, u64, VecLru> = Builder::default()
        .capacity(100)
        .shards(2)
        .listener(move |_, _, _| assert!(!fuse.load(Ordering::Relaxed), "{INTENDED}"))
        .build()
        .unwrap();
    (0..100).for_each(|key| _ = cache.insert(key, key));
    armed.store(true, Ordering::Relaxed);
    must_panic(|| cache.resize(10));
    cache.check_invariants();
    armed.store(false, Ordering::Relaxed);
    (200..240).for_each(|key| _ = cache.insert(key, key));
    assert!(cache.weight() <= 10, "the next insertions balance the account: {}", cache.weight());
    cache.check_invariants();
}
