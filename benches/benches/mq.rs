//! What single operations of the queue cost: in memory, beside a bare channel, and on disk without a sync. What waits for a
//! disk is measured by the binary `queue`, whose rounds are interleaved.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tenfold_benches::proxy_faults::process::Folder;
use tenfold_benches::queue::load::{BATCH, Bodies};
use tenfold_benches::queue::scenario::Scenario;
use tenfold_benches::queue::{self, Candidate, Policy, Queue, Setting};

/// Messages in one iteration, so that microseconds an iteration read as nanoseconds a message.
const MESSAGES: usize = 1000;

fn pass_through(criterion: &mut Criterion) {
    let bodies = Bodies::of(100);
    let batch: Vec<_> = (0..BATCH as u64).map(|number| bodies.get(number).clone()).collect();
    for (title, policy) in [("memory", Policy::None), ("os", Policy::Os)] {
        let is_wanted =
            |candidate: &Candidate| matches!(candidate.name, "tenfold" | "crossbeam") && candidate.sync == policy;
        for candidate in queue::all().into_iter().filter(is_wanted) {
            let mut group = criterion.benchmark_group(format!("mq/{title}"));
            group
                .throughput(Throughput::Elements(MESSAGES as u64))
                .sample_size(10)
                .warm_up_time(Duration::from_millis(150))
                .measurement_time(Duration::from_millis(400));
            let folder = Folder::new(&format!("criterion-{title}")).expect("there is a folder for temporary files");
            let mut opened: Option<Box<dyn Queue>> = None;
            let mut open = || -> Box<dyn Queue> {
                let setting =
                    Setting { sync: policy, folder: folder.path(), scenario: Scenario::Memory, size: bodies.size() };
                (candidate.open)(&setting).expect("it can be opened there")
            };
            group.bench_function(BenchmarkId::new("send-take-ack", candidate.name), |bencher| {
                let queue = opened.get_or_insert_with(&mut open);
                let (mut sender, mut taker) = (queue.sender().expect("it sends"), queue.taker().expect("it takes"));
                bencher.iter(|| {
                    for number in 0..MESSAGES as u64 {
                        sender.send(bodies.get(number)).expect("it sends");
                        let taken = taker.take(1, &mut |body| assert!(bodies.has(body))).expect("it takes");
                        assert_eq!(taken, 1);
                    }
                });
                taker.settle().expect("it takes acks");
            });
            group.bench_function(BenchmarkId::new("in-batches", candidate.name), |bencher| {
                let queue = opened.get_or_insert_with(&mut open);
                let (mut sender, mut taker) = (queue.sender().expect("it sends"), queue.taker().expect("it takes"));
                bencher.iter(|| {
                    for _ in 0..MESSAGES / BATCH {
                        assert!(sender.send_batch(&batch).expect("it sends"));
                        let taken = taker.take(BATCH, &mut |body| assert_eq!(body.len(), 100)).expect("it takes");
                        assert_eq!(taken, BATCH);
                    }
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, pass_through);
criterion_main!(benches);
