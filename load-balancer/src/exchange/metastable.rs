//! Whether a pool that retries comes back after an overload: a simulation on virtual time.
//!
//! N. Bronson et al., "Metastable failures in distributed systems", HotOS 2021, section 2.1: a pool at 80 % of what it
//! can do is offered half as much again for ten seconds. Requests time out in the queue and are sent again; the backends
//! do all of it, the tries nobody waits for any more included, so the queue never gets shorter. The trigger is gone and
//! the failure stays.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, Attempt, Exchange};
use crate::hedge::HedgeConfig;
use crate::limit::{ConcurrencyLimit, LimitConfig, Permit, Priority};
use crate::request_config::{RequestConfig, RequestPolicy};
use crate::retry::BudgetConfig;
use crate::rng::Rng;
use crate::testing::for_each_seed;
use crate::{BackendId, Outcome};

const BACKENDS: usize = 5;
/// What a backend does one request in: the pool does 1,000 a second.
const SERVICE: Duration = Duration::from_millis(5);
/// 80 % of that.
const OFFERED: f64 = 800.0;
const TRIGGER: std::ops::Range<u64> = 10..20;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// The backend is done with the first of its queue.
    Served(usize),
    Timer(usize),
}

/// What happened in one second. An answer counts for the second in which its request came.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    offered: u32,
    answered: u32,
    tries: u32,
}

struct Call {
    exchange: Exchange,
    arrived: Instant,
    _permit: Option<Permit<Arc<ConcurrencyLimit>>>,
}

struct Sim {
    rng: Rng,
    policy: RequestPolicy,
    start: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sequence: u64,
    queues: Vec<VecDeque<(usize, Attempt)>>,
    calls: Vec<Option<Call>>,
    next_backend: usize,
    seconds: Vec<Second>,
}

impl Sim {
    fn new(config: RequestConfig, seed: u64) -> Self {
        let start = crate::clock::now();
        Self {
            rng: Rng::new(seed),
            policy: RequestPolicy::new(config, start).unwrap().with_seed(seed),
            start,
            now: start,
            events: BinaryHeap::new(),
            sequence: 0,
            queues: vec![VecDeque::new(); BACKENDS],
            calls: vec![],
            next_backend: 0,
            seconds: vec![],
        }
    }

    fn at(&mut self, when: Instant, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((when, self.sequence, event)));
    }

    fn second(&self) -> u64 {
        (self.now - self.start).as_secs()
    }

    fn exponential(&mut self, mean: f64) -> Duration {
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - uniform).ln() * mean)
    }

    fn run(mut self, seconds: u64) -> Vec<Second> {
        self.seconds = vec![Second::default(); seconds as usize + 1];
        self.at(self.start, Event::Arrival);
        while let Some(Reverse((when, _, event))) = self.events.pop() {
            self.now = when;
            if self.second() >= seconds {
                break;
            }
            match event {
                Event::Arrival => self.arrival(),
                Event::Served(backend) => self.served(backend),
                Event::Timer(call) => self.timer(call),
            }
        }
        self.seconds.truncate(seconds as usize);
        self.seconds
    }

    fn arrival(&mut self) {
        let rate = if TRIGGER.contains(&self.second()) { OFFERED * 1.5 } else { OFFERED };
        let gap = self.exponential(1.0 / rate);
        self.at(self.now + gap, Event::Arrival);
        let second = self.second() as usize;
        self.seconds[second].offered += 1;
        let permit = self.policy.limit().map(|limit| Permit::of(Arc::clone(limit), Priority::Default));
        if let Some(Err(_)) = permit {
            return;
        }
        let exchange = Exchange::new(&self.policy, true, None, self.now);
        self.calls.push(Some(Call { exchange, arrived: self.now, _permit: permit.and_then(Result::ok) }));
        self.drive(self.calls.len() - 1);
    }

    fn served(&mut self, backend: usize) {
        let (call, attempt) = self.queues[backend].pop_front().expect("it was serving");
        if !self.queues[backend].is_empty() {
            self.serve(backend);
        }
        // The work is done whether or not somebody still waits for it.
        if let Some(open) = &mut self.calls[call] {
            open.exchange.ended(&self.policy, attempt, Outcome::Success, self.now);
            self.drive(call);
        }
    }

    fn timer(&mut self, call: usize) {
        if let Some(open) = &mut self.calls[call] {
            open.exchange.timer(&self.policy, self.now);
            self.drive(call);
        }
    }

    fn serve(&mut self, backend: usize) {
        let service = self.exponential(SERVICE.as_secs_f64());
        self.at(self.now + service, Event::Served(backend));
    }

    /// Does what the exchange asks for. Reports to health and stopped tries change nothing here: the backends do not notice.
    fn drive(&mut self, index: usize) {
        let Some(mut call) = self.calls[index].take() else { return };
        loop {
            match call.exchange.action() {
                Action::Pick => self.pick(&mut call.exchange, index),
                Action::Overdue(_) | Action::TimedOut(_) => {}
                Action::Wait(until) => {
                    self.at(until, Event::Timer(index));
                    break;
                }
                Action::Return(_) => {
                    let second = (call.arrived - self.start).as_secs() as usize;
                    self.seconds[second].answered += 1;
                    return;
                }
                Action::Fail(_) => return,
            }
        }
        self.calls[index] = Some(call);
    }

    /// How many wait where this attempt does.
    fn queue_of(&self, call: usize, attempt: Attempt) -> Option<usize> {
        self.queues.iter().find(|queue| queue.contains(&(call, attempt))).map(VecDeque::len)
    }

    /// Round robin over those that were not tried.
    fn pick(&mut self, exchange: &mut Exchange, index: usize) {
        let id = |backend: usize| BackendId::from_u64(backend as u64);
        let places = (0..BACKENDS).map(|step| (self.next_backend + step) % BACKENDS);
        let backend = places.clone().find(|backend| !exchange.tried().contains(&id(*backend)));
        let backend = backend.unwrap_or(self.next_backend);
        self.next_backend = (backend + 1) % BACKENDS;
        // As `Pick::is_idler_than` has it.
        let late = exchange.hedged().and_then(|late| self.queue_of(index, late));
        if late.is_some_and(|late| 2 * self.queues[backend].len() > late) {
            return exchange.not_picked();
        }
        let Some(attempt) = exchange.picked(&self.policy, id(backend), self.now) else { return };
        let second = self.second() as usize;
        self.seconds[second].tries += 1;
        self.queues[backend].push_back((index, attempt));
        if self.queues[backend].len() == 1 {
            self.serve(backend);
        }
    }
}

