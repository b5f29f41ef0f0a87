//! Refresh-ahead in tasks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenfold_cache_core::{AsyncReadThrough, Builder, Cache, ManualClock, RefreshTask};

use crate::recency::VecLru;
use crate::staged::{Executor, Gate, poll_once, ready};

type Store = Cache<u64, u64, VecLru>;
type Answer = Result<Option<u64>, &'static str>;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn builder(clock: &ManualClock) -> Builder<u64, u64, VecLru> {
    Builder::default()
        .capacity(100)
        .shards(2)
        .time_to_live(seconds(100))
        .refresh_after(seconds(50))
        .clock(clock.clone())
}

struct AsyncBench {
    clock: ManualClock,
    gate: Gate<Answer>,
    loads: Arc<AtomicU64>,
    tasks: Arc<Mutex<VecDeque<RefreshTask>>>,
}

impl AsyncBench {
    fn new() -> Self {
        Self { clock: ManualClock::new(), gate: Gate::new(), loads: Arc::default(), tasks: Arc::default() }
    }

    /// A loader that waits for the gate, and a spawner that only queues.
    fn through(&self) -> AsyncReadThrough<u64, u64, VecLru, impl tenfold_cache_core::AsyncLoader<u64, u64> + use<>> {
        let (gate, loads, tasks) = (self.gate.clone(), Arc::clone(&self.loads), Arc::clone(&self.tasks));
        let load = move |_: u64| {
            loads.fetch_add(1, Ordering::Relaxed);
            gate.pass()
        };
        let cache: Store = builder(&self.clock).max_refreshes(2).build().unwrap();
        AsyncReadThrough::new(cache, load).spawner(move |task| tasks.lock().unwrap().push_back(task))
    }

    fn take(&self) -> Option<RefreshTask> {
        self.tasks.lock().unwrap().pop_front()
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
}

#[test]
fn tasks_refresh_ahead_as_jobs_do() {
    let bench = AsyncBench::new();
    let through = bench.through();
    bench.gate.open(Ok(Some(1)));
    assert_eq!(ready(through.get(&7)).ok(), Some(Some(1)));
    bench.clock.advance(seconds(50));
    for key in [7, 7, 7] {
        assert_eq!(ready(through.get(&key)).ok(), Some(Some(1)));
    }
    let executor = Executor::default();
    let task = executor.spawn(bench.take().unwrap());
    assert!(bench.take().is_none(), "one task a key");
    executor.run();
    assert_eq!(bench.loads(), 2);
    assert_eq!(ready(through.get(&7)).ok(), Some(Some(1)), "served while it is loaded");
    assert!(bench.take().is_none());
    bench.gate.open(Ok(Some(2)));
    executor.run();
    assert!(task.is_done());
    assert_eq!(ready(through.get(&7)).ok(), Some(Some(2)));
    assert_eq!(through.cache().stats().refreshes, 1);
    // On demand.
    bench.gate.open(Ok(Some(3)));
    assert_eq!(ready(through.refresh(&7)).ok(), Some(Some(3)));
    assert_eq!(through.cache().get(&7), Some(3));
    through.cache().check_invariants();
}

#[test]
fn a_refresh_task_that_is_dropped_frees_its_key() {
    let bench = AsyncBench::new();
    let through = bench.through();
    for key in [6, 7, 8] {
        through.cache().insert(key, 1);
    }
    bench.clock.advance(seconds(50));
    let touch = || [6, 7, 8].map(|key| assert_eq!(ready(through.get(&key)).ok(), Some(Some(1))));
    touch();
    assert_eq!(bench.tasks.lock().unwrap().len(), 2, "bounded");
    // One before it has begun, one in the middle of the load.
    drop(bench.take());
    let mut running = bench.take().unwrap();
    assert!(poll_once(&mut running).is_pending());
    drop(running);
    assert_eq!((bench.gate.drops(), bench.loads()), (1, 1), "the load is dropped with it");
    touch();
    assert_eq!(bench.tasks.lock().unwrap().len(), 2);
    // The one that had begun counts as a failure, and waits for a tenth of the time.
    bench.tasks.lock().unwrap().clear();
    bench.clock.advance(seconds(5));
    assert_eq!(ready(through.get(&7)).ok(), Some(Some(1)));
    let task = bench.take().unwrap();
    bench.gate.open(Ok(Some(2)));
    ready(task);
    assert_eq!(ready(through.get(&7)).ok(), Some(Some(2)));
}

#[test]
fn what_is_removed_during_its_refresh_task_does_not_come_back() {
    let bench = AsyncBench::new();
    let through = bench.through();
    through.cache().insert(7, 1);
    bench.clock.advance(seconds(50));
    ready(through.get(&7)).ok().unwrap();
    let mut task = bench.take().unwrap();
    assert!(poll_once(&mut task).is_pending());
    through.cache().remove(&7);
    bench.gate.open(Ok(Some(2)));
    assert!(poll_once(&mut task).is_ready());
    assert_eq!(through.cache().get(&7), None);
    assert_eq!(through.cache().stats().stale_fills, 1);
}

#[test]
fn a_hit_among_many_keys_comes_due_in_tasks_too() {
    let AsyncBench { clock, loads, tasks, .. } = AsyncBench::new();
    let (count, queue) = (Arc::clone(&loads), Arc::clone(&tasks));
    let load = move |_: u64| {
        let answer: Answer = Ok(Some(10 + count.fetch_add(1, Ordering::Relaxed)));
        async move { answer }
    };
    let cache: Store = builder(&clock).build().unwrap();
    let through = AsyncReadThrough::new(cache, load).spawner(move |task| queue.lock().unwrap().push_back(task));
    through.cache().insert(7, 7);
    clock.advance(seconds(50));
    through.cache().insert(8, 8);
    assert_eq!(ready(through.get_all([7, 8, 9])).ok(), Some(vec![(7, 7), (8, 8), (9, 10)]));
    let mut due: Vec<_> = tasks.lock().unwrap().drain(..).collect();
    assert_eq!(due.len(), 1, "7 is due, and nothing else");
    ready(due.remove(0));
    assert_eq!(ready(through.get_all([7])).ok(), Some(vec![(7, 11)]));
    assert_eq!((loads.load(Ordering::Relaxed), through.cache().stats().refreshes), (2, 1));
}
