//! Backends from Kubernetes: the endpoints of a service, listed once and then watched.
//!
//! List and watch are two requests, so they are spoken here, over hyper. The usual client crate brings four times as
//! many packages, among them a parser of YAML and the types of the whole API, asks its user's program to choose the
//! cluster's version, and needs a newer compiler.
//!
//! ```text
//! list ──> report ──> watch from its version ──> event: report the difference
//!  ^                    ^  │  end, break: again, from the last version
//!  │                    └──┘
//!  └─────────────── 410: the version is too old
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::event::Event;
use self::slices::Slices;
use self::watch::{Session, Stream, WatchError};
use super::timer::Timer;
use super::{Discover, DiscoverError};
use crate::Change;

mod event;
#[cfg(test)]
mod server;
mod slices;
#[cfg(test)]
mod tests;
mod watch;

/// How a [`KubeSource`] asks, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct KubeConfig {
    /// The name of the port that backends are reached at. Default: none, which means the first of each slice.
    pub port: Option<String>,
    /// The `Host` of the requests; default `kubernetes.default.svc`.
    pub host: String,
    /// The file with the bearer token, read before each connection since tokens are renewed. Default: none. In a pod it
    /// is `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub token_file: Option<PathBuf>,
    /// How long connecting and listing may take together, and the answer to a watch; default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub timeout: Duration,
    /// How long a watch is asked to last, to the second; default 5 min. One that is silent for half a minute longer is
    /// given up as dead.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub watch_timeout: Duration,
    /// The shortest time between two watches; default 1 s. For servers that end them at once.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub retry: Duration,
    /// The longest list and the longest event; default 16 MiB.
    pub max_bytes: usize,
}

impl Default for KubeConfig {
    fn default() -> Self {
        Self {
            port: None,
            host: "kubernetes.default.svc".to_owned(),
            token_file: None,
            timeout: Duration::from_secs(10),
            watch_timeout: Duration::from_secs(300),
            retry: Duration::from_secs(1),
            max_bytes: 16 << 20,
        }
    }
}

/// A source of the endpoints of a Kubernetes service; feature `kube`. Must be polled within a tokio runtime with I/O
/// and time.
///
/// What an endpoint's conditions mean:
///
/// | ready | serving | terminating | the backend |
/// |---|---|---|---|
/// | yes or unknown | | no | takes requests |
/// | no | | no | is removed |
/// | | yes | yes | drains |
/// | | no | yes | is removed |
///
/// Where all that serve are terminating, they take requests: better a server that is about to end than none. The zones
/// of endpoints become those of backends. A backend that several slices name is one.
///
/// TLS is the host's, as is the choice of its library: [`connect_with`](Self::connect_with) takes a closure that
/// connects. Without it the source speaks plain HTTP, as to `kubectl proxy`.
///
/// # Examples
/// ```no_run
/// use tenfold_load_balancer::{Balancer, Drive, KubeSource};
///
/// async fn run(balancer: Balancer) {
///     let api = ([127, 0, 0, 1], 8001).into();
///     let source = KubeSource::new(api, "default", "web").expect("they are names");
///     Drive::new(source).run_all(|changes| balancer.apply_all(changes)).await;
/// }
/// ```
pub struct KubeSource {
    path: String,
    config: KubeConfig,
    connect: Box<Connect>,
    slices: Slices,
    /// What is still to be reported.
    changes: VecDeque<Change>,
    /// The version that the slices are of; `None` until they are listed.
    version: Option<String>,
    watch: Option<Stream>,
    timer: Timer,
}

/// A connection to the API server.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<I: AsyncRead + AsyncWrite + Send + Unpin> Io for I {}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;
type Connect = dyn Fn() -> Connecting + Send + Sync;

