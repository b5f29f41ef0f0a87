use std::time::{Duration, Instant};

use super::{Action, Attempt, Exchange, ExchangeError};
use crate::hedge::HedgeConfig;
use crate::request_config::{RequestConfig, RequestPolicy};
use crate::retry::BudgetConfig;
use crate::rng::Rng;
use crate::testing::for_each_seed;
use crate::{BackendId, Failure, Outcome};

const FAILURES: [Failure; 6] =
    [Failure::Refused, Failure::NotSent, Failure::Rejected, Failure::Broken, Failure::TimedOut, Failure::Answered];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn id(number: u64) -> BackendId {
    BackendId::from_u64(number)
}

// ---- the state machine beside what can be seen of it from outside ----

/// A host on virtual time that notes what the exchange makes it do.
struct Host<'a> {
    policy: &'a RequestPolicy,
    exchange: Exchange,
    backends: u64,
    now: Instant,
    is_idempotent: bool,
    begun: Vec<BackendId>,
    in_flight: Vec<Attempt>,
    failures: Vec<Failure>,
    last_ended: Option<Attempt>,
    reported: Vec<Action>,
    refused_at: Option<Instant>,
    paid: u64,
}

impl<'a> Host<'a> {
    fn new(policy: &'a RequestPolicy, backends: u64, is_idempotent: bool, now: Instant) -> Self {
        let exchange = Exchange::new(policy, is_idempotent, None, now);
        let (begun, in_flight, failures, reported) = Default::default();
        let (last_ended, refused_at, paid) = (None, None, 0);
        Self {
            policy,
            exchange,
            backends,
            now,
            is_idempotent,
            begun,
            in_flight,
            failures,
            last_ended,
            reported,
            refused_at,
            paid,
        }
    }

    /// Runs until the request has its answer.
    fn run(&mut self, rng: &mut Rng) -> Action {
        for _ in 0..200 {
            match self.exchange.action() {
                Action::Pick => self.pick(rng),
                Action::Wait(until) => self.wait(until, rng),
                report @ (Action::Overdue(attempt) | Action::TimedOut(attempt)) => {
                    assert!(!self.reported.contains(&report), "{report:?} twice");
                    self.reported.push(report);
                    if report == Action::TimedOut(attempt) {
                        assert!(self.in_flight.contains(&attempt), "{attempt:?} is not in flight");
                        self.in_flight.retain(|other| *other != attempt);
                    }
                }
                end @ (Action::Return(_) | Action::Fail(_)) => {
                    self.check_end(end);
                    return end;
                }
            }
        }
        panic!("X4: no end after 200 steps");
    }

    fn pick(&mut self, rng: &mut Rng) {
        if rng.below(20) == 0 {
            self.put_off();
            return self.exchange.not_picked();
        }
        let others: Vec<_> = (0..self.backends).map(id).filter(|id| !self.exchange.tried().contains(id)).collect();
        // Mostly as told; pools change, so now and then the balancer has nobody better than the one before.
        let is_told = !others.is_empty() && rng.below(10) > 0;
        let picked =
            if is_told { others[rng.below(others.len() as u64) as usize] } else { id(rng.below(self.backends)) };
        match self.exchange.picked(self.policy, picked, self.now) {
            Some(attempt) => self.begin(attempt, picked),
            None => {
                assert!(!self.begun.is_empty(), "the first pick is always taken");
                self.put_off();
                self.refused_at = Some(self.now);
            }
        }
    }

    /// A hedge that is put off is asked for anew, with another report.
    fn put_off(&mut self) {
        self.reported.retain(|report| !matches!(report, Action::Overdue(_)));
    }

    fn begin(&mut self, attempt: Attempt, picked: BackendId) {
        assert_eq!(attempt.index(), self.begun.len());
        assert!(attempt.index() < usize::from(self.policy.config().max_tries), "X1: {attempt:?}");
        let had_no_effect = self.failures.len() == self.begun.len() && self.failures.iter().all(|f| f.had_no_effect());
        assert!(self.begun.is_empty() || self.is_idempotent || had_no_effect, "X2: after {:?}", self.failures);
        for other in &self.in_flight {
            // The one that is replaced is still in flight until it is reported, which is next.
            assert_ne!(self.begun[other.index()], picked, "X3: {attempt:?} beside {other:?}");
        }
        if self.begun.contains(&picked) {
            assert!(self.in_flight.is_empty() && self.refused_at.is_some_and(|at| at < self.now), "X3: no pause");
        }
        self.paid += u64::from(!self.begun.is_empty());
        self.begun.push(picked);
        self.in_flight.push(attempt);
    }

