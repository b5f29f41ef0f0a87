//! One repeat: its copies under a load that does not stop while its rate moves.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::search::{Ask, Lost, Search};
use super::window::{Tally, Window};
use super::{Board, CapacityError, CapacityPlan, Subject};
use crate::clock::{self, Instant};
use crate::load::{ARRIVAL_LANE, Bounds, Pace, depart};
use crate::rng::Rng;

const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_IN_FLIGHT: usize = 4096;
/// How often a window is looked at while it lasts.
const GLANCE: Duration = Duration::from_millis(250);
/// By Little's law so many times `rate * limit` requests under way mean a mean latency of so many limits: hopeless.
const HOPELESS_BACKLOG: f64 = 2.0;
/// The backlog that may remain when a hopeless window's drain ends, and how long the drain may take.
const DRAINED_BACKLOG: f64 = 0.3;
const MAX_DRAIN: Duration = Duration::from_secs(3);
/// Not zero: a drain also shows that the system still answers.
const DRAIN_RATE_SHARE: f64 = 0.05;
/// The lead-in of the repeats, in turn: points of the curve well below the capacity, and time for connections to open.
const LEAD_IN_SHARES: [f64; 3] = [0.8, 0.4, 0.6];
const LEAD_IN: Duration = Duration::from_millis(1200);
const LEAD_IN_SETTLE: Duration = Duration::from_millis(300);

/// What one repeat found.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) rate: f64,
    pub(super) stretches: Vec<Stretch>,
}

/// Load at one rate on all copies.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) rate: f64,
    pub(super) settle: Duration,
    pub(super) windows: Vec<Arc<Window>>,
}

/// The rate and the window of a load that runs.
#[derive(Debug)]
struct Dial {
    state: Mutex<DialState>,
}

#[derive(Debug)]
struct DialState {
    rate: f64,
    window: Arc<Window>,
    /// Requests that a late generator owes from before this are forgiven; the window they belong to has been judged.
    not_before: Instant,
    is_over: bool,
}

pub(super) async fn measure<M, Fut, E>(
    plan: &CapacityPlan,
    index: usize,
    make: &M,
    board: &Board,
) -> Result<Measured, CapacityError<E>>
where
    M: Fn(super::CopyId) -> Fut,
    Fut: Future<Output = Result<Subject, E>>,
{
    let mut guards = Vec::new();
    let mut dials = Vec::new();
    let mut loads = JoinSet::new();
    let lead_in = plan.expected_rate * LEAD_IN_SHARES[index % LEAD_IN_SHARES.len()];
    for copy in 0..plan.copies {
        let copy = plan.copy(index, copy);
        let Subject { client, source, observe, guard } = make(copy).await.map_err(CapacityError::Subject)?;
        guards.push(guard);
        let dial = Arc::new(Dial::new(lead_in));
        let pace = Variable { dial: dial.clone(), rng: Rng::new(copy.seed).fork(ARRIVAL_LANE), intended: clock::now() };
        dials.push(dial);
        let bounds = Bounds { timeout: TIMEOUT, max_in_flight: MAX_IN_FLIGHT };
        let judge = Arc::new(move |exchange: &crate::load::Exchange| observe(exchange));
        loads.spawn(async move { depart(&client, bounds, pace, source, judge).await });
    }
    let mut repeat = Repeat { plan, index, dials, board, stretches: Vec::new(), last_p99_ms: 0.0 };
    let rate = repeat.search().await.map_err(|lost| match lost {
        Lost::NoCapacity { rate, failed_ratio } => CapacityError::NoCapacity { rate, failed_ratio },
        Lost::NoLimit { rate } => CapacityError::NoLimit { rate, expected_rate: plan.expected_rate },
    })?;
    for dial in &repeat.dials {
        dial.state().is_over = true;
    }
    // What is under way has a deadline; what waits for a far departure is not waited for.
    let _ = tokio::time::timeout(TIMEOUT, async { while loads.join_next().await.is_some() {} }).await;
    Ok(Measured { rate, stretches: repeat.stretches })
}

struct Repeat<'a> {
    plan: &'a CapacityPlan,
    index: usize,
    dials: Vec<Arc<Dial>>,
    board: &'a Board,
    stretches: Vec<Stretch>,
    last_p99_ms: f64,
}

