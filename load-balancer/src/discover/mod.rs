//! Where backends come from: sources of changes, and what stands between a source and the balancer.
//!
//! A source says what changes; [`Drive`] takes its changes to the balancer and sees to it that a bad source does no
//! harm: the last good set stays when the source fails, answers nothing or answers too much.
//!
//! ```text
//! StaticSource   a list                        ─┐
//! channel        what the host sends            │
//! FileSource     a file, re-read as it changes  ├─ Discover ─> Drive ─> Change ─> Balancer
//! DnsSource      A, AAAA, SRV       (`dns`)     │              keeps the last good set,
//! KubeSource     EndpointSlices     (`kube`)    │              backs off, counts, reports
//! a closure, your own type                     ─┘
//! ```

use std::future::Future;
use std::pin::Pin;

use crate::{Backend, Change};

mod channel;
#[cfg(feature = "dns")]
mod dns;
mod drive;
mod error;
mod file;
mod fixed;
mod gate;
#[cfg(feature = "kube")]
mod kube;
mod mapped;
mod merged;
mod parse;
#[cfg(test)]
mod testing;
#[cfg(feature = "tokio")]
mod timer;

pub use channel::{ChangeReceiver, ChangeSender, SendError, Sending, TrySendError, channel};
#[cfg(feature = "dns")]
pub use dns::{DnsConfig, DnsNameError, DnsSource};
pub use drive::{Drive, DriveConfig, DriveCounters, DriveStats};
pub use error::DiscoverError;
pub use file::{FileConfig, FileSource};
pub use fixed::StaticSource;
#[cfg(feature = "kube")]
pub use kube::{KubeConfig, KubeNameError, KubeSource};
pub use mapped::Mapped;
pub use merged::Merged;
pub use parse::{ParseBackendsError, ParseBackendsErrorKind, parse_backends};

/// A source of changes of the set of backends.
///
/// One method, and an `async fn` will do. A closure that returns a future is a source too. Where the kind of source
/// is chosen at run time, [`BoxDiscover`] holds any.
///
/// # Laws
/// - **L1** The changes in order, from an empty set on, lead to the set that the source means. Begin with a
///   [`Change::Replace`] and say only what differs from then on.
/// - **L2** Cancel safety: dropping the future of [`next_change`](Self::next_change) loses no change; the next call
///   reports it.
/// - **L3** After an error `next_change` may be called again and goes on where it was. The caller waits in between
///   ([`Drive`] does, longer each time), the source need not.
/// - **L4** `None` is the end: no further change will come, and what was reported stays.
///
/// # Examples
/// ```
/// use tenfold_load_balancer::{Backend, Change, Discover, DiscoverError};
///
/// /// Takes turns: a deployment that is blue, then green.
/// struct BlueGreen(bool);
///
/// impl Discover for BlueGreen {
///     async fn next_change(&mut self) -> Option<Result<Change, DiscoverError>> {
///         self.0 = !self.0;
///         let address = if self.0 { "10.0.0.1:80" } else { "10.0.0.2:80" };
///         Some(address.parse().map(|at| Change::Replace(vec![Backend::new(at)])).map_err(DiscoverError::invalid))
///     }
/// }
/// ```
pub trait Discover<T = ()>: Send {
    /// Waits for the next change. `None`: none will come.
    ///
    /// # Cancel safety
    /// By law L2, this is cancel safe.
    fn next_change(&mut self) -> impl Future<Output = Option<Result<Change<T>, DiscoverError>>> + Send;

    /// What an answer without a backend means, unless the host says otherwise: by default [`EmptyAnswer::Keep`].
    fn empty_answer(&self) -> EmptyAnswer {
        EmptyAnswer::Keep
    }

    /// This source with each backend made another: to put something beside the backends of a source that knows addresses
    /// only. A backend that is in the pool already keeps what is beside it; what `make` made then is dropped.
    ///
    /// # Examples
    /// ```
    /// use tenfold_load_balancer::{Backend, Balancer, Discover, Drive, StaticSource};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let balancer: Balancer<String> = Balancer::builder().build()?;
    /// let source = StaticSource::parse("10.0.0.1:80")?.map(|backend: Backend| {
    ///     let url = format!("http://{}/", backend.address());
    ///     backend.with_data(url)
    /// });
    /// Drive::new(source).run_all_with(|_| std::future::ready(()), |changes| balancer.apply_all(changes)).await;
    /// assert_eq!(balancer.backends().len(), 1);
    /// # Ok(())
    /// # }
    /// # let mut run = std::pin::pin!(run());
    /// # assert!(run.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready());
    /// # use std::future::Future;
    /// ```
    fn map<U, F>(self, make: F) -> Mapped<Self, T, F>
    where
        Self: Sized,
        F: FnMut(Backend<T>) -> Backend<U> + Send,
    {
        Mapped::new(self, make)
    }

    /// The backends of this source and of another one together; see [`Merged`].
    fn merge<D>(self, other: D) -> Merged<T, Self, D>
    where
        Self: Sized,
        D: Discover<T>,
    {
        Merged::new(self, other)
    }
}

/// A closure that returns a future is a source.
impl<T, F, W> Discover<T> for F
where
    F: FnMut() -> W + Send,
    W: Future<Output = Option<Result<Change<T>, DiscoverError>>> + Send,
{
    fn next_change(&mut self) -> impl Future<Output = Option<Result<Change<T>, DiscoverError>>> + Send {
        self()
    }
}

/// What it means that a source, which may be wrong, names no backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum EmptyAnswer {
    /// A mistake: the last backends stay until the source names others. Requests to backends that are gone fail fast
    /// and health takes care of them; an empty pool fails every request. The default of files, DNS and Kubernetes.
    Keep,
    /// What it says: the pool becomes empty. The default of the static list and of the channel, where the host itself
    /// speaks.
    Apply,
}

/// Any source: for where its type is chosen at run time. A change costs one allocation.
///
/// # Examples
/// ```
/// use tenfold_load_balancer::{BoxDiscover, StaticSource, channel};
///
/// let list = std::env::args().nth(1);
/// let source: BoxDiscover = match list {
///     Some(list) => BoxDiscover::new(StaticSource::parse(&list)?),
///     None => BoxDiscover::new(channel(16).1),
/// };
/// # let _ = source;
/// # Ok::<(), tenfold_load_balancer::ParseBackendsError>(())
/// ```
pub struct BoxDiscover<T: 'static = ()>(Box<dyn Erased<T>>);

impl<T: 'static> BoxDiscover<T> {
    /// Hides the type of this source.
    #[must_use]
    pub fn new(source: impl Discover<T> + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl<T: 'static> Discover<T> for BoxDiscover<T> {
    fn next_change(&mut self) -> impl Future<Output = Option<Result<Change<T>, DiscoverError>>> + Send {
        self.0.next_boxed()
    }

    fn empty_answer(&self) -> EmptyAnswer {
        self.0.empty_answer()
    }
}

impl<T: 'static> std::fmt::Debug for BoxDiscover<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoxDiscover").finish_non_exhaustive()
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Option<Result<Change<T>, DiscoverError>>> + Send + 'a>>;

/// [`Discover`] in a form that a trait object can have.
trait Erased<T: 'static>: Send {
    fn next_boxed(&mut self) -> BoxFuture<'_, T>;
    fn empty_answer(&self) -> EmptyAnswer;
}

impl<T: 'static, D: Discover<T>> Erased<T> for D {
    fn next_boxed(&mut self) -> BoxFuture<'_, T> {
        Box::pin(self.next_change())
    }

    fn empty_answer(&self) -> EmptyAnswer {
        Discover::empty_answer(self)
    }
}
