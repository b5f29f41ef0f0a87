//! The load balancer's picks beside the peers', and what its tables cost to build.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tenfold_benches::pick::{self, Kind, Pool};
use tenfold_load_balancer::BackendId;
use tenfold_load_balancer::hash::{CappedRendezvous, Maglev, RingHash, Seat};

/// Picks in one iteration, so that microseconds an iteration read as nanoseconds a pick.
const BATCH: usize = 1000;

fn picks(criterion: &mut Criterion) {
    let kinds = [
        (Kind::RoundRobin, "round-robin"),
        (Kind::Weighted, "weighted"),
        (Kind::Random, "random"),
        (Kind::LeastLoaded, "least-loaded"),
        (Kind::Latency, "latency"),
        (Kind::Hash, "hash"),
    ];
    for (kind, title) in kinds {
        for backends in [10, 1_000] {
            let mut group = criterion.benchmark_group(format!("pick/{title}/{backends}"));
            group
                .throughput(Throughput::Elements(BATCH as u64))
                .sample_size(10)
                .warm_up_time(Duration::from_millis(150))
                .measurement_time(Duration::from_millis(400));
            for candidate in pick::all().into_iter().filter(|candidate| candidate.kind == kind) {
                // Built only if the filter on the command line lets the bench run, and then once.
                let mut pool: Option<Pool> = None;
                group.bench_function(BenchmarkId::from_parameter(candidate.name), |bencher| {
                    let pool = pool.get_or_insert_with(|| (candidate.build)(backends));
                    let mut key = 0;
                    pool.drive(|hand| {
                        bencher.iter(|| {
                            key += BATCH as u64;
                            assert_eq!(hand.pick_many(key, BATCH), 0, "{} picked nobody", candidate.name);
                        });
                    });
                });
            }
            group.finish();
        }
    }
}

fn tables(criterion: &mut Criterion) {
    for backends in [10, 100, 1_000, 10_000] {
        let seat = |number: usize| Seat { id: BackendId::of_name(&number.to_string()), weight: pick::weight(number) };
        let seats: Vec<Seat> = (0..backends).map(seat).collect();
        let mut group = criterion.benchmark_group(format!("build/{backends}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(150)).measurement_time(Duration::from_millis(400));
        group.bench_function("capped-rendezvous", |bencher| {
            bencher.iter(|| {
                CappedRendezvous::build(&seats, CappedRendezvous::DEFAULT_SLOTS, CappedRendezvous::DEFAULT_CAP_PERCENT)
            });
        });
        group.bench_function("maglev", |bencher| bencher.iter(|| Maglev::build(&seats, Maglev::DEFAULT_SLOTS)));
        group.bench_function("ring", |bencher| bencher.iter(|| RingHash::build(&seats, RingHash::DEFAULT_POINTS)));
        group.finish();
    }
}

criterion_group!(benches, picks, tables);
criterion_main!(benches);
