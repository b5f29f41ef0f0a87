//! The tower face: a pool of services that is one service.
//!
//! The backends' own services are the data beside them ([`Backend::with_data`](crate::Backend::with_data)).
//! [`Balance`] is always ready, may be cloned for every task and connection, and picks when a request comes: no
//! readiness is promised for a backend that may be gone by then, and no channel or lock stands before the pick. A
//! backend's service is made ready by the request that goes to it, under that request's time-outs, so one that never
//! gets ready is found out like one that never answers.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::balancer::Balancer;
use crate::breaker::{Breaker, BreakerOpen};
use crate::limit::Overloaded;
use crate::pick::InFlight;
use crate::picker::{PickError, Picker};
use crate::request_config::RequestPolicy;

pub use clock::Timer;
#[cfg(feature = "tokio")]
pub use clock::TokioTimer;
pub use future::ResponseFuture;
pub use protocol::{Held, Protocol, Traits};

mod attempt;
mod clock;
mod future;
mod protocol;
#[cfg(all(test, feature = "tokio"))]
mod tests;

/// Sends each request to a backend's service, and to others as the [`RequestPolicy`] allows.
///
/// `S` is the services' type, `P` reads requests and answers, `T` tells the time. Clones share the pool, the budget and
/// the limit, and pick on their own.
///
/// # Complexity
/// A request that its backend answers at once: the pick, two looks at the clock, no allocation beside the service's own.
/// One that has to wait: a timer. Retries and hedges: an allocation each.
///
/// # Examples
/// ```
/// # #[cfg(feature = "tokio")]
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use std::{convert::Infallible, sync::Arc};
/// use tenfold_load_balancer::{
///     Backend, Balance, Balancer, Outcome, RequestConfig, RequestPolicy, Timer, TokioTimer, Traits,
/// };
/// use tower::{ServiceExt, service_fn};
///
/// let echo = service_fn(|request: u32| async move { Ok::<_, Infallible>(request + 1) });
/// let balancer = Balancer::builder().build()?;
/// balancer.replace(vec![Backend::new("10.0.0.1:80".parse()?).with_data(echo)])?;
///
/// let protocol = (
///     |_: &u32| Traits { is_idempotent: true, ..Traits::default() },
///     |_: &Result<u32, Infallible>| Outcome::Success,
///     |request: &u32| Some(*request),
/// );
/// let policy = Arc::new(RequestPolicy::new(RequestConfig::default(), TokioTimer.now())?);
/// let service = Balance::new(balancer, policy, protocol, TokioTimer);
/// assert_eq!(service.oneshot(41).await?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Balance<S, P, T> {
    shared: Arc<Shared<S, P, T>>,
    picker: Picker<S>,
}

/// What a service and the requests it has begun share. Each clone of the service has its own, since every request
/// holds on to it: a count of references that all threads write would cost more than the pick.
struct Shared<S, P, T> {
    pool: Arc<Pool<S, P, T>>,
    extras: Extras<S>,
}

/// What is asked for by few hosts.
struct Extras<S> {
    breaker: Option<Arc<Breaker>>,
    /// How the place in flight of an answer is made one that [`Held`] can hold, if answers hold it.
    hold: Option<Hold<S>>,
}

type Hold<S> = fn(InFlight<S>) -> Box<dyn Send + Sync>;

impl<S> Clone for Extras<S> {
    fn clone(&self) -> Self {
        Self { breaker: self.breaker.clone(), hold: self.hold }
    }
}

struct Pool<S, P, T> {
    balancer: Balancer<S>,
    policy: Arc<RequestPolicy>,
    protocol: P,
    timer: T,
}

impl<S, P, T> Balance<S, P, T> {
    /// A service over the backends of this balancer.
    #[must_use]
    pub fn new(balancer: Balancer<S>, policy: Arc<RequestPolicy>, protocol: P, timer: T) -> Self {
        let picker = balancer.picker();
        let pool = Arc::new(Pool { balancer, policy, protocol, timer });
        let extras = Extras { breaker: None, hold: None };
        Self { shared: Arc::new(Shared { pool, extras }), picker }
    }

