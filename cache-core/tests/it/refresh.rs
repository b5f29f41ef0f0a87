//! Refresh-ahead: the old value is served, one job a key reloads it, a bound on all of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenfold_cache_core::{Builder, Cache, Loader, ManualClock, ReadThrough, RefreshJob, RemovalCause};

use crate::recency::VecLru;
use crate::staged::{INTENDED, must_panic};

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

/// A source whose answer the test sets, and that counts how often it is asked.
#[derive(Clone)]
struct Source {
    answer: Arc<Mutex<Answer>>,
    loads: Arc<AtomicU64>,
}

impl Source {
    fn new(answer: u64) -> Self {
        Self { answer: Arc::new(Mutex::new(Ok(Some(answer)))), loads: Arc::default() }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
}

impl Loader<u64, u64> for Source {
    type Error = &'static str;

    fn load(&self, _: &u64) -> Answer {
        self.loads.fetch_add(1, Ordering::Relaxed);
        *self.answer.lock().unwrap()
    }
}

/// Jobs that wait until the test runs them.
#[derive(Clone, Default)]
struct Jobs(Arc<Mutex<VecDeque<RefreshJob>>>);

impl Jobs {
    fn push(&self, job: RefreshJob) {
        self.0.lock().unwrap().push_back(job);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn take(&self) -> Option<RefreshJob> {
        self.0.lock().unwrap().pop_front()
    }

    fn run(&self) -> usize {
        let mut run = 0;
        while let Some(job) = self.take() {
            job();
            run += 1;
        }
        run
    }
}

struct Bench {
    clock: ManualClock,
    source: Source,
    jobs: Jobs,
    through: ReadThrough<u64, u64, VecLru, Source>,
}

fn bench(set: impl FnOnce(Builder<u64, u64, VecLru>) -> Builder<u64, u64, VecLru>) -> Bench {
    let (clock, source, jobs) = (ManualClock::new(), Source::new(1), Jobs::default());
    let queue = jobs.clone();
    let cache: Store = set(builder(&clock)).build().unwrap();
    let through = ReadThrough::new(cache, source.clone()).executor(move |job| queue.push(job));
    Bench { clock, source, jobs, through }
}

#[test]
fn the_old_value_is_served_while_one_job_reloads_it() {
    let Bench { clock, source, jobs, through } = bench(|builder| builder);
    assert_eq!(through.get(&7).unwrap(), Some(1));
    clock.advance(seconds(50) - Duration::from_nanos(1));
    assert_eq!((through.get(&7).unwrap(), jobs.len()), (Some(1), 0), "not due yet");
    clock.advance(Duration::from_nanos(1));
    source.set(Ok(Some(2)));
    for _ in 0..5 {
        assert_eq!(through.get(&7).unwrap(), Some(1));
    }
    assert_eq!((jobs.len(), source.loads()), (1, 1));
    assert_eq!(jobs.run(), 1);
    assert_eq!((through.get(&7).unwrap(), jobs.len(), source.loads()), (Some(2), 0, 2));
    clock.advance(seconds(50));
    assert_eq!((through.clone().get(&7).unwrap(), jobs.len()), (Some(2), 1), "clones share all");
    let stats = through.cache().stats();
    assert_eq!((stats.refreshes, stats.loads, stats.replacements), (1, 2, 1));
    through.cache().check_invariants();
}

#[test]
fn without_a_hit_nothing_is_refreshed_and_the_cold_expires() {
    let Bench { clock, source, jobs, through } = bench(|builder| builder);
    through.get(&7).unwrap();
    clock.advance(seconds(99));
    through.cache().peek(&7);
    through.cache().get(&7);
    assert_eq!(jobs.len(), 0, "only a hit by way of the loader asks for a refresh");
    clock.advance(seconds(1));
    assert_eq!(through.cache().get(&7), None);
    assert_eq!((through.get(&7).unwrap(), source.loads()), (Some(1), 2));
}

#[test]
fn without_an_executor_nothing_is_refreshed_ahead() {
    let clock = ManualClock::new();
    let source = Source::new(1);
    let through = ReadThrough::new(builder(&clock).build().unwrap(), source.clone());
    through.get(&7).unwrap();
    clock.advance(seconds(60));
    assert_eq!((through.get(&7).unwrap(), source.loads()), (Some(1), 1));
    source.set(Ok(Some(2)));
    assert_eq!(through.refresh(&7).unwrap(), Some(2), "but on demand");
    assert_eq!(through.get(&7).unwrap(), Some(2));
}

#[test]
fn refreshes_are_bounded() {
    let Bench { clock, jobs, through, .. } = bench(|builder| builder.max_refreshes(3));
    (0..10).for_each(|key| drop(through.get(&key)));
    clock.advance(seconds(50));
    (0..10).for_each(|key| assert_eq!(through.get(&key).unwrap(), Some(1), "all are served"));
    assert_eq!(jobs.len(), 3);
    jobs.take().unwrap()();
    (0..10).for_each(|key| drop(through.get(&key)));
    assert_eq!(jobs.len(), 3, "one is done, one more may come");
    drop(jobs.take());
    (0..10).for_each(|key| drop(through.get(&key)));
    assert_eq!(jobs.len(), 3, "a job that is dropped makes room as well");
}

#[test]
fn a_job_that_is_dropped_frees_its_key() {
    let Bench { clock, source, jobs, through } = bench(|builder| builder);
    through.get(&7).unwrap();
    clock.advance(seconds(50));
    through.get(&7).unwrap();
    drop(jobs.take());
    through.get(&7).unwrap();
    assert_eq!((jobs.run(), source.loads(), through.cache().stats().refreshes), (1, 2, 1));
}

#[test]
fn a_failed_refresh_is_tried_again_after_a_tenth_of_the_time() {
    let Bench { clock, source, jobs, through } = bench(|builder| builder.stale_if_error(seconds(10)));
    through.get(&7).unwrap();
    clock.advance(seconds(50));
    source.set(Err("down"));
    assert_eq!(through.get(&7).unwrap(), Some(1));
    jobs.run();
    assert_eq!((through.get(&7).unwrap(), jobs.len()), (Some(1), 0), "the source is left alone");
    clock.advance(seconds(5) - Duration::from_nanos(1));
    assert_eq!((through.get(&7).unwrap(), jobs.len()), (Some(1), 0));
    clock.advance(Duration::from_nanos(1));
    source.set(Ok(Some(2)));
    assert_eq!((through.get(&7).unwrap(), jobs.run()), (Some(1), 1));
    assert_eq!(through.get(&7).unwrap(), Some(2));
    let stats = through.cache().stats();
    assert_eq!((stats.refreshes, stats.load_failures, stats.stale_hits), (2, 1, 0), "nothing stale was served");
    assert_eq!(through.cache().time_left(&7), Some(seconds(100)), "its time begins anew");
}

/// Sees to it that something happens while the source is asked.
struct Meddling<F>(F);

impl<F: Fn() -> Answer + Send + Sync + 'static> Loader<u64, u64> for Meddling<F> {
    type Error = &'static str;

