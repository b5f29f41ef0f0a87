//! Read-through on threads: one load a key, whatever happens to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use tenfold_cache_core::{Builder, Cache, Change, LoadError};

use crate::recency::VecLru;
use crate::staged::{INTENDED, must_end, must_panic};

type Store = Cache<u64, u64, VecLru>;

type Write = fn(&Store);

type Loaded = Result<u64, LoadError<&'static str>>;

fn builder() -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(100).shards(2)
}

/// Runs `load` as the leader of key 7's load while `waiters` threads wait for it, as far as can be seen from outside:
/// each has missed, and had some time for the last step. Returns what the leader's thread and the waiters got.
/// `late` is what a waiter loads that came too late to wait.
fn lead_and_wait(
    cache: &Store,
    waiters: usize,
    load: impl FnOnce() -> Result<u64, &'static str> + Send,
) -> (std::thread::Result<Loaded>, Vec<Loaded>) {
    let missed = cache.stats().misses;
    std::thread::scope(|scope| {
        // In here, so that a failed assertion lets the other thread go.
        let (began, begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let leader = scope.spawn(move || {
            cache.get_or_load(7, |_| {
                began.send(()).unwrap();
                gone.recv().unwrap();
                load()
            })
        });
        begun.recv().unwrap();
        let waiting: Vec<_> =
            (0..waiters).map(|_| scope.spawn(|| cache.get_or_load(7, |_| Err("a waiter came late")))).collect();
        while cache.stats().misses < missed + 1 + waiters as u64 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(20));
        go.send(()).unwrap();
        let led = leader.join();
        (led, waiting.into_iter().map(|waiter| waiter.join().unwrap()).collect())
    })
}

/// Repeats a scenario until no waiter came late; any waiter may, on a busy machine, and is no fault of the cache.
fn nobody_late<T>(scenario: impl Fn() -> (T, Vec<Loaded>)) -> (T, Vec<Loaded>) {
    for _ in 0..100 {
        let (led, waited) = scenario();
        let late = |got: &Loaded| matches!(got, Err(LoadError::Failed(error)) if **error == "a waiter came late");
        if !waited.iter().any(late) {
            return (led, waited);
        }
    }
    panic!("waiters come late, always");
}

#[test]
fn a_hundred_threads_and_one_load() {
    let threads = if cfg!(miri) { 8 } else { 100 };
    let cache = builder().build().unwrap();
    let (loads, barrier, calling) = (AtomicUsize::new(0), Barrier::new(threads), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                barrier.wait();
                calling.fetch_add(1, Ordering::SeqCst);
                let value = cache.get_or_load(7, |&key| {
                    loads.fetch_add(1, Ordering::SeqCst);
                    while calling.load(Ordering::SeqCst) < threads {
                        std::thread::yield_now();
                    }
                    Ok::<_, ()>(key * 10)
                });
                assert_eq!(value.unwrap(), 70);
            });
        }
    });
    assert_eq!(loads.into_inner(), 1);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.insertions, stats.load_failures, stats.stale_fills), (1, 1, 0, 0));
    assert_eq!(stats.hits + stats.misses, threads as u64);
    cache.check_invariants();
}

#[test]
fn every_waiter_gets_the_same_error_and_nothing_is_remembered() {
    let cache = builder().build().unwrap();
    let (led, waited) = nobody_late(|| lead_and_wait(&cache, 4, || Err("down")));
    let Ok(Err(LoadError::Failed(first))) = led else { panic!("{led:?}") };
    assert_eq!(*first, "down");
    for got in waited {
        let Err(LoadError::Failed(error)) = got else { panic!("{got:?}") };
        assert!(Arc::ptr_eq(&first, &error));
    }
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, &str>(1)).unwrap(), 1);
}

#[test]
fn waiters_get_the_loaded_value_though_it_is_not_stored() {
    let (_, waited) = nobody_late(|| {
        let cache = builder().build().unwrap();
        let got = lead_and_wait(&cache, 4, || {
            cache.remove(&7);
            Ok(1)
        });
        assert_eq!(cache.get(&7), None);
        assert_eq!(cache.stats().stale_fills, 1);
        got
    });
    assert!(waited.into_iter().all(|got| got.unwrap() == 1));
}

#[test]
fn a_panic_goes_on_in_its_thread_and_poisons_nothing() {
    let cache = builder().build().unwrap();
    let (led, waited) = nobody_late(|| lead_and_wait(&cache, 4, || panic!("{INTENDED}")));
    assert!(led.is_err(), "the panic goes on");
    assert!(waited.iter().all(|got| matches!(got, Err(LoadError::Panicked))), "{waited:?}");
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(2)).unwrap(), 2);
    assert!(cache.stats().load_failures >= 1);
    cache.check_invariants();
}

