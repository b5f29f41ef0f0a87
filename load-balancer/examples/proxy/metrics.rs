//! What one thread counts, and how the counts of all are told (Prometheus text format 0.0.4).

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tenfold_load_balancer::Balancer;

use crate::traffic::Traffic;

/// Upper bounds of the buckets of answer times: powers of two from 1/8 ms, about 4 s being the last.
const BUCKETS: usize = 16;
const FIRST_BUCKET_MICROS: u64 = 125;

/// Counts of one thread, which alone writes them; others read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Metrics {
    /// By the first digit of the status.
    answers: [AtomicU64; 5],
    retries: AtomicU64,
    shed: AtomicU64,
    clients: AtomicU64,
    panics: AtomicU64,
    /// Connections to backends that are kept.
    idle: AtomicU64,
    /// The last one holds all that are slower.
    times: [AtomicU64; BUCKETS + 1],
    micros: AtomicU64,
}

impl Metrics {
    /// A request was answered, by whomever, so long after it came.
    #[inline]
    pub(crate) fn answered(&self, status: StatusCode, after: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        add(&self.answers[class], 1);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        add(&self.times[bucket(micros)], 1);
        add(&self.micros, micros);
    }

    /// A request was sent once more.
    pub(crate) fn retried(&self) {
        add(&self.retries, 1);
    }

    /// A request was refused, because enough are in flight.
    pub(crate) fn shed(&self) {
        add(&self.shed, 1);
    }

    /// So many connections to backends are kept.
    pub(crate) fn set_idle(&self, count: usize) {
        self.idle.store(count as u64, Ordering::Relaxed);
    }

    /// A task of a client's panicked, and ended with whatever it served.
    pub(crate) fn panicked(&self) {
        add(&self.panics, 1);
        // Where nobody reads that any more, `eprintln` would panic once more, which ends the process.
        let line = "proxy: a client's task has panicked, and its connection or request is lost\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// A client connected.
    pub(crate) fn connected(&self) {
        add(&self.clients, 1);
    }
}

/// The bucket of a time.
fn bucket(micros: u64) -> usize {
    let eighths = micros.saturating_sub(1) / FIRST_BUCKET_MICROS;
    (64 - eighths.leading_zeros() as usize).min(BUCKETS)
}

/// Ordering: each thread has its own counts, so a load and a store are enough, and what they count is not in order with
/// anything.
#[inline]
fn add(count: &AtomicU64, by: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// All threads' counts, and the backends'.
pub(crate) fn render(threads: &[Arc<Metrics>], balancer: &Balancer<Traffic>) -> String {
    let sum = |count: fn(&Metrics) -> &AtomicU64| -> u64 {
        threads.iter().map(|metrics| count(metrics).load(Ordering::Relaxed)).sum()
    };
    let mut text = String::new();
    let _ = writeln!(text, "# TYPE proxy_clients_total counter\nproxy_clients_total {}", sum(|m| &m.clients));
    let _ = writeln!(text, "# TYPE proxy_retries_total counter\nproxy_retries_total {}", sum(|m| &m.retries));
    let _ = writeln!(text, "# TYPE proxy_panics_total counter\nproxy_panics_total {}", sum(|m| &m.panics));
    let _ = writeln!(text, "# TYPE proxy_shed_total counter\nproxy_shed_total {}", sum(|m| &m.shed));
    let _ = writeln!(text, "# TYPE proxy_idle_connections gauge\nproxy_idle_connections {}", sum(|m| &m.idle));
    text.push_str("# TYPE proxy_answers_total counter\n");
    for class in 0..5 {
        let count: u64 = threads.iter().map(|metrics| metrics.answers[class].load(Ordering::Relaxed)).sum();
        let _ = writeln!(text, "proxy_answers_total{{class=\"{}xx\"}} {count}", class + 1);
    }
    text.push_str("# TYPE proxy_answer_seconds histogram\n");
    let mut total: u64 = 0;
    for index in 0..=BUCKETS {
        total += threads.iter().map(|metrics| metrics.times[index].load(Ordering::Relaxed)).sum::<u64>();
        let bound = match index {
            BUCKETS => "+Inf".to_owned(),
            _ => Duration::from_micros(FIRST_BUCKET_MICROS << index).as_secs_f64().to_string(),
        };
        let _ = writeln!(text, "proxy_answer_seconds_bucket{{le=\"{bound}\"}} {total}");
    }
    let seconds = Duration::from_micros(sum(|m| &m.micros)).as_secs_f64();
    let _ = writeln!(text, "proxy_answer_seconds_sum {seconds}\nproxy_answer_seconds_count {total}");
    render_backends(&mut text, balancer);
    text
}

fn render_backends(text: &mut String, balancer: &Balancer<Traffic>) {
    let backends = balancer.backends();
    text.push_str("# TYPE proxy_backend_in_flight gauge\n");
    for backend in &backends {
        let _ = writeln!(text, "proxy_backend_in_flight{{backend=\"{}\"}} {}", backend.address, backend.in_flight);
    }
    text.push_str("# TYPE proxy_backend_up gauge\n");
    for backend in &backends {
        let is_up = u8::from(crate::admin::takes_requests(backend.state));
        let _ = writeln!(text, "proxy_backend_up{{backend=\"{}\"}} {is_up}", backend.address);
    }
}
