//! Read-through in tasks: futures polled by hand, and a manual executor.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use tenfold_cache_core::{Builder, Cache, Change, LoadError};

use crate::recency::VecLru;
use crate::staged::{Executor, Gate, INTENDED, must_end, must_panic, poll_once, ready};

type Store = Cache<u64, u64, VecLru>;

type Answer = Result<u64, &'static str>;

type Loaded = Result<u64, LoadError<&'static str>>;

fn builder() -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(2_000).shards(2)
}

/// A caller of key 7 whose load waits for the gate.
fn call<'a>(cache: &'a Store, gate: &Gate<Answer>) -> std::pin::Pin<Box<dyn Future<Output = Loaded> + Send + 'a>> {
    let gate = gate.clone();
    Box::pin(cache.get_or_load_async(7, move |_| gate.pass()))
}

/// A caller of key 7 that must not come to load.
fn join(cache: &Store) -> std::pin::Pin<Box<dyn Future<Output = Loaded> + Send + '_>> {
    Box::pin(cache.get_or_load_async(7, |_| async { panic!("somebody loads it already") }))
}

#[test]
fn a_thousand_tasks_and_one_load() {
    let tasks = if cfg!(miri) { 50 } else { 1_000 };
    let cache = builder().build().unwrap();
    let (executor, gate) = (Executor::default(), Gate::<Answer>::new());
    let (loads, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let spawned: Vec<_> = (0..tasks)
        .map(|_| {
            let (cache, gate) = (cache.clone(), gate.clone());
            let (loads, answers) = (Arc::clone(&loads), Arc::clone(&answers));
            executor.spawn(async move {
                let load = move |_| {
                    loads.fetch_add(1, Ordering::Relaxed);
                    gate.pass()
                };
                assert_eq!(cache.get_or_load_async(7, load).await.unwrap(), 70);
                answers.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    executor.run();
    assert_eq!((loads.load(Ordering::Relaxed), gate.polls()), (1, 1));
    gate.open(Ok(70));
    let polls = executor.run();
    assert!(spawned.iter().all(|task| task.is_done()));
    assert_eq!((answers.load(Ordering::Relaxed), gate.polls(), gate.drops()), (tasks, 2, 1));
    assert!(polls <= 2 * tasks, "{polls} polls");
    assert_eq!((cache.get(&7), cache.stats().loads, cache.stats().insertions), (Some(70), 1, 1));
    cache.check_invariants();
}

#[test]
fn a_caller_that_is_dropped_or_never_polled_again_hangs_nobody() {
    for dropped in [true, false] {
        let cache = builder().build().unwrap();
        let gate = Gate::new();
        let mut first = call(&cache, &gate);
        assert!(poll_once(&mut first).is_pending());
        let (executor, got) = (Executor::default(), Arc::new(Mutex::new(Vec::new())));
        for _ in 0..3 {
            let (cache, got) = (cache.clone(), Arc::clone(&got));
            executor.spawn(async move {
                let loaded = join(&cache).await;
                got.lock().unwrap().push(loaded.unwrap());
            });
        }
        executor.run();
        // The one who brought the load goes, or is forgotten.
        let forgotten = if dropped { None } else { Some(first) };
        gate.open(Ok(1));
        executor.run();
        assert_eq!(*got.lock().unwrap(), [1, 1, 1]);
        drop(forgotten);
        assert_eq!((cache.get(&7), gate.drops()), (Some(1), 1));
    }
}

#[test]
fn tasks_that_are_cancelled_leave_the_load_to_the_rest() {
    let cache = builder().build().unwrap();
    let (executor, gate) = (Executor::default(), Gate::<Answer>::new());
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (cache, gate) = (cache.clone(), gate.clone());
            executor.spawn(async move { assert_eq!(call(&cache, &gate).await.unwrap(), 1) })
        })
        .collect();
    executor.run();
    // Before the load is woken, and after.
    tasks[..5].iter().for_each(|task| task.cancel());
    gate.open(Ok(1));
    tasks[5..9].iter().for_each(|task| task.cancel());
    executor.run();
    assert!(tasks[9].is_done());
    assert_eq!((cache.get(&7), gate.drops(), cache.stats().loads), (Some(1), 1, 1));
}

#[test]
fn a_load_that_nobody_waits_for_is_dropped_and_its_key_is_free() {
    let cache = builder().build().unwrap();
    let gate = Gate::new();
    let mut waiting = [call(&cache, &gate), join(&cache), join(&cache)];
    waiting.iter_mut().for_each(|caller| assert!(poll_once(caller).is_pending()));
    assert_eq!(gate.drops(), 0);
    drop(waiting);
    assert_eq!(gate.drops(), 1);
    assert_eq!(ready(cache.get_or_load_async(7, |_| async { Ok::<_, ()>(2) })).unwrap(), 2);
    // A caller that never was polled does nothing at all.
    drop(call(&cache, &gate));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures, gate.drops()), (1, 0, 1));
    cache.check_invariants();
}

#[test]
fn every_waiter_gets_the_same_error() {
    let cache = builder().build().unwrap();
    let gate = Gate::new();
    let mut callers = [call(&cache, &gate), join(&cache), join(&cache)];
    callers.iter_mut().for_each(|caller| assert!(poll_once(caller).is_pending()));
    gate.open(Err("down"));
    let errors = callers.each_mut().map(|caller| match poll_once(caller) {
        Poll::Ready(Err(LoadError::Failed(error))) => error,
        other => panic!("{other:?}"),
    });
    assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0]) && **error == "down"));
    assert_eq!(ready(cache.get_or_load_async(7, |_| async { Ok::<_, ()>(2) })).unwrap(), 2);
}

