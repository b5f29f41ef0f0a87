//! Loading many keys at once, on threads and in tasks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use tenfold_cache_core::{AsyncLoader, AsyncReadThrough, Builder, LoadError};

use crate::recency::VecLru;
use crate::staged::{Gate, INTENDED, must_end, must_panic, poll_once, ready};

fn builder() -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(100).shards(2)
}

#[test]
fn bulk_loads_and_makers_wait_no_longer_than_others() {
    let cache = builder().load_timeout(Duration::from_millis(1)).build().unwrap();
    std::thread::scope(|scope| {
        // In here, so that a failed assertion lets the other thread go.
        let (began, begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let cache = &cache;
        scope.spawn(move || {
            cache.get_or_load(7, |_| {
                began.send(()).unwrap();
                gone.recv().unwrap();
                Err::<u64, _>(())
            })
        });
        begun.recv().unwrap();
        let bulk = cache.get_or_load_all([6, 7], |missing| {
            assert_eq!(missing, [6]);
            Ok::<_, ()>(vec![(6, 60)])
        });
        assert!(matches!(bulk, Err(LoadError::TimedOut)), "{bulk:?}");
        assert_eq!(cache.get(&6), Some(60), "what was found before stays");
        assert_eq!(cache.get_or_insert_with(7, || 70), 70);
        go.send(()).unwrap();
    });
    assert_eq!(cache.get(&7), Some(70));
}

#[test]
fn a_bulk_load_asks_for_each_missing_key_once() {
    let cache = builder().build().unwrap();
    cache.insert(1, 10);
    let calls = AtomicUsize::new(0);
    let found = cache.get_or_load_all([3, 1, 2, 3, 4, 2], |missing| {
        calls.fetch_add(1, Ordering::Relaxed);
        assert_eq!(missing, [3, 2, 4]);
        Ok::<_, ()>(vec![(2, 20), (99, 990), (3, 30)])
    });
    assert_eq!(found.unwrap(), [(3, 30), (1, 10), (2, 20)], "in the order asked for; 4 does not exist");
    assert_eq!(calls.into_inner(), 1);
    assert_eq!([2, 3, 4, 99].map(|key| cache.get(&key)), [Some(20), Some(30), None, None], "99 was not asked for");
    let found = cache.get_or_load_all([1, 2, 3], |_| -> Result<Vec<(u64, u64)>, ()> { panic!("nothing is missing") });
    assert_eq!(found.unwrap().len(), 3);
    assert!(cache.get_or_load_all([], |_| Ok::<_, ()>(vec![])).unwrap().is_empty());
    assert_eq!(cache.stats().loads, 3);
    cache.check_invariants();
}

#[test]
fn a_bulk_load_that_fails_or_panics_frees_its_keys() {
    let cache = builder().build().unwrap();
    cache.insert(1, 10);
    let failed = cache.get_or_load_all([1, 2, 3], |_| Err::<Vec<(u64, u64)>, _>("down"));
    assert!(matches!(failed, Err(LoadError::Failed(error)) if *error == "down"));
    must_panic(|| cache.get_or_load_all([1, 2, 3], |_| -> Result<Vec<(u64, u64)>, ()> { panic!("{INTENDED}") }));
    assert_eq!((cache.get(&1), cache.stats().load_failures), (Some(10), 4));
    let found = cache.get_or_load_all([2, 3], |missing| Ok::<_, ()>(missing.iter().map(|&key| (key, key)).collect()));
    assert_eq!(found.unwrap(), [(2, 2), (3, 3)]);
    // Recursion into one of its own keys.
    let found = cache.get_or_load_all([5, 6], |_| {
        assert!(matches!(cache.get_or_load(6, |_| Ok::<_, ()>(0)), Err(LoadError::Recursive)));
        Ok::<_, ()>(vec![(5, 5), (6, 6)])
    });
    assert_eq!(found.unwrap().len(), 2);
}

#[test]
fn a_bulk_load_waits_for_the_loads_of_others_and_they_for_it() {
    let cache = builder().build().unwrap();
    std::thread::scope(|scope| {
        // In here, so that a failed assertion lets the other thread go.
        let (began, begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let cache = &cache;
        scope.spawn(move || {
            cache.get_or_load(7, |_| {
                began.send(()).unwrap();
                gone.recv().unwrap();
                Ok::<_, ()>(70)
            })
        });
        begun.recv().unwrap();
        let found = cache.get_or_load_all([6, 7], |missing| {
            assert_eq!(missing, [6]);
            let waiter = scope.spawn(|| cache.get_or_load(6, |_| Ok::<_, ()>(61)));
            go.send(()).unwrap();
            drop(waiter);
            Ok::<_, ()>(vec![(6, 60)])
        });
        assert_eq!(found.unwrap(), [(6, 60), (7, 70)]);
    });
    assert_eq!((cache.get(&6), cache.stats().loads), (Some(60), 2));
}

#[test]
fn many_threads_in_bulk_load_each_key_once() {
    let cache = builder().build().unwrap();
    let threads = if cfg!(miri) { 3 } else { 16 };
    let loaded: Vec<_> = (0..20).map(|_| AtomicUsize::new(0)).collect();
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        for thread in 0..threads as u64 {
            let (cache, loaded, barrier) = (&cache, &loaded, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let keys = (0..20).map(|n| (n + thread) % 20);
                let found = cache.get_or_load_all(keys, |missing| {
                    missing.iter().for_each(|&key| _ = loaded[key as usize].fetch_add(1, Ordering::Relaxed));
                    Ok::<_, ()>(missing.iter().map(|&key| (key, key)).collect())
                });
                assert_eq!(found.unwrap().len(), 20);
            });
        }
    });
    assert!(loaded.into_iter().all(|times| times.into_inner() == 1));
}