    fn wait(&mut self, until: Instant, rng: &mut Rng) {
        let left = until.saturating_duration_since(self.now);
        match rng.below(4) {
            0 if !self.in_flight.is_empty() => {
                self.now += Duration::from_nanos(rng.below(left.as_nanos() as u64 + 1));
                let attempt = self.in_flight.swap_remove(rng.below(self.in_flight.len() as u64) as usize);
                let outcome = match rng.below(8) {
                    0..=1 => Outcome::Success,
                    _ => Outcome::Failure(FAILURES[rng.below(6) as usize]),
                };
                if let Outcome::Failure(failure) = outcome {
                    self.failures.push(failure);
                }
                self.last_ended = Some(attempt);
                self.exchange.ended(self.policy, attempt, outcome, self.now);
            }
            1 => self.exchange.timer(self.policy, self.now),
            2 => {
                // Late, as timers are.
                self.now = self.now.max(until) + Duration::from_micros(rng.below(5_000));
                self.exchange.timer(self.policy, self.now);
            }
            _ => {
                self.now = self.now.max(until);
                self.exchange.timer(self.policy, self.now);
            }
        }
    }

    fn check_end(&mut self, end: Action) {
        if let Action::Return(attempt) = end {
            assert_eq!(Some(attempt), self.last_ended, "only what ended last is still there");
        }
        // X4: whatever comes now, the end stays.
        for attempt in Attempt::of_set(u8::MAX) {
            self.exchange.ended(self.policy, attempt, Outcome::Success, self.now);
        }
        self.exchange.timer(self.policy, self.now + Duration::from_secs(3_600));
        assert_eq!(self.exchange.picked(self.policy, id(99), self.now), None);
        self.exchange.not_picked();
        assert_eq!(self.exchange.action(), end, "X4: two ends");
    }
}

fn random_config(rng: &mut Rng) -> RequestConfig {
    let hedge =
        HedgeConfig { max_hedges: rng.below(4) as u8, max_delay: ms(1 + rng.below(400)), ..HedgeConfig::default() };
    RequestConfig {
        max_tries: 1 + rng.below(8) as u8,
        try_timeout: ms(1 + rng.below(500)),
        deadline: ms(1 + rng.below(2_000)),
        min_try_time: ms(rng.below(20)),
        hedge: (rng.below(3) > 0).then_some(hedge),
        budget: BudgetConfig {
            percent: rng.below(300) as u32,
            min_per_second: rng.below(8) as u32,
            ..BudgetConfig::default()
        },
        limit: None,
    }
}

#[test]
fn keeps_its_invariants_whatever_happens() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..60 {
            let config = random_config(&mut rng);
            let start = crate::clock::now();
            let policy = RequestPolicy::new(config.clone(), start).unwrap().with_seed(rng.next_u64());
            let (mut paid, mut succeeded, mut now) = (0, 0, start);
            for _ in 0..20 {
                let (backends, is_idempotent) = (1 + rng.below(6), rng.below(2) == 0);
                let mut host = Host::new(&policy, backends, is_idempotent, now);
                let end = host.run(&mut rng);
                assert!(host.now <= now + config.deadline + ms(10), "X4: {end:?} after {:?}", host.now - now);
                paid += host.paid;
                succeeded += u64::from(matches!(end, Action::Return(attempt) if host.exchange.last != Some(attempt)));
                now = host.now;
            }
            // All within some seconds, so at most a few times to live.
            let lives = 1 + (now - start).as_secs() / 10 + 1;
            let bound = succeeded * u64::from(config.budget.percent) / 100
                + u64::from(config.budget.min_per_second) * 10 * lives;
            assert!(paid <= bound, "X1: {paid} paid of {bound}");
        }
    });
}

// ---- one thing at a time ----

fn policy(config: RequestConfig) -> (RequestPolicy, Instant) {
    let now = crate::clock::now();
    (RequestPolicy::new(config, now).unwrap().with_seed(1), now)
}

/// Takes `Pick` and sends the request to this backend.
#[track_caller]
fn send(exchange: &mut Exchange, policy: &RequestPolicy, to: u64, now: Instant) -> Attempt {
    assert_eq!(exchange.action(), Action::Pick);
    exchange.picked(policy, id(to), now).expect("the backend is taken")
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failure(failure)
}

