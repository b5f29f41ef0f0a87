use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;

use super::*;
use crate::trace::Trace;

/// Capacity, and the hit ratios of LRU, FIFO and LFU (counts of residents) on the recorded trace, in percent.
const ON_THE_TRACE: [(usize, [f64; 3]); 3] =
    [(200, [39.0, 36.2, 30.6]), (1000, [50.4, 47.7, 45.0]), (4000, [60.8, 58.6, 60.2])];

fn percent(hits: usize, accesses: &[u64]) -> f64 {
    hits as f64 / accesses.len() as f64 * 100.0
}

/// The victim is the resident with the least rank; a resident's rank follows from its accesses so far and the last's time.
fn hit_percent(accesses: &[u64], capacity: usize, rank: impl Fn(u64, u64) -> (u64, u64)) -> f64 {
    let mut residents: HashMap<u64, (u64, (u64, u64))> = HashMap::new();
    let mut order: BTreeSet<((u64, u64), u64)> = BTreeSet::new();
    let mut hits = 0;
    for (time, key) in (0..).zip(accesses) {
        let seen = match residents.remove(key) {
            Some((seen, at)) => {
                hits += 1;
                order.remove(&(at, *key));
                seen
            }
            None => {
                if residents.len() == capacity
                    && let Some((_, victim)) = order.pop_first()
                {
                    residents.remove(&victim);
                }
                0
            }
        };
        let at = rank(seen + 1, time);
        residents.insert(*key, (seen + 1, at));
        order.insert((at, *key));
    }
    percent(hits, accesses)
}

fn fifo_percent(accesses: &[u64], capacity: usize) -> f64 {
    let (mut queue, mut residents, mut hits) = (VecDeque::new(), HashSet::new(), 0);
    for key in accesses {
        if residents.contains(key) {
            hits += 1;
            continue;
        }
        if queue.len() == capacity
            && let Some(victim) = queue.pop_front()
        {
            residents.remove(&victim);
        }
        queue.push_back(*key);
        residents.insert(*key);
    }
    percent(hits, accesses)
}

fn hit_percents(accesses: &[u64], capacity: usize) -> [f64; 3] {
    let lru = hit_percent(accesses, capacity, |_, time| (0, time));
    let lfu = hit_percent(accesses, capacity, |seen, time| (seen, time));
    [lru, fifo_percent(accesses, capacity), lfu]
}

fn assert_close(a: &[f64], b: &[f64], tolerance: f64, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}: {a:?} and {b:?}");
    for (bucket, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}, bucket {bucket}: {a} and {b}");
    }
}

#[test]
fn buckets_are_log_spaced_and_leave_no_gap() {
    let mut next = 1;
    for bucket in 0..40 {
        let (low, high) = Profile::bucket_range(bucket);
        assert_eq!(low, next);
        assert_eq!((Profile::bucket_of(low), Profile::bucket_of(high)), (bucket, bucket));
        next = high + 1;
    }
}

#[test]
fn measured_figures_are_those_of_the_sequence() {
    // Key 7 three times, 8 twice, 9 once. Distances: 8 → 1, 7 → 2 (below 8), 7 → 2 (below 9).
    let profile = Profile::measure("short", &[7, 8, 8, 7, 9, 7]);
    assert_eq!((profile.accesses, profile.keys, profile.first), (6, 3, 0.5));
    assert_eq!(&*profile.popularity, [3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0]);
    assert_eq!(&*profile.reuse, [1.0 / 6.0, 2.0 / 6.0]);
    assert_eq!(Profile::measure("none", &[]).keys, 0);
}

#[test]
fn the_committed_profile_is_whole() {
    let reuse: f64 = WEB07.reuse.iter().sum();
    let popularity: f64 = WEB07.popularity.iter().sum();
    assert!((WEB07.first + reuse - 1.0).abs() < 1e-4);
    assert!((popularity - 1.0).abs() < 1e-4);
    assert!(WEB07.source.contains("CC BY 4.0"));
}

#[test]
fn the_generator_reproduces_the_profile_and_its_hit_ratios() {
    for seed in [1, 2] {
        let accesses: Vec<u64> = ProfileKeys::new(&WEB07, seed).take(WEB07.accesses as usize).collect();
        let made = Profile::measure("made", &accesses);
        assert_eq!(made.keys, WEB07.keys, "seed {seed}");
        assert!((made.first - WEB07.first).abs() < 0.005, "seed {seed}: {}", made.first);
        assert_close(&made.popularity, &WEB07.popularity, 0.03, "popularity");
        // Early on, the deepest buckets do not exist yet; what they lack, the very last one has.
        assert_close(&made.reuse[..14], &WEB07.reuse[..14], 0.01, "reuse");
        for (capacity, expected) in ON_THE_TRACE {
            let got = hit_percents(&accesses, capacity);
            println!("seed {seed}, {capacity} entries: LRU, FIFO, LFU {got:.1?} %, on the trace {expected:?} %");
            assert_close(&got[..2], &expected[..2], 1.0, "LRU, FIFO");
            // The model knows no seasons: a key popular for a week alone looks like one that is asked for all month.
            assert_close(&got[2..], &expected[2..], 3.0, "LFU");
        }
    }
}

#[test]
fn the_committed_profile_is_that_of_the_trace() {
    let Some(folder) = std::env::var_os("TENFOLD_TRACES") else {
        println!("skipped 1: TENFOLD_TRACES does not name a folder with web07.d64.zst");
        return;
    };
    let accesses: Vec<u64> = Trace::open(Path::new(&folder).join("web07.d64.zst")).unwrap().keys().collect();
    let measured = Profile::measure("web07", &accesses);
    assert_eq!((measured.accesses, measured.keys), (WEB07.accesses, WEB07.keys));
    assert!((measured.first - WEB07.first).abs() < 1e-6);
    assert_close(&measured.popularity, &WEB07.popularity, 1e-6, "popularity");
    assert_close(&measured.reuse, &WEB07.reuse, 1e-6, "reuse");
    for (capacity, expected) in ON_THE_TRACE {
        assert_close(&hit_percents(&accesses, capacity), &expected, 0.06, "hit ratios");
    }
}

#[test]
fn the_sequence_has_no_end_and_no_trend() {
    let accesses: Vec<u64> = ProfileKeys::new(&WEB07, 5).take(400_000).collect();
    assert!(accesses.iter().all(|key| *key < u64::from(WEB07.keys)));
    let late = hit_percent(&accesses[300_000..], 1000, |_, time| (0, time));
    assert!((late - 50.4).abs() < 2.0, "LRU, 1000 entries, after 300,000 accesses: {late:.1} %");
}

#[test]
fn a_seed_determines_the_sequence() {
    let take = |seed| ProfileKeys::new(&WEB07, seed).take(1000).collect::<Vec<_>>();
    assert_eq!(take(1), take(1));
    assert_ne!(take(1), take(2));
}

#[test]
fn odd_profiles_are_served_as_far_as_they_go() {
    let none = Profile { keys: 0, ..WEB07 };
    assert_eq!(ProfileKeys::new(&none, 1).next(), None);
    let one = Profile { keys: 1, ..WEB07 };
    assert!(ProfileKeys::new(&one, 1).take(100).all(|key| key == 0));
    let never_first = Profile { first: -1.0, reuse: Cow::Borrowed(&[f64::NAN]), ..WEB07 };
    assert_eq!(ProfileKeys::new(&never_first, 1).take(100).count(), 100);
}
