//! The host's handle: changes the pool, picks, and tells what is known.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::control::{ChangeError, Control, Member};
use crate::cursor::Cursor;
use crate::endpoint::Endpoint;
use crate::health::{Canary, Fitness, Sign};
use crate::pick::Pick;
use crate::picker::{PickError, Picker};
use crate::pool::Pool;
use crate::publish::Published;
use crate::range::ConfigError;
use crate::request::Request;
use crate::snapshot::Snapshot;
use crate::stats::Happening;
use crate::stripes::Stripes;
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::time::Time;
use crate::{Backend, BackendId, Change, HealthState, LoadReport, PoolStats, Probe, ProbeResult, Rng, Zone};

/// A pool of backends and the way to choose among them.
///
/// A handle: clones share one pool. Threads that pick often take a [`Picker`] each; [`pick`](Self::pick) is for the
/// others. Every change is seen by all picks that begin after it returned.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// use tenfold_load_balancer::{Backend, Balancer, Outcome, Policy, Request};
///
/// let balancer = Balancer::builder().policy(Policy::P2c).build()?;
/// balancer.replace(["10.0.0.1:80".parse()?, "10.0.0.2:80".parse()?].map(Backend::new).into())?;
///
/// let pick = balancer.pick(&Request::default(), Instant::now())?;
/// println!("sending to {}", pick.address());
/// pick.finish(Outcome::Success, Instant::now());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Balancer<T = ()> {
    shared: std::sync::Arc<Shared<T>>,
}

pub(crate) struct Shared<T> {
    pub(crate) published: Published<Snapshot<T>>,
    control: Mutex<Control<T>>,
    pool: Arc<Pool<T>>,
    stripes: Stripes<T>,
    /// How many cursors were made.
    cursors: AtomicU64,
    seed: u64,
}

impl<T> Shared<T> {
    /// The state of a new picker.
    pub(crate) fn cursor(&self) -> Cursor {
        // Ordering: a number that differs from the others is all that is asked.
        Cursor::new(self.seed, self.cursors.fetch_add(1, Ordering::Relaxed))
    }

    /// Follows a sign that a request gave.
    pub(crate) fn judge(&self, endpoint: &Endpoint<T>, sign: Sign, now: Instant) {
        let now = self.pool.time(now);
        // A measure that is due is taken by whoever comes first; what is wrong with a backend must be told.
        let control = if sign == Sign::Refresh { self.control.try_lock() } else { Some(self.control.lock()) };
        if let Some(control) = control {
            self.edit(control, |control| control.judge(endpoint, sign, now));
        }
    }

    /// Notes how the request went that a backend's trial was waiting for.
    pub(crate) fn tried(&self, endpoint: &Endpoint<T>, canary: Canary, now: Instant) {
        self.control(|control| control.tried(endpoint, canary, self.pool.time(now)));
    }

    /// Runs `edit` under the control lock and publishes what came of it if it says so. Whatever the host keeps beside
    /// backends that left is dropped after the lock is free.
    fn control(&self, edit: impl FnOnce(&mut Control<T>) -> bool) {
        self.edit(self.control.lock(), edit);
    }

    fn edit(&self, mut control: MutexGuard<'_, Control<T>>, edit: impl FnOnce(&mut Control<T>) -> bool) {
        let old = edit(&mut control).then(|| self.published.publish(control.snapshot()));
        let (departed, untold) = (control.take_departed(), control.take_untold());
        // The lock first.
        drop(control);
        drop((old, departed));
        untold.into_iter().for_each(Happening::tell);
    }
}

impl<T> Clone for Balancer<T> {
    fn clone(&self) -> Self {
        Self { shared: std::sync::Arc::clone(&self.shared) }
    }
}

impl Balancer {
    /// A balancer over these backends, with default settings: round robin.
    ///
    /// # Errors
    /// [`ChangeError`], if the list has a backend twice or too many.
    pub fn new(backends: Vec<Backend>) -> Result<Self, ChangeError> {
        let balancer = Self::builder().build().expect("the default configuration is valid");
        balancer.replace(backends)?;
        Ok(balancer)
    }