/// Three tries, the second after a quarter of a second, an answer within one second or none.
fn config() -> RequestConfig {
    RequestConfig {
        try_timeout: Duration::from_millis(250),
        deadline: Duration::from_secs(1),
        hedge: None,
        ..RequestConfig::default()
    }
}

/// Requests answered in time for each hundred offered, in these seconds.
fn percent(seconds: &[Second]) -> u32 {
    let sum = |of: fn(&Second) -> u32| seconds.iter().map(of).sum::<u32>();
    sum(|second| second.answered) * 100 / sum(|second| second.offered)
}

#[test]
fn retries_without_a_budget_keep_the_pool_down_for_ever() {
    let budget = BudgetConfig { percent: 1_000, min_per_second: 1_000_000, ..BudgetConfig::default() };
    for_each_seed(|seed| {
        let seconds = Sim::new(RequestConfig { budget: budget.clone(), ..config() }, seed).run(40);
        assert!(percent(&seconds[..10]) >= 99, "before: {:?}", &seconds[..10]);
        let after = &seconds[30..];
        assert!(percent(after) <= 5, "ten seconds after the trigger: {after:?}");
    });
}

#[test]
fn with_budget_and_limit_it_is_back_within_a_second() {
    for_each_seed(|seed| {
        for hedge in [None, Some(HedgeConfig::default())] {
            let config = RequestConfig { hedge, limit: Some(LimitConfig::default()), ..config() };
            let seconds = Sim::new(config, seed).run(40);
            assert!(percent(&seconds[..10]) >= 99, "before: {:?}", &seconds[..10]);
            assert!(percent(&seconds[12..20]) >= 65, "of 83 that it could do: {:?}", &seconds[12..20]);
            assert!(percent(&seconds[21..22]) >= 90, "one second after the trigger: {:?}", seconds[21]);
            assert!(percent(&seconds[21..]) >= 97, "after the trigger: {:?}", &seconds[21..]);
        }
    });
}

#[test]
fn the_budget_bounds_the_tries_all_along() {
    for_each_seed(|seed| {
        let seconds = Sim::new(RequestConfig { hedge: Some(HedgeConfig::default()), ..config() }, seed).run(30);
        let mut sums = (0, 0, 0);
        for (number, second) in seconds.iter().enumerate() {
            sums = (sums.0 + second.offered, sums.1 + second.answered, sums.2 + second.tries);
            let reserve = 10 * (number as u32 + 1 + 11);
            assert!(sums.2 <= sums.0 + sums.1 / 5 + reserve, "{} tries by second {number}: {seconds:?}", sums.2);
        }
    });
}
