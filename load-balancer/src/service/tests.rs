use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt};

use super::{Balance, BalanceError, BalanceLayer, Protocol, Timer, TokioTimer, Traits};
use crate::{
    Backend, Balancer, Breaker, BreakerConfig, BreakerState, Failure, HealthState, LimitConfig, Outcome, PickError,
    Policy, Priority, RequestConfig, RequestPolicy,
};

// ---- backends ----

#[derive(Clone, Copy, Debug)]
enum Manner {
    Answers(Duration),
    /// In 2 ms, this many times; from then on in 202 ms.
    Worsens(u32),
    Fails(Failure),
    Hangs,
    NeverReady,
    /// An error in place of readiness.
    Broken,
}

use Manner::{Answers, Fails, Hangs, NeverReady};

#[derive(Clone)]
struct Fake {
    number: u32,
    manner: Manner,
    calls: Arc<AtomicU32>,
    /// Calls whose future was dropped before its end.
    cancelled: Arc<AtomicU32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct FakeError(Failure);

/// Counts itself unless it was defused.
struct Guard(Arc<AtomicU32>, bool);

impl Guard {
    fn defuse(&mut self) {
        self.1 = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.1 {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Service<u32> for Fake {
    type Response = (u32, u32);
    type Error = FakeError;
    type Future = Pin<Box<dyn Future<Output = Result<(u32, u32), FakeError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FakeError>> {
        match self.manner {
            NeverReady => Poll::Pending,
            Manner::Broken => Poll::Ready(Err(FakeError(Failure::Broken))),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let manner = match self.manner {
            Manner::Worsens(after) => Answers(ms(if calls < after { 2 } else { 202 })),
            manner => manner,
        };
        let number = self.number;
        let mut guard = Guard(Arc::clone(&self.cancelled), true);
        Box::pin(async move {
            let result = match manner {
                Answers(after) => {
                    if after > Duration::ZERO {
                        tokio::time::sleep(after).await;
                    }
                    Ok((number, request))
                }
                Fails(failure) => Err(FakeError(failure)),
                _ => std::future::pending().await,
            };
            guard.defuse();
            result
        })
    }
}

// ---- the service over them ----

/// Even requests are idempotent, those from 1,000 on cannot be copied, and those from 100 on may wait.
#[derive(Clone)]
struct Numbers;

impl Protocol<u32, (u32, u32), FakeError> for Numbers {
    fn describe(&self, request: &u32) -> Traits {
        let priority = if *request < 100 { Priority::Critical } else { Priority::Sheddable };
        Traits { is_idempotent: request % 2 == 0, priority, ..Traits::default() }
    }

    fn classify(&self, result: &Result<(u32, u32), FakeError>) -> Outcome {
        result.as_ref().map_or_else(|error| Outcome::Failure(error.0), |_| Outcome::Success)
    }

    fn copy(&self, request: &u32) -> Option<u32> {
        (*request < 1_000).then_some(*request)
    }
}

type Numbered = Balance<Fake, Numbers, TokioTimer>;

/// Backends numbered from 0, picked in turn.
fn service(config: RequestConfig, manners: &[Manner]) -> (Numbered, Vec<Fake>) {
    let fakes: Vec<_> = (0..).zip(manners).map(|(number, manner)| fake(number, *manner)).collect();
    let balancer = Balancer::builder().policy(Policy::RoundRobin).seed(0).build().unwrap();
    let backend = |fake: &Fake| Backend::new(([10, 0, 0, fake.number as u8], 80).into()).with_data(fake.clone());
    balancer.replace(fakes.iter().map(backend).collect()).unwrap();
    let policy = Arc::new(RequestPolicy::new(config, TokioTimer.now()).unwrap().with_seed(1));
    (Balance::new(balancer, policy, Numbers, TokioTimer), fakes)
}

fn fake(number: u32, manner: Manner) -> Fake {
    Fake { number, manner, calls: Arc::default(), cancelled: Arc::default() }
}

fn calls(fakes: &[Fake]) -> Vec<u32> {
    fakes.iter().map(|fake| fake.calls.load(Ordering::Relaxed)).collect()
}

fn no_hedge() -> RequestConfig {
    RequestConfig { hedge: None, ..RequestConfig::default() }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const AT_ONCE: Manner = Answers(Duration::ZERO);

#[tokio::test(start_paused = true)]
async fn goes_round_and_stacks_with_layers() {
    let (balance, fakes) = service(RequestConfig::default(), &[AT_ONCE; 3]);
    let layer = BalanceLayer::new(Arc::clone(balance.policy()), Numbers, TokioTimer);
    let mut stack = ServiceBuilder::new()
        .map_request(|text: &str| text.len() as u32)
        .layer(layer)
        .service(balance.balancer().clone());
    for _ in 0..6 {
        assert_eq!(stack.ready().await.unwrap().call("four").await.unwrap().1, 4);
    }
    assert_eq!(calls(&fakes), [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_try_is_repeated_elsewhere_if_that_is_safe() {
    for (failure, request, is_hidden) in [
        (Failure::Refused, 1, true),
        (Failure::Broken, 1, false),
        (Failure::Broken, 2, true),
        (Failure::Answered, 2, true),
        (Failure::Refused, 1_000, false),
    ] {
        let (mut balance, _) = service(no_hedge(), &[Fails(failure), AT_ONCE]);
        for _ in 0..2 {
            match balance.call(request).await {
                Ok(answer) => assert_eq!(answer, (1, request)),
                Err(error) => {
                    assert_eq!(error, BalanceError::Backend(FakeError(failure)));
                    assert!(!is_hidden, "{failure:?} of {request}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_returned_when_all_fail() {
    let (mut balance, fakes) = service(no_hedge(), &[Fails(Failure::Broken); 4]);
    assert_eq!(balance.call(2).await, Err(BalanceError::Backend(FakeError(Failure::Broken))));
    assert_eq!(calls(&fakes).iter().sum::<u32>(), 3, "three tries, each at another backend: {:?}", calls(&fakes));
    assert!(calls(&fakes).iter().all(|count| *count <= 1));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_is_hedged() {
    for manner in [Hangs, NeverReady] {
        let (mut balance, fakes) = service(RequestConfig::default(), &[manner, AT_ONCE]);
        let start = tokio_now();
        for _ in 0..2 {
            assert_eq!(balance.call(2).await.unwrap().0, 1, "{manner:?}");
        }
        assert_eq!(start.elapsed(), ms(500), "one of the two was hedged");
        let dropped = fakes[0].cancelled.load(Ordering::Relaxed);
        assert_eq!(dropped, fakes[0].calls.load(Ordering::Relaxed), "the loser is stopped");
        assert!(balance.balancer().backends().iter().all(|backend| backend.in_flight == 0));
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_wait_alike_nothing_is_hedged() {
    // Two backends behind one database: as many wait at the one as at the other.
    let (balance, fakes) = service(RequestConfig::default(), &[Answers(ms(900)), Answers(ms(900))]);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut balance = balance.clone();
        all.spawn(async move { balance.call(2).await.unwrap().0 });
    }
    assert_eq!(all.join_all().await.len(), 20);
    assert_eq!(calls(&fakes).iter().sum::<u32>(), 20);
}

#[tokio::test(start_paused = true)]
async fn losers_are_stopped_by_the_answer_even_if_its_future_is_kept() {
    // Once the hedge wins, and once the first try does.
    for manners in [[Hangs, AT_ONCE], [Answers(ms(600)), Hangs]] {
        let (mut balance, fakes) = service(RequestConfig::default(), &manners);
        for _ in 0..2 {
            let mut answer = std::pin::pin!(balance.call(2));
            assert!(answer.as_mut().await.is_ok());
            assert!(balance.balancer().backends().iter().all(|backend| backend.in_flight == 0), "{manners:?}");
        }
        let hung = fakes.iter().find(|fake| matches!(fake.manner, Hangs)).unwrap();
        assert_eq!(hung.cancelled.load(Ordering::Relaxed), hung.calls.load(Ordering::Relaxed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_that_timed_out_is_replaced_or_goes_on() {
    let (mut balance, _) = service(no_hedge(), &[Hangs, AT_ONCE]);
    let start = tokio_now();
    for _ in 0..2 {
        assert_eq!(balance.call(2).await.unwrap().0, 1);
    }
    assert_eq!(start.elapsed(), ms(1_000));

    let (mut balance, fakes) = service(no_hedge(), &[Answers(ms(3_000))]);
    assert_eq!(balance.call(2).await.unwrap().0, 0, "there is no other backend, and slow beats failed");
    assert_eq!(calls(&fakes), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_try_may_still_win_against_its_hedge() {
    let (mut balance, fakes) = service(RequestConfig::default(), &[Answers(ms(600)), Answers(ms(600))]);
    let start = tokio_now();
    balance.call(2).await.unwrap();
    assert_eq!(start.elapsed(), ms(600));
    assert_eq!(calls(&fakes), [1, 1]);
    assert_eq!(fakes.iter().map(|fake| fake.cancelled.load(Ordering::Relaxed)).sum::<u32>(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_may_be_repeated_whatever_the_error_says() {
    let (mut balance, fakes) = service(no_hedge(), &[Manner::Broken, AT_ONCE]);
    for _ in 0..2 {
        assert_eq!(balance.call(1).await, Ok((1, 1)));
    }
    assert_eq!(calls(&fakes), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_it() {
    let config = RequestConfig { deadline: ms(700), ..RequestConfig::default() };
    let (mut balance, _) = service(config, &[Hangs, NeverReady]);
    let start = tokio_now();
    for request in [1, 2] {
        assert_eq!(balance.call(request).await, Err(BalanceError::DeadlineExceeded));
    }
    assert_eq!(start.elapsed(), ms(1_400));
    assert!(balance.balancer().backends().iter().all(|backend| backend.in_flight == 0));
}

#[tokio::test(start_paused = true)]
async fn without_backends_it_fails_with_the_reason() {
    let (mut balance, _) = service(RequestConfig::default(), &[]);
    assert_eq!(balance.call(1).await, Err(BalanceError::NoBackend(PickError::NoBackends)));

    let (mut balance, _) = service(RequestConfig::default(), &[AT_ONCE]);
    let id = balance.balancer().backends()[0].id;
    balance.balancer().drain(id);
    assert_eq!(balance.call(1).await, Err(BalanceError::NoBackend(PickError::NoneAvailable)));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_leaves_while_a_request_is_with_it_answers_it() {
    let (mut balance, fakes) = service(no_hedge(), &[Answers(ms(50))]);
    let answer = balance.call(1);
    balance.balancer().replace(vec![]).unwrap();
    assert_eq!(answer.await, Ok((0, 1)));
    assert_eq!(calls(&fakes), [1]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_cancels_every_try() {
    let (mut balance, fakes) = service(RequestConfig::default(), &[Hangs, Hangs, Hangs]);
    let answer = tokio::time::timeout(ms(800), balance.call(2)).await;
    assert!(answer.is_err());
    assert_eq!(calls(&fakes).iter().sum::<u32>(), 2, "a try and its hedge");
    assert_eq!(fakes.iter().map(|fake| fake.cancelled.load(Ordering::Relaxed)).sum::<u32>(), 2);
    assert!(balance.balancer().backends().iter().all(|backend| backend.in_flight == 0));
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_is_refused_and_less_important_first() {
    let limit = LimitConfig { initial: 5, max: 5, ..LimitConfig::default() };
    let (mut balance, fakes) = service(RequestConfig { limit: Some(limit), ..no_hedge() }, &[Hangs]);
    let mut in_flight: Vec<_> = (0..4).map(|_| balance.call(101)).collect();
    let Err(BalanceError::Overloaded(refused)) = balance.call(101).await else { panic!("it was let in") };
    assert_eq!((refused.limit, refused.in_flight), (4, 4));
    in_flight.push(balance.call(1));
    assert!(matches!(balance.call(1).await, Err(BalanceError::Overloaded(_))));
    drop(in_flight);
    assert_eq!(balance.policy().limit().unwrap().in_flight(), 0);
    assert_eq!(calls(&fakes), [0], "nothing is sent before the future is polled");
}

#[tokio::test(start_paused = true)]
async fn says_who_answered() {
    struct Signed;
    impl Protocol<u32, (u32, u32), FakeError> for Signed {
        fn describe(&self, _: &u32) -> Traits {
            Traits { is_idempotent: true, ..Traits::default() }
        }
        fn classify(&self, result: &Result<(u32, u32), FakeError>) -> Outcome {
            Numbers.classify(result)
        }
        fn copy(&self, request: &u32) -> Option<u32> {
            Some(*request)
        }
        fn answered(&self, response: &mut (u32, u32), by: crate::BackendId) {
            response.1 = by.get() as u32;
        }
    }
    let (balance, _) = service(no_hedge(), &[Fails(Failure::Refused), AT_ONCE]);
    let ids: Vec<_> = (0..2).map(|number| Backend::new(([10, 0, 0, number], 80).into()).id()).collect();
    let mut signed = Balance::new(balance.balancer().clone(), Arc::clone(balance.policy()), Signed, TokioTimer);
    for _ in 0..2 {
        assert_eq!(signed.call(0).await, Ok((1, ids[1].get() as u32)));
    }
}

/// An answer whose body goes on while the second part lives.
#[tokio::test(start_paused = true)]
async fn an_answer_may_hold_its_request_in_flight() {
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Streams(Arc<Mutex<Vec<super::Held>>>);
    impl Protocol<u32, (u32, u32), FakeError> for Streams {
        fn describe(&self, request: &u32) -> Traits {
            Numbers.describe(request)
        }
        fn classify(&self, result: &Result<(u32, u32), FakeError>) -> Outcome {
            Numbers.classify(result)
        }
        fn copy(&self, request: &u32) -> Option<u32> {
            Numbers.copy(request)
        }
        fn hold(&self, response: (u32, u32), held: super::Held) -> (u32, u32) {
            self.0.lock().unwrap().push(held);
            response
        }
    }
    let limit = LimitConfig { initial: 5, ..LimitConfig::default() };
    let (balance, _) = service(RequestConfig { limit: Some(limit), ..no_hedge() }, &[AT_ONCE]);
    for holds in [false, true] {
        let streams = Streams::default();
        let mut service =
            Balance::new(balance.balancer().clone(), Arc::clone(balance.policy()), streams.clone(), TokioTimer);
        if holds {
            service = service.with_held_answers();
        }
        service.clone().call(1).await.unwrap();
        let in_flight = || balance.balancer().backends()[0].in_flight;
        let permits = || balance.policy().limit().unwrap().in_flight();
        let (expected, health) = (usize::from(holds), balance.balancer().backends()[0].successes);
        assert_eq!((in_flight(), permits(), health > 0), (expected, expected as u32, true));
        streams.0.lock().unwrap().clear();
        assert_eq!((in_flight(), permits()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_stands_before_the_pool_if_asked_for() {
    let (balance, fakes) = service(no_hedge(), &[Fails(Failure::Answered), Fails(Failure::Answered)]);
    let breaker = Arc::new(Breaker::with_seed(BreakerConfig::default(), 1, TokioTimer.now()).unwrap());
    let mut balance = balance.with_breaker(Arc::clone(&breaker));
    for _ in 0..5 {
        assert_eq!(balance.call(1).await, Err(BalanceError::Backend(FakeError(Failure::Answered))));
    }
    assert!(matches!(balance.clone().call(1).await, Err(BalanceError::Open(_))));
    assert_eq!(calls(&fakes).iter().sum::<u32>(), 5);
    tokio::time::sleep(ms(1_200)).await;
    assert_eq!(balance.call(1).await, Err(BalanceError::Backend(FakeError(Failure::Answered))), "half-open");
    assert!(matches!(balance.call(1).await, Err(BalanceError::Open(_))));
    // Requests that were refused for want of a backend, or dropped, tell it nothing.
    let (balance, _) = service(no_hedge(), &[]);
    let breaker = Arc::new(Breaker::with_seed(BreakerConfig::default(), 1, TokioTimer.now()).unwrap());
    let mut balance = balance.with_breaker(Arc::clone(&breaker));
    (0..9).for_each(|_| drop(balance.call(1)));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// Who is gone learns nothing; but a backend on trial that let its client go did not pass.
#[tokio::test(start_paused = true)]
async fn a_trial_whose_client_has_gone_is_not_passed() {
    let (mut balance, _) = service(no_hedge(), &[Hangs]);
    let pick = balance.balancer().pick(&crate::Request::default(), TokioTimer.now()).unwrap();
    pick.finish(Outcome::Failure(Failure::Refused), TokioTimer.now());
    tokio::time::sleep(ms(600)).await;
    balance.balancer().tick(TokioTimer.now());
    let health = |balance: &Numbered| balance.balancer().backends()[0].health;
    assert_eq!(health(&balance), HealthState::Probation);
    assert!(tokio::time::timeout(ms(100), balance.call(2)).await.is_err());
    assert_eq!(health(&balance), HealthState::Down);
}

#[test]
fn needs_no_runtime_for_requests_that_are_answered_at_once() {
    let start = crate::clock::now();
    let (balance, _) = service(RequestConfig::default(), &[AT_ONCE]);
    let timer = (move || start, |_| std::future::pending::<()>());
    let mut plain = Balance::new(balance.balancer().clone(), Arc::clone(balance.policy()), Numbers, timer);
    let mut answer = std::pin::pin!(plain.call(7));
    assert_eq!(answer.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())), Poll::Ready(Ok((0, 7))));
}

#[test]
fn may_go_to_other_threads() {
    fn check<V: Clone + Send + Sync + 'static>(_: &V) {}
    fn check_future<V: Send + 'static>(_: V) {}
    let (mut balance, _) = service(RequestConfig::default(), &[AT_ONCE]);
    check(&balance);
    check_future(balance.call(1));
}

/// The runtime's time, which stands still and jumps from timer to timer.
fn tokio_now() -> Instant {
    crate::clock::tokio_now()
}

/// One request at a time, a hedge for the late ones as long as there are credits, and no end of those that lost to one.
#[tokio::test(start_paused = true)]
async fn a_grey_backend_is_ejected_though_hedges_win_over_it() {
    for good_calls in [0, 200] {
        let manners = [Answers(ms(2)), Manner::Worsens(good_calls), Answers(ms(2))];
        let (mut balance, _) = service(RequestConfig::default(), &manners);
        let mut late = 0;
        for _ in 0..3 * good_calls + 500 {
            let start = tokio_now();
            balance.call(2).await.unwrap();
            late += usize::from(start.elapsed() > ms(50));
        }
        let ejections = balance.balancer().stats().ejections;
        assert!(ejections >= 1, "{late} late");
        assert!(late <= if good_calls > 0 { 12 } else { 45 }, "{late} late");
    }
}