type Bulk = Result<Vec<(u64, u64)>, &'static str>;

#[test]
fn a_bulk_load_in_a_task_asks_for_each_missing_key_once() {
    let cache = builder().negative_time_to_live(Duration::from_secs(60)).build().unwrap();
    cache.insert(1, 10);
    let asked = Mutex::new(Vec::new());
    let load = |missing: Vec<u64>| {
        asked.lock().unwrap().push(missing.clone());
        async move { Ok::<_, &str>(missing.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * 10)).collect()) }
    };
    let found = ready(cache.get_or_load_all_async([3, 1, 2, 3, 4, 2], load)).unwrap();
    assert_eq!(found, [(1, 10), (2, 20), (4, 40)]);
    assert_eq!(ready(cache.get_or_load_all_async([3, 2], load)).unwrap(), [(2, 20)]);
    assert_eq!(*asked.lock().unwrap(), [vec![3, 2, 4]], "3 is known not to exist");
    assert_eq!((cache.stats().loads, cache.stats().negative_hits), (3, 1));
    assert_eq!((cache.get(&4), cache.get(&3)), (Some(40), None));
    cache.check_invariants();
}

#[test]
fn a_bulk_load_in_a_task_fails_for_all_or_is_dropped_with_the_last() {
    let cache = builder().build().unwrap();
    let failed = ready(cache.get_or_load_all_async([1, 2], |_| async { Bulk::Err("down") }));
    assert!(matches!(failed, Err(LoadError::Failed(error)) if *error == "down"));
    let panicked = ready(
        cache.get_or_load_all_async([1, 2], |_| async { if true { panic!("{INTENDED}") } else { Bulk::Err("") } }),
    );
    assert!(matches!(panicked, Err(LoadError::Panicked)));
    let gate = Gate::<Bulk>::new();
    let mut bulk = Box::pin(cache.get_or_load_all_async([1, 2], |_| gate.pass()));
    assert!(poll_once(&mut bulk).is_pending());
    assert_eq!(gate.drops(), 0);
    drop(bulk);
    assert_eq!(gate.drops(), 1);
    let found = ready(cache.get_or_load_all_async([1, 2], |_| async { Bulk::Ok(vec![(1, 1), (2, 2)]) }));
    assert_eq!(found.unwrap(), [(1, 1), (2, 2)]);
}

