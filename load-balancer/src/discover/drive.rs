//! Takes a source's changes to the balancer: a future for the host to spawn.

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use super::gate::{Effect, Gate, Withheld};
use super::{Discover, DiscoverError, EmptyAnswer};
use crate::{Change, Rng};

#[cfg(test)]
mod tests;

/// How [`Drive`] treats a source, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct DriveConfig {
    /// What an answer without a backend means. Default `None`: what the source says ([`Discover::empty_answer`]).
    pub empty_answer: Option<EmptyAnswer>,
    /// The most backends that are taken from the source, those that drain included; default 10,000. A change that
    /// would exceed it is withheld as a whole and reported. Bounds memory and the time to rebuild the tables.
    pub max_backends: usize,
    /// The wait after the first error; default 200 ms. Shorter finds out sooner that the source is back, and asks a
    /// failing one more often.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub min_backoff: Duration,
    /// The longest wait, approached by doubling; default 30 s. At least `min_backoff`, whatever it says. Longer
    /// spares the source and leaves the balancer with an old set for longer.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max_backoff: Duration,
}

impl Default for DriveConfig {
    fn default() -> Self {
        Self {
            empty_answer: None,
            max_backends: 10_000,
            min_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(30),
        }
    }
}

/// Takes the changes of a source to the balancer, or to any other closure.
///
/// A source may be wrong, and this is where that stops:
/// - An error takes nothing away: the last good set stays, the error is reported and the source asked again, after
///   a wait that doubles from error to error and is spread by chance over its upper half.
/// - An answer that names no backend is withheld under [`EmptyAnswer::Keep`]. That holds for removals one by one as
///   well: the last backend that takes requests is neither removed nor drained until the source names another, which
///   then takes the place of all that were kept.
/// - An answer that names too many is withheld.
/// - What the balancer refuses is reported; the changes after it are still applied.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tenfold_load_balancer::{Balancer, Drive, StaticSource};
///
/// async fn run(balancer: Balancer) {
///     let source = StaticSource::parse("10.0.0.1:80\n10.0.0.2:80 weight=2").expect("it is well formed");
///     let drive = Drive::new(source).on_error(|error| eprintln!("{error}"));
///     let counters = drive.counters();
///     let sleep = |wait: Duration| async move { /* your runtime's */ let _ = wait; };
///     drive.run_with(sleep, |change| balancer.apply(change)).await;
///     assert_eq!(counters.stats().applied, 1);
/// }
/// ```
pub struct Drive<D> {
    source: D,
    config: DriveConfig,
    rng: Rng,
    on_error: Box<dyn FnMut(&DiscoverError) + Send>,
    counters: DriveCounters,
}

impl<D> Drive<D> {
    /// Drives this source as [`DriveConfig::default`] says.
    #[must_use]
    pub fn new(source: D) -> Self {
        Self {
            source,
            config: DriveConfig::default(),
            rng: Rng::new(crate::rng::seed_from_os()),
            on_error: Box::new(|_| {}),
            counters: DriveCounters::default(),
        }
    }

    /// Replaces the configuration.
    #[must_use]
    pub fn config(mut self, config: DriveConfig) -> Self {
        self.config = config;
        self
    }