#[test]
fn a_request_that_is_not_idempotent_is_repeated_only_if_it_had_no_effect() {
    for failure in FAILURES {
        let (policy, now) = policy(RequestConfig::default());
        let mut exchange = Exchange::new(&policy, false, None, now);
        let first = send(&mut exchange, &policy, 1, now);
        exchange.ended(&policy, first, failed(failure), now);
        let expected = if failure.had_no_effect() { Action::Pick } else { Action::Return(first) };
        assert_eq!(exchange.action(), expected, "{failure:?}");
    }
}

#[test]
fn the_first_answer_wins_and_the_hedge_is_to_another_backend() {
    let (policy, start) = policy(RequestConfig::default());
    let mut exchange = Exchange::new(&policy, true, None, start);
    let first = send(&mut exchange, &policy, 1, start);
    let delay = policy.hedge_delay(start).unwrap();
    assert_eq!(exchange.action(), Action::Wait(start + delay));

    exchange.timer(&policy, start + delay);
    assert_eq!(exchange.action(), Action::Overdue(first));
    let hedge = send(&mut exchange, &policy, 2, start + delay);
    exchange.ended(&policy, hedge, Outcome::Success, start + delay + ms(2));
    assert_eq!(exchange.action(), Action::Return(hedge));
}

#[test]
fn a_first_try_that_was_overtaken_counts_for_the_quantile() {
    let (policy, start) = policy(RequestConfig::default());
    // Nine of ten are quick, and the hedge wins where one hangs: without those, the delay would be that of the quick.
    for request in 0..100 {
        let mut exchange = Exchange::new(&policy, true, None, start);
        let first = send(&mut exchange, &policy, 1, start);
        if request % 10 > 0 {
            exchange.ended(&policy, first, Outcome::Success, start + ms(2));
            continue;
        }
        policy.budget().deposit(start);
        exchange.timer(&policy, start + ms(500));
        assert_eq!(exchange.action(), Action::Overdue(first));
        let hedge = send(&mut exchange, &policy, 2, start + ms(500));
        exchange.ended(&policy, hedge, Outcome::Success, start + ms(502));
    }
    assert!(policy.hedge_delay(start + ms(600)) > Some(ms(400)), "{:?}", policy.hedge_delay(start + ms(600)));
}

#[test]
fn a_hedge_that_would_go_to_the_same_backend_is_let_go_and_costs_nothing() {
    let (policy, start) = policy(RequestConfig::default());
    let mut exchange = Exchange::new(&policy, true, None, start);
    let first = send(&mut exchange, &policy, 1, start);
    let late = start + ms(500);
    exchange.timer(&policy, late);
    assert_eq!(exchange.action(), Action::Overdue(first));
    assert_eq!(exchange.action(), Action::Pick);
    assert_eq!(exchange.picked(&policy, id(1), late), None);
    assert_eq!(exchange.action(), Action::Wait(start + ms(1_000)));
    assert_eq!((0..200).filter(|_| policy.budget().withdraw(late)).count(), 100);
    exchange.ended(&policy, first, Outcome::Success, late);
    assert_eq!(exchange.action(), Action::Return(first));
}

#[test]
fn a_hedge_that_nobody_is_worth_is_asked_for_again_after_twice_the_time() {
    let (policy, start) = policy(RequestConfig { try_timeout: ms(5_000), ..RequestConfig::default() });
    let mut exchange = Exchange::new(&policy, true, None, start);
    let first = send(&mut exchange, &policy, 1, start);
    for due in [ms(500), ms(1_000), ms(2_000)] {
        assert_eq!(exchange.action(), Action::Wait(start + due));
        assert_eq!(exchange.hedged(), None);
        exchange.timer(&policy, start + due);
        assert_eq!(exchange.action(), Action::Overdue(first));
        assert_eq!(exchange.action(), Action::Pick);
        assert_eq!(exchange.hedged(), Some(first));
        exchange.not_picked();
    }
    assert_eq!((0..200).filter(|_| policy.budget().withdraw(start)).count(), 100, "it costs nothing");
}

