//! What settings do together: shards and weights, jitter and refresh, a time of its own, files.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenfold_cache_core::{Builder, Cache, Change, Lookup, ManualClock, ReadThrough, RefreshJob};

use crate::recency::VecLru;

fn builder() -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(1 << 20)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_weigher_keeps_the_shards_few() {
    let counted = builder().build().unwrap();
    let weighed = builder().weigher(|_: &u64, _: &u64| 1 << 14).build().unwrap();
    assert!(weighed.shard_count() <= 8, "64 entries in {} shards", weighed.shard_count());
    assert!(counted.shard_count() >= weighed.shard_count());
    assert_eq!(builder().weigher(|_: &u64, _: &u64| 1).shards(32).build().unwrap().shard_count(), 32);
}

#[test]
fn a_builder_takes_a_policy_without_a_default() {
    let cache: Cache<u64, u64, VecLru> = Builder::with_policy(VecLru::default()).capacity(2).build().unwrap();
    cache.insert(1, 1);
    assert_eq!(cache.get(&1), Some(1));
}

#[test]
fn jitter_does_not_let_entries_expire_before_they_come_due() {
    let clock = ManualClock::new();
    let cache = builder()
        .time_to_live(seconds(100))
        .time_to_live_jitter_percent(90)
        .refresh_after(seconds(50))
        .max_refreshes(1_000)
        .clock(clock.clone())
        .build()
        .unwrap();
    let jobs: Arc<Mutex<VecDeque<RefreshJob>>> = Arc::default();
    let queue = Arc::clone(&jobs);
    let through = ReadThrough::new(cache, |key: &u64| Ok::<_, ()>(Some(*key)))
        .executor(move |job| queue.lock().unwrap().push_back(job));
    for key in 0..200 {
        let _ = through.get(&key);
    }
    // Looked at each second, no entry leaves before its refresh was asked for.
    for _ in 0..100 {
        clock.advance(seconds(1));
        for key in 0..200 {
            assert!(through.cache().contains(&key), "{key} expired without having come due");
            let _ = through.get(&key);
        }
        let due: Vec<_> = jobs.lock().unwrap().drain(..).collect();
        due.into_iter().for_each(|job| job());
    }
    assert_eq!(through.cache().stats().misses, 200, "the first looks alone");
}

#[test]
fn an_update_may_give_a_time_of_its_own() {
    let clock = ManualClock::new();
    let cache = builder().clock(clock.clone()).build().unwrap();
    clock.advance(seconds(1_000));
    cache.entry(1).and_compute(|_| Change::PutWithTtl(7, seconds(60)));
    clock.advance(seconds(59));
    assert_eq!(cache.entry(1).and_compute(|_| Change::Keep), Some(7));
    // A counter that keeps its window.
    let left = cache.time_left(&1).unwrap();
    cache.entry(1).and_compute(|count| Change::PutWithTtl(count.map_or(1, |c| c + 1), left));
    assert_eq!(cache.get(&1), Some(8));
    clock.advance(seconds(1));
    assert_eq!(cache.get(&1), None);
    cache.check_invariants();
}

#[test]
fn waiting_for_a_lease_is_no_miss() {
    let cache = builder().build().unwrap();
    assert!(matches!(cache.lease(&1), Lookup::Granted(_)));
    for _ in 0..10 {
        assert_eq!(cache.lease(&1), Lookup::Busy);
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.lease_waits), (1, 10));
}

#[test]
fn a_single_thread_updates_by_entry_too() {
    let mut cache = builder().capacity(2).build_unsync().unwrap();
    assert_eq!(cache.entry(1).and_modify(|count| *count += 1).or_insert(1), Some(&1));
    assert_eq!(cache.entry(1).and_modify(|count| *count += 1).or_insert(1), Some(&2));
    assert_eq!(cache.entry(1).and_compute(|count| count.map_or(Change::Keep, |_| Change::Remove)), None);
    assert_eq!(cache.get_or_try_insert_with(2, || Err::<u64, _>("no")), Err("no"));
    assert_eq!(cache.get_or_try_insert_with(2, || Ok::<_, ()>(7)), Ok(Some(&7)));
    assert_eq!(cache.get_or_try_insert_with(2, || Err("not asked")), Ok(Some(&7)));
    assert_eq!(cache.len(), 1);
    cache.check_invariants();
}

#[cfg(feature = "serde")]
mod files {
    use tenfold_cache_core::{Config, StatsSnapshot};

    use super::seconds;

    #[test]
    fn durations_are_written_as_people_write_them() {
        let text = r#"{"capacity": 5, "time_to_live": "1h 30m", "refresh_after": 2.5, "load_timeout": 7}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.time_to_live, Some(seconds(5_400)));
        assert_eq!(config.refresh_after, Some(seconds(5) / 2));
        assert_eq!(config.load_timeout, seconds(7));
        assert_eq!(config.time_to_idle, None);
        let again = serde_json::to_string(&config).unwrap();
        assert!(again.contains(r#""time_to_live":"1h 30m""#), "{again}");
        assert_eq!(serde_json::from_str::<Config>(&again).unwrap(), config);
    }

    #[test]
    fn statistics_are_written_by_name() {
        let stats = serde_json::to_value(StatsSnapshot::default()).unwrap();
        assert_eq!((&stats["hits"], &stats["weight"], stats.as_object().unwrap().len()), (&0.into(), &0.into(), 19));
    }

    #[test]
    fn nonsense_in_a_file_is_refused() {
        for text in [r#"{"time_to_live": "soon"}"#, r#"{"time_to_live": -1}"#, r#"{"time_to_life": "5m"}"#] {
            assert!(serde_json::from_str::<Config>(text).is_err(), "{text}");
        }
        // Each says what is wrong and what would be right.
        for (written, named) in
            [("\"soon\"", "string \"soon\""), ("-1", "integer `-1`"), ("-0.5", "floating point `-0.5`")]
        {
            let text = format!(r#"{{"load_timeout": {written}}}"#);
            let error = serde_json::from_str::<Config>(&text).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("expected a duration like \"5m\""), "{error}");
        }
    }
}
