//! What the criterion benches of the three caches have in common: three operations at two sizes,
//! one group each, ours and the peers in the same group.
//!
//! One iteration is a thousand operations, so that microseconds an iteration read as nanoseconds
//! an operation, and neither reading the clock nor a call through a pointer counts.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use tenfold_benches::cache::{Batches, Built, Tally};
use tenfold_benches::catalogue::{self, Candidate, Purpose};
use tenfold_benches::clock::Stopwatch;
use tenfold_benches::rng::scramble;
use tenfold_benches::workload::{Sequence, Workload};

/// Entries. The first alone where nothing is measured.
const SIZES: [usize; 2] = [10_000, 1_000_000];

/// Operations in one iteration.
const BATCH: usize = 1000;

/// Iterations that bring a new cache into the processor's before anything is timed.
const WARM_UP: u64 = 200;

const SEED: u64 = 1;

/// One operation.
#[derive(Clone, Copy)]
enum Operation {
    /// Look-ups by Zipf's law, all of them answered.
    GetHit,
    /// Inserts of keys that are not in the cache, which is full.
    InsertEvict,
    /// Look-ups by Zipf's law over ten times more keys than entries, with an insert on a miss.
    Mixed,
}

impl Operation {
    const ALL: [Self; 3] = [Self::GetHit, Self::InsertEvict, Self::Mixed];

    fn name(self) -> &'static str {
        match self {
            Self::GetHit => "get-hit",
            Self::InsertEvict => "insert-evict",
            Self::Mixed => "mixed",
        }
    }

    /// The capacity, the keys in the cache before the first measurement, and those of the
    /// measurement itself.
    fn prepare(self, entries: usize) -> Plan {
        match self {
            Self::GetHit => Plan::of(Workload::Hits, entries),
            Self::Mixed => Plan::of(Workload::Even, entries),
            Self::InsertEvict => {
                let keys =
                    |range: std::ops::Range<usize>| range.map(|number| scramble(number as u64)).collect::<Vec<_>>();
                // Five times more keys than entries: each is long evicted when its turn comes again.
                let sequence = Sequence::in_order(keys(0..entries * 5));
                Plan { capacity: entries, initial: keys(entries * 4..entries * 5), sequence }
            }
        }
    }

    fn run(self, cache: &mut dyn Batches, keys: &[u64]) -> Tally {
        match self {
            Self::GetHit => cache.gets(keys),
            Self::Mixed => cache.read_through(keys),
            Self::InsertEvict => {
                cache.fill(keys);
                Tally::default()
            }
        }
    }

    /// A figure for wrong answers is worth nothing.
    fn judge(self, cache: &str, tally: Tally) {
        assert_eq!(tally.wrong, 0, "{cache} gave wrong values");
        if let Self::GetHit = self {
            assert_eq!(tally.hits, tally.gets, "{cache} missed resident keys");
        }
    }
}

struct Plan {
    capacity: usize,
    initial: Vec<u64>,
    sequence: Sequence,
}

impl Plan {
    fn of(workload: Workload, entries: usize) -> Self {
        let initial = workload.initial_keys(entries, SEED);
        let mut sequences = workload.sequences(entries, &initial, 1, SEED);
        Self { capacity: workload.capacity(entries), initial, sequence: sequences.remove(0) }
    }
}

/// Benches the named caches beside each other.
pub(crate) fn bench(criterion: &mut Criterion, title: &str, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    // As criterion decides it: `cargo bench` says `--bench`, and `cargo test` does not.
    let is_said = |option: &str| std::env::args().any(|argument| argument == option);
    let sizes = if is_said("--bench") && !is_said("--test") { &SIZES[..] } else { &SIZES[..1] };
    let candidates = catalogue::select(catalogue::timed(), &names).expect("the names are in the catalogue");
    for operation in Operation::ALL {
        for &entries in sizes {
            let plan = operation.prepare(entries);
            let mut group = criterion.benchmark_group(format!("{title}/{}/{entries}", operation.name()));
            group
                .throughput(Throughput::Elements(BATCH as u64))
                .sample_size(10)
                .warm_up_time(Duration::from_millis(150))
                .measurement_time(Duration::from_millis(400));
            for candidate in &candidates {
                // Built only if the filter on the command line lets the bench run, and then once.
                let mut prepared: Option<(Built, Sequence)> = None;
                group.bench_function(BenchmarkId::from_parameter(candidate.name), |bencher| {
                    let (built, sequence) = prepared.get_or_insert_with(|| build(operation, &plan, candidate));
                    bencher.iter_custom(|count| {
                        built.drive(|cache| time(operation, candidate.name, cache, sequence, count))
                    });
                });
            }
            group.finish();
        }
    }
}

/// Builds a cache, fills it, and runs it in.
fn build(operation: Operation, plan: &Plan, candidate: &Candidate) -> (Built, Sequence) {
    let mut built = (candidate.build)(plan.capacity, Purpose::Speed);
    let mut resident = plan.initial.clone();
    built.drive(|cache| {
        cache.fill(&plan.initial);
        cache.entry_count();
        if let Operation::GetHit = operation {
            let mut held = cache.resident(&resident).into_iter();
            resident.retain(|_| held.next().unwrap_or(false));
        }
    });
    let mut sequence = plan.sequence.clone();
    if resident.len() < plan.initial.len() {
        // A sharded cache has evicted a few keys from a shard that had more than its share.
        sequence = Workload::Hits.sequences(resident.len(), &resident, 1, SEED).remove(0);
    }
    built.drive(|cache| time(operation, candidate.name, cache, &mut sequence, WARM_UP));
    (built, sequence)
}

/// Runs so many iterations.
fn time(
    operation: Operation,
    name: &str,
    cache: &mut dyn Batches,
    sequence: &mut Sequence,
    iterations: u64,
) -> Duration {
    let mut tally = Tally::default();
    let stopwatch = Stopwatch::start();
    for _ in 0..iterations {
        let mut left = BATCH;
        while left > 0 {
            let keys = sequence.advance(left);
            left -= keys.len();
            tally.add(operation.run(cache, keys));
        }
    }
    let elapsed = stopwatch.elapsed();
    operation.judge(name, tally);
    elapsed
}