#[test]
fn an_overdue_try_is_reported_even_if_nothing_can_be_done() {
    let (policy, start) = policy(RequestConfig::default());
    let mut exchange = Exchange::new(&policy, false, None, start);
    let first = send(&mut exchange, &policy, 1, start);
    exchange.timer(&policy, start + ms(1_000));
    assert_eq!(exchange.action(), Action::Overdue(first));
    assert_eq!(
        exchange.action(),
        Action::Wait(start + Duration::from_secs(15)),
        "a try that cannot be replaced goes on"
    );
}

#[test]
fn a_try_that_timed_out_is_replaced_and_to_blame() {
    let (policy, start) = policy(RequestConfig { hedge: None, ..RequestConfig::default() });
    let mut exchange = Exchange::new(&policy, true, None, start);
    let first = send(&mut exchange, &policy, 1, start);
    let mut now = start + ms(1_000);
    assert_eq!(exchange.action(), Action::Wait(now));
    exchange.timer(&policy, now);
    let second = send(&mut exchange, &policy, 2, now);
    assert_eq!(exchange.action(), Action::TimedOut(first));
    exchange.ended(&policy, first, Outcome::Success, now);
    now += ms(1_000);
    exchange.timer(&policy, now);
    let third = send(&mut exchange, &policy, 3, now);
    assert_eq!(exchange.action(), Action::TimedOut(second));
    // The last one has all the time that is left, and only it is to blame for using it up.
    let deadline = start + Duration::from_secs(15);
    assert_eq!(exchange.action(), Action::Wait(deadline));
    exchange.timer(&policy, deadline);
    assert_eq!(exchange.action(), Action::TimedOut(third));
    assert_eq!(exchange.action(), Action::Fail(ExchangeError::DeadlineExceeded));
}

/// A policy without a credit, and an exchange whose first try is on its way.
fn without_credit(config: RequestConfig) -> (RequestPolicy, Exchange, Attempt, Instant) {
    let budget = BudgetConfig { min_per_second: 0, ..BudgetConfig::default() };
    let (policy, start) = policy(RequestConfig { budget, ..config });
    let mut exchange = Exchange::new(&policy, true, None, start);
    let first = send(&mut exchange, &policy, 1, start);
    (policy, exchange, first, start)
}

#[test]
fn a_hedge_without_a_credit_is_asked_for_again() {
    let config = RequestConfig { try_timeout: ms(60_000), ..RequestConfig::default() };
    let (policy, mut exchange, first, start) = without_credit(config);
    for due in [ms(500), ms(1_000), ms(2_000), ms(3_000)] {
        assert_eq!(exchange.action(), Action::Wait(start + due));
        exchange.timer(&policy, start + due);
        assert_eq!(exchange.action(), Action::Overdue(first));
        assert_eq!(exchange.action(), Action::Pick);
        assert_eq!(exchange.picked(&policy, id(2), start + due), None);
    }
    // Others succeed meanwhile, and pay for it.
    let now = start + ms(4_000);
    assert_eq!(exchange.action(), Action::Wait(now));
    (0..10).for_each(|_| policy.budget().deposit(now));
    exchange.timer(&policy, now);
    assert_eq!(exchange.action(), Action::Overdue(first));
    let hedge = send(&mut exchange, &policy, 2, now);
    exchange.ended(&policy, hedge, Outcome::Success, now);
    assert_eq!(exchange.action(), Action::Return(hedge));
}

#[test]
fn a_try_goes_on_while_nothing_can_replace_it_and_that_is_asked_for_again() {
    let (policy, mut exchange, first, start) =
        without_credit(RequestConfig { hedge: None, ..RequestConfig::default() });
    for (due, not_picked) in [(ms(1_000), false), (ms(2_000), true), (ms(3_000), false)] {
        assert_eq!(exchange.action(), Action::Wait(start + due));
        exchange.timer(&policy, start + due);
        assert_eq!(exchange.action(), Action::Pick);
        if not_picked {
            exchange.not_picked();
        } else {
            assert_eq!(exchange.picked(&policy, id(2), start + due), None);
        }
    }
    let now = start + ms(4_000);
    assert_eq!(exchange.action(), Action::Wait(now));
    let mut lucky = exchange.clone();
    exchange.ended(&policy, first, Outcome::Success, now - ms(300));
    assert_eq!(exchange.action(), Action::Return(first));

    (0..10).for_each(|_| policy.budget().deposit(now));
    lucky.timer(&policy, now);
    let second = send(&mut lucky, &policy, 2, now);
    assert_eq!(lucky.action(), Action::TimedOut(first));
    lucky.ended(&policy, second, Outcome::Success, now);
    assert_eq!(lucky.action(), Action::Return(second));
}

