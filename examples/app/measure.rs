//! Measurements that every rung makes: capacity against theory, and who was answered while a fault lasted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenfold_rig::{
    CapacityError, CapacityPlan, CopyId, Cost, Curve, CurvePoint, Exchange, Failure, Faults, Instant, Latency, Load,
    LoadPlan, Machine, Mmc, Network, Node, Point, Request, RoleResult, RungReport, Service, Subject, measure_capacity,
    now,
};

use crate::http::Http;
use crate::rung::{Climb, Stack};
use crate::web::WebStats;

/// Without modelled times the limit is looked for between these rates, in requests a second.
const LEAST_RATE: f64 = 250.0;
/// See `LEAST_RATE`.
const MOST_RATE: f64 = 64_000.0;
const STATS_TIMEOUT: Duration = Duration::from_secs(10);
/// A request that left so long before a fault has its answer, if the promise is kept.
const UNDER_WAY: Duration = Duration::from_millis(150);
/// How often a search without theory may begin anew.
const TRIES: u32 = 4;
/// A burst comes so many times as fast as it can be served,
const BURST: f64 = 4.0;
/// and for so long: the line that it makes is within the bounds of a server and of a client's patience.
const BURST_FOR: Duration = Duration::from_millis(320);
/// One after the other.
const BURSTS: u64 = 2;
/// Of a request in a burst: none is given up, as the rate would be too high without it.
const BURST_TIMEOUT: Duration = Duration::from_secs(8);
/// Requests a second in a burst without modelled times.
const REAL_BURST: f64 = 4_000.0;

/// A capacity and what it took.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Requests a second: the median of the repeats.
    pub capacity: f64,
    /// Theory's figure.
    pub theory: Option<f64>,
    /// Each repeat's figure.
    pub repeats: Vec<f64>,
    /// Latency at capacity, median and 99th percentile, in milliseconds.
    pub p50_ms: f64,
    /// See `p50_ms`.
    pub p99_ms: f64,
    /// Cores that the processes of one copy kept busy.
    pub cpu_cores: f64,
    /// Share of the machine that the climb itself used, load generator and servers.
    pub harness_share: f64,
    /// Resident memory of one copy, in bytes.
    pub rss_bytes: u64,
    /// Share of the reads that a cache answered, over the whole search.
    pub hit_ratio: f64,
    /// The measured points.
    pub curve: Curve,
}

impl Measured {
    /// Compares with another model, one that knows what was found out during the search, such as the hit ratio.
    #[must_use]
    pub fn compared_with(mut self, climb: &Climb, model: &Network) -> Self {
        let bound = p99_bound(climb);
        self.theory = theory(climb, model);
        self.curve.theory = model.to_curve(self.curve.label.clone(), bound).theory;
        self
    }

    /// Puts the figures into a rung's report.
    pub fn fill(&self, report: &mut RungReport) {
        report.capacity = self.capacity;
        report.theory = self.theory;
        report.repeats.clone_from(&self.repeats);
        (report.p50_ms, report.p99_ms) = (self.p50_ms, self.p99_ms);
        report.cpu_cores = self.cpu_cores;
        report.harness_cpu_ratio = self.harness_share;
        report.rss_bytes = self.rss_bytes;
        report.curves.push(self.curve.clone());
    }
}

/// What a capacity is measured of.
#[derive(Debug, Clone)]
pub struct Sizing<'a> {
    /// Begins each line of progress.
    pub label: &'a str,
    /// The queueing model of the system.
    pub model: Network,
    /// Load time of each of the repeats, of which there are three, or two in a quick run; 4 s at least.
    pub budget: Duration,
    /// Whether all repeats run side by side: for small systems. Large ones would compete for this machine: of them
    /// no more than two run at a time.
    pub side_by_side: bool,
}

/// The model of one node that serves as `service` says; one that takes no time if the cost is real.
pub fn model(cost: &Cost, service: Service) -> Mmc {
    let mean = if cost.is_real() { Duration::ZERO } else { service.mean() };
    Mmc::new(service.slots, mean)
}

