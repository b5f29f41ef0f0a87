//! One suite for every cache: what does not depend on the policy must be the same whichever is chosen, so that a rung, or
//! a user, may swap one for another.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use tenfold_lfu_cache::LfuCache;
use tenfold_lru_cache::{
    ConfigError, FifoCache, FillError, InsertError, LoadError, Lookup, LruCache, ManualClock, ReadThrough, RemovalCause,
};

const SECOND: Duration = Duration::from_secs(1);

/// Writes the suite once for each cache type.
macro_rules! contract {
    ($($name:ident: $cache:ident),+ $(,)?) => {$(
        mod $name {
            use super::*;

            #[test]
            fn holds_what_it_is_given_and_no_more_than_its_capacity() {
                let cache = $cache::<u64, u64>::new(100);
                for key in 0..1_000 {
                    cache.insert(key, key * 2);
                    assert!(cache.len() <= 100 && cache.weight() <= 100);
                }
                assert_eq!(cache.len(), 100);
                let kept: Vec<_> = (0..1_000).filter(|key| cache.contains(key)).collect();
                assert_eq!(kept.len(), 100);
                assert!(kept.iter().all(|key| cache.get(key) == Some(key * 2)));
                assert_eq!(cache.stats().evictions, 900);
            }

            #[test]
            fn replaces_removes_and_forgets() {
                let cache = $cache::<&str, u32>::new(10);
                assert_eq!((cache.insert("a", 1), cache.insert("a", 2)), (None, Some(1)));
                assert_eq!((cache.get("a"), cache.peek("a"), cache.len()), (Some(2), Some(2), 1));
                assert_eq!((cache.remove("a"), cache.remove("a")), (Some(2), None));
                cache.insert("b", 3);
                cache.retain(|_, value| *value != 3);
                assert!(cache.is_empty());
                cache.insert("c", 4);
                cache.clear();
                assert_eq!(cache.get("c"), None);
            }

            #[test]
            fn capacity_zero_stores_nothing_and_still_loads() {
                let cache = $cache::<u64, u64>::new(0);
                cache.insert(1, 1);
                assert_eq!((cache.get(&1), cache.len()), (None, 0));
                assert_eq!(cache.get_or_load(1, |_| Ok::<_, io::Error>(5)).unwrap(), 5);
                assert_eq!(cache.get(&1), None);
            }

            #[test]
            fn a_weight_above_the_capacity_is_handed_back() {
                let build = || $cache::<u64, Vec<u8>>::builder().capacity(100).weigher(|_: &u64, v: &Vec<u8>| v.len() as u64);
                let cache = build().build().unwrap();
                match cache.try_insert(1, vec![0; 101]) {
                    Err(InsertError::TooHeavy { .. }) => {}
                    other => panic!("{other:?}"),
                }
                for key in 0..50 {
                    cache.insert(key, vec![0; 30]);
                    assert!(cache.weight() <= 100);
                }
                let overflowing = $cache::<u64, ()>::builder().capacity(10).weigher(|_: &u64, _: &()| u64::MAX).build().unwrap();
                overflowing.insert(1, ());
                overflowing.insert(2, ());
                assert_eq!(overflowing.len(), 0);
            }

            #[test]
            fn resizing_down_evicts_at_once() {
                let cache = $cache::<u64, ()>::new(100);
                for key in 0..100 {
                    cache.insert(key, ());
                }
                cache.resize(10);
                assert!(cache.len() <= 10 && cache.capacity() == 10);
            }

            #[test]
            fn pinned_entries_stay() {
                let cache = $cache::<u64, ()>::new(20);
                cache.insert(7, ());
                assert!(cache.pin(&7));
                for key in 100..500 {
                    cache.insert(key, ());
                }
                assert!(cache.contains(&7) && cache.len() <= 20);
            }

            #[test]
            fn nothing_is_served_after_its_time() {
                let clock = ManualClock::new();
                let cache = $cache::<u64, u64>::builder().capacity(10).time_to_live(SECOND * 10).clock(clock.clone()).build().unwrap();
                cache.insert(1, 1);
                cache.insert_with_ttl(2, 2, SECOND);
                clock.advance(SECOND);
                assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), None));
                clock.advance(SECOND * 9);
                assert_eq!((cache.get(&1), cache.peek(&1), cache.contains(&1)), (None, None, false));
            }

            #[test]
            fn impossible_settings_are_refused() {
                let zero = $cache::<u64, u64>::builder().capacity(1).time_to_live(Duration::ZERO).build();
                assert!(zero.is_err());
                let refused: Result<_, ConfigError> =
                    $cache::<u64, u64>::builder().time_to_live(SECOND).refresh_after(SECOND * 2).build();
                assert!(refused.is_err(), "a refresh after the end of life");
            }

            #[test]
            fn the_listener_hears_every_departure_once_with_its_cause() {
                let heard = Arc::new(Mutex::new(Vec::new()));
                let ears = Arc::clone(&heard);
                let cache = $cache::<u64, u64>::builder()
                    .capacity(2)
                    .shards(1)
                    .listener(move |key: &u64, _, cause| ears.lock().unwrap().push((*key, cause)))
                    .build()
                    .unwrap();
                cache.insert(1, 1);
                cache.insert(1, 2);
                cache.remove(&1);
                for key in 10..13 {
                    cache.insert(key, key);
                }
                let heard = heard.lock().unwrap();
                assert_eq!(heard[..2], [(1, RemovalCause::Replaced), (1, RemovalCause::Explicit)]);
                assert!(heard.len() == 3 && heard[2].1 == RemovalCause::Size);
            }

            #[test]
            fn a_lease_is_void_after_a_write_or_an_invalidation() {
                let cache = $cache::<u64, u64>::new(10);
                let Lookup::Granted(lease) = cache.lease(&1) else { panic!("a miss grants a lease") };
                assert!(matches!(cache.lease(&1), Lookup::Busy), "one at a time");
                cache.remove(&1);
                assert_eq!(cache.fill(1, lease, 5), Err(FillError::Void(5)));
                let Lookup::Granted(lease) = cache.lease(&1) else { panic!("the next reader gets one") };
                cache.insert(1, 7);
                assert_eq!(cache.fill(1, lease, 5), Err(FillError::Void(5)));
                assert!(matches!(cache.lease(&1), Lookup::Hit(7)));
                let Lookup::Granted(lease) = cache.lease(&2) else { panic!("a miss grants a lease") };
                assert_eq!(cache.fill(2, lease, 9), Ok(()));
                assert_eq!(cache.get(&2), Some(9));
            }

            #[test]
            fn threads_that_miss_together_load_once() {
                let cache = $cache::<u64, u32>::new(10);
                let (loads, start) = (AtomicU32::new(0), Barrier::new(16));
                std::thread::scope(|scope| {
                    for _ in 0..16 {
                        scope.spawn(|| {
                            start.wait();
                            let load = |_: &u64| {
                                std::thread::sleep(Duration::from_millis(30));
                                Ok::<_, io::Error>(loads.fetch_add(1, Ordering::SeqCst) + 40)
                            };
                            assert_eq!(cache.get_or_load(1, load).unwrap(), 40);
                        });
                    }
                });
                assert_eq!(loads.load(Ordering::SeqCst), 1);
            }

            #[test]
            fn an_error_a_panic_or_a_cancelled_load_does_not_poison_the_key() {
                let cache = $cache::<u64, u32>::new(10);
                let failed = cache.get_or_load(1, |_| Err::<u32, _>(io::Error::other("down")));
                assert!(matches!(failed, Err(LoadError::Failed(_))));
                let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    cache.get_or_load(1, |_| -> Result<u32, io::Error> { std::panic::resume_unwind(Box::new("bug")) })
                }));
                assert!(panicked.is_err());
                let cancelled = cache.clone();
                let mut load = Box::pin(async move {
                    let never = |_| std::future::pending::<Result<u32, io::Error>>();
                    cancelled.get_or_load_async(1, never).await
                });
                assert!(load.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                drop(load);
                assert_eq!(cache.get_or_load(1, |_| Ok::<_, io::Error>(3)).unwrap(), 3);
            }

            #[test]
            fn a_write_during_a_load_wins() {
                let cache = $cache::<u64, u32>::new(10);
                let loaded = cache.get_or_load(1, |key| {
                    cache.insert(*key, 2);
                    Ok::<_, io::Error>(1)
                });
                assert_eq!((loaded.unwrap(), cache.get(&1)), (1, Some(2)));
            }

            #[test]
            fn refresh_ahead_reloads_what_is_used_and_lets_the_rest_go() {
                let clock = ManualClock::new();
                let cache = $cache::<u64, u32>::builder()
                    .capacity(10)
                    .time_to_live(SECOND * 10)
                    .refresh_after(SECOND * 5)
                    .clock(clock.clone())
                    .build()
                    .unwrap();
                let loads = Arc::new(AtomicU32::new(0));
                let counted = Arc::clone(&loads);
                let load = move |_: &u64| Ok::<_, io::Error>(Some(counted.fetch_add(1, Ordering::SeqCst)));
                let through = ReadThrough::new(cache.clone(), load).executor(|job| job());
                through.get(&1).unwrap();
                through.get(&2).unwrap();
                clock.advance(SECOND * 6);
                assert_eq!(through.get(&1).unwrap(), Some(0), "the old value, at once");
                assert_eq!(loads.load(Ordering::SeqCst), 3);
                clock.advance(SECOND * 5);
                assert_eq!((cache.get(&1), cache.get(&2)), (Some(2), None));
            }
        }
    )+};
}

contract!(lru: LruCache, fifo: FifoCache, lfu: LfuCache);