    fn load(&self, _: &u64) -> Answer {
        (self.0)()
    }
}

#[test]
fn what_is_removed_during_its_refresh_does_not_come_back() {
    let removals: [fn(&Store); 4] = [
        |cache| _ = cache.remove(&7),
        |cache| cache.clear(),
        |cache| cache.retain(|_, _| false),
        |cache| _ = cache.entry(7).and_compute(|_| tenfold_cache_core::Change::Remove),
    ];
    for remove in removals {
        let clock = ManualClock::new();
        let cache: Store = builder(&clock).build().unwrap();
        let (jobs, inner) = (Jobs::default(), cache.clone());
        let queue = jobs.clone();
        let load = Meddling(move || {
            remove(&inner);
            Ok(Some(2))
        });
        let through = ReadThrough::new(cache, load).executor(move |job| queue.push(job));
        through.cache().insert(7, 1);
        clock.advance(seconds(50));
        assert_eq!(through.get(&7).unwrap(), Some(1));
        jobs.run();
        assert_eq!(through.cache().get(&7), None);
        assert_eq!(through.cache().stats().stale_fills, 1);
    }
}

#[test]
fn a_job_finds_out_that_it_came_too_late() {
    let Bench { clock, source, jobs, through } = bench(|builder| builder);
    through.get(&7).unwrap();
    clock.advance(seconds(50));
    through.get(&7).unwrap();
    through.cache().remove(&7);
    assert_eq!((jobs.run(), source.loads(), through.cache().len()), (1, 1, 0), "removed: nobody wants it");
    through.get(&7).unwrap();
    clock.advance(seconds(50));
    through.get(&7).unwrap();
    through.cache().insert(7, 9);
    assert_eq!((jobs.run(), source.loads()), (1, 2), "written: not due any more");
    assert_eq!(through.get(&7).unwrap(), Some(9));
    clock.advance(seconds(50));
    through.get(&7).unwrap();
    clock.advance(seconds(50));
    assert_eq!((jobs.run(), source.loads()), (1, 2), "expired");
    assert_eq!(through.cache().stats().refreshes, 0);
}

#[test]
fn what_is_gone_from_the_source_leaves_with_its_refresh() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let Bench { clock, source, jobs, through } = bench(|builder| {
        let builder = builder.negative_time_to_live(seconds(10));
        builder.listener(move |&key, &value, cause| log.lock().unwrap().push((key, value, cause)))
    });
    through.get(&7).unwrap();
    clock.advance(seconds(50));
    source.set(Ok(None));
    through.get(&7).unwrap();
    jobs.run();
    assert_eq!((through.get(&7).unwrap(), source.loads()), (None, 2), "and its absence is remembered");
    assert_eq!(*told.lock().unwrap(), [(7, 1, RemovalCause::Explicit)], "an entry that leaves is told of");
    assert_eq!((through.cache().len(), through.cache().stats().removals), (0, 1));
    through.cache().check_invariants();
}