#[test]
fn a_panic_is_an_answer_to_every_waiter() {
    let cache = builder().build().unwrap();
    let gate = Gate::new();
    let pass = gate.pass();
    let load = move |_| async move {
        let _: Answer = pass.await;
        panic!("{INTENDED}")
    };
    let mut first: std::pin::Pin<Box<dyn Future<Output = Loaded>>> = Box::pin(cache.get_or_load_async(7, load));
    let mut second = join(&cache);
    assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
    gate.open(Ok(1));
    assert!(matches!(poll_once(&mut second), Poll::Ready(Err(LoadError::Panicked))));
    assert!(matches!(poll_once(&mut first), Poll::Ready(Err(LoadError::Panicked))));
    let at_once = ready(cache.get_or_load_async(7, |_| -> std::future::Ready<Answer> { panic!("{INTENDED}") }));
    assert!(matches!(at_once, Err(LoadError::Panicked)), "{at_once:?}");
    assert_eq!(cache.stats().load_failures, 2);
    assert_eq!(ready(cache.get_or_load_async(7, |_| async { Ok::<_, ()>(2) })).unwrap(), 2);
}

#[test]
fn threads_and_tasks_wait_for_each_others_loads() {
    // A thread helps to finish the load of a task that is never polled again.
    let cache = builder().build().unwrap();
    let gate = Gate::new();
    let mut forgotten = call(&cache, &gate);
    assert!(poll_once(&mut forgotten).is_pending());
    std::thread::scope(|scope| {
        let missed = cache.stats().misses;
        let cache = &cache;
        let thread = scope.spawn(|| cache.get_or_load(7, |_| Err::<u64, _>("somebody loads it already")));
        while cache.stats().misses == missed {
            std::thread::yield_now();
        }
        gate.open(Ok(1));
        assert_eq!(thread.join().unwrap().unwrap(), 1);
    });
    assert!(matches!(poll_once(&mut forgotten), Poll::Ready(Ok(1))));

    // A task waits for the load of a thread.
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
                Err::<u64, _>("down")
            })
        });
        begun.recv().unwrap();
        let mut task = join(cache);
        assert!(poll_once(&mut task).is_pending());
        go.send(()).unwrap();
        let Err(LoadError::Failed(error)) = leader.join().unwrap() else { panic!() };
        assert!(
            matches!(poll_once(&mut task), Poll::Ready(Err(LoadError::Failed(same))) if Arc::ptr_eq(&same, &error))
        );
    });
}

#[test]
fn a_thread_that_gives_up_leaves_the_load_to_the_tasks() {
    let cache = builder().load_timeout(Duration::from_millis(1)).build().unwrap();
    let gate = Gate::new();
    let mut task = call(&cache, &gate);
    assert!(poll_once(&mut task).is_pending());
    assert!(matches!(cache.get_or_load(7, |_| Ok::<_, &str>(2)), Err(LoadError::TimedOut)));
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, &str>(3)).unwrap(), 3, "the key is free");
    gate.open(Ok(1));
    assert!(matches!(poll_once(&mut task), Poll::Ready(Ok(1))));
    assert_eq!(cache.get(&7), Some(3), "the late value is not stored");
}

#[test]
fn a_write_during_the_load_wins() {
    let writes: [fn(&Store); 4] = [
        |cache| _ = cache.insert(7, 2),
        |cache| _ = cache.remove(&7),
        |cache| cache.clear(),
        |cache| _ = cache.entry(7).and_compute(|_| Change::Put(2)),
    ];
    for write in writes {
        let cache = builder().build().unwrap();
        let gate = Gate::new();
        let mut task = call(&cache, &gate);
        assert!(poll_once(&mut task).is_pending());
        write(&cache);
        let left = cache.get(&7);
        // Who comes now starts anew: it must not get what was read before the write.
        if left.is_none() {
            assert_eq!(ready(cache.get_or_load_async(7, |_| async { Ok::<_, &str>(5) })).unwrap(), 5);
        }
        gate.open(Ok(1));
        assert!(matches!(poll_once(&mut task), Poll::Ready(Ok(1))), "who waited gets it");
        assert_eq!(cache.get(&7), left.or(Some(5)));
        assert_eq!(cache.stats().stale_fills, 1);
    }
}