#[test]
fn a_loader_may_call_the_cache() {
    must_end(|| {
        let cache = builder().build().unwrap();
        let value = cache.get_or_load(1, |_| {
            assert!(matches!(cache.get_or_load(1, |_| Ok::<_, ()>(0)), Err(LoadError::Recursive)));
            assert_eq!(cache.get(&1), None);
            let other = cache.get_or_load(2, |_| {
                assert!(matches!(cache.get_or_load(1, |_| Ok::<_, ()>(0)), Err(LoadError::Recursive)), "by way of 2");
                let bulk = cache.get_or_load_all([1, 3], |_| Ok::<_, ()>(vec![(3, 3)]));
                assert!(matches!(bulk, Err(LoadError::Recursive)));
                Ok::<_, ()>(20)
            });
            cache.insert(4, 4);
            Ok::<_, ()>(other.unwrap() + 1)
        });
        assert_eq!(value.unwrap(), 21);
        assert_eq!([1, 2, 3, 4].map(|key| cache.get(&key)), [Some(21), Some(20), Some(3), Some(4)]);
        assert_eq!(cache.get_or_insert_with(5, || cache.get_or_insert_with(5, || 1) + 1), 2, "no deadlock");
        cache.check_invariants();
    });
}

#[test]
fn a_loader_that_hangs_holds_nobody_up_for_ever() {
    let cache = builder().load_timeout(Duration::from_millis(1)).build().unwrap();
    std::thread::scope(|scope| {
        // In here, so that a failed assertion lets the other thread go.
        let (began, begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let cache = &cache;
        let hanging = scope.spawn(move || {
            cache.get_or_load(7, |_| {
                began.send(()).unwrap();
                gone.recv().unwrap();
                Ok::<_, ()>(1)
            })
        });
        begun.recv().unwrap();
        let waited = cache.get_or_load(7, |_| Ok::<_, ()>(2));
        assert!(matches!(waited, Err(LoadError::TimedOut)), "{waited:?}");
        assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(3)).unwrap(), 3, "the key is free again");
        cache.remove(&7);
        go.send(()).unwrap();
        assert_eq!(hanging.join().unwrap().unwrap(), 1, "its own caller gets the late value");
    });
    assert_eq!(cache.get(&7), None, "but it is not stored");
    assert_eq!(cache.stats().stale_fills, 1);
}

#[test]
fn a_maker_that_times_out_waiting_makes_the_value_itself() {
    let cache = builder().load_timeout(Duration::from_millis(1)).build().unwrap();
    std::thread::scope(|scope| {
        // In here, so that a failed assertion lets the other thread go.
        let (began, begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let cache = &cache;
        let slow = scope.spawn(move || {
            cache.get_or_insert_with(7, || {
                began.send(()).unwrap();
                gone.recv().unwrap();
                1
            })
        });
        begun.recv().unwrap();
        assert_eq!(cache.get_or_insert_with(7, || 2), 2);
        go.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), 1);
    });
    assert_eq!(cache.get(&7), None, "neither is stored: a removal may have come between");
}

#[test]
fn call_sites_may_differ_in_their_errors() {
    let cache = builder().build().unwrap();
    std::thread::scope(|scope| {
        // In here, so that a failed assertion lets the other thread go.
        let (began, begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let cache = &cache;
        let leader = scope.spawn(move || {
            cache.get_or_load(7, |_| {
                began.send(()).unwrap();
                gone.recv().unwrap();
                Err::<u64, _>("text")
            })
        });
        begun.recv().unwrap();
        let missed = cache.stats().misses;
        let waiter = scope.spawn(|| cache.get_or_load(7, |_| Err::<u64, i32>(404)));
        while cache.stats().misses == missed {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(5));
        go.send(()).unwrap();
        assert!(matches!(leader.join().unwrap(), Err(LoadError::Failed(error)) if *error == "text"));
        // It cannot be given the other's error, so it asks its own loader.
        assert!(matches!(waiter.join().unwrap(), Err(LoadError::Failed(error)) if *error == 404));
    });
    assert_eq!(cache.stats().load_failures, 2);
}

#[test]
fn whatever_writes_the_key_during_a_load_wins() {
    let writes: [(&str, Write, Option<u64>); 9] = [
        ("insert", |cache| _ = cache.insert(7, 2), Some(2)),
        ("insert with no time", |cache| _ = cache.insert_with_ttl(7, 2, Duration::ZERO), None),
        ("remove", |cache| _ = cache.remove(&7), None),
        ("clear", Cache::clear, None),
        ("entry put", |cache| _ = cache.entry(7).and_compute(|_| Change::Put(2)), Some(2)),
        ("entry remove", |cache| _ = cache.entry(7).and_compute(|_| Change::Remove), None),
        ("write_around", |cache| cache.write_around(&7, || {}), None),
        ("write_through", |cache| cache.write_through(7, 2, |_, _| Ok::<_, ()>(())).unwrap(), Some(2)),
        ("refused", |cache| assert!(cache.try_insert(7, 1_000).is_err()), None),
    ];
    for (name, write, left) in writes {
        let cache = builder().weigher(|_: &u64, &value: &u64| value).build().unwrap();
        let loaded = cache.get_or_load(7, |_| {
            write(&cache);
            Ok::<_, ()>(1)
        });
        assert_eq!(loaded.unwrap(), 1, "{name}");
        assert_eq!(cache.get(&7), left, "{name}");
        assert_eq!(cache.stats().stale_fills, 1, "{name}");
        // The same for a refresh, with an old value there.
        cache.insert(7, 5);
        let loaded = cache.refresh(7, |_| {
            write(&cache);
            Ok::<_, ()>(1)
        });
        assert_eq!((loaded.unwrap(), cache.get(&7)), (1, left), "{name}");
        cache.check_invariants();
    }
    let cache = builder().build().unwrap();
    cache.insert(7, 5);
    let loaded = cache.refresh(7, |_| {
        cache.retain(|&key, _| key != 7);
        Ok::<_, ()>(1)
    });
    assert_eq!((loaded.unwrap(), cache.get(&7)), (1, None), "invalidated by a predicate");
}

#[test]
fn what_is_loaded_but_refused_is_returned() {
    let cache = builder().weigher(|_: &u64, &value: &u64| value).build().unwrap();
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(1_000)).unwrap(), 1_000);
    assert_eq!((cache.get(&7), cache.stats().rejections), (None, 1));
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(1)).unwrap(), 1);
}

