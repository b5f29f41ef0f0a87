//! What time it is, and how to wait: the seam between the service and its host's runtime.

use std::future::Future;
use std::time::Instant;

/// Tells the time and waits.
///
/// A pair of closures is one; with the `tokio` feature there is `TokioTimer`.
///
/// # Examples
/// A host that never waits (no hedges, no time-outs, no deadline):
/// ```
/// use std::time::Instant;
/// use tenfold_load_balancer::Timer;
///
/// let timer = (Instant::now, |_| std::future::pending::<()>());
/// assert!(timer.now() <= timer.now());
/// ```
pub trait Timer {
    /// Completes when its instant has come.
    type Sleep: Future<Output = ()>;

    /// The time now. Asked twice for each request.
    fn now(&self) -> Instant;

    /// Waits until this instant. Asked only for requests that are not answered at once.
    fn sleep_until(&self, until: Instant) -> Self::Sleep;
}

impl<N, S, F> Timer for (N, S)
where
    N: Fn() -> Instant,
    S: Fn(Instant) -> F,
    F: Future<Output = ()>,
{
    type Sleep = F;

    fn now(&self) -> Instant {
        (self.0)()
    }

    fn sleep_until(&self, until: Instant) -> F {
        (self.1)(until)
    }
}

/// The timers of the tokio runtime that polls the service's futures.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer;

#[cfg(feature = "tokio")]
impl Timer for TokioTimer {
    type Sleep = tokio::time::Sleep;

    #[inline]
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, until: Instant) -> Self::Sleep {
        tokio::time::sleep_until(until.into())
    }
}