#[test]
fn a_panic_in_a_job_frees_its_key_too() {
    let clock = ManualClock::new();
    let jobs = Jobs::default();
    let queue = jobs.clone();
    let load = Meddling(|| panic!("{INTENDED}"));
    let through = ReadThrough::new(builder(&clock).build().unwrap(), load).executor(move |job| queue.push(job));
    through.cache().insert(7, 1);
    clock.advance(seconds(50));
    through.get(&7).unwrap();
    must_panic(|| jobs.run());
    assert_eq!((through.get(&7).unwrap(), jobs.len()), (Some(1), 0), "as after any failure");
    clock.advance(seconds(5));
    assert_eq!((through.get(&7).unwrap(), jobs.len()), (Some(1), 1));
}

#[test]
fn an_executor_may_run_the_job_at_once() {
    let clock = ManualClock::new();
    let source = Source::new(1);
    let through = ReadThrough::new(builder(&clock).build().unwrap(), source.clone()).executor(|job| job());
    through.get(&7).unwrap();
    clock.advance(seconds(50));
    source.set(Ok(Some(2)));
    assert_eq!(through.get(&7).unwrap(), Some(1), "what was found is returned all the same");
    assert_eq!(through.get(&7).unwrap(), Some(2));
}

#[test]
fn many_keys_are_loaded_by_the_loader_too() {
    let Bench { source, through, .. } = bench(|builder| builder);
    through.cache().insert(2, 20);
    assert_eq!(through.get_all([1, 2, 3]).unwrap(), [(1, 1), (2, 20), (3, 1)]);
    assert_eq!(source.loads(), 2, "one by one, unless the loader knows better");
    source.set(Err("down"));
    assert!(through.get_all([1, 4]).is_err());
}

#[test]
fn a_hit_among_many_keys_comes_due_as_one_alone_does() {
    let Bench { clock, source, jobs, through } = bench(|builder| builder);
    through.get_all([1, 2]).unwrap();
    clock.advance(seconds(50));
    through.cache().insert(2, 20);
    source.set(Ok(Some(5)));
    assert_eq!(through.get_all([1, 2, 3, 1]).unwrap(), [(1, 1), (2, 20), (3, 5)]);
    assert_eq!((jobs.len(), source.loads()), (1, 3), "1 is due, 2 was written, 3 was loaded");
    assert_eq!((through.get_all([1]).unwrap(), jobs.run()), (vec![(1, 1)], 1), "one job a key");
    assert_eq!((through.get_all([1, 2]).unwrap(), jobs.len()), (vec![(1, 5), (2, 20)], 0));
    assert_eq!(through.cache().stats().refreshes, 1);
}

/// A refresh that is run at once must not find the keys taken that the same call is about to load.
#[test]
fn a_refresh_run_at_once_waits_for_no_key_of_the_same_call() {
    let clock = ManualClock::new();
    let cache: Store = builder(&clock).build().unwrap();
    let inner = cache.clone();
    let load = Meddling(move || Ok(inner.get_or_load(2, |_| Ok::<_, &str>(9)).ok()));
    let through = ReadThrough::new(cache, load).executor(|job| job());
    through.cache().insert(1, 1);
    clock.advance(seconds(50));
    assert_eq!(through.get_all([2, 1]).unwrap(), [(2, 9), (1, 1)]);
    assert_eq!(through.get(&1).unwrap(), Some(9));
}