/// Asking ends with the request, however often it is put off.
#[test]
fn a_request_that_nobody_can_help_asks_a_few_times() {
    let config = RequestConfig {
        hedge: Some(HedgeConfig { max_delay: ms(1), ..HedgeConfig::default() }),
        ..RequestConfig::default()
    };
    let (policy, mut exchange, first, start) = without_credit(config);
    let (mut now, mut picks) = (start, 0);
    loop {
        match exchange.action() {
            Action::Pick => {
                picks += 1;
                assert_eq!(exchange.picked(&policy, id(2), now), None);
            }
            Action::Wait(until) => {
                now = until;
                exchange.timer(&policy, now);
            }
            Action::Overdue(_) => {}
            Action::TimedOut(late) => assert_eq!((late, now), (first, start + Duration::from_secs(15))),
            end => break assert_eq!(end, Action::Fail(ExchangeError::DeadlineExceeded)),
        }
    }
    // For a hedge after 1, 2, 4, ... 1024 ms and then each second; for a replacement after 1, 2, ... 14 s.
    assert_eq!(picks, 11 + 13 + 14);
}

#[test]
fn no_try_is_made_with_too_little_time_left() {
    let config = RequestConfig { deadline: ms(100), min_try_time: ms(10), ..RequestConfig::default() };
    for (elapsed, expect_retry) in [(89, true), (90, false)] {
        let (policy, start) = policy(config.clone());
        let mut exchange = Exchange::new(&policy, true, None, start);
        let first = send(&mut exchange, &policy, 1, start);
        exchange.ended(&policy, first, failed(Failure::Answered), start + ms(elapsed));
        let expected = if expect_retry { Action::Pick } else { Action::Return(first) };
        assert_eq!(exchange.action(), expected, "after {elapsed} ms");
    }
}

#[test]
fn the_earlier_of_both_deadlines_counts() {
    let (policy, start) = policy(RequestConfig { hedge: None, ..RequestConfig::default() });
    for (given, expected) in [(ms(300), ms(300)), (Duration::from_secs(60), Duration::from_secs(15))] {
        let mut exchange = Exchange::new(&policy, false, Some(start + given), start);
        send(&mut exchange, &policy, 1, start);
        assert_eq!(exchange.action(), Action::Wait(start + expected));
    }
    let mut late = Exchange::new(&policy, true, start.checked_sub(ms(1)), start);
    assert_eq!(late.action(), Action::Pick);
    late.timer(&policy, start);
    assert_eq!(late.action(), Action::Fail(ExchangeError::DeadlineExceeded));
}

#[test]
fn a_backend_is_tried_again_only_after_a_pause() {
    let (policy, start) = policy(RequestConfig::default());
    let mut exchange = Exchange::new(&policy, true, None, start);
    let first = send(&mut exchange, &policy, 1, start);
    exchange.ended(&policy, first, failed(Failure::Refused), start);
    assert_eq!(exchange.action(), Action::Pick);
    assert_eq!(exchange.picked(&policy, id(1), start), None);
    let Action::Wait(until) = exchange.action() else { panic!("no pause") };
    assert!(until > start && until <= start + ms(10));
    exchange.timer(&policy, until);
    let second = send(&mut exchange, &policy, 1, until);
    exchange.ended(&policy, second, failed(Failure::Refused), until);
    assert_eq!(exchange.action(), Action::Pick);
    assert_eq!(exchange.picked(&policy, id(1), until), None, "each time");
}

#[test]
fn without_a_backend_it_fails_at_once_and_later_with_the_answer_there_is() {
    let (policy, now) = policy(RequestConfig::default());
    let mut exchange = Exchange::new(&policy, true, None, now);
    exchange.not_picked();
    assert_eq!(exchange.action(), Action::Fail(ExchangeError::NoBackend));

    let mut exchange = Exchange::new(&policy, true, None, now);
    let first = send(&mut exchange, &policy, 1, now);
    exchange.ended(&policy, first, failed(Failure::Answered), now);
    assert_eq!(exchange.action(), Action::Pick);
    exchange.not_picked();
    assert_eq!(exchange.action(), Action::Return(first));
}