#[test]
fn others_wait_for_a_key_of_a_bulk_load_and_outlive_its_caller() {
    let cache = builder().build().unwrap();
    let gate = Gate::<Bulk>::new();
    let mut bulk = Box::pin(cache.get_or_load_all_async([6, 7, 8], |_| gate.pass()));
    assert!(poll_once(&mut bulk).is_pending());
    let mut single = Box::pin(cache.get_or_load_async(7, |_| async { Err::<u64, _>("somebody loads it already") }));
    assert!(poll_once(&mut single).is_pending());
    let mut second =
        Box::pin(cache.get_or_load_all_async([7, 9], |missing| async move { Bulk::Ok(vec![(missing[0], 90)]) }));
    assert!(poll_once(&mut second).is_pending());
    drop(bulk);
    assert_eq!(gate.drops(), 0, "7 is still wanted");
    gate.open(Ok(vec![(7, 70), (8, 80)]));
    assert!(matches!(poll_once(&mut single), Poll::Ready(Ok(70))));
    assert!(matches!(poll_once(&mut second), Poll::Ready(Ok(found)) if found == [(7, 70), (9, 90)]));
    assert_eq!((cache.get(&7), cache.get(&8)), (Some(70), None), "nobody waited for 8 any more");
}

#[test]
fn a_bulk_load_that_waits_for_one_of_its_keys_is_told_so() {
    must_end(|| {
        let cache = builder().build().unwrap();
        let inner = cache.clone();
        let load = move |_| {
            let inner = inner.clone();
            async move {
                for key in [1, 2] {
                    let own = inner.get_or_load_async(key, |_| async { Ok::<_, &str>(0) }).await;
                    assert!(matches!(own, Err(LoadError::Recursive)), "{key}: {own:?}");
                }
                let bulk = inner.get_or_load_all_async([1], |_| async { Bulk::Ok(vec![]) }).await;
                assert!(matches!(bulk, Err(LoadError::Recursive)), "{bulk:?}");
                Bulk::Ok(vec![(1, 1), (2, 2)])
            }
        };
        let loaded = ready(cache.get_or_load_all_async([1, 2], load));
        // Key 2 was told before the rest came that it waits for itself.
        assert!(matches!(loaded, Err(LoadError::Recursive)), "{loaded:?}");
        assert_eq!(ready(cache.get_or_load_async(2, |_| async { Ok::<_, &str>(2) })).unwrap(), 2);
        cache.check_invariants();
    });
}

/// Has the even keys, and writes down what it is asked for.
#[derive(Clone, Default)]
struct Evens(Arc<Mutex<Vec<Vec<u64>>>>);

impl AsyncLoader<u64, u64> for Evens {
    type Error = ();

    async fn load(&self, key: u64) -> Result<Option<u64>, ()> {
        self.0.lock().unwrap().push(vec![key]);
        Ok((key % 2 == 0).then_some(key * 10))
    }

    async fn load_all(&self, keys: Vec<u64>) -> Result<Vec<(u64, u64)>, ()> {
        self.0.lock().unwrap().push(keys.clone());
        if keys.contains(&13) { Err(()) } else { Ok(keys.into_iter().map(|key| (key, key * 10)).collect()) }
    }
}

#[test]
fn a_read_through_for_tasks_loads_in_bulk() {
    let asked = Evens::default();
    let through = AsyncReadThrough::new(builder().build().unwrap(), asked.clone());
    assert_eq!(ready(through.get(&2)), Ok(Some(20)));
    assert_eq!(ready(through.get_all([4, 2, 6])), Ok(vec![(4, 40), (2, 20), (6, 60)]));
    assert!(matches!(ready(through.get_all([2, 13])), Err(LoadError::Failed(_))));
    assert_eq!(*asked.0.lock().unwrap(), [vec![2], vec![4, 6], vec![13]]);
    assert_eq!(through.cache().stats().loads, 3);
}

#[test]
fn a_loader_for_tasks_without_bulk_is_asked_one_by_one() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let load = move |key: u64| {
        noted.lock().unwrap().push(key);
        async move { if key == 13 { Err(()) } else { Ok((key % 2 == 0).then_some(key * 10)) } }
    };
    let through = AsyncReadThrough::new(builder().build().unwrap(), load);
    assert_eq!(ready(through.get_all([4, 5, 6])), Ok(vec![(4, 40), (6, 60)]), "5 does not exist");
    assert!(ready(through.get_all([8, 13, 10])).is_err());
    assert_eq!(*asked.lock().unwrap(), [4, 5, 6, 8, 13], "the first failure ends it");
    assert_eq!(through.cache().get(&8), None, "one load, one outcome");
}