    /// Puts a breaker before the whole pool: while it is open, requests fail with [`BalanceError::Open`] and cost nobody
    /// anything. It is told how each request ended, not each try. For a pool that is one thing to its users, as where all
    /// backends are fronts of one database; a single backend that fails is ejected without it.
    #[must_use]
    pub fn with_breaker(self, breaker: Arc<Breaker>) -> Self {
        self.with(|extras| extras.breaker = Some(breaker))
    }

    /// Lets answers hold the places of their requests, in flight and under the limit, beyond their beginning:
    /// [`Protocol::hold`] is given them. Without this a request ends when its service's future does, which for HTTP is
    /// when the head of the answer has come, and the bodies that still stream are not counted. Costs an allocation an
    /// answer.
    #[must_use]
    pub fn with_held_answers(self) -> Self
    where
        S: Send + Sync + 'static,
    {
        self.with(|extras| extras.hold = Some(|in_flight| Box::new(in_flight)))
    }

    fn with(self, change: impl FnOnce(&mut Extras<S>)) -> Self {
        let Shared { pool, extras } = &*self.shared;
        let (pool, mut extras) = (Arc::clone(pool), extras.clone());
        change(&mut extras);
        Self { shared: Arc::new(Shared { pool, extras }), picker: self.picker }
    }

    /// The pool, for changes.
    #[must_use]
    pub fn balancer(&self) -> &Balancer<S> {
        &self.shared.pool.balancer
    }

    /// What its requests share.
    #[must_use]
    pub fn policy(&self) -> &Arc<RequestPolicy> {
        &self.shared.pool.policy
    }
}

impl<S, P, T, R> Service<R> for Balance<S, P, T>
where
    S: Service<R> + Clone,
    P: Protocol<R, S::Response, S::Error>,
    T: Timer,
{
    type Response = S::Response;
    type Error = BalanceError<S::Error>;
    type Future = ResponseFuture<S, P, T, R>;

    /// Always ready: what there is no room for is refused by the call.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: R) -> Self::Future {
        ResponseFuture::new(&self.shared, &mut self.picker, request)
    }
}

impl<S, P, T> Clone for Balance<S, P, T> {
    fn clone(&self) -> Self {
        let Shared { pool, extras } = &*self.shared;
        let shared = Arc::new(Shared { pool: Arc::clone(pool), extras: extras.clone() });
        Self { shared, picker: self.picker.clone() }
    }
}

impl<S, P, T> fmt::Debug for Balance<S, P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pool { balancer, policy, .. } = &*self.shared.pool;
        f.debug_struct("Balance").field("balancer", balancer).field("policy", policy).finish_non_exhaustive()
    }
}

/// Makes a [`Balance`] of a [`Balancer`]: the innermost layer of a stack, whose service is the pool.
#[derive(Clone, Debug)]
pub struct BalanceLayer<P, T> {
    policy: Arc<RequestPolicy>,
    protocol: P,
    timer: T,
}

impl<P, T> BalanceLayer<P, T> {
    /// A layer whose services share the policy, and with it the budget and the limit: meant for one pool.
    #[must_use]
    pub const fn new(policy: Arc<RequestPolicy>, protocol: P, timer: T) -> Self {
        Self { policy, protocol, timer }
    }
}

impl<S, P: Clone, T: Clone> Layer<Balancer<S>> for BalanceLayer<P, T> {
    type Service = Balance<S, P, T>;

    fn layer(&self, balancer: Balancer<S>) -> Self::Service {
        let Self { policy, protocol, timer } = self.clone();
        Balance::new(balancer, policy, protocol, timer)
    }
}

/// Why a request brought no answer of a backend, or the error that a backend's service answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError<E> {
    /// The last try ended with this error of the backend's service.
    #[error(transparent)]
    Backend(E),
    /// No backend could be picked.
    #[error("no backend to send the request to")]
    NoBackend(#[source] PickError),
    /// Enough requests are in flight.
    #[error("too many requests")]
    Overloaded(#[source] Overloaded),
    /// The [breaker](Balance::with_breaker) is open.
    #[error("the pool is not asked for now")]
    Open(#[source] BreakerOpen),
    /// No answer came in time.
    #[error("no answer before the deadline")]
    DeadlineExceeded,
}