/// Finds the highest rate at which the promise is kept. `start` starts a copy of the system from a seed and returns it
/// with the requests it is to be asked; every repeat gets copies of its own.
///
/// # Errors
///
/// A copy cannot be started, or no rate keeps the promise.
pub async fn capacity<F, Fut, S>(climb: &Climb, sizing: Sizing<'_>, start: F) -> RoleResult<Measured>
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = RoleResult<(Stack, S)>>,
    S: FnMut() -> Request + Send + 'static,
{
    capacity_of(climb, climb.pick(3, 2), sizing, start).await
}

/// [`capacity`] with another number of repeats: one, where two systems at a time would compete for the machine.
///
/// # Errors
///
/// As [`capacity`].
pub async fn capacity_of<F, Fut, S>(climb: &Climb, repeats: usize, sizing: Sizing<'_>, start: F) -> RoleResult<Measured>
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = RoleResult<(Stack, S)>>,
    S: FnMut() -> Request + Send + 'static,
{
    let Sizing { label, model, budget, side_by_side } = sizing;
    let theory = theory(climb, &model);
    let _turn = if climb.cost.is_real() { Some(climb.turn.lock().await) } else { None };
    let expected = match theory {
        Some(rate) => rate,
        None => rough_limit(climb, &start).await?,
    };
    let mut plan = CapacityPlan::new(label, expected);
    plan.repeats = repeats;
    if !side_by_side || climb.cost.is_real() {
        // Without modelled time the copies would share what is measured: the machine.
        (plan.at_once, plan.copies) = (if climb.cost.is_real() { 1 } else { 2 }, 1);
    }
    (plan.budget, plan.promise, plan.seed) = (budget, climb.promise(), climb.seed);
    let stacks = Mutex::new(Vec::new());
    let machine = Machine::begin()?;
    let mut tries = if theory.is_some() { 1 } else { TRIES };
    let found = loop {
        let copies = |copy: CopyId| {
            let started = start(copy.seed);
            let stacks = &stacks;
            async move {
                let (stack, source) = started.await.map_err(NotStarted)?;
                let subject = Subject::new(stack.client().map_err(NotStarted)?, source, Exchange::verdict);
                stacks.lock().unwrap_or_else(PoisonError::into_inner).push(stack);
                Ok::<_, NotStarted>(subject)
            }
        };
        tries -= 1;
        match measure_capacity(&plan, copies, &climb.progress).await {
            Ok(found) => break found,
            // A rough limit may be far off on a machine whose speed changes.
            Err(CapacityError::NoLimit { rate, .. }) if tries > 0 => plan.expected_rate = rate,
            Err(CapacityError::NoCapacity { rate, .. }) if tries > 0 => plan.expected_rate = rate,
            Err(error) => return Err(Broken { label: label.to_owned(), source: Box::new(error) }.into()),
        }
    };
    let used = machine.finish()?;
    let stacks = stacks.into_inner().unwrap_or_else(PoisonError::into_inner);
    let cpu_seconds: f64 = stacks.iter().map(Stack::cpu_seconds).sum();
    let hit_ratio = hit_ratio(&stacks).await?;
    let mut curve = model.to_curve(label, p99_bound(climb));
    curve.measured = found.curve.iter().map(point).collect();
    curve.capacity = Some(found.rate);
    Ok(Measured {
        capacity: found.rate,
        theory,
        repeats: found.repeats,
        p50_ms: found.p50_ms,
        p99_ms: found.p99_ms,
        cpu_cores: cpu_seconds / used.elapsed_s / plan.slots() as f64,
        harness_share: used.used_cores / used.cores,
        rss_bytes: stacks.first().map_or(0, Stack::rss_bytes),
        hit_ratio,
        curve,
    })
}

/// What a system does at most, in requests a second: those of bursts, by the time until the last of each is done. `limit` is what its
/// servers can serve.
///
/// It takes no search, and no window that noise could move requests into: servers of one seed draw the same service times in
/// any system and are never without work, so that two systems differ by what is real in them, and by nothing else.
///
/// # Errors
///
/// The load cannot be made.
pub async fn throughput<S>(climb: &Climb, stack: &Stack, limit: f64, mut source: S) -> RoleResult<f64>
where
    S: FnMut() -> Request,
{
    let rate = if climb.cost.is_real() { REAL_BURST } else { limit * BURST };
    let (mut done, mut time) = (0, Duration::ZERO);
    for burst in 0..BURSTS {
        let mut plan = LoadPlan::new(rate, BURST_FOR).warm_up(Duration::ZERO).seed(climb.seed.wrapping_add(burst));
        plan.timeout = BURST_TIMEOUT;
        let load = Load::new(stack.client()?, plan)?;
        let (answered, begin) = (Arc::<Mutex<(u64, Duration)>>::default(), now());
        let seen = Arc::clone(&answered);
        let observe = move |exchange: &Exchange| {
            exchange.verdict()?;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = (seen.0 + 1, seen.1.max(exchange.finished - begin));
            Ok(())
        };
        load.run(&mut source, observe).await;
        let (answered, last) = *answered.lock().unwrap_or_else(PoisonError::into_inner);
        (done, time) = (done + answered, time + last);
    }
    Ok(done as f64 / time.as_secs_f64().max(f64::EPSILON))
}

fn p99_bound(climb: &Climb) -> Duration {
    Duration::from_secs_f64(climb.promise().p99_ms / 1e3)
}

/// The model's capacity, if it has a limit.
fn theory(climb: &Climb, model: &Network) -> Option<f64> {
    Some(model.capacity(p99_bound(climb))).filter(|rate| rate.is_finite())
}

/// The share of reads answered by a cache, as all web servers count.
async fn hit_ratio(stacks: &[Stack]) -> RoleResult<f64> {
    let http = Http::new(STATS_TIMEOUT);
    let (mut hits, mut reads) = (0, 0);
    for front in stacks.iter().flat_map(|stack| &stack.fronts) {
        let stats: WebStats = http.get(*front, "/stats").await?.json()?;
        hits += stats.hits;
        reads += stats.hits + stats.misses;
    }
    Ok(hits as f64 / reads.max(1) as f64)
}

/// Where a search without theory begins: the rate is doubled until the promise breaks.
async fn rough_limit<F, Fut, S>(climb: &Climb, start: &F) -> RoleResult<f64>
where
    F: Fn(u64) -> Fut,
    Fut: Future<Output = RoleResult<(Stack, S)>>,
    S: FnMut() -> Request + Send + 'static,
{
    let (stack, mut source) = start(climb.seed).await?;
    let promise = climb.promise();
    let mut rate = LEAST_RATE;
    loop {
        let plan = LoadPlan::new(rate, Duration::from_secs(1)).warm_up(Duration::from_millis(200));
        let result = Load::new(stack.client()?, plan)?.run(&mut source, Exchange::verdict).await;
        if result.p99_ms > promise.p99_ms || result.failed_ratio() > promise.failed_ratio || rate >= MOST_RATE {
            // Between the last rate that was kept and this one.
            return Ok(rate * 0.7);
        }
        rate *= 2.0;
    }
}

/// A capacity that could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("the capacity of {label} could not be measured")]
struct Broken {
    label: String,
    source: Box<CapacityError<NotStarted>>,
}

/// A copy of the system that did not start.
#[derive(Debug, thiserror::Error)]
#[error("no copy of it starts")]
struct NotStarted(#[source] Box<dyn std::error::Error + Send + Sync>);

fn point(point: &CurvePoint) -> Point {
    Point { rate: point.rate, p50_ms: point.p50_ms, p99_ms: point.p99_ms, failed_ratio: point.failed_ratio }
}

/// When a request was meant to leave, and how long its answer took if it was a good one.
type Seen = (Instant, Option<Duration>);

/// Remembers for every request when it was meant to leave and how long it took to be answered well.
///
/// Clones share the memory.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    seen: Arc<Mutex<Vec<Seen>>>,
    marks: Arc<Mutex<Vec<Instant>>>,
}

impl Outcomes {
    /// `kill -9` for `node` after one second and a restart after two, both marked.
    pub fn kill_and_restart(&self, node: &Node) -> Faults {
        let (down, up) = ((self.clone(), node.clone()), (self.clone(), node.clone()));
        Faults::new()
            .at(Duration::from_secs(1), "kill -9", async move {
                // A kill that is refused shows as requests that did not fail.
                let _ = down.1.kill();
                down.0.mark();
            })
            .at(Duration::from_secs(2), "restart", async move {
                up.0.mark();
                // A node that does not come back shows as requests that go on failing.
                let _ = up.1.restart().await;
            })
    }

    /// Notes the present instant, such as that of a fault.
    pub fn mark(&self) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(now());
    }

    /// An observer for a load.
    pub fn observer(&self) -> impl Fn(&Exchange) -> Result<(), Failure> + Send + Sync + 'static {
        let seen = Arc::clone(&self.seen);
        move |exchange| {
            let verdict = exchange.verdict();
            if exchange.is_measured {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push((exchange.intended, verdict.is_ok().then(|| exchange.finished - exchange.intended)));
            }
            verdict
        }
    }

    /// The failed share of all requests.
    pub fn failed_ratio(&self) -> f64 {
        self.failed_where(|_| true)
    }

    /// The failed share of the requests meant to leave well before the first mark: what is under way then is the fault's.
    pub fn failed_before(&self) -> f64 {
        let first = self.marked(0);
        self.failed_where(|at| first.is_none_or(|mark| at + UNDER_WAY < mark))
    }

    /// The failed share of the requests meant to leave between the first two marks; 0 if there were none.
    pub fn failed_between(&self) -> f64 {
        let (first, second) = (self.marked(0), self.marked(1));
        self.failed_where(|at| first.is_some_and(|mark| at >= mark) && second.is_none_or(|mark| at < mark))
    }

    /// 99th percentile of the latency of the requests meant to leave between the first two marks and answered well, in
    /// milliseconds; 0 if there were none.
    pub fn p99_between_ms(&self) -> f64 {
        let (first, second) = (self.marked(0), self.marked(1));
        let mut latency = Latency::default();
        for (at, answered) in self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if first.is_some_and(|mark| *at >= mark) && second.is_none_or(|mark| *at < mark) {
                answered.iter().for_each(|time| latency.record(*time));
            }
        }
        latency.quantile_ms(0.99)
    }

    /// The instant of a mark, by its number from 0.
    pub fn marked(&self, index: usize) -> Option<Instant> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).get(index).copied()
    }

    fn failed_where(&self, counts: impl Fn(Instant) -> bool) -> f64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut failed, mut all) = (0_u32, 0_u32);
        for (_, answered) in seen.iter().filter(|(at, _)| counts(*at)) {
            all += 1;
            failed += u32::from(answered.is_none());
        }
        f64::from(failed) / f64::from(all.max(1))
    }
}