#[test]
fn a_load_that_waits_for_itself_is_told_so() {
    must_end(|| {
        let cache = builder().build().unwrap();
        let inner = cache.clone();
        let load = move |_| async move {
            let same = inner.get_or_load_async(7, |_| async { Ok::<_, &str>(0) }).await;
            assert!(matches!(same, Err(LoadError::Recursive)), "{same:?}");
            let blocking = inner.get_or_load(7, |_| Ok::<_, &str>(0));
            assert!(matches!(blocking, Err(LoadError::Recursive)), "{blocking:?}");
            let again = inner.clone();
            let other = inner.get_or_load_async(8, move |_| async move {
                let back = again.get_or_load_async(7, |_| async { Ok::<_, &str>(0) }).await;
                assert!(matches!(back, Err(LoadError::Recursive)), "by way of another key: {back:?}");
                Ok::<_, &str>(80)
            });
            Ok::<_, &str>(other.await.unwrap() + 1)
        };
        assert_eq!(ready(cache.get_or_load_async(7, load)).unwrap(), 81);
        assert_eq!((cache.get(&7), cache.get(&8)), (Some(81), Some(80)));
    });
}

#[test]
fn call_sites_may_differ_in_their_errors() {
    let cache = builder().build().unwrap();
    let gate = Gate::new();
    let mut text = call(&cache, &gate);
    let mut number = Box::pin(cache.get_or_load_async(7, |_| async { Err::<u64, _>(404) }));
    assert!(poll_once(&mut text).is_pending() && poll_once(&mut number).is_pending());
    gate.open(Err("down"));
    assert!(matches!(poll_once(&mut text), Poll::Ready(Err(LoadError::Failed(_)))));
    // It cannot be given the other's error, so it asks its own loader.
    assert!(matches!(poll_once(&mut number), Poll::Ready(Err(LoadError::Failed(error))) if *error == 404));
}

#[test]
fn a_value_that_cannot_be_weighed_poisons_nothing() {
    let cache =
        builder().weigher(|_: &u64, &value: &u64| if value == 13 { panic!("{INTENDED}") } else { 1 }).build().unwrap();
    let gate = Gate::new();
    let (mut first, mut second) = (call(&cache, &gate), join(&cache));
    assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
    gate.open(Ok(13));
    must_panic(|| poll_once(&mut second));
    assert!(matches!(poll_once(&mut first), Poll::Ready(Ok(13))));
    drop((first, second));
    must_end(move || {
        let found = ready(cache.get_or_load_all_async([7, 8], |missing| async move {
            Ok::<_, &str>(missing.into_iter().map(|key| (key, 1)).collect())
        }));
        assert_eq!(found.unwrap(), [(7, 1), (8, 1)], "loaded anew");
    });
}

#[test]
fn one_load_serves_all_who_cannot_use_an_absence() {
    let cache = builder().build().unwrap();
    let gate = Gate::<Result<Option<u64>, &str>>::new();
    let pass = gate.clone();
    let mut asks = Box::pin(cache.get_or_load_optional_async(7, move |_| pass.pass()));
    let mut second = Box::pin(cache.get_or_load_async(7, |_| async { Ok::<_, &str>(70) }));
    let mut third = join(&cache);
    assert!(poll_once(&mut asks).is_pending() && poll_once(&mut second).is_pending());
    assert!(poll_once(&mut third).is_pending());
    gate.open(Ok(None));
    assert!(matches!(poll_once(&mut asks), Poll::Ready(Ok(None))));
    // The other two have a loader that makes the value; whoever comes first calls it, for both.
    assert!(matches!(poll_once(&mut second), Poll::Ready(Ok(70))));
    let late = poll_once(&mut third);
    assert!(matches!(late, Poll::Ready(Ok(70))), "{late:?}");
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 0));
}

#[test]
fn a_thread_that_cannot_use_an_absence_looks_for_a_value_first() {
    must_end(|| {
        let cache = builder().build().unwrap();
        let gate = Gate::<Result<Option<u64>, &str>>::new();
        let (pass, writer) = (gate.clone(), cache.clone());
        let mut asks = Box::pin(cache.get_or_load_optional_async(7, move |key| async move {
            let found = pass.pass().await;
            writer.insert(key, 70);
            found
        }));
        assert!(poll_once(&mut asks).is_pending());
        gate.open(Ok(None));
        // Takes part in the load of the task, which finds nothing; but somebody has written the value meanwhile.
        assert_eq!(cache.get_or_load(7, |_| Ok::<_, &str>(99)).unwrap(), 70);
        assert_eq!(cache.get(&7), Some(70));
        assert!(matches!(poll_once(&mut asks), Poll::Ready(Ok(None))));
    });
}
