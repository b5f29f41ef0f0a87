//! Tenfold's balancer, by its policies.

use std::convert::Infallible;
use std::future::{Pending, Ready, pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tenfold_load_balancer::{
    Backend, Balance, Balancer, HashConfig, Key, Outcome, Policy, Request, RequestConfig, RequestPolicy, Timer, Traits,
};
use tower::Service;

use super::{Candidate, Hand, Kind, Origin, Picker, Pool, SharedPool, address, number, weight};
use crate::clock::Stopwatch;

const HASH: HashConfig = HashConfig { slots: None, cap_percent: None, load_bound_percent: None };

/// The policies. `-next` asks for an address only; the others count a request in flight and say how it ended.
pub const CANDIDATES: &[Candidate] = &[
    ours("tenfold-round-robin-next", Kind::RoundRobin, |count| next(count, Policy::RoundRobin)),
    ours("tenfold-round-robin", Kind::RoundRobin, |count| counted(count, Policy::RoundRobin)),
    ours("tenfold-weighted-next", Kind::Weighted, |count| next(count, Policy::WeightedRoundRobin)),
    ours("tenfold-random-next", Kind::Random, |count| next(count, Policy::Random)),
    ours("tenfold-p2c", Kind::LeastLoaded, |count| counted(count, Policy::P2c)),
    ours("tenfold-tower", Kind::LeastLoaded, |count| Pool::shared(Stack::new(count))),
    ours("tenfold-capped-rendezvous-next", Kind::Hash, |count| next(count, Policy::CappedRendezvous(HASH))),
    ours("tenfold-maglev-next", Kind::Hash, |count| next(count, Policy::Maglev(HASH))),
    ours("tenfold-ring-hash-next", Kind::Hash, |count| next(count, Policy::RingHash(HASH))),
];

const fn ours(name: &'static str, kind: Kind, build: fn(usize) -> Pool) -> Candidate {
    Candidate { name, kind, origin: Origin::Ours, max_backends: usize::MAX, build }
}

fn balancer(count: usize, policy: Policy) -> Balancer {
    let backend = |number| {
        let backend = Backend::new(address(number));
        if policy == Policy::WeightedRoundRobin { backend.with_weight(weight(number)) } else { backend }
    };
    let balancer = Balancer::builder().policy(policy).build().expect("the policies' defaults are valid");
    balancer.replace((0..count).map(backend).collect()).expect("addresses differ, and a race has few");
    balancer
}

fn next(count: usize, policy: Policy) -> Pool {
    Pool::shared(Next { balancer: balancer(count, policy), count })
}

fn counted(count: usize, policy: Policy) -> Pool {
    Pool::shared(Counted { balancer: balancer(count, policy), count })
}

struct Next {
    balancer: Balancer,
    count: usize,
}

impl SharedPool for Next {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(NextHand { picker: self.balancer.picker(), now: Stopwatch::start().started(), count: self.count })
    }
}

struct NextHand {
    picker: tenfold_load_balancer::Picker,
    now: Instant,
    count: usize,
}

impl Picker for NextHand {
    #[inline]
    fn pick(&mut self, key: u64) -> Option<usize> {
        let choice = self.picker.next(&Request::keyed(Key::from_hash(key)), self.now).ok()?;
        number(choice.address(), self.count)
    }
}

struct Counted {
    balancer: Balancer,
    count: usize,
}

impl SharedPool for Counted {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(CountedHand { picker: self.balancer.picker(), now: Stopwatch::start().started(), count: self.count })
    }
}

struct CountedHand {
    picker: tenfold_load_balancer::Picker,
    /// A host reads the clock once for all it does, and no policy here looks at it.
    now: Instant,
    count: usize,
}

impl Picker for CountedHand {
    #[inline]
    fn pick(&mut self, key: u64) -> Option<usize> {
        let pick = self.picker.pick(&Request::keyed(Key::from_hash(key)), self.now).ok()?;
        let backend = number(pick.address(), self.count);
        pick.finish(Outcome::Success, self.now);
        backend
    }
}

/// The tower face as it comes: picks by requests in flight, budget, hedge, time-outs and deadline of each request, and the clock
/// read twice, where the others are given the time.
struct Stack {
    service: Balance<Echo, ToEcho, Clock>,
    count: usize,
}

impl Stack {
    fn new(count: usize) -> Self {
        let balancer = Balancer::builder().policy(Policy::P2c).build().expect("the policy's defaults are valid");
        let backend = |number| Backend::new(address(number)).with_data(Echo(number));
        balancer.replace((0..count).map(backend).collect()).expect("addresses differ, and a race has few");
        let policy = RequestPolicy::new(RequestConfig::default(), Clock.now()).expect("the defaults are valid");
        Self { service: Balance::new(balancer, Arc::new(policy), TO_ECHO, Clock), count }
    }
}

impl SharedPool for Stack {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(StackHand { service: self.service.clone(), count: self.count })
    }
}

struct StackHand {
    service: Balance<Echo, ToEcho, Clock>,
    count: usize,
}

impl Picker for StackHand {
    #[inline]
    fn pick(&mut self, key: u64) -> Option<usize> {
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(())) = self.service.poll_ready(&mut context) else { return None };
        let Poll::Ready(Ok(number)) = pin!(self.service.call(key)).poll(&mut context) else { return None };
        (number < self.count).then_some(number)
    }
}

/// A backend: answers at once with its number.
#[derive(Clone)]
struct Echo(usize);

impl Service<u64> for Echo {
    type Response = usize;
    type Error = Infallible;
    type Future = Ready<Result<usize, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> Self::Future {
        ready(Ok(self.0))
    }
}

type ToEcho = (fn(&u64) -> Traits, fn(&Result<usize, Infallible>) -> Outcome, fn(&u64) -> Option<u64>);

const TO_ECHO: ToEcho =
    (|_| Traits { is_idempotent: true, ..Traits::default() }, |_| Outcome::Success, |request| Some(*request));

/// The system's, and never a timer: every answer is there at once.
#[derive(Clone, Copy)]
struct Clock;

impl Timer for Clock {
    type Sleep = Pending<()>;

    #[inline]
    fn now(&self) -> Instant {
        Stopwatch::start().started()
    }

    fn sleep_until(&self, _: Instant) -> Self::Sleep {
        pending()
    }
}