    /// Seeds the spread of the waits; default from the operating system.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.rng = Rng::new(seed);
        self
    }

    /// Is told each error and each change that is withheld or refused; default nobody. Runs within the driving
    /// future, so it must not block.
    #[must_use]
    pub fn on_error(mut self, on_error: impl FnMut(&DiscoverError) + Send + 'static) -> Self {
        self.on_error = Box::new(on_error);
        self
    }

    /// What has happened so far, to be kept while the future runs.
    #[must_use]
    pub fn counters(&self) -> DriveCounters {
        self.counters.clone()
    }

    /// Runs until the source ends, with `sleep` to wait between errors.
    ///
    /// # Cancel safety
    /// Dropping the future stops it; a change is applied as a whole or not at all.
    pub async fn run_with<T, S, W, F, E>(self, sleep: S, mut apply: F)
    where
        D: Discover<T>,
        S: FnMut(Duration) -> W,
        W: Future<Output = ()>,
        F: FnMut(Change<T>) -> Result<(), E>,
        E: StdError + Send + Sync + 'static,
    {
        self.run_all_with(sleep, |changes| changes.into_iter().map(&mut apply).collect()).await;
    }

    /// The same, with the changes that the source has ready at once, as after an update that names many backends: for
    /// [`Balancer::apply_all`](crate::Balancer::apply_all), which rebuilds its tables once for all of them. `apply` says
    /// of each how it went.
    ///
    /// What comes and what goes are not mixed in one call, so that whether the last backend may go never depends on one
    /// that may yet be refused.
    ///
    /// # Cancel safety
    /// As [`run_with`](Self::run_with).
    pub async fn run_all_with<T, S, W, F, E>(self, mut sleep: S, apply: F)
    where
        D: Discover<T>,
        S: FnMut(Duration) -> W,
        W: Future<Output = ()>,
        F: FnMut(Vec<Change<T>>) -> Vec<Result<(), E>>,
        E: StdError + Send + Sync + 'static,
    {
        let Self { mut source, config, mut rng, mut on_error, counters } = self;
        let gate = Gate::new(config.empty_answer.unwrap_or_else(|| source.empty_answer()), config.max_backends);
        let max_backends = config.max_backends;
        let report = |error: &DiscoverError| on_error(error);
        let mut intake = Intake { gate, apply, report, counters: Arc::clone(&counters.0), max_backends };
        let (mut failures, mut ready) = (0_u32, Vec::new());
        loop {
            let mut next = pin!(source.next_change());
            let answer = match poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
                Poll::Ready(answer) => answer,
                Poll::Pending => {
                    intake.take(std::mem::take(&mut ready));
                    next.await
                }
            };
            match answer {
                Some(Ok(change)) => {
                    failures = 0;
                    counters.0.consecutive_errors.store(0, Relaxed);
                    ready.push(change);
                    if ready.len() == MAX_READY {
                        intake.take(std::mem::take(&mut ready));
                    }
                }
                Some(Err(error)) => {
                    intake.take(std::mem::take(&mut ready));
                    failures = failures.saturating_add(1);
                    counters.0.errors.fetch_add(1, Relaxed);
                    counters.0.consecutive_errors.store(u64::from(failures), Relaxed);
                    (intake.report)(&error);
                    sleep(config.backoff(failures, &mut rng)).await;
                }
                None => return intake.take(ready),
            }
        }
    }

    /// [`run_with`](Self::run_with) on tokio's timer.
    ///
    /// # Cancel safety
    /// As there.
    #[cfg(feature = "tokio")]
    pub async fn run<T, F, E>(self, apply: F)
    where
        D: Discover<T>,
        F: FnMut(Change<T>) -> Result<(), E>,
        E: StdError + Send + Sync + 'static,
    {
        self.run_with(tokio::time::sleep, apply).await;
    }

    /// [`run_all_with`](Self::run_all_with) on tokio's timer.
    ///
    /// # Cancel safety
    /// As there.
    #[cfg(feature = "tokio")]
    pub async fn run_all<T, F, E>(self, apply: F)
    where
        D: Discover<T>,
        F: FnMut(Vec<Change<T>>) -> Vec<Result<(), E>>,
        E: StdError + Send + Sync + 'static,
    {
        self.run_all_with(tokio::time::sleep, apply).await;
    }
}

/// The most changes that wait to be applied together.
const MAX_READY: usize = 1024;

/// Whether a change brings requests to a backend, takes them from one, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Comes,
    Goes,
    Both,
}

impl Direction {
    fn of<T>(change: &Change<T>) -> Self {
        match change {
            Change::Insert(backend) if backend.takes_requests() => Self::Comes,
            Change::Insert(_) | Change::Remove(_) | Change::Drain(_) => Self::Goes,
            Change::Replace(_) => Self::Both,
        }
    }
}

/// What stands between the source and the balancer.
struct Intake<F, R> {
    gate: Gate,
    apply: F,
    report: R,
    counters: Arc<Counters>,
    max_backends: usize,
}