#[test]
fn without_a_copy_of_the_request_there_is_one_try() {
    let (policy, now) = policy(RequestConfig::default());
    let mut exchange = Exchange::new(&policy, true, None, now);
    let first = send(&mut exchange, &policy, 1, now);
    exchange.no_more_tries();
    exchange.timer(&policy, now + ms(1_500));
    assert_eq!(exchange.action(), Action::Overdue(first));
    assert_eq!(exchange.action(), Action::Wait(now + Duration::from_secs(15)));
    exchange.ended(&policy, first, failed(Failure::Refused), now + ms(1_500));
    assert_eq!(exchange.action(), Action::Return(first));
}

#[test]
fn a_try_that_is_slow_is_reported_once_more() {
    let (policy, start) = policy(RequestConfig::default());
    let mut exchange = Exchange::new(&policy, false, None, start);
    exchange.report_slow(Some(ms(700)));
    let first = send(&mut exchange, &policy, 1, start);
    exchange.timer(&policy, start + ms(500));
    assert_eq!(exchange.action(), Action::Overdue(first));
    let Action::Wait(slow_at) = exchange.action() else { panic!("it waits") };
    assert!(slow_at > start + ms(700) && slow_at < start + ms(701), "later, not as late");
    exchange.timer(&policy, slow_at);
    assert_eq!(exchange.action(), Action::Overdue(first));
    assert_eq!(exchange.action(), Action::Wait(start + Duration::from_secs(15)), "and not again");
    // Where nothing is hedged, too, and once if both times have come.
    for hedge in [None, Some(HedgeConfig::default())] {
        let now = crate::clock::now();
        let policy = RequestPolicy::new(RequestConfig { hedge, ..RequestConfig::default() }, now).unwrap();
        let mut exchange = Exchange::new(&policy, false, None, now);
        exchange.report_slow(Some(ms(20)));
        let first = send(&mut exchange, &policy, 1, now);
        exchange.timer(&policy, now + ms(600));
        assert_eq!(exchange.action(), Action::Overdue(first));
        assert_eq!(exchange.action(), Action::Wait(now + Duration::from_secs(15)));
    }
}

/// Threads that share a clock may tell its times in another order.
#[test]
fn time_that_goes_back_is_no_error() {
    let (policy, start) = policy(RequestConfig { deadline: ms(100), try_timeout: ms(40), ..RequestConfig::default() });
    let mut exchange = Exchange::new(&policy, true, None, start);
    let first = send(&mut exchange, &policy, 1, start + ms(50));
    let mut early = exchange.clone();
    early.ended(&policy, first, Outcome::Success, start + ms(49));
    assert_eq!(early.action(), Action::Return(first));
    exchange.timer(&policy, start + ms(90));
    let second = send(&mut exchange, &policy, 2, start + ms(150));
    exchange.timer(&policy, start + ms(120));
    while let Action::TimedOut(_) | Action::Overdue(_) = exchange.action() {}
    assert_eq!(exchange.action(), Action::Fail(ExchangeError::DeadlineExceeded), "{second:?} has just begun");
}

#[test]
fn a_failed_try_waits_for_its_hedge() {
    let (policy, start) = policy(RequestConfig::default());
    let mut exchange = Exchange::new(&policy, true, None, start);
    let first = send(&mut exchange, &policy, 1, start);
    let now = start + ms(500);
    exchange.timer(&policy, now - ms(1));
    assert_eq!(exchange.action(), Action::Wait(now), "a timer that is early is harmless");
    exchange.timer(&policy, now);
    assert_eq!(exchange.action(), Action::Overdue(first));
    let hedge = send(&mut exchange, &policy, 2, now);
    exchange.ended(&policy, first, failed(Failure::Broken), now);
    assert!(matches!(exchange.action(), Action::Wait(_)));
    exchange.ended(&policy, hedge, failed(Failure::Broken), now);
    let third = send(&mut exchange, &policy, 3, now);
    exchange.ended(&policy, third, failed(Failure::Answered), now);
    assert_eq!(exchange.action(), Action::Return(third), "three tries were all");
}