#[test]
fn a_value_that_cannot_be_weighed_poisons_nothing() {
    let cache =
        builder().weigher(|_: &u64, &value: &u64| if value == 13 { panic!("{INTENDED}") } else { 1 }).build().unwrap();
    must_panic(|| cache.get_or_load(7, |_| Ok::<_, ()>(13)));
    must_panic(|| cache.get_or_load_all([7, 8], |_| Ok::<_, ()>(vec![(7, 1), (8, 13)])));
    assert_eq!(cache.get_or_load(8, |_| Ok::<_, ()>(2)).unwrap(), 2);
    assert_eq!(cache.get_or_load_all([7, 8], |_| Ok::<_, ()>(vec![(7, 1)])).unwrap(), [(7, 1), (8, 2)]);
    cache.check_invariants();
}

#[test]
fn a_refresh_loads_anew_while_the_old_value_is_served() {
    let cache = builder().build().unwrap();
    cache.insert(7, 1);
    let loaded = cache.refresh(7, |_| {
        assert_eq!(cache.get(&7), Some(1), "served meanwhile");
        assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(9)).unwrap(), 1);
        Ok::<_, ()>(2)
    });
    assert_eq!((loaded.unwrap(), cache.get(&7)), (2, Some(2)));
    assert!(cache.refresh(7, |_| Err::<u64, _>("down")).is_err());
    assert_eq!(cache.get(&7), Some(2));
    assert_eq!(cache.refresh(8, |_| Ok::<_, ()>(3)).unwrap(), 3, "a key that is not there is loaded");
    assert_eq!((cache.stats().loads, cache.stats().load_failures, cache.stats().replacements), (2, 1, 1));
    assert!(cache.stats().mean_load_time() > Duration::ZERO);
}

#[test]
fn writes_to_the_source_and_the_cache_go_together() {
    let cache = builder().build().unwrap();
    cache.insert(7, 1);
    let written = cache.write_around(&7, || {
        assert_eq!(cache.get(&7), None, "gone before the write");
        // A reader in between, with the old value.
        cache.insert(7, 1);
        "written"
    });
    assert_eq!((written, cache.get(&7)), ("written", None), "and after it");
    cache.insert(7, 1);
    must_panic(|| {
        cache.write_around(&7, || {
            cache.insert(7, 1);
            panic!("{INTENDED}")
        })
    });
    assert_eq!(cache.get(&7), None, "nobody knows what was written");
    assert_eq!(cache.write_through(7, 2, |_, _| Ok::<_, ()>(())), Ok(()));
    assert_eq!(cache.get(&7), Some(2));
    assert_eq!(cache.write_through(7, 3, |_, _| Err("down")), Err("down"));
    assert_eq!(cache.get(&7), None);
    cache.insert(7, 2);
    must_panic(|| cache.write_through(7, 3, |_, _| -> Result<(), ()> { panic!("{INTENDED}") }));
    assert_eq!(cache.get(&7), None);
}

#[test]
fn two_loads_that_wait_for_each_other_end_by_the_timeout() {
    must_end(|| {
        let cache = builder().load_timeout(Duration::from_millis(5)).build().unwrap();
        let both_began = Barrier::new(2);
        let load = |own: u64, other: u64| {
            cache.get_or_load(own, |_| {
                both_began.wait();
                match cache.get_or_load(other, |_| Ok::<_, &str>(0)) {
                    Ok(value) => Ok(value + 1),
                    Err(_) => Err("each waits for the other"),
                }
            })
        };
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| load(1, 2));
            let second = load(2, 1);
            (first.join().unwrap(), second)
        });
        assert!(first.is_err() || second.is_err(), "{first:?} {second:?}");
        cache.check_invariants();
    });
}