impl<F, R: FnMut(&DiscoverError)> Intake<F, R> {
    /// Admits changes and applies them, in their order.
    fn take<T, E>(&mut self, changes: Vec<Change<T>>)
    where
        F: FnMut(Vec<Change<T>>) -> Vec<Result<(), E>>,
        E: StdError + Send + Sync + 'static,
    {
        let (mut admitted, mut effects, mut direction) = (Vec::new(), Vec::new(), Direction::Both);
        // What the gate knew before those that are admitted and not applied yet.
        let mut before = self.gate.clone();
        for change in changes {
            let next = Direction::of(&change);
            if next != direction || next == Direction::Both {
                self.apply(&mut before, std::mem::take(&mut admitted), std::mem::take(&mut effects));
            }
            direction = next;
            match self.gate.admit(change) {
                Ok((change, effect)) => {
                    // One may take the place of all that are kept.
                    direction = Direction::of(&change);
                    admitted.push(change);
                    effects.push(effect.clone());
                    self.gate.commit(effect);
                }
                Err(withheld) => self.withhold(withheld),
            }
        }
        self.apply(&mut before, admitted, effects);
    }

    fn apply<T, E>(&mut self, before: &mut Gate, changes: Vec<Change<T>>, effects: Vec<Effect>)
    where
        F: FnMut(Vec<Change<T>>) -> Vec<Result<(), E>>,
        E: StdError + Send + Sync + 'static,
    {
        if changes.is_empty() {
            return;
        }
        let mut is_refused = false;
        // What is not answered is not known to have been done.
        let results = (self.apply)(changes).into_iter();
        let mut taken = Vec::with_capacity(effects.len());
        for (effect, result) in effects.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.counters.applied.fetch_add(1, Relaxed);
                    taken.push(effect);
                }
                Err(error) => {
                    is_refused = true;
                    self.counters.refused.fetch_add(1, Relaxed);
                    (self.report)(&DiscoverError::refused(error));
                }
            }
        }
        if is_refused {
            self.gate.clone_from(before);
            taken.into_iter().for_each(|effect| self.gate.commit(effect));
        }
        before.clone_from(&self.gate);
    }

    fn withhold(&mut self, withheld: Withheld) {
        self.counters.withheld.fetch_add(1, Relaxed);
        (self.report)(&match withheld {
            Withheld::Empty => DiscoverError::empty(),
            Withheld::TooMany => DiscoverError::too_many(self.max_backends),
        });
    }
}

impl DriveConfig {
    /// The wait after so many errors in a row: doubled from the first on, then a random part of the upper half, so
    /// that many balancers that lost the same source do not come back at once.
    fn backoff(&self, failures: u32, rng: &mut Rng) -> Duration {
        let doubled = self.min_backoff.saturating_mul(1 << failures.saturating_sub(1).min(30));
        let longest = doubled.min(self.max_backoff).max(self.min_backoff);
        let half = longest / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        longest - half + Duration::from_nanos(rng.below(span.saturating_add(1)))
    }
}

impl<D: fmt::Debug> fmt::Debug for Drive<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive").field("source", &self.source).field("config", &self.config).finish_non_exhaustive()
    }
}

/// A handle to the figures of a [`Drive`] that runs.
#[derive(Clone, Debug, Default)]
pub struct DriveCounters(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    applied: AtomicU64,
    withheld: AtomicU64,
    refused: AtomicU64,
    errors: AtomicU64,
    consecutive_errors: AtomicU64,
}

impl DriveCounters {
    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> DriveStats {
        DriveStats {
            applied: self.0.applied.load(Relaxed),
            withheld: self.0.withheld.load(Relaxed),
            refused: self.0.refused.load(Relaxed),
            errors: self.0.errors.load(Relaxed),
            consecutive_errors: self.0.consecutive_errors.load(Relaxed),
        }
    }
}

/// What a [`Drive`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriveStats {
    /// Changes that the balancer took.
    pub applied: u64,
    /// Changes that were kept from it, because they would have left it empty or overfull.
    pub withheld: u64,
    /// Changes that it refused.
    pub refused: u64,
    /// Errors of the source.
    pub errors: u64,
    /// Errors since the source last answered: above 0, the set is old.
    pub consecutive_errors: u64,
}