impl KubeSource {
    /// The endpoints of `service` in `namespace`, from the API server at this address.
    ///
    /// # Errors
    /// [`KubeNameError`], if one of the two is not a Kubernetes name.
    pub fn new(api: SocketAddr, namespace: &str, service: &str) -> Result<Self, KubeNameError> {
        if !is_name(namespace) || !is_name(service) {
            return Err(KubeNameError);
        }
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
        );
        let source = Self {
            path,
            config: KubeConfig::default(),
            connect: Box::new(|| Box::pin(async { Err(io::ErrorKind::NotConnected.into()) })),
            slices: Slices::default(),
            changes: VecDeque::new(),
            version: None,
            watch: None,
            timer: Timer::default(),
        };
        Ok(source.connect_with(move || TcpStream::connect(api)))
    }

    /// Replaces the configuration.
    #[must_use]
    pub fn config(mut self, config: KubeConfig) -> Self {
        self.config = config;
        self
    }

    /// Connects to the API server in another way, as through TLS. Each connection carries one request.
    #[must_use]
    pub fn connect_with<W, I>(mut self, connect: impl Fn() -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = io::Result<I>> + Send + 'static,
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connect = Box::new(move || {
            let connecting = connect();
            Box::pin(async { Ok(Box::new(connecting.await?) as Box<dyn Io>) })
        });
        self
    }

    /// One step: lists, begins to watch, or takes an event. Changes nothing before its last await.
    async fn step(&mut self) -> Result<(), DiscoverError> {
        let session = Session { path: &self.path, config: &self.config, connect: &*self.connect };
        let Some(version) = &self.version else {
            let list = session.list().await?;
            if list.items.len() > MAX_SLICES {
                return Err(DiscoverError::too_many(MAX_SLICES));
            }
            self.version = Some(list.metadata.resource_version);
            self.slices.replace(list.items);
            self.report();
            return Ok(());
        };
        let Some(watch) = &mut self.watch else {
            self.timer.wait().await;
            let watch = session.watch(version).await;
            self.timer.set(self.config.retry);
            return match watch {
                Ok(watch) => {
                    self.watch = Some(watch);
                    Ok(())
                }
                Err(error) => self.lose(error),
            };
        };
        match watch.next().await {
            Ok(Some(event)) => self.take(event),
            // The server ended it, or the connection broke: what was missed comes with the next.
            Ok(None) => {
                self.watch = None;
                Ok(())
            }
            Err(error) => self.lose(error),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), DiscoverError> {
        match event {
            Event::Put(slice) => {
                self.version = Some(slice.metadata.resource_version.clone());
                self.slices.put(slice);
            }
            Event::Delete(slice) => {
                self.version = Some(slice.metadata.resource_version);
                self.slices.delete(&slice.metadata.name);
            }
            Event::Bookmark(version) => self.version = Some(version),
        }
        if self.slices.len() > MAX_SLICES {
            (self.version, self.watch) = (None, None);
            return Err(DiscoverError::too_many(MAX_SLICES));
        }
        self.report();
        Ok(())
    }

    fn report(&mut self) {
        self.changes.extend(self.slices.changes(self.config.port.as_deref()));
    }

    /// Ends the watch. A version that is too old is no error: the list is asked for anew.
    fn lose(&mut self, error: WatchError) -> Result<(), DiscoverError> {
        self.watch = None;
        match error {
            WatchError::Gone => {
                self.version = None;
                Ok(())
            }
            WatchError::Failed(error) => Err(error),
        }
    }
}

/// More slices than any service has: 100,000 endpoints at the cluster's default of 100 a slice.
const MAX_SLICES: usize = 1000;

/// RFC 1123 names, as Kubernetes has them: safe in a URL.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

/// A text that is not a Kubernetes name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Kubernetes name")]
#[non_exhaustive]
pub struct KubeNameError;

impl Discover for KubeSource {
    async fn next_change(&mut self) -> Option<Result<Change, DiscoverError>> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Some(Ok(change));
            }
            if let Err(error) = self.step().await {
                // All is listed and reported anew, even if it is what was before the error: that ends the alarm.
                (self.version, self.watch) = (None, None);
                self.slices.forget_shown();
                return Some(Err(error));
            }
        }
    }
}

impl fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeSource").field("path", &self.path).field("config", &self.config).finish_non_exhaustive()
    }
}
