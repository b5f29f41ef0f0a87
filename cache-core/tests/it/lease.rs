//! Cache-aside with leases: no stale fill, one reader at a time, bounded.

use std::time::Duration;

use tenfold_cache_core::{Builder, Cache, Change, FillError, LeaseId, LeaseVoid, Lookup, ManualClock};

use crate::recency::VecLru;
use crate::staged::{INTENDED, must_panic};

type Store = Cache<u64, u64, VecLru>;
type Write = fn(&Store);

fn builder() -> Builder<u64, u64, VecLru> {
    Builder::default().capacity(100).shards(1)
}

fn granted(cache: &Store, key: u64) -> LeaseId {
    match cache.lease(&key) {
        Lookup::Granted(lease) => lease,
        other => panic!("{other:?} instead of a lease"),
    }
}

#[test]
fn a_slow_reader_does_not_write_yesterdays_value_over_todays() {
    // Without leases the race does its damage.
    let cache = builder().build().unwrap();
    let mut database = 1;
    assert_eq!(cache.get(&7), None);
    let read = database;
    database = 2;
    cache.remove(&7);
    cache.insert(7, read);
    assert_eq!(cache.get(&7), Some(1), "stale, and for good");
    assert_ne!(cache.get(&7), Some(database));

    // The same with a lease.
    let cache = builder().build().unwrap();
    let mut database = 1;
    let lease = granted(&cache, 7);
    let read = database;
    database = 2;
    cache.remove(&7);
    assert_eq!(cache.fill(7, lease, read), Err(FillError::Void(1)));
    assert_eq!(cache.get(&7), None);
    assert_eq!(cache.stats().stale_fills, 1);
    let lease = granted(&cache, 7);
    assert_eq!(cache.fill(7, lease, database), Ok(()));
    assert_eq!(cache.lease(&7), Lookup::Hit(2));
}

#[test]
fn every_write_between_grant_and_fill_voids_the_lease() {
    let writes: [(&str, Write); 9] = [
        ("insert", |cache| _ = cache.insert(7, 2)),
        ("insert_with_ttl", |cache| _ = cache.insert_with_ttl(7, 2, Duration::from_secs(9))),
        ("insert with no time", |cache| _ = cache.insert_with_ttl(7, 2, Duration::ZERO)),
        ("remove", |cache| _ = cache.remove(&7)),
        ("clear", Cache::clear),
        ("entry put", |cache| _ = cache.entry(7).and_compute(|_| Change::Put(2))),
        ("entry remove", |cache| _ = cache.entry(7).and_compute(|_| Change::Remove)),
        ("write_around", |cache| cache.write_around(&7, || {})),
        ("write_through", |cache| cache.write_through(7, 2, |_, _| Ok::<_, ()>(())).unwrap()),
    ];
    for (name, write) in writes {
        let cache = builder().build().unwrap();
        let lease = granted(&cache, 7);
        let other = granted(&cache, 8);
        write(&cache);
        let after = cache.peek(&7);
        assert_eq!(cache.fill(7, lease, 1), Err(FillError::Void(1)), "{name}");
        assert_eq!(cache.peek(&7), after, "{name}");
        if name != "clear" {
            assert_eq!(cache.fill(8, other, 8), Ok(()), "{name}: other keys' leases hold");
        }
        cache.check_invariants();
    }
}

#[test]
fn an_insertion_that_is_refused_voids_the_lease_too() {
    let cache = builder().weigher(|_: &u64, &value: &u64| value).build().unwrap();
    let lease = granted(&cache, 7);
    assert!(cache.try_insert(7, 101).is_err());
    assert_eq!(cache.fill(7, lease, 1), Err(FillError::Void(1)));
    let lease = granted(&cache, 7);
    assert_eq!(cache.fill(7, lease, 101), Err(FillError::Refused(101)), "nobody wrote, but it is too heavy");
    assert_eq!(cache.fill(7, lease, 1), Err(FillError::Void(1)), "a lease is good for one fill");
    assert_eq!(FillError::Void(3).into_value(), 3);
}