    /// Sets up a balancer, for backends with whatever data beside them. It has no backend yet.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<T> Balancer<T> {
    // ---- picking ----

    /// A picker of one's own, for a thread, a connection or a service.
    #[must_use]
    pub fn picker(&self) -> Picker<T> {
        Picker::new(std::sync::Arc::clone(&self.shared))
    }

    /// The backend for a request, which is in flight there while the [`Pick`] lives. `now` is when it starts.
    ///
    /// # Errors
    /// [`PickError`], if no backend takes requests.
    ///
    /// # Complexity
    /// As for [`Picker::pick`], and a lock that few threads share.
    pub fn pick(&self, request: &Request<'_>, now: Instant) -> Result<Pick<T>, PickError> {
        self.shared.stripes.with(&self.shared, |hand| hand.pick_as_renewed(request, now))
    }

    // ---- changes ----

    /// Lets a backend join, or changes the weight, zone and priority of one that is there, and ends its draining. Says
    /// whether it is new. See [`Change::Insert`] for what is kept.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was changed.
    pub fn insert(&self, backend: Backend<T>) -> Result<bool, ChangeError> {
        self.change(|control| control.insert(backend))
    }

    /// Takes a backend out; requests in flight there may end. Says whether it was there.
    pub fn remove(&self, id: BackendId) -> bool {
        self.change(|control| control.remove(id))
    }

    /// Sends no new request to a backend, except of clients that ask for it as [`sticky`](Request::sticky). Says whether
    /// it is there. [`insert`](Self::insert) takes it back.
    pub fn drain(&self, id: BackendId) -> bool {
        self.change(|control| control.drain(id))
    }

    /// Makes these the backends of the pool. Those that stay keep their state.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was changed.
    pub fn replace(&self, backends: Vec<Backend<T>>) -> Result<(), ChangeError> {
        self.change(|control| control.replace(backends))
    }

    /// Carries out what a discovery source reported. Removing or draining a backend that is not there is no error.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing was changed.
    pub fn apply(&self, change: Change<T>) -> Result<(), ChangeError> {
        self.change(|control| control.apply(change))
    }

    /// Carries out several changes, in their order, with one rebuilding of the tables at the end: picks see all of them or
    /// none. Says of each what [`apply`](Self::apply) says; one that is refused does not keep the others back.
    pub fn apply_all(&self, changes: Vec<Change<T>>) -> Vec<Result<(), ChangeError>> {
        self.change(|control| changes.into_iter().map(|change| control.apply(change)).collect())
    }

    /// Edits the pool and publishes what came of it. Members that left are dropped after the lock is free, with what
    /// the host keeps beside them.
    fn change<R>(&self, edit: impl FnOnce(&mut Control<T>) -> R) -> R {
        let mut result = None;
        self.shared.control(|control| {
            result = Some(edit(control));
            #[cfg(any(test, feature = "testing"))]
            control.check_invariants();
            true
        });
        self.shared.stripes.renew(&self.shared);
        self.shared.pool.waiters().wake_all();
        result.expect("the edit was made")
    }

    // ---- health ----

    /// Lets time pass: ends ejections, warms backends up. Returns when to call it next.
    ///
    /// Not needed where requests go on, since those that end do the same; where a backend that was ejected is to be
    /// listed as tried again on time even if no request comes.
    pub fn tick(&self, now: Instant) -> Option<Instant> {
        let shared = &self.shared;
        let mut next = None;
        shared.control(|control| {
            let publish = control.tick(shared.pool.time(now));
            next = control.next_tick();
            publish
        });
        shared.stripes.renew(shared);
        shared.pool.waiters().wake_all();
        next.and_then(|next| shared.pool.instant(next))
    }

    /// Notes what a backend said of its load; [`Policy::Prequal`](crate::Policy::Prequal) goes by it for a second. Says
    /// whether the backend is there.
    pub fn report_load(&self, id: BackendId, report: LoadReport, now: Instant) -> bool {
        let mut control = self.shared.control.lock();
        let Some(member) = control.member_mut(id) else { return false };
        member.slot.endpoint().report().set(report, member.slot.in_flight(), self.shared.pool.time(now));
        true
    }