#[test]
fn when_all_backends_fail_tries_are_bounded() {
    let (policy, start) = policy(RequestConfig { hedge: None, ..RequestConfig::default() });
    let mut now = start;
    let mut tries = 0;
    let mut request = |outcome: Outcome, now: Instant| {
        let mut exchange = Exchange::new(&policy, true, None, now);
        for backend in 0.. {
            match exchange.action() {
                Action::Pick => {
                    let Some(attempt) = exchange.picked(&policy, id(backend), now) else { continue };
                    tries += 1;
                    exchange.ended(&policy, attempt, outcome, now);
                }
                _ => break,
            }
        }
        tries
    };
    const PER_SECOND: u32 = 1_000;
    let mut second = |outcome, count: &mut u32| {
        for _ in 0..PER_SECOND {
            now += Duration::from_secs(1) / PER_SECOND;
            *count = request(outcome, now);
        }
    };
    let (mut healthy, mut total) = (0, 0);
    (0..20).for_each(|_| second(Outcome::Success, &mut healthy));
    assert_eq!(healthy, 20 * PER_SECOND);
    for seconds in 1..=60 {
        second(failed(Failure::Refused), &mut total);
        let (offered, tries) = (seconds * PER_SECOND, total - healthy);
        // The credits of ten good seconds, and the reserve.
        let bound = offered + 2_000 + 10 * (seconds + 11);
        assert!(tries <= bound, "{tries} tries of {offered} requests in {seconds} s");
        assert!(seconds < 12 || tries <= offered * 6 / 5 + 10 * (seconds + 11), "{tries} of {offered}");
    }
}

#[test]
fn tries_beyond_the_first_are_counted() {
    let budget = BudgetConfig { percent: 0, min_per_second: 1, time_to_live: Duration::from_secs(1) };
    let (policy, now) = policy(RequestConfig { budget, ..RequestConfig::default() });
    for _ in 0..3 {
        let mut exchange = Exchange::new(&policy, true, None, now);
        let first = send(&mut exchange, &policy, 1, now);
        exchange.ended(&policy, first, failed(Failure::Refused), now);
        let _ = exchange.picked(&policy, id(2), now);
    }
    let stats = policy.stats();
    assert_eq!((stats.retries, stats.refused_retries, stats.hedges, stats.refused_hedges), (1, 2, 0, 0));
}

#[test]
fn an_exchange_is_small() {
    let size = size_of::<Exchange>();
    assert!(size <= 224, "{size} bytes");
}

// ---- a pool of which all or a part fails ----

/// Sends a request a millisecond for so long; gives the tries and the requests that succeeded.
fn offer(policy: &RequestPolicy, from: Instant, span: Duration, succeeds: impl Fn(u64) -> bool) -> (u64, u64) {
    let (mut tries, mut answered) = (0, 0);
    for request in 0..span.as_millis() as u64 {
        let now = from + ms(request);
        let mut exchange = Exchange::new(policy, true, None, now);
        while exchange.action() == Action::Pick {
            // In turn, and then the next that was not tried.
            let backend = (request + exchange.tried().len() as u64) % 3;
            let Some(attempt) = exchange.picked(policy, id(backend), now) else { continue };
            tries += 1;
            let outcome = if succeeds(backend) { Outcome::Success } else { Outcome::Failure(Failure::Rejected) };
            exchange.ended(policy, attempt, outcome, now);
            answered += u64::from(succeeds(backend));
        }
    }
    (tries, answered)
}

#[test]
fn a_pool_that_fails_altogether_is_not_asked_again_and_again() {
    for_each_seed(|seed| {
        let start = crate::clock::now();
        let policy = RequestPolicy::new(RequestConfig::default(), start).unwrap().with_seed(seed);
        assert_eq!(offer(&policy, start, ms(10_000), |_| true), (10_000, 10_000));
        // Ten seconds' credits would pay for half as many tries more.
        let (tries, answered) = offer(&policy, start + ms(10_000), ms(4_000), |_| false);
        assert!(answered == 0 && (4_100..4_800).contains(&tries), "{tries}");
        // One that is well again is enough for all.
        let (_, answered) = offer(&policy, start + ms(14_000), ms(300), |backend| backend == 0);
        assert!(answered >= 297, "{answered}");
    });
}

#[test]
fn two_backends_of_three_that_fail_are_hidden_while_credits_last() {
    for_each_seed(|seed| {
        let start = crate::clock::now();
        let policy = RequestPolicy::new(RequestConfig::default(), start).unwrap().with_seed(seed);
        offer(&policy, start, ms(10_000), |_| true);
        assert_eq!(offer(&policy, start + ms(10_000), ms(1_000), |backend| backend == 0).1, 1_000);
    });
}
