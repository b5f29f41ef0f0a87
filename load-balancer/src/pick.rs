//! A backend that was picked, as long as the request is with it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::counted::{Counted, Held};
use crate::endpoint::Endpoint;
use crate::health::{Canary, Ended, Sign};
use crate::sync::Arc;
use crate::time::Time;
use crate::{BackendId, Outcome};

/// The backend that a request goes to; in flight there while this lives.
///
/// Owned, `Send` and free of lifetimes, so it may travel with the request. Say how the request ended with
/// [`finish`](Self::finish): health and latency live on it. A pick that is [cancelled](Self::cancel) or dropped instead is
/// neither good nor bad, and never fast.
///
/// # Aborts
/// If a billion picks of one backend were forgotten without being dropped, as by [`std::mem::forget`], its count would be
/// wrong: the process ends then, as it does where an `Arc` overflows.
///
/// # Complexity
/// One atomic addition when picked and one when it ends, its success included, in one cache line of this backend; no allocation.
#[must_use = "a pick counts as in flight while it lives"]
pub struct Pick<T = ()> {
    /// Taken when it is dropped, nowhere else.
    endpoint: Option<Held<Endpoint<T>>>,
    started: Instant,
    /// What it has against its backend so far, because it waits.
    points: AtomicU32,
    /// Whether its backend is on trial, and this is the request that decides.
    is_trial: AtomicBool,
}

impl<T> Pick<T> {
    #[inline]
    pub(crate) fn new(endpoint: Held<Endpoint<T>>, started: Instant) -> Self {
        if endpoint.pool().is_bounded() {
            endpoint.pool().began();
        }
        Self { endpoint: Some(endpoint), started, points: AtomicU32::new(0), is_trial: AtomicBool::new(false) }
    }

    /// A request that decides whether its backend gets more of them. It has taken the place.
    #[cold]
    pub(crate) fn on_trial(endpoint: Held<Endpoint<T>>, started: Instant) -> Self {
        let mut pick = Self::new(endpoint, started);
        *pick.is_trial.get_mut() = true;
        pick
    }