    /// How long an answer takes in this pool before it is slow; `None` as long as nothing is known.
    #[must_use]
    pub fn slow_after(&self) -> Option<Duration> {
        self.shared.pool.norm().slow_after()
    }

    /// The same in nanoseconds; the largest number for `None`.
    #[cfg(feature = "tower")]
    #[inline]
    pub(crate) fn slow_after_nanos(&self) -> u64 {
        self.shared.pool.norm().slow_after_nanos()
    }

    /// The probes that are to be sent now, and when to ask again (`None`: there are none). For hosts that send them by
    /// their own means; each one's result is told by [`probed`](Self::probed).
    #[must_use = "a probe that is due is taken as begun"]
    pub fn due_probes(&self, now: Instant) -> (Vec<Probe>, Option<Instant>) {
        let shared = &self.shared;
        let (mut due, mut next) = (Vec::new(), None);
        shared.control(|control| {
            let publish;
            (next, publish) = control.due_probes(shared.pool.time(now), &mut due);
            publish
        });
        (due, next.and_then(|next| shared.pool.instant(next)))
    }

    /// Says how a probe went. One that has timed out, or whose backend has left, changes nothing.
    pub fn probed(&self, probe: Probe, result: impl Into<ProbeResult>, now: Instant) {
        let (shared, result) = (&self.shared, result.into());
        shared.control(|control| control.probed(&probe, result, shared.pool.time(now)));
    }

    // ---- what is known ----

    /// All backends, in the order of their ids.
    #[must_use]
    pub fn backends(&self) -> Vec<BackendStats> {
        let control = self.shared.control.lock();
        control.members().iter().map(|member| BackendStats::of(member, control.now())).collect()
    }

    /// What the pool did so far. Of a backend that left, requests that were in flight then are not counted.
    ///
    /// # Complexity
    /// O(n), under the lock of changes.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.shared.control.lock().stats()
    }

    /// Completes when a backend that leaves (drained or with weight 0) has no request in flight, or is gone. Requests
    /// that go to it because a client asks for it by [`sticky`](Request::sticky) count.
    ///
    /// It is woken by the end of the backend's last request. There is one way to miss that: the request ends in the very
    /// nanoseconds in which this begins to wait, in another thread that is stopped in between. Then it is woken by the
    /// end of any other request of the pool, by any change, or by the next [`tick`](Self::tick), so a host that waits
    /// without a driver should tick.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing changes.
    pub async fn drained(&self, id: BackendId) {
        let waiting = Waiting { pool: &self.shared.pool, place: Box::new(0) };
        poll_fn(|cx| self.poll_drained(id, &waiting, cx)).await;
    }

    fn poll_drained(&self, id: BackendId, waiting: &Waiting<'_, T>, cx: &Context<'_>) -> Poll<()> {
        let slot = {
            let mut control = self.shared.control.lock();
            let Some(member) = control.member_mut(id) else { return Poll::Ready(()) };
            Arc::clone(&member.slot)
        };
        let is_new = self.shared.pool.waiters().add(waiting.token(), &slot, cx.waker());
        if slot.in_flight() == 0 {
            return Poll::Ready(());
        }
        if is_new {
            // Looks again at once: whoever was just about to let go when this began to wait has done so by then, mostly.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Somebody who waits for a backend's last request; leaves the list of those when it is dropped.
struct Waiting<'a, T> {
    pool: &'a Pool<T>,
    /// Its address tells this one from others.
    place: Box<u8>,
}

impl<T> Waiting<'_, T> {
    fn token(&self) -> usize {
        std::ptr::from_ref(&*self.place) as usize
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.pool.waiters().remove(self.token());
    }
}

impl<T> fmt::Debug for Balancer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("backends", &self.backends()).finish_non_exhaustive()
    }
}