impl Repeat<'_> {
    async fn search(&mut self) -> Result<f64, Lost> {
        let lead_in = self.plan.expected_rate * LEAD_IN_SHARES[self.index % LEAD_IN_SHARES.len()];
        self.stretch(Ask { rate: lead_in, settle: LEAD_IN_SETTLE, length: LEAD_IN }).await;
        let mut search = Search::new(self.plan);
        search.spend(LEAD_IN);
        while let Some(ask) = search.next() {
            let (tally, elapsed, is_hopeless) = self.stretch(ask).await;
            search.learn(tally, elapsed, is_hopeless);
            if is_hopeless && let Some(next) = search.next() {
                search.spend(self.drain(next.rate * DRAIN_RATE_SHARE).await);
            }
        }
        search.answer()
    }

    /// Loads every copy as asked, or until it is clear that the backlog only grows.
    async fn stretch(&mut self, ask: Ask) -> (Tally, Duration, bool) {
        let limit = self.limit();
        let begin = clock::now();
        let windows: Vec<_> = self.dials.iter().map(|dial| dial.turn(ask.rate, begin, None)).collect();
        let hopeless = self.backlog_at(ask.rate) * HOPELESS_BACKLOG;
        let end = begin + ask.length;
        let mut is_hopeless = false;
        while clock::now() < end && !is_hopeless {
            clock::sleep_until(end.min(clock::now() + GLANCE)).await;
            is_hopeless = under_way(&windows) as f64 > hopeless;
            self.post(ask.rate);
        }
        let now = clock::now();
        let mut tally = Tally::default();
        for window in &windows {
            tally += window.tally(ask.settle, limit, now);
        }
        let stretch = Stretch { rate: ask.rate, settle: ask.settle, windows };
        self.last_p99_ms = p99_ms(&stretch);
        self.stretches.push(stretch);
        // Without one certain verdict the generator itself did not keep up.
        (tally, now - begin, is_hopeless || tally.requests == 0)
    }

    /// Lets a backlog go at a low rate; none of it is counted.
    async fn drain(&self, rate: f64) -> Duration {
        let begin = clock::now();
        let backlog: Vec<_> = self.stretches.last().map(|stretch| stretch.windows.clone()).unwrap_or_default();
        for dial in &self.dials {
            dial.turn(rate, begin, Some(begin));
        }
        while begin.elapsed() < MAX_DRAIN && under_way(&backlog) as f64 > self.backlog_at(rate) * DRAINED_BACKLOG {
            clock::sleep(GLANCE / 5).await;
        }
        begin.elapsed()
    }

    /// Requests under way on all copies when the mean latency is one limit, by Little's law; a handful at least.
    fn backlog_at(&self, rate: f64) -> f64 {
        (rate * self.limit().as_secs_f64()).max(5.0) * self.dials.len() as f64
    }

    fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.plan.promise.p99_ms / 1000.0)
    }

    fn post(&self, rate: f64) {
        self.board.post(self.index, format!("{rate:.0}/s p99 {:.0} ms", self.last_p99_ms));
    }
}

impl Dial {
    fn new(rate: f64) -> Self {
        let now = clock::now();
        let state = DialState { rate, window: Arc::new(Window::new(now)), not_before: now, is_over: false };
        Self { state: Mutex::new(state) }
    }

    /// Sets the rate and begins a new window.
    fn turn(&self, rate: f64, begin: Instant, not_before: Option<Instant>) -> Arc<Window> {
        let mut state = self.state();
        state.rate = rate;
        state.window = Arc::new(Window::new(begin));
        state.not_before = not_before.unwrap_or(state.not_before);
        state.window.clone()
    }

    fn state(&self) -> MutexGuard<'_, DialState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Poisson stream whose rate follows a dial.
struct Variable {
    dial: Arc<Dial>,
    rng: Rng,
    intended: Instant,
}

impl Pace for Variable {
    type Book = Window;

    fn next(&mut self) -> Option<(Instant, Arc<Window>)> {
        let state = self.dial.state();
        if state.is_over {
            return None;
        }
        let gap = Duration::from_secs_f64(self.rng.next_exponential() / state.rate);
        self.intended = self.intended.max(state.not_before) + gap;
        Some((self.intended, state.window.clone()))
    }
}

fn under_way(windows: &[Arc<Window>]) -> usize {
    windows.iter().map(|window| window.under_way()).sum()
}

fn p99_ms(stretch: &Stretch) -> f64 {
    let mut latencies = Vec::new();
    for window in &stretch.windows {
        window.each(stretch.settle, |outcome| latencies.extend(outcome.map(|(latency_us, _)| latency_us)));
    }
    latencies.sort_unstable();
    let rank = (latencies.len() * 99).div_ceil(100);
    latencies.get(rank.saturating_sub(1)).map_or(0.0, |us| f64::from(*us) / 1000.0)
}