    /// Whether its backend is on trial, and how this request goes decides.
    #[inline]
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.is_trial.load(Ordering::Relaxed)
    }

    /// The backend.
    #[inline]
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint<T> {
        self.endpoint.as_ref().expect("it is taken by drop alone")
    }

    /// Who it is.
    #[inline]
    #[must_use]
    pub fn id(&self) -> BackendId {
        self.endpoint().id()
    }

    /// Where it is.
    #[inline]
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint().address()
    }

    /// What the host keeps beside it.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &T {
        self.endpoint().data()
    }

    /// When it was picked, as the picker was told, or [began anew](Self::restart).
    #[inline]
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Requests in flight with its backend, this one included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.endpoint().count().holders()
    }

    /// Whether a second copy of the request that waits with `late` is worth sending here: this backend has at most half
    /// as many others in flight, or that one is on trial or out.
    ///
    /// # Source
    /// J. Dean, L. A. Barroso, "The tail at scale", 2013, hedges whatever is late. We ask whether somebody else is any
    /// better: where all backends wait for one database, the late 5 % are copied for nothing, and the copies took an
    /// eighth of its capacity.
    #[must_use]
    pub fn is_idler_than(&self, late: &Self) -> bool {
        let is_doubtful = late.is_trial.load(Ordering::Relaxed) || !late.endpoint().is_open();
        is_doubtful || 2 * self.in_flight().saturating_sub(1) <= late.in_flight()
    }

    /// Says that the backend's time begins only now: until now the request was on its way from whoever sends it, as one
    /// with a large body or a slow client is. Latency, what is overdue and the time of a trial are counted from here. May
    /// be called again and again, with each part that the backend was given.
    pub fn restart(&mut self, now: Instant) {
        if *self.is_trial.get_mut() {
            let pool = self.endpoint().pool();
            let is_kept = self.endpoint().vitals().trial().restart(pool.time(self.started), pool.time(now));
            *self.is_trial.get_mut() = is_kept;
        }
        self.started = now;
    }

    /// Says that an answer which is good so far has begun and that its rest is a matter of the client's pace, too. The
    /// request stays in flight; a backend on trial has passed, or was too slow.
    #[inline]
    pub fn answered(&self, now: Instant) {
        if self.is_trial.load(Ordering::Relaxed) {
            let pool = self.endpoint().pool();
            let took = pool.time(now).since(pool.time(self.started));
            self.report(Sign::Fine, Some(self.canary(Outcome::Success, took)), now);
        }
    }

    /// Says that the request has waited longer than most do and goes on waiting: so health sees a backend that hangs
    /// before it has failed anything. To be called when the request is hedged, and once more if it still waits after
    /// [`Balancer::slow_after`](crate::Balancer::slow_after), as [`Exchange`](crate::Exchange) asks for; oftener does no
    /// harm.
    pub fn overdue(&self, now: Instant) {
        let endpoint = self.endpoint.as_ref().expect("it is taken by drop alone");
        let pool = endpoint.pool();
        let (started, at) = (pool.time(self.started), pool.time(now));
        let (points, sign) = endpoint.vitals().overdue(pool.norm(), started, at, self.points.load(Ordering::Relaxed));
        self.points.store(points, Ordering::Relaxed);
        let is_verdict = points > 0 && self.is_trial.load(Ordering::Relaxed);
        if sign != Sign::Fine || is_verdict {
            self.report(sign, is_verdict.then_some(Canary::Late), now);
        }
    }

    /// Ends the request and says how it went.
    ///
    /// # Complexity
    /// For an answer that is good and not slow: one atomic addition, which counts it and lets go of the backend; no lock.
    #[inline]
    pub fn finish(mut self, outcome: Outcome, now: Instant) {
        if self.note(outcome, now) {
            self.succeed();
        }
    }

    /// Says how the request went, as [`finish`](Self::finish), and keeps it in flight as long as what is returned lives:
    /// for an answer whose beginning has come and whose body goes on. The latency is that of the beginning.
    #[inline]
    pub fn finish_and_hold(mut self, outcome: Outcome, now: Instant) -> InFlight<T> {
        if self.note(outcome, now) {
            self.endpoint().vitals().succeeded();
        }
        InFlight(self.endpoint.take())
    }

    /// Ends the request without an answer, because nobody waits for it any more: another was faster, or the client has
    /// gone. As if it was dropped, neither good nor bad; but if its backend is on trial, one that has waited for as long as
    /// [`OutlierConfig::latency_floor`](crate::OutlierConfig::latency_floor) has not passed it.
    pub fn cancel(self, now: Instant) {
        if !self.is_trial.load(Ordering::Relaxed) {
            return;
        }
        let pool = self.endpoint().pool();
        if pool.time(now).since(pool.time(self.started)) >= pool.norm().limits.floor {
            self.report(Sign::Fine, Some(Canary::Bad), now);
        }
    }

    /// As [`finish`](Self::finish) or [`finish_and_hold`](Self::finish_and_hold), by a caller who knows how long it took, in
    /// nanoseconds: to compare two instants costs as much as all that is noted here.
    #[cfg(feature = "tower")]
    #[inline]
    pub(crate) fn finish_after(
        mut self,
        took: u64,
        outcome: Outcome,
        now: Instant,
        holds: bool,
    ) -> Option<InFlight<T>> {
        let at = self.endpoint().pool().time(now);
        let started = Time::from_nanos(at.as_nanos().saturating_sub(took));
        match (self.note_times(outcome, (started, at), now), holds) {
            (true, false) => self.succeed(),
            (true, true) => self.endpoint().vitals().succeeded(),
            (false, _) => {}
        }
        if holds { Some(InFlight(self.endpoint.take())) } else { None }
    }

    /// Whether it is a success that is to be counted yet.
    #[inline]
    fn note(&self, outcome: Outcome, now: Instant) -> bool {
        let pool = self.endpoint().pool();
        self.note_times(outcome, (pool.time(self.started), pool.time(now)), now)
    }

    #[inline]
    fn note_times(&self, outcome: Outcome, (started, at): (Time, Time), now: Instant) -> bool {
        let endpoint = self.endpoint();
        let end = Ended { outcome, started, now: at, points: self.points.load(Ordering::Relaxed) };
        let noted = endpoint.vitals().note(endpoint.pool().norm(), end);
        let is_trial = self.is_trial.load(Ordering::Relaxed);
        if noted.sign == Sign::Fine && !is_trial {
            return noted.is_uncounted;
        }
        // Whoever judges looks at all counts, this one among them.
        if noted.is_uncounted {
            endpoint.vitals().succeeded();
        }
        let canary = self.canary(outcome, end.now.since(started));
        self.report(noted.sign, is_trial.then_some(canary), now);
        false
    }

    /// Counts a success and lets go, in one. It is not on trial.
    #[inline]
    fn succeed(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            let_go(endpoint, true);
        }
    }

    fn canary(&self, outcome: Outcome, took: Duration) -> Canary {
        let is_slow = took.as_nanos() > u128::from(self.endpoint().pool().norm().slow_after_nanos());
        Canary::of(outcome, is_slow)
    }

    /// Tells the balancer what the measurements cannot decide by themselves.
    #[cold]
    fn report(&self, sign: Sign, canary: Option<Canary>, now: Instant) {
        let endpoint = self.endpoint.as_ref().expect("it is taken by drop alone");
        let Some(home) = endpoint.pool().home() else { return };
        home.judge(endpoint, sign, now);
        // Whoever took too long has lost the place, and decides nothing.
        let Some(canary) = canary else { return };
        if self.is_trial.swap(false, Ordering::Relaxed)
            && endpoint.vitals().trial().leave(endpoint.pool().time(self.started), false)
        {
            home.tried(endpoint, canary, now);
        }
    }
}

impl<T> Drop for Pick<T> {
    #[inline]
    fn drop(&mut self) {
        let Some(endpoint) = self.endpoint.take() else { return };
        if *self.is_trial.get_mut() {
            endpoint.vitals().trial().leave(endpoint.pool().time(self.started), true);
        }
        let_go(endpoint, false);
    }
}

/// A request whose answer has begun: in flight while this lives, and nothing more is said of it.
#[must_use = "it is in flight while this lives"]
pub struct InFlight<T = ()>(Option<Held<Endpoint<T>>>);

impl<T> Drop for InFlight<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(endpoint) = self.0.take() {
            let_go(endpoint, false);
        }
    }
}

impl<T> fmt::Debug for InFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InFlight").field(&self.0).finish()
    }
}

#[inline]
fn let_go<T>(endpoint: Held<Endpoint<T>>, is_success: bool) {
    if endpoint.pool().is_bounded() {
        endpoint.pool().ended();
    }
    if endpoint.pool().waiters().any() {
        let_go_before_waiters(endpoint, is_success);
    } else if is_success {
        endpoint.succeed();
    }
}

#[cold]
fn let_go_before_waiters<T>(endpoint: Held<Endpoint<T>>, is_success: bool) {
    let pool = Arc::clone(endpoint.pool());
    if is_success {
        endpoint.succeed()
    } else {
        drop(endpoint)
    }
    pool.waiters().wake_drained();
}

impl<T> fmt::Debug for Pick<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick").field("endpoint", self.endpoint()).field("started", &self.started).finish()
    }
}