/// What is known of one backend, at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackendStats {
    /// Who it is.
    pub id: BackendId,
    /// Where it is.
    pub address: SocketAddr,
    /// How much it takes beside others.
    pub weight: u32,
    /// Its pool: 0 is primary.
    pub priority: u8,
    /// Its zone.
    pub zone: Option<Zone>,
    /// Whether it takes requests, and if not, why.
    pub state: BackendState,
    /// What health thinks of it.
    pub health: HealthState,
    /// How many times it was ejected in its present spell of trouble, or in the last one.
    pub ejections: u32,
    /// Requests in flight.
    pub in_flight: usize,
    /// The latency to expect: the highest of late, fading; zero if nothing is known.
    pub latency: Duration,
    /// Requests that went well in the window ([`OutlierConfig::window`](crate::OutlierConfig::window)).
    pub successes: u64,
    /// Requests that failed in the window.
    pub failures: u64,
    /// Requests that went well since it joined.
    pub total_successes: u64,
    /// Requests that failed since it joined.
    pub total_failures: u64,
}

/// Whether a backend takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum BackendState {
    /// It takes its share.
    Healthy,
    /// It is new or was ejected, and takes a growing part of its share.
    Warming,
    /// It answers badly or late, and takes none for a while.
    Ejected,
    /// Nobody serves there.
    Down,
    /// It leaves: drained, or of weight 0.
    Draining,
}

impl BackendStats {
    fn of<T>(member: &Member<T>, now: Time) -> Self {
        let endpoint = member.slot.endpoint();
        let (counts, total) = (endpoint.vitals().latest_counts(), endpoint.vitals().total_counts());
        let latency = endpoint.vitals().latency_nanos(endpoint.pool().norm(), now);
        let state = match member.fitness {
            _ if member.draining || member.weight == 0 => BackendState::Draining,
            Fitness::Fit { percent: 100 } => BackendState::Healthy,
            Fitness::Fit { .. } => BackendState::Warming,
            Fitness::Ejected | Fitness::OnTrial { was_down: false } => BackendState::Ejected,
            Fitness::Down | Fitness::OnTrial { was_down: true } => BackendState::Down,
        };
        Self {
            id: endpoint.id(),
            address: endpoint.address(),
            weight: member.weight,
            priority: member.priority,
            zone: member.zone.clone(),
            state,
            health: member.machine.state(),
            ejections: member.machine.ejections(),
            in_flight: member.slot.in_flight(),
            latency: Duration::from_nanos(latency as u64),
            successes: counts.successes,
            failures: counts.failures,
            total_successes: total.successes,
            total_failures: total.failures,
        }
    }
}

/// Sets up a [`Balancer`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    config: Config,
    seed: Option<u64>,
    started_at: Option<Instant>,
}

impl Builder {
    /// All settings that are data.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How a backend is chosen; default round robin.
    pub fn policy(mut self, policy: crate::Policy) -> Self {
        self.config.policy = policy;
        self
    }

    /// Where this balancer stands; see [`Config::zone`].
    pub fn zone(mut self, zone: Zone) -> Self {
        self.config.zone = Some(zone);
        self
    }

    /// What all randomness is drawn from; by default a seed from the operating system. With a seed, the same calls in
    /// the same order give the same picks.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The instant that times are counted from: no later than any that the balancer will be told. Default: now. For
    /// hosts with a clock of their own.
    pub fn started_at(mut self, now: Instant) -> Self {
        self.started_at = Some(now);
        self
    }

    /// The balancer, still without backends.
    ///
    /// # Errors
    /// [`ConfigError`], for a setting outside its range.
    pub fn build<T>(self) -> Result<Balancer<T>, ConfigError> {
        self.config.check()?;
        let origin = self.started_at.unwrap_or_else(crate::clock::now);
        let bounded = self.config.policy.load_bound_percent().is_some();
        let pool = Arc::new(Pool::new(origin, bounded, &self.config.outlier));
        let seed = self.seed.unwrap_or_else(crate::rng::seed_from_os);
        let mut control = Control::new(self.config, Arc::clone(&pool), Rng::new(crate::rng::mix(seed)));
        let published = Published::new(control.snapshot());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared {
            published,
            control: Mutex::new(control),
            pool,
            stripes: Stripes::new(2 * threads),
            cursors: AtomicU64::new(0),
            seed,
        };
        let shared = std::sync::Arc::new(shared);
        shared.pool.settle(std::sync::Arc::downgrade(&shared));
        Ok(Balancer { shared })
    }
}