#[test]
fn one_reader_at_a_time_has_the_lease() {
    let cache = builder().build().unwrap();
    let lease = granted(&cache, 7);
    assert_eq!(cache.lease(&7), Lookup::Busy);
    assert_eq!(cache.lease(&7), Lookup::Busy);
    assert_eq!(cache.fill(8, lease, 1), Err(FillError::Void(1)), "it is the lease of another key");
    assert_eq!(cache.fill(7, LeaseId::from_u64(lease.to_u64() ^ 1), 1), Err(FillError::Void(1)));
    assert_eq!(cache.fill(7, LeaseId::from_u64(lease.to_u64()), 1), Ok(()), "it may travel as a number");
    assert_eq!(cache.fill(7, lease, 2), Err(FillError::Void(2)), "once");
    assert_eq!(cache.get(&7), Some(1));
    assert_eq!((cache.stats().hits, cache.stats().misses, cache.stats().lease_waits), (1, 1, 2));
}

#[test]
fn a_lease_of_one_cache_fills_no_other() {
    // As after a restart: the same key, the first lease of each cache.
    let (before, after) = (builder().seed(1).build().unwrap(), builder().seed(2).build().unwrap());
    let old = granted(&before, 7);
    let new = granted(&after, 7);
    assert_ne!(old, new);
    assert_eq!(after.fill(7, old, 1), Err(FillError::Void(1)));
    assert_eq!(after.fill(7, new, 2), Ok(()));
}

#[test]
fn a_lease_times_out_and_goes_to_the_next_reader() {
    let clock = ManualClock::new();
    let cache = builder().lease_timeout(Duration::from_secs(10)).clock(clock.clone()).build().unwrap();
    let slow = granted(&cache, 7);
    clock.advance(Duration::from_secs(10) - Duration::from_nanos(1));
    assert_eq!(cache.lease(&7), Lookup::Busy);
    clock.advance(Duration::from_nanos(1));
    let next = granted(&cache, 7);
    assert_ne!(slow, next);
    assert_eq!(cache.fill(7, slow, 1), Err(FillError::Void(1)));
    assert_eq!(cache.fill(7, next, 2), Ok(()));
    let late = granted(&cache, 8);
    clock.advance(Duration::from_secs(10));
    assert_eq!(cache.fill(8, late, 1), Err(FillError::Void(1)), "too late, though nobody else asked");
}

#[test]
fn leases_are_bounded() {
    let clock = ManualClock::new();
    let builder = builder().max_leases(3).lease_timeout(Duration::from_secs(10)).clock(clock.clone());
    let cache = builder.build().unwrap();
    let leases = [1, 2, 3].map(|key| granted(&cache, key));
    assert_eq!(cache.lease(&4), Lookup::Busy);
    assert_eq!(cache.fill(1, leases[0], 1), Ok(()));
    let fourth = granted(&cache, 4);
    assert_eq!(cache.lease(&5), Lookup::Busy);
    assert!(cache.release(&2, leases[1]));
    granted(&cache, 5);
    cache.remove(&3);
    granted(&cache, 3);
    assert_eq!(cache.lease(&6), Lookup::Busy);
    clock.advance(Duration::from_secs(10));
    // Those that have timed out are in nobody's way.
    let leases = [6, 7, 8].map(|key| granted(&cache, key));
    assert_eq!(cache.lease(&9), Lookup::Busy);
    assert!(!cache.release(&4, fourth));
    cache.clear();
    let _ = [9, 10, 11].map(|key| granted(&cache, key));
    assert_eq!(cache.fill(6, leases[0], 6), Err(FillError::Void(6)));
}

#[test]
fn a_lease_can_be_given_back() {
    let cache = builder().build().unwrap();
    let lease = granted(&cache, 7);
    assert!(!cache.release(&8, lease));
    assert!(cache.release(&7, lease));
    assert!(!cache.release(&7, lease));
    assert_eq!(cache.fill(7, lease, 1), Err(FillError::Void(1)));
    let next = granted(&cache, 7);
    assert!(!cache.release(&7, lease), "the old one says nothing about the new one");
    assert_eq!(cache.fill(7, next, 1), Ok(()));
}

