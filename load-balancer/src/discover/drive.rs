//! Takes a source's changes to the balancer: a future for the host to spawn.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::gate::{Gate, Withheld};
use super::{Discover, DiscoverError, EmptyAnswer};
use crate::{Change, Rng};

#[cfg(test)]
mod tests;

/// How [`Drive`] treats a source, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriveConfig {
    /// What an answer without a backend means. Default `None`: what the source says ([`Discover::empty_answer`]).
    pub empty_answer: Option<EmptyAnswer>,
    /// The most backends that are taken from the source, those that drain included; default 10,000. A change that
    /// would exceed it is withheld as a whole and reported. Bounds memory and the time to rebuild the tables.
    pub max_backends: usize,
    /// The wait after the first error; default 200 ms. Shorter finds out sooner that the source is back, and asks a
    /// failing one more often.
    pub min_backoff: Duration,
    /// The longest wait, approached by doubling; default 30 s. At least `min_backoff`, whatever it says. Longer
    /// spares the source and leaves the balancer with an old set for longer.
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
    pub async fn run_with<T, S, W, F, E>(mut self, mut sleep: S, mut apply: F)
    where
        D: Discover<T>,
        S: FnMut(Duration) -> W,
        W: Future<Output = ()>,
        F: FnMut(Change<T>) -> Result<(), E>,
        E: StdError + Send + Sync + 'static,
    {
        let empty_answer = self.config.empty_answer.unwrap_or_else(|| self.source.empty_answer());
        let mut gate = Gate::new(empty_answer, self.config.max_backends);
        let mut failures = 0_u32;
        while let Some(answer) = self.source.next_change().await {
            match answer {
                Ok(change) => {
                    failures = 0;
                    self.counters.0.consecutive_errors.store(0, Relaxed);
                    self.admit(&mut gate, change, &mut apply);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.counters.0.errors.fetch_add(1, Relaxed);
                    self.counters.0.consecutive_errors.store(u64::from(failures), Relaxed);
                    (self.on_error)(&error);
                    sleep(self.backoff(failures)).await;
                }
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

    fn admit<T, F, E>(&mut self, gate: &mut Gate, change: Change<T>, apply: &mut F)
    where
        F: FnMut(Change<T>) -> Result<(), E>,
        E: StdError + Send + Sync + 'static,
    {
        let (change, effect) = match gate.admit(change) {
            Ok(admitted) => admitted,
            Err(withheld) => {
                self.counters.0.withheld.fetch_add(1, Relaxed);
                return (self.on_error)(&match withheld {
                    Withheld::Empty => DiscoverError::empty(),
                    Withheld::TooMany => DiscoverError::too_many(self.config.max_backends),
                });
            }
        };
        match apply(change) {
            Ok(()) => {
                self.counters.0.applied.fetch_add(1, Relaxed);
                gate.commit(effect);
            }
            Err(error) => {
                self.counters.0.refused.fetch_add(1, Relaxed);
                (self.on_error)(&DiscoverError::refused(error));
            }
        }
    }

    /// The wait after so many errors in a row: doubled from the first on, then a random part of the upper half, so
    /// that many balancers that lost the same source do not come back at once.
    fn backoff(&mut self, failures: u32) -> Duration {
        let doubled = self.config.min_backoff.saturating_mul(1 << failures.saturating_sub(1).min(30));
        let longest = doubled.min(self.config.max_backoff).max(self.config.min_backoff);
        let half = longest / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        longest - half + Duration::from_nanos(self.rng.below(span.saturating_add(1)))
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
