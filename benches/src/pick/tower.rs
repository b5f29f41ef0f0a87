//! tower's balancers: a service for one thread, and the same behind its buffer for many.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Runtime;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, Load, PeakEwma, PendingRequests};
use tower::{BoxError, Service};

use super::{Candidate, Hand, Kind, Origin, Picker, Pool, SharedPool};

/// By requests in flight and by latency; the buffer around the first.
pub const CANDIDATES: &[Candidate] = &[
    peer("tower-pending-requests", Kind::LeastLoaded, |count| local(services(count, pending), count)),
    peer("tower-peak-ewma", Kind::Latency, |count| local(services(count, peak_ewma), count)),
    peer("tower-buffer", Kind::LeastLoaded, |count| Pool::shared(Buffered::new(count))),
];

/// Requests that wait for the balancer behind the buffer.
const BUFFER: usize = 1_024;

/// The settings of its own examples.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
const DECAY_NS: f64 = 1e9;

const fn peer(name: &'static str, kind: Kind, build: fn(usize) -> Pool) -> Candidate {
    Candidate { name, kind, origin: Origin::Peer, max_backends: usize::MAX, build }
}

/// A backend: answers at once with its number.
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

fn pending(echo: Echo) -> PendingRequests<Echo> {
    PendingRequests::new(echo, CompleteOnResponse::default())
}

fn peak_ewma(echo: Echo) -> PeakEwma<Echo> {
    PeakEwma::new(echo, DEFAULT_RTT, DECAY_NS, CompleteOnResponse::default())
}

type Services<S> = Balance<ServiceList<Vec<S>>, u64>;

fn services<S>(count: usize, wrap: fn(Echo) -> S) -> Services<S>
where
    S: Service<u64, Response = usize> + Load,
    S::Error: Into<BoxError>,
{
    Balance::new(ServiceList::new((0..count).map(|number| wrap(Echo(number))).collect::<Vec<_>>()))
}

fn local<S>(balance: Services<S>, count: usize) -> Pool
where
    S: Service<u64, Response = usize> + Load + 'static,
    S::Error: Into<BoxError>,
    S::Metric: std::fmt::Debug,
{
    Pool::Local(Box::new(Local { balance, count }))
}

struct Local<S>
where
    S: Service<u64>,
    S::Error: Into<BoxError>,
{
    balance: Services<S>,
    count: usize,
}

impl<S> Picker for Local<S>
where
    S: Service<u64, Response = usize> + Load,
    S::Error: Into<BoxError>,
    S::Metric: std::fmt::Debug,
{
    #[inline]
    fn pick(&mut self, key: u64) -> Option<usize> {
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(())) = self.balance.poll_ready(&mut context) else { return None };
        let Poll::Ready(Ok(number)) = pin!(self.balance.call(key)).poll(&mut context) else { return None };
        (number < self.count).then_some(number)
    }
}

/// The buffer's handle, its request and answer.
type Handle = Buffer<u64, <Services<PendingRequests<Echo>> as Service<u64>>::Future>;

/// The balancer in a task of its own, on a runtime of two threads. Each thread of the race is a task there: one on another
/// thread would be woken for every answer.
struct Buffered {
    runtime: Runtime,
    handle: Handle,
    count: usize,
}

impl Buffered {
    fn new(count: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        let runtime = runtime.expect("two threads can be started");
        let handle = {
            let _inside = runtime.enter();
            Buffer::new(services(count, pending), BUFFER)
        };
        Self { runtime, handle, count }
    }
}

impl SharedPool for Buffered {
    fn hand(&self) -> Box<dyn Hand + '_> {
        Box::new(BufferedHand { pool: self, handle: self.handle.clone() })
    }
}

struct BufferedHand<'a> {
    pool: &'a Buffered,
    handle: Handle,
}

async fn request(handle: &mut Handle, key: u64) -> Option<usize> {
    poll_fn(|context| handle.poll_ready(context)).await.ok()?;
    handle.call(key).await.ok()
}

impl Hand for BufferedHand<'_> {
    fn pick_many(&mut self, key: u64, count: usize) -> usize {
        let (mut handle, backends) = (self.handle.clone(), self.pool.count);
        let task = self.pool.runtime.spawn(async move {
            let mut wrong = 0;
            for number in 0..count as u64 {
                let answer = request(&mut handle, key.wrapping_add(number)).await;
                wrong += usize::from(answer.is_none_or(|number| number >= backends));
            }
            wrong
        });
        self.pool.runtime.block_on(task).unwrap_or(count)
    }

    fn pick_one(&mut self, key: u64) -> Option<usize> {
        let answer = self.pool.runtime.block_on(request(&mut self.handle, key));
        answer.filter(|&number| number < self.pool.count)
    }
}