#[test]
fn a_load_counts_as_a_reader() {
    let cache = builder().build().unwrap();
    let seen = cache.get_or_load(7, |_| Ok::<_, ()>(if cache.lease(&7) == Lookup::Busy { 1 } else { 2 }));
    assert_eq!(seen.unwrap(), 1);
    assert_eq!(cache.lease(&7), Lookup::Hit(1));
    // A load that begins later takes the place of a lease: its value will be no older.
    cache.remove(&7);
    let lease = granted(&cache, 7);
    assert_eq!(cache.get_or_load(7, |_| Ok::<_, ()>(3)).unwrap(), 3);
    assert_eq!(cache.fill(7, lease, 2), Err(FillError::Void(2)));
    assert_eq!(cache.get(&7), Some(3));
    cache.remove(&7);
    assert!(cache.get_or_load(7, |_| Err::<u64, _>("gone")).is_err());
    granted(&cache, 7);
}

#[test]
fn a_load_whose_value_could_not_be_weighed_is_in_nobodys_way() {
    let cache =
        builder().weigher(|_: &u64, &value: &u64| if value == 13 { panic!("{INTENDED}") } else { 1 }).build().unwrap();
    must_panic(|| cache.get_or_load(7, |_| Ok::<_, ()>(13)));
    cache.check_invariants();
    let lease = granted(&cache, 7);
    must_panic(|| cache.fill(7, lease, 13));
    assert_eq!(cache.fill(7, lease, 1), Ok(()), "nothing has happened");
}

#[test]
fn an_expired_value_kept_for_failing_loads_is_a_miss_to_the_protocol() {
    let clock = ManualClock::new();
    let cache = builder().time_to_live(Duration::from_secs(1)).stale_if_error(Duration::from_secs(9));
    let cache = cache.clock(clock.clone()).build().unwrap();
    cache.insert(7, 1);
    clock.advance(Duration::from_secs(1));
    let lease = granted(&cache, 7);
    assert_eq!(cache.fill(7, lease, 2), Ok(()));
    assert_eq!(cache.lease(&7), Lookup::Hit(2));
    cache.check_invariants();
}

#[test]
fn a_reader_that_finds_nothing_says_so_under_its_lease() {
    let clock = ManualClock::new();
    let cache = builder().negative_time_to_live(Duration::from_secs(10)).clock(clock.clone()).build().unwrap();
    let lease = granted(&cache, 7);
    assert_eq!(cache.fill_absent(7, lease), Ok(()));
    assert_eq!(cache.lease(&7), Lookup::Absent);
    assert_eq!(cache.get_or_load_optional(7, |_| Err::<Option<u64>, _>("asked")), Ok(None));
    assert_eq!((cache.stats().negative_hits, cache.stats().misses), (2, 3));
    assert_eq!(cache.fill_absent(7, lease), Err(LeaseVoid), "a lease is good for one fill");
    clock.advance(Duration::from_secs(10));
    let lease = granted(&cache, 7);
    cache.insert(7, 1);
    assert_eq!(cache.fill_absent(7, lease), Err(LeaseVoid), "a write came in between");
    assert_eq!((cache.lease(&7), cache.stats().stale_fills), (Lookup::Hit(1), 2));
    cache.remove(&7);
    let lease = granted(&cache, 7);
    assert_eq!(cache.fill_absent(7, lease), Ok(()));
    cache.remove(&7);
    let _ = granted(&cache, 7);
    cache.check_invariants();
}

#[test]
fn absence_ends_what_had_expired_and_is_forgotten_without_the_setting() {
    let clock = ManualClock::new();
    let builder = builder().time_to_live(Duration::from_secs(1)).stale_if_error(Duration::from_secs(9));
    let cache = builder.clock(clock.clone()).build().unwrap();
    cache.insert(7, 1);
    clock.advance(Duration::from_secs(1));
    let lease = granted(&cache, 7);
    assert_eq!(cache.fill_absent(7, lease), Ok(()));
    assert_eq!(cache.len(), 0);
    assert!(cache.get_or_load(7, |_| Err::<u64, _>("down")).is_err(), "nothing stands in any more");
    let lease = granted(&cache, 7);
    assert_eq!(cache.fill(7, lease, 2), Ok(()), "the next reader reads");
    cache.check_invariants();
}
